//! What the compilers made of the kernels, read from the device images without a GPU.

mod figures;
mod instructions;
mod usage;

use sala_kernels::shapes::{self, KernelFile};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The images of this build, as the build script left them.
fn images() -> Vec<(&'static KernelFile, PathBuf)> {
    let folder = Path::new(env!("OUT_DIR")).join("images");
    let has_machine_code = |file: &&KernelFile| file.machine.archs().iter().any(|arch| arch.starts_with("sm_"));
    let files = shapes::compiled_files()
        .filter(has_machine_code)
        .map(|file| (file, folder.join(format!("{}.fatbin", file.stem()))));
    let images: Vec<_> = files.filter(|(_, fatbin)| fatbin.is_file()).collect();
    if images.is_empty() {
        skip("built without nvcc");
    }
    images
}

/// NVIDIA's disassembler; `scripts/install_cuda.sh` gets it too.
fn cuobjdump() -> Option<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cuda/packages/nvidia/cu13");
    let folders = homes
        .chain([installed, PathBuf::from("/usr/local/cuda")])
        .map(|home| home.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = folders
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("cuobjdump"))
        .find(|file| file.is_file());
    if found.is_none() {
        skip("no cuobjdump");
    }
    found
}

/// What cuobjdump says of an image.
fn run(cuobjdump: &Path, what: &str, image: &Path) -> String {
    let output = Command::new(cuobjdump)
        .arg(what)
        .arg(image)
        .output()
        .expect("run cuobjdump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where the tools are required, a test that cannot run has failed.
fn skip(why: &str) {
    assert!(env::var_os("SALA_REQUIRE_TOOLS").is_none(), "{why}");
    eprintln!("skipped: {why}");
}
