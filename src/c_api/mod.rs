//! The C API, `include/sala_kernels.h`, over the same arguments, checks and launches as Rust's (feature `c-api`).
//!
//! | file | what |
//! |---|---|
//! | `errors.rs` | what functions return, and what the thread's last error says |
//! | `handles.rs` | kernels and layers, made and destroyed |
//! | `structs.rs` | structs that begin with their size, and the numbers in them |
//! | `tensors.rs` | views of the caller's memory |
//! | `operations.rs` | each operation's arguments in Rust, made of those in C |
//! | `launch.rs` | the functions that launch |
//! | `tvm.rs` | the same as functions of tvm-ffi, for Python |
//!
//! The structs are generated from the header, so neither can change alone. Arguments of Rust are written out field by field: one that C does not
//! know does not compile. The package `sala-kernels-c` makes libraries of it.

mod errors;
mod handles;
mod launch;
mod operations;
mod structs;
mod tensors;
#[cfg(all(test, feature = "host"))]
mod tests;
mod tvm;

pub use errors::{sala_last_error, sala_last_error_argument, sala_status_check};
pub use handles::*;
pub use launch::*;
pub use tvm::*;

/// The number of the interface; see the header.
#[unsafe(no_mangle)]
pub extern "C" fn sala_abi_version() -> i32 {
    crate::sys::c_api::SALA_ABI_VERSION as i32
}
