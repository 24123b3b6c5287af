//! Prices what nvcc made of the kernels: reads the machine code of a cubin, follows what the warps of a hot loop run, and simulates one
//! multiprocessor to say what that costs. No GPU is needed.
//!
//! It is good for direction: a ratio of two prices means more than a price, and a predicted difference below 10 %, or between kernels of different
//! structure, is no evidence. `docs/performance.md` says what is modelled, what is not, and what it was compared with.

pub mod description;
pub mod figures;
mod gpu;
pub mod machine;
mod problem;
pub mod rows;
pub mod sass;
// The table of kernels, which stands alone so that it can be read here.
#[path = "../../../src/shapes/mod.rs"]
#[allow(dead_code, unexpected_cfgs, rustdoc::broken_intra_doc_links)]
mod shapes;
mod tools;
mod tree;
mod unit;

pub use gpu::{GPUS, Gpu};
pub use problem::Problem;
pub use tools::Tools;
pub use tree::{Kernels, Resources, Tree};
pub use unit::{Priced, Unit, mix};
