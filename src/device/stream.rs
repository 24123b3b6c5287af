//! Queues of work on a device.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use super::cuda::CudaContext;
use super::driver::{ContextHandle, STREAM_NON_BLOCKING, StreamHandle};
use super::{Counters, Device, Kind, Owner};
use crate::{Error, Result};

/// A queue of launches on one device: a `CUstream`, or on the host a place where counters gather.
///
/// Launches on a CUDA stream return before they run, in the order of the stream; launches on a host stream have run when
/// they return.
#[derive(Debug)]
pub struct Stream {
    device: Device,
    queue: Queue,
}

#[derive(Debug)]
enum Queue {
    Host(Mutex<Counters>),
    Cuda {
        context: Arc<CudaContext>,
        handle: StreamHandle,
        owner: Owner,
    },
}

/// What a launch needs of a stream.
pub(crate) enum Target<'a> {
    Host(&'a Mutex<Counters>),
    Cuda(StreamHandle),
}

impl Stream {
    /// A new stream. On a CUDA device it has no implicit order with the legacy default stream.
    pub fn new(device: &Device) -> Result<Self> {
        let context = match &device.kind {
            Kind::Host(_) => return Ok(Self::host(device)),
            Kind::Cuda(context) => context,
        };
        context.with_current(|driver| {
            let mut handle = StreamHandle::NULL;
            // SAFETY: `handle` is a place for the stream.
            unsafe { driver.stream_create(&mut handle, STREAM_NON_BLOCKING)? };
            Ok(Self::cuda(device, context, handle, Owner::Us))
        })
    }

    /// A stream that the caller has made (a `CUstream`). Null is the legacy default stream of the device's context; `CU_STREAM_PER_THREAD`
    /// is another stream on every thread that launches.
    ///
    /// Refuses a stream of another context, and any stream but null for a host device, which has none of its own.
    ///
    /// # Safety
    /// `stream` must be a live stream, or null, and stay so until the result is dropped.
    pub unsafe fn from_raw(device: &Device, stream: *mut c_void) -> Result<Self> {
        let context = match &device.kind {
            Kind::Host(_) if stream.is_null() => return Ok(Self::host(device)),
            Kind::Host(_) => {
                return Err(Error::argument(
                    "stream",
                    "null, for a host device",
                    format_args!("{stream:p}"),
                ));
            }
            Kind::Cuda(context) => context,
        };
        let handle = StreamHandle(stream);
        let mut owner = ContextHandle::NULL;
        // SAFETY: a live stream, and a place for its context.
        context.with_current(|driver| unsafe { driver.stream_context(handle, &mut owner) })?;
        if owner != context.handle() {
            let expected = format!("a stream of CUDA context {:p}", context.handle().0);
            return Err(Error::argument(
                "stream",
                expected,
                format_args!("one of context {:p}", owner.0),
            ));
        }
        Ok(Self::cuda(device, context, handle, Owner::Caller))
    }

    /// Waits until all queued work has run. Reports the first failure among it.
    pub fn synchronize(&self) -> Result<()> {
        match &self.queue {
            Queue::Host(_) => Ok(()),
            Queue::Cuda { context, handle, .. } => context.with_current(|driver| {
                // SAFETY: the stream is live.
                unsafe { driver.stream_synchronize(*handle) }
            }),
        }
    }

    /// The stream's device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The raw `CUstream`; null for the legacy default stream and on the host.
    pub fn as_raw(&self) -> *mut c_void {
        match &self.queue {
            Queue::Host(_) => std::ptr::null_mut(),
            Queue::Cuda { handle, .. } => handle.0,
        }
    }

    /// What the launches on this stream have cost since the last call. Only the host counts: zero on a CUDA device.
    pub fn take_counters(&self) -> Counters {
        match &self.queue {
            Queue::Host(counters) => std::mem::take(&mut counters.lock().unwrap_or_else(PoisonError::into_inner)),
            Queue::Cuda { .. } => Counters::default(),
        }
    }

    /// A stream of another library, which lives as long as `owner`.
    ///
    /// # Safety
    /// `stream` must be a live stream of the device's context, or null, and stay so until `owner` is dropped.
    #[cfg(feature = "cudarc")]
    pub(crate) unsafe fn foreign(device: &Device, stream: *mut c_void, owner: Owner) -> Self {
        match &device.kind {
            Kind::Host(_) => Self::host(device),
            Kind::Cuda(context) => Self::cuda(device, context, StreamHandle(stream), owner),
        }
    }

    /// What a launch needs.
    pub(crate) fn target(&self) -> Target<'_> {
        match &self.queue {
            Queue::Host(counters) => Target::Host(counters),
            Queue::Cuda { handle, .. } => Target::Cuda(*handle),
        }
    }

    fn host(device: &Device) -> Self {
        Self {
            device: device.clone(),
            queue: Queue::Host(Mutex::default()),
        }
    }

    fn cuda(device: &Device, context: &Arc<CudaContext>, handle: StreamHandle, owner: Owner) -> Self {
        Self {
            device: device.clone(),
            queue: Queue::Cuda {
                context: Arc::clone(context),
                handle,
                owner,
            },
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Queue::Cuda {
            context,
            handle,
            owner: Owner::Us,
        } = &self.queue
        {
            // SAFETY: made by `new`, and destroyed once; the driver lets queued work finish. A failure cannot be reported from `drop`.
            let _ = context.with_current(|driver| unsafe { driver.stream_destroy(*handle) });
        }
    }
}
