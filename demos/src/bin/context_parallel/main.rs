//! One prompt over several ranks: exact attention, APB, Spava, and linear attention.
//!
//! ```text
//! cargo run --release -p demos --bin context_parallel -- --check
//! cargo run --release -p demos --features nccl --bin context_parallel -- --nccl --ranks 8 --tokens 131072
//! ```
//!
//! Ranks are threads. On the CPU they exchange through memory and their FLOPs are counted; with `--nccl` each has a GPU. There are no weights:
//! queries, keys and values are random. docs/parallel.md says which mode is for what.

mod check;
mod choice;
mod exact;
mod layout;
mod linear;
mod passing;
mod prompt;
mod rank;
mod reference;
mod report;

use clap::{Parser, ValueEnum};
use demos::Failure;
use demos::exchange::{Communicator, Exchange, threads};
use layout::Layout;
use passing::{Method, Passing};
use prompt::Prompt;
use rank::{Cost, Rank};
use sala_kernels::Device;
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs attention over a prompt whose parts are on several ranks.
#[derive(Parser)]
#[command(name = "context_parallel")]
struct Options {
    /// How many ranks there are
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=8))]
    ranks: u32,

    /// Tokens of the prompt, a multiple of 128 for each rank
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    tokens: u32,

    /// What is run; all of it without
    #[arg(long, value_enum)]
    mode: Option<Mode>,

    /// Where the parts of exact attention and linear layers are; Spava has its own, and so has APB
    #[arg(long, value_enum, default_value_t = Parts::Zigzag)]
    layout: Parts,

    /// Tokens at the begin of the prompt that every rank attends to, in APB and Spava
    #[arg(long, default_value_t = 32)]
    anchor: usize,

    /// Tokens that each part passes on to later ones, per kv head
    #[arg(long, default_value_t = 24)]
    passed: usize,

    /// Compare every result with one device's, or with a naive definition
    #[arg(long)]
    check: bool,

    /// A GPU for each rank, and NCCL between them
    #[arg(long)]
    nccl: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Exact,
    Decode,
    Apb,
    Spava,
    Linear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Parts {
    /// Rank r has the r-th part
    Contiguous,
    /// Rank r has the r-th part from either end
    Zigzag,
}

fn main() -> ExitCode {
    demos::main(run)
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    options.check_sizes()?;
    let modes = match options.mode {
        Some(mode) => vec![mode],
        None => Mode::value_variants().to_vec(),
    };
    let prompt = Prompt::random(options.tokens as usize, 1);
    let mut is_right = true;
    for mode in modes {
        is_right &= options.run_mode(&prompt, mode)?;
    }
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Options {
    fn check_sizes(&self) -> Result<(), Failure> {
        let (ranks, tokens) = (self.ranks as usize, self.tokens as usize);
        if !tokens.is_multiple_of(128 * ranks) {
            return Err(Failure::Options(format!(
                "--tokens {tokens} is no multiple of 128 for each of {ranks} ranks"
            )));
        }
        let part = tokens / (2 * ranks);
        if self.anchor == 0 || self.passed == 0 || self.anchor + self.passed > part {
            let sizes = format!("--anchor {} and --passed {}", self.anchor, self.passed);
            return Err(Failure::Options(format!(
                "{sizes} are to be at least 1, and together at most a part, {part}"
            )));
        }
        if self.nccl && !cfg!(feature = "nccl") {
            return Err(Failure::Options("--nccl needs a build with --features nccl".into()));
        }
        Ok(())
    }

    fn passing(&self, method: Method) -> Passing {
        Passing {
            method,
            anchor: self.anchor,
            passed: self.passed,
        }
    }

    /// Runs a mode and prints what it costs; whether its results are right, as far as that is asked.
    fn run_mode(&self, prompt: &Prompt, mode: Mode) -> Result<bool, Failure> {
        let (ranks, tokens) = (self.ranks as usize, prompt.tokens);
        let chosen = Layout {
            ranks,
            tokens,
            is_zigzag: self.layout == Parts::Zigzag,
        };
        let out = &mut io::stdout();
        let verdict = match mode {
            Mode::Exact => {
                let (outputs, costs) = self.on_ranks(prompt, chosen, exact::prefill)?;
                report::costs(out, "exact attention: all keys gathered", &costs)?;
                self.check.then(|| check::exact(prompt, &chosen, outputs)).transpose()?
            }
            Mode::Decode => {
                let (outputs, costs) = self.on_ranks(prompt, chosen, exact::decode)?;
                report::costs(out, "a decode step: outputs of all ranks merged", &costs)?;
                self.check.then(|| check::decode(prompt, &outputs))
            }
            Mode::Apb | Mode::Spava => {
                let passing = self.passing(if mode == Mode::Apb { Method::Apb } else { Method::Spava });
                let layout = passing.layout(ranks, tokens);
                let (outputs, costs) = self.on_ranks(prompt, layout, |rank| passing::prefill(rank, passing))?;
                let title = format!(
                    "{:?}: anchor of {}, {} passed on per part",
                    passing.method, self.anchor, self.passed
                );
                report::costs(out, &title, &costs)?;
                self.check.then(|| check::passing(prompt, &layout, passing, outputs))
            }
            Mode::Linear => {
                let (outputs, costs) = self.on_ranks(prompt, chosen, linear::prefill)?;
                report::costs(out, "linear attention: states gathered", &costs)?;
                self.check.then(|| check::linear(prompt, &chosen, outputs))
            }
        };
        match verdict {
            None => Ok(true),
            Some(Ok(said)) => {
                writeln!(out, "  right: {said}")?;
                Ok(true)
            }
            Some(Err(said)) => {
                writeln!(out, "  WRONG: {said}")?;
                Ok(false)
            }
        }
    }

    /// Runs the same on every rank; what each gives, and what it has cost.
    fn on_ranks<T: Send>(
        &self,
        prompt: &Prompt,
        layout: Layout,
        work: impl Fn(&mut Rank<'_>) -> Result<T, Failure> + Sync,
    ) -> Result<(Vec<T>, Vec<Cost>), Failure> {
        let places = self.places()?;
        let work = &work;
        let results: Vec<Result<(T, Cost), Failure>> = std::thread::scope(|scope| {
            let start = |(device, join): (Device, Join)| {
                scope.spawn(move || {
                    let exchange = Exchange::new(join(&device)?);
                    let mut rank = Rank::new(prompt, layout, device, exchange)?;
                    let result = work(&mut rank)?;
                    Ok((result, rank.take_cost()))
                })
            };
            let ranks: Vec<_> = places.into_iter().map(start).collect();
            let ended = |_| Err(Failure::Exchange("a rank has panicked".into()));
            ranks
                .into_iter()
                .map(|rank| rank.join().unwrap_or_else(ended))
                .collect()
        });
        // Of a rank that fails the others hear that it has ended: its own words come first.
        let (done, mut failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        failed.sort_by_key(|result| matches!(result, Err(Failure::Exchange(_))));
        if let Some(failure) = failed.into_iter().next() {
            failure?;
        }
        Ok(done.into_iter().flatten().unzip())
    }

    /// A device for each rank, and how it joins the exchange, on the rank's own thread.
    fn places(&self) -> Result<Vec<(Device, Join)>, Failure> {
        let ranks = self.ranks as usize;
        if self.nccl {
            return on_gpus(ranks);
        }
        let ends = threads(ranks).into_iter();
        Ok(ends
            .map(|end| {
                (
                    Device::host(),
                    Box::new(move |_: &Device| Ok(Box::new(end) as Box<dyn Communicator>)) as Join,
                )
            })
            .collect())
    }
}

/// Makes a rank's communicator.
type Join = Box<dyn FnOnce(&Device) -> Result<Box<dyn Communicator>, Failure> + Send>;

#[cfg(feature = "nccl")]
fn on_gpus(ranks: usize) -> Result<Vec<(Device, Join)>, Failure> {
    use demos::exchange::{Nccl, NcclId};
    let count = Device::cuda_count()?;
    if count < ranks {
        return Err(Failure::Options(format!("--ranks {ranks}, but there are {count} GPUs")));
    }
    let id = NcclId::new()?;
    (0..ranks)
        .map(|rank| {
            let join = move |device: &Device| -> Result<Box<dyn Communicator>, Failure> {
                Ok(Box::new(Nccl::join(id, device, rank, ranks)?))
            };
            Ok((Device::cuda(rank)?, Box::new(join) as Join))
        })
        .collect()
}

#[cfg(not(feature = "nccl"))]
fn on_gpus(_ranks: usize) -> Result<Vec<(Device, Join)>, Failure> {
    Err(Failure::Options("--nccl needs a build with --features nccl".into()))
}
