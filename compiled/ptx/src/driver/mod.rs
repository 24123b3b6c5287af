//! The functions of the CUDA driver, as a program finds them in this library.
//!
//! They keep the driver's rules: what needs a current context fails without one, a launch fails unless function, stream and context belong
//! together, work waits in its stream, errors of a kernel are told when somebody waits, and a captured stream notes its work. Where the
//! real driver leaves a choice, the one is taken that shows most mistakes.

mod context;
mod control;
mod device;
mod entry;
mod event;
mod graph;
mod images;
mod launch;
mod memory;
mod module;
mod queue;
mod state;
mod status;
mod stream;
mod tensor_map;

use std::ffi::{CStr, c_char};

use entry::{Out, entries};
use status::INVALID_VALUE;

entries! {
    /// The name of a status.
    fn cuGetErrorName(code: status::Status, name: Out<*const c_char>) {
        match status::described(code) {
            Some((found, _)) => name.put(CStr::as_ptr(found)),
            None => {
                name.put_if_wanted(std::ptr::null());
                Err(INVALID_VALUE)
            }
        }
    }

    /// What a status means.
    fn cuGetErrorString(code: status::Status, text: Out<*const c_char>) {
        match status::described(code) {
            Some((_, found)) => text.put(CStr::as_ptr(found)),
            None => {
                text.put_if_wanted(std::ptr::null());
                Err(INVALID_VALUE)
            }
        }
    }
}
