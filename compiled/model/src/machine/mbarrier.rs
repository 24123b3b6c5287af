//! mbarriers, seen as phases that warps complete and wait for.
//!
//! A round of a loop stands for a fixed number of phases of each mbarrier, or ring of them, whether a warp takes part in the round or is spared: as
//! many as a warp waits for in a round. The arrivals of a round belong to its phases in order. What a spared warp would have arrived at counts as
//! arrived long ago, as where such a warp arrives ahead of time.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::sass::{Instruction, Pattern};
use crate::{Problem, sass};

/// An mbarrier, or a ring of them, as descriptions name it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// For readers of the description.
    pub name: String,
    /// Source pattern of the arrival, or of the bulk copy whose bytes complete the phase.
    pub arrive: String,
    /// Source pattern of the wait.
    pub wait: String,
    /// Arrivals that complete a phase, those of a warp counted once.
    pub count: u32,
    /// Phases that need no arrival: the stages of a ring that starts empty, or that copies run ahead.
    #[serde(default)]
    pub lead: usize,
    /// The same for each stage of the unit's ring.
    #[serde(default)]
    pub stage_lead: usize,
    /// Whether the arrival also waits for the copies that its warp started before.
    #[serde(default)]
    pub copies: bool,
}

/// Code that only the last of the warps with work in a round runs, because it was the last reader of a stage and fills it again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refill {
    /// Source pattern of the code.
    pub code: String,
    /// The stages of the ring: it fills the stage for the round that comes so many later. Those of the unit's ring if it has one.
    #[serde(default)]
    pub stages: usize,
}

/// The mbarriers of a unit, ready to be looked for.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    arrive: Vec<Pattern>,
    wait: Vec<Pattern>,
}

/// What an instruction does to an mbarrier, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Arrive(usize),
    Await(usize),
}

impl Syncs {
    pub(super) fn new(syncs: &[Sync]) -> Result<Self, Problem> {
        let arrive = syncs.iter().map(|sync| Pattern::parse(&sync.arrive));
        let wait = syncs.iter().map(|sync| Pattern::parse(&sync.wait));
        Ok(Self {
            arrive: arrive.collect::<Result<_, _>>()?,
            wait: wait.collect::<Result<_, _>>()?,
        })
    }

    /// Whether the instruction arrives at or waits for one of them. A bulk copy arrives when it lands. Where there is no instruction that tests a
    /// phase, plain loads poll it.
    pub(super) fn of(&self, instruction: &Instruction, origin: &sass::Origin) -> Option<Use> {
        let find = |patterns: &[Pattern]| patterns.iter().position(|pattern| pattern.fits(origin));
        match instruction.class {
            sass::Class::Syncs if instruction.opcode.contains("ARRIVE") => find(&self.arrive).map(Use::Arrive),
            sass::Class::Bulk => find(&self.arrive).map(Use::Arrive),
            sass::Class::Syncs | sass::Class::Lds => find(&self.wait).map(Use::Await),
            _ => None,
        }
    }
}

/// The phases of one mbarrier of one block.
#[derive(Debug, Default)]
pub(super) struct Phases(Vec<Phase>);

#[derive(Debug, Default, Clone, Copy)]
struct Phase {
    arrived: u32,
    /// When the last of those that arrived was there.
    at: f64,
}

impl Phases {
    pub(super) fn arrive(&mut self, phase: usize, at: f64) {
        if self.0.len() <= phase {
            self.0.resize(phase + 1, Phase::default());
        }
        let phase = &mut self.0[phase];
        phase.arrived += 1;
        phase.at = phase.at.max(at);
    }

    /// When the phase was complete with `count` arrivals, if it is.
    pub(super) fn completed(&self, phase: usize, count: u32) -> Option<f64> {
        let phase = self.0.get(phase)?;
        (phase.arrived >= count).then_some(phase.at)
    }
}

/// How many warps of a block come by a refill in each round.
#[derive(Debug, Default)]
pub(super) struct Readers(BTreeMap<(usize, usize, usize), Reading>);

#[derive(Debug, Default)]
struct Reading {
    came: usize,
    expected: usize,
}

impl Readers {
    /// A warp of `block` will come by refill `number` in `round`.
    pub(super) fn expect(&mut self, block: usize, number: usize, round: usize) {
        self.0.entry((block, number, round)).or_default().expected += 1;
    }

    /// One of them came; the last?
    pub(super) fn come(&mut self, block: usize, number: usize, round: usize) -> bool {
        let reading = self.0.entry((block, number, round)).or_default();
        reading.came += 1;
        reading.came >= reading.expected
    }
}
