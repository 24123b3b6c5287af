//! Predicates of predicates, generic addresses and special registers.

use super::UNUSED;
use super::names::{Names, Result};
use super::opcode::Opcode;
use crate::alu::{Function, Integer, IntegerType, Logic};
use crate::memory::{PARAMETER_WINDOW, SHARED_WINDOW};
use crate::operation::{Operation, Special};
use crate::parse::{Operand, Width};

/// Logic on predicates, and `mov.pred`.
pub fn logic<'t>(names: &mut Names<'_, 't>, name: &str, to: &Operand<'t>, from: &[Operand<'t>]) -> Result<Operation> {
    let Operand::Name(to) = to else {
        return Err(format!("expected a predicate, got {to:?}"));
    };
    let (function, first, second) = match (name, from) {
        ("mov", [from]) | ("not", [from]) => (Logic::First, from, from),
        ("and", [first, second]) => (Logic::And, first, second),
        ("or", [first, second]) => (Logic::Or, first, second),
        ("xor", [first, second]) => (Logic::Xor, first, second),
        _ => return Err("not known with these operands".to_owned()),
    };
    let mut from = [names.condition(first)?, names.condition(second)?];
    from[0].negated ^= name == "not";
    let to = names.predicate(*to)?;
    Ok(Operation::Logic { function, to, from })
}

/// Generic addresses are global ones, but for a window that shows shared memory.
pub fn cvta<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    to: &Operand<'t>,
    from: &Operand<'t>,
) -> Result<Operation> {
    let back = opcode.take("to");
    let windows = [
        ("global", None),
        ("shared", Some(SHARED_WINDOW)),
        ("shared::cta", Some(SHARED_WINDOW)),
        ("param", Some(PARAMETER_WINDOW)),
    ];
    let window = opcode.choose(&windows);
    let window = window.ok_or_else(|| "only known of global and shared memory and parameters".to_owned())?;
    if !opcode.take("u64") {
        return Err("expected `.u64`".to_owned());
    }
    let function = match (window, back) {
        (None, _) => Integer::Move,
        (Some(_), false) => Integer::Add,
        (Some(_), true) => Integer::Sub,
    };
    let window = names.constant(window.unwrap_or(0), Width::W64);
    Ok(Operation::Compute {
        function: Function::Integer(function, IntegerType::U64),
        from: [names.source(from, Width::W64)?, window, UNUSED, UNUSED],
        to: names.target(to, Width::W64)?,
    })
}

/// The special register of a name.
pub fn special(name: &str) -> Option<Special> {
    let axis = |text: &str| match text {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    let (name, axis) = match name.strip_prefix('%')?.split_once('.') {
        Some((name, rest)) => (name, Some(axis(rest)?)),
        None => (name.strip_prefix('%')?, None),
    };
    Some(match (name, axis) {
        ("tid", Some(axis)) => Special::Thread(axis),
        ("ntid", Some(axis)) => Special::Threads(axis),
        ("ctaid", Some(axis)) => Special::Block(axis),
        ("nctaid", Some(axis)) => Special::Blocks(axis),
        ("laneid", None) => Special::Lane,
        ("warpid", None) => Special::Warp,
        ("nwarpid", None) => Special::Warps,
        ("lanemask_eq", None) => Special::LanesEqual,
        ("lanemask_lt", None) => Special::LanesBelow,
        ("lanemask_le", None) => Special::LanesUpTo,
        ("lanemask_gt", None) => Special::LanesAbove,
        ("lanemask_ge", None) => Special::LanesFrom,
        ("dynamic_smem_size", None) => Special::DynamicShared,
        ("total_smem_size", None) => Special::TotalShared,
        ("clock" | "clock64", None) => Special::Clock,
        _ => return None,
    })
}
