//! The crate's examples, for tests that run them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The executable of an example: built as the running test was, or packed beside it where there is no cargo. Builds it once a process.
pub fn example(name: &'static str) -> PathBuf {
    static EXAMPLES: Mutex<Option<HashMap<&str, PathBuf>>> = Mutex::new(None);
    let mut examples = EXAMPLES.lock().unwrap_or_else(PoisonError::into_inner);
    let executable = examples.get_or_insert_default().entry(name).or_insert_with(|| {
        let test = std::env::current_exe().expect("a running test has a path");
        let folder = test.parent().expect("tests lie in a folder");
        let above = folder
            .parent()
            .expect("tests lie in target/<profile>/deps, or packed in tests");
        if folder.ends_with("deps") {
            build(name, above);
        }
        above.join("examples").join(name)
    });
    executable.clone()
}

/// Builds an example into `target/<profile>`.
fn build(name: &str, folder: &Path) {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "sala-kernels", "--example", name])
        .args(["--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(build.expect("cargo runs").success(), "example {name} builds");
}
