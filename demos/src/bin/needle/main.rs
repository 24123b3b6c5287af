//! Hides a sentence in a long text and lets sparse attention find it again.
//!
//! ```text
//! cargo run --release -p demos --bin needle
//! ```
//!
//! The text is this crate's own documentation and sources. There is no model: queries and keys are hashes of words (`features.rs`), which
//! is enough for block selection to retrieve by content. The kernels are the real ones, run on the CPU from their CUDA source: the text
//! goes through `compress_keys`, `select_blocks` and `sparse_attention` in chunks, as a prompt does; then the answer to the question at
//! its end is read out word by word, as decoding does (`reader.rs`). The result is a few lines and a picture (`map.rs`).

mod features;
mod map;
mod reader;
mod report;
mod text;

use clap::Parser;
use demos::Failure;
use demos::meter::Operation;
use demos::progress::Progress;
use features::{DIM, Featuriser, GROUP, PAIR_HEAD};
use reader::{Reader, Reading, Selection};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use text::Text;

/// Tokens of a chunk of the prompt.
const CHUNK: usize = 2048;

/// How many words of the answer are read out.
const ANSWER_WORDS: usize = 4;

const NEEDLE: &str = "The old lighthouse keeper hid the brass telescope beneath the crooked blue staircase.";
const QUESTION: &str = "Where did the lighthouse keeper hide the brass telescope? The keeper hid it beneath the";

/// Hides a sentence in a long text and finds it again with block selection and sparse attention.
#[derive(Parser)]
#[command(name = "needle")]
struct Options {
    /// Tokens of the text, needle, question and answer included
    #[arg(long, default_value_t = 32768, value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    tokens: u32,

    /// How deep the needle is hidden: 0 is the start of the text, 1 its end
    #[arg(long, default_value_t = 0.37, value_parser = parse_depth)]
    depth: f64,

    /// The sentence to hide
    #[arg(long, default_value = NEEDLE)]
    needle: String,

    /// What the text ends with: the start of a sentence that the needle completes
    #[arg(long, default_value = QUESTION)]
    question: String,

    /// A text file to hide it in, instead of this crate's documentation and sources
    #[arg(long)]
    text: Option<PathBuf>,

    /// Blocks chosen by content and in all: a token reads at most so many blocks of 64 tokens
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(10..=128))]
    blocks: u32,

    /// Where the picture goes
    #[arg(long, default_value = "needle.svg")]
    map: PathBuf,
}

fn main() -> ExitCode {
    demos::main(run)
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let length = options.tokens as usize;
    let (haystack, origin) = read_haystack(options).map_err(Failure::Options)?;
    let text = Text::new(
        &haystack,
        &options.needle,
        &options.question,
        length - ANSWER_WORDS,
        options.depth,
    )
    .map_err(Failure::Options)?;
    check_writable(&options.map)?;
    let selection = Selection {
        blocks: options.blocks as usize,
        ..Selection::default()
    };
    let out = &mut io::stdout();
    report::task(out, &text, &origin, length, &selection)?;

    let found = read_text(&text, length, &selection)?;
    report::result(out, &text, &found, &selection)?;

    let picture = report::picture(&text, &found, &selection, &options.needle);
    fs::write(&options.map, picture).map_err(|error| cannot_write(&options.map, &error))?;
    writeln!(out, "map        {}", options.map.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Opens a file for writing, so that one that cannot be written is noticed before minutes of reading. What it holds stays until there is a picture.
fn check_writable(path: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Options(format!("cannot write {}: {error}", path.display()))
}

fn parse_depth(argument: &str) -> Result<f64, String> {
    match argument.parse() {
        Ok(depth) if (0.0..=1.0).contains(&depth) => Ok(depth),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

/// The text to hide in, and where it is from.
fn read_haystack(options: &Options) -> Result<(String, String), String> {
    match &options.text {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Ok((text, path.display().to_string()))
        }
        None => {
            let (text, files) =
                text::read_crate().map_err(|error| format!("cannot read the crate's own files: {error}"))?;
            Ok((text, format!("{files} files of this crate")))
        }
    }
}

/// What came out of reading a text.
struct Found {
    /// `[tokens, blocks]`: the blocks every token read, the answer's tokens included.
    lists: Vec<i32>,
    /// The answer, and how close the attention's output was to each word (1: the word itself).
    answer: Vec<(String, f32)>,
    /// What the kernels cost while the text was read.
    prompt: Vec<Operation>,
    /// Time for the answer.
    decoding: Duration,
}

/// Reads the text in chunks, then its answer token by token.
fn read_text(text: &Text, length: usize, selection: &Selection) -> sala_kernels::Result<Found> {
    let featuriser = Featuriser::new(&text.tokens);
    let mut reader = Reader::new(selection, length)?;
    let mut lists = Vec::with_capacity(length * selection.blocks);

    let progress = Progress::new(
        text.tokens.len(),
        "reading    {bar:40} {human_pos}/{human_len} tokens, {eta} left",
    );
    let mut last = Reading::default();
    for end in (CHUNK..).step_by(CHUNK).map(|end| end.min(text.tokens.len())) {
        let start = reader.length();
        last = reader.read(&featuriser.features(&text.tokens[..end], start))?;
        lists.extend(&last.lists);
        progress.advance(end - start);
        if end == text.tokens.len() {
            break;
        }
    }
    progress.finish();
    let prompt = reader.take_costs();

    let begin = Instant::now();
    let mut tokens = text.tokens.clone();
    let mut answer = Vec::new();
    for _ in 0..ANSWER_WORDS {
        let (word, cosine) = featuriser.nearest_word(&last_output(&last));
        answer.push((text.word(word).to_owned(), cosine));
        tokens.push(word);
        last = reader.read(&featuriser.features(&tokens, tokens.len() - 1))?;
        lists.extend(&last.lists);
    }
    Ok(Found {
        lists,
        answer,
        prompt,
        decoding: begin.elapsed(),
    })
}

/// What the head that looks for pairs of words gave the last token.
fn last_output(reading: &Reading) -> Vec<f32> {
    let last_token = &reading.out[reading.out.len() - GROUP * DIM..];
    last_token[PAIR_HEAD * DIM..][..DIM]
        .iter()
        .map(|x| x.to_f32())
        .collect()
}
