//! What the tests, examples and benches of sala-kernels share: replay files, tolerances, devices and generated cases.

pub mod attention;
pub mod attention_cases;
pub mod cases;
pub mod devices;
pub mod examples;
pub mod linear;
pub mod memory;
pub mod replay;
pub mod selection;
pub mod tolerance;
pub mod values;

pub use safetensors;
