//! The listing of a cubin, as `nvdisasm -gi -c` writes it.

use std::collections::HashMap;

use super::{Function, Instruction, Origin, Sources};

/// The functions of a cubin that was compiled with `-lineinfo`.
#[derive(Debug)]
pub struct Listing {
    /// In the order of the listing.
    pub functions: Vec<Function>,
}

/// A function that is being read.
#[derive(Default)]
struct Draft {
    name: String,
    code: Vec<Instruction>,
    labels: HashMap<String, usize>,
    origins: Vec<Origin>,
    /// The number of a origin, by its lines.
    numbers: HashMap<Vec<(String, usize)>, usize>,
}

impl Listing {
    /// Reads a listing; `sources` says what stands at the lines that it names.
    pub fn parse(text: &str, sources: &mut Sources) -> Self {
        let mut drafts: Vec<Draft> = Vec::new();
        // The lines above an instruction say where it and those that follow it come from.
        let mut lines: Vec<(String, usize)> = Vec::new();
        let mut is_complete = true;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix(".text.").and_then(|rest| rest.strip_suffix(':')) {
                drafts.push(Draft {
                    name: name.to_owned(),
                    ..Draft::default()
                });
                lines.clear();
                continue;
            }
            let Some(draft) = drafts.last_mut() else { continue };
            if let Some(at) = source_line(line) {
                if is_complete {
                    lines.clear();
                }
                is_complete = false;
                lines.push(at);
            } else if let Some(label) = label(line) {
                draft.labels.insert(label.to_owned(), draft.code.len());
            } else if let Some(code) = instruction(line) {
                is_complete = true;
                let origin = draft.origin(&lines, sources);
                draft.code.push(Instruction::parse(code, origin));
            }
        }
        let functions = drafts.into_iter().filter(|draft| !draft.code.is_empty());
        Self {
            functions: functions
                .map(|draft| Function::new(draft.name, draft.code, draft.labels, draft.origins))
                .collect(),
        }
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }
}

impl Draft {
    fn origin(&mut self, lines: &[(String, usize)], sources: &mut Sources) -> usize {
        if let Some(&number) = self.numbers.get(lines) {
            return number;
        }
        let number = self.origins.len();
        let frames = lines.iter().map(|(path, line)| sources.frame(path, *line));
        self.origins.push(frames.collect());
        self.numbers.insert(lines.to_vec(), number);
        number
    }
}

/// `//## File "path", line 12 inlined at …`.
fn source_line(line: &str) -> Option<(String, usize)> {
    let (path, rest) = line.strip_prefix("//## File \"")?.split_once("\", line ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((path.to_owned(), digits.parse().ok()?))
}

/// `.L_x_12:`, or the name of a function.
fn label(line: &str) -> Option<&str> {
    let name = line.strip_suffix(':')?;
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    let rest = name.strip_prefix(['.', '$']).unwrap_or(name);
    is_name(rest).then_some(name)
}

/// `/*0120*/  IADD3 R1, R2, R3, RZ ;`.
fn instruction(line: &str) -> Option<&str> {
    let (address, code) = line.strip_prefix("/*")?.split_once("*/")?;
    let is_address = address.len() >= 4 && address.bytes().all(|byte| byte.is_ascii_hexdigit());
    let code = code.split(';').next()?.trim();
    (is_address && !code.is_empty()).then_some(code)
}
