//! One instruction, as text and in parts.

use super::Class;

/// An instruction of a listing.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// As the listing has it, without address and semicolon.
    pub text: String,
    /// `@P0` and the like; empty: it always runs.
    pub guard: String,
    /// The operation with its modifiers.
    pub opcode: String,
    /// What it works on, the result first.
    pub operands: Vec<String>,
    /// What it does.
    pub class: Class,
    /// Where it may jump.
    pub label: Option<String>,
    /// Which of the function's origins it came from.
    pub origin: usize,
}

impl Instruction {
    /// Takes an instruction apart.
    pub fn parse(text: &str, origin: usize) -> Self {
        let text = text.trim();
        let (guard, body) = match text.strip_prefix('@') {
            Some(_) => text.split_once(char::is_whitespace).unwrap_or((text, "")),
            None => ("", text),
        };
        let body = body.trim_start_matches(['{', ' ']);
        let (opcode, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
        let operands = match rest.trim() {
            "" => Vec::new(),
            rest => rest.split(',').map(|operand| operand.trim().to_owned()).collect(),
        };
        let label = rest
            .split_once("`(")
            .and_then(|(_, label)| label.split_once(')'))
            .map(|(label, _)| label.to_owned());
        Self {
            text: text.to_owned(),
            guard: guard.to_owned(),
            opcode: opcode.to_owned(),
            operands,
            class: Class::of(opcode),
            label,
            origin,
        }
    }

    /// Whether its guard is constantly false. The compiler puts such instructions where a copy needs room.
    pub fn never_runs(&self) -> bool {
        matches!(self.guard.as_str(), "@!PT" | "@!UPT")
    }

    /// Registers that a value of this instruction takes, by the width that the opcode names.
    pub fn width(&self) -> usize {
        match self.opcode.as_str() {
            opcode if opcode.contains("128") => 4,
            opcode if opcode.contains("64") => 2,
            _ => 1,
        }
    }

    /// Whether it moves four matrices at once.
    pub fn is_four_matrices(&self) -> bool {
        self.opcode.contains(".4")
    }
}
