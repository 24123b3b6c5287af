//! An inference engine in miniature: a hybrid decoder with random weights serves requests with the kernels of this crate.
//!
//! ```text
//! cargo run --release -p demos --bin serve                              # serves some requests, and says what each operation cost
//! cargo run --release -p demos --bin serve -- --speculate tree
//! cargo run --release -p demos --bin serve -- --check                   # judges every token, with everything on
//! ```
//!
//! `docs/engine.md` walks through a step. Products of weights, sampling and scheduling run on the CPU, whatever the device.

mod check;
mod engine;
mod inputs;
mod launcher;
mod layers;
mod linear;
mod lists;
mod model;
mod naive;
mod pool;
mod runs;
mod sampler;
mod scheduler;
mod sequence;
mod sparse;
mod speculate;
mod table;
mod workload;

use clap::{Parser, ValueEnum};
use demos::Failure;
use engine::Engine;
use model::Model;
use sala_kernels::{Device, HostOptions};
use sequence::Sequence;
use speculate::Speculation;
use std::io::{self, Write};
use std::process::ExitCode;
use table::Table;
use workload::Workload;

/// Serves requests with a small hybrid decoder of random weights.
#[derive(Parser)]
#[command(name = "serve")]
struct Options {
    /// Where the kernels run
    #[arg(long, value_enum, default_value_t = Place::Host)]
    device: Place,

    /// How sequences guess ahead
    #[arg(long, value_enum, default_value_t = Speculation::Off)]
    speculate: Speculation,

    /// Judge every token by a naive decoder, and compare runs with and without everything
    #[arg(long)]
    check: bool,

    /// Fewer and shorter requests, for devices that are slow
    #[arg(long)]
    little: bool,

    /// What the weights are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    Host,
    Cuda,
}

fn main() -> ExitCode {
    demos::main(run)
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let device = match options.device {
        Place::Host => {
            let mut host = HostOptions::default();
            // As on a GPU, steps that decode are split over many of them.
            host.multiprocessors = 132;
            Device::host_with(host)
        }
        Place::Cuda => Device::cuda(0)?,
    };
    let model = Model::new(options.seed)?;
    let Workload { requests, mut settings } = if options.little {
        workload::little()
    } else {
        workload::everything()
    };
    settings.speculation = options.speculate;
    let out = &mut io::stdout();
    if options.check {
        let report = check::check(&device, &model, &requests, settings)?;
        write!(out, "{}", report.text)?;
        writeln!(
            out,
            "{}",
            if report.failures == 0 {
                "all is well"
            } else {
                "NOT all is well"
            }
        )?;
        return Ok(ExitCode::from(u8::from(report.failures > 0)));
    }
    let mut engine = Engine::new(&device, &model, settings, &requests, false)?;
    let table = Table::new();
    let answers = engine.run(|engine| table.show(engine))?;
    for answer in &answers {
        writeln!(out, "{}", line(answer))?;
    }
    write!(out, "{}", table.finish(&engine))?;
    Ok(ExitCode::SUCCESS)
}

/// What a request got, in hexadecimal: random weights write no text.
fn line(answer: &Sequence) -> String {
    let tokens = answer.tokens[answer.prompt..].iter();
    let tokens: String = tokens.map(|token| format!("{token:02x}")).collect();
    format!(
        "request {} ({} tokens), answer {}: {tokens}",
        answer.request, answer.prompt, answer.rank
    )
}
