//! What is committed of every hot loop, so that a change is seen: `figures.toml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::sass::{Class, Instruction};
use crate::{Gpu, Kernels, Problem, Tree, Unit};

/// The file, relative to the repository.
pub const FILE: &str = "compiled/model/figures.toml";

/// Architectures, and the GPU that stands for each.
pub const ARCHS: [(&str, &str); 3] = [("80", "A100"), ("90a", "H100"), ("120", "RTX5090")];

/// How far clocks and instructions may be from what is committed.
const TOLERANCE: f64 = 0.05;

/// The figures of one hot loop on one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Bytes that a thread of the kernel stores to and loads from local memory for want of registers.
    pub spilled: u32,
    /// Instructions of a round for each of its matrix products, of the warps that do most products.
    pub instructions_per_product: Option<f64>,
    /// Regions of a round that lanes may enter apart and that hold f32 arithmetic: branches in fragment loops.
    pub divergent: usize,
    /// Predicted clocks of a round, or of the kernel.
    pub clocks: f64,
}

/// All of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Figures {
    /// The release of the compiler.
    pub nvcc: String,
    /// By architecture, `sm_80`, then by unit.
    #[serde(flatten)]
    pub units: BTreeMap<String, BTreeMap<String, Figure>>,
}

/// Compares the kernels of the checkout at `root` with what is committed; one line for each difference. What is compiled is kept in `cache`.
pub fn check(root: &Path, cache: &Path) -> Result<Vec<String>, Problem> {
    let file = root.join(FILE);
    let text = fs::read_to_string(&file).map_err(|error| Problem::file(&file, error))?;
    let committed = Figures::parse(&text)?;
    let now = Figures::of(&Tree::open(root, cache)?.compile(&ARCHS.map(|(arch, _)| arch), None)?)?;
    Ok(committed.differences(&now))
}

impl Figures {
    /// The figures of all units, which have to be compiled for all of [`ARCHS`] that they are for.
    pub fn of(kernels: &Kernels) -> Result<Self, Problem> {
        let mut units = BTreeMap::new();
        for (arch, gpu) in ARCHS {
            let of_arch: &mut BTreeMap<_, _> = units.entry(format!("sm_{arch}")).or_default();
            for name in kernels.units_of(arch) {
                of_arch.insert(name.to_owned(), Figure::of(kernels, name, Gpu::find(gpu)?)?);
            }
        }
        Ok(Self {
            nvcc: kernels.release().to_owned(),
            units,
        })
    }

    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        toml::from_str(text).map_err(|error| Problem::misfit(format!("{FILE}: {error}")))
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# What nvcc made of every hot loop, and what the model says of it. `cargo xtask price --record` writes this file; tests compare with it.\n",
        );
        let _ = writeln!(text, "nvcc = \"{}\"", self.nvcc);
        for (arch, units) in &self.units {
            let gpu = ARCHS.iter().find(|(name, _)| arch.strip_prefix("sm_") == Some(name));
            let _ = writeln!(
                text,
                "\n[{arch}] # clocks are those of {}",
                gpu.map_or("?", |(_, gpu)| gpu)
            );
            for (name, figure) in units {
                let _ = write!(text, "{name} = {{ spilled = {}", figure.spilled);
                if let Some(instructions) = figure.instructions_per_product {
                    let _ = write!(text, ", instructions_per_product = {instructions:.2}");
                }
                let _ = writeln!(
                    text,
                    ", divergent = {}, clocks = {:.1} }}",
                    figure.divergent, figure.clocks
                );
            }
        }
        text
    }

    /// What of `now` is not as committed, one line each. Figures of another compiler do not compare.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.nvcc != now.nvcc {
            lines.push(format!("figures are those of nvcc {}, this is {}", self.nvcc, now.nvcc));
            return lines;
        }
        let list = |figures: &Self| {
            let units = figures.units.iter().flat_map(|(arch, units)| {
                units
                    .iter()
                    .map(move |(name, figure)| (format!("{arch} {name}"), *figure))
            });
            units.collect::<BTreeMap<_, _>>()
        };
        let (committed, now) = (list(self), list(now));
        for (name, old) in &committed {
            match now.get(name) {
                Some(new) => lines.extend(
                    old.differences(new)
                        .into_iter()
                        .map(|difference| format!("{name}: {difference}")),
                ),
                None => lines.push(format!("{name}: gone")),
            }
        }
        let unknown = now.keys().filter(|name| !committed.contains_key(*name));
        lines.extend(unknown.map(|name| format!("{name}: not committed")));
        lines
    }
}

impl Figure {
    fn of(kernels: &Kernels, name: &str, gpu: &'static Gpu) -> Result<Self, Problem> {
        let unit = kernels.unit(name, gpu.arch)?;
        Ok(Self {
            spilled: kernels.resources(&unit.description().kernel, gpu.arch)?.spilled,
            instructions_per_product: instructions_per_product(&unit),
            divergent: unit.rounds().map(count_divergent).max().unwrap_or(0),
            clocks: unit.on(gpu)?.clocks()?,
        })
    }

    fn differences(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut compare = |what: &str, old: f64, new: f64, tolerance: f64| {
            if (new - old).abs() > tolerance * old.abs() {
                lines.push(format!("{what} {old:.2} -> {new:.2}"));
            }
        };
        compare("bytes spilled", f64::from(self.spilled), f64::from(now.spilled), 0.0);
        compare("divergent regions", self.divergent as f64, now.divergent as f64, 0.0);
        compare("clocks", self.clocks, now.clocks, TOLERANCE);
        let [old, new] = [self, now].map(|figure| figure.instructions_per_product.unwrap_or(0.0));
        compare("instructions per product", old, new, TOLERANCE);
        lines
    }
}

fn instructions_per_product(unit: &Unit) -> Option<f64> {
    let ratio = |round: &Vec<&Instruction>| {
        let products = round
            .iter()
            .filter(|instruction| instruction.class.is_product())
            .count();
        (products, round.len() as f64 / products as f64)
    };
    let most = unit
        .rounds()
        .map(|round| ratio(&round))
        .max_by_key(|(products, _)| *products);
    most.filter(|(products, _)| *products > 0).map(|(_, ratio)| ratio)
}

/// Regions between the start of a convergence barrier and its end in which there is f32 arithmetic.
fn count_divergent(round: Vec<&Instruction>) -> usize {
    // Barriers that are open, with whether there was arithmetic.
    let mut open: Vec<(&str, bool)> = Vec::new();
    let mut count = 0;
    for instruction in round {
        let barrier = instruction.operands.first().map_or("", String::as_str);
        if instruction.opcode.starts_with("BSSY") {
            open.push((barrier, false));
        } else if instruction.opcode.starts_with("BSYNC") {
            if let Some(at) = open.iter().rposition(|(name, _)| *name == barrier) {
                count += usize::from(open.remove(at).1);
            }
        } else if is_arithmetic(instruction.class) {
            open.iter_mut().for_each(|(_, has_arithmetic)| *has_arithmetic = true);
        }
    }
    count
}

fn is_arithmetic(class: Class) -> bool {
    matches!(class, Class::Fadd | Class::Fmul | Class::Ffma | Class::Mufu) || class.is_product()
}
