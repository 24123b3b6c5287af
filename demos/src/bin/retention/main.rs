//! Reads a long prompt with a cache of a fixed size: what it keeps is chosen by scores, chunk by chunk, as Locret does.
//!
//! ```text
//! cargo run --release -p demos --bin retention
//! cargo run --release -p demos --bin retention -- --tokens 1048576 --svg retention.svg
//! ```
//!
//! There is no model: keys and values are signs made of a token's number (`prompt.rs`), and a needle of eight tokens has keys that the question's
//! queries look for. Each chunk goes through `append_keys`, `choose_tokens` and `compact_keys` (`cache.rs`); at the end the question attends to what
//! is left. Scores are given, as by a retaining head: that of the first kv head has learnt to see the needle, that of the second has not. With
//! `--by question` they are those of `score_keys` instead, by which both heads see it.

mod cache;
mod check;
mod picture;
mod prompt;
mod report;

use cache::Cache;
use clap::{Parser, ValueEnum};
use demos::Failure;
use demos::progress::Progress;
use picture::History;
use prompt::{HEADS, Prompt};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Reads a long prompt with a cache of a fixed size, and says what it has kept.
#[derive(Parser)]
#[command(name = "retention")]
struct Options {
    /// Tokens of the prompt
    #[arg(long, default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    tokens: u32,

    /// Tokens that are kept of each kv head
    #[arg(long, default_value_t = 6000, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    budget: u32,

    /// Tokens that are read at a time
    #[arg(long, default_value_t = 3072, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    chunk: u32,

    /// The last tokens read, which stay until the next choice
    #[arg(long, default_value_t = 2500)]
    stabilizers: u32,

    /// Tokens of the question, the last ones of the prompt, which are never dropped
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1024))]
    local: u32,

    /// How deep the needle is hidden: 0 is the start of the prompt, 1 its end
    #[arg(long, default_value_t = 0.37, value_parser = parse_share)]
    depth: f64,

    /// What the first head's scores of the needle are, where those of other tokens are 0 to 1
    #[arg(long, default_value_t = 2.0)]
    needle_score: f32,

    /// Where scores come from
    #[arg(long, value_enum, default_value_t = Scorer::Given)]
    by: Scorer,

    /// A picture of what was kept, after every chunk
    #[arg(long)]
    svg: Option<PathBuf>,

    /// Compares what is kept with a naive choice, and outputs with attention in f64; of a small prompt, if no other is asked for
    #[arg(long)]
    check: bool,
}

/// Where scores come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scorer {
    /// Of each token once, as it is read.
    Given,
    /// Of all tokens in the cache, after every chunk: their products with the question.
    Question,
}

/// What is read, and how.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    tokens: usize,
    budget: usize,
    chunk: usize,
    stabilizers: usize,
    local: usize,
    by: Scorer,
}

/// The small prompt of a check.
const SMALL: Schedule = Schedule {
    tokens: 16_384,
    budget: 1500,
    chunk: 768,
    stabilizers: 600,
    local: 64,
    by: Scorer::Given,
};

fn main() -> ExitCode {
    demos::main(run)
}

fn parse_share(argument: &str) -> Result<f64, String> {
    match argument.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

impl Options {
    fn schedule(&self) -> Result<Schedule, Failure> {
        let schedule = Schedule {
            tokens: self.tokens as usize,
            budget: self.budget as usize,
            chunk: self.chunk as usize,
            stabilizers: self.stabilizers as usize,
            local: self.local as usize,
            by: self.by,
        };
        // Options that nobody has changed are those of a small prompt.
        let is_default = |name: &str, number: usize| Options::default_of(name) == Some(number);
        let is_plain = is_default("tokens", schedule.tokens)
            && is_default("budget", schedule.budget)
            && is_default("chunk", schedule.chunk)
            && is_default("stabilizers", schedule.stabilizers)
            && is_default("local", schedule.local);
        if self.check && is_plain {
            return Ok(Schedule { by: self.by, ..SMALL });
        }
        if schedule.stabilizers > schedule.budget {
            let why = format!(
                "--stabilizers {} are more than the --budget of {}",
                schedule.stabilizers, schedule.budget
            );
            return Err(Failure::Options(why));
        }
        Ok(schedule)
    }

    /// The number that an option is without being given.
    fn default_of(name: &str) -> Option<usize> {
        let command = <Options as clap::CommandFactory>::command();
        let argument = command.get_arguments().find(|argument| argument.get_id() == name)?;
        argument.get_default_values().first()?.to_str()?.parse().ok()
    }
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let schedule = options.schedule()?;
    let prompt = Prompt::new(&schedule, options.depth, options.needle_score);
    let out = &mut io::stdout();
    report::task(out, &schedule, &prompt)?;

    let mut cache = Cache::new(&schedule)?;
    let mut history = History::new(&schedule);
    let progress = Progress::patient(
        schedule.tokens,
        "reading    {bar:40} {human_pos}/{human_len} tokens, {eta} left",
    );
    let mut resident = Vec::new();
    for tokens in schedule.chunks() {
        cache.read(&prompt, tokens.clone())?;
        history.add(&cache.positions);
        resident.push(report::resident());
        progress.advance(tokens.len());
    }
    let outputs = cache.ask(&prompt)?;
    progress.finish();

    let found = [0, 1].map(|head: usize| prompt.found(&outputs, head));
    report::result(out, &prompt, &cache, &history, &found, &resident)?;
    report::costs(out, &cache.take_costs())?;
    if let Some(path) = &options.svg {
        let picture = history.svg(&schedule, &prompt.needle);
        std::fs::write(path, picture)
            .map_err(|error| Failure::Options(format!("cannot write {}: {error}", path.display())))?;
        report::line(out, "picture", &path.display().to_string())?;
    }
    if !options.check {
        return Ok(ExitCode::SUCCESS);
    }
    let verdict = check::all(&schedule, &prompt, &cache, &outputs, &resident);
    report::line(
        out,
        "check",
        verdict.as_ref().map_or_else(|wrong| wrong.as_str(), |()| "passed"),
    )?;
    Ok(ExitCode::from(u8::from(verdict.is_err())))
}

impl Schedule {
    /// Tokens before the question.
    fn context(&self) -> usize {
        self.tokens.saturating_sub(self.local)
    }

    fn chunks(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (end, chunk) = (self.context(), self.chunk);
        (0..end).step_by(chunk).map(move |start| start..end.min(start + chunk))
    }

    /// Tokens at the end of the cache that stay whatever their score, once those before `end` are read: none when all are.
    fn forced(&self, end: usize) -> usize {
        if end == self.context() { 0 } else { self.stabilizers }
    }

    /// Rows of the cache: what is kept, and what comes next.
    fn capacity(&self) -> usize {
        self.budget + self.chunk.max(self.local)
    }
}

/// Of each head something.
type OfHeads<T> = [T; HEADS];
