//! Sparse and dense attention as data: run a call on a device, or on the reference.

pub mod cases;
pub mod random;

use crate::batch::{Batch, Trees};
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::Numbers;
use crate::problem::{Problem, Run, same_bits, submit};
use crate::replay;
use crate::storage::{Content, KeyRows};
use crate::tolerance::{Judgement, attention_out, lse};
use crate::values::Values;
use sala_kernels::reference::sparse_attention::{self as reference, Attention, Blocks, Config};
use sala_kernels::{AttentionShape, DenseAttentionArgs, Entry, Result, SparseAttentionArgs, SparseLayer, Status};
use std::ops::Range;
use std::time::Duration;

/// Lists of blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    /// `[total_q, heads_kv, list_len]`.
    pub indices: Vec<i32>,
    /// Entries of a list.
    pub list_len: usize,
}

/// A call of sparse attention, or of dense attention if it has no lists.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionProblem {
    /// Shapes and constants. There are kernels where `dim_v` is `dim`.
    pub config: Config,
    /// `[total_q, heads_q, dim]`.
    pub q: Values,
    /// `[total_k, heads_kv, dim]`, however they are stored.
    pub k: Values,
    /// `[total_k, heads_kv, dim_v]`, stored as `k` is.
    pub v: Values,
    pub batch: Batch,
    /// What each token attends to; all blocks without it.
    pub lists: Option<Lists>,
    /// `[total_q]`: before which key a token sees none; of a call without lists.
    pub first_key: Option<Vec<i32>>,
    /// `[total_q]`.
    pub scale_factor: Option<Vec<f32>>,
    /// `[total_q, heads_q, dim_v]`.
    pub gate: Option<Values>,
    /// How the tensors of query tokens, and those of keys, lie in memory.
    pub packing: Packing,
    /// Whether the logarithms are asked for.
    pub with_lse: bool,
    pub entry: Entry,
    /// Bytes of workspace, if the call is given one.
    pub workspace: Option<usize>,
}

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct AttentionRun {
    /// `[total_q, heads_q, dim_v]`; poison where nothing was written.
    pub out: Values,
    /// `[total_q, heads_q]`, if asked for; NaN where nothing was written.
    pub lse: Vec<f32>,
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl AttentionProblem {
    pub fn total_q(&self) -> usize {
        self.q.len() / (self.config.heads_q * self.config.dim)
    }

    pub fn total_k(&self) -> usize {
        self.k.len() / (self.config.heads_kv * self.config.dim)
    }

    /// The same call as a decode step, with its workspace.
    ///
    /// # Panics
    /// Where there is no such layer.
    pub fn decode(&self) -> AttentionProblem {
        let layer = self.layer().unwrap_or_else(|error| panic!("{error}"));
        let mut batch = self.batch.clone();
        let [_, keys] = batch.max_seqlens;
        let queries = batch.max_seqlens[0].or(batch.clone().bounded().max_seqlens[0]);
        batch.max_seqlens[0] = queries;
        let keys = keys.unwrap_or(batch.capacity());
        // With lengths of its own to decide by, a sequence of any length may be dense.
        let lists = self.lists.as_ref().filter(|_| batch.switch_len.is_none());
        let list_len = lists.map(|lists| lists.list_len);
        let (entry, queries) = (Entry::Decode, queries.unwrap_or(0).min(self.total_q()));
        AttentionProblem {
            entry,
            workspace: Some(layer.workspace_size(entry, batch.sequences(), queries, keys, list_len)),
            batch,
            ..self.clone()
        }
    }

    /// The same call as a decode step of trees at random.
    pub fn decode_trees(&self, numbers: &mut Numbers) -> AttentionProblem {
        let mut step = self.decode();
        let columns = step.batch.max_seqlens[0].unwrap_or(0) + numbers.below(2);
        step.batch.trees = Some(Trees::random(numbers, step.batch.sequences(), columns));
        step
    }

    /// Some queries of one sequence, on its first `keys` keys, as a packed call of their own; of a tree all of them.
    pub fn part(&self, sequence: usize, queries: Range<usize>, keys: usize) -> AttentionProblem {
        let first = self.batch.cu_seqlens_q[sequence] as usize;
        let tokens = first + queries.start..first + queries.end;
        let first_key = self.batch.cu_seqlens_k[sequence] as usize;
        let key_tokens = first_key..first_key + keys;
        let (total_q, total_k) = (self.total_q(), self.total_k());
        let list_row = |lists: &Lists| lists.list_len * self.config.heads_kv;
        AttentionProblem {
            q: self.q.rows(total_q, tokens.clone()),
            k: self.k.rows(total_k, key_tokens.clone()),
            v: self.v.rows(total_k, key_tokens),
            batch: Batch {
                cu_seqlens_q: vec![0, queries.len() as i32],
                cu_seqlens_k: vec![0, keys as i32],
                switch_len: self.batch.switch_len.as_ref().map(|lengths| vec![lengths[sequence]]),
                trees: self.batch.trees.as_ref().map(|trees| trees.one(sequence)),
                ..self.batch.clone()
            },
            lists: self.lists.as_ref().map(|lists| Lists {
                indices: lists.indices[tokens.start * list_row(lists)..tokens.end * list_row(lists)].to_vec(),
                list_len: lists.list_len,
            }),
            first_key: self.first_key.as_ref().map(|first| first[tokens.clone()].to_vec()),
            scale_factor: self
                .scale_factor
                .as_ref()
                .map(|factors| factors[tokens.clone()].to_vec()),
            gate: self.gate.as_ref().map(|gate| gate.rows(total_q, tokens)),
            ..self.clone()
        }
    }
}

/// Sets the arguments that a call may do without, which are the same with lists and without.
macro_rules! set_options {
    ($args:ident, $entry:expr, $memory:ident) => {
        $args.entry = $entry;
        $args.parent = $memory.get("parent");
        $args.scale_factor = $memory.get("scale_factor");
        $args.gate = $memory.get("gate");
        $args.lse = $memory.get_mut("lse");
        $args.workspace = $memory.get_mut("workspace");
        $args.status = $memory.get_mut("status");
    };
}

impl Problem for AttentionProblem {
    type Layer = SparseLayer;
    type Run = AttentionRun;
    type Reference = Attention;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Attention {
        let dense = self.batch.dense();
        let blocks = match &self.lists {
            None => self.first_key.as_deref().map_or(Blocks::Dense, Blocks::From),
            Some(Lists { indices, list_len }) => Blocks::Listed {
                indices,
                list_len: *list_len,
                dense: &dense,
            },
        };
        reference::sparse_attention(
            &self.config,
            &self.q.to_f64(),
            &self.k.to_f64(),
            &self.v.to_f64(),
            &self.batch.cu_seqlens_k,
            &self.batch.positions(self.total_q(), self.total_k()),
            blocks,
            self.scale_factor.as_deref(),
            self.gate.as_ref().map(Values::to_f64).as_deref(),
        )
    }

    fn layer(&self) -> Result<SparseLayer> {
        let Config {
            heads_q,
            heads_kv,
            dim,
            scale,
            block_size,
            ..
        } = self.config;
        let shape = AttentionShape { heads_q, heads_kv, dim };
        let builder = SparseLayer::builder(self.q.dtype(), shape, self.batch.dense_len);
        builder.scale(scale).block_size(block_size).build()
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let Config {
            heads_q,
            heads_kv,
            dim,
            dim_v,
            ..
        } = self.config;
        let (precision, packing, total_q) = (self.q.precision(), self.packing, self.total_q());
        let mut memory = Memory::new(&machine.device);
        let gate = self.gate.iter().map(|gate| ("gate", dim_v, Some(gate)));
        let tensors: Vec<_> = [("q", dim, Some(&self.q))].into_iter().chain(gate).collect();
        memory.add_rows(precision, packing, [total_q, heads_q], &tensors)?;
        memory.add_rows(precision, packing, [total_q, heads_q], &[("out", dim_v, None)])?;
        let bounds = &self.batch.cu_seqlens_k;
        let store = |values, dim| KeyRows::store(self.batch.places(Content::Keys), values, bounds, heads_kv, dim);
        let (k, v) = (store(&self.k, dim), store(&self.v, dim_v));
        memory.add_keys(precision, packing, &[("k", &k), ("v", &v)])?;
        self.batch.add_to(&mut memory, self.config.block_size)?;
        if let Some(Lists { indices, list_len }) = &self.lists {
            let shape = [total_q, heads_kv, *list_len];
            memory.add("block_indices", &shape, packing.gap(), Some(indices))?;
        }
        if let Some(factors) = &self.scale_factor {
            memory.add("scale_factor", &[total_q], 0, Some(factors))?;
        }
        if let Some(first) = self.first_key.as_ref().filter(|_| self.lists.is_none()) {
            memory.add("first_key", &[total_q], 0, Some(first))?;
        }
        if let Some(bytes) = self.workspace {
            memory.add::<u32>("workspace", &[bytes / 4], 0, None)?;
        }
        if self.with_lse {
            memory.add::<f32>("lse", &[total_q, heads_q], packing.gap(), None)?;
        }
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let [q, k, v] = ["q", "k", "v"].map(|name| memory.tensor(name));
        let (sequences, out) = (self.batch.view(memory), memory.tensor_mut("out"));
        match memory.get("block_indices") {
            Some(lists) => {
                let switch_len = self.batch.switch_len(memory);
                let mut args = SparseAttentionArgs::new(q, k, v, sequences, switch_len, lists, out);
                set_options!(args, self.entry, memory);
                submit(machine, layer, args)
            }
            None => {
                let mut args = DenseAttentionArgs::new(q, k, v, sequences, out);
                args.first_key = memory.get("first_key");
                set_options!(args, self.entry, memory);
                submit(machine, layer, args)
            }
        }
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<AttentionRun> {
        Ok(AttentionRun {
            out: memory.values("out")?,
            lse: memory.get("lse").map_or(Ok(Vec::new()), |_| memory.read("lse"))?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    fn judge(&self, run: &AttentionRun, reference: &Attention) -> Judgement {
        let logarithms: Vec<f64> = run.lse.iter().map(|&x| f64::from(x)).collect();
        let out = attention_out(
            self.q.precision(),
            self.config.dim_v,
            &run.out.to_f64(),
            &reference.out,
            &reference.magnitude,
        );
        if self.with_lse {
            out.and(lse(&logarithms, &reference.lse))
        } else {
            out
        }
    }

    fn refused(&self, reference: &Attention) -> Status {
        Status::from([0, reference.refused_blocks, 0, 0])
    }

    fn replay(&self) -> Option<Vec<u8>> {
        replay::sparse_bytes(self)
    }
}

impl AttentionRun {
    /// The rows of some query tokens of a call that has `total_q`.
    pub fn part(&self, total_q: usize, tokens: Range<usize>) -> AttentionRun {
        let heads = self.lse.len() / total_q.max(1);
        AttentionRun {
            out: self.out.rows(total_q, tokens.clone()),
            lse: self.lse[tokens.start * heads..tokens.end * heads].to_vec(),
            ..self.clone()
        }
    }
}

impl Run for AttentionRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &AttentionRun) -> Option<String> {
        if !same_bits(&self.lse, &other.lse) {
            return Some("lse".into());
        }
        (self.out.to_bits() != other.out.to_bits()).then(|| "out".into())
    }
}
