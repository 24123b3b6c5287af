//! Rust declarations of the C headers that both languages share.

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};

use bindgen::callbacks::{DeriveInfo, ParseCallbacks};
use bindgen::{Builder, EnumVariation, Formatter, RustEdition, RustTarget};

/// A header and the file made of it, both relative to the repository.
struct Bindings {
    header: &'static str,
    rust: &'static str,
}

const BINDINGS: [Bindings; 2] = [
    Bindings {
        header: "include/kernel_params.h",
        rust: "src/sys/params.rs",
    },
    Bindings {
        header: "cuda/host/executor.h",
        rust: "src/sys/executor.rs",
    },
];

/// Types that Rust only holds pointers to.
const OPAQUE: [&str; 1] = ["sala_host_kernel"];

/// Where `scripts/install_tools.sh` puts libclang.
const INSTALLED_LIBCLANG: &str = ".venv/packages/clang/native";

/// Why the bindings could not be made, or are not what they should be.
pub enum Failure {
    NoLibclang(String),
    Bindgen { header: &'static str, error: String },
    File { path: &'static str, error: std::io::Error },
    Stale { rust: &'static str, header: &'static str },
}

impl Failure {
    /// 2 for what this machine lacks, 1 for what is wrong with the repository.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::NoLibclang(_)) { 2 } else { 1 }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLibclang(error) => {
                write!(
                    f,
                    "no libclang: scripts/install_tools.sh gets one, or set LIBCLANG_PATH ({error})"
                )
            }
            Self::Bindgen { header, error } => write!(f, "{header}: {error}"),
            Self::File { path, error } => write!(f, "{path}: {error}"),
            Self::Stale { rust, header } => write!(f, "{rust} differs from {header}: run `cargo xtask bindgen`"),
        }
    }
}

/// Writes every file.
pub fn write() -> Result<(), Failure> {
    load_libclang()?;
    for bindings in &BINDINGS {
        let text = bindings.generate()?;
        fs::write(repository().join(bindings.rust), text).map_err(|error| bindings.file_error(error))?;
    }
    Ok(())
}

/// Compares every file with what [`write()`] would write.
pub fn check() -> Result<(), Failure> {
    load_libclang()?;
    for bindings in &BINDINGS {
        let committed =
            fs::read_to_string(repository().join(bindings.rust)).map_err(|error| bindings.file_error(error))?;
        if committed != bindings.generate()? {
            return Err(Failure::Stale {
                rust: bindings.rust,
                header: bindings.header,
            });
        }
    }
    Ok(())
}

impl Bindings {
    fn generate(&self) -> Result<String, Failure> {
        let builder = Builder::default()
            .header(repository().join(self.header).display().to_string())
            .disable_header_comment()
            .raw_line(format!(
                "//! Made from `{}` by `cargo xtask bindgen`; change it there.",
                self.header
            ))
            .allowlist_item("(sala|SALA)_.*")
            .default_enum_style(EnumVariation::Consts)
            .prepend_enum_name(false)
            .derive_default(true)
            .generate_comments(false)
            .layout_tests(true)
            .use_core()
            .rust_target(RustTarget::stable(85, 0).map_err(|error| self.bindgen_error(error))?)
            .rust_edition(RustEdition::Edition2024)
            .formatter(Formatter::Rustfmt)
            .rustfmt_configuration_file(Some(repository().join("rustfmt.toml")))
            .parse_callbacks(Box::new(PlainOldData));
        builder
            .generate()
            .map(|bindings| bindings.to_string())
            .map_err(|error| self.bindgen_error(error))
    }

    fn bindgen_error(&self, error: impl Display) -> Failure {
        Failure::Bindgen {
            header: self.header,
            error: error.to_string(),
        }
    }

    fn file_error(&self, error: std::io::Error) -> Failure {
        Failure::File { path: self.rust, error }
    }
}

/// Derives `bytemuck::Pod` for every struct with fields, so that padding which no field names does not compile.
#[derive(Debug)]
struct PlainOldData;

impl ParseCallbacks for PlainOldData {
    fn add_derives(&self, info: &DeriveInfo<'_>) -> Vec<String> {
        let derives: &[&str] = if OPAQUE.contains(&info.name) {
            &[]
        } else {
            &["bytemuck::Pod", "bytemuck::Zeroable"]
        };
        derives.iter().map(|&derive| derive.to_owned()).collect()
    }
}

/// bindgen panics without libclang; this says what to do instead.
fn load_libclang() -> Result<(), Failure> {
    let installed = repository().join(INSTALLED_LIBCLANG);
    if std::env::var_os("LIBCLANG_PATH").is_none() && installed.is_dir() {
        // SAFETY: no other thread runs yet in this program.
        unsafe { std::env::set_var("LIBCLANG_PATH", installed) };
    }
    clang_sys::load().map_err(Failure::NoLibclang)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
