//! What takes longer than `.ci/run` may: every test of a kernel, with many cases per property, on the CPU and on the PTX of each architecture, the
//! latter also where a GPU may do otherwise than the interpreter does by itself.

use std::process::{Command, ExitCode};

use clap::Args;

use crate::Failure;
use crate::sanitize::tests_of_kernels;
use crate::suite::{ARCHS, Suite, build_driver, tests};

/// Runs all tests of kernels at length: on the CPU, and on interpreted PTX of every architecture and in every mode. Needs nvcc; takes an hour.
#[derive(Args)]
pub struct Arguments {
    /// Cases of each property on the CPU; an eighth of them on PTX
    #[arg(long, default_value_t = 400)]
    cases: u32,
}

/// What a GPU may do otherwise, all at once.
const OTHERWISE: [(&str, &str); 4] = [
    ("SALA_PTX_COPIES", "eager"),
    ("SALA_PTX_ORDER", "reversed"),
    ("SALA_PTX_SUMS", "truncated"),
    ("SALA_PTX_FUNCTIONS", "off"),
];

/// Runs everything; ends at the first failure.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut suite = Suite::default();
    suite.run_on_cpu(of_kernels(arguments.cases))?;
    suite.run_on_cpu(of_prompts())?;
    build_driver()?;
    for arch in &ARCHS {
        for (name, mode) in [("by itself", [].as_slice()), ("otherwise", OTHERWISE.as_slice())] {
            println!("== {name}");
            let mut tests = of_kernels(arguments.cases / 8);
            tests.envs(mode.iter().copied());
            suite.run_on_ptx(arch, tests)?;
        }
    }
    println!("{suite}");
    Ok(ExitCode::SUCCESS)
}

/// The test of long prompts, which takes minutes.
fn of_prompts() -> Command {
    tests(["--package", "sala-kernels", "--test", "prompt", "--", "--ignored"])
}

/// The tests that drive kernels. Without nvcc they are not built.
fn of_kernels(cases: u32) -> Command {
    let package = ["--package", "sala-kernels"].map(Into::into);
    let mut tests = tests(package.into_iter().chain(tests_of_kernels()));
    tests
        .env("SALA_REQUIRE_CUDA", "1")
        .env("PROPTEST_CASES", cases.max(1).to_string());
    tests
}
