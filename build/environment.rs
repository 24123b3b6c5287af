//! What cargo and the user tell the build script, and how it answers.

use std::env;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

/// Why the build cannot go on; several lines where a compiler wrote several.
pub struct Failure(pub String);

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// A file operation that failed.
    pub fn file(what: &str, path: &Path, error: impl Display) -> Self {
        Self(format!("cannot {what} {}: {error}", path.display()))
    }

    /// Shows every line as an error of this package; cargo then stops the build.
    pub fn report(&self) {
        for line in self.0.lines() {
            println!("cargo::error={line}");
        }
    }
}

/// Shows one line that does not stop the build.
pub fn warn(message: impl Display) {
    println!("cargo::warning={message}");
}

/// An environment variable that decides what is built; an empty one counts as absent. Cargo runs the script again when it changes.
pub fn variable(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// What cargo tells this run of the build script.
pub struct Environment {
    /// The folder of Cargo.toml.
    pub root: PathBuf,
    pub out: PathBuf,
    /// Compiled files that every profile, feature set and check shares.
    pub cache: PathBuf,
    /// How many compilers may run at once.
    pub jobs: usize,
    /// docs.rs has no nvcc and links nothing.
    pub documentation_only: bool,
}

impl Environment {
    pub fn read() -> Result<Self, Failure> {
        let root = PathBuf::from(cargo_variable("CARGO_MANIFEST_DIR")?);
        let out = PathBuf::from(cargo_variable("OUT_DIR")?);
        for folder in ["cuda", "include"] {
            println!("cargo::rerun-if-changed={folder}");
        }
        let cache = target_folder(&out).join("sala-kernels");
        fs::create_dir_all(&cache).map_err(|error| Failure::file("create", &cache, error))?;
        let jobs = env::var("NUM_JOBS")
            .ok()
            .and_then(|jobs| jobs.parse().ok())
            .unwrap_or(1);
        Ok(Self {
            root,
            out,
            cache,
            jobs,
            documentation_only: variable("DOCS_RS").is_some(),
        })
    }

    /// Whether a feature of this crate is on; `name` as cargo spells it in `CARGO_FEATURE_*`.
    pub fn has_feature(&self, name: &str) -> bool {
        env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
    }

    /// Where kernel sources look for `#include "..."`.
    pub fn include_folders(&self) -> [PathBuf; 3] {
        [self.root.join("cuda"), self.root.join("include"), self.out.clone()]
    }
}

/// A variable that cargo always sets.
pub fn cargo_variable(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|_| Failure::new(format!("{name} is not set: build scripts are run by cargo")))
}

/// The target folder that holds `out`, which cargo marks with a `CACHEDIR.TAG`; `out` itself where there is no mark.
fn target_folder(out: &Path) -> &Path {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .unwrap_or(out)
}
