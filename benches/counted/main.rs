//! What every kernel costs on a fixed list of shapes, counted by the executor: the same numbers on every machine.
//!
//! ```text
//! cargo bench --bench counted                     # a table
//! cargo bench --bench counted -- --json           # one JSON object a line
//! cargo bench --bench counted -- sparse           # only kernels with that in their name
//! ```
//!
//! Beside each count stands its ratio to the floor (`floors.rs`): 1 is the least that a kernel can do with. Distinct
//! bytes are addresses, which a state that is updated in place touches for reading and for writing: there the least is a half.

mod case;
mod floors;
mod linear;
mod sparse;

use case::Case;
use clap::Parser;
use sala_kernels::{Counters, Result};
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;

/// Counts what every kernel costs on a fixed list of shapes.
#[derive(Parser)]
#[command(name = "counted")]
struct Options {
    /// Count only kernels with this in their name
    filter: Option<String>,

    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,

    /// What `cargo bench` passes; of no effect
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("counted: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> std::result::Result<(), String> {
    let mut cases = cases().map_err(|error| error.to_string())?;
    let names: Vec<&str> = cases.iter().map(|case| case.kernel).collect();
    if let Some(filter) = &options.filter {
        if !names.iter().any(|name| name.contains(filter)) {
            return Err(format!(
                "no kernel has {filter:?} in its name; there are: {}",
                distinct(&names)
            ));
        }
        cases.retain(|case| case.kernel.contains(filter));
    }
    let mut out = io::stdout().lock();
    let mut last_kernel = "";
    for case in cases {
        let kernel = case.kernel;
        let line = Line::count(case).map_err(|error| error.to_string())?;
        let text = match options.json {
            true => serde_json::to_string(&line).map_err(|error| error.to_string())?,
            false if kernel == last_kernel => line.row(),
            false => format!(
                "{}{}\n{}",
                if last_kernel.is_empty() { "" } else { "\n" },
                heading(kernel),
                line.row()
            ),
        };
        last_kernel = kernel;
        if let Err(error) = writeln!(out, "{text}") {
            // A reader that has seen enough, such as `head`, closes the pipe.
            return if error.kind() == io::ErrorKind::BrokenPipe {
                Ok(())
            } else {
                Err(error.to_string())
            };
        }
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>> {
    let mut cases = linear::cases()?;
    cases.extend(sparse::cases()?);
    Ok(cases)
}

/// Names in order, each once, with commas between.
fn distinct(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.dedup();
    names.join(", ")
}

/// One launch, its counts and its floor.
#[derive(Serialize)]
struct Line {
    kernel: &'static str,
    shape: String,
    /// Of tensor cores, padding and repeated work included.
    flops_issued: u64,
    flops_useful: u64,
    exp: u64,
    /// Of global memory, by loads, asynchronous copies and stores.
    bytes_requested: u64,
    bytes_distinct: u64,
    bytes_floor: u64,
    /// Passes over the banks of shared memory, and how many they would be without conflicts.
    wavefronts: u64,
    wavefronts_ideal: u64,
    workspace: u64,
}

impl Line {
    fn count(case: Case) -> Result<Line> {
        let counters: Counters = (case.run)()?;
        Ok(Line {
            kernel: case.kernel,
            shape: case.shape,
            flops_issued: counters.tensor_flops,
            flops_useful: case.floor.flops,
            exp: counters.exponentials,
            bytes_requested: counters.global_bytes_read + counters.global_bytes_written,
            bytes_distinct: counters.global_bytes_distinct,
            bytes_floor: case.floor.bytes,
            wavefronts: counters.shared_wavefronts,
            wavefronts_ideal: counters.shared_wavefronts_ideal,
            workspace: case.workspace as u64,
        })
    }

    /// The line of a table.
    fn row(&self) -> String {
        format!(
            "  {:<84}{:>11}{:>7}{:>11}{:>12}{:>7}{:>12}{:>7}{:>12}{:>7}{:>10}",
            self.shape,
            scaled(self.flops_issued),
            ratio(self.flops_issued, self.flops_useful),
            scaled(self.exp),
            scaled(self.bytes_requested),
            ratio(self.bytes_requested, self.bytes_floor),
            scaled(self.bytes_distinct),
            ratio(self.bytes_distinct, self.bytes_floor),
            scaled(self.wavefronts),
            ratio(self.wavefronts, self.wavefronts_ideal),
            scaled(self.workspace),
        )
    }
}

/// The head of a kernel's table; "x" is the ratio to the floor of the number before it.
fn heading(kernel: &str) -> String {
    format!(
        "{kernel:<86}{:>11}{:>7}{:>11}{:>12}{:>7}{:>12}{:>7}{:>12}{:>7}{:>10}",
        "FLOPs", "x", "exp", "requested B", "x", "distinct B", "x", "wavefronts", "x", "workspace"
    )
}

/// A ratio of two counts; nothing where either is zero.
fn ratio(count: u64, floor: u64) -> String {
    match (count, floor) {
        (0, _) | (_, 0) => "-".to_owned(),
        _ => format!("{:.2}", count as f64 / floor as f64),
    }
}

/// Three digits or so and a decimal prefix.
fn scaled(count: u64) -> String {
    let number = count as f64;
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.into_iter().find(|(size, _)| number >= *size) {
        Some((size, prefix)) => format!("{:.2} {prefix}", number / size),
        None => count.to_string(),
    }
}
