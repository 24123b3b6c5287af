//! Runs the kernels on the CPU under AddressSanitizer and UndefinedBehaviorSanitizer.
//!
//! Races between CUDA threads are another matter: tests look for them themselves, with `HostOptions::detect_races`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::shapes::{KERNELS, TEST_KERNELS};
use crate::{Failure, cargo, repository};

/// Runs tests, or the fuzzer, with AddressSanitizer and UndefinedBehaviorSanitizer in the kernels and the executor.
#[derive(clap::Args)]
pub struct Arguments {
    /// Fuzz for so many seconds instead
    #[arg(long, value_name = "SECONDS")]
    fuzz: Option<u64>,

    /// What `cargo test` runs [default: the tests that the table of kernels names]
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CARGO TEST ARGUMENTS"
    )]
    tests: Vec<OsString>,
}

/// Cases of each property, unless the environment says how many.
const PROPERTY_CASES: &str = "8";

/// Tests that drive every operation, and are named by no kernel.
const OF_ALL: [&str; 3] = ["operations", "wide_strides", "pages"];

/// Runs the tests; their exit status is that of the task.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let tests = match arguments.tests.as_slice() {
        [] => tests_of_kernels(),
        tests => tests.to_vec(),
    };
    // The instrumentation for races excludes this one.
    let skip_races: &[&str] = match tests.iter().any(|argument| argument == "--") {
        true => &["--skip", "race"],
        false => &["--", "--skip", "race"],
    };
    let cases = std::env::var_os("PROPTEST_CASES").unwrap_or_else(|| PROPERTY_CASES.into());
    let mut command = Command::new(cargo());
    match arguments.fuzz {
        Some(seconds) => command
            .args([
                "run",
                "--locked",
                "--release",
                "--package",
                "fuzz",
                "--",
                "--on",
                "plain",
                "--seconds",
            ])
            .arg(seconds.to_string()),
        None => command
            .args(["test", "--locked", "--release", "--package", "sala-kernels"])
            .args(tests)
            .args(skip_races),
    };
    let status = command
        .current_dir(repository())
        .env(runner_variable()?, runner()?)
        .env("PROPTEST_CASES", cases)
        .env("SALA_CUDA_ARCHS", "none")
        .env("SALA_HOST_SANITIZER", "address")
        .status()
        .map_err(|error| Failure::machine(format!("cannot run cargo: {error}")))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Every integration test that drives a kernel, as arguments.
pub fn tests_of_kernels() -> Vec<OsString> {
    let kernels = KERNELS.iter().chain(TEST_KERNELS);
    let tests: BTreeSet<_> = kernels.flat_map(|kernel| kernel.tests).chain(&OF_ALL).collect();
    tests
        .into_iter()
        .flat_map(|test| ["--test".into(), test.into()])
        .collect()
}

/// What cargo starts tests with. The runtime has to be the first library of the process. Fibers leave their stacks to the executor, so leaks
/// would be false alarms.
fn runner() -> Result<OsString, Failure> {
    let mut runner = OsString::from("env LD_PRELOAD=");
    runner.push(runtime()?);
    runner.push(" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1");
    Ok(runner)
}

/// The variable that names a runner: the target is part of it.
fn runner_variable() -> Result<String, Failure> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = output_of(&rustc, "-vV")?;
    let target = version.lines().find_map(|line| line.strip_prefix("host: "));
    let target = target.ok_or_else(|| Failure::machine("rustc does not say which target it is for"))?;
    Ok(format!(
        "CARGO_TARGET_{}_RUNNER",
        target.to_uppercase().replace('-', "_")
    ))
}

/// The library of AddressSanitizer that the C++ compiler links.
fn runtime() -> Result<PathBuf, Failure> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let path = output_of(&compiler, "-print-file-name=libasan.so")?;
    fs::canonicalize(path.trim())
        .map_err(|_| Failure::machine(format!("{} has no libasan.so: set CXX to g++", compiler.display())))
}

fn output_of(program: &OsStr, argument: &str) -> Result<String, Failure> {
    let output = Command::new(program).arg(argument).output();
    let output = output.map_err(|error| Failure::machine(format!("cannot run {}: {error}", program.display())))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
