//! Runs of `cargo test` on the CPU and on interpreted PTX, which count what passed where.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Failure, cargo, repository};

/// An architecture that has images of its own.
pub struct Arch {
    /// What nvcc calls it.
    pub name: &'static str,
    /// The compute capability of its GPUs, as `SALA_PTX_CAPABILITY` takes it.
    capability: &'static str,
}

/// The architectures whose PTX is run.
pub const ARCHS: [Arch; 3] = [
    Arch {
        name: "sm_80",
        capability: "80",
    },
    Arch {
        name: "sm_90a",
        capability: "90",
    },
    Arch {
        name: "sm_120",
        capability: "120",
    },
];

/// What has passed so far.
#[derive(Default)]
pub struct Suite {
    on_cpu: u32,
    on_ptx: [u32; ARCHS.len()],
}

/// A `cargo test` of these arguments. The PTX is kept in every run, so that none builds anew what another has built.
pub fn tests(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(cargo());
    command
        .args(["test", "--locked", "--release"])
        .args(arguments)
        .current_dir(repository())
        .env("SALA_KEEP_PTX", "1");
    command
}

impl Suite {
    /// Runs tests on the CPU.
    pub fn run_on_cpu(&mut self, mut tests: Command) -> Result<(), Failure> {
        println!("== on the CPU");
        let passed = run(tests.env_remove("SALA_CUDA_DRIVER"), "")?.passed;
        self.on_cpu += at_least_one(passed, "no test ran on the CPU")?;
        Ok(())
    }

    /// Runs tests on the PTX of an architecture, but those for races, which are the executor's.
    pub fn run_on_ptx(&mut self, arch: &Arch, mut tests: Command) -> Result<(), Failure> {
        println!("== on the PTX of {}", arch.name);
        tests
            .args(["--", "--skip", "race", "--show-output"])
            .env("SALA_CUDA_DRIVER", driver())
            .env("SALA_PTX_CAPABILITY", arch.capability);
        // What `sala_testkit::devices` writes in a test that gets the device.
        let device = format!("on CUDA: Interpreted sm_{} ", arch.capability);
        let on_ptx = run(&mut tests, &device)?.on_device;
        let on_ptx = at_least_one(on_ptx, &format!("no test ran on the PTX of {}", arch.name))?;
        for (known, sum) in ARCHS.iter().zip(&mut self.on_ptx) {
            if known.name == arch.name {
                *sum += on_ptx;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passed: ")?;
        if self.on_cpu > 0 {
            write!(f, "{} tests on the CPU, ", self.on_cpu)?;
        }
        let each = ARCHS.iter().zip(self.on_ptx);
        let each: Vec<_> = each.map(|(arch, sum)| format!("{}: {sum}", arch.name)).collect();
        let all: u32 = self.on_ptx.iter().sum();
        write!(f, "{all} on interpreted PTX ({})", each.join(", "))
    }
}

/// A suite that tests nothing has not passed.
fn at_least_one(count: u32, otherwise: &str) -> Result<u32, Failure> {
    match count {
        0 => Err(Failure::repository(otherwise)),
        count => Ok(count),
    }
}

/// Builds the driver that runs PTX.
pub fn build_driver() -> Result<(), Failure> {
    let mut build = Command::new(cargo());
    build
        .args(["build", "--locked", "--release", "--package", "sala-ptx"])
        .current_dir(repository());
    let status = build.status().map_err(cannot_run)?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::repository(format!("{build:?}: {status}"))),
    }
}

/// Where the driver is then.
fn driver() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    repository().join(target).join("release/libsala_ptx.so")
}

/// Runs a `cargo test`, shows what it says, and counts. A test is on the device if it writes a line that begins so.
fn run(tests: &mut Command, device: &str) -> Result<Tally, Failure> {
    let mut child = tests.stdout(Stdio::piped()).spawn().map_err(cannot_run)?;
    let mut tally = Tally::default();
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|out| BufReader::new(out).lines())
    {
        let line = line.map_err(cannot_run)?;
        if tally.read(&line, device) {
            println!("{line}");
        }
    }
    let status = child.wait().map_err(cannot_run)?;
    match status.success() {
        true => Ok(tally),
        false => Err(Failure::repository(format!("{tests:?}: {status}"))),
    }
}

fn cannot_run(error: std::io::Error) -> Failure {
    Failure::machine(format!("cannot run cargo: {error}"))
}

/// What the output of test programs says, line by line.
#[derive(Debug, Default)]
struct Tally {
    passed: u32,
    on_device: u32,
    /// In the section of what passed tests wrote.
    in_successes: bool,
    /// In what a test wrote that has not been counted for the device.
    is_open: bool,
}

impl Tally {
    /// Reads a line, and says whether it is worth showing: what passed tests wrote is not.
    fn read(&mut self, line: &str, device: &str) -> bool {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.in_successes = false;
            let passed = result.strip_prefix("ok. ").and_then(|counts| counts.split(' ').next());
            self.passed += passed.and_then(|count| count.parse().ok()).unwrap_or(0);
        } else if line == "successes:" || line == "failures:" {
            self.in_successes = line == "successes:";
        } else if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.is_open = self.in_successes;
        } else if self.is_open && line.starts_with(device) {
            self.on_device += 1;
            self.is_open = false;
        }
        !self.in_successes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_where_they_ran() {
        let output = "\
running 4 tests
test on_both ... ok
test on_the_cpu ... ok
test also_on_both ... ok

successes:

---- on_both stdout ----
on CUDA: Interpreted sm_80 0
on CUDA: Interpreted sm_80 0

---- on_the_cpu stdout ----
skipped

---- also_on_both stdout ----
on CUDA: Interpreted sm_80 0


successes:
    also_on_both
    on_both
    on_the_cpu

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 0 tests
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let mut tally = Tally::default();
        let shown = output
            .lines()
            .filter(|line| tally.read(line, "on CUDA: Interpreted sm_80 "))
            .count();
        assert_eq!((tally.passed, tally.on_device), (3, 2));
        assert_eq!(shown, 9, "what passed tests wrote");
    }

    #[test]
    fn a_failure_is_shown_and_not_counted() {
        let mut tally = Tally::default();
        for line in ["successes:", "failures:", "---- fails stdout ----", "on CUDA: it"] {
            assert_eq!(tally.read(line, "on CUDA"), line != "successes:");
        }
        assert!(tally.read("test result: FAILED. 5 passed; 1 failed", "on CUDA"));
        assert_eq!((tally.passed, tally.on_device), (0, 0));
    }

    #[test]
    fn a_suite_says_what_passed() {
        let mut suite = Suite {
            on_cpu: 0,
            on_ptx: [5, 3, 2],
        };
        assert_eq!(
            suite.to_string(),
            "Passed: 10 on interpreted PTX (sm_80: 5, sm_90a: 3, sm_120: 2)"
        );
        suite.on_cpu = 70;
        assert!(suite.to_string().starts_with("Passed: 70 tests on the CPU, 10 on"));
        assert!(at_least_one(0, "nothing").is_err());
    }
}
