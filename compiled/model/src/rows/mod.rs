//! The rows of the price list: what the operations cost on a GPU, beside the floor and the target.
//!
//! The shapes are those of a SALA model: bf16, dim 128, 32 query heads, 2 kv heads in sparse layers and 32 in linear ones, lists of 96 blocks of 64
//! keys. Times are those of kernels, without the gaps between launches.

mod decode;
mod dense;
mod linear;
mod lists;
mod select;
mod sparse;
mod targets;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Gpu, Kernels, Problem};

/// Channels of a head.
const DIM: f64 = 128.0;
/// Query heads of a layer; a linear layer has as many heads of keys.
const HEADS: f64 = 32.0;
/// kv heads of a sparse layer.
const HEADS_KV: f64 = 2.0;
/// Bytes of an element.
const ELEMENT: f64 = 2.0;
/// Key blocks that a token attends to, and keys of each.
const LISTED: f64 = 96.0;
const BLOCK: f64 = 64.0;

const K: f64 = 1024.0;
const M: f64 = 1024.0 * 1024.0;

/// What kernels may use of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// `mma.sync` and `cp.async`.
    Base,
    /// TMA and `wgmma`.
    Sm90a,
}

/// What a row is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// TFLOP/s of the work that the definition asks for: more is better.
    #[serde(rename = "TFLOP/s")]
    Teraflops,
    /// Clocks of a multiprocessor.
    #[serde(rename = "clk")]
    Clocks,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
}

/// How a value is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By the model of the compiled code.
    Modelled,
}

/// One price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub row: String,
    /// The GPU.
    pub gpu: String,
    /// The level of the kernels.
    pub level: Level,
    /// The price.
    pub value: f64,
    /// What it is in.
    pub unit: Unit,
    /// The best that the GPU could do: the slower of its tensor cores, at the level's rate, and of memory.
    pub floor: Option<f64>,
    /// What the project wants, where it says so for this GPU.
    pub target: Option<f64>,
    /// Kernels that are launched for it.
    pub launches: u32,
    /// How it is known.
    pub kind: Kind,
}

/// What an operation has to do, however it is written.
#[derive(Debug, Clone, Copy)]
struct Work {
    flop: f64,
    /// Distinct bytes of memory.
    bytes: f64,
}

/// The rows of a GPU as they come.
struct Table {
    gpu: &'static Gpu,
    level: Level,
    rows: Vec<Row>,
}

/// The rows of a GPU for kernels of `level`; by default of all that it runs. There are none for a level that it has no kernels of.
pub fn table(kernels: &Kernels, gpu: &'static Gpu, level: Option<Level>) -> Result<Vec<Row>, Problem> {
    let mut table = Table {
        gpu,
        level: Level::Base,
        rows: Vec::new(),
    };
    if level != Some(Level::Sm90a) {
        let attend = sparse::add_rates(&mut table, kernels)?;
        let select = select::add_rows(&mut table, kernels)?;
        sparse::add_layers(&mut table, attend, select);
        decode::add_rows(&mut table, kernels)?;
        dense::add_rows(&mut table, kernels)?;
        linear::add_rows(&mut table, kernels)?;
    }
    if level != Some(Level::Base) && gpu.warpgroup_product_rate > 0.0 {
        table.level = Level::Sm90a;
        sparse::add_rates_of_groups(&mut table, kernels)?;
        select::add_rows_of_groups(&mut table, kernels)?;
        dense::add_rows_of_groups(&mut table, kernels)?;
    }
    Ok(table.rows)
}

impl Work {
    fn and(self, other: Self) -> Self {
        Self {
            flop: self.flop + other.flop,
            bytes: self.bytes + other.bytes,
        }
    }

    /// The floor, for the products of a level.
    fn microseconds(self, gpu: &Gpu, level: Level) -> f64 {
        let rate = match level {
            Level::Base => gpu.warp_product_rate,
            Level::Sm90a => gpu.warpgroup_product_rate,
        };
        let products = self.flop / gpu.teraflops(rate) / 1e6;
        products.max(gpu.memory_microseconds(self.bytes))
    }
}

impl Table {
    fn add(&mut self, name: String, unit: Unit, launches: u32, value: f64, floor: f64) {
        self.rows.push(Row {
            target: targets::find(&name, self.gpu, floor).map(round),
            row: name,
            gpu: self.gpu.name.to_owned(),
            level: self.level,
            value: round(value),
            unit,
            floor: Some(round(floor)),
            launches,
            kind: Kind::Modelled,
        });
    }

    /// A time by the model. It is never less than what the bytes take.
    fn add_time(&mut self, name: String, unit: Unit, launches: u32, work: Work, microseconds: f64) {
        let scale = if unit == Unit::Milliseconds { 1e3 } else { 1.0 };
        let value = microseconds.max(self.gpu.memory_microseconds(work.bytes));
        self.add(
            name,
            unit,
            launches,
            value / scale,
            work.microseconds(self.gpu, self.level) / scale,
        );
    }

    /// The same as a rate.
    fn add_rate(&mut self, name: String, launches: u32, work: Work, microseconds: f64) {
        let value = microseconds.max(self.gpu.memory_microseconds(work.bytes));
        let rate = |microseconds: f64| work.flop / microseconds / 1e6;
        self.add(
            name,
            Unit::Teraflops,
            launches,
            rate(value),
            rate(work.microseconds(self.gpu, self.level)),
        );
    }
}

impl Row {
    /// How many times worse than `other` the value is.
    pub fn worse_than(&self, other: f64) -> f64 {
        match self.unit {
            Unit::Teraflops => other / self.value,
            Unit::Clocks | Unit::Milliseconds | Unit::Microseconds => self.value / other,
        }
    }
}

/// Six digits.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(5 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

impl Unit {
    /// As tables write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Teraflops => "TFLOP/s",
            Self::Clocks => "clk",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(match self {
            Self::Base => "base",
            Self::Sm90a => "sm90a",
        })
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "base" => Ok(Self::Base),
            "sm90a" => Ok(Self::Sm90a),
            other => Err(format!("expected base or sm90a, got `{other}`")),
        }
    }
}
