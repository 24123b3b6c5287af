//! The long text: the crate's own documentation and sources, cut into tokens, with a sentence hidden in it and a question at its end.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where the crate keeps what a person wrote, in reading order.
const FOLDERS: [&str; 8] = [
    "README.md",
    "docs",
    "src",
    "include",
    "cuda",
    "tests",
    "benches",
    "testkit",
];

/// Kinds of files that hold text.
const EXTENSIONS: [&str; 6] = ["md", "rs", "cu", "cuh", "h", "cpp"];

/// Written by a machine: long lists of the same few words.
const GENERATED: &str = "src/sys";

/// A line with fewer tokens may come again, such as a closing brace; a longer one is kept once.
const SHORTEST_REPEAT: usize = 4;

/// A text as attention sees it.
pub struct Text {
    /// Indices into `words`.
    pub tokens: Vec<u32>,
    /// The vocabulary, in order of first appearance.
    pub words: Vec<String>,
    /// Where the hidden sentence stands.
    pub needle: Range<usize>,
    /// Where the question stands: at the end.
    pub question: Range<usize>,
}

impl Text {
    /// `length` tokens of `haystack`, with `needle` hidden between two of its lines about `depth` (0 to 1) of the way in, and
    /// `question` at the end.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn new(haystack: &str, needle: &str, question: &str, length: usize, depth: f64) -> Result<Text, String> {
        let needle_words = split(needle);
        let question_words = split(question);
        if needle_words.is_empty() || question_words.is_empty() {
            return Err("the needle and the question need at least one word each".into());
        }
        let added = needle_words.len() + question_words.len();
        let room = length.checked_sub(added).ok_or_else(|| {
            format!("the needle and the question are {added} tokens, more than --tokens leaves room for")
        })?;

        let lines = distinct_lines(haystack, &needle_words);
        let available: usize = lines.iter().map(Vec::len).sum();
        if available < room {
            return Err(format!(
                "the text has {available} tokens, and {room} are needed: ask for fewer --tokens or give a longer --text"
            ));
        }
        let hidden_at = line_start(&lines, (depth * room as f64) as usize).min(room);
        let mut words: Vec<String> = lines.into_iter().flatten().take(room).collect();
        let needle = hidden_at..hidden_at + needle_words.len();
        words.splice(hidden_at..hidden_at, needle_words);
        words.extend(question_words);
        let question = length - (added - needle.len())..length;
        let (tokens, words) = number(words);
        Ok(Text {
            tokens,
            words,
            needle,
            question,
        })
    }

    /// The word that a token stands for.
    pub fn word(&self, token: u32) -> &str {
        &self.words[token as usize]
    }
}

/// The crate's text files, one after the other, and how many they are.
pub fn read_crate() -> io::Result<(String, usize)> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect_files(&root.join(folder), &mut files)?;
    }
    files.retain(|file| !file.starts_with(root.join(GENERATED)));
    let mut text = String::new();
    for file in &files {
        text.push_str(&fs::read_to_string(file)?);
        text.push('\n');
    }
    Ok((text, files.len()))
}

/// Adds `path` if it is a text file, and the text files below it, by name.
fn collect_files(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        entries.sort();
        for entry in entries {
            collect_files(&entry, files)?;
        }
    } else if path
        .extension()
        .is_some_and(|extension| EXTENSIONS.iter().any(|&known| extension == known))
        && path.is_file()
    {
        files.push(path.to_owned());
    }
    Ok(())
}

/// The lines of a text as words. A line that came before is left out, and so is one that has the needle's words in a row: it would
/// be a second needle.
fn distinct_lines(text: &str, needle: &[String]) -> Vec<Vec<String>> {
    let mut seen = HashSet::new();
    let is_new = |line: &Vec<String>| line.len() < SHORTEST_REPEAT || seen.insert(line.clone());
    let has_needle = |line: &Vec<String>| line.windows(needle.len()).any(|words| words == needle);
    text.lines()
        .map(split)
        .filter(|line| !has_needle(line))
        .filter(is_new)
        .collect()
}

/// The first token of the first line that starts at or after `token`.
fn line_start(lines: &[Vec<String>], token: usize) -> usize {
    let mut start = 0;
    for line in lines {
        if start >= token {
            break;
        }
        start += line.len();
    }
    start
}

/// Numbers words in order of first appearance.
fn number(words: Vec<String>) -> (Vec<u32>, Vec<String>) {
    let mut numbers = HashMap::new();
    let mut vocabulary = Vec::new();
    let tokens = words.into_iter().map(|word| {
        *numbers.entry(word).or_insert_with_key(|word| {
            vocabulary.push(word.clone());
            vocabulary.len() as u32 - 1
        })
    });
    let tokens = tokens.collect();
    (tokens, vocabulary)
}

/// Cuts a text into tokens: words in lower case (a name such as `DecodeArgs` or `decode_args` is two), numbers, and runs of one
/// punctuation mark.
pub fn split(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut previous = ' ';
    for c in text.chars() {
        let joins = match c {
            _ if c.is_alphabetic() => previous.is_alphabetic() && !(previous.is_lowercase() && c.is_uppercase()),
            _ if c.is_numeric() => previous.is_numeric(),
            _ => previous == c,
        };
        previous = c;
        if c.is_whitespace() || c == '_' {
            continue;
        }
        if !joins {
            tokens.push(String::new());
        }
        if let Some(token) = tokens.last_mut() {
            token.extend(c.to_lowercase());
        }
    }
    tokens
}
