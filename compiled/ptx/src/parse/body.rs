//! The body of a kernel: declarations, labels and statements.

use std::collections::HashMap;

use super::lexer::{Lexer, Token, shown};

/// What a kernel's body says.
#[derive(Debug, Default)]
pub struct Body<'t> {
    /// The instructions, in order.
    pub statements: Vec<Statement<'t>>,
    /// The statement that a label stands before.
    pub labels: HashMap<&'t str, usize>,
    /// Registers by scope and name; `%r<3>` is declared by the name `%r`.
    pub registers: HashMap<Name<'t>, Declaration>,
    /// The places in the source that statements refer to.
    pub locations: Vec<Location>,
}

/// A register's declaration, or that of several with a number behind a common name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// How wide it is.
    pub width: Width,
    /// How many there are, if they are numbered.
    pub count: Option<u32>,
}

/// How much of a lane a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// One bit.
    Predicate,
    /// 16 bits.
    W16,
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

/// A name and the scope that declares it: 0 for the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name<'t> {
    /// As it is written.
    pub text: &'t str,
    /// Blocks of inline assembly are numbered from 1.
    pub scope: u32,
}

/// A line of CUDA C++, and the place that it was inlined at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// As `.file` numbers them.
    pub file: u32,
    /// Counted from 1.
    pub line: u32,
    /// An index of [`Body::locations`].
    pub inlined_at: Option<usize>,
}

/// What an instruction works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand<'t> {
    /// A register, a special register, a label or a variable.
    Name(Name<'t>),
    /// `!p`
    Not(Name<'t>),
    /// The bits of an integer or a float.
    Number(u64),
    /// `[base + offset]`
    Address(Box<Operand<'t>>, i64),
    /// `[map, {a, b}]`
    Element(Box<Operand<'t>>, Box<Operand<'t>>),
    /// `{a, b}`
    Vector(Vec<Operand<'t>>),
    /// `a|b`
    Pair(Name<'t>, Name<'t>),
}

/// The predicate that must hold, or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard<'t> {
    /// The predicate.
    pub name: Name<'t>,
    /// `@!p`
    pub negated: bool,
}

/// An instruction.
#[derive(Clone, Debug)]
pub struct Statement<'t> {
    /// `@p`
    pub guard: Option<Guard<'t>>,
    /// With all its modifiers.
    pub opcode: &'t str,
    /// What stands behind the opcode.
    pub operands: Vec<Operand<'t>>,
    /// The line of the PTX file.
    pub line: u32,
    /// An index of [`Body::locations`], where the compiler said so.
    pub location: Option<usize>,
}

/// An error and the line it is on.
type Result<T> = std::result::Result<T, (u32, String)>;

impl<'t> Body<'t> {
    /// Reads from behind the opening brace to its closing one.
    pub(super) fn read(lexer: Lexer<'t>) -> Result<Self> {
        let mut reader = Reader {
            lexer,
            body: Body::default(),
            scopes: vec![0],
            opened: 0,
            location: None,
            sites: HashMap::new(),
        };
        match reader.read() {
            Ok(()) => Ok(reader.body),
            Err(error) => Err((reader.lexer.line, error)),
        }
    }
}

struct Reader<'t> {
    lexer: Lexer<'t>,
    body: Body<'t>,
    /// The open scopes, the kernel's first.
    scopes: Vec<u32>,
    opened: u32,
    location: Option<usize>,
    /// The latest location with a file, line and column, which is what `inlined_at` refers to.
    sites: HashMap<[u32; 3], usize>,
}

impl<'t> Reader<'t> {
    fn read(&mut self) -> std::result::Result<(), String> {
        loop {
            match self.lexer.peek() {
                Some(Token::Mark('{')) => {
                    self.lexer.next();
                    self.opened += 1;
                    self.scopes.push(self.opened);
                }
                Some(Token::Mark('}')) => {
                    self.lexer.next();
                    self.scopes.pop();
                    if self.scopes.is_empty() {
                        return Ok(());
                    }
                }
                Some(Token::Word(word)) if word.starts_with('.') => self.directive(word)?,
                Some(Token::Word(word)) => {
                    let mut ahead = self.lexer.clone();
                    ahead.next();
                    if ahead.take(':') {
                        self.lexer = ahead;
                        self.body.labels.insert(word, self.body.statements.len());
                    } else {
                        self.statement()?;
                    }
                }
                Some(Token::Mark('@')) => self.statement()?,
                other => return Err(format!("expected an instruction, got {}", shown(other))),
            }
        }
    }

    fn directive(&mut self, word: &str) -> std::result::Result<(), String> {
        self.lexer.next();
        match word {
            ".loc" => {
                let text = self.lexer.rest_of_line();
                self.location = Some(self.locate(text).ok_or_else(|| format!("cannot read `.loc{text}`"))?);
            }
            ".reg" => self.registers()?,
            // Read when the file was indexed.
            ".shared" | ".pragma" => self.lexer.skip_past(';'),
            _ => return Err(format!("unknown directive {word}")),
        }
        Ok(())
    }

    /// ` 2 168 5, function_name $L__info_string0, inlined_at 1 1 84`
    fn locate(&mut self, text: &str) -> Option<usize> {
        let numbers = |text: &str| {
            let mut words = text
                .split_whitespace()
                .map(|word| word.trim_end_matches(',').parse::<u32>().ok());
            Some([words.next()??, words.next()??, words.next()??])
        };
        let here = numbers(text)?;
        let inlined_at = match text.split_once("inlined_at") {
            Some((_, rest)) => Some(numbers(rest)?),
            None => None,
        };
        let inlined_at = inlined_at.map(|site| match self.sites.get(&site) {
            Some(&known) => known,
            None => self.location_of(site, None),
        });
        Some(self.location_of(here, inlined_at))
    }

    fn location_of(&mut self, [file, line, column]: [u32; 3], inlined_at: Option<usize>) -> usize {
        let location = Location { file, line, inlined_at };
        if let Some(&known) = self.sites.get(&[file, line, column])
            && self.body.locations[known] == location
        {
            return known;
        }
        self.body.locations.push(location);
        let index = self.body.locations.len() - 1;
        self.sites.insert([file, line, column], index);
        index
    }

    fn registers(&mut self) -> std::result::Result<(), String> {
        let kind = self.lexer.word()?;
        let width = match kind {
            ".pred" => Width::Predicate,
            _ => match kind.strip_prefix('.').and_then(super::type_bytes) {
                Some(1 | 2) => Width::W16,
                Some(4) => Width::W32,
                Some(8) => Width::W64,
                _ => return Err(format!("registers of type {kind} are not known here")),
            },
        };
        let scope = self.scopes.last().copied().unwrap_or(0);
        loop {
            let text = self.lexer.word()?;
            let mut count = None;
            if self.lexer.take('<') {
                let number = self.lexer.word()?;
                count = Some(
                    number
                        .parse()
                        .map_err(|_| format!("expected a number, got `{number}`"))?,
                );
                self.lexer.expect('>')?;
            }
            self.body
                .registers
                .insert(Name { text, scope }, Declaration { width, count });
            if !self.lexer.take(',') {
                return self.lexer.expect(';');
            }
        }
    }

    fn statement(&mut self) -> std::result::Result<(), String> {
        let line = self.lexer.line;
        let mut guard = None;
        if self.lexer.take('@') {
            let negated = self.lexer.take('!');
            let name = self.lexer.word()?;
            guard = Some(Guard {
                name: self.resolve(name),
                negated,
            });
        }
        let opcode = self.lexer.word()?;
        let mut operands = Vec::new();
        if !self.lexer.take(';') {
            loop {
                operands.push(self.operand()?);
                if !self.lexer.take(',') {
                    self.lexer.expect(';')?;
                    break;
                }
            }
        }
        self.body.statements.push(Statement {
            guard,
            opcode,
            operands,
            line,
            location: self.location,
        });
        Ok(())
    }

    fn operand(&mut self) -> std::result::Result<Operand<'t>, String> {
        match self.lexer.next() {
            Some(Token::Mark('[')) => {
                let base = self.operand()?;
                if self.lexer.take(',') {
                    let indices = self.operand()?;
                    self.lexer.expect(']')?;
                    return Ok(Operand::Element(Box::new(base), Box::new(indices)));
                }
                let offset = if self.lexer.take('+') { self.offset()? } else { 0 };
                self.lexer.expect(']')?;
                Ok(Operand::Address(Box::new(base), offset))
            }
            Some(Token::Mark('{')) => {
                let mut parts = Vec::new();
                loop {
                    parts.push(self.operand()?);
                    if !self.lexer.take(',') {
                        self.lexer.expect('}')?;
                        return Ok(Operand::Vector(parts));
                    }
                }
            }
            Some(Token::Mark('!')) => {
                let name = self.lexer.word()?;
                Ok(Operand::Not(self.resolve(name)))
            }
            Some(Token::Mark('-')) => match number(self.lexer.word()?) {
                Some(value) => Ok(Operand::Number(value.wrapping_neg())),
                None => Err("expected a number behind `-`".to_owned()),
            },
            Some(Token::Word(word)) => match number(word) {
                Some(value) => Ok(Operand::Number(value)),
                None if self.lexer.take('|') => {
                    let second = self.lexer.word()?;
                    Ok(Operand::Pair(self.resolve(word), self.resolve(second)))
                }
                None => Ok(Operand::Name(self.resolve(word))),
            },
            other => Err(format!("expected an operand, got {}", shown(other))),
        }
    }

    fn offset(&mut self) -> std::result::Result<i64, String> {
        match self.operand()? {
            Operand::Number(value) => Ok(value as i64),
            other => Err(format!("expected an offset, got {other:?}")),
        }
    }

    /// Finds the innermost scope that declares a name. Numbered registers and everything that is no register belong to the kernel.
    fn resolve(&self, text: &'t str) -> Name<'t> {
        let declares = |&&scope: &&u32| self.body.registers.contains_key(&Name { text, scope });
        let scope = self.scopes.iter().rev().find(declares).copied().unwrap_or(0);
        Name { text, scope }
    }
}

/// `12`, `0x1F`, `0f3F800000` (the bits of an f32) or `0d...` (those of an f64).
fn number(text: &str) -> Option<u64> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let text = text.trim_end_matches('U');
    for prefix in ["0f", "0F", "0d", "0D", "0x", "0X"] {
        if let Some(hexadecimal) = text.strip_prefix(prefix) {
            return u64::from_str_radix(hexadecimal, 16).ok();
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests;
