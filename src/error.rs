//! The one error type of the crate.

use crate::Status;

/// The result of every fallible function here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was refused or failed.
///
/// An error that concerns an argument names it, what was expected of it and what came instead, so that a caller several
/// layers up can tell which tensor is wrong without a debugger. Building an error may allocate; a successful call does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument breaks a rule of the function it was given to. Nothing was launched or written.
    #[error("{argument}: expected {expected}, got {got}")]
    Argument {
        /// The argument's name in the function's signature or argument struct.
        argument: &'static str,
        /// The rule, with numbers.
        expected: String,
        /// What the caller passed.
        got: String,
    },

    /// The CUDA driver library cannot be loaded: this machine has no NVIDIA driver, or the loader does not see it.
    #[error("no CUDA driver: {reason} (tried {tried})")]
    NoDriver {
        /// The library names that were tried, in order.
        tried: String,
        /// What the dynamic loader said about the last one.
        reason: String,
    },

    /// The CUDA driver lacks a function that this crate needs: it is older than CUDA 12.
    #[error("the CUDA driver {library} has no function {symbol}: it is older than CUDA 12")]
    MissingSymbol {
        /// The missing function.
        symbol: &'static str,
        /// The library that was loaded.
        library: String,
    },

    /// A CUDA driver function failed.
    #[error("{call} failed: {name} ({code})")]
    Driver {
        /// The driver function.
        call: &'static str,
        /// Its `CUresult`.
        code: u32,
        /// The result's name, such as `CUDA_ERROR_OUT_OF_MEMORY`.
        name: String,
    },

    /// The crate was built without a CUDA compiler, so that it holds no GPU kernels.
    #[error(
        "no GPU kernels in this build: nvcc was not found when the crate was compiled; install the CUDA toolkit, or \
         `pip install \"cuda-toolkit[nvcc,cudart,cccl]==13.0.*\"`, set CUDA_HOME and build again"
    )]
    NoKernels,

    /// The crate holds GPU kernels, but none that run on this device.
    #[error("{kernel}: no image for {device}; this build embeds {embedded}")]
    NoImage {
        /// The kernel, or the kernel file.
        kernel: String,
        /// The device's architecture, such as `sm_75`.
        device: String,
        /// The architectures in this build.
        embedded: String,
    },

    /// The request is well formed, but this build or this device cannot serve it.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why it cannot be done, and what would help.
        why: String,
    },

    /// A device, or the host, has not so much memory left.
    #[error("no memory for {bytes} bytes on {device}")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
        /// The device's name.
        device: String,
    },

    /// Kernels met values on the device that they refused; see [`Status::check`].
    #[error("refused on the device: {0}")]
    Refused(Status),

    /// A kernel that ran on the CPU broke a rule of the machine: an access out of bounds, a data race, a divergent barrier.
    #[error("{kernel}: {report}")]
    Execution {
        /// The kernel instance.
        kernel: String,
        /// Block, thread, source line and what happened.
        report: String,
    },
}

impl Error {
    /// The argument that was refused, if the error is about one.
    pub fn argument_name(&self) -> Option<&'static str> {
        match self {
            Self::Argument { argument, .. } => Some(argument),
            _ => None,
        }
    }

    /// An [`Error::Argument`]; formats its parts only here, off the successful path.
    #[cold]
    pub(crate) fn argument(
        argument: &'static str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::Argument {
            argument,
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }

    /// An [`Error::Unsupported`].
    #[cold]
    pub(crate) fn unsupported(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported {
            what: what.into(),
            why: why.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_and_why() {
        let text = |text: &str| text.to_owned();
        let messages = [
            (Error::argument("q", "3 axes", "2"), "q: expected 3 axes, got 2"),
            (
                Error::NoDriver {
                    tried: text("libcuda.so.1, libcuda.so"),
                    reason: text("not found"),
                },
                "no CUDA driver: not found (tried libcuda.so.1, libcuda.so)",
            ),
            (
                Error::MissingSymbol {
                    symbol: "cuInit",
                    library: text("libcuda.so.1"),
                },
                "the CUDA driver libcuda.so.1 has no function cuInit: it is older than CUDA 12",
            ),
            (
                Error::Driver {
                    call: "cuInit",
                    code: 100,
                    name: text("CUDA_ERROR_NO_DEVICE"),
                },
                "cuInit failed: CUDA_ERROR_NO_DEVICE (100)",
            ),
            (
                Error::NoImage {
                    kernel: text("scan"),
                    device: text("sm_75"),
                    embedded: text("sm_80"),
                },
                "scan: no image for sm_75; this build embeds sm_80",
            ),
            (
                Error::unsupported("dim 96", "no kernel"),
                "dim 96 is not supported: no kernel",
            ),
            (
                Error::OutOfMemory {
                    bytes: 1 << 40,
                    device: text("host"),
                },
                "no memory for 1099511627776 bytes on host",
            ),
            (
                Error::Refused(Status::from([0, 1, 2, 0])),
                "refused on the device: 0 pages, 1 blocks, 2 lengths, 0 slots",
            ),
            (
                Error::Execution {
                    kernel: text("scan"),
                    report: text("thread 3: out of bounds"),
                },
                "scan: thread 3: out of bounds",
            ),
        ];
        for (error, message) in messages {
            assert_eq!(error.to_string(), message);
        }
        assert!(Error::NoKernels.to_string().contains("pip install"));
    }

    #[test]
    fn an_argument_is_named() {
        assert_eq!(Error::argument("q", "3 axes", "2").argument_name(), Some("q"));
        assert_eq!(Error::NoKernels.argument_name(), None);
    }

    #[test]
    fn errors_cross_threads() {
        fn sent<T: std::error::Error + Send + Sync + 'static>() {}
        sent::<Error>();
    }
}
