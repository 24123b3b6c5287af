//! The CPU half: compiles the executor and every kernel file with the C++ compiler and links them whole, since kernels register themselves.
//!
//! The compiler is `CXX` or `c++`, with `CXXFLAGS`. On x86-64 the code is for the x86-64-v3 level (AVX2, FMA) when the building machine has it or
//! the target's features name it, and says so to the crate with `cfg(sala_host_x86_64_v3)`; another `-march` in `CXXFLAGS` takes its place.
//! It is optimised in every profile: an interpreter of GPU code that is not would be ten times slower.
//! `SALA_HOST_SANITIZER=address` builds all of it with AddressSanitizer and UndefinedBehaviorSanitizer, for the tests of this package alone:
//! what runs has to have their libraries loaded first, as `cargo xtask sanitize` does.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Job};
use crate::closure::Closure;
use crate::environment::{Environment, Failure, cargo_variable, variable};
use crate::kernels::Kernel;

/// Products and sums are fused only where a kernel says `fma`, so that results do not depend on the CPU the crate was built on.
const FLAGS: [&str; 5] = ["-DSALA_HOST", "-ffp-contract=off", "-Wno-unknown-pragmas", "-x", "c++"];
/// With line tables, from which a report takes the line of a plain access.
const RACE_FLAGS: [&str; 3] = ["-DSALA_VARIANT=race", "-fsanitize=thread", "-g1"];
const ADDRESS_FLAGS: [&str; 4] = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g1",
];

/// Compiles and links the executor with every kernel, and with feature `race` every kernel once more for race detection.
pub fn compile(environment: &Environment, kernels: &[Kernel]) -> Result<(), Failure> {
    let executor = executor_sources(&environment.root.join("cuda/host"))?;
    let compiler = Compiler::find(environment)?;
    let mut jobs: Vec<Job> = executor
        .iter()
        .map(|source| compiler.job("executor", source, &["-DSALA_VARIANT=plain"]))
        .collect();
    jobs.extend(
        kernels
            .iter()
            .map(|kernel| compiler.job("plain", &kernel.source, &["-DSALA_VARIANT=plain"])),
    );
    // The two instrumentations exclude each other.
    if environment.has_feature("RACE") && !compiler.sanitized {
        jobs.extend(
            kernels
                .iter()
                .map(|kernel| compiler.job("race", &kernel.source, &RACE_FLAGS)),
        );
    }
    let include = environment.include_folders();
    let compiled = cache::compile_all(
        environment,
        &Closure {
            search: &include,
            without: None,
        },
        jobs,
    )?;

    let mut archive = compiler.build;
    archive
        .objects(compiled.into_iter().map(|compiled| compiled.output))
        .link_lib_modifier("+whole-archive");
    archive
        .try_compile("sala_host")
        .map_err(|error| Failure::new(format!("cannot archive the executor: {error}")))
}

struct Compiler {
    build: cc::Build,
    tool: cc::Tool,
    /// Flags that name folders of this machine, which change nothing in the output.
    places: Vec<String>,
    version: String,
    sanitized: bool,
}

impl Compiler {
    fn find(environment: &Environment) -> Result<Self, Failure> {
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++20")
            .opt_level(2)
            .debug(false)
            .warnings(true)
            .extra_warnings(true)
            .flags(FLAGS);
        if !variable("CXXFLAGS").unwrap_or_default().contains("-march") && builds_for_x86_64_v3()? {
            build.flag("-march=x86-64-v3");
            println!("cargo::rustc-cfg=sala_host_x86_64_v3");
        }
        let sanitized = sanitized()?;
        if sanitized {
            build.flags(ADDRESS_FLAGS);
            for library in ["asan", "ubsan"] {
                println!("cargo::rustc-link-arg=-l{library}");
            }
        }
        let tool = build
            .try_get_compiler()
            .map_err(|error| no_compiler(error.to_string()))?;
        let version = version(&tool)?;
        // Reports name files as they lie in the crate, the generated ones as they are included. The last match counts.
        let prefixes =
            [&environment.root, &environment.out].map(|folder| format!("-ffile-prefix-map={}/=", folder.display()));
        let mut places = Vec::from(prefixes);
        places.extend(
            environment
                .include_folders()
                .iter()
                .map(|folder| format!("-I{}", folder.display())),
        );
        Ok(Self {
            build,
            tool,
            places,
            version,
            sanitized,
        })
    }

    fn job(&self, variant: &str, source: &Path, flags: &[&str]) -> Job {
        let mut command = self.tool.to_command();
        command.args(flags);
        let identity = format!("{}{:?}", self.version, Vec::from_iter(command.get_args()));
        command.args(&self.places).arg("-c");
        let stem = source.file_stem().unwrap_or_default().display();
        Job {
            label: format!("{variant}-{stem}"),
            extension: "o",
            command,
            identity,
            source: source.to_owned(),
            forbids_serialising: false,
        }
    }
}

/// Every `cuda/host/*.cpp`, sorted.
fn executor_sources(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder).map_err(|error| Failure::file("read", folder, error))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut sources: Vec<_> = files
        .filter(|path| path.extension() == Some(OsStr::new("cpp")))
        .collect();
    sources.sort();
    Ok(sources)
}

fn sanitized() -> Result<bool, Failure> {
    match variable("SALA_HOST_SANITIZER").as_deref() {
        None => Ok(false),
        Some("address") => Ok(true),
        Some(other) => Err(Failure::new(format!(
            "SALA_HOST_SANITIZER: expected `address`, got `{other}`"
        ))),
    }
}

fn version(tool: &cc::Tool) -> Result<String, Failure> {
    let mut command = Command::new(tool.path());
    let output = command
        .arg("--version")
        .output()
        .map_err(|error| no_compiler(format!("{}: {error}", tool.path().display())))?;
    if !output.status.success() {
        return Err(no_compiler(format!(
            "{} --version: {}",
            tool.path().display(),
            output.status
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn no_compiler(reason: String) -> Failure {
    Failure::new(format!(
        "no C++ compiler for the CPU kernels: {reason}\ninstall g++ 12 or newer, name another compiler in CXX, or leave out the feature `host`"
    ))
}

/// Whether the target has what x86-64-v3 adds: by its features, or because the code runs where it is built.
fn builds_for_x86_64_v3() -> Result<bool, Failure> {
    if cargo_variable("CARGO_CFG_TARGET_ARCH")? != "x86_64" {
        return Ok(false);
    }
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let named = ["avx2", "bmi2", "fma"]
        .iter()
        .all(|name| features.split(',').any(|feature| feature == *name));
    Ok(named || (cargo_variable("HOST")? == cargo_variable("TARGET")? && this_machine_is_x86_64_v3()))
}

#[cfg(target_arch = "x86_64")]
fn this_machine_is_x86_64_v3() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe")
}

#[cfg(not(target_arch = "x86_64"))]
fn this_machine_is_x86_64_v3() -> bool {
    false
}
