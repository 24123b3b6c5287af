//! The calls that benches go through: every operation and entry point, on a fixed list of shapes.
//!
//! `bf16 64 of 8192, 32/2 x 128, 96 alike` reads: the last 64 of 8192 tokens, 32 query and 2 kv heads of 128 channels, lists of 96 blocks that are
//! the same for all tokens. `2 x 128x64` are two heads with keys of 128 and values of 64 channels.

mod linear;
mod norms;
mod sparse;
mod tokens;

use sala_testkit::floors::Floor;
use sala_testkit::problem::Problem;

/// What a call is one of.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "each bench goes by one of them")]
pub struct Names {
    /// The kernel, as its file is called.
    pub kernel: &'static str,
    /// The operation as it is called in C, without `sala_`.
    pub operation: &'static str,
}

/// A call and what is said of it.
pub struct Call<P> {
    pub shape: String,
    pub problem: P,
    pub floor: Floor,
    /// How many the machine has, where that is not a fact.
    #[allow(dead_code, reason = "a machine that is timed has as many as it has")]
    pub multiprocessors: u32,
    /// Bytes.
    #[allow(dead_code, reason = "it is no part of a time")]
    pub workspace: usize,
}

/// What a bench does with the calls.
pub trait Visitor {
    /// Gets a call, which is to be made when its turn comes.
    fn visit<P: Problem + 'static>(&mut self, names: Names, make: impl FnOnce() -> Call<P> + 'static);
}

/// Shows a bench every call, those of a kernel one after the other.
pub fn visit_all(visitor: &mut impl Visitor) {
    linear::visit(visitor);
    norms::visit(visitor);
    sparse::visit(visitor);
    tokens::visit(visitor);
}
