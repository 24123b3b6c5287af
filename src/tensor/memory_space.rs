//! Whose memory an address means.

use std::ffi::c_void;

/// Whose memory an address means, or whose work a stream queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemorySpace {
    /// This process.
    Host,
    /// A CUDA context, by its handle as a number; it is compared and printed, never followed.
    Cuda(usize),
}

impl MemorySpace {
    /// The memory of a `CUcontext`.
    pub(crate) fn of_context(context: *mut c_void) -> Self {
        Self::Cuda(context.addr())
    }
}

impl std::fmt::Display for MemorySpace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => formatter.write_str("host memory"),
            Self::Cuda(context) => write!(formatter, "CUDA context {context:#x}"),
        }
    }
}
