//! Opcodes that lanes execute together.

use super::access;
use super::names::{Names, Result};
use super::opcode::Opcode;
use crate::matrix::Element;
use crate::operation::{Atomic, Exchange, Multiply, Operation, Shuffle, Vote};
use crate::parse::{Operand, Width};

/// Barriers, votes, exchanges and reductions.
pub fn lanes<'t>(names: &mut Names<'_, 't>, opcode: &mut Opcode<'_>, operands: &[Operand<'t>]) -> Result<Operation> {
    match (opcode.name, operands) {
        ("bar", [lanes]) if opcode.take("warp") => {
            opcode.take("sync");
            let lanes = names.source(lanes, Width::W32)?;
            Ok(Operation::WarpSync { lanes })
        }
        ("bar" | "barrier", [barrier, threads @ ..]) if threads.len() <= 1 => {
            opcode.ignore(&["cta", "aligned"]);
            let waits = opcode
                .choose(&[("sync", true), ("arrive", false)])
                .ok_or("expected `.sync` or `.arrive`")?;
            if !waits && threads.is_empty() {
                return Err("expected a number of threads".to_owned());
            }
            Ok(Operation::Barrier {
                barrier: names.source(barrier, Width::W32)?,
                threads: threads
                    .first()
                    .map(|threads| names.source(threads, Width::W32))
                    .transpose()?,
                waits,
            })
        }
        ("vote", [to, from, lanes]) if opcode.take("sync") => {
            let kind = if opcode.take("ballot") {
                opcode.take("b32");
                Vote::Ballot(names.target(to, Width::W32)?)
            } else {
                opcode.take("pred");
                let Operand::Name(to) = to else {
                    return Err(format!("expected a predicate, got {to:?}"));
                };
                let to = names.predicate(*to)?;
                let kinds = [
                    ("any", Vote::Any(to)),
                    ("all", Vote::All(to)),
                    ("uni", Vote::Uniform(to)),
                ];
                opcode
                    .choose(&kinds)
                    .ok_or("expected `.ballot`, `.any`, `.all` or `.uni`")?
            };
            Ok(Operation::Vote {
                kind,
                from: names.condition(from)?,
                lanes: names.source(lanes, Width::W32)?,
            })
        }
        ("elect", [Operand::Pair(first, to), lanes]) if opcode.take("sync") => {
            if first.text != "_" {
                return Err("only known without the lane's number".to_owned());
            }
            let to = names.predicate(*to)?;
            let lanes = names.source(lanes, Width::W32)?;
            Ok(Operation::Elect { to, lanes })
        }
        ("activemask", [to]) if opcode.take("b32") => Ok(Operation::ActiveMask(names.target(to, Width::W32)?)),
        ("shfl", [to, from, by, clamp, lanes]) if opcode.take("sync") => {
            let kinds = [
                ("idx", Shuffle::Index),
                ("bfly", Shuffle::Xor),
                ("up", Shuffle::Up),
                ("down", Shuffle::Down),
            ];
            let kind = opcode
                .choose(&kinds)
                .ok_or("expected `.idx`, `.bfly`, `.up` or `.down`")?;
            opcode.take("b32");
            let (to, valid) = match to {
                Operand::Pair(to, valid) => (Operand::Name(*to), Some(names.predicate(*valid)?)),
                single => (single.clone(), None),
            };
            Ok(Operation::Shuffle(Box::new(Exchange {
                kind,
                to: names.target(&to, Width::W32)?,
                valid,
                from: names.source(from, Width::W32)?,
                by: names.source(by, Width::W32)?,
                clamp: names.source(clamp, Width::W32)?,
                lanes: names.source(lanes, Width::W32)?,
            })))
        }
        ("redux", [to, from, lanes]) if opcode.take("sync") => {
            let kind = opcode.kind()?;
            let signed = kind == "s32";
            if !matches!(kind, "s32" | "u32" | "b32") {
                return Err(format!("`.{kind}` is not known here"));
            }
            let kinds = [
                ("add", Atomic::Add),
                ("and", Atomic::And),
                ("or", Atomic::Or),
                ("xor", Atomic::Xor),
                ("min", if signed { Atomic::SignedMin } else { Atomic::Min }),
                ("max", if signed { Atomic::SignedMax } else { Atomic::Max }),
            ];
            Ok(Operation::Reduce {
                kind: opcode.choose(&kinds).ok_or("expected what to do, such as `.add`")?,
                to: names.target(to, Width::W32)?,
                from: names.source(from, Width::W32)?,
                lanes: names.source(lanes, Width::W32)?,
            })
        }
        _ => Err("not known with these operands".to_owned()),
    }
}

/// Matrices that the lanes of a warp hold together.
pub fn matrix<'t>(names: &mut Names<'_, 't>, opcode: &mut Opcode<'_>, operands: &[Operand<'t>]) -> Result<Operation> {
    match (opcode.name, operands) {
        ("ldmatrix", [to, row]) => {
            let to = names.targets(to)?;
            Ok(Operation::LoadMatrix {
                transposed: access::matrices(opcode, to.len())?,
                row: names.address(row)?,
                to,
            })
        }
        ("stmatrix", [row, from]) => {
            let from = names.sources(from)?;
            Ok(Operation::StoreMatrix {
                transposed: access::matrices(opcode, from.len())?,
                row: names.address(row)?,
                from,
            })
        }
        ("movmatrix", [to, from]) if opcode.take_all(&["sync", "aligned", "m8n8", "trans", "b16"]) => {
            Ok(Operation::TransposeMatrix {
                to: names.target(to, Width::W32)?,
                from: names.source(from, Width::W32)?,
            })
        }
        ("mma", [to, a, b, c]) if opcode.take_all(&["sync", "aligned", "m16n8k16", "row", "col"]) => {
            let element = match [opcode.kind()?, opcode.kind()?, opcode.kind()?, opcode.kind()?] {
                ["f32", "bf16", "bf16", "f32"] => Element::Bf16,
                ["f32", "f16", "f16", "f32"] => Element::F16,
                _ => return Err("only known of f16 or bf16 with f32 sums".to_owned()),
            };
            Ok(Operation::Multiply(Box::new(Multiply {
                element,
                to: names.registers(to)?,
                a: names.registers(a)?,
                b: names.registers(b)?,
                c: names.registers(c)?,
            })))
        }
        _ => Err("not known here".to_owned()),
    }
}
