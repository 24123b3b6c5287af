//! What `cargo xtask dist` lays out is enough to build a program in C, with either library, by pkg-config.

use std::path::Path;
use std::process::{Command, Output};

fn succeeded(what: &str, output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The flags of pkg-config, by pkg-config if there is one.
fn flags(folder: &Path, is_static: bool) -> Vec<String> {
    let libraries = folder.join("lib");
    let description = libraries.join("pkgconfig/sala-kernels.pc");
    let mut ask = Command::new("pkg-config");
    ask.args(["--cflags", "--libs"])
        .args(is_static.then_some("--static"))
        .arg(&description);
    let said = match ask.output() {
        Ok(output) => succeeded("pkg-config", output),
        Err(error) => {
            println!("without pkg-config: {error}");
            let text = std::fs::read_to_string(&description).expect("the file is there");
            let field = |name| {
                text.lines()
                    .find_map(|line| line.strip_prefix(name))
                    .expect("the field is there")
            };
            let private = if is_static { field("Libs.private: ") } else { "" };
            let flags = [field("Cflags: "), field("Libs: "), private].join(" ");
            flags.replace("${prefix}", folder.to_str().expect("text"))
        }
    };
    said.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_program_links_what_was_laid_out() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dist");
    let mut dist = Command::new(env!("CARGO_BIN_EXE_xtask"));
    succeeded(
        "dist",
        dist.arg("dist").arg("--out").arg(&folder).output().expect("run xtask"),
    );
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../c_api/tests/layers.c");
    let mut said = Vec::new();
    for is_static in [false, true] {
        let program = folder.join(if is_static { "static" } else { "shared" });
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        // Where both libraries are, `-l` takes the shared one: the static one goes by its name.
        let flags = flags(&folder, is_static)
            .into_iter()
            .map(|flag| match (is_static, flag.as_str()) {
                (true, "-lsala_kernels") => "-l:libsala_kernels.a".to_owned(),
                _ => flag,
            });
        compiler
            .arg("-std=c11")
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .args(flags);
        succeeded("the compiler", compiler.output().expect("run the compiler"));
        let mut run = Command::new(&program);
        if !is_static {
            run.env("LD_LIBRARY_PATH", folder.join("lib"));
        }
        said.push(succeeded("the program", run.output().expect("run the program")));
    }
    assert!(said[0].starts_with("sparse "), "{}", said[0]);
    assert_eq!(said[0], said[1]);
}
