//! Replays recorded calls: runs each operation, judges the result, and says how it went, one line per file.
//!
//! ```text
//! cargo run --release -p demos --bin replay -- [--device host|cuda|reference] [--out DIR] [FILE...]
//! ```
//!
//! A file is a safetensors file with one call (`sala_testkit::replay` describes it). Without files the vectors in `tests/data` run. The exit
//! status is 0 if every result is within tolerance, 1 if one is not, and 2 if a file cannot be used; the others still run.

mod target;

use clap::Parser;
use demos::Failure;
use demos::progress::Progress;
use sala_testkit::replay::{Replay, Unusable, vector_files};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use target::{Attempt, DeviceKind, Target};

/// Replays recorded calls and judges the results.
#[derive(Parser)]
#[command(name = "replay")]
struct Arguments {
    /// Where to run: the kernels on the CPU, the kernels on a GPU, or the f64 reference.
    #[arg(long, value_enum, default_value = "host")]
    device: DeviceKind,
    /// Write the results of each file to a file of that name in DIR.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replay files; without any, the vectors of the test suite.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// How many files went which way.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    unusable: usize,
}

impl Tally {
    fn exit_code(&self) -> ExitCode {
        match (self.unusable, self.failed) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }
}

fn main() -> ExitCode {
    demos::main(run)
}

/// Replays all files; an error is one that stops before the first.
fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let target = Target::open(arguments.device)?;
    let files = match arguments.files.as_slice() {
        [] => vector_files().map_err(|error| Failure::Options(error.to_string()))?,
        files => files.to_vec(),
    };
    if let Some(folder) = &arguments.out {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::Options(format!("{}: cannot be made: {error}", folder.display())))?;
    }

    let mut tally = Tally::default();
    let progress = Progress::patient(files.len(), "{bar:30} {pos}/{len} files, {elapsed}");
    for file in &files {
        match replay(&target, file, arguments.out.as_deref()) {
            Ok(line) => {
                match line.verdict {
                    Verdict::Passed => tally.passed += 1,
                    Verdict::Failed(_) => tally.failed += 1,
                    Verdict::NotSupported(_) => {}
                }
                progress.interrupt(|| writeln!(io::stdout(), "{line}"))?;
            }
            Err(unusable) => {
                tally.unusable += 1;
                progress.interrupt(|| eprintln!("{unusable}"));
            }
        }
        progress.advance(1);
    }
    progress.finish();
    writeln!(io::stdout(), "{} passed, {} failed", tally.passed, tally.failed)?;
    Ok(tally.exit_code())
}

/// Replays one file.
fn replay(target: &Target, file: &Path, out: Option<&Path>) -> Result<Line, Unusable> {
    let replay = Replay::load(file)?;
    let mut line = Line {
        file: file_name(file),
        operation: replay.operation(),
        shape: replay.shape(),
        device: target.name().to_string(),
        errors: None,
        verdict: Verdict::Passed,
    };
    match target.attempt(&replay)? {
        Attempt::Ran { results, seconds } => {
            let judgement = replay.judge(&results);
            line.errors = Some(Errors {
                seconds,
                max_abs: judgement.max_abs,
                relative: judgement.relative,
                selection: judgement.selection,
            });
            if let Some(folder) = out {
                replay.write(
                    &results,
                    &folder.join(Path::new(&file_name(file)).with_extension("safetensors")),
                )?;
            }
            if let Some(failure) = judgement.failure {
                line.verdict = Verdict::Failed(failure);
            }
        }
        Attempt::NotSupported(why) => line.verdict = Verdict::NotSupported(why),
        Attempt::Broke(report) => line.verdict = Verdict::Failed(report),
    }
    Ok(line)
}

fn file_name(file: &Path) -> String {
    file.file_name()
        .unwrap_or(file.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// What is said of one file.
struct Line {
    file: String,
    operation: &'static str,
    shape: String,
    device: String,
    errors: Option<Errors>,
    verdict: Verdict,
}

/// The numbers of a run.
struct Errors {
    seconds: f64,
    max_abs: f64,
    relative: f64,
    /// Lists of blocks that are exactly those expected, and lists. The others differ by near ties, or the verdict says more.
    selection: Option<(usize, usize)>,
}

enum Verdict {
    Passed,
    Failed(String),
    NotSupported(String),
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Line {
            file,
            operation,
            shape,
            device,
            ..
        } = self;
        write!(f, "{file}: {operation} {shape} on {device}: ")?;
        if let Some(Errors {
            seconds,
            max_abs,
            relative,
            selection,
        }) = self.errors
        {
            let milliseconds = seconds * 1e3;
            write!(
                f,
                "{milliseconds:.1} ms, max abs error {max_abs:.2e}, relative error {relative:.2e}, "
            )?;
            if let Some((same, lists)) = selection {
                write!(f, "{same} of {lists} selections equal, ")?;
            }
        }
        match &self.verdict {
            Verdict::Passed => write!(f, "passed"),
            Verdict::Failed(why) => write!(f, "FAILED: {why}"),
            Verdict::NotSupported(why) => write!(f, "not yet supported: {why}"),
        }
    }
}
