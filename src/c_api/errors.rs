//! What functions return, and what the thread's last error says.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;

use super::structs;
use crate::sys::c_api::{
    SALA_ERROR_ARGUMENT, SALA_ERROR_DRIVER, SALA_ERROR_EXECUTION, SALA_ERROR_INTERNAL, SALA_ERROR_NO_KERNELS,
    SALA_ERROR_OUT_OF_MEMORY, SALA_ERROR_REFUSED, SALA_ERROR_UNSUPPORTED, SALA_OK, sala_status,
};
use crate::{Error, Result, Status};

/// The last failure of a thread.
#[derive(Default)]
struct Failure {
    text: CString,
    argument: Option<CString>,
}

thread_local! {
    static LAST: RefCell<Failure> = RefCell::default();
}

/// Does `work`, of which no panic crosses into C, and gives its status.
pub(super) fn guard(work: impl FnOnce() -> Result<()>) -> i32 {
    let status = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => SALA_OK,
        Ok(Err(error)) => {
            remember(error.to_string(), error.argument_name());
            status_of(&error)
        }
        Err(panic) => {
            remember(format!("a bug of sala-kernels: {}", what_of(panic.as_ref())), None);
            SALA_ERROR_INTERNAL
        }
    };
    status as i32
}

pub(super) fn what_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}

fn status_of(error: &Error) -> sala_status {
    match error {
        Error::Argument { .. } => SALA_ERROR_ARGUMENT,
        Error::Unsupported { .. } => SALA_ERROR_UNSUPPORTED,
        Error::NoKernels | Error::NoImage { .. } => SALA_ERROR_NO_KERNELS,
        Error::NoDriver { .. } | Error::MissingSymbol { .. } | Error::Driver { .. } => SALA_ERROR_DRIVER,
        Error::OutOfMemory { .. } => SALA_ERROR_OUT_OF_MEMORY,
        Error::Refused(_) => SALA_ERROR_REFUSED,
        Error::Execution { .. } => SALA_ERROR_EXECUTION,
    }
}

fn remember(text: String, argument: Option<&str>) {
    let failure = Failure {
        text: c_string(&text),
        argument: argument.map(c_string),
    };
    // A thread that is ending has nobody to tell.
    let _ = LAST.try_with(|last| last.replace(failure));
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// What the last call of this thread that failed says. Lives until the thread's next call that fails.
#[unsafe(no_mangle)]
pub extern "C" fn sala_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().text.as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// The argument that it refused; null if it was about none.
#[unsafe(no_mangle)]
pub extern "C" fn sala_last_error_argument() -> *const c_char {
    LAST.try_with(|last| last.borrow().argument.as_ref().map_or(null(), |name| name.as_ptr()))
        .unwrap_or(null())
}

/// Whether kernels have refused nothing: see the header.
///
/// # Safety
/// `status` is null or points to four numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_status_check(status: *const u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let status = unsafe { structs::there("status", status.cast::<[u32; 4]>())? };
        Status::from(*status).check()
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last() -> String {
        // SAFETY: the text is this thread's, and no call comes between.
        unsafe { CStr::from_ptr(sala_last_error()) }
            .to_string_lossy()
            .into_owned()
    }

    #[test]
    fn no_panic_crosses() {
        assert_eq!(guard(|| panic!("of number {}", 7)), SALA_ERROR_INTERNAL as i32);
        assert_eq!(last(), "a bug of sala-kernels: of number 7");
        assert!(sala_last_error_argument().is_null());
        assert_eq!(guard(|| std::panic::panic_any(7)), SALA_ERROR_INTERNAL as i32);
        assert_eq!(last(), "a bug of sala-kernels: a panic");
    }

    #[test]
    fn errors_are_of_their_thread() {
        assert_eq!(
            guard(|| Err(Error::argument("q", "a", "b"))),
            SALA_ERROR_ARGUMENT as i32
        );
        std::thread::spawn(|| assert_eq!(last(), "")).join().unwrap();
        assert_eq!(guard(|| Ok(())), SALA_OK as i32);
        assert_eq!(last(), "q: expected a, got b", "a call that succeeds leaves it");
    }
}
