//! A CUDA driver without a GPU: it runs the PTX of compiled kernels on the CPU, for tests.
//!
//! The library is a `libcuda.so` that a program loads in the place of NVIDIA's. What nvcc makes of a kernel passes through PTX, a language
//! for a machine of lanes and warps; a launch here is carried out from that very text. So the half of a kernel that only a GPU sees, its
//! inline assembly, `#if`s and parameters, is tested on any machine, and more strictly than a GPU would.
//!
//! The way of a kernel: [`parse`] reads text, [`decode`] makes [`code`] of it, [`operation`]s over
//! numbered registers, [`warp`] executes those for 32 lanes at once, [`block`] lets
//! the warps of a block meet at barriers, [`grid`] spreads blocks over threads. [`memory`] checks every access, and a [`fault`] tells where
//! in the PTX and in its source something went wrong. [`options`] are the choices that a GPU has and nobody may rely on.
//!
//! `driver` is the outside: contexts, streams, events, graphs, modules. [`client`] is for tests that want to pretend another device, make a
//! call fail or count calls.

pub mod alu;
pub mod block;
pub mod client;
pub mod code;
pub mod decode;
mod driver;
pub mod fault;
pub mod grid;
mod machine;
pub mod matrix;
pub mod memory;
pub mod operation;
pub mod options;
pub mod parse;
pub mod planted;
pub mod registers;
pub mod tensor_map;
pub mod warp;
