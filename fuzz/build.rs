//! Links the sanitizers' libraries where the kernels are built with them: a library's own build script cannot do it for what depends on it.

fn main() {
    println!("cargo::rerun-if-env-changed=SALA_HOST_SANITIZER");
    if std::env::var_os("SALA_HOST_SANITIZER").is_some() {
        for library in ["asan", "ubsan"] {
            println!("cargo::rustc-link-arg=-l{library}");
        }
    }
}
