//! What a C or C++ project links: the header, both libraries and a file for pkg-config, laid out as below a prefix such as `/usr/local`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::{Failure, cargo, repository};

/// Lays out the header, the libraries and a pkg-config file for C.
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder [default: dist in the target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// What a program with the static library links too.
const PRIVATE: &str = "-lstdc++ -lpthread -ldl -lm";

/// Builds the libraries, and lays them out.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    succeed(Command::new(cargo()).args(["build", "--locked", "--release", "--package", "sala-kernels-c"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = repository().join(target);
    let out = arguments.out.clone().unwrap_or_else(|| target.join("dist"));
    let [include, lib, pkgconfig, share] =
        ["include", "lib", "lib/pkgconfig", "share/doc/sala-kernels"].map(|folder| out.join(folder));
    for folder in [&include, &lib, &pkgconfig, &share] {
        fs::create_dir_all(folder).map_err(|error| Failure::file(folder, error))?;
    }
    let built = target.join("release");
    copy(&repository().join("include/sala_kernels.h"), &include)?;
    copy(&built.join("libsala_kernels.so"), &lib)?;
    whole(&built.join("libsala_kernels.a"), &lib)?;
    for document in ["LICENSE-APACHE", "LICENSE-MIT", "docs/semantics.md"] {
        copy(&repository().join(document), &share)?;
    }
    let description = pkgconfig.join("sala-kernels.pc");
    fs::write(&description, pc()).map_err(|error| Failure::file(&description, error))?;
    println!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// The file for pkg-config, which finds the rest from where it is.
fn pc() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "prefix=${{pcfiledir}}/../..\n\n\
         Name: sala-kernels\n\
         Description: Kernels for hybrid block-sparse and linear attention, on CUDA GPUs and on the CPU\n\
         Version: {version}\n\
         Cflags: -I${{prefix}}/include\n\
         Libs: -L${{prefix}}/lib -lsala_kernels\n\
         Libs.private: {PRIVATE}\n"
    )
}

/// Makes one object of a static library. Kernels for the CPU register themselves: no symbol asks a linker for them.
fn whole(library: &Path, folder: &Path) -> Result<(), Failure> {
    let object = folder.join("sala_kernels.o");
    let mut link = Command::new(tool("CXX", "c++"));
    link.args(["-r", "-nostdlib", "-Wl,--whole-archive"]);
    succeed(link.arg(library).arg("-o").arg(&object))?;
    // The bitcode of Rust's objects, end to end, is what no linker's plugin reads.
    let mut strip = Command::new(tool("OBJCOPY", "objcopy"));
    succeed(
        strip
            .args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd"])
            .arg(&object),
    )?;
    let archive = folder.join("libsala_kernels.a");
    let _ = fs::remove_file(&archive);
    succeed(Command::new(tool("AR", "ar")).arg("rcs").arg(&archive).arg(&object))?;
    fs::remove_file(&object).map_err(|error| Failure::file(&object, error))
}

/// A program of the compiler's, which a variable may name.
fn tool(variable: &str, name: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| name.into())
}

fn copy(file: &Path, folder: &Path) -> Result<(), Failure> {
    let name = file.file_name().unwrap_or_default();
    fs::copy(file, folder.join(name)).map_err(|error| Failure::file(file, error))?;
    Ok(())
}

fn succeed(command: &mut Command) -> Result<(), Failure> {
    let program = command.get_program().to_owned();
    let status = command.current_dir(repository()).status();
    let status = status.map_err(|error| Failure::machine(format!("cannot run {}: {error}", program.display())))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::repository(format!(
            "{} ended with {status}",
            program.display()
        ))),
    }
}
