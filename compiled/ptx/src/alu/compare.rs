//! Relations, and predicates of predicates.

use super::integer::IntegerType;
use super::lanes::Lane;
use crate::registers::{LANES, Register, Registers};

/// A relation between two values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Of integers.
    Integer(Relation, IntegerType),
    /// Of 32-bit floats: what holds if one of them is no number, too.
    Float(Relation, bool),
    /// Both floats are numbers.
    Numbers,
    /// One of the floats is no number.
    NotNumbers,
}

/// How two values stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A predicate of up to two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Logic {
    And,
    Or,
    Xor,
    /// The first.
    First,
}

impl Logic {
    /// On all lanes at once.
    pub fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::First => a,
        }
    }
}

#[inline(always)]
fn mask<A: Lane>(registers: &Registers<'_>, from: [Register; 2], holds: impl Fn(A, A) -> bool) -> u32 {
    let a = registers.get::<A::Storage>(from[0]);
    let b = registers.get::<A::Storage>(from[1]);
    let mut mask = 0;
    for lane in 0..LANES {
        mask |= u32::from(holds(A::read(a[lane]), A::read(b[lane]))) << lane;
    }
    mask
}

#[inline(always)]
fn integers<A: Lane + Ord>(registers: &Registers<'_>, relation: Relation, from: [Register; 2]) -> u32 {
    match relation {
        Relation::Equal => mask(registers, from, |a: A, b| a == b),
        Relation::NotEqual => !mask(registers, from, |a: A, b| a == b),
        Relation::Less => mask(registers, from, |a: A, b| a < b),
        Relation::LessOrEqual => mask(registers, from, |a: A, b| a <= b),
        Relation::Greater => mask(registers, from, |a: A, b| a > b),
        Relation::GreaterOrEqual => mask(registers, from, |a: A, b| a >= b),
    }
}

/// The lanes on which a comparison holds.
#[inline(always)]
pub(super) fn comparison(comparison: Comparison, registers: &Registers<'_>, from: [Register; 2]) -> u32 {
    let unordered = |a: f32, b: f32| a.is_nan() || b.is_nan();
    match comparison {
        Comparison::Integer(relation, kind) => match kind {
            IntegerType::U16 => integers::<u16>(registers, relation, from),
            IntegerType::S16 => integers::<i16>(registers, relation, from),
            IntegerType::U32 => integers::<u32>(registers, relation, from),
            IntegerType::S32 => integers::<i32>(registers, relation, from),
            IntegerType::U64 => integers::<u64>(registers, relation, from),
            IntegerType::S64 => integers::<i64>(registers, relation, from),
        },
        Comparison::Numbers => !mask(registers, from, unordered),
        Comparison::NotNumbers => mask(registers, from, unordered),
        Comparison::Float(relation, or_unordered) => {
            let ordered = match relation {
                Relation::Equal => mask(registers, from, |a: f32, b| a == b),
                Relation::NotEqual => mask(registers, from, |a: f32, b| a != b && !unordered(a, b)),
                Relation::Less => mask(registers, from, |a: f32, b| a < b),
                Relation::LessOrEqual => mask(registers, from, |a: f32, b| a <= b),
                Relation::Greater => mask(registers, from, |a: f32, b| a > b),
                Relation::GreaterOrEqual => mask(registers, from, |a: f32, b| a >= b),
            };
            if or_unordered {
                ordered | mask(registers, from, unordered)
            } else {
                ordered
            }
        }
    }
}
