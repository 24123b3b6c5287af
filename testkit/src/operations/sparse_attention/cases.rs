//! Generated sparse-attention calls.

use crate::batch::{Batch, Storing};
use crate::memory::Packing;
use crate::numbers::{LENGTHS, Numbers};
use crate::operations::sparse_attention::{AttentionProblem, Lists};
use crate::property::precisions;
use crate::tolerance::Precision;
use crate::values::Values;
use proptest::prelude::*;
use sala_kernels::Entry;
use sala_kernels::reference::sparse_attention::Config;

/// Groups of query heads that fill warps in every way: several tokens a warp, with and without rows left over, one token, and several warps.
pub const GROUPS: [usize; 9] = [1, 2, 3, 4, 6, 7, 8, 16, 32];

/// What the tokens of a case list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListCase {
    /// There are no lists.
    None,
    /// As a selection leaves them: ascending, the first and the token's own block among them, −1 at the end.
    Selected,
    /// In any order, with repeats, −1, blocks of the future and indices of no block anywhere.
    Unruly,
}

/// How large the inputs of a case are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Standard normal.
    Normal,
    /// All zero.
    Zero,
    /// Queries and keys of ±9984, whose products and sums are exact in f32, and values of 10⁴: the best key, or a few as good, have all the weight.
    Huge,
}

/// A sparse-attention call.
#[derive(Clone, Debug)]
pub struct AttentionCase {
    /// The type.
    pub precision: Precision,
    /// Query heads of a kv head.
    pub group: usize,
    /// Key and value heads.
    pub heads_kv: usize,
    /// Channels, 64 or 128.
    pub dim: usize,
    /// Keys of a block.
    pub block_size: usize,
    /// Queries and keys of each sequence.
    pub lengths: Vec<(usize, usize)>,
    /// What tokens list.
    pub lists: ListCase,
    /// Entries of a list.
    pub list_len: usize,
    /// Sequences shorter than this are attended densely.
    pub dense_len: usize,
    /// Whether tokens without lists have first keys.
    pub with_first_key: bool,
    /// Whether tokens have factors and outputs gates.
    pub with_factor: bool,
    /// See `with_factor`.
    pub with_gate: bool,
    /// How keys are stored.
    pub storage: Storing,
    /// The memory layout.
    pub packing: Packing,
    /// The size of the inputs.
    pub inputs: Inputs,
    /// Where the numbers come from.
    pub seed: u64,
}

impl AttentionCase {
    /// A call with the given lengths and nothing special about it.
    pub fn plain(lengths: Vec<(usize, usize)>, seed: u64) -> AttentionCase {
        AttentionCase {
            precision: Precision::Bf16,
            group: 16,
            heads_kv: 1,
            dim: 128,
            block_size: 64,
            lengths,
            lists: ListCase::Selected,
            list_len: 3,
            dense_len: 0,
            with_first_key: false,
            with_factor: false,
            with_gate: false,
            storage: Storing::Packed,
            packing: Packing::Separate,
            inputs: Inputs::Normal,
            seed,
        }
    }

    /// The case with no more than so many query tokens per sequence as a decode step takes.
    pub fn step(mut self) -> AttentionCase {
        for (queries, _) in &mut self.lengths {
            *queries = (*queries).min(16);
        }
        self
    }

    /// The tensors of the case.
    pub fn problem(&self) -> AttentionProblem {
        let AttentionCase {
            precision,
            heads_kv,
            dim,
            ..
        } = *self;
        let mut numbers = Numbers::new(self.seed);
        let heads_q = self.group * heads_kv;
        let (queries, keys): (Vec<_>, Vec<_>) = self.lengths.iter().copied().unzip();
        let (total_q, total_k): (usize, usize) = (queries.iter().sum(), keys.iter().sum());
        let mut tensor = |rows: usize, size: f64| Values::round(precision, numbers.normals(rows * dim, size));
        let [q, k, v] = match self.inputs {
            Inputs::Normal => [1.0; 3],
            Inputs::Zero => [0.0; 3],
            Inputs::Huge => [1.0, 1.0, 1e4],
        };
        let (q, k, v) = (
            tensor(total_q * heads_q, q),
            tensor(total_k * heads_kv, k),
            tensor(total_k * heads_kv, v),
        );
        let [q, k] = [q, k].map(|values| match self.inputs {
            Inputs::Huge => Values::round(precision, values.to_f64().iter().map(|x| 9984f64.copysign(*x))),
            _ => values,
        });
        let gate = self.with_gate.then(|| tensor(total_q * heads_q, 2.0));
        let scale_factor = self
            .with_factor
            .then(|| (0..total_q).map(|_| (2.0 * numbers.uniform() - 0.5) as f32).collect());
        let batch = Batch {
            dense_len: self.dense_len,
            ..Batch::new(&queries, &keys)
        };
        AttentionProblem {
            config: Config {
                heads_q,
                heads_kv,
                dim,
                dim_v: dim,
                scale: (dim as f32).powf(-0.5),
                block_size: self.block_size,
            },
            q,
            k,
            v,
            batch: batch.stored(self.storage),
            lists: self.lists(&mut numbers),
            first_key: self.first_keys(),
            scale_factor,
            gate,
            packing: self.packing,
            with_lse: true,
            entry: Entry::Prefill,
            workspace: None,
        }
    }

    fn lists(&self, numbers: &mut Numbers) -> Option<Lists> {
        if self.lists == ListCase::None {
            return None;
        }
        let mut indices = Vec::new();
        for &(queries, keys) in &self.lengths {
            for row in 0..queries {
                for _ in 0..self.heads_kv {
                    indices.extend(match (row + keys).checked_sub(queries) {
                        Some(position) if self.lists == ListCase::Selected => self.selected(numbers, position),
                        _ => self.unruly(numbers, keys),
                    });
                }
            }
        }
        Some(Lists {
            indices,
            list_len: self.list_len,
        })
    }

    /// Windows that slide and anchors, with tokens among them that see everything or nothing.
    fn first_keys(&self) -> Option<Vec<i32>> {
        if !self.with_first_key || self.lists != ListCase::None {
            return None;
        }
        let mut numbers = Numbers::new(self.seed ^ 0x5eed);
        let mut first = Vec::new();
        for &(queries, keys) in &self.lengths {
            let (window, anchor) = (1 + numbers.below(keys + 1), numbers.below(keys + 1) as i32);
            let slides = numbers.below(2) == 0;
            first.extend((0..queries).map(|row| {
                let position = (row + keys) as i32 - queries as i32;
                match numbers.below(12) {
                    0 => numbers.pick(&[i32::MIN, -1, 0]),
                    1 => numbers.pick(&[position + 1, position, i32::MAX]),
                    2 => numbers.below(keys + 1) as i32,
                    _ if slides => position + 1 - window as i32,
                    _ => anchor,
                }
            }));
        }
        Some(first)
    }

    fn selected(&self, numbers: &mut Numbers, position: usize) -> Vec<i32> {
        let last = position / self.block_size;
        let mut blocks = vec![last as i32, 0];
        blocks.extend((2..self.list_len).map(|_| numbers.below(last + 1) as i32));
        blocks.truncate(self.list_len);
        blocks.sort_unstable();
        blocks.dedup();
        blocks.resize(self.list_len, -1);
        blocks
    }

    fn unruly(&self, numbers: &mut Numbers, keys: usize) -> Vec<i32> {
        let blocks = keys.div_ceil(self.block_size);
        let entry = |_| match numbers.below(10) {
            0 => -1,
            1 => numbers.pick(&[-2, i32::MIN, i32::MAX, blocks as i32, blocks as i32 + 1]),
            _ if blocks == 0 => -1,
            _ => numbers.below(blocks) as i32,
        };
        (0..self.list_len).map(entry).collect()
    }
}

/// Queries of a sequence of `keys` keys: a whole prompt, a chunk, one token, or more queries than keys.
fn queries_of(keys: usize, choice: u8, chunk: usize) -> usize {
    match choice {
        0 => keys,
        1 => keys.min(1),
        2 => keys.min(chunk),
        _ => keys + 3,
    }
}

/// Sequences of up to `longest` keys, sometimes with an empty one in the middle.
pub fn sequences(longest: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    let known: Vec<usize> = LENGTHS.into_iter().filter(|&length| length <= longest).collect();
    let keys = prop_oneof![2 => prop::sample::select(known), 1 => 0..=longest];
    let choice = prop_oneof![3 => Just(0u8), 3 => Just(1u8), 3 => Just(2u8), 1 => Just(3u8)];
    let chunk = prop::sample::select(vec![15usize, 16, 17, 33, 63, 64]);
    let sequence = (keys, choice, chunk).prop_map(|(keys, choice, chunk)| (queries_of(keys, choice, chunk), keys));
    (prop::collection::vec(sequence, 1..=4), any::<bool>()).prop_map(|(mut sequences, with_empty)| {
        if with_empty {
            sequences.insert(sequences.len() / 2, (0, 0));
        }
        sequences
    })
}

/// Sparse-attention calls with sequences of up to `longest` keys.
pub fn attention_cases(longest: usize) -> impl Strategy<Value = AttentionCase> {
    let group = prop::sample::select(GROUPS.to_vec());
    let dim = prop::sample::select(vec![64usize, 128]);
    let block_size = prop::sample::select(vec![32usize, 64, 64, 128]);
    let shape = (precisions(), group, 1usize..=2, dim, block_size, sequences(longest));
    let lists = prop_oneof![
        1 => Just(ListCase::None),
        2 => Just(ListCase::Selected),
        3 => Just(ListCase::Unruly),
    ];
    let dense_len = prop::sample::select(vec![0usize, 0, 64, 128]);
    let packing = prop::sample::select(vec![Packing::Separate, Packing::Fused, Packing::HeadMajor]);
    let inputs = prop_oneof![6 => Just(Inputs::Normal), 1 => Just(Inputs::Zero), 1 => Just(Inputs::Huge)];
    let storage = prop_oneof![
        2 => Just(Storing::Packed),
        1 => Just(Storing::Cached),
        1 => Just(Storing::Indexed),
        2 => prop::sample::select(vec![1, 2, 16, 64, 256]).prop_map(Storing::Paged),
    ];
    let options = (any::<[bool; 3]>(), storage, packing, inputs);
    let rest = (lists, 0usize..=7, dense_len, options, any::<u64>());
    (shape, rest).prop_map(|((precision, group, heads_kv, dim, block_size, lengths), rest)| {
        let (lists, list_len, dense_len, ([with_first_key, with_factor, with_gate], storage, packing, inputs), seed) =
            rest;
        AttentionCase {
            precision,
            group,
            heads_kv,
            dim,
            block_size,
            lengths,
            lists,
            list_len,
            dense_len,
            with_first_key,
            with_factor,
            with_gate,
            storage,
            packing,
            inputs,
            seed,
        }
    })
}

/// Lists and none, keys stored in every way, in both types, whole and as decode steps of chains and trees.
pub(in crate::operations) fn samples(seed: u64) -> Vec<AttentionProblem> {
    let unruly = AttentionCase {
        precision: Precision::F16,
        group: 3,
        heads_kv: 2,
        dim: 64,
        lists: ListCase::Unruly,
        storage: Storing::Indexed,
        with_factor: true,
        with_gate: true,
        ..AttentionCase::plain(vec![(9, 150), (0, 70), (1, 200)], seed)
    };
    let dense = AttentionCase {
        lists: ListCase::None,
        ..AttentionCase::plain(vec![(37, 37), (0, 0), (1, 130)], seed)
    };
    let windows = AttentionCase {
        with_first_key: true,
        precision: Precision::F16,
        group: 3,
        heads_kv: 2,
        dim: 64,
        storage: Storing::Paged(16),
        ..AttentionCase {
            lists: ListCase::None,
            ..AttentionCase::plain(vec![(150, 300), (0, 70), (1, 700)], seed)
        }
    };
    let selected = AttentionCase::plain(vec![(20, 300)], seed);
    let paged = AttentionCase {
        storage: Storing::Paged(16),
        packing: Packing::Fused,
        ..unruly.clone()
    };
    let large_pages = AttentionCase {
        storage: Storing::Paged(128),
        packing: Packing::HeadMajor,
        ..selected.clone()
    };
    let steps = [&unruly, &dense, &windows, &paged, &large_pages].map(|case| case.clone().step().problem().decode());
    let mut numbers = Numbers::new(seed);
    let trees = [&unruly, &dense, &windows, &paged, &large_pages];
    let trees = trees.map(|case| case.clone().step().problem().decode_trees(&mut numbers));
    let whole = [unruly, dense, windows, selected, paged, large_pages].map(|case| case.problem());
    whole.into_iter().chain(steps).chain(trees).collect()
}
