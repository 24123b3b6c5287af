//! PTX text to statements. Knows the shape of the language and nothing of what instructions mean.
//!
//! A file is indexed first ([`File`]): which kernels it holds, what they take and declare. The body of a kernel is read when it is launched
//! for the first time, because most programs load many kernels and launch few.

mod body;
mod file;
mod lexer;

pub use body::{Body, Declaration, Guard, Location, Name, Operand, Statement, Width};
pub use file::{Entry, File, Variable};

/// Bytes of a scalar type; none if the name is not one.
pub fn type_bytes(name: &str) -> Option<u32> {
    match name {
        "b8" | "u8" | "s8" => Some(1),
        "b16" | "u16" | "s16" | "f16" | "bf16" => Some(2),
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => Some(4),
        "b64" | "u64" | "s64" | "f64" => Some(8),
        _ => None,
    }
}
