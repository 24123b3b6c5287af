//! Hand-tuned CUDA kernels for hybrid sparse + linear attention.

pub mod reference;
