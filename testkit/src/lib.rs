//! What the tests, examples and benches of sala-kernels share: replay files, tolerances, devices and generated cases.

pub mod replay;
pub mod tolerance;
