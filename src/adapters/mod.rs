//! Launches over the memory and streams of other libraries.
//!
//! The currency of the crate is an address and a stream handle: [`Tensor::from_raw`](crate::Tensor::from_raw) and
//! [`Stream::from_raw`](crate::Stream::from_raw) take those of any library, and leave it to the caller to keep them alive and in
//! order. An adapter does that for one library, so that its launches are safe. For a library without one, such as `cust`, a call is
//! `Device::from_cuda_context(context)`, `Stream::from_raw(&device, stream.as_inner().cast())` and
//! `Tensor::from_raw(&device, buffer.as_device_ptr().as_raw(), ..)`.

#[cfg(feature = "cudarc")]
pub mod cudarc;
