//! `$OUT_DIR/images.rs`: the device images, as Rust.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::environment::{Environment, Failure};
use crate::nvcc::Image;

/// Writes `IMAGES` for `src/device/image.rs` to include, and beside it `images/<file>.fatbin` with what ptxas said of it (`images/<file>.log`), which
/// the tests read, and its PTX if it is kept (`images/<file>.<arch>.ptx`), which compiled/ptx runs.
pub fn write(environment: &Environment, images: &[Image]) -> Result<(), Failure> {
    let folder = environment.out.join("images");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| Failure::file("create", &folder, error))?;
    let mut rust = String::new();
    if !images.is_empty() {
        rust.push_str("#[repr(C, align(64))]\nstruct Aligned<T: ?Sized>(T);\n\n");
    }
    rust.push_str("/// One device image per kernel file; none when the crate was built without nvcc.\npub static IMAGES: &[Image] = &[\n");
    for image in images {
        copy(&image.compiled.output, &folder.join(format!("{}.fatbin", image.name)))?;
        copy(&image.compiled.log, &folder.join(format!("{}.log", image.name)))?;
        for (arch, ptx) in &image.ptx {
            copy(ptx, &folder.join(format!("{}.{arch}.ptx", image.name)))?;
        }
        let _ = writeln!(
            rust,
            "    Image {{\n        name: {name:?},\n        archs: &{archs:?},\n        bytes: {{\n            \
             static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(\"images/{name}.fatbin\"));\n            &BYTES.0\n        }},\n    }},",
            name = image.name,
            archs = image.archs,
        );
    }
    rust.push_str("];\n");
    let file = environment.out.join("images.rs");
    fs::write(&file, rust).map_err(|error| Failure::file("write", &file, error))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| Failure::file("write", to, error))
}
