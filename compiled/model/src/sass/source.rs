//! Where code came from, and patterns that name it.

use std::collections::HashMap;
use std::fs;

use regex::Regex;

use crate::Problem;

/// A source line, and the function around it. Both are `?` where the source cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The name of the function.
    pub function: String,
    /// The line's text, without the blanks around it.
    pub line: String,
}

/// The frames that an instruction was inlined through, the innermost first.
pub type Origin = Vec<Frame>;

/// `function`, or `function: regex of the source line`.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    function: String,
    line: Option<Regex>,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let (function, line) = match text.split_once(':') {
            Some((function, line)) => (function, Some(line.trim())),
            None => (text, None),
        };
        let line = line.map(Regex::new).transpose();
        Ok(Self {
            text: text.to_owned(),
            function: function.trim().to_owned(),
            line: line.map_err(|error| Problem::misfit(format!("the pattern `{text}`: {error}")))?,
        })
    }

    /// The patterns of a list.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, Problem> {
        texts.iter().map(|text| Self::parse(text)).collect()
    }

    /// Whether some frame of `origin` fits.
    pub fn fits(&self, origin: &Origin) -> bool {
        origin.iter().any(|frame| {
            frame.function == self.function && self.line.as_ref().is_none_or(|line| line.is_match(&frame.line))
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Gives the text of a file.
type Read<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The sources that listings name, each read once.
pub struct Sources<'a> {
    read: Box<Read<'a>>,
    files: HashMap<String, Source>,
    definition: Regex,
    bounds: Regex,
}

#[derive(Default)]
struct Source {
    lines: Vec<String>,
    /// For each line, the function around it.
    functions: Vec<String>,
}

impl<'a> Sources<'a> {
    /// Sources as they are on disk.
    pub fn on_disk() -> Self {
        Self::read_by(|path| {
            fs::read(path)
                .ok()
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        })
    }

    /// Sources that `read` gives for a path.
    pub fn read_by(read: impl Fn(&str) -> Option<String> + 'a) -> Self {
        let regex = |text: &str| Regex::new(text).expect("constant expressions are valid");
        Self {
            read: Box::new(read),
            files: HashMap::new(),
            definition: regex(r"^[^/]*\b(?:DEVICE|__device__|__global__)\b[^;(]*?\b(\w+)\s*\("),
            bounds: regex(r"__launch_bounds__\([^)]*\)"),
        }
    }

    /// What stands at a line, counted from 1.
    pub fn frame(&mut self, path: &str, line: usize) -> Frame {
        if !self.files.contains_key(path) {
            let source = self.load(path);
            self.files.insert(path.to_owned(), source);
        }
        let source = &self.files[path];
        let index = line.wrapping_sub(1);
        let unknown = || "?".to_owned();
        Frame {
            function: source.functions.get(index).cloned().unwrap_or_else(unknown),
            line: source
                .lines
                .get(index)
                .map_or_else(unknown, |line| line.trim().to_owned()),
        }
    }

    fn load(&self, path: &str) -> Source {
        let text = (self.read)(path).unwrap_or_default();
        let mut source = Source::default();
        let mut function = String::new();
        for line in text.lines() {
            let definition = self.bounds.replace_all(line, "");
            if let Some(found) = self.definition.captures(&definition) {
                function = found[1].to_owned();
            }
            source.functions.push(function.clone());
            source.lines.push(line.to_owned());
        }
        source
    }
}
