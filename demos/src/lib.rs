//! Programs that show what sala-kernels does, and what they share.
//!
//! | program | what it does |
//! |---|---|
//! | `replay` | runs recorded calls and judges the results |
//! | `needle` | hides a sentence in a long text and lets sparse attention find it again |
//! | `sala_layers` | runs one sparse and one linear layer of a hybrid model and says what they cost |
//! | `serve` | an inference engine in miniature: batches, pages, shared prefixes, forks, drafts |
//!
//! `cargo run --release -p demos --bin <program> -- --help` describes the options of each.

pub mod array;
pub mod meter;
pub mod progress;

use clap::Parser;
use std::io;
use std::process::ExitCode;

/// Why a program ends early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was asked for cannot be done.
    #[error("{0}")]
    Options(String),
    /// A device or an operation says why not.
    #[error(transparent)]
    Kernels(#[from] sala_kernels::Error),
    /// Standard output is closed, or its disk is full.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

/// The `main` of every program: reads the options and runs it. The exit status is what `run` gives, or 2 after one complaint on stderr.
pub fn main<Options: Parser>(run: impl FnOnce(&Options) -> Result<ExitCode, Failure>) -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        // A reader that has seen enough, such as `head`, closes the pipe.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}: {failure}", Options::command().get_name());
            ExitCode::from(2)
        }
    }
}
