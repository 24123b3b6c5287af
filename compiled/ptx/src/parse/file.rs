//! The index of a PTX file.

use std::collections::HashMap;

use super::body::Body;
use super::lexer::{Lexer, Token, shown};
use super::type_bytes;

/// A PTX file: its text and the kernels in it.
#[derive(Debug)]
pub struct File {
    /// What messages call it.
    pub name: String,
    text: String,
    /// The architecture that it is for, such as 80 or 120.
    pub target: u32,
    /// The kernels.
    pub entries: Vec<Entry>,
    /// Variables outside of kernels: the launch's dynamic shared memory.
    shared: Vec<Variable>,
    /// What `.loc` calls files by.
    sources: HashMap<u32, String>,
}

/// A kernel of a PTX file, its body not yet read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The kernel's symbol.
    pub name: String,
    /// Its parameters, in order.
    pub parameters: Vec<Variable>,
    /// The most threads a block that the source allows (`__launch_bounds__`).
    pub max_threads: Option<u32>,
    /// Where its body starts, behind the brace.
    body: usize,
    /// Where the next kernel starts at the latest.
    end: usize,
}

/// A variable in shared or parameter memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its symbol.
    pub name: String,
    /// A power of two.
    pub align: u32,
    /// 0 for `[]`, the launch's dynamic shared memory.
    pub bytes: u32,
}

impl File {
    /// Indexes a text.
    pub fn new(name: impl Into<String>, text: String) -> Result<Self, String> {
        let name = name.into();
        let starts: Vec<_> = text.match_indices(".entry").map(|(start, _)| start).collect();
        let head = &text[..starts.first().copied().unwrap_or(text.len())];
        let shared = declared(head)?;
        let target = target(head).unwrap_or(0);
        let mut entries = Vec::with_capacity(starts.len());
        for (index, &start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(text.len());
            let entry = entry(&text, start, end).map_err(|error| {
                let line = line_of(&text, start);
                format!("{name}:{line}: {error}")
            })?;
            entries.push(entry);
        }
        let sources = text
            .match_indices("\n\t.file")
            .filter_map(|(at, _)| source(&text[at + 1..]))
            .collect();
        Ok(Self {
            name,
            text,
            target,
            entries,
            shared,
            sources,
        })
    }

    /// The kernel of this symbol.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The kernel's variables in shared memory: those of the file, then its own.
    pub fn shared(&self, entry: &Entry) -> Result<Vec<Variable>, String> {
        let own = declared(&self.text[entry.body..entry.end])?;
        Ok([&self.shared[..], &own].concat())
    }

    /// Reads the kernel's body.
    pub fn body(&self, entry: &Entry) -> Result<Body<'_>, String> {
        let lexer = Lexer::new(&self.text[entry.body..entry.end], line_of(&self.text, entry.body));
        Body::read(lexer).map_err(|(line, error)| format!("{}:{line}: {error}", self.name))
    }

    /// The path of a source file by its number.
    pub fn source(&self, number: u32) -> Option<&str> {
        self.sources.get(&number).map(String::as_str)
    }
}

/// `.target sm_90a`
fn target(head: &str) -> Option<u32> {
    let (_, rest) = head.split_once(".target sm_")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn line_of(text: &str, at: usize) -> u32 {
    text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() as u32 + 1
}

/// Reads from `.entry` to the brace that opens the body.
fn entry(text: &str, start: usize, end: usize) -> Result<Entry, String> {
    let mut lexer = Lexer::new(&text[start..end], 1);
    lexer.word()?;
    let name = lexer.word()?.to_owned();
    let mut parameters = Vec::new();
    let mut max_threads = None;
    if lexer.take('(') {
        while !lexer.take(')') {
            lexer.take(',');
            parameters.push(variable(&mut lexer)?);
        }
    }
    loop {
        match lexer.next() {
            Some(Token::Mark('{')) => break,
            Some(Token::Word(".maxntid" | ".reqntid")) => max_threads = Some(product(&mut lexer)?),
            Some(Token::Word(_)) | Some(Token::Mark(',')) => {}
            other => return Err(format!("expected the body of {name}, got {}", shown(other))),
        }
    }
    let body = end - lexer.remaining();
    Ok(Entry {
        name,
        parameters,
        max_threads,
        body,
        end,
    })
}

/// `128, 1, 1`, of which trailing ones may be missing.
fn product(lexer: &mut Lexer<'_>) -> Result<u32, String> {
    let mut product = 1;
    loop {
        let word = lexer.word()?;
        product *= word
            .parse::<u32>()
            .map_err(|_| format!("expected a number, got `{word}`"))?;
        if !lexer.take(',') {
            return Ok(product);
        }
    }
}

/// The variables in shared memory that a text declares.
fn declared(text: &str) -> Result<Vec<Variable>, String> {
    // Instructions have `.shared` too, but no blank behind it.
    let declarations = text.match_indices(".shared .").map(|(at, _)| at);
    declarations
        .map(|at| variable(&mut Lexer::new(&text[at..], 1)))
        .collect()
}

/// `.param .align 8 .b8 name[256]` or `.shared .u32 name`.
fn variable(lexer: &mut Lexer<'_>) -> Result<Variable, String> {
    let (mut align, mut unit) = (1, 1);
    let name = loop {
        match lexer.word()? {
            ".align" => align = number(lexer)?,
            word => match word.strip_prefix('.') {
                Some(kind) => unit = type_bytes(kind).unwrap_or(unit),
                None => break word.to_owned(),
            },
        }
    };
    let mut count = 1;
    while lexer.take('[') {
        count *= if lexer.peek() == Some(Token::Mark(']')) {
            0
        } else {
            number(lexer)?
        };
        lexer.expect(']')?;
    }
    let (align, bytes) = (align.max(unit), unit * count);
    if !align.is_power_of_two() {
        return Err(format!("{name} is aligned to {align}"));
    }
    Ok(Variable { name, align, bytes })
}

fn number(lexer: &mut Lexer<'_>) -> Result<u32, String> {
    let word = lexer.word()?;
    word.parse().map_err(|_| format!("expected a number, got `{word}`"))
}

/// `\t.file\t2 "/path/file.cu"`
fn source(line: &str) -> Option<(u32, String)> {
    let line = line.lines().next()?.trim_start().strip_prefix(".file")?;
    let (number, rest) = line.trim_start().split_once(char::is_whitespace)?;
    Some((number.parse().ok()?, rest.split('"').nth(1)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
.version 9.0
.target sm_80
.extern .shared .align 1024 .b8 dynamic[];
.visible .entry first(
\t.param .align 8 .b8 first_param_0[24],
\t.param .u32 first_param_1
)
.maxntid 128, 2
.minnctapersm 1
{
\t.shared .align 4 .b8 own[16];
\tld.shared.u32 %r1, [own];
\tret;
}
.visible .entry second()
{
\tret;
}
\t.file\t1 \"/a/b.cu\"
";

    #[test]
    fn a_file_is_indexed() {
        let file = File::new("t.ptx", TEXT.to_owned()).unwrap();
        let first = file.entry("first").unwrap();
        let variable = |name: &str, align, bytes| Variable {
            name: name.to_owned(),
            align,
            bytes,
        };
        assert_eq!(
            first.parameters,
            [variable("first_param_0", 8, 24), variable("first_param_1", 4, 4)]
        );
        assert_eq!((first.max_threads, file.target), (Some(256), 80));
        assert_eq!(
            file.shared(first).unwrap(),
            [variable("dynamic", 1024, 0), variable("own", 4, 16)]
        );
        let second = file.entry("second").unwrap();
        assert_eq!((second.parameters.len(), second.max_threads), (0, None));
        assert_eq!(file.source(1), Some("/a/b.cu"));
        assert_eq!(file.body(second).unwrap().statements[0].line, 17);
    }

    #[test]
    fn a_broken_header_is_an_error_with_its_line() {
        let error = File::new("t.ptx", "\n.entry k(.param .u32 p) ;".to_owned()).unwrap_err();
        assert_eq!(error, "t.ptx:2: expected the body of k, got `;`");
    }
}
