//! Maintenance tasks: `cargo xtask` lists them, `cargo xtask help TASK` describes one. Each is a module that this file dispatches to.

mod bindings;
mod cold;
mod dist;
mod full;
mod mutate;
mod price;
mod sanitize;
mod suite;
mod test;
// The table of kernels, which stands alone so that it can be read here.
#[path = "../../src/shapes/mod.rs"]
#[allow(dead_code, unexpected_cfgs, rustdoc::broken_intra_doc_links)]
mod shapes;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "Maintenance tasks of sala-kernels"
)]
enum Task {
    Bindgen(bindings::Arguments),
    Cold(cold::Arguments),
    Dist(dist::Arguments),
    Full(full::Arguments),
    Mutate(mutate::Arguments),
    Price(price::Arguments),
    Sanitize(sanitize::Arguments),
    Test(test::Arguments),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Bindgen(arguments) => bindings::run(&arguments),
        Task::Cold(arguments) => cold::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Full(arguments) => full::run(&arguments),
        Task::Mutate(arguments) => mutate::run(&arguments),
        Task::Price(arguments) => price::run(&arguments),
        Task::Sanitize(arguments) => sanitize::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("{}", failure.message);
        ExitCode::from(failure.exit_code)
    })
}

/// Why a task was not done.
#[derive(Debug)]
struct Failure {
    message: String,
    exit_code: u8,
}

impl Failure {
    /// Something is wrong with the repository.
    fn repository(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            exit_code: 1,
        }
    }

    /// This machine lacks something.
    fn machine(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            exit_code: 2,
        }
    }

    /// A file of the repository, or made from it, cannot be read or written.
    fn file(path: impl AsRef<Path>, error: impl Display) -> Failure {
        Failure::repository(format!("{}: {error}", path.as_ref().display()))
    }
}

/// The root of the repository.
fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The cargo that runs this program.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
