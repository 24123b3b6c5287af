//! Tries random calls of every operation, against the definitions and with guard zones around all memory. `docs/building.md` says how to read it.
//!
//! ```text
//! cargo run --release -p fuzz -- [--seconds N] [--seed S] [--operation NAME] [--on plain|race|cuda]
//! ```
//!
//! The calls are those that `sala_testkit` makes: this program adds none. It exits with 1 if one has failed.

mod attempt;
mod report;
mod session;
mod turn;

use clap::Parser;
use sala_testkit::operations::{Fuzzer, fuzz_all};
use sala_testkit::problem::Described;
use sala_testkit::property;
use session::Session;
use std::path::PathBuf;
use std::process::ExitCode;
use turn::Turn;

/// Tries random calls of every operation.
#[derive(Parser)]
#[command(name = "fuzz")]
struct Options {
    /// How long to try, in seconds, shared by all operations
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the calls come from [default: SALA_TEST_SEED, or the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Only operations with this in their name
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Where to run [default: everywhere by turns]
    #[arg(long, value_enum)]
    on: Vec<Turn>,
    /// Where failing calls are written
    #[arg(long, value_name = "DIR", default_value = "target/fuzz")]
    out: PathBuf,
}

/// The names of the operations that are asked for.
struct Names<'a> {
    filter: Option<&'a str>,
    found: Vec<String>,
    all: Vec<String>,
}

impl Fuzzer for Names<'_> {
    fn visit<C: Described>(&mut self, operation: &str, _: proptest::strategy::BoxedStrategy<C>) {
        if self.filter.is_none_or(|filter| operation.contains(filter)) {
            self.found.push(operation.to_owned());
        }
        self.all.push(operation.to_owned());
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut names = Names {
        filter: options.operation.as_deref(),
        found: Vec::new(),
        all: Vec::new(),
    };
    fuzz_all(&mut names);
    if names.found.is_empty() {
        eprintln!("fuzz: no operation of that name; there are: {}", names.all.join(", "));
        return ExitCode::from(2);
    }
    if let Err(error) = std::fs::create_dir_all(&options.out) {
        eprintln!("fuzz: {}: {error}", options.out.display());
        return ExitCode::from(2);
    }
    let turns = turn::open(&options.on);
    if turns.is_empty() {
        eprintln!("fuzz: there is nothing to run on");
        return ExitCode::from(2);
    }
    let seed = options.seed.unwrap_or_else(property::seed);
    println!("--seed {seed}");
    let mut session = Session::new(names.found, turns, seed, options.seconds, options.out);
    fuzz_all(&mut session);
    session.forget();
    match session.failures() {
        0 => ExitCode::SUCCESS,
        failures => {
            println!("{failures} failed");
            ExitCode::FAILURE
        }
    }
}
