//! Reads what nvdisasm says of a cubin: instructions with the source lines they came from, basic blocks, loops, and one warp's path through them.

mod class;
mod flow;
mod instruction;
mod listing;
mod path;
mod registers;
mod source;

pub use class::Class;
pub use flow::{Block, Function, Loop};
pub use instruction::Instruction;
pub use listing::Listing;
pub use path::{PathFinder, Trips};
pub use registers::{REGISTERS, Register, Registers};
pub use source::{Frame, Origin, Pattern, Sources};
