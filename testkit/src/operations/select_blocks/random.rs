//! Selections at random, for compression and choice too.

use super::SelectProblem;
use super::cases::{SelectionInputs, small_config};
use crate::batch::{Batch, Storing, storings, switch_lengths};
use crate::memory::Packing;
use crate::numbers::Numbers;
use crate::problem::{Described, Problem};
use crate::property::{packings, precisions, seeds, spoils};
use crate::tolerance::Precision;
use crate::values::Values;
use proptest::prelude::*;
use sala_kernels::Lse;
use sala_kernels::reference::select_blocks::Config;

/// What the operations that lead to lists are made of.
#[derive(Clone, Debug)]
pub struct SelectionCase {
    pub precision: Precision,
    /// Query heads of a kv head.
    pub group: usize,
    pub heads_kv: usize,
    pub dim: usize,
    pub block_size: usize,
    pub init_blocks: usize,
    pub local_blocks: usize,
    /// Blocks that are chosen by score, at least one.
    pub free_blocks: usize,
    pub lse: Lse,
    /// Queries and keys of each sequence.
    pub lengths: Vec<(usize, usize)>,
    pub storing: Storing,
    pub dense_len: usize,
    /// Whether other lengths than those of the keys decide what is dense.
    pub with_switch: bool,
    pub with_factor: bool,
    /// What queries and keys are multiplied by: zeros make all scores equal, and large ones leave one row all the weight.
    pub size: f64,
    pub packing: Packing,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl SelectionCase {
    pub fn config(&self) -> Config {
        Config {
            block_size: self.block_size,
            topk: self.init_blocks + self.free_blocks,
            init_blocks: self.init_blocks,
            local_blocks: self.local_blocks,
            lse: self.lse,
            ..small_config(self.group * self.heads_kv, self.heads_kv, self.dim)
        }
    }

    pub fn batch(&self) -> Batch {
        let (queries, keys): (Vec<_>, Vec<_>) = self.lengths.iter().copied().unzip();
        let mut numbers = Numbers::new(self.seed);
        let switch_len = || switch_lengths(keys.len(), self.dense_len, &mut numbers);
        let batch = Batch::new(&queries, &keys).bounded().stored(self.storing);
        Batch {
            dense_len: self.dense_len,
            switch_len: self.with_switch.then(switch_len),
            ..batch
        }
    }

    /// Blocks of the longest sequence.
    pub fn blocks(&self) -> usize {
        let longest = self.lengths.iter().map(|(_, keys)| keys).max();
        longest.map_or(0, |keys| keys.div_ceil(self.block_size))
    }

    pub fn inputs(&self) -> SelectionInputs {
        let (queries, keys): (Vec<_>, Vec<_>) = self.lengths.iter().copied().unzip();
        let normal = SelectionInputs::normal(self.precision, self.config(), &queries, &keys, self.seed);
        let mut numbers = Numbers::new(self.seed);
        let mut factor = || (2.0 * numbers.uniform() - 0.5) as f32;
        let total_q = normal.total_q();
        let sized = |values: &Values| {
            let values = values.to_f64().into_iter().map(|x| x * self.size);
            Values::round(self.precision, values)
        };
        SelectionInputs {
            q: sized(&normal.q),
            k: sized(&normal.k),
            batch: self.batch(),
            scale_factor: self.with_factor.then(|| (0..total_q).map(|_| factor()).collect()),
            packing: self.packing,
            ..normal
        }
    }
}

/// Keys of up to so many blocks, and few queries at their end, or some more of which the first see nothing.
fn lengths(blocks: usize, block_size: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    let keys = prop_oneof![
        3 => 0..=blocks * block_size,
        1 => (0..=blocks, 0usize..3).prop_map(move |(blocks, more)| (blocks * block_size + more).saturating_sub(1)),
    ];
    let queries = prop_oneof![3 => 0usize..=2, 3 => 0usize..=40];
    let sequence = (queries, keys, prop::bool::weighted(0.1)).prop_map(|(queries, keys, is_more)| match is_more {
        true => (queries, keys.min(queries.saturating_sub(2))),
        false => (queries.min(keys), keys),
    });
    prop::collection::vec(sequence, 1..=4)
}

/// Selections from sequences of up to so many blocks.
pub fn selections(blocks: usize) -> impl Strategy<Value = SelectionCase> {
    let group = prop::sample::select(vec![1usize, 2, 3, 4, 6, 7, 8, 16, 32, 64]);
    let dim = prop::sample::select(vec![64usize, 128]);
    let lse = prop::sample::select(vec![Lse::Coarse, Lse::Exact]);
    let shape = (precisions(), group, 1usize..=2, dim);
    let lists = (0usize..=3, 0usize..=4, 1usize..=40, lse);
    let block_size = prop::sample::select(vec![32usize, 64, 64, 128]);
    let sequences = block_size.prop_flat_map(move |block_size| (Just(block_size), lengths(blocks, block_size)));
    let dense = (prop::sample::select(vec![0usize, 0, 100, 400]), any::<bool>());
    let size = prop::sample::select(vec![1.0, 1.0, 1.0, 0.0, 0.03, 30.0]);
    let rest = (storings(), dense, any::<bool>(), size, packings(), seeds(), spoils());
    (shape, lists, sequences, rest).prop_map(|(shape, lists, (block_size, lengths), rest)| {
        let (precision, group, heads_kv, dim) = shape;
        let (init_blocks, local_blocks, free_blocks, lse) = lists;
        let (storing, (dense_len, with_switch), with_factor, size, packing, seed, spoiled) = rest;
        SelectionCase {
            precision,
            group,
            heads_kv,
            dim,
            block_size,
            init_blocks,
            local_blocks,
            free_blocks,
            lse,
            lengths,
            storing,
            dense_len,
            with_switch,
            with_factor,
            size,
            packing,
            seed,
            spoiled,
        }
    })
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct SelectCase {
    pub selection: SelectionCase,
    /// Whether a selection with exact sums is given the coarse keys that it does without.
    pub with_k2: bool,
    /// Blocks more than the longest sequence has, or fewer, whose scores are asked for, if any are.
    pub more_scores: Option<isize>,
    /// Whether it is a call of few tokens; with more than 16 of a sequence it is taken as any other.
    pub is_decode: bool,
    /// Whether those are drafts of trees, where they are no more than 16.
    pub are_trees: bool,
}

impl Described for SelectCase {
    type Problem = SelectProblem;

    fn problem(&self) -> SelectProblem {
        let inputs = self.selection.inputs();
        let blocks = |more| inputs.blocks().saturating_add_signed(more);
        let problem = inputs.select(&inputs.compress().reference(), self.more_scores.map(blocks));
        let problem = match self.with_k2 || self.selection.lse == Lse::Coarse {
            true => problem,
            false => SelectProblem { k2: None, ..problem },
        };
        let are_few = problem.batch.max_seqlens[0] <= Some(16);
        match self.is_decode {
            true if self.are_trees && are_few => problem.decode_trees(&mut Numbers::new(self.selection.seed)),
            true => problem.decode(),
            false => problem,
        }
    }

    fn spoiled(&self) -> Option<u64> {
        self.selection.spoiled
    }
}

/// Selections by the compressed keys that the definition gives, with scores and without.
pub(in crate::operations) fn calls() -> BoxedStrategy<SelectCase> {
    let more_scores = prop::sample::select(vec![None, Some(0), Some(1), Some(-3)]);
    let case = |(selection, with_k2, more_scores, is_decode, are_trees)| SelectCase {
        selection,
        with_k2,
        more_scores,
        is_decode,
        are_trees,
    };
    (selections(30), any::<bool>(), more_scores, any::<bool>(), any::<bool>())
        .prop_map(case)
        .boxed()
}
