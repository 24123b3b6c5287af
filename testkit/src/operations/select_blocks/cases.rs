//! What the calls of a selection are made of.

use crate::batch::Batch;
use crate::memory::Packing;
use crate::numbers::Numbers;
use crate::operations::compress_keys::{CompressCall, CompressProblem, Compressed};
use crate::operations::select_blocks::SelectProblem;
use crate::tolerance::Precision;
use crate::values::Values;
use sala_kernels::reference::select_blocks::Config;
use sala_kernels::{Entry, Lse};

/// A small selection: lists of nine blocks, five of them by score.
pub fn small_config(heads_q: usize, heads_kv: usize, dim: usize) -> Config {
    Config {
        heads_q,
        heads_kv,
        dim,
        scale: (dim as f32).powf(-0.5),
        block_size: 64,
        topk: 7,
        init_blocks: 1,
        local_blocks: 2,
        lse: Lse::Coarse,
    }
}

/// The queries and keys that the calls of a selection are made of.
#[derive(Clone, Debug)]
pub struct SelectionInputs {
    pub config: Config,
    /// `[total_q, heads_q, dim]`.
    pub q: Values,
    /// `[total_k, heads_kv, dim]`, however they are stored.
    pub k: Values,
    pub batch: Batch,
    /// `[total_q]`.
    pub scale_factor: Option<Vec<f32>>,
    /// How q, and the keys, raw and compressed, lie in memory.
    pub packing: Packing,
}

impl SelectionInputs {
    /// Normal queries and keys of packed sequences.
    pub fn normal(
        precision: Precision,
        config: Config,
        queries: &[usize],
        keys: &[usize],
        seed: u64,
    ) -> SelectionInputs {
        let mut numbers = Numbers::new(seed);
        let (total_q, total_k): (usize, usize) = (queries.iter().sum(), keys.iter().sum());
        let mut tensor = |rows: usize| Values::round(precision, numbers.normals(rows * config.dim, 2.0));
        SelectionInputs {
            config,
            q: tensor(total_q * config.heads_q),
            k: tensor(total_k * config.heads_kv),
            batch: Batch::new(queries, keys).bounded(),
            scale_factor: None,
            packing: Packing::Separate,
        }
    }

    pub fn total_q(&self) -> usize {
        self.q.len() / (self.config.heads_q * self.config.dim)
    }

    pub fn total_k(&self) -> usize {
        self.k.len() / (self.config.heads_kv * self.config.dim)
    }

    /// Blocks of the longest sequence.
    pub fn blocks(&self) -> usize {
        let longest = self.batch.key_lengths().into_iter().max().unwrap_or(0);
        (longest as usize).div_ceil(self.config.block_size)
    }

    /// The same without the tokens of each sequence from these lengths on, and with only so many queries.
    pub fn chunk(&self, keys: &[usize], queries: &[usize]) -> SelectionInputs {
        let Batch {
            cu_seqlens_q,
            cu_seqlens_k,
            ..
        } = &self.batch;
        let lengths = self.batch.key_lengths();
        let (mut query_tokens, mut key_tokens) = (Vec::new(), Vec::new());
        for sequence in 0..keys.len() {
            let first_key = cu_seqlens_k[sequence] as usize;
            key_tokens.extend(first_key..first_key + keys[sequence]);
            // The last query of the chunk stands at its last key.
            let end = cu_seqlens_q[sequence + 1] as usize - (lengths[sequence] as usize - keys[sequence]);
            query_tokens.extend(end - queries[sequence]..end);
        }
        let factors = self.scale_factor.as_ref();
        SelectionInputs {
            q: self.q.pick(self.total_q(), &query_tokens),
            k: self.k.pick(self.total_k(), &key_tokens),
            batch: Batch {
                storage: self.batch.storage.clone(),
                dense_len: self.batch.dense_len,
                switch_len: self.batch.switch_len.clone(),
                ..Batch::new(queries, keys).bounded()
            },
            scale_factor: factors.map(|factors| query_tokens.iter().map(|&token| factors[token]).collect()),
            ..self.clone()
        }
    }

    /// The compression of all keys in one call.
    pub fn compress(&self) -> CompressProblem {
        let lengths = self.batch.lengths_of_keys();
        CompressProblem {
            config: self.config,
            k: self.k.clone(),
            cu_seqlens_k: self.batch.cu_seqlens_k.clone(),
            storage: self.batch.storage.clone(),
            packing: self.packing,
            calls: vec![CompressCall {
                lengths,
                old: None,
                max_new: self.batch.max_seqlens[1],
            }],
        }
    }

    /// The selection by compressed keys; with the scores of the first `score_blocks` blocks, if any.
    pub fn select(&self, keys: &Compressed, score_blocks: Option<usize>) -> SelectProblem {
        SelectProblem {
            config: self.config,
            q: self.q.clone(),
            k1: keys.k1.clone(),
            k2: Some(keys.k2.clone()),
            batch: self.batch.clone(),
            scale_factor: self.scale_factor.clone(),
            packing: self.packing,
            score_blocks,
            entry: Entry::Prefill,
            workspace: None,
        }
    }
}

/// Packed, cached and paged keys of ragged sequences, in both types.
pub(in crate::operations) fn inputs(seed: u64) -> [SelectionInputs; 4] {
    let packed = SelectionInputs::normal(
        Precision::Bf16,
        small_config(16, 1, 128),
        &[9, 0, 1],
        &[700, 65, 300],
        seed,
    );
    let mut cached = SelectionInputs::normal(Precision::F16, small_config(6, 2, 64), &[17, 1], &[600, 33], seed);
    cached.batch = cached.batch.cached(37);
    let mut paged = packed.clone();
    paged.batch = paged.batch.paged(64);
    let mut apart = cached.clone();
    apart.batch = apart.batch.paged(16);
    [packed, cached, paged, apart]
}
