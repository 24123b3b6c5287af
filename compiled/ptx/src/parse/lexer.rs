//! Words, numbers and punctuation.

/// A piece of PTX text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'t> {
    /// A name, an opcode with its modifiers, a directive or a number.
    Word(&'t str),
    /// Anything else that is not blank.
    Mark(char),
}

/// Reads tokens and counts lines; comments are blank.
#[derive(Clone)]
pub struct Lexer<'t> {
    rest: &'t str,
    /// The line of the next token, counted from 1.
    pub line: u32,
}

impl<'t> Lexer<'t> {
    /// `line`: the number of the text's first line.
    pub fn new(text: &'t str, line: u32) -> Self {
        Self { rest: text, line }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn pass(&mut self, bytes: usize) -> &'t str {
        let (passed, rest) = self.rest.split_at(bytes);
        self.line += passed.bytes().filter(|&byte| byte == b'\n').count() as u32;
        self.rest = rest;
        passed
    }

    fn skip_blank(&mut self) {
        loop {
            let blank = self.rest.len() - self.rest.trim_ascii_start().len();
            self.pass(blank);
            if self.rest.starts_with("//") {
                self.rest_of_line();
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").map_or(self.rest.len(), |end| end + 2);
                self.pass(end);
            } else {
                return;
            }
        }
    }

    /// What is left of the line, without its end.
    pub fn rest_of_line(&mut self) -> &'t str {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        self.pass(end)
    }

    /// The next token, which stays where it is.
    pub fn peek(&mut self) -> Option<Token<'t>> {
        self.skip_blank();
        let length = word_length(self.rest.as_bytes());
        match length {
            0 => self.rest.chars().next().map(Token::Mark),
            _ => Some(Token::Word(&self.rest[..length])),
        }
    }

    /// Takes the next token.
    pub fn next(&mut self) -> Option<Token<'t>> {
        let token = self.peek()?;
        self.pass(match token {
            Token::Word(word) => word.len(),
            Token::Mark(mark) => mark.len_utf8(),
        });
        Some(token)
    }

    /// Takes the next token if it is this mark.
    pub fn take(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(Token::Mark(mark));
        if found {
            self.next();
        }
        found
    }

    /// Takes a word.
    pub fn word(&mut self) -> Result<&'t str, String> {
        match self.next() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(format!("expected a name, got {}", shown(other))),
        }
    }

    /// Takes this mark.
    pub fn expect(&mut self, mark: char) -> Result<(), String> {
        match self.next() {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            other => Err(format!("expected `{mark}`, got {}", shown(other))),
        }
    }

    /// Takes everything up to and with this mark.
    pub fn skip_past(&mut self, mark: char) {
        while let Some(token) = self.next() {
            if token == Token::Mark(mark) {
                return;
            }
        }
    }
}

/// What messages call a token.
pub fn shown(token: Option<Token<'_>>) -> String {
    match token {
        Some(Token::Word(word)) => format!("`{word}`"),
        Some(Token::Mark(mark)) => format!("`{mark}`"),
        None => "the end of the file".to_owned(),
    }
}

/// Words take `::` with them, as in `.shared::cta`, but not the colon that ends a label.
fn word_length(text: &[u8]) -> usize {
    let mut length = 0;
    loop {
        match text.get(length) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"_$%.".contains(byte) => length += 1,
            Some(b':') if length > 0 && text.get(length + 1) == Some(&b':') => length += 2,
            _ => return length,
        }
    }
}
