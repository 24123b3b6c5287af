//! Hand-tuned CUDA kernels for hybrid sparse + linear attention.

pub mod reference;
#[doc(hidden)]
pub mod sys;
