//! How the driver's functions are entered.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::control;
use super::status::{INVALID_VALUE, Outcome, SUCCESS, Status, UNKNOWN};

/// Counts a call, fails it if the test wants so, and does it.
pub fn enter(call: &'static str, work: impl FnOnce() -> Outcome) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(|| control::count(call).and_then(|()| work())));
    match outcome {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(status)) => status,
        Err(_) => {
            control::tell(&format!("{call} panicked: this is a bug of sala-ptx"));
            UNKNOWN
        }
    }
}

/// Defines functions of the driver.
macro_rules! entries {
    ($(
        $(#[$attribute:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block
    )*) => {$(
        $(#[$attribute])*
        ///
        /// # Safety
        /// CUDA's documentation says what the arguments must be. Handles may be anything: they are looked up.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments, reason = "the driver's own signatures")]
        unsafe extern "C" fn $name($($argument: $type),*) -> crate::driver::status::Status {
            crate::driver::entry::enter(stringify!($name), || $body)
        }
    )*};
}
pub(crate) use entries;

/// A place for a result, as a caller of the driver gives it: null, or valid for writes.
#[derive(Debug)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Whether the caller does not want the result.
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Whether the place is a multiple of so many bytes.
    pub fn is_multiple_of(&self, bytes: u64) -> bool {
        (self.0 as u64).is_multiple_of(bytes)
    }

    /// Gives the result; a caller who has no place for it is in error.
    pub fn put(self, value: T) -> Outcome {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: only callers of the driver make values of this type, by the arguments of its unsafe functions: they vouch for a place that
        // is not null.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Gives the result to a caller who wants it.
    pub fn put_if_wanted(self, value: T) {
        if !self.0.is_null() {
            let _ = self.put(value);
        }
    }
}

/// A string, as a caller of the driver gives it: null, or ending in NUL.
#[derive(Debug)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The string.
    pub fn read(&self) -> Outcome<String> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: as for `Out`: the caller vouches for a string that is not null.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}
