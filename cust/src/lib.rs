//! The operations of [sala-kernels](sala_kernels) over memory and streams of [cust].
//!
//! cust leaves it to the caller to keep memory alive and in order until a launch has run, and so do the functions here: they make a device, a
//! stream and views, for [`Kernels::launch`](sala_kernels::Kernels::launch).
//!
//! ```no_run
//! use cust::prelude::*;
//! use sala_kernels::{DType, Kernels, Norm, SumSquaresArgs};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let context = cust::quick_init()?;
//! let queue = Stream::new(StreamFlags::NON_BLOCKING, None)?;
//! let x = DeviceBuffer::from_slice(&[0x3f80u16; 10 * 64])?; // ones in bf16
//! let mut out = DeviceBuffer::from_slice(&[0f32; 10])?;
//!
//! // SAFETY: the context, the stream and the buffers outlive the launch, which has run once the stream is synchronised.
//! unsafe {
//!     let device = sala_kernels_cust::device(&context)?;
//!     let stream = sala_kernels_cust::stream(&device, &queue)?;
//!     let kernels = Kernels::load(&device)?;
//!     let x = sala_kernels_cust::read(&device, &x, DType::Bf16, &[10, 64])?;
//!     let sums = sala_kernels_cust::write(&device, &mut out, DType::F32, &[10])?;
//!     kernels.launch(&stream, &Norm::new(DType::Bf16, 1e-6)?, SumSquaresArgs::new(x, sums))?;
//!     queue.synchronize()?;
//! }
//! assert_eq!(out.as_host_vec()?, [64.0; 10]);
//! # Ok(())
//! # }
//! ```

use cust::context::Context;
use cust::memory::{DeviceCopy, DeviceSlice};
use sala_kernels::{DType, Device, Error, MAX_RANK, Result, Stream, Tensor, TensorMut};

/// The device of a context.
///
/// # Safety
/// The context must live until the last clone of the device and everything made from it is dropped.
pub unsafe fn device(context: &Context) -> Result<Device> {
    // SAFETY: the caller's promise; cust's context is a live one.
    unsafe { Device::from_cuda_context(context.as_raw().cast()) }
}

/// A stream of cust's.
///
/// # Errors
/// [`Error::Argument`] for a stream of another context than the device's.
///
/// # Safety
/// The stream must live until what is returned is dropped.
pub unsafe fn stream(device: &Device, stream: &cust::stream::Stream) -> Result<Stream> {
    // SAFETY: the caller's promise; cust's stream is a live one.
    unsafe { Stream::from_raw(device, stream.as_inner().cast()) }
}

/// A contiguous view of the first elements of a slice, for reading. `T` may be any type of any size, such as `u16` for bf16.
///
/// # Errors
/// As of [`read_with_strides`].
///
/// # Safety
/// As of [`read_with_strides`].
pub unsafe fn read<'a, T: DeviceCopy>(
    device: &Device,
    memory: &'a DeviceSlice<T>,
    dtype: DType,
    shape: &[usize],
) -> Result<Tensor<'a>> {
    let (strides, rank) = contiguous(shape);
    // SAFETY: the caller's promise.
    unsafe { read_with_strides(device, memory, dtype, shape, strides.get(..rank).unwrap_or_default()) }
}

/// A view of a slice for reading, with strides in elements of `dtype`.
///
/// # Errors
/// [`Error::Argument`] for a shape that reaches beyond the slice, or is none of a view.
///
/// # Safety
/// The memory must be of the device's context. A launch that is given the view has run, on its stream, before anything writes or frees it.
pub unsafe fn read_with_strides<'a, T: DeviceCopy>(
    device: &Device,
    memory: &'a DeviceSlice<T>,
    dtype: DType,
    shape: &[usize],
    strides: &[usize],
) -> Result<Tensor<'a>> {
    // SAFETY: the slice is one allocation that is borrowed; that the view stays within is checked before it is used. The rest is the caller's
    // promise.
    let view = unsafe { Tensor::from_raw(device, memory.as_device_ptr().as_raw(), dtype, shape, strides)? };
    fits(&view, memory)?;
    Ok(view)
}

/// A contiguous view of the first elements of a slice, for writing.
///
/// # Errors
/// As of [`write_with_strides`].
///
/// # Safety
/// As of [`write_with_strides`].
pub unsafe fn write<'a, T: DeviceCopy>(
    device: &Device,
    memory: &'a mut DeviceSlice<T>,
    dtype: DType,
    shape: &[usize],
) -> Result<TensorMut<'a>> {
    let (strides, rank) = contiguous(shape);
    // SAFETY: the caller's promise.
    unsafe { write_with_strides(device, memory, dtype, shape, strides.get(..rank).unwrap_or_default()) }
}

/// A view of a slice for writing, with strides in elements of `dtype`. No two indices may name one element.
///
/// # Errors
/// As of [`read_with_strides`], and for strides that make two indices name one element.
///
/// # Safety
/// The memory must be of the device's context. A launch that is given the view has run, on its stream, before anything else touches it.
pub unsafe fn write_with_strides<'a, T: DeviceCopy>(
    device: &Device,
    memory: &'a mut DeviceSlice<T>,
    dtype: DType,
    shape: &[usize],
    strides: &[usize],
) -> Result<TensorMut<'a>> {
    // SAFETY: as in `read_with_strides`; the slice is borrowed uniquely.
    let view = unsafe { TensorMut::from_raw(device, memory.as_device_ptr().as_raw(), dtype, shape, strides)? };
    fits(&view.as_tensor(), memory)?;
    Ok(view)
}

/// Refuses a view that reaches beyond a slice.
fn fits<T: DeviceCopy>(view: &Tensor<'_>, memory: &DeviceSlice<T>) -> Result<()> {
    let bytes = (memory.len() as u64).saturating_mul(size_of::<T>() as u64);
    if view.extent() <= bytes {
        return Ok(());
    }
    Err(Error::Argument {
        argument: "shape",
        expected: format!("a view of at most {bytes} bytes"),
        got: format!("{} bytes: {view}", view.extent()),
    })
}

/// The strides of a dense tensor. Those of shapes that no view has are refused with the shape.
fn contiguous(shape: &[usize]) -> ([usize; MAX_RANK], usize) {
    let mut strides = [0; MAX_RANK];
    let mut step = 1usize;
    for (stride, &size) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.saturating_mul(size.max(1));
    }
    (strides, shape.len().min(MAX_RANK))
}
