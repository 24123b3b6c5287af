//! What the build script says of nvcc: where there is none, one that is too old, or one that does not know a GPU that was asked for.
//!
//! The modules of the build script are compiled into this test. Each build runs in a process of its own, which is given its environment.

#[path = "../build/archs.rs"]
mod archs;
#[path = "../build/cache.rs"]
mod cache;
#[path = "../build/closure.rs"]
mod closure;
#[path = "../build/environment.rs"]
#[allow(dead_code, reason = "the build script uses all of it")]
mod environment;
#[path = "../build/kernels.rs"]
#[allow(dead_code, reason = "the build script uses all of it")]
mod kernels;
#[path = "../build/nvcc.rs"]
#[allow(dead_code, reason = "the build script uses all of it")]
mod nvcc;
#[path = "../src/shapes/mod.rs"]
#[allow(dead_code, reason = "the crate uses all of it")]
mod shapes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use environment::Environment;
use kernels::Kernel;

/// Where the build of a test's own process works.
const FOLDER: &str = "SALA_TEST_BUILDING";
/// What a build gave, on a line of its own.
const ANSWER: &str = "images: ";
/// Where the build script looks for nvcc whatever the environment says.
const INSTALLED: &str = "/usr/local/cuda/bin/nvcc";

/// A machine for builds: an empty checkout, and a folder of programs that is all of `PATH`.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("building").join(name);
        // What an earlier run left; there may be none.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin")).unwrap();
        Self(folder)
    }

    /// Puts an nvcc on the `PATH` that describes itself and compiles nothing.
    #[cfg(unix)]
    fn with_nvcc(self, version: &str, codes: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join("bin/nvcc");
        let script = format!(
            "#!/bin/sh\ncase $1 in\n--version) echo 'Cuda compilation tools, release {version}, V{version}.1' ;;\n\
             --list-gpu-code) printf '{codes}\\n' ;;\n*) exit 1 ;;\nesac\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Builds with these variables and returns the lines that a user gets to see, or `None` where the machine of the test has an nvcc that
    /// cannot be hidden.
    fn build(&self, variables: &[(&str, &str)]) -> Option<Vec<String>> {
        if Path::new(INSTALLED).is_file() {
            println!("skipped: there is {INSTALLED}");
            return None;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "build_images"])
            .env_clear()
            .env("PATH", self.0.join("bin"))
            .env(FOLDER, &self.0)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let shown = ["cargo::error=", "cargo::warning=", ANSWER];
        let lines = said
            .lines()
            .filter(|line| shown.iter().any(|start| line.starts_with(start)));
        Some(
            lines
                .map(|line| line.trim_start_matches("cargo::").to_owned())
                .collect(),
        )
    }

    /// A build that is to fail with one error, which it returns.
    fn error(&self, variables: &[(&str, &str)]) -> Option<String> {
        let lines = self.build(variables)?;
        let errors: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("error=")).collect();
        assert_eq!(errors.len(), 1, "{variables:?}: {lines:?}");
        assert!(
            !lines.iter().any(|line| line.starts_with(ANSWER)),
            "{variables:?}: {lines:?}"
        );
        Some(errors[0].to_owned())
    }
}

#[test]
#[ignore = "run by other tests with an environment of their choice"]
fn build_images() {
    let Some(root) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let environment = Environment {
        out: root.join("out"),
        cache: root.join("cache"),
        root,
        jobs: 1,
        documentation_only: false,
    };
    let kernels: Vec<_> = shapes::compiled_files()
        .take(1)
        .map(|file| Kernel {
            file,
            source: environment.root.join(file.source()),
        })
        .collect();
    // libtest has begun a line with the name of the test.
    println!();
    match nvcc::compile(&environment, &kernels) {
        Ok(images) => println!("{ANSWER}{}", images.len()),
        Err(failure) => failure.report(),
    }
}

#[test]
fn without_nvcc_a_build_warns() {
    let machine = Machine::new("none");
    let Some(with_host) = machine.build(&[("CARGO_FEATURE_HOST", "1")]) else {
        return;
    };
    assert_eq!(with_host.len(), 2, "{with_host:?}");
    assert!(
        with_host[0].starts_with("warning=no nvcc: the kernels run on the CPU only; `python3 -m pip install "),
        "{with_host:?}"
    );
    assert_eq!(with_host[1], "images: 0");

    let without_host = machine.build(&[]).unwrap();
    let expected = "warning=no nvcc, and no feature `host`: the kernels run nowhere; ";
    assert!(without_host[0].starts_with(expected), "{without_host:?}");

    for variable in ["SALA_CUDA_ARCHS", "CUDA_COMPUTE_CAP"] {
        assert_eq!(machine.build(&[(variable, "none")]).unwrap(), ["images: 0"]);
    }
    assert_eq!(machine.build(&[("SALA_REQUIRE_CUDA", "0")]).unwrap(), without_host);
}

#[test]
fn without_nvcc_a_build_that_names_gpus_fails() {
    let machine = Machine::new("named");
    for named in [
        ("SALA_CUDA_ARCHS", "90a"),
        ("SALA_CUDA_ARCHS", "compute_80"),
        ("CUDA_COMPUTE_CAP", "89"),
    ] {
        let Some(error) = machine.error(&[named, ("CARGO_FEATURE_HOST", "1")]) else {
            return;
        };
        assert!(error.starts_with("no nvcc: "), "{named:?}: {error}");
    }
}

#[test]
fn a_build_that_requires_images_fails_without_them() {
    let required = ("SALA_REQUIRE_CUDA", "1");
    let machine = Machine::new("required");
    let Some(error) = machine.error(&[required]) else {
        return;
    };
    assert!(error.starts_with("no nvcc"), "{error}");
    let error = machine.error(&[required, ("SALA_CUDA_ARCHS", "none")]).unwrap();
    assert_eq!(error, "SALA_REQUIRE_CUDA=1, but SALA_CUDA_ARCHS=none");
}

#[cfg(unix)]
#[test]
fn an_old_nvcc_is_passed_over() {
    let machine = Machine::new("old").with_nvcc("12.3", "sm_80\\nsm_90");
    let Some(lines) = machine.build(&[]) else { return };
    assert!(
        lines[0].ends_with("/nvcc is passed over: expected nvcc 12.4 or newer, got 12.3"),
        "{lines:?}"
    );
    assert_eq!(lines.last().unwrap(), "images: 0");
    let error = machine.error(&[("SALA_CUDA_ARCHS", "90a")]).unwrap();
    assert!(error.starts_with("no nvcc"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_gpu_that_nvcc_does_not_know_fails_a_build_that_names_it() {
    let machine = Machine::new("unknown").with_nvcc("12.4", "sm_80\\nsm_90");
    let Some(error) = machine.error(&[("SALA_CUDA_ARCHS", "120")]) else {
        return;
    };
    assert_eq!(error, "nvcc 12.4 does not know sm_120");
    let error = machine.error(&[("SALA_REQUIRE_CUDA", "1")]).unwrap();
    assert!(error.starts_with("nvcc 12.4 does not know "), "{error}");
}
