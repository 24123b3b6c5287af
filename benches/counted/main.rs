//! What every kernel costs on a fixed list of shapes, counted by the executor: the same numbers on every machine.
//!
//! ```text
//! cargo bench --bench counted                     # a table
//! cargo bench --bench counted -- --json           # one JSON object per line
//! cargo bench --bench counted -- sparse           # only kernels with that in their name
//! ```
//!
//! `benches/cases` says how to read the shapes.
//!
//! An `x` is the ratio of the count before it to the floor (`sala_testkit::floors`): 1 is the least that a kernel can do with. Distinct
//! bytes are addresses, which a state that is updated in place touches for reading and for writing: there the least is a half. Passes are those
//! over the banks of shared memory; their floor has no conflicts.

mod case;
#[path = "../cases/mod.rs"]
mod cases;

use case::{Case, Cases, Line};
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

/// Counts what every kernel costs on a fixed list of shapes.
#[derive(Parser)]
#[command(name = "counted")]
struct Options {
    /// Count only kernels with this in their name
    filter: Option<String>,

    /// Print one JSON object per line instead of a table
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

fn run(options: &Options) -> Result<(), String> {
    let mut cases = Cases::default();
    cases::visit_all(&mut cases);
    let mut cases = cases.0;
    if let Some(filter) = &options.filter {
        let names = distinct(&cases);
        cases.retain(|case| case.kernel.contains(filter));
        if cases.is_empty() {
            return Err(format!("no kernel has {filter:?} in its name; there are: {names}"));
        }
    }
    let mut out = io::stdout().lock();
    let mut last_kernel = "";
    for case in cases {
        let kernel = case.kernel;
        let line = (case.count)().map_err(|error| error.to_string())?;
        let text = match options.json {
            true => serde_json::to_string(&line).map_err(|error| error.to_string())?,
            false if kernel == last_kernel => row(&line),
            false => {
                let gap = if last_kernel.is_empty() { "" } else { "\n" };
                format!("{gap}{}\n{}", heading(kernel), row(&line))
            }
        };
        last_kernel = kernel;
        if let Err(error) = writeln!(out, "{text}") {
            // A reader that has seen enough, such as `head`, closes the pipe.
            return match error.kind() {
                io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(error.to_string()),
            };
        }
    }
    Ok(())
}

/// Names of kernels in order, each once, with commas between.
fn distinct(cases: &[Case]) -> String {
    let mut names: Vec<&str> = cases.iter().map(|case| case.kernel).collect();
    names.dedup();
    names.join(", ")
}

/// The head of a kernel's table.
fn heading(kernel: &str) -> String {
    let columns = ["FLOPs", "exp", "bytes", "distinct", "passes", "workspace"];
    let [flops, exp, bytes, distinct, passes, workspace] = columns;
    format!(
        "{kernel:<47}{flops:>7}{:>6}{exp:>7}{bytes:>7}{:>6}{distinct:>9}{:>6}{passes:>7}{:>6}{workspace:>10}",
        "x", "x", "x", "x"
    )
}

fn row(line: &Line) -> String {
    // A shape that is too long for its column has a line of its own.
    let shape = match line.shape.chars().count() {
        ..=45 => format!("  {:<45}", line.shape),
        _ => format!("  {}\n{:47}", line.shape, ""),
    };
    format!(
        "{shape}{:>7}{:>6}{:>7}{:>7}{:>6}{:>9}{:>6}{:>7}{:>6}{:>10}",
        scaled(line.flops_issued),
        ratio(line.flops_issued, line.flops_useful),
        scaled(line.exp),
        scaled(line.bytes_requested),
        ratio(line.bytes_requested, line.bytes_floor),
        scaled(line.bytes_distinct),
        ratio(line.bytes_distinct, line.bytes_floor),
        scaled(line.wavefronts),
        ratio(line.wavefronts, line.wavefronts_ideal),
        scaled(line.workspace),
    )
}

/// A ratio of two counts; nothing where either is zero.
fn ratio(count: u64, floor: u64) -> String {
    match (count, floor) {
        (0, _) | (_, 0) => "-".to_owned(),
        _ => format!("{:.2}", count as f64 / floor as f64),
    }
}

/// Three digits and a decimal prefix.
fn scaled(count: u64) -> String {
    let number = count as f64;
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.into_iter().find(|(size, _)| number >= *size) {
        Some((size, prefix)) => {
            let number = number / size;
            let decimals = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
            format!("{number:.decimals$} {prefix}")
        }
        None => count.to_string(),
    }
}
