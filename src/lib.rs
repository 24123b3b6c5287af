//! Hand-tuned CUDA kernels for hybrid sparse + linear attention.

pub mod adapters;
mod checks;
mod device;
mod dtype;
mod error;
mod kernels;
mod linear_attention;
pub mod reference;
mod sequences;
pub mod shapes;
mod sparse_attention;
#[doc(hidden)]
pub mod sys;
mod tensor;

#[cfg(feature = "cudarc")]
pub use cudarc;
#[cfg(feature = "test-kernels")]
#[doc(hidden)]
pub use device::Image;
pub use device::{Buffer, Copies, Counters, Device, HostOptions, Schedule, Stream};
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use kernels::Kernels;
pub use linear_attention::{
    Decay, DecodeArgs, LinearAttention, LinearAttentionBuilder, PrefillArgs, StateLayout, lightning_log_decay,
};
pub use sequences::{KeyLengths, Sequences};
pub use sparse_attention::{SparseAttention, SparseAttentionArgs, SparseAttentionBuilder};
pub use tensor::{MAX_RANK, Tensor, TensorMut};
