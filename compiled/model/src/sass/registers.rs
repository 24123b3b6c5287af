//! Which registers an instruction reads and writes.

use super::{Class, Instruction};

/// A register or predicate, as a small number.
pub type Register = u16;

/// How many there are.
pub const REGISTERS: usize = 2 * 256 + 2 * 8;

/// What an instruction reads and writes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Registers {
    /// Registers that it waits for.
    pub reads: Vec<Register>,
    /// Registers that later instructions wait for.
    pub writes: Vec<Register>,
}

impl Registers {
    /// The registers of an instruction.
    pub fn of(instruction: &Instruction) -> Self {
        let mut registers = Self::default();
        add(&mut registers.reads, &instruction.guard, 1);
        match instruction.class {
            Class::Hmma => registers.add_product(&instruction.operands),
            // The sums are complete when the warpgroup has waited for them; only an operand in registers is waited for.
            Class::Hgmma => instruction
                .operands
                .get(1)
                .into_iter()
                .for_each(|operand| add(&mut registers.reads, operand, 4)),
            Class::Sts
            | Class::Stsm
            | Class::Stg
            | Class::Ldgsts
            | Class::Ctrl
            | Class::Bar
            | Class::Commit
            | Class::Wait
            | Class::GmmaWait
            | Class::Bulk => registers.add_without_result(instruction),
            _ => registers.add_with_result(instruction),
        }
        registers
    }

    /// D, A, B and C of a matrix product of a warp.
    fn add_product(&mut self, operands: &[String]) {
        for (i, (operand, count)) in operands.iter().zip([4, 4, 2, 4]).enumerate() {
            let to = if i == 0 { &mut self.writes } else { &mut self.reads };
            add(to, operand, count);
        }
    }

    fn add_without_result(&mut self, instruction: &Instruction) {
        let is_store = matches!(instruction.class, Class::Sts | Class::Stsm | Class::Stg);
        let width = match instruction.is_four_matrices() {
            true => 4,
            false => width(instruction),
        };
        let last = instruction.operands.len().saturating_sub(1);
        for (i, operand) in instruction.operands.iter().enumerate() {
            let count = match operand {
                _ if is_store && i == last => width,
                operand if operand.contains(".64]") => 2,
                _ => 1,
            };
            add(&mut self.reads, operand, count);
        }
    }

    fn add_with_result(&mut self, instruction: &Instruction) {
        let Some((result, mut sources)) = instruction.operands.split_first() else {
            return;
        };
        let count = match instruction.class {
            Class::Ldsm if instruction.is_four_matrices() => 4,
            Class::Ldsm => 2,
            _ => width(instruction),
        };
        add(&mut self.writes, result, count);
        if let (true, Some((second, rest))) = (has_second_result(instruction), sources.split_first()) {
            add(&mut self.writes, second, 1);
            sources = rest;
        }
        // Carries.
        while let [carry, rest @ ..] = sources {
            if sources.len() <= 2 || !is_predicate(carry) {
                break;
            }
            add(&mut self.writes, carry, 1);
            sources = rest;
        }
        for operand in sources {
            let count = if operand.contains(".64") { 2 } else { 1 };
            add(&mut self.reads, operand, count);
        }
    }
}

fn width(instruction: &Instruction) -> usize {
    let is_pair = instruction.opcode.contains(".WIDE") || instruction.opcode.starts_with("CS2R");
    instruction.width().max(if is_pair { 2 } else { 1 })
}

fn has_second_result(instruction: &Instruction) -> bool {
    let opcode = instruction.opcode.trim_start_matches('U');
    let compares = ["ISETP", "PLOP3", "PSETP", "FSETP"];
    instruction.class == Class::Shfl || compares.iter().any(|name| opcode.starts_with(name))
}

/// `P0`, `UP3`, `PT`.
fn is_predicate(operand: &str) -> bool {
    let name = operand.strip_prefix('U').unwrap_or(operand);
    matches!(name.as_bytes(), [b'P', b'T' | b'0'..=b'9'])
}

/// Adds the registers that an operand names, each of them the first of `count`; predicates are single.
fn add(to: &mut Vec<Register>, operand: &str, count: usize) {
    let words = operand.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for word in words {
        let (is_uniform, name) = match word.strip_prefix('U') {
            Some(name) => (true, name),
            None => (false, word),
        };
        if let Some(number) = name.strip_prefix('R').and_then(number) {
            let first = number + if is_uniform { 256 } else { 0 };
            to.extend(
                (first..first + count)
                    .filter(|&register| register < 512)
                    .map(|register| register as Register),
            );
        } else if let Some(number) = name.strip_prefix('P').and_then(number).filter(|&number| number < 8) {
            to.push((512 + number + if is_uniform { 8 } else { 0 }) as Register);
        }
    }
}

fn number(digits: &str) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|&number| number < 256)
}
