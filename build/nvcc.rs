//! The GPU half: finds nvcc and compiles one image per kernel file.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archs::{Arch, Wanted};
use crate::cache::{self, Compiled, Job};
use crate::closure::Closure;
use crate::environment::{Environment, Failure, variable, warn};
use crate::kernels::Kernel;
use crate::shapes::Machine;

/// The oldest nvcc that compiles the kernels.
const OLDEST: (u32, u32) = (12, 4);
const SOURCE_FLAGS: [&str; 2] = ["-std=c++17", "-DSALA_VARIANT=device"];
const IMAGE_FLAGS: [&str; 3] = ["-fatbin", "-Xfatbin=-compress-all", "-Xptxas=-v"];
/// `-lineinfo` adds the lines of the sources and changes no instruction.
const PTX_FLAGS: [&str; 2] = ["-ptx", "-lineinfo"];
/// With this variable the PTX that nvcc makes on the way to every image is kept beside it, for tests that run it.
const KEEP_PTX: &str = "SALA_KEEP_PTX";
/// Set to 1, a build has images for GPUs or fails: cargo hides a dependency's warnings.
const REQUIRED: &str = "SALA_REQUIRE_CUDA";
/// Flags that nvcc reads from the environment by itself.
const NVCC_VARIABLES: [&str; 3] = ["NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"];

/// The compiled image of a kernel file.
pub struct Image {
    pub name: String,
    /// `sm_*` machine code and `compute_*` PTX.
    pub archs: Vec<String>,
    pub compiled: Compiled,
    /// For each of `archs`, if it is kept, the PTX that its code is made from.
    pub ptx: Vec<(String, PathBuf)>,
}

/// Compiles the images of `kernels`; none, with a warning that says what to do, when this machine has no nvcc and was
/// not told to have images.
pub fn compile(environment: &Environment, kernels: &[Kernel]) -> Result<Vec<Image>, Failure> {
    let wanted = Wanted::read()?;
    if wanted.is_nothing() {
        return match required() {
            true => Err(Failure::new(format!("{REQUIRED}=1, but SALA_CUDA_ARCHS=none"))),
            false => Ok(Vec::new()),
        };
    }
    let Some(nvcc) = find(&environment.root)? else {
        return without_nvcc(environment, &wanted);
    };
    println!("cargo::rerun-if-changed={}", nvcc.path.display());

    let mut unknown = BTreeSet::new();
    let mut images = Vec::new();
    for kernel in kernels {
        let (known, skipped) = wanted
            .of(kernel.file.machine.archs())
            .into_iter()
            .partition::<Vec<_>, _>(|arch| nvcc.knows(arch));
        unknown.extend(skipped);
        if !known.is_empty() {
            images.push((kernel, known));
        }
    }
    if !unknown.is_empty() {
        let unknown = Vec::from_iter(unknown).join(", ");
        let message = format!("nvcc {}.{} does not know {unknown}", nvcc.version.0, nvcc.version.1);
        if wanted.is_explicit() || required() {
            return Err(Failure::new(message));
        }
        warn(format!("{message}: left out of the images"));
    }
    if images.is_empty() {
        return Err(Failure::new(
            "no kernel can be compiled for the GPUs that SALA_CUDA_ARCHS or CUDA_COMPUTE_CAP names",
        ));
    }

    let include = environment.include_folders();
    let closure = Closure {
        search: &include,
        without: environment.root.join("cuda/host").canonicalize().ok(),
    };
    let threads = environment.jobs / images.len().max(1);
    let mut jobs: Vec<_> = images
        .iter()
        .map(|(kernel, archs)| nvcc.image_job(kernel, archs, &include, threads))
        .collect();
    let kept: Vec<_> = match variable(KEEP_PTX) {
        Some(_) => images.iter().map(|(_, archs)| virtual_archs(archs)).collect(),
        None => vec![Vec::new(); images.len()],
    };
    for ((kernel, _), kept) in images.iter().zip(&kept) {
        jobs.extend(kept.iter().map(|arch| nvcc.ptx_job(kernel, arch, &include)));
    }
    let mut compiled = cache::compile_all(environment, &closure, jobs)?;
    let mut ptx = compiled.split_off(images.len()).into_iter();
    let mut built = Vec::with_capacity(images.len());
    for (((kernel, archs), compiled), kept) in images.into_iter().zip(compiled).zip(kept) {
        let kept: Vec<_> = kept.into_iter().zip(ptx.by_ref()).collect();
        let of_arch = |arch: &String| {
            let (_, found) = kept.iter().find(|(kept, _)| *kept == virtual_arch(arch))?;
            Some((arch.clone(), found.output.clone()))
        };
        built.push(Image {
            name: kernel.file.stem(),
            ptx: archs.iter().filter_map(of_arch).collect(),
            archs,
            compiled,
        });
    }
    Ok(built)
}

/// The architecture of the PTX that code for `arch` is made from.
fn virtual_arch(arch: &str) -> String {
    arch.replace("sm_", "compute_")
}

/// [`virtual_arch`] of all, without repetition.
fn virtual_archs(archs: &[String]) -> Vec<String> {
    let unique: BTreeSet<_> = archs.iter().map(|arch| virtual_arch(arch)).collect();
    unique.into_iter().collect()
}

/// What a build without nvcc is: an error where it was told to have images, else one that says what it lacks.
fn without_nvcc(environment: &Environment, wanted: &Wanted) -> Result<Vec<Image>, Failure> {
    let advice = how_to_install(&environment.root);
    if wanted.is_explicit() || required() {
        return Err(Failure::new(format!(
            "no nvcc: SALA_CUDA_ARCHS, CUDA_COMPUTE_CAP or {REQUIRED} asks for images; {advice}"
        )));
    }
    let what = match environment.has_feature("HOST") {
        true => "no nvcc: the kernels run on the CPU only",
        false => "no nvcc, and no feature `host`: the kernels run nowhere",
    };
    warn(format!("{what}; {advice}"));
    Ok(Vec::new())
}

/// Whether a build without images is an error.
fn required() -> bool {
    variable(REQUIRED).is_some_and(|value| value != "0")
}

/// A compiler that runs.
struct Nvcc {
    path: PathBuf,
    version: (u32, u32),
    /// The whole of `nvcc --version`, and the flags from the environment.
    identity: String,
    /// The `sm_*` and `compute_*` names without suffixes.
    architectures: BTreeSet<u32>,
}

impl Nvcc {
    /// `None` when there is nothing at `path` that runs as an nvcc.
    fn at(path: &Path) -> Option<Self> {
        let version = output(path, "--version")?;
        let (major, minor) = version.split("release ").nth(1)?.split(',').next()?.split_once('.')?;
        let number = (major.parse().ok()?, minor.parse().ok()?);
        let codes = output(path, "--list-gpu-code")?;
        let architectures = codes
            .lines()
            .filter_map(Arch::parse)
            .map(|arch| arch.capability)
            .collect();
        let variables: Vec<_> = NVCC_VARIABLES.iter().filter_map(|name| variable(name)).collect();
        let identity = format!("{version}{variables:?}");
        Some(Self {
            path: path.to_owned(),
            version: number,
            identity,
            architectures,
        })
    }

    fn knows(&self, arch: &str) -> bool {
        Arch::parse(arch).is_some_and(|arch| self.architectures.contains(&arch.capability))
    }

    /// `threads`: how many architectures to compile at once.
    fn image_job(&self, kernel: &Kernel, archs: &[String], include: &[PathBuf], threads: usize) -> Job {
        let targets = archs
            .iter()
            .map(|code| format!("-gencode=arch={},code={code}", virtual_arch(code)));
        let flags: Vec<String> = IMAGE_FLAGS.iter().map(|&flag| flag.to_owned()).chain(targets).collect();
        let mut job = self.job(kernel, kernel.file.stem(), "fatbin", &flags, include);
        job.command.arg(format!("--threads={}", threads.max(1)));
        job
    }

    fn ptx_job(&self, kernel: &Kernel, arch: &str, include: &[PathBuf]) -> Job {
        let target = format!("-gencode=arch={arch},code={arch}");
        let flags: Vec<String> = PTX_FLAGS.iter().map(|&flag| flag.to_owned()).chain([target]).collect();
        let label = format!("{}.{arch}", kernel.file.stem());
        self.job(kernel, label, "ptx", &flags, include)
    }

    fn job(
        &self,
        kernel: &Kernel,
        label: String,
        extension: &'static str,
        flags: &[String],
        include: &[PathBuf],
    ) -> Job {
        let mut command = Command::new(&self.path);
        command
            .args(SOURCE_FLAGS)
            .args(flags)
            .args(include.iter().flat_map(|folder| [Path::new("-I"), folder]));
        Job {
            label,
            extension,
            command,
            identity: format!("{}{SOURCE_FLAGS:?}{flags:?}", self.identity),
            source: kernel.source.clone(),
            forbids_serialising: kernel.file.machine == Machine::Sm90a,
        }
    }
}

/// The first nvcc that is new enough: where the user says, on the `PATH`, where `scripts/install_cuda.sh` puts it, where NVIDIA's installer does.
fn find(root: &Path) -> Result<Option<Nvcc>, Failure> {
    if let Some(named) = variable("NVCC") {
        let nvcc =
            Nvcc::at(Path::new(&named)).ok_or_else(|| Failure::new(format!("NVCC={named} does not run as an nvcc")))?;
        if nvcc.version < OLDEST {
            return Err(Failure::new(format!("NVCC={named}: {}", too_old(&nvcc))));
        }
        return Ok(Some(nvcc));
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(variable)
        .map(|home| Path::new(&home).join("bin"));
    for folder in homes {
        if let Some(nvcc) = new_enough(&folder) {
            return Ok(Some(nvcc));
        }
    }
    // A PATH differs from terminal to editor; cargo watches it only where it decides.
    println!("cargo::rerun-if-env-changed=PATH");
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = [
        root.join(".cuda/packages/nvidia/cu13/bin"),
        PathBuf::from("/usr/local/cuda/bin"),
    ];
    Ok(env::split_paths(&path)
        .chain(installed)
        .find_map(|folder| new_enough(&folder)))
}

fn new_enough(folder: &Path) -> Option<Nvcc> {
    let path = folder.join("nvcc");
    let nvcc = path.is_file().then(|| Nvcc::at(&path)).flatten()?;
    if nvcc.version < OLDEST {
        warn(format!("{} is passed over: {}", path.display(), too_old(&nvcc)));
        return None;
    }
    Some(nvcc)
}

fn too_old(nvcc: &Nvcc) -> String {
    format!(
        "expected nvcc {}.{} or newer, got {}.{}",
        OLDEST.0, OLDEST.1, nvcc.version.0, nvcc.version.1
    )
}

/// The one command that gets an nvcc.
fn how_to_install(root: &Path) -> String {
    let script = root.join("scripts/install_cuda.sh");
    if script.is_file() {
        // The script touches itself when it has installed one, and cargo looks again.
        println!("cargo::rerun-if-changed={}", script.display());
        return "`scripts/install_cuda.sh` gets one".to_owned();
    }
    let install = "python3 -m pip install --target DIR 'cuda-toolkit[nvcc,cudart,cccl]==13.0.*'";
    format!("`{install}` gets one for CUDA_HOME=DIR/nvidia/cu13")
}

fn output(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
