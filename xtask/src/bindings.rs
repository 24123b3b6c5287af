//! Rust declarations of the C headers that both languages share.

use std::fs;
use std::process::{Command, ExitCode};

use bindgen::callbacks::{DeriveInfo, ParseCallbacks};
use bindgen::{Builder, EnumVariation, Formatter, RustEdition, RustTarget};

use crate::{Failure, repository};

/// Writes the Rust declarations of the C headers, `src/sys/*.rs`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Compare them with the files that there are, and write nothing
    #[arg(long)]
    check: bool,
}

/// A header, or a folder of them, and the file made of it, relative to the repository.
struct Bindings {
    source: &'static str,
    rust: &'static str,
    kind: Kind,
}

/// What a header declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What Rust calls, and structs without pointers.
    Callee,
    /// What Rust defines: its functions and handles are not declared to Rust.
    Api,
}

const BINDINGS: [Bindings; 3] = [
    Bindings {
        source: "include/params",
        rust: "src/sys/params.rs",
        kind: Kind::Callee,
    },
    Bindings {
        source: "cuda/host/executor.h",
        rust: "src/sys/executor.rs",
        kind: Kind::Callee,
    },
    Bindings {
        source: "include/sala_kernels.h",
        rust: "src/sys/c_api.rs",
        kind: Kind::Api,
    },
];

/// Handles of the C API, which Rust defines.
const HANDLES: &str = "sala_(kernels|sparse_layer|linear_attention)";

/// Types that Rust only holds pointers to.
const OPAQUE: [&str; 1] = ["sala_host_kernel"];

/// What bindgen makes of `Default` where it cannot derive it, of structs that are aligned to more than their fields; and the same of structs
/// of which zeros are known to be a value.
const UNSAFE_DEFAULT: &str = "        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
";
const SAFE_DEFAULT: &str = "        bytemuck::Zeroable::zeroed()\n";

/// What the names of the structs end in that kernels take.
const PARAMS: &str = "_params";

/// Where `scripts/install_tools.sh` puts libclang.
const INSTALLED_LIBCLANG: &str = ".venv/packages/clang/native";

/// Writes every file, or compares it with what would be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    load_libclang()?;
    for bindings in &BINDINGS {
        let path = repository().join(bindings.rust);
        let text = bindings.generate()?;
        if !arguments.check {
            fs::write(path, text).map_err(|error| Failure::file(bindings.rust, error))?;
        } else if fs::read_to_string(path).map_err(|error| Failure::file(bindings.rust, error))? != text {
            let Bindings { source, rust, .. } = bindings;
            return Err(Failure::repository(format!(
                "{rust} differs from {source}: run `cargo xtask bindgen`"
            )));
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Bindings {
    fn generate(&self) -> Result<String, Failure> {
        let builder = Builder::default()
            .headers(self.headers()?)
            .disable_header_comment()
            .raw_line(format!(
                "//! Made from `{}` by `cargo xtask bindgen`; change it there.",
                self.source
            ))
            .allowlist_item("(sala|SALA)_.*")
            .default_enum_style(EnumVariation::Consts)
            .prepend_enum_name(false)
            .translate_enum_integer_types(true)
            .derive_default(self.kind == Kind::Callee)
            .generate_comments(false)
            .layout_tests(true)
            .use_core()
            .rust_target(RustTarget::stable(85, 0).map_err(|error| Failure::file(self.source, error))?)
            .rust_edition(RustEdition::Edition2024)
            .formatter(Formatter::Rustfmt)
            .rustfmt_configuration_file(Some(repository().join("rustfmt.toml")))
            .parse_callbacks(Box::new(PlainOldData { kind: self.kind }));
        let builder = match self.kind {
            Kind::Callee => builder,
            Kind::Api => builder
                .ignore_functions()
                .blocklist_type(HANDLES)
                .clang_args(["-isystem".to_owned(), compilers_headers()?]),
        };
        let bindings = builder
            .generate()
            .map_err(|error| Failure::file(self.source, error))?
            .to_string();
        let bindings = without_aliases_of_anonymous_enums(&bindings).replace(UNSAFE_DEFAULT, SAFE_DEFAULT);
        let parameter_structs = parameter_structs(&bindings);
        Ok(bindings + &parameter_structs)
    }

    /// The header, or the sorted headers of the folder.
    fn headers(&self) -> Result<Vec<String>, Failure> {
        let path = repository().join(self.source);
        if path.is_file() {
            return Ok(vec![path.display().to_string()]);
        }
        let entries = fs::read_dir(&path).map_err(|error| Failure::file(self.source, error))?;
        let mut headers = entries
            .map(|entry| Ok(entry?.path().display().to_string()))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| Failure::file(self.source, error))?;
        headers.sort();
        Ok(headers)
    }
}

/// Anonymous enums hold tile constants: gives these the enum's integer type itself, instead of an alias that is numbered by the enums before it.
fn without_aliases_of_anonymous_enums(bindings: &str) -> String {
    const ALIAS: &str = "pub type _bindgen_ty_";
    let aliases = bindings.lines().filter_map(|line| {
        let (number, integer) = line.strip_prefix(ALIAS)?.strip_suffix(';')?.split_once(" = ")?;
        Some((format!(": _bindgen_ty_{number} ="), format!(": {integer} =")))
    });
    let mut kept: String = bindings
        .lines()
        .filter(|line| !line.starts_with(ALIAS))
        .flat_map(|line| [line, "\n"])
        .collect();
    for (alias, integer) in aliases {
        kept = kept.replace(&alias, &integer);
    }
    kept
}

/// Where the C++ compiler has `stddef.h`, which a libclang alone lacks.
fn compilers_headers() -> Result<String, Failure> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let output = Command::new(&compiler).arg("-print-file-name=include").output();
    let output = output.map_err(|error| Failure::machine(format!("cannot run {}: {error}", compiler.display())))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// For every struct that kernels take: its name in the table of kernels, and its size.
fn parameter_structs(bindings: &str) -> String {
    let structs = bindings.lines().filter_map(|line| line.strip_prefix("pub struct "));
    let names: Vec<_> = structs
        .filter_map(|rest| rest.split([' ', '{']).next())
        .filter(|name| name.ends_with(PARAMS))
        .collect();
    if names.is_empty() {
        return String::new();
    }
    let implementations = names.iter().map(|name| {
        format!("impl crate::launch::Params for {name} {{\n    const NAME: &'static str = \"{name}\";\n}}\n")
    });
    let sizes = names.iter().map(|name| format!("    size::<{name}>(),\n"));
    let implementations: String = implementations.collect();
    let sizes: String = sizes.collect();
    let size = "const fn size<P: crate::launch::Params>() -> (&'static str, usize) {\n    (P::NAME, ::core::mem::size_of::<P>())\n}\n";
    format!("{implementations}{size}pub const SIZES: &[(&str, usize)] = &[\n{sizes}];\n")
}

/// Derives `bytemuck::Pod` for every struct with fields, so that padding which no field names does not compile.
/// Those of the C API hold pointers.
#[derive(Debug)]
struct PlainOldData {
    kind: Kind,
}

impl ParseCallbacks for PlainOldData {
    fn add_derives(&self, info: &DeriveInfo<'_>) -> Vec<String> {
        let derives: &[&str] = if self.kind == Kind::Api || OPAQUE.contains(&info.name) {
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
    clang_sys::load().map_err(|error| {
        Failure::machine(format!(
            "no libclang: scripts/install_tools.sh gets one, or set LIBCLANG_PATH ({error})"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_anonymous_enums_have_a_plain_type() {
        let bindings = "pub const SALA_A: _bindgen_ty_1 = 8;\npub type _bindgen_ty_1 = u32;\npub const SALA_B: _bindgen_ty_12 = -8;\npub type _bindgen_ty_12 = i32;\npub type sala_decay = u32;\n";
        assert_eq!(
            without_aliases_of_anonymous_enums(bindings),
            "pub const SALA_A: u32 = 8;\npub const SALA_B: i32 = -8;\npub type sala_decay = u32;\n"
        );
    }
}
