//! Compiles the kernels: for GPUs with nvcc, one image per kernel file, embedded through `$OUT_DIR/images.rs`; for the CPU (feature `host`) with the
//! C++ compiler, linked into the crate.
//!
//! `src/shapes` lists what there is. Both halves read the same sources, and both share compiled files by content under the target folder.
//! Nothing here panics on what a machine lacks: without nvcc there are no images and one warning, unless images are asked for; everything else that fails is said as
//! `cargo::error`.

#[path = "build/archs.rs"]
mod archs;
#[path = "build/cache.rs"]
mod cache;
#[path = "build/closure.rs"]
mod closure;
#[path = "build/environment.rs"]
mod environment;
#[path = "build/host.rs"]
mod host;
#[path = "build/images.rs"]
mod images;
#[path = "build/kernels.rs"]
mod kernels;
#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "src/shapes/mod.rs"]
#[allow(dead_code)]
mod shapes;

use environment::{Environment, Failure};

fn main() {
    if let Err(failure) = build() {
        failure.report();
    }
}

fn build() -> Result<(), Failure> {
    println!("cargo::rustc-check-cfg=cfg(sala_host_x86_64_v3)");
    let environment = Environment::read()?;
    let kernels = kernels::list(&environment)?;
    if environment.documentation_only {
        return images::write(&environment, &[]);
    }
    let images = nvcc::compile(&environment, &kernels)?;
    images::write(&environment, &images)?;
    if environment.has_feature("HOST") {
        host::compile(&environment, &kernels)?;
    }
    Ok(())
}
