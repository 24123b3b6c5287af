//! Which code of the kernels is hot: `kernels.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::machine::{Memory, Refill, Sync};
use crate::{Gpu, Problem};

/// The file, relative to the repository.
pub const FILE: &str = "compiled/model/kernels.toml";

/// All of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptions {
    /// What the rows of the table take for granted: for a file of the repository, texts that it has to hold.
    pub assume: BTreeMap<String, Vec<String>>,
    /// Kernel files that no row is about, and why.
    pub other: BTreeMap<String, String>,
    /// The units of work that have a price.
    pub unit: BTreeMap<String, Description>,
}

/// A unit of work: a round of a loop, or a whole kernel.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Description {
    /// The kernel instance, as `src/shapes` names it.
    pub kernel: String,
    /// What the loop holds: instruction classes in capitals, or source patterns. The innermost loop that holds all of it is meant; of an empty list
    /// the whole kernel, from entry to exit.
    pub has: Vec<String>,
    /// What a usual round does not run.
    pub cold: Vec<String>,
    /// What a warp without work leaves out beside it; `everything` where it walks its own rounds alone.
    pub idle: Vec<String>,
    /// Rounds of loops inside, by a pattern of their first block; the first that fits counts.
    pub trips: Vec<(String, u32)>,
    /// Instructions of a class in a round of the busiest warp, so that a changed tile is noticed.
    pub expect: BTreeMap<String, usize>,
    /// The warps of a block, by what they do.
    pub warps: Vec<Role>,
    /// What loads and copies wait for.
    pub memory: Memory,
    /// Bytes that one bulk or tensor copy moves.
    pub bulk_bytes: u32,
    /// Bytes of dynamic shared memory that a block is launched with. Blocks that share a multiprocessor are only modelled where it is given.
    pub shared_memory: Option<u32>,
    /// The mbarriers.
    pub sync: Vec<Sync>,
    /// Code that the last reader of a stage runs.
    pub refill: Option<Refill>,
    /// A ring that has as many stages as fit.
    pub ring: Option<Ring>,
}

/// A ring of stages that takes the shared memory which a block can have.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ring {
    /// Bytes of a stage, barriers included.
    pub stage_bytes: u32,
    /// Bytes of shared memory beside it.
    pub other_bytes: u32,
}

/// Warps of a block that do the same.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Role {
    /// How many.
    pub count: usize,
    /// Their own loop, in place of the unit's.
    pub has: Option<Vec<String>>,
    /// What they do not run, beside the unit's.
    pub cold: Vec<String>,
    /// What they leave out without work, in place of the unit's.
    pub idle: Option<Vec<String>>,
    /// Rounds of loops inside, looked at before the unit's.
    pub trips: Vec<(String, u32)>,
    /// Clocks by which they begin after the others.
    pub late: u32,
}

impl Descriptions {
    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        toml::from_str(text).map_err(|error| Problem::misfit(format!("{FILE}: {error}")))
    }
}

impl Description {
    /// The warps of a block.
    pub fn warp_count(&self) -> usize {
        self.warps.iter().map(|role| role.count).sum()
    }

    /// The mbarriers, and the code of the last reader, with the stages that the ring has on a GPU.
    pub fn with_stages(&self, gpu: &Gpu) -> (Vec<Sync>, Option<Refill>) {
        let (mut syncs, mut refill) = (self.sync.clone(), self.refill.clone());
        if let Some(ring) = self.ring {
            let stages = (gpu.block_shared_memory().saturating_sub(ring.other_bytes) / ring.stage_bytes) as usize;
            syncs.iter_mut().for_each(|sync| sync.lead += sync.stage_lead * stages);
            refill.iter_mut().for_each(|refill| refill.stages = stages);
        }
        (syncs, refill)
    }

    /// Whether the price is that of a round of a loop.
    pub fn is_loop(&self) -> bool {
        !self.has.is_empty()
    }
}
