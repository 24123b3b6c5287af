//! What a kernel is after decoding.

use std::sync::Arc;

use crate::operation::Operation;
use crate::parse::{File, Location};
use crate::registers::{Predicate, Slot};

/// A kernel that can run.
#[derive(Debug)]
pub struct Kernel {
    /// Its symbol.
    pub name: String,
    /// The file that it is from.
    pub file: Arc<File>,
    /// What it does; the last instruction is always an exit.
    pub code: Vec<Instruction>,
    /// For each instruction, where it stands.
    pub places: Vec<Place>,
    /// What places refer to.
    pub locations: Vec<Location>,
    /// How many slots its registers take.
    pub slots: usize,
    /// How many predicates it has.
    pub predicates: usize,
    /// The pool of constants.
    pub constants: Vec<Slot>,
    /// Its parameters.
    pub layout: Layout,
    /// Where dynamic shared memory starts, behind the static variables.
    pub dynamic_shared: u32,
}

/// The block of parameters that a kernel takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Offset and size of each parameter.
    pub parameters: Vec<(u32, u32)>,
    /// Size of the block.
    pub bytes: u32,
}

/// Where an instruction stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The line of the PTX file.
    pub line: u32,
    /// An index of [`Kernel::locations`].
    pub location: Option<usize>,
}

/// An operation, perhaps guarded by a predicate.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// The lanes that take part.
    pub guard: Option<Predicate>,
    /// What they do.
    pub operation: Operation,
}
