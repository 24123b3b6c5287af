//! How long first builds take: each into an empty target folder, with two jobs at a time.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::{Failure, cargo, repository};

/// Builds from nothing, and says how long each build took, beside what it may take on two cores.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the builds whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

struct Build {
    name: &'static str,
    /// What cargo is told.
    arguments: &'static str,
    /// `SALA_CUDA_ARCHS`; all of them without it.
    architectures: Option<&'static str>,
    /// Seconds on two cores that do nothing else.
    limit: u64,
}

const BUILDS: [Build; 4] = [
    Build {
        name: "library without host",
        arguments: "build --release --package sala-kernels --no-default-features",
        architectures: Some("none"),
        limit: 90,
    },
    Build {
        name: "first command",
        arguments: "run --release --package demos --bin replay",
        architectures: Some("none"),
        limit: 180,
    },
    Build {
        name: "one architecture",
        arguments: "build --release --package sala-kernels",
        architectures: Some("90a"),
        limit: 300,
    },
    Build {
        name: "all architectures",
        arguments: "build --release --package sala-kernels",
        architectures: None,
        limit: 720,
    },
];

/// Times the builds.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    // What comes over the network is no part of it.
    succeed(Command::new(cargo()).args(["fetch", "--locked", "--quiet"]))?;
    let chosen = BUILDS.iter().filter(|build| match &arguments.only {
        Some(part) => build.name.contains(part.as_str()),
        None => true,
    });
    let mut is_slow = false;
    println!(
        "{:<22} {:>8} {:>8} {:>12}  load before and after",
        "build", "seconds", "limit", "CPU seconds"
    );
    for build in chosen {
        let (load_before, cpu_before) = (load(), cpu_seconds());
        let seconds = time(build)?;
        let cpu = cpu_seconds().saturating_sub(cpu_before);
        is_slow |= seconds > build.limit;
        println!(
            "{:<22} {seconds:>8} {:>8} {cpu:>12}  {load_before} {}",
            build.name,
            build.limit,
            load()
        );
    }
    Ok(ExitCode::from(u8::from(is_slow)))
}

fn time(build: &Build) -> Result<u64, Failure> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let folder = repository().join(target).join("cold");
    let _ = fs::remove_dir_all(&folder);
    let mut command = Command::new(cargo());
    command
        .args(build.arguments.split(' ').take(1))
        .args(["--locked", "--quiet"]);
    command.args(build.arguments.split(' ').skip(1));
    command.env("CARGO_TARGET_DIR", &folder).env("CARGO_BUILD_JOBS", "2");
    command.env_remove("CARGO_INCREMENTAL").env_remove("SALA_KEEP_PTX");
    match build.architectures {
        Some(architectures) => command.env("SALA_CUDA_ARCHS", architectures),
        None => command.env_remove("SALA_CUDA_ARCHS"),
    };
    let started = Instant::now();
    succeed(&mut command)?;
    let seconds = started.elapsed().as_secs();
    fs::remove_dir_all(&folder).map_err(|error| Failure::file(&folder, error))?;
    Ok(seconds)
}

/// What processes that this one has waited for have run so far, with theirs: what is left of a time on a busy machine.
fn cpu_seconds() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which stands in parentheses, from the third field on: user and system time of children are the 16th and 17th, in ticks of 10 ms.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(13).take(2);
    ticks.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() / 100
}

/// How many processes have wanted a core over the last minute: above the number of cores a time is that of a busy machine.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn succeed(command: &mut Command) -> Result<(), Failure> {
    let status = command
        .current_dir(repository())
        .stdout(std::process::Stdio::null())
        .status();
    let status = status.map_err(|error| Failure::machine(format!("cannot run cargo: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::repository(format!("{command:?} ended with {status}"))),
    }
}
