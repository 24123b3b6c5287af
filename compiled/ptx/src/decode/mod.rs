//! Statements to instructions: names become register numbers, opcodes become operations.
//!
//! Everything in a statement has to be understood. An opcode, a modifier or an operand that is not known here is an error that names it.

mod access;
mod arithmetic;
mod mbarrier;
mod moves;
mod names;
mod opcode;
mod slots;
mod together;
mod visit;
mod warpgroup;

use std::sync::Arc;

use names::{Names, Result};
use opcode::Opcode;

use crate::alu::{Convert, Function, IntegerType, Logic};
use crate::code::{Instruction, Kernel, Layout, Place};
use crate::fault::place;
use crate::operation::{Compare, Operation};
use crate::parse::{Entry, File, Operand, Statement, Variable, Width};
use crate::registers::{Predicate, Register};

/// What a launch has to know of a kernel before its body is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its parameters.
    pub layout: Layout,
    /// Bytes of its static shared memory.
    pub static_shared: u32,
    /// The most threads a block.
    pub max_threads: Option<u32>,
}

impl Interface {
    /// Reads the declarations of a kernel.
    pub fn new(file: &File, entry: &Entry) -> Result<Self> {
        let shared = file.shared(entry)?;
        let (_, static_shared) = placed(shared.iter().filter(|variable| variable.bytes > 0), 0);
        Ok(Self {
            layout: layout(entry),
            static_shared,
            max_threads: entry.max_threads,
        })
    }
}

fn layout(entry: &Entry) -> Layout {
    let (offsets, bytes) = placed(entry.parameters.iter(), 0);
    let sizes = entry.parameters.iter().map(|parameter| parameter.bytes);
    Layout {
        parameters: offsets.into_iter().map(|(_, offset)| offset).zip(sizes).collect(),
        bytes,
    }
}

/// Puts variables one behind the other from `start`: their names and offsets, and where the last one ends.
fn placed<'v>(variables: impl Iterator<Item = &'v Variable>, start: u32) -> (Vec<(String, u32)>, u32) {
    let mut end = start;
    let mut offsets = Vec::new();
    for variable in variables {
        let offset = end.next_multiple_of(variable.align);
        offsets.push((variable.name.clone(), offset));
        end = offset + variable.bytes;
    }
    (offsets, end)
}

/// Decodes a kernel.
pub fn decode(file: &Arc<File>, entry: &Entry) -> Result<Kernel> {
    let body = file.body(entry)?;
    let layout = layout(entry);
    let shared = file.shared(entry)?;
    let (fixed, static_shared) = placed(shared.iter().filter(|variable| variable.bytes > 0), 0);
    // Whatever names the dynamic memory has, it is one and the same.
    let dynamic = || shared.iter().filter(|variable| variable.bytes == 0);
    let align = dynamic().map(|variable| variable.align).max().unwrap_or(1);
    let dynamic_shared = static_shared.next_multiple_of(align);
    let parameters = entry
        .parameters
        .iter()
        .zip(&layout.parameters)
        .map(|(parameter, (offset, _))| (&parameter.name, *offset));
    let variables = (fixed.iter().map(|(name, offset)| (name, *offset)))
        .chain(dynamic().map(|variable| (&variable.name, dynamic_shared)))
        .chain(parameters)
        .map(|(name, offset)| (name.clone(), u64::from(offset)))
        .collect();

    let mut kernel = Kernel {
        name: entry.name.clone(),
        file: Arc::clone(file),
        code: Vec::with_capacity(body.statements.len() + 1),
        places: Vec::with_capacity(body.statements.len() + 1),
        locations: body.locations.clone(),
        slots: 0,
        predicates: 0,
        constants: Vec::new(),
        layout,
        dynamic_shared,
    };
    let mut decoder = Decoder {
        names: Names::new(&body, variables),
        target: file.target,
    };
    for statement in &body.statements {
        kernel.places.push(Place {
            line: statement.line,
            location: statement.location,
        });
        let instruction = decoder.instruction(statement).map_err(|error| {
            let place = place(&kernel, kernel.places.len() - 1);
            format!("{}: `{}`: {error}\n    at {place}", entry.name, statement.opcode)
        })?;
        kernel.code.push(instruction);
    }
    // A kernel that runs past its last statement returns.
    kernel.places.push(kernel.places.last().copied().unwrap_or(Place {
        line: 0,
        location: None,
    }));
    kernel.code.push(Instruction {
        guard: None,
        operation: Operation::Exit,
    });
    kernel.slots = slots::assign(&mut kernel.code, &decoder.names.widths);
    kernel.predicates = decoder.names.predicate_count();
    kernel.constants = decoder.names.constants;
    Ok(kernel)
}

/// Decodes every kernel of a file: how many there are, or what is not known in them.
pub fn decode_all(file: &Arc<File>) -> std::result::Result<usize, Vec<String>> {
    let failed: Vec<String> = file
        .entries
        .iter()
        .filter_map(|entry| decode(file, entry).err())
        .collect();
    if failed.is_empty() {
        Ok(file.entries.len())
    } else {
        Err(failed)
    }
}

/// In the place of a source that a function does not have.
const UNUSED: Register = Register::constant(0);

/// The first architecture that has an instruction.
fn since(opcode: &str) -> u32 {
    match opcode {
        "stmatrix" | "prefetch" | "elect" => 90,
        "redux" => 80,
        _ => 0,
    }
}

struct Decoder<'b, 't> {
    names: Names<'b, 't>,
    /// The architecture that the file is for.
    target: u32,
}

impl<'t> Decoder<'_, 't> {
    fn instruction(&mut self, statement: &Statement<'t>) -> Result<Instruction> {
        let mut opcode = Opcode::new(statement.opcode);
        let since = since(opcode.name);
        if self.target < since {
            return Err(format!(
                "there is none before sm_{since}, but the file is for sm_{}",
                self.target
            ));
        }
        let operation = self.operation(&mut opcode, &statement.operands)?;
        opcode.finish()?;
        let guard = match &statement.guard {
            Some(guard) => Some(Predicate {
                index: self.names.predicate(guard.name)?,
                negated: guard.negated,
            }),
            None => None,
        };
        Ok(Instruction { guard, operation })
    }

    fn operation(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand<'t>]) -> Result<Operation> {
        let names = &mut self.names;
        match (opcode.name, operands) {
            ("ret" | "exit", []) => Ok(Operation::Exit),
            ("trap", []) => Ok(Operation::Trap),
            ("bra", [Operand::Name(label)]) => {
                let target = self.names.body.labels.get(label.text);
                let target = *target.ok_or_else(|| format!("no label {}", label.text))?;
                let uniform = opcode.take("uni");
                Ok(Operation::Branch { target, uniform })
            }
            ("mov", [to, from]) => self.copy(opcode, to, from),
            ("cvta", [to, from]) => moves::cvta(names, opcode, to, from),
            ("setp", [to, first, second, rest @ ..]) if rest.len() <= 1 => {
                self.compare(opcode, to, [first, second], rest)
            }
            ("selp", [to, on, off, by]) => {
                let kind = opcode.kind()?;
                let kind = IntegerType::parse(if kind == "f32" { "b32" } else { kind });
                let width = match kind.map(IntegerType::bits) {
                    Some(64) => Width::W64,
                    Some(32) => Width::W32,
                    Some(_) => Width::W16,
                    None => return Err("not known of this type".to_owned()),
                };
                Ok(Operation::Select {
                    to: access::value(names.target(to, width)?, width),
                    from: [names.source(on, width)?, names.source(off, width)?],
                    by: names.condition(by)?,
                })
            }
            ("and" | "or" | "xor" | "not", [to, from @ ..]) if opcode.take("pred") => {
                moves::logic(names, opcode.name, to, from)
            }
            ("ld", [to, from]) => access::load(names, opcode, to, from),
            ("st", [to, from]) => access::store(names, opcode, to, from),
            ("atom", [to, address, from @ ..]) => access::atomic(names, opcode, Some(to), address, from),
            ("red", [address, from @ ..]) => access::atomic(names, opcode, None, address, from),
            ("membar" | "fence", []) => {
                opcode.ignore(&["cta", "gl", "gpu", "sys", "sc", "acq_rel"]);
                opcode.take_all(&["proxy", "async", "shared::cta"]);
                Ok(Operation::Fence)
            }
            ("cp", operands) => access::copy(names, opcode, operands, self.target),
            ("mbarrier", operands) => mbarrier::mbarrier(names, opcode, operands, self.target),
            ("ldmatrix" | "stmatrix" | "movmatrix" | "mma", operands) => together::matrix(names, opcode, operands),
            ("wgmma", operands) => warpgroup::warpgroup(names, opcode, operands, self.target),
            ("setmaxnreg", [Operand::Number(count)]) => warpgroup::registers(opcode, *count, self.target),
            ("prefetch", [map]) if opcode.take("tensormap") => Ok(Operation::PrefetchMap(names.address(map)?)),
            ("bar" | "barrier" | "vote" | "activemask" | "shfl" | "redux" | "elect", operands) => {
                together::lanes(names, opcode, operands)
            }
            (_, [to, from @ ..]) => self.compute(opcode, to, from),
            _ => Err("unknown instruction".to_owned()),
        }
    }

    fn compute(&mut self, opcode: &mut Opcode<'_>, to: &Operand<'t>, from: &[Operand<'t>]) -> Result<Operation> {
        let (table, from) = match (opcode.name, from) {
            ("lop3", [first, second, third, Operand::Number(table)]) => {
                (Some(*table as u8), vec![first, second, third])
            }
            _ => (None, from.iter().collect()),
        };
        let mut signature = arithmetic::signature(opcode, table)?.ok_or_else(|| "unknown instruction".to_owned())?;
        if signature.from.len() != from.len() {
            return Err(format!("expected {} sources, got {}", signature.from.len(), from.len()));
        }
        let mut registers = [UNUSED; 4];
        for ((register, operand), width) in registers.iter_mut().zip(&from).zip(&signature.from) {
            *register = match &mut signature.function {
                Function::Convert(Convert::Integer { wide, .. }) => {
                    let converted = self.names.converted(operand, *width)?;
                    *wide = converted.1;
                    converted.0
                }
                _ => self.names.source(operand, *width)?,
            };
        }
        Ok(Operation::Compute {
            function: signature.function,
            to: self.names.target(to, signature.to)?,
            from: registers,
        })
    }

    /// `mov`, which also takes registers apart, puts them together and reads special ones.
    fn copy(&mut self, opcode: &mut Opcode<'_>, to: &Operand<'t>, from: &Operand<'t>) -> Result<Operation> {
        let names = &mut self.names;
        if opcode.take("pred") {
            return moves::logic(names, "mov", to, std::slice::from_ref(from));
        }
        let special = match from {
            Operand::Name(name) => moves::special(name.text),
            _ => None,
        };
        if special.is_none() && !matches!((to, from), (Operand::Vector(_), _) | (_, Operand::Vector(_))) {
            return self.compute(opcode, to, std::slice::from_ref(from));
        }
        let kind = opcode.kind()?;
        let bits = crate::parse::type_bytes(kind).ok_or_else(|| format!("`.{kind}` is not known here"))? * 8;
        let width = match bits {
            64 => Width::W64,
            32 => Width::W32,
            _ => Width::W16,
        };
        if let Some(which) = special {
            let to = access::value(names.target(to, width)?, width);
            return Ok(Operation::Special { to, which });
        }
        let part_width = |count: usize| match bits as usize / count {
            32 => Ok(Width::W32),
            16 => Ok(Width::W16),
            part => Err(format!("parts of {part} bits")),
        };
        match (to, from) {
            (Operand::Vector(parts), from) => {
                let part = part_width(parts.len())?;
                let wanted = |operand: &&Operand<'t>| !matches!(operand, Operand::Name(name) if name.text == "_");
                let target = |operand| {
                    Some(operand)
                        .filter(wanted)
                        .map(|operand| names.target(operand, part))
                        .transpose()
                };
                Ok(Operation::Unpack {
                    to: parts.iter().map(target).collect::<Result<_>>()?,
                    from: access::value(self.names.source(from, width)?, width),
                    bits: bits / parts.len() as u32,
                })
            }
            (to, Operand::Vector(parts)) => {
                let part = part_width(parts.len())?;
                Ok(Operation::Pack {
                    from: parts
                        .iter()
                        .map(|operand| names.source(operand, part))
                        .collect::<Result<_>>()?,
                    to: access::value(self.names.target(to, width)?, width),
                    bits: bits / parts.len() as u32,
                })
            }
            _ => Err("expected a vector".to_owned()),
        }
    }

    fn compare(
        &mut self,
        opcode: &mut Opcode<'_>,
        to: &Operand<'t>,
        from: [&Operand<'t>; 2],
        combine: &[Operand<'t>],
    ) -> Result<Operation> {
        let (comparison, width) = arithmetic::comparison(opcode)?;
        let function = opcode.choose(&[("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)]);
        let names = &mut self.names;
        let combine = match (function, combine) {
            (Some(function), [other]) => Some((function, names.condition(other)?)),
            (None, []) => None,
            _ => return Err("a predicate and how to combine it belong together".to_owned()),
        };
        let mut named = |name: crate::parse::Name<'t>| match name.text {
            "_" => Ok(None),
            _ => names.predicate(name).map(Some),
        };
        let (to, opposite) = match to {
            Operand::Name(name) => (named(*name)?, None),
            Operand::Pair(name, opposite) => (named(*name)?, named(*opposite)?),
            other => return Err(format!("expected a predicate, got {other:?}")),
        };
        Ok(Operation::Compare(Box::new(Compare {
            comparison,
            from: [self.names.source(from[0], width)?, self.names.source(from[1], width)?],
            combine,
            to,
            opposite,
        })))
    }
}

#[cfg(test)]
mod tests;
