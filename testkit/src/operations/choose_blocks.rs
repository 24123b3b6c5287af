//! Block selection by given scores as data.

use super::compress_keys::layer;
use super::select_blocks::Selected;
use super::select_blocks::cases::small_config;
use super::select_blocks::random::{SelectionCase, selections};
use crate::batch::Batch;
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::Numbers;
use crate::problem::{Described, Problem, submit};
use crate::tolerance::Judgement;
use proptest::prelude::*;
use sala_kernels::reference::select_blocks::{BlockScores, Config, select_blocks};
use sala_kernels::{ChooseBlocksArgs, DType, Result, SparseLayer, Status};
use std::time::Duration;

/// A choice of blocks by given scores.
#[derive(Clone, Debug)]
pub struct ChooseProblem {
    pub config: Config,
    pub scores: BlockScores,
    pub batch: Batch,
    /// How the scores and lists lie in memory.
    pub packing: Packing,
}

impl ChooseProblem {
    pub fn total_q(&self) -> usize {
        self.batch.cu_seqlens_q.last().map_or(0, |&end| end as usize)
    }
}

impl Problem for ChooseProblem {
    type Layer = SparseLayer;
    type Run = Selected;
    type Reference = Vec<i32>;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Vec<i32> {
        select_blocks(&self.config, &self.scores, &self.batch.choosing(self.total_q()))
    }

    fn layer(&self) -> Result<SparseLayer> {
        layer(&self.config, DType::Bf16, self.batch.dense_len)
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let gap = self.packing.gap();
        let (total_q, heads_kv) = (self.total_q(), self.config.heads_kv);
        let BlockScores { blocks, scores } = &self.scores;
        let mut memory = Memory::new(&machine.device);
        memory.add("given", &[total_q, heads_kv, *blocks], gap, Some(scores))?;
        self.batch.add_to(&mut memory, self.config.block_size)?;
        let lists = [total_q, heads_kv, self.config.list_len()];
        memory.add::<i32>("block_indices", &lists, gap, None)?;
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let mut args = ChooseBlocksArgs::new(
            memory.tensor("given"),
            self.batch.view(memory),
            self.batch.switch_len(memory),
            memory.tensor_mut("block_indices"),
        );
        args.status = memory.get_mut("status");
        submit(machine, layer, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<Selected> {
        Selected::read(memory, elapsed)
    }

    fn judge(&self, run: &Selected, reference: &Vec<i32>) -> Judgement {
        let list_len = self.config.list_len();
        let lists = run.indices.chunks(list_len).zip(reference.chunks(list_len));
        let failure = lists.enumerate().find(|(_, (got, expected))| got != expected);
        let failure = failure.map(|(row, (got, expected))| format!("list {row} is {got:?} instead of {expected:?}"));
        Judgement {
            failure,
            ..Judgement::default()
        }
    }

    fn refused(&self, _: &Vec<i32>) -> Status {
        Status::default()
    }
}

/// Scores with many ties, for ragged sequences.
pub(super) fn samples(seed: u64) -> Vec<ChooseProblem> {
    let mut numbers = Numbers::new(seed);
    let calls = [
        (2, 7, vec![9, 0, 1], vec![64 * 70, 0, 100]),
        (1, 7, vec![5], vec![64 * 300 + 1]),
        // A list that no queue has room for.
        (1, 1560, vec![2], vec![64 * 1600]),
    ];
    let problem = |(heads_kv, topk, queries, keys): (usize, usize, Vec<usize>, Vec<usize>)| {
        let total_q: usize = queries.iter().sum();
        let blocks = keys.iter().max().map_or(0, |keys| keys.div_ceil(64));
        let scores = (0..total_q * heads_kv * blocks)
            .map(|_| numbers.below(50) as f32)
            .collect();
        ChooseProblem {
            config: Config {
                topk,
                ..small_config(heads_kv, heads_kv, 64)
            },
            scores: BlockScores { blocks, scores },
            batch: if heads_kv == 2 {
                Batch::new(&queries, &keys)
            } else {
                Batch::new(&queries, &keys).paged(64)
            },
            packing: Packing::Separate,
        }
    };
    calls.map(problem).into()
}

/// How many kinds of [`given_scores`] there are.
pub const KINDS: usize = 7;

/// Scores of kinds that make ties, or fill and refill the queues.
pub fn given_scores(kind: usize, rows: usize, blocks: usize, seed: u64) -> BlockScores {
    const SPECIAL: [f32; 8] = [
        f32::NAN,
        f32::NEG_INFINITY,
        f32::INFINITY,
        0.0,
        -0.0,
        1e-40,
        -1.0,
        f32::MAX,
    ];
    let mut numbers = Numbers::new(seed);
    let mut score = |i: usize| match kind {
        0 => numbers.normal() as f32,
        1 => numbers.below(7) as f32,
        2 => (i % blocks) as f32,
        3 => -((i % blocks) as f32),
        4 => numbers.pick(&SPECIAL),
        5 => numbers.pick(&[0.0, -0.0]),
        _ => numbers.uniform() as f32 * 1e-30,
    };
    let scores = (0..rows * blocks).map(&mut score).collect();
    BlockScores { blocks, scores }
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct ChooseCase {
    pub selection: SelectionCase,
    /// Which of the [`KINDS`].
    pub scores: usize,
    /// Blocks that have scores beside those that sequences have.
    pub more_blocks: usize,
}

impl Described for ChooseCase {
    type Problem = ChooseProblem;

    fn problem(&self) -> ChooseProblem {
        let (config, batch) = (self.selection.config(), self.selection.batch());
        let total_q = batch.cu_seqlens_q.last().map_or(0, |&end| end as usize);
        let blocks = self.selection.blocks() + self.more_blocks;
        ChooseProblem {
            config,
            scores: given_scores(self.scores, total_q * config.heads_kv, blocks, self.selection.seed),
            batch,
            packing: self.selection.packing,
        }
    }

    fn spoiled(&self) -> Option<u64> {
        self.selection.spoiled
    }
}

/// Scores of every kind.
pub(super) fn random() -> BoxedStrategy<ChooseCase> {
    let case = |(selection, scores, more_blocks)| ChooseCase {
        selection,
        scores,
        more_blocks,
    };
    (selections(300), 0..KINDS, 0usize..3).prop_map(case).boxed()
}
