//! The tests as `.ci/run` has them: the workspace's on the CPU, and those of kernels on the PTX that nvcc made, which `compiled/ptx` runs.

use std::process::ExitCode;

use clap::Args;

use crate::Failure;
use crate::suite::{ARCHS, Suite, build_driver, tests};

/// Runs the workspace's tests on the CPU and those of kernels on interpreted PTX, and says how many passed where. Needs nvcc.
#[derive(Args)]
pub struct Arguments {
    /// Leave out those on the CPU
    #[arg(long)]
    ptx_only: bool,
}

/// Cases of each property on PTX, unless the environment says how many.
const PROPERTY_CASES: &str = "6";

/// What runs on the PTX of every architecture: each instance of a kernel, each operation, and each primitive.
const ON_EACH: [&str; 4] = ["instances", "operations", "primitives", "tensor_copies"];

/// What runs on the PTX of one of them.
const ON_ONE: [&str; 12] = [
    "append_keys",
    "commit_keys",
    "pages",
    "compress_keys",
    "select_blocks",
    "linear_attention",
    "linear_drafts",
    "linear_ranks",
    "merge",
    "norms",
    "sparse_attention",
    "tokens",
];

/// An engine's steps, on the PTX of one of them too.
const ENGINE: [&str; 5] = ["--package", "demos", "--test", "programs", "a_gpu_serves"];

/// Runs everything; ends at the first failure.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut suite = Suite::default();
    if !arguments.ptx_only {
        suite.run_on_cpu(tests(["--workspace"]))?;
    }
    build_driver()?;
    let cases = std::env::var_os("PROPTEST_CASES").unwrap_or_else(|| PROPERTY_CASES.into());
    let of_kernels = |names: &[&'static str]| {
        let names = names.iter().flat_map(|name| ["--test", name]);
        let mut tests = tests(["--package", "sala-kernels"].into_iter().chain(names));
        tests.env("PROPTEST_CASES", &cases);
        tests
    };
    for arch in &ARCHS {
        suite.run_on_ptx(arch, of_kernels(&ON_EACH))?;
    }
    suite.run_on_ptx(&ARCHS[0], of_kernels(&ON_ONE))?;
    suite.run_on_ptx(&ARCHS[0], tests(ENGINE))?;
    println!("{suite}");
    Ok(ExitCode::SUCCESS)
}
