//! The kernel files of this build, and the headers that name their instances.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::environment::{Environment, Failure};
use crate::shapes::{self, Instances, KernelFile};

/// A kernel file and where its source is.
pub struct Kernel {
    pub file: &'static KernelFile,
    pub source: PathBuf,
}

/// Every kernel file of the enabled features. Writes `$OUT_DIR/instances/<file>.h` for each: the lines `INSTANCE(name, axis values...)` that the
/// source includes at its end.
pub fn list(environment: &Environment) -> Result<Vec<Kernel>, Failure> {
    let folder = environment.out.join("instances");
    fs::create_dir_all(&folder).map_err(|error| Failure::file("create", &folder, error))?;
    let mut kernels = Vec::new();
    for file in shapes::compiled_files() {
        let source = environment.root.join(file.source());
        if !source.is_file() {
            return Err(Failure::new(format!(
                "src/shapes lists `{}`, but there is no {}",
                file.name,
                file.source()
            )));
        }
        let header = folder.join(format!("{}.h", file.stem()));
        fs::write(&header, instances(file)).map_err(|error| Failure::file("write", &header, error))?;
        kernels.push(Kernel { file, source });
    }
    Ok(kernels)
}

fn instances(file: &KernelFile) -> String {
    let mut header = String::new();
    for instance in file.instances() {
        let element = instance.element.map(|element| element.name().to_owned());
        let values = instance.values.iter().map(u32::to_string);
        let named = named_argument(file, &instance.name);
        let arguments: Vec<_> = [instance.name]
            .into_iter()
            .chain(element)
            .chain(values)
            .chain(named)
            .collect();
        let _ = writeln!(header, "INSTANCE({})", arguments.join(", "));
    }
    header
}

/// What tells the unit kernels of a file apart: their names without the file's.
fn named_argument(file: &KernelFile, instance: &str) -> Option<String> {
    match file.instances {
        Instances::Shapes { .. } => None,
        Instances::Named(_) => Some(instance.trim_start_matches(&format!("{}_", file.stem())).to_owned()),
    }
}
