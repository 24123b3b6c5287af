//! `cargo xtask bindgen` writes the Rust of the C headers, `src/sys/*.rs`; with `--check` it compares them with what is there.

mod bindings;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask bindgen [--check]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["bindgen"] => bindings::write(),
        ["bindgen", "--check"] => bindings::check(),
        _ => return complain(USAGE, 1),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure.to_string(), failure.exit_code()),
    }
}

fn complain(message: &str, exit_code: u8) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(exit_code)
}
