//! Key compression as data: run calls on a device, or on the reference.

use super::select_blocks::cases::inputs;
use crate::batch::add_key_lengths;
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::problem::{Problem, Run, launch};
use crate::storage::{Content, KeyRows, Storage, keys};
use crate::tolerance::{Judgement, compressed};
use crate::values::Values;
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
    /// Of all launches, from each to its end.
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

    pub fn layer(&self) -> Result<SparseLayer> {
        layer(&self.config, self.k.dtype(), 0)
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

    fn run(&self, machine: &Machine) -> Result<CompressRun> {
        let Config { heads_kv, dim, .. } = self.config;
        let (layer, precision, device) = (self.layer()?, self.k.precision(), &machine.device);
        let places = self.storage.places(&self.cu_seqlens_k, Content::Keys);
        let k = KeyRows::store(places, &self.k, &self.cu_seqlens_k, heads_kv, dim);
        let mut memory = Memory::new(device);
        let Compressed { k1, k2 } = self.empty();
        let [fine, coarse] = [k1.places.clone(), k2.places.clone()];
        for (name, rows) in [("k", &k), ("k1", &k1), ("k2", &k2)] {
            memory.add_keys(precision, self.packing, &[(name, rows)])?;
        }
        memory.add_status()?;
        let (mut elapsed, mut is_intact) = (Duration::ZERO, true);
        for CompressCall { lengths, old, max_new } in &self.calls {
            let mut call = Memory::new(device);
            add_key_lengths(&mut call, &self.storage, lengths)?;
            self.storage
                .add_to(&mut call, &self.cu_seqlens_k, self.config.block_size)?;
            if let Some(old) = old {
                call.add("seqlens_old", &[old.len()], 0, Some(old))?;
            }
            memory.take_back();
            let [k1, k2] = ["k1", "k2"].map(|name| memory.tensor_mut(name));
            let mut args = CompressKeysArgs::new(memory.tensor("k"), keys(&call), k1, k2);
            args.compressed = self.storage.compressed(&call, self.config.block_size);
            args.seqlens_old = call.get("seqlens_old");
            args.max_new = *max_new;
            args.status = memory.get_mut("status");
            elapsed += launch(machine, &layer, args)?;
            is_intact &= call.is_intact()? && memory.is_intact()?;
        }
        let [k1, k2] = [memory.keys("k1", &fine)?, memory.keys("k2", &coarse)?];
        Ok(CompressRun {
            keys: Compressed { k1, k2 },
            status: memory.status()?,
            is_intact,
            elapsed,
        })
    }

    fn judge(&self, run: &CompressRun, reference: &Compressed) -> Judgement {
        let judge = |name: &str, got: &KeyRows, expected: &KeyRows| {
            compressed(&got.bits, &expected.bits).within(|| name.to_owned())
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
