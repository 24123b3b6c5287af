//! NVIDIA's tools, where the build script finds nvcc.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Problem;

/// Flags that nvcc reads from the environment by itself.
const NVCC_VARIABLES: [&str; 3] = ["NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"];

/// The tools that make and read cubins.
#[derive(Debug)]
pub struct Tools {
    nvcc: PathBuf,
    nvdisasm: PathBuf,
    /// All that `nvcc --version` says, and the flags that it reads from the environment.
    version: String,
}

impl Tools {
    /// Looks where the user says, in `CUDA_HOME` and `CUDA_PATH`, on the `PATH`, where `scripts/install_cuda.sh` and NVIDIA's installer put them.
    pub fn find(root: &Path) -> Result<Self, Problem> {
        let nvcc = find(root, "nvcc")?;
        let flags = NVCC_VARIABLES.map(|name| env::var(name).unwrap_or_default());
        let version = format!("{}{flags:?}", output(Command::new(&nvcc).arg("--version"))?);
        Ok(Self {
            nvcc,
            nvdisasm: find(root, "nvdisasm")?,
            version,
        })
    }

    /// A run of the compiler, without arguments.
    pub fn nvcc(&self) -> Command {
        Command::new(&self.nvcc)
    }

    /// The machine code of a cubin, with the source lines that it came from.
    pub fn disassemble(&self, cubin: &Path) -> Result<String, Problem> {
        output(Command::new(&self.nvdisasm).args(["-gi", "-c"]).arg(cubin))
    }

    /// What identifies the compiler.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The release, `13.0`.
    pub fn release(&self) -> &str {
        let release = self.version.split("release ").nth(1);
        release.and_then(|rest| rest.split(',').next()).unwrap_or("unknown")
    }
}

/// Runs a tool. What it says is the problem, where it fails.
pub(crate) fn output(command: &mut Command) -> Result<String, Problem> {
    let program = command.get_program().to_owned();
    let output = command.output();
    let output = output.map_err(|error| Problem::Machine(format!("cannot run {}: {error}", program.display())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Problem::misfit(format!("{}: {}", program.display(), said.trim_end())))
}

fn find(root: &Path, name: &str) -> Result<PathBuf, Problem> {
    let variable = name.to_ascii_uppercase();
    let value = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty());
    if let Some(named) = value(&variable).map(PathBuf::from) {
        let missing = || Problem::Machine(format!("{variable}={} is no file", named.display()));
        return named.is_file().then(|| named.clone()).ok_or_else(missing);
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(value);
    let homes = homes.map(|home| Path::new(&home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = [
        root.join(".cuda/packages/nvidia/cu13/bin"),
        PathBuf::from("/usr/local/cuda/bin"),
    ];
    let folders = homes.chain(env::split_paths(&path)).chain(installed);
    let found = folders.map(|folder| folder.join(name)).find(|place| place.is_file());
    found.ok_or_else(|| {
        let script = root.join("scripts/install_cuda.sh");
        let what_to_do = format!("run {}, or set {variable} or CUDA_HOME", script.display());
        Problem::Machine(format!("no {name}: {what_to_do}"))
    })
}
