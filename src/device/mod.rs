//! Where kernels run: a CUDA device, or this machine's CPU.
//!
//! | file | what |
//! |---|---|
//! | `driver.rs` | the CUDA driver, loaded at run time: the only calls into it |
//! | `image.rs` | the GPU kernels that the build embedded, and which of them a device can run |
//! | `cuda.rs` | a CUDA context, and the embedded kernels loaded into it |
//! | `host.rs` | the executor: the same kernels on the CPU |
//! | `stream.rs`, `buffer.rs` | queues and memory of either |

mod buffer;
mod cuda;
mod driver;
mod host;
mod image;
mod stream;

use std::ffi::c_void;
use std::sync::Arc;

pub use buffer::Buffer;
pub use host::{Copies, Counters, HostOptions, Schedule};
pub use stream::Stream;
pub(crate) use stream::Target;

pub(crate) use cuda::CudaKernels;
#[cfg(feature = "cudarc")]
pub(crate) use driver::Driver;
pub(crate) use host::HostKernels;
pub(crate) use image::IMAGES;
#[cfg(feature = "test-kernels")]
pub use image::Image;
#[cfg(not(feature = "test-kernels"))]
pub(crate) use image::Image;

use crate::Result;
use crate::tensor::MemorySpace;
use cuda::CudaContext;

/// A device that runs kernels: a CUDA device, or the CPU. Cheap to clone; clones are the same device.
///
/// All host devices share one memory, that of the process, and differ only in how their kernels are executed. Two CUDA
/// devices are the same if they have the same context, as two calls of [`Device::cuda`] with one ordinal do.
#[derive(Debug, Clone)]
pub struct Device {
    pub(crate) kind: Kind,
}

/// The two kinds of machine, for the files beside this one.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Host(HostOptions),
    Cuda(Arc<CudaContext>),
}

/// Who sees to it that an object of the driver lives, and releases it.
#[derive(Debug)]
pub(crate) enum Owner {
    /// Whoever wraps it here.
    Us,
    /// The caller, by a promise.
    Caller,
    /// A value of another library, which is kept for as long.
    #[cfg(feature = "cudarc")]
    Kept {
        _value: Arc<dyn std::any::Any + Send + Sync>,
    },
}

/// One launch of a kernel, whatever the device.
pub(crate) struct Launch<'a> {
    /// The kernel's place in the list of instances, and its name for errors.
    pub(crate) index: usize,
    pub(crate) name: &'a str,
    pub(crate) grid: [u32; 3],
    pub(crate) threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared: u32,
    /// The kernel's parameter struct.
    pub(crate) params: &'a [u8],
}

impl Device {
    /// The CPU, with the default [`HostOptions`]: all cores, no race detection.
    pub fn host() -> Self {
        Self::host_with(HostOptions::default())
    }

    /// The CPU, with options.
    pub fn host_with(options: HostOptions) -> Self {
        Self {
            kind: Kind::Host(options),
        }
    }

    /// The number of CUDA devices. Fails with [`Error::NoDriver`](crate::Error::NoDriver) on a machine without the driver.
    pub fn cuda_count() -> Result<usize> {
        cuda::device_count()
    }

    /// A CUDA device, through its primary context, the one that the CUDA runtime and most frameworks use.
    ///
    /// The context is retained until the last clone, stream, buffer and set of kernels is dropped, and made current on the calling thread,
    /// as `cudaSetDevice` does. See [`Self::make_current`] for other threads.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        let context = CudaContext::primary(ordinal)?;
        context.make_current()?;
        Ok(Self {
            kind: Kind::Cuda(Arc::new(context)),
        })
    }

    /// A CUDA device, through a context that the caller has made (a `CUcontext`).
    ///
    /// # Safety
    /// `context` must be a live context, and stay so until the last clone of the device and everything made from it is dropped.
    pub unsafe fn from_cuda_context(context: *mut c_void) -> Result<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::with_context(context, Owner::Caller) }
    }

    /// A device through a context that `owner` keeps alive.
    ///
    /// # Safety
    /// `context` must be a live context, and stay so until `owner` is dropped, or as [`Self::from_cuda_context`] says.
    pub(crate) unsafe fn with_context(context: *mut c_void, owner: Owner) -> Result<Self> {
        // SAFETY: the caller's promise.
        let context = unsafe { CudaContext::foreign(context, owner)? };
        Ok(Self {
            kind: Kind::Cuda(Arc::new(context)),
        })
    }

    /// Makes the device's context current on the calling thread; nothing to do for a host device.
    ///
    /// All functions of this crate work on any thread without it. It only spares launches a few driver calls: with the
    /// context current a launch is exactly one.
    pub fn make_current(&self) -> Result<()> {
        match &self.kind {
            Kind::Host(_) => Ok(()),
            Kind::Cuda(context) => context.make_current(),
        }
    }

    /// Whether kernels run on the CPU.
    pub fn is_host(&self) -> bool {
        matches!(self.kind, Kind::Host(_))
    }

    /// The device's name: as its driver calls it, or `host`.
    pub fn name(&self) -> &str {
        match &self.kind {
            Kind::Host(_) => "host",
            Kind::Cuda(context) => context.name(),
        }
    }

    /// The number of a CUDA device; none on the host.
    #[cfg(feature = "c-api")]
    pub(crate) fn ordinal(&self) -> Option<i32> {
        match &self.kind {
            Kind::Host(_) => None,
            Kind::Cuda(context) => Some(context.ordinal()),
        }
    }

    /// Major and minor compute capability; none on the host.
    pub fn compute_capability(&self) -> Option<(u32, u32)> {
        match &self.kind {
            Kind::Host(_) => None,
            Kind::Cuda(context) => Some(context.compute_capability()),
        }
    }

    /// How many multiprocessors share a grid; on the host what [`HostOptions::multiprocessors`] pretends. At least 1.
    pub fn multiprocessors(&self) -> u32 {
        match &self.kind {
            Kind::Host(options) => options.multiprocessors.max(1),
            Kind::Cuda(context) => context.multiprocessors(),
        }
    }

    /// The most shared memory that a block can ask for, in bytes. The host has what the GPU has that [`HostOptions::compute_capability`] names.
    pub fn max_shared_memory(&self) -> u32 {
        match &self.kind {
            Kind::Host(options) => options.max_shared_memory(),
            Kind::Cuda(context) => context.max_shared_memory(),
        }
    }

    /// Whose memory the device's addresses mean.
    pub(crate) fn memory_space(&self) -> MemorySpace {
        match &self.kind {
            Kind::Host(_) => MemorySpace::Host,
            Kind::Cuda(context) => MemorySpace::of_context(context.handle().0),
        }
    }
}
