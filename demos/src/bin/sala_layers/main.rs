//! The attention layers of a hybrid model, as its `config.json` has them: one sparse and one linear layer, a prompt and 64 decode steps.
//!
//! ```text
//! cargo run --release -p demos --bin sala_layers -- --length 512
//! cargo run --release -p demos --bin sala_layers -- --length 131072 --device cuda --times-only
//! ```
//!
//! There are no weights: queries, keys, values and gates are random, as if they came from the projections. The kernels run on the CPU, where
//! their FLOPs and bytes are counted, and with `--device cuda` on a GPU too, where they are timed.

mod config;
mod linear;
mod report;
mod sparse;

use clap::{Parser, ValueEnum};
use config::Config;
use demos::Failure;
use demos::meter::{Meter, Operation};
use demos::progress::Progress;
use half::bf16;
use linear::LinearMixer;
use sala_kernels::{Device, HostOptions, Result};
use sala_testkit::numbers::Numbers;
use sparse::SparseMixer;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tokens decoded after the prompt.
const DECODE_STEPS: usize = 64;

/// Runs one sparse and one linear layer of a model and counts what they cost.
#[derive(Parser)]
#[command(name = "sala_layers")]
struct Options {
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    length: u32,

    /// A model's config.json, instead of MiniCPM-SALA's, which is built in
    #[arg(long)]
    config: Option<PathBuf>,

    /// Where to run: on the CPU, or on the CPU and the first GPU
    #[arg(long, value_enum, default_value_t = Place::Host)]
    device: Place,

    /// With --device cuda, skip the CPU, which takes minutes for long prompts: times, but no counts
    #[arg(long)]
    times_only: bool,

    /// Multiprocessors of the GPU that the counts are for, which decide how work is split; with --device cuda those of the GPU
    #[arg(long, default_value_t = 132, value_parser = clap::value_parser!(u32).range(1..=1024))]
    multiprocessors: u32,

    /// Attend densely below this length, instead of below the config's dense_len
    #[arg(long)]
    dense_len: Option<usize>,

    /// Keep keys in pages of so many tokens, a power of two up to 1024, instead of in a cache
    #[arg(long, default_value_t = 0)]
    page_size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    Host,
    Cuda,
}

fn main() -> ExitCode {
    demos::main(run)
}

fn run(options: &Options) -> std::result::Result<ExitCode, Failure> {
    let mut config = match &options.config {
        Some(path) => Config::read(path),
        None => Config::released(),
    }
    .map_err(Failure::Options)?;
    if let Some(dense_len) = options.dense_len {
        config.sparse_config.dense_len = dense_len;
    }
    if options.times_only && options.device == Place::Host {
        let why = "--times-only needs --device cuda: times on the CPU say nothing about a GPU";
        return Err(Failure::Options(why.into()));
    }
    let gpu = match options.device {
        Place::Host => None,
        Place::Cuda => Some(Device::cuda(0)?),
    };
    let length = options.length as usize;
    let out = &mut io::stdout();
    report::schedule(out, &config, length)?;

    let counted = match options.times_only {
        true => None,
        false => Some(Layers::run(
            &config,
            counting_device(gpu.as_ref(), options),
            length,
            options.page_size,
        )?),
    };
    let timed = gpu
        .map(|device| time_on_gpu(&config, device, length, options.page_size))
        .transpose()?;
    report::costs(out, &config, length, counted.as_ref(), timed.as_ref())?;
    Ok(ExitCode::SUCCESS)
}

/// The CPU, launched on as if it were the GPU.
fn counting_device(gpu: Option<&Device>, options: &Options) -> Device {
    let mut host = HostOptions::default();
    host.multiprocessors = gpu.map_or(options.multiprocessors, Device::multiprocessors);
    Device::host_with(host)
}

/// Runs everything twice and keeps the second run: the first also loads kernels and fills caches.
fn time_on_gpu(config: &Config, device: Device, length: usize, page_size: usize) -> Result<Layers> {
    Layers::run(config, device.clone(), length, page_size)?;
    Layers::run(config, device, length, page_size)
}

/// What a run of both layers gave.
struct Layers {
    device: String,
    prefill: Vec<Operation>,
    decode: Vec<Operation>,
    /// What each layer hands to its output projection.
    sparse_out: Vec<bf16>,
    linear_out: Vec<bf16>,
}

impl Layers {
    fn run(config: &Config, device: Device, length: usize, page_size: usize) -> Result<Layers> {
        let name = device.name().to_owned();
        let tokens = length + DECODE_STEPS;
        // Steps: two prompts, then tokens.
        let progress = Progress::new(2 + DECODE_STEPS, &format!("{name} {{bar:40}} step {{pos}}/{{len}}"));
        let mut meter = Meter::new(device)?;
        let mut sparse = SparseMixer::new(config, &meter, tokens, page_size, 1)?;
        let mut linear = LinearMixer::new(config, &meter, tokens, 2)?;

        sparse.prefill(&mut meter, length)?;
        progress.advance(1);
        linear.prefill(&mut meter, length)?;
        progress.advance(1);
        let prefill = meter.take();
        for token in length..tokens {
            sparse.decode(&mut meter, token)?;
            linear.decode(&mut meter, token)?;
            progress.advance(1);
        }
        progress.finish();
        let decode = meter.take();
        Ok(Layers {
            device: name,
            prefill,
            decode,
            sparse_out: sparse.output()?,
            linear_out: linear.output()?,
        })
    }
}

/// Projections of a layer's input, as random numbers. Long tensors repeat them after a prime number of elements.
fn random(numbers: &mut Numbers, count: usize) -> Vec<bf16> {
    const PERIOD: usize = 1_048_573;
    let period: Vec<bf16> = (0..count.min(PERIOD))
        .map(|_| bf16::from_f64(numbers.normal()))
        .collect();
    period.into_iter().cycle().take(count).collect()
}
