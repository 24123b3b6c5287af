//! What the kernels cost by the model of their compiled code (compiled/model): the price list, and looks at single loops for whoever works on one.

mod loops;
mod tables;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sala_model::figures::{self, Figures};
use sala_model::rows::{Level, Row, table};
use sala_model::{GPUS, Gpu, Kernels, Problem, Tree};

use crate::{Failure, repository};

/// The page that holds the tables.
const PAGE: &str = "docs/performance.md";

/// Prices the compiled kernels by a model of a multiprocessor; no GPU is needed.
#[derive(clap::Args)]
pub struct Arguments {
    /// GPUs, with or without a leading RTX [default: all; of --loop: H100]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    gpu: Vec<String>,

    /// Price the kernels of this level alone, base or sm90a [default: those that would be launched]
    #[arg(long)]
    level: Option<Level>,

    /// Print one JSON object per row
    #[arg(long)]
    json: bool,

    /// Compare with what --json printed earlier, and fail if a row is worse
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,

    /// Per cent that the gate lets pass: the model's own noise
    #[arg(long, value_name = "PERCENT", default_value_t = 4.0, requires = "gate")]
    slack: f64,

    /// Write the figures that tests compare with, and the tables of docs/performance.md
    #[arg(long, conflicts_with_all = ["gate", "json"])]
    record: bool,

    /// What a round of a unit of kernels.toml costs and what binds it
    #[arg(long = "loop", value_name = "UNIT", conflicts_with_all = ["gate", "json", "record"])]
    unit: Option<String>,

    /// Of --loop: warps that have work [default: all]
    #[arg(long, value_name = "WARPS", requires = "unit")]
    active: Option<usize>,

    /// Of --loop: blocks that share a multiprocessor
    #[arg(long, default_value_t = 1, requires = "unit")]
    blocks: usize,

    /// Of --loop: barriers cost nothing
    #[arg(long, requires = "unit")]
    no_barriers: bool,

    /// Of --loop: print the path with its source lines
    #[arg(long, requires = "unit")]
    show: bool,

    /// The loops of a cubin that was compiled with -lineinfo, and their instructions
    #[arg(long, value_name = "CUBIN", conflicts_with_all = ["unit", "gate", "json", "record"])]
    loops: Option<PathBuf>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Machine(message) => Self::machine(message),
            Problem::Misfit(message) => Self::repository(message),
        }
    }
}

/// Prints what is asked for; exit status 1 if the gate finds a row that is worse.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if let Some(cubin) = &arguments.loops {
        print!("{}", loops::show_cubin(cubin)?);
        return Ok(ExitCode::SUCCESS);
    }
    let tree = Tree::open(repository(), &cache())?;
    if let Some(unit) = &arguments.unit {
        print!("{}", loops::show_unit(tree, unit, arguments)?);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.record {
        return record(tree);
    }
    let gpus = gpus(&arguments.gpu)?;
    let rows = rows(&tree.compile(&archs(&gpus), None)?, &gpus, arguments.level)?;
    if rows.is_empty() {
        return Err(Failure::repository("no operation has kernels of this level yet"));
    }
    if arguments.json {
        print!("{}", to_json(&rows)?);
    } else {
        print!("{}", tables::text(&gpus, &rows));
    }
    match &arguments.gate {
        Some(file) => gate(file, &gpus, &rows, arguments.slack),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Compiled kernels are kept beside cargo's own files.
fn cache() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    target.join("price")
}

/// The GPUs of these names, each once.
fn gpus(names: &[String]) -> Result<Vec<&'static Gpu>, Failure> {
    if names.is_empty() {
        return Ok(GPUS.iter().collect());
    }
    let mut gpus: Vec<&Gpu> = Vec::new();
    for name in names {
        let gpu = Gpu::find(name)?;
        if !gpus.iter().any(|known| known.name == gpu.name) {
            gpus.push(gpu);
        }
    }
    Ok(gpus)
}

/// What the images for these GPUs are called, each once.
fn archs(gpus: &[&'static Gpu]) -> Vec<&'static str> {
    let mut archs: Vec<&str> = gpus.iter().map(|gpu| gpu.arch).collect();
    archs.sort_unstable();
    archs.dedup();
    archs
}

fn rows(kernels: &Kernels, gpus: &[&'static Gpu], level: Option<Level>) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for gpu in gpus {
        rows.extend(table(kernels, gpu, level)?);
    }
    Ok(rows)
}

/// Writes the committed figures, and the tables of [`PAGE`].
fn record(tree: Tree) -> Result<ExitCode, Failure> {
    let gpus = gpus(&[])?;
    let kernels = tree.compile(&archs(&gpus), None)?;
    let page = repository().join(PAGE);
    let text = fs::read_to_string(&page).map_err(|error| Failure::file(&page, error))?;
    let rows = rows(&kernels, &gpus, None)?;
    let text = tables::renew(&text, &gpus, &rows)
        .ok_or_else(|| Failure::file(&page, "no place for the tables between the lines that mark it"))?;
    let figures = repository().join(figures::FILE);
    for (file, text) in [(page, text), (figures, Figures::of(&kernels)?.to_text())] {
        fs::write(&file, text).map_err(|error| Failure::file(&file, error))?;
        println!("wrote {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(rows: &[Row]) -> Result<String, Failure> {
    let lines: Result<Vec<String>, _> = rows.iter().map(serde_json::to_string).collect();
    let lines = lines.map_err(|error| Failure::repository(format!("the rows as JSON: {error}")))?;
    Ok(lines.join("\n") + "\n")
}

/// Compares with an earlier list; rows of GPUs that this one does not have are left out.
fn gate(file: &Path, gpus: &[&Gpu], rows: &[Row], slack: f64) -> Result<ExitCode, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::file(file, error))?;
    let mut worse = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let old: Row = serde_json::from_str(line).map_err(|error| Failure::file(file, error))?;
        if !gpus.iter().any(|gpu| gpu.name == old.gpu) {
            continue;
        }
        let (name, gpu, unit) = (&old.row, &old.gpu, old.unit.name());
        match rows.iter().find(|row| row.row == *name && row.gpu == *gpu) {
            None => worse.push(format!("{gpu} {name}: {} {unit} -> gone", old.value)),
            Some(row) if row.worse_than(old.value) > 1.0 + slack / 100.0 => {
                worse.push(format!("{gpu} {name}: {} -> {} {unit}", old.value, row.value));
            }
            Some(_) => {}
        }
    }
    if worse.is_empty() {
        eprintln!("gate: no row is more than {slack} % worse");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("gate: worse than {}:\n{}", file.display(), worse.join("\n"));
    Ok(ExitCode::FAILURE)
}
