//! The functions of `include/sala_kernels.h`, which the crate defines, as libraries for C.

pub use sala::c_api::*;
