//! Opcodes of products of four warps.

use super::names::{Names, Result};
use super::opcode::Opcode;
use crate::matrix::Element;
use crate::operation::{GroupFactor, GroupMultiply, Operation};
use crate::parse::{Operand, Width};

/// `wgmma`; `target` is the architecture that the file is for.
pub fn warpgroup<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    operands: &[Operand<'t>],
    target: u32,
) -> Result<Operation> {
    if target != 90 {
        return Err(format!("there is one on sm_90a alone, but the file is for sm_{target}"));
    }
    if !opcode.take_all(&["sync", "aligned"]) {
        return Err("expected `.sync.aligned`".to_owned());
    }
    match operands {
        [] if opcode.take("fence") => Ok(Operation::ProductFence),
        [] if opcode.take("commit_group") => Ok(Operation::ProductCommit),
        [Operand::Number(newest)] if opcode.take("wait_group") => Ok(Operation::ProductWait(*newest as u32)),
        [sums, a, b, adds, signs @ .., last] if opcode.take("mma_async") => {
            let columns = shape(opcode)?;
            let element = match [opcode.kind()?, opcode.kind()?, opcode.kind()?] {
                ["bf16", "bf16", "f32"] => Element::Bf16,
                ["f16", "f16", "f32"] => Element::F16,
                _ => return Err("only known of f16 or bf16 with f32 sums".to_owned()),
            };
            let to = names.targets(sums)?;
            if to.len() != columns / 2 {
                return Err(format!("expected {} registers of sums, got {}", columns / 2, to.len()));
            }
            let (a, ones) = match (a, signs) {
                (Operand::Vector(_), ones) => (GroupFactor::Registers(names.registers(a)?), ones),
                (_, [ones @ .., transposed]) => (shared(names, a, transposed)?, ones),
                _ => return Err("expected whether A is transposed".to_owned()),
            };
            match ones {
                [Operand::Number(1), Operand::Number(1)] => {}
                _ => return Err("only known of factors that keep their signs".to_owned()),
            }
            Ok(Operation::StartProduct(Box::new(GroupMultiply {
                element,
                to,
                a,
                b: shared(names, b, last)?,
                adds: names.condition(adds)?,
            })))
        }
        _ => Err("not known with these operands".to_owned()),
    }
}

/// `setmaxnreg`; how many registers there are is the executor's to count.
pub fn registers(opcode: &mut Opcode<'_>, count: u64, target: u32) -> Result<Operation> {
    if target < 90 || !opcode.take_all(&["sync", "aligned", "u32"]) || !(opcode.take("inc") || opcode.take("dec")) {
        return Err("expected `.inc` or `.dec` with `.sync.aligned.u32`, on sm_90a".to_owned());
    }
    if !(24..=256).contains(&count) || !count.is_multiple_of(8) {
        return Err(format!("{count} registers: expected a multiple of 8 from 24 to 256"));
    }
    Ok(Operation::ChangeRegisters)
}

/// How many columns `.m64n…k16` has.
fn shape(opcode: &mut Opcode<'_>) -> Result<usize> {
    (8..=256)
        .step_by(8)
        .find(|columns| opcode.take(&format!("m64n{columns}k16")))
        .ok_or_else(|| "expected a shape such as `.m64n128k16`".to_owned())
}

/// A matrix by its descriptor; `transposed` is 1 where its rows are k.
fn shared<'t>(names: &mut Names<'_, 't>, descriptor: &Operand<'t>, transposed: &Operand<'t>) -> Result<GroupFactor> {
    let transposed = match transposed {
        Operand::Number(value @ 0..=1) => *value == 1,
        other => return Err(format!("expected 0 or 1, got {other:?}")),
    };
    Ok(GroupFactor::Shared {
        descriptor: names.source(descriptor, Width::W64)?,
        transposed,
    })
}
