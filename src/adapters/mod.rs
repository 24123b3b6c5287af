//! Launches over the memory and streams of other libraries.
//!
//! The currency of the crate is an address and a stream handle: [`Tensor::from_raw`](crate::Tensor::from_raw) and
//! [`Stream::from_raw`](crate::Stream::from_raw) take those of any library, and leave it to the caller to keep them alive and in
//! order. An adapter does that for one library, so that its launches are safe. The repository has two more as packages of their own, because
//! of what they need to build: `candle`, safe too, and `cust`.

#[cfg(feature = "cudarc")]
pub mod cudarc;
