//! The statuses of the driver (`CUresult`).

use std::ffi::{CStr, c_uint};

use crate::fault::Kind;

/// A `CUresult`; 0 is success.
pub type Status = c_uint;

/// What a function of the driver comes to.
pub type Outcome<T = ()> = Result<T, Status>;

macro_rules! statuses {
    ($($constant:ident = $code:literal, $name:literal, $text:literal;)*) => {
        $(
            #[doc = $text]
            pub const $constant: Status = $code;
        )*

        /// The name of a status and what it means; none if the driver has no such status.
        pub fn described(status: Status) -> Option<(&'static CStr, &'static CStr)> {
            match status {
                $($code => Some((name($name), name(concat!($text, "\0")))),)*
                _ => None,
            }
        }
    };
}

/// The names are literals that end in NUL, so the fallback is never seen.
fn name(terminated: &'static str) -> &'static CStr {
    CStr::from_bytes_until_nul(terminated.as_bytes()).unwrap_or_default()
}

statuses! {
    SUCCESS = 0, "CUDA_SUCCESS\0", "no error";
    INVALID_VALUE = 1, "CUDA_ERROR_INVALID_VALUE\0", "invalid argument";
    OUT_OF_MEMORY = 2, "CUDA_ERROR_OUT_OF_MEMORY\0", "out of memory";
    INVALID_DEVICE = 101, "CUDA_ERROR_INVALID_DEVICE\0", "invalid device ordinal";
    INVALID_IMAGE = 200, "CUDA_ERROR_INVALID_IMAGE\0", "device kernel image is invalid";
    INVALID_CONTEXT = 201, "CUDA_ERROR_INVALID_CONTEXT\0", "invalid device context";
    NO_BINARY_FOR_GPU = 209, "CUDA_ERROR_NO_BINARY_FOR_GPU\0", "no kernel image is available for execution on the device";
    INVALID_PTX = 218, "CUDA_ERROR_INVALID_PTX\0", "a PTX JIT compilation failed";
    FILE_NOT_FOUND = 301, "CUDA_ERROR_FILE_NOT_FOUND\0", "file not found";
    INVALID_HANDLE = 400, "CUDA_ERROR_INVALID_HANDLE\0", "invalid resource handle";
    ILLEGAL_STATE = 401, "CUDA_ERROR_ILLEGAL_STATE\0", "the operation cannot be performed in the present state";
    NOT_FOUND = 500, "CUDA_ERROR_NOT_FOUND\0", "named symbol not found";
    NOT_READY = 600, "CUDA_ERROR_NOT_READY\0", "device not ready";
    ILLEGAL_ADDRESS = 700, "CUDA_ERROR_ILLEGAL_ADDRESS\0", "an illegal memory access was encountered";
    LAUNCH_TIMEOUT = 702, "CUDA_ERROR_LAUNCH_TIMEOUT\0", "the launch timed out and was terminated";
    CONTEXT_IS_DESTROYED = 709, "CUDA_ERROR_CONTEXT_IS_DESTROYED\0", "context is destroyed";
    ILLEGAL_INSTRUCTION = 715, "CUDA_ERROR_ILLEGAL_INSTRUCTION\0", "an illegal instruction was encountered";
    MISALIGNED_ADDRESS = 716, "CUDA_ERROR_MISALIGNED_ADDRESS\0", "misaligned address";
    LAUNCH_FAILED = 719, "CUDA_ERROR_LAUNCH_FAILED\0", "unspecified launch failure";
    NOT_SUPPORTED = 801, "CUDA_ERROR_NOT_SUPPORTED\0", "operation not supported";
    STREAM_CAPTURE_UNSUPPORTED = 900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED\0", "operation not permitted when stream is capturing";
    STREAM_CAPTURE_INVALIDATED = 901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED\0",
        "operation failed due to a previous error during capture";
    STREAM_CAPTURE_MERGE = 902, "CUDA_ERROR_STREAM_CAPTURE_MERGE\0", "operation would result in a merge of separate capture sequences";
    STREAM_CAPTURE_UNMATCHED = 903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED\0", "capture was not ended in the same stream as it began";
    STREAM_CAPTURE_UNJOINED = 904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED\0", "capturing stream has unjoined work";
    STREAM_CAPTURE_ISOLATION = 905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION\0",
        "dependency created on uncaptured work in another stream";
    STREAM_CAPTURE_IMPLICIT = 906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT\0",
        "operation would make the legacy stream depend on a capturing blocking stream";
    CAPTURED_EVENT = 907, "CUDA_ERROR_CAPTURED_EVENT\0", "operation not permitted on an event last recorded in a capturing stream";
    STREAM_CAPTURE_WRONG_THREAD = 908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD\0",
        "attempt to terminate a thread-local capture sequence from another thread";
    UNKNOWN = 999, "CUDA_ERROR_UNKNOWN\0", "unknown error";
}

/// The status of a fault.
pub fn of_fault(kind: Kind) -> Status {
    match kind {
        Kind::Address => ILLEGAL_ADDRESS,
        Kind::Misaligned => MISALIGNED_ADDRESS,
        Kind::Instruction => ILLEGAL_INSTRUCTION,
        Kind::Deadlock | Kind::Endless => LAUNCH_TIMEOUT,
        Kind::Unwritten | Kind::InFlight | Kind::Trap => LAUNCH_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_names() {
        assert_eq!(
            described(OUT_OF_MEMORY),
            Some((c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"))
        );
        assert_eq!(described(12345), None);
    }
}
