//! Key compression as data: run calls on a device, or on the reference.

use super::select_blocks::cases::inputs;
use super::select_blocks::random::{SelectionCase, selections};
use crate::batch::{add_key_lengths, length_name};
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::problem::{Described, Problem, Run, submit};
use crate::storage::{Content, KeyRows, Storage, keys};
use crate::tolerance::{Judgement, compressed};
use crate::values::Values;
use proptest::prelude::*;
use sala_kernels::reference::compress_keys::{Window, compress_keys};
use sala_kernels::reference::select_blocks::Config;
use sala_kernels::{AttentionShape, CompressKeysArgs, DType, Result, SparseLayer, Status};
use std::time::Duration;

/// The layer that key compression and block selection are of.
pub(crate) fn layer(config: &Config, dtype: DType, dense_len: usize) -> Result<SparseLayer> {
    let Config {
        heads_q,
        heads_kv,
        dim,
        scale,
        block_size,
        topk,
        init_blocks,
        local_blocks,
        lse,
    } = *config;
    let shape = AttentionShape { heads_q, heads_kv, dim };
    SparseLayer::builder(dtype, shape, dense_len)
        .scale(scale)
        .block_size(block_size)
        .topk(topk)
        .init_blocks(init_blocks)
        .local_blocks(local_blocks)
        .lse(lse)
        .build()
}

/// The windows of K1 and K2.
fn windows(config: &Config) -> [Window; 2] {
    [Window::fine(config.block_size), Window::coarse(config.block_size)]
}

/// K1 and K2.
#[derive(Clone, Debug, PartialEq)]
pub struct Compressed {
    pub k1: KeyRows,
    pub k2: KeyRows,
}

/// The rows of K1 or K2 that each sequence has, `[rows, heads_kv, dim]`, wherever they are stored.
pub fn rows_by_sequence(rows: &KeyRows, window: Window, cu_seqlens_k: &[i32]) -> Vec<Vec<u16>> {
    let bounds = cu_seqlens_k.windows(2).enumerate();
    let rows_of = |(sequence, pair): (usize, &[i32])| rows.rows(sequence, window.rows((pair[1] - pair[0]) as usize));
    bounds.map(rows_of).collect()
}

/// Calls of key compression on the same keys, one after the other.
#[derive(Clone, Debug)]
pub struct CompressProblem {
    pub config: Config,
    /// `[total_k, heads_kv, dim]`.
    pub k: Values,
    /// `[batch + 1]`, however the keys are stored: the lengths after the last call.
    pub cu_seqlens_k: Vec<i32>,
    pub storage: Storage,
    /// How keys lie in memory, raw and compressed.
    pub packing: Packing,
    pub calls: Vec<CompressCall>,
}

/// The lengths that a call of key compression is given.
#[derive(Clone, Debug)]
pub struct CompressCall {
    /// What `keys` says: where packed keys begin, or how many each cache has.
    pub lengths: Vec<i32>,
    /// `[batch]`.
    pub old: Option<Vec<i32>>,
    pub max_new: Option<usize>,
}

/// What the calls leave behind.
#[derive(Clone, Debug)]
pub struct CompressRun {
    pub keys: Compressed,
    pub status: Status,
    pub is_intact: bool,
    /// From the first launch to the end of the last.
    pub elapsed: Duration,
}

impl CompressProblem {
    /// The same keys, in caches, in one call for each entry of `lengths`: what the sequences have by then.
    pub fn in_steps(self, lengths: &[Vec<usize>]) -> CompressProblem {
        let mut old = vec![0; self.cu_seqlens_k.len() - 1];
        let calls = lengths.iter().map(|lengths| {
            let lengths: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
            let new = lengths.iter().zip(&old).map(|(length, old)| (length - old) as usize);
            let max_new = new.max();
            CompressCall {
                lengths: lengths.clone(),
                old: Some(std::mem::replace(&mut old, lengths)),
                max_new,
            }
        });
        CompressProblem {
            calls: calls.collect(),
            ..self
        }
    }

    /// K1 and K2 before the first call. K1 has a row per stride of the keys' room.
    fn empty(&self) -> Compressed {
        let Config { heads_kv, dim, .. } = self.config;
        let [k1, k2] = windows(&self.config).map(|window| {
            let places = self.storage.places(&self.cu_seqlens_k, self.content(window));
            KeyRows::empty(places, heads_kv, dim)
        });
        Compressed { k1, k2 }
    }

    fn content(&self, window: Window) -> Content {
        Content::Compressed {
            stride: window.stride,
            block_size: self.config.block_size,
        }
    }
}

impl Problem for CompressProblem {
    type Layer = SparseLayer;
    type Run = CompressRun;
    type Reference = Compressed;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Compressed {
        let Config { heads_kv, dim, .. } = self.config;
        let Compressed { mut k1, mut k2 } = self.empty();
        let keys = self.storage.places(&self.cu_seqlens_k, Content::Keys);
        for (rows, window) in [&mut k1, &mut k2].into_iter().zip(windows(&self.config)) {
            let bounds = &self.cu_seqlens_k;
            let means: Vec<Values> = match &self.k {
                Values::Bf16(k) => {
                    let means = compress_keys(k, heads_kv, dim, bounds, window);
                    means.sequences.into_iter().map(Values::Bf16).collect()
                }
                Values::F16(k) => {
                    let means = compress_keys(k, heads_kv, dim, bounds, window);
                    means.sequences.into_iter().map(Values::F16).collect()
                }
            };
            for (sequence, means) in means.iter().enumerate() {
                for (row, mean) in means.to_bits().chunks(heads_kv * dim).enumerate() {
                    let first = row * window.stride;
                    let is_whole = (first..first + window.size).all(|key| keys.rows_of[sequence][key].is_some());
                    if let Some(elements) = rows.row(sequence, row).filter(|_| is_whole) {
                        rows.bits[elements].copy_from_slice(mean);
                    }
                }
            }
        }
        Compressed { k1, k2 }
    }

    fn layer(&self) -> Result<SparseLayer> {
        layer(&self.config, self.k.dtype(), 0)
    }

    /// The lengths are those of the first call.
    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let Config {
            heads_kv,
            dim,
            block_size,
            ..
        } = self.config;
        let (precision, bounds) = (self.k.precision(), &self.cu_seqlens_k);
        let places = self.storage.places(bounds, Content::Keys);
        let k = KeyRows::store(places, &self.k, bounds, heads_kv, dim);
        let mut memory = Memory::new(&machine.device);
        let Compressed { k1, k2 } = self.empty();
        for (name, rows) in [("k", &k), ("k1", &k1), ("k2", &k2)] {
            memory.add_keys(precision, self.packing, &[(name, rows)])?;
        }
        if let Some(CompressCall { lengths, old, .. }) = self.calls.first() {
            add_key_lengths(&mut memory, &self.storage, lengths)?;
            if let Some(old) = old {
                memory.add("seqlens_old", &[old.len()], 0, Some(old))?;
            }
        }
        self.storage.add_to(&mut memory, bounds, block_size)?;
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        for (index, CompressCall { lengths, old, max_new }) in self.calls.iter().enumerate() {
            if index > 0 {
                machine.stream.synchronize()?;
                memory.write(length_name(&self.storage), lengths)?;
                if let Some(old) = old {
                    memory.write("seqlens_old", old)?;
                }
            }
            memory.take_back();
            let [k1, k2] = ["k1", "k2"].map(|name| memory.tensor_mut(name));
            let mut args = CompressKeysArgs::new(memory.tensor("k"), keys(memory), k1, k2);
            args.compressed = self.storage.compressed(memory, self.config.block_size);
            args.seqlens_old = old.as_ref().map(|_| memory.tensor("seqlens_old"));
            args.max_new = *max_new;
            args.status = memory.get_mut("status");
            submit(machine, layer, args)?;
        }
        Ok(())
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<CompressRun> {
        let Compressed { k1, k2 } = self.empty();
        let [k1, k2] = [memory.keys("k1", &k1.places)?, memory.keys("k2", &k2.places)?];
        Ok(CompressRun {
            keys: Compressed { k1, k2 },
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    fn judge(&self, run: &CompressRun, reference: &Compressed) -> Judgement {
        let largest = self.k.to_f64().into_iter().map(f64::abs).fold(0.0, f64::max);
        let judge = |name: &str, got: &KeyRows, expected: &KeyRows| {
            compressed(self.k.precision(), largest, &got.bits, &expected.bits).within(|| name.to_owned())
        };
        judge("k1", &run.keys.k1, &reference.k1).and(judge("k2", &run.keys.k2, &reference.k2))
    }

    fn refused(&self, _: &Compressed) -> Status {
        Status::default()
    }
}

impl Run for CompressRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &CompressRun) -> Option<String> {
        if self.keys.k1 != other.keys.k1 {
            return Some("k1".into());
        }
        (self.keys.k2 != other.keys.k2).then(|| "k2".into())
    }
}

/// Packed and cached keys.
pub(super) fn samples(seed: u64) -> Vec<CompressProblem> {
    inputs(seed).map(|inputs| inputs.compress()).into()
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct CompressCase {
    pub selection: SelectionCase,
    /// Calls after each of which the sequences are longer; packed keys come in one.
    pub steps: usize,
}

impl Described for CompressCase {
    type Problem = CompressProblem;

    fn problem(&self) -> CompressProblem {
        let (whole, steps) = (self.selection.inputs().compress(), self.steps);
        if steps <= 1 || whole.storage == Storage::Packed {
            return whole;
        }
        let keys = || self.selection.lengths.iter().map(|(_, keys)| keys);
        let lengths: Vec<_> = (1..=steps)
            .map(|step| keys().map(|keys| keys * step / steps).collect())
            .collect();
        whole.in_steps(&lengths)
    }

    fn spoiled(&self) -> Option<u64> {
        self.selection.spoiled
    }
}

/// Keys that come at once and in steps.
pub(super) fn random() -> BoxedStrategy<CompressCase> {
    let case = |(selection, steps)| CompressCase { selection, steps };
    (selections(12), 1usize..=4).prop_map(case).boxed()
}
