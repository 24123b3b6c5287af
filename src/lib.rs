//! Hand-tuned CUDA kernels for hybrid sparse + linear attention, which also run on the CPU from the same source.
//!
//! # How a call goes
//!
//! 1. A [`Device`]: a CUDA context, or [`Device::host`], the CPU.
//! 2. [`Kernels::load`], once per context.
//! 3. A layer, [`SparseLayer`] or [`LinearAttention`]: shapes and options, checked once, free of any device.
//! 4. Views of the caller's memory, [`Tensor`] and [`TensorMut`], in the arguments of one of its operations.
//! 5. A launch of layer and arguments, through the kernels.
//!
//! A launch checks its views on the CPU and refuses what does not fit with an [`Error`] that names the argument. It allocates nothing,
//! synchronises nothing, reads nothing back and makes no driver call but the launches of its kernels, so it can be captured in a CUDA graph.
//! What only the device knows (lengths, slots, block indices) is checked there: what is out of bounds is not read or written, and counted in
//! the [`Status`] word, if the caller gives one.
//!
//! [`semantics`] says what each operation computes, [`mod@reference`] says it in Rust.
//!
//! # Where to enter
//!
//! | with | launches | who keeps memory alive and in order |
//! |---|---|---|
//! | host slices | safe: [`Kernels::run`] | borrows; a host launch has run when it returns |
//! | cudarc slices | safe: `cudarc` in [`adapters`] | cudarc's events |
//! | device addresses and `CUstream`s | `unsafe`: [`Kernels::launch`], [`Tensor::from_raw`], [`Stream::from_raw`] | the caller |
//!
//! # Views
//!
//! Shapes are as each operation's arguments say, strides count elements. The last axis of a tensor is contiguous; the others take any stride
//! that is a multiple of 16 bytes for 16-bit tensors and states, and any at all for the rest. Offsets are 64-bit: a million tokens
//! are one call. Outputs share no element with another view of the launch.
//!
//! # Features
//!
//! - `host` (default): the kernels for the CPU and the executor that runs them. Needs a C++ compiler. An engine that only ships to GPUs
//!   leaves it out.
//! - `cudarc` (default): `adapters::cudarc`, and the cudarc that it takes, as `sala_kernels::cudarc`.
//! - `race`, `test-kernels`: for the crate's own tests.
//!
//! The GPU kernels are compiled by nvcc when the crate is, for every architecture that `src/shapes` lists; nvcc missing, the crate still builds
//! unless the environment asks for images (`SALA_REQUIRE_CUDA=1`, or architectures in `SALA_CUDA_ARCHS`), and [`Kernels::load`] on a GPU says so. No
//! CUDA library is linked: the driver is loaded when [`Device::cuda`] first needs it, from the system or from the path in `SALA_CUDA_DRIVER`.
//!
//! # Threads and contexts
//!
//! All types may be shared and sent between threads. No function depends on the CUDA context that is current on its thread; with the device's
//! own current ([`Device::make_current`]), launches are cheapest. Only [`Device::cuda`], `make_current` and the cudarc adapter change it.

pub mod adapters;
#[cfg(feature = "c-api")]
#[doc(hidden)]
#[allow(non_camel_case_types, reason = "the names of the header")]
pub mod c_api;
mod device;
mod dtype;
mod error;
mod launch;
mod operations;
pub mod reference;
// Its links to files are of the checkout: these come first, and win.
/// [glossary.md]: https://github.com/sala-kernels/sala-kernels/blob/main/docs/glossary.md
/// [performance.md]: https://github.com/sala-kernels/sala-kernels/blob/main/docs/performance.md
///
#[cfg(doc)]
#[doc = include_str!("../docs/semantics.md")]
pub mod semantics {}
#[cfg(feature = "test-kernels")]
#[doc(hidden)]
pub mod shapes;
#[cfg(not(feature = "test-kernels"))]
#[allow(dead_code, reason = "the build script and the tests read the rest")]
mod shapes;
#[cfg(feature = "test-kernels")]
#[doc(hidden)]
pub mod sys;
#[cfg(not(feature = "test-kernels"))]
#[allow(dead_code, reason = "generated in full; tests read the rest")]
mod sys;
mod tensor;

#[cfg(feature = "cudarc")]
pub use cudarc;
#[cfg(feature = "test-kernels")]
#[doc(hidden)]
pub use device::Image;
pub use device::{Buffer, Copies, Counters, Device, HostOptions, Schedule, Stream};
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use launch::{Arguments, Kernels, Views};
#[cfg(feature = "test-kernels")]
#[doc(hidden)]
pub use launch::{MapAxis, MappedTensor};
pub use operations::*;
pub use tensor::{MAX_RANK, Tensor, TensorMut};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
