//! The C headers that Rust shares with the kernels and the executor. Generated; the headers say what everything means.
#![allow(missing_docs, non_camel_case_types)]

#[cfg(feature = "c-api")]
pub mod c_api;
#[cfg(feature = "host")]
pub mod executor;
pub mod params;
