//! Instructions that work on each lane by itself.

mod approximate;
mod compare;
mod convert;
mod float;
mod integer;
mod lanes;

pub use approximate::Approximate;
pub use compare::{Comparison, Logic, Relation};
pub use convert::{Convert, IntegerWidth, Rounding};
pub use float::Float;
pub use integer::{Bits, Integer, IntegerType};
pub use lanes::{Lane, Site};

use crate::machine::for_this_machine;
use crate::options::Functions;
use crate::registers::{LANES, Lanes, Register, Registers, Storage};

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// On integers of one type.
    Integer(Integer, IntegerType),
    /// On bits.
    Bits(Bits),
    /// On floats; perhaps subnormal ones are zero.
    Float(Float, bool),
    /// The same, approximately.
    Approximate(Approximate, bool),
    /// Between types.
    Convert(Convert),
}

for_this_machine! {
    /// Computes the active lanes of a register.
    pub fn compute(function: Function, functions: Functions, site: Site<'_, '_>) => compute_inline;
}

#[inline(always)]
fn compute_inline(function: Function, functions: Functions, site: Site<'_, '_>) {
    match function {
        Function::Integer(function, kind) => integer::integer(function, kind, site),
        Function::Bits(function) => integer::bits(function, site),
        Function::Float(function, false) => float::float(function, false, site),
        Function::Float(function, true) => float::float(function, true, site),
        Function::Approximate(function, flush) => approximate::approximate(function, flush, functions, site),
        Function::Convert(function) => convert::convert(function, site),
    }
}

for_this_machine! {
    /// The lanes on which a comparison holds.
    pub fn compare(comparison: Comparison, registers: &Registers<'_>, from: [Register; 2]) -> u32 => compare_inline;
}

#[inline(always)]
fn compare_inline(comparison: Comparison, registers: &Registers<'_>, from: [Register; 2]) -> u32 {
    compare::comparison(comparison, registers, from)
}

/// The first value on the lanes of a mask, the second on the others.
#[inline(always)]
pub fn select<S: Storage>(mask: u32, [on, off]: [&Lanes<S>; 2]) -> Lanes<S> {
    let mut result = *off;
    for lane in 0..LANES {
        result[lane] = if mask >> lane & 1 == 1 { on[lane] } else { off[lane] };
    }
    result
}
