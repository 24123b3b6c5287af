//! What is left of a failing call: a replay file, or its description.

use crate::attempt::replay_fails;
use sala_testkit::devices::Machine;
use sala_testkit::problem::{Described, Problem};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// How a call is made again.
pub struct Origin<'a> {
    pub operation: &'a str,
    pub seed: u64,
    /// What `--on` calls where it failed.
    pub turn: &'a str,
}

impl Origin<'_> {
    /// The command that makes it again, first of all.
    pub fn command(&self) -> String {
        let Origin { operation, seed, turn } = self;
        format!("cargo run --release -p fuzz -- --operation {operation} --seed {seed} --on {turn}")
    }
}

/// Writes a failing call to a folder, and says where: as a file for the `replay` demo if that shows the failure too.
pub fn write<C: Described>(
    call: &C,
    why: &str,
    origin: &Origin<'_>,
    machine: &Machine,
    folder: &Path,
) -> io::Result<Vec<PathBuf>> {
    let Origin { operation, seed, turn } = origin;
    let file = |extension| folder.join(format!("{operation}-{turn}-{seed}.{extension}"));
    let text = file("txt");
    fs::write(&text, format!("{why}\n\n{call:#?}\n\n{}\n", origin.command()))?;
    let mut files = vec![text];
    let replay = file("safetensors");
    let bytes = call.spoiled().is_none().then(|| call.problem().replay()).flatten();
    if let Some(bytes) = bytes.filter(|bytes| replay_fails(bytes, &replay, machine)) {
        fs::write(&replay, bytes)?;
        files.push(replay);
    }
    Ok(files)
}
