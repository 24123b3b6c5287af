//! The libraries, built as a user builds them, and programs in C over them.
#![allow(dead_code, reason = "each test takes a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is in the repository")
}

/// A folder for what a test makes.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("make a folder");
    folder
}

/// The folder of `libsala_kernels.so` and `.a`, of the profile that this test has.
pub fn libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // The test lies in `<target>/<profile>/deps`.
        let test = std::env::current_exe().expect("the test has a path");
        let folder = test.ancestors().nth(2).expect("a folder of the profile").to_owned();
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--locked",
            "--quiet",
            "--package",
            "sala-kernels-c",
            "--profile",
            profile,
        ]);
        build
            .arg("--target-dir")
            .arg(folder.parent().expect("the target folder"));
        succeeded(
            "cargo build",
            build.current_dir(repository()).output().expect("run cargo"),
        );
        folder
    })
}

/// How a program is written and linked.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    pub language: &'static str,
    pub standard: &'static str,
    pub is_static: bool,
}

/// Both languages, with both libraries.
pub const BUILDS: [Build; 4] = [
    Build {
        language: "c",
        standard: "c11",
        is_static: false,
    },
    Build {
        language: "c",
        standard: "c11",
        is_static: true,
    },
    Build {
        language: "c++",
        standard: "c++17",
        is_static: false,
    },
    Build {
        language: "c++",
        standard: "c++17",
        is_static: true,
    },
];

impl Build {
    /// Compiles a program without a warning, and runs it.
    pub fn run(self, source: &Path, flags: &[&str]) -> String {
        let name = source.file_stem().and_then(|name| name.to_str()).expect("a name");
        let linkage = if self.is_static { "static" } else { "shared" };
        let program = scratch("programs").join(format!("{name}_{}_{linkage}", self.standard));
        let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
        compiler.args(["-x", self.language, &format!("-std={}", self.standard)]);
        compiler.args(["-Wall", "-Wextra", "-Werror", "-pedantic"]).args(flags);
        compiler.arg("-I").arg(repository().join("include")).arg(source);
        compiler.args(["-x", "none"]);
        match self.is_static {
            true => compiler
                .arg("-Wl,--whole-archive")
                .arg(libraries().join("libsala_kernels.a"))
                .args(STATIC),
            false => compiler.arg(libraries().join("libsala_kernels.so")),
        };
        let output = compiler.arg("-o").arg(&program).output().expect("run the compiler");
        succeeded(&format!("{self:?}"), output);
        let mut run = Command::new(&program);
        let output = run
            .env("LD_LIBRARY_PATH", libraries())
            .output()
            .expect("run the program");
        succeeded(&format!("{name}, {self:?}"), output)
    }
}

/// What a program with the static library links too. Kernels for the CPU register themselves, so all of it has to be linked.
pub const STATIC: [&str; 5] = ["-Wl,--no-whole-archive", "-lstdc++", "-lpthread", "-ldl", "-lm"];

/// What a command has said, if it succeeded.
pub fn succeeded(what: &str, output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}
