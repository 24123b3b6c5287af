//! What the tests, demos and benches of sala-kernels share: calls as data, their memory, cases, tolerances, floors, devices and replay files.

#![allow(missing_docs, reason = "a field whose name and type say all needs no sentence")]

pub mod batch;
pub mod devices;
pub mod events;
pub mod floors;
pub mod memory;
pub mod numbers;
pub mod operations;
pub mod problem;
pub mod property;
pub mod refusals;
pub mod replay;
mod reserved;
pub mod storage;
pub mod tolerance;
pub mod values;

pub use safetensors;
