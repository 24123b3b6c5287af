//! Safe launches over [cudarc]'s slices and streams (feature `cudarc`).
//!
//! cudarc orders the work of several streams by events that belong to its slices: whoever uses a slice first makes its stream
//! wait for them and records them afterwards. A [`Launch`] does so for every slice that it is given, so that slices can be read,
//! written and dropped as usual right after it.
//!
//! ```no_run
//! use sala_kernels::adapters::cudarc::{self, Launch};
//! use sala_kernels::{DType, Decay, Kernels, LinearAttention, LinearPrefillArgs, LinearShape, cudarc::driver::CudaContext};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let context = CudaContext::new(0)?;
//! let stream = context.default_stream();
//! let kernels = Kernels::load(&cudarc::device(&context)?)?;
//! let shape = LinearShape { heads_q: 32, heads_kv: 32, dim_k: 128, dim_v: 128 };
//! let layer = LinearAttention::builder(DType::Bf16, shape, Decay::None).build()?;
//!
//! let tokens = 1000;
//! let qkv = stream.alloc_zeros::<u16>(3 * tokens * 32 * 128)?;
//! let cu_seqlens = stream.clone_htod(&[0i32, 1000])?;
//! let mut out = stream.alloc_zeros::<u16>(tokens * 32 * 128)?;
//!
//! let mut launch = Launch::new(&kernels, &stream)?;
//! let qkv = launch.read(qkv.as_view(), DType::Bf16, &[3 * tokens, 32, 128])?;
//! let args = LinearPrefillArgs::new(
//!     qkv.narrow(0, 0..tokens)?,
//!     qkv.narrow(0, tokens..2 * tokens)?,
//!     qkv.narrow(0, 2 * tokens..3 * tokens)?,
//!     launch.read(cu_seqlens.as_view(), DType::I32, &[2])?,
//!     None,
//!     launch.write(out.as_view_mut(), DType::Bf16, &[tokens, 32, 128])?,
//! );
//! launch.run(&layer, args)?;
//! let result = stream.clone_dtoh(&out)?;
//! # Ok(())
//! # }
//! ```

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

use ::cudarc::driver::{CudaContext, CudaStream, CudaView, CudaViewMut, DeviceSlice, DriverError, SyncOnDrop};
use bytemuck::Pod;

use crate::device::{Driver, Owner};
use crate::launch::Arguments;
use crate::tensor::MemorySpace;
use crate::{DType, Device, Error, Kernels, Result, Stream, Tensor, TensorMut};

/// The device of a cudarc context, which is kept as long as the device is.
pub fn device(context: &Arc<CudaContext>) -> Result<Device> {
    let owner = Owner::Kept {
        _value: Arc::clone(context) as _,
    };
    // SAFETY: `owner` keeps the context.
    unsafe { Device::with_context(context.cu_ctx().cast(), owner) }
}

/// A cudarc stream as one of this crate's, for its unsafe launches; refuses a stream of another context than the device's.
pub fn stream(device: &Device, stream: &Arc<CudaStream>) -> Result<Stream> {
    check_context("stream", device.memory_space(), stream.context())?;
    let owner = Owner::Kept {
        _value: Arc::clone(stream) as _,
    };
    // SAFETY: `owner` keeps the stream, which belongs to the device's context.
    Ok(unsafe { Stream::foreign(device, stream.cu_stream().cast(), owner) })
}

/// One launch: the slices that it reads and writes, registered one by one, and at last the operation.
///
/// Registering a slice makes the stream wait for what must come before; dropping the launch, which the operation's method does,
/// records that the slice was used. An operation refuses a view that was not registered with its launch.
///
/// It makes what driver calls cudarc's events need, and allocates a little; the operations' own, unsafe launches do not.
#[derive(Debug)]
pub struct Launch<'a> {
    kernels: &'a Kernels,
    queue: &'a Arc<CudaStream>,
    stream: Stream,
    memory: Vec<Registered<'a>>,
}

/// The memory of a slice.
#[derive(Debug)]
struct Registered<'a> {
    addresses: Range<u64>,
    /// Records the slice's event when dropped.
    _recorded: SyncOnDrop<'a>,
}

impl<'a> Launch<'a> {
    /// A launch on a stream of the device that the kernels were loaded on. Makes its context current on this thread, as cudarc does.
    pub fn new(kernels: &'a Kernels, queue: &'a Arc<CudaStream>) -> Result<Self> {
        let stream = stream(kernels.device(), queue)?;
        check("cuCtxSetCurrent", queue.context().bind_to_thread())?;
        Ok(Self {
            kernels,
            queue,
            stream,
            memory: Vec::new(),
        })
    }

    /// A contiguous view of the first elements of a slice, for reading. `T` may be any plain type, such as `u16` for bf16.
    pub fn read<T: Pod>(&mut self, memory: CudaView<'a, T>, dtype: DType, shape: &[usize]) -> Result<Tensor<'a>> {
        self.register_read(memory, |space, address| {
            Tensor::contiguous(space, address, dtype, shape)
        })
    }

    /// A view of a slice for reading, with strides in elements of `dtype`.
    pub fn read_with_strides<T: Pod>(
        &mut self,
        memory: CudaView<'a, T>,
        dtype: DType,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Tensor<'a>> {
        self.register_read(memory, |space, address| {
            Tensor::new(space, address, dtype, shape, strides)
        })
    }

    /// A contiguous view of the first elements of a slice, for writing.
    pub fn write<T: Pod>(
        &mut self,
        memory: CudaViewMut<'a, T>,
        dtype: DType,
        shape: &[usize],
    ) -> Result<TensorMut<'a>> {
        self.register_write(memory, |space, address| {
            Tensor::contiguous(space, address, dtype, shape)
        })
    }

    /// A view of a slice for writing, with strides in elements of `dtype`. No two indices may name one element.
    pub fn write_with_strides<T: Pod>(
        &mut self,
        memory: CudaViewMut<'a, T>,
        dtype: DType,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<TensorMut<'a>> {
        self.register_write(memory, |space, address| {
            Tensor::new(space, address, dtype, shape, strides)
        })
    }

    /// Launches the operation that takes these arguments.
    ///
    /// # Errors
    /// [`Error::Argument`] for a view that this launch did not make, and what the operation's own launch refuses. An error of cudarc that
    /// concerns the order of streams: before the launch, which then does not happen, or after it, in which case it has been waited for.
    pub fn run<A: Arguments>(self, operation: &A::Operation, args: A) -> Result<()> {
        args.views().check_held(|reached| self.holds(reached))?;
        let Self {
            kernels,
            queue,
            stream,
            memory,
        } = self;
        // cudarc keeps a failed wait to itself until asked; without the wait the launch would race.
        check("cuStreamWaitEvent", queue.context().check_err())?;
        // SAFETY: all memory is borrowed, in the order of cudarc's events for reads and writes on this stream, until `memory` has had its
        // use recorded, after which cudarc keeps it from being freed or overwritten too early.
        unsafe { kernels.launch(&stream, operation, args)? };
        drop(memory);
        let recorded = check("cuEventRecord", queue.context().check_err());
        if recorded.is_err() {
            // Without the event nothing else tells when the slices are free, so wait for it.
            stream.synchronize()?;
        }
        recorded
    }

    fn register_read<T: Pod>(
        &mut self,
        memory: CudaView<'a, T>,
        view: impl FnOnce(MemorySpace, u64) -> Result<Tensor<'a>>,
    ) -> Result<Tensor<'a>> {
        self.check_place("memory", memory.stream())?;
        let bytes = size_of::<T>() as u64 * memory.len() as u64;
        let (address, recorded) = memory.view_ptr(self.queue);
        self.register(address, bytes, recorded, view)
    }

    fn register_write<T: Pod>(
        &mut self,
        memory: CudaViewMut<'a, T>,
        view: impl FnOnce(MemorySpace, u64) -> Result<Tensor<'a>>,
    ) -> Result<TensorMut<'a>> {
        self.check_place("memory", memory.stream())?;
        let bytes = size_of::<T>() as u64 * memory.len() as u64;
        let (address, recorded) = memory.view_ptr_mut(self.queue);
        TensorMut::unique(self.register(address, bytes, recorded, view)?)
    }

    fn register(
        &mut self,
        address: u64,
        bytes: u64,
        recorded: SyncOnDrop<'a>,
        view: impl FnOnce(MemorySpace, u64) -> Result<Tensor<'a>>,
    ) -> Result<Tensor<'a>> {
        let view = view(self.kernels.device().memory_space(), address)?;
        view.fits(bytes)?;
        self.memory.push(Registered {
            addresses: address..address.saturating_add(bytes),
            _recorded: recorded,
        });
        Ok(view)
    }

    fn check_place(&self, argument: &'static str, owner: &CudaStream) -> Result<()> {
        check_context(argument, self.kernels.device().memory_space(), owner.context())
    }

    /// Whether a slice of this launch has these addresses.
    ///
    /// It is enough to compare addresses: the slices are borrowed for as long as the launch lives, mutably the ones that are written, so
    /// that no other view of them can be made by safe code.
    fn holds(&self, reached: &Range<u64>) -> bool {
        let holds =
            |memory: &Registered<'_>| memory.addresses.start <= reached.start && reached.end <= memory.addresses.end;
        self.memory.iter().any(holds)
    }
}

/// Refuses memory or a stream of another context than the device's.
fn check_context(argument: &'static str, expected: MemorySpace, context: &CudaContext) -> Result<()> {
    let space = MemorySpace::of_context(context.cu_ctx().cast::<c_void>());
    if space == expected {
        Ok(())
    } else {
        Err(Error::argument(argument, expected, space))
    }
}

/// Takes over an error of cudarc, without its `Display`, which asks the driver again and panics if that fails.
fn check(call: &'static str, result: std::result::Result<(), DriverError>) -> Result<()> {
    result.map_err(|DriverError(code)| match Driver::get() {
        Ok(driver) => driver.error(call, code as u32),
        Err(error) => error,
    })
}
