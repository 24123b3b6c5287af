//! What takes longer than `.ci/run` may: every test of a kernel, with many cases per property, on the CPU and on the PTX of each architecture, the
//! latter also where a GPU may do otherwise than the interpreter does by itself.

use crate::sanitize::tests_of_kernels;
use crate::{Failure, cargo, repository};
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Runs all tests of kernels at length: on the CPU, and on interpreted PTX of every architecture and in every mode. Needs nvcc; takes an hour.
#[derive(Args)]
pub struct Arguments {
    /// Cases of each property on the CPU; an eighth of them on PTX
    #[arg(long, default_value_t = 400)]
    cases: u32,
}

/// Capabilities of GPUs that have images of their own.
const CAPABILITIES: [&str; 3] = ["80", "90", "120"];

/// What a GPU may do otherwise, all at once.
const OTHERWISE: [(&str, &str); 4] = [
    ("SALA_PTX_COPIES", "eager"),
    ("SALA_PTX_ORDER", "reversed"),
    ("SALA_PTX_SUMS", "truncated"),
    ("SALA_PTX_FUNCTIONS", "off"),
];

/// Runs everything; ends at the first failure.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    println!("== on the CPU");
    succeed(tests(arguments.cases))?;
    let mut build = Command::new(cargo());
    build
        .args(["build", "--locked", "--release", "--package", "sala-ptx"])
        .current_dir(repository());
    succeed(build)?;
    for capability in CAPABILITIES {
        for (name, mode) in [("by itself", [].as_slice()), ("otherwise", OTHERWISE.as_slice())] {
            println!("== on PTX for capability {capability}, {name}");
            let mut tests = tests(arguments.cases / 8);
            tests
                .args(["--", "--skip", "race"])
                .env("SALA_CUDA_DRIVER", driver())
                .env("SALA_PTX_CAPABILITY", capability)
                .envs(mode.iter().copied());
            succeed(tests)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The tests that drive kernels.
fn tests(cases: u32) -> Command {
    let mut command = Command::new(cargo());
    command
        .args(["test", "--locked", "--release", "--package", "sala-kernels"])
        .args(tests_of_kernels())
        .current_dir(repository())
        .env("SALA_KEEP_PTX", "1")
        .env("SALA_REQUIRE_CUDA", "1")
        .env("PROPTEST_CASES", cases.max(1).to_string());
    command
}

/// The driver that runs PTX.
fn driver() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    target.join("release/libsala_ptx.so")
}

fn succeed(mut command: Command) -> Result<(), Failure> {
    let status = command
        .status()
        .map_err(|error| Failure::machine(format!("cannot run cargo: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::repository(format!("{command:?}: {status}"))),
    }
}
