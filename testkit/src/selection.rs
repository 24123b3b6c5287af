//! Key compression and block selection as data: run them on a device, or on the reference.

use crate::cases::cumulative;
use crate::devices::Machine;
use crate::memory::POISON;
use crate::values::Values;
use half::bf16;
use sala_kernels::reference::Value;
use sala_kernels::reference::compress_keys::{CompressedKeys, Window, compress_keys};
use sala_kernels::reference::select_blocks::{
    BlockScores, Config, Position, ScoreLse, block_scores, positions, select_blocks,
};
use sala_kernels::{
    Buffer, CompressKeys, CompressKeysArgs, DType, KeyLengths, Lse, Result, ScoredBlocksArgs, SelectBlocks,
    SelectBlocksArgs, Sequences, Tensor, TensorMut,
};
use std::ops::Range;

/// Where the keys of the sequences lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// One sequence after the other.
    Packed,
    /// Each in a cache of its own, with room for this many tokens more than the longest has.
    Cached {
        /// Tokens.
        spare: usize,
    },
}

/// The order of tokens and heads in a key tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// `[…, rows, heads, dim]`.
    #[default]
    RowMajor,
    /// `[…, heads, rows, dim]`.
    HeadMajor,
}

/// One call with its inputs.
#[derive(Clone, Debug)]
pub struct SelectionProblem {
    /// Shapes and constants.
    pub config: Config,
    /// `[total_q, heads_q, dim]`.
    pub q: Values,
    /// `[total_k, heads_kv, dim]`, the keys of one sequence after those of the other.
    pub k: Values,
    /// Queries of each sequence, its last tokens.
    pub queries: Vec<usize>,
    /// Keys of each sequence.
    pub keys: Vec<usize>,
    /// `[total_q]`.
    pub scale_factor: Option<Vec<f32>>,
    /// Where the keys lie.
    pub storage: Storage,
    /// How they lie there, raw and compressed.
    pub order: Order,
}

/// A tensor of rows on a device, of keys or compressed keys; what no row covers is NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Everything, as it lies in memory.
    pub bits: Vec<u16>,
    batch: Option<usize>,
    rows: usize,
    heads: usize,
    dim: usize,
    order: Order,
}

impl Rows {
    fn new(problem: &SelectionProblem, rows: usize) -> Rows {
        let Config {
            heads_kv: heads, dim, ..
        } = problem.config;
        let batch = match problem.storage {
            Storage::Packed => None,
            Storage::Cached { .. } => Some(problem.keys.len()),
        };
        let bits = vec![POISON; batch.unwrap_or(1) * rows * heads * dim];
        Rows {
            bits,
            batch,
            rows,
            heads,
            dim,
            order: problem.order,
        }
    }

    /// The elements of one row and head; a cache is named by its sequence.
    pub fn range(&self, sequence: usize, row: usize, head: usize) -> Range<usize> {
        let cache = self.batch.map_or(0, |_| sequence);
        let index = match self.order {
            Order::RowMajor => (cache * self.rows + row) * self.heads + head,
            Order::HeadMajor => (cache * self.heads + head) * self.rows + row,
        };
        index * self.dim..(index + 1) * self.dim
    }

    fn shape_and_strides(&self) -> (Vec<usize>, Vec<usize>) {
        let (row, head) = match self.order {
            Order::RowMajor => (self.heads * self.dim, self.dim),
            Order::HeadMajor => (self.dim, self.rows * self.dim),
        };
        let mut shape = vec![self.rows, self.heads, self.dim];
        let mut strides = vec![row, head, 1];
        if let Some(batch) = self.batch {
            shape.insert(0, batch);
            strides.insert(0, self.rows * self.heads * self.dim);
        }
        (shape, strides)
    }

    fn upload(&self, machine: &Machine) -> Result<Buffer> {
        let elements: Vec<bf16> = self.bits.iter().copied().map(bf16::from_bits).collect();
        Buffer::from_slice(&machine.device, &elements)
    }

    fn tensor<'a>(&self, machine: &Machine, buffer: &'a Buffer, dtype: DType) -> Result<Tensor<'a>> {
        let (shape, strides) = self.shape_and_strides();
        // SAFETY: the view covers what `upload` put into the buffer, which it borrows.
        unsafe { Tensor::from_raw(&machine.device, buffer.address(), dtype, &shape, &strides) }
    }

    fn tensor_mut<'a>(&self, machine: &Machine, buffer: &'a mut Buffer, dtype: DType) -> Result<TensorMut<'a>> {
        let (shape, strides) = self.shape_and_strides();
        // SAFETY: the view covers what `upload` put into the buffer, which it borrows alone.
        unsafe { TensorMut::from_raw(&machine.device, buffer.address(), dtype, &shape, &strides) }
    }

    fn read(&self, buffer: &Buffer) -> Result<Rows> {
        let bits = buffer
            .read::<bf16>()?
            .iter()
            .map(|x| x.to_bits())
            .take(self.bits.len())
            .collect();
        Ok(Rows { bits, ..self.clone() })
    }
}

/// K1 and K2 as a device has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Compressed {
    /// K1.
    pub k1: Rows,
    /// K2.
    pub k2: Rows,
    /// The status word of the calls.
    pub status: [u32; 4],
}

/// What a selection leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// `[total_q, heads_kv, list_len]`.
    pub indices: Vec<i32>,
    /// `[total_q, heads_kv, blocks]`, if asked for.
    pub scores: Option<Vec<f32>>,
    /// The status word.
    pub status: [u32; 4],
}

/// What a list holds before a launch: no index that a kernel writes.
pub const UNWRITTEN: i32 = i32::MIN;

impl SelectionProblem {
    /// Query tokens.
    pub fn total_q(&self) -> usize {
        self.queries.iter().sum()
    }

    /// Key tokens.
    pub fn total_k(&self) -> usize {
        self.keys.iter().sum()
    }

    /// Blocks of the longest sequence.
    pub fn blocks(&self) -> usize {
        self.keys
            .iter()
            .max()
            .map_or(0, |&keys| keys.div_ceil(self.config.block_size))
    }

    /// Where the query tokens stand.
    pub fn positions(&self) -> Vec<Option<Position>> {
        let (queries, keys) = (cumulative(&self.queries), cumulative(&self.keys));
        positions(&queries, &keys, self.total_q(), self.total_k())
    }

    /// The same call without the tokens of each sequence from these lengths on, and with only so many queries.
    pub fn chunk(&self, keys: &[usize], queries: &[usize]) -> SelectionProblem {
        let Config {
            heads_q, heads_kv, dim, ..
        } = self.config;
        let pick = |values: &Values, row: usize, ranges: &mut dyn Iterator<Item = Range<usize>>| {
            let bits = values.to_bits();
            let picked = ranges
                .flat_map(|range| bits[range.start * row..range.end * row].to_vec())
                .collect::<Vec<_>>();
            Values::from_bits(values.precision(), picked)
        };
        let first_keys = cumulative(&self.keys);
        let first_queries = cumulative(&self.queries);
        let key_ranges = || (0..keys.len()).map(|i| first_keys[i] as usize..first_keys[i] as usize + keys[i]);
        // The last query of the chunk stands at its last key.
        let query_ranges = || {
            (0..keys.len()).map(|i| {
                let end = first_queries[i + 1] as usize - (self.keys[i] - keys[i]);
                end - queries[i]..end
            })
        };
        let scale_factor = self
            .scale_factor
            .as_ref()
            .map(|factor| query_ranges().flat_map(|range| factor[range].to_vec()).collect());
        SelectionProblem {
            q: pick(&self.q, heads_q * dim, &mut query_ranges()),
            k: pick(&self.k, heads_kv * dim, &mut key_ranges()),
            queries: queries.to_vec(),
            keys: keys.to_vec(),
            scale_factor,
            ..self.clone()
        }
    }

    /// Rows of tokens that a key tensor has room for.
    fn capacity(&self) -> usize {
        match self.storage {
            Storage::Packed => self.total_k(),
            Storage::Cached { spare } => self.keys.iter().max().map_or(0, |&keys| keys + spare),
        }
    }

    fn key_rows(&self) -> Rows {
        let Config { heads_kv, dim, .. } = self.config;
        let mut rows = Rows::new(self, self.capacity());
        let bits = self.k.to_bits();
        let first = cumulative(&self.keys);
        for (sequence, &keys) in self.keys.iter().enumerate() {
            for token in 0..keys {
                for head in 0..heads_kv {
                    let packed = first[sequence] as usize + token;
                    let row = if self.storage == Storage::Packed { packed } else { token };
                    let from = (packed * heads_kv + head) * dim;
                    let to = rows.range(sequence, row, head);
                    rows.bits[to].copy_from_slice(&bits[from..from + dim]);
                }
            }
        }
        rows
    }

    fn compress_operation(&self) -> Result<CompressKeys> {
        let Config {
            heads_kv,
            dim,
            block_size,
            ..
        } = self.config;
        CompressKeys::builder(self.q.dtype(), heads_kv, dim)
            .block_size(block_size)
            .build()
    }

    /// The selection on a device.
    pub fn select_operation(&self) -> Result<SelectBlocks> {
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
        } = self.config;
        SelectBlocks::builder(self.q.dtype(), heads_q, heads_kv, dim)
            .scale(scale)
            .block_size(block_size)
            .topk(topk)
            .init_blocks(init_blocks)
            .local_blocks(local_blocks)
            .lse(if lse == ScoreLse::Exact {
                Lse::Exact
            } else {
                Lse::Coarse
            })
            .build()
    }

    /// Lengths as kernels are told them: where packed keys begin, or how many a cache has.
    fn key_lengths(&self, lengths: &[usize]) -> Vec<i32> {
        match self.storage {
            Storage::Packed => cumulative(lengths),
            Storage::Cached { .. } => lengths.iter().map(|&length| length as i32).collect(),
        }
    }

    fn lengths_argument<'a>(&self, lengths: Tensor<'a>) -> KeyLengths<'a> {
        match self.storage {
            Storage::Packed => KeyLengths::Packed { cu_seqlens_k: lengths },
            Storage::Cached { .. } => KeyLengths::Cached { seqlens_k: lengths },
        }
    }

    /// Compresses all keys in one call.
    pub fn compress(&self, machine: &Machine) -> Result<Compressed> {
        self.compress_in_steps(machine, std::slice::from_ref(&self.keys))
    }

    /// Compresses the keys of caches in one call for each entry of `lengths`, what the sequences have by then.
    pub fn compress_in_steps(&self, machine: &Machine, lengths: &[Vec<usize>]) -> Result<Compressed> {
        let operation = self.compress_operation()?;
        let dtype = self.q.dtype();
        let keys = self.key_rows();
        let key_buffer = keys.upload(machine)?;
        let k1 = Rows::new(self, operation.k1_rows(self.capacity()));
        let k2 = Rows::new(self, operation.k2_rows(self.capacity()));
        let (mut k1_buffer, mut k2_buffer) = (k1.upload(machine)?, k2.upload(machine)?);
        let mut status = Buffer::from_slice(&machine.device, &[0u32; 4])?;
        let mut old = vec![0i32; self.keys.len()];
        for lengths in lengths {
            let given = self.key_lengths(lengths);
            let length_buffer = Buffer::from_slice(&machine.device, &given)?;
            let old_buffer = Buffer::from_slice(&machine.device, &old)?;
            let new = lengths.iter().zip(&old).map(|(&length, &old)| length - old as usize);
            let args = CompressKeysArgs {
                k: keys.tensor(machine, &key_buffer, dtype)?,
                keys: self.lengths_argument(length_buffer.tensor(DType::I32, &[given.len()])?),
                seqlens_old: Some(old_buffer.tensor(DType::I32, &[old.len()])?),
                max_seqlen_k: None,
                max_new: new.max(),
                k1: k1.tensor_mut(machine, &mut k1_buffer, dtype)?,
                k2: k2.tensor_mut(machine, &mut k2_buffer, dtype)?,
                status: Some(status.tensor_mut(DType::U32, &[4])?),
            };
            // SAFETY: the stream is synchronized before the buffers are touched again.
            unsafe { operation.launch(&machine.kernels, &machine.stream, args)? };
            machine.stream.synchronize()?;
            old = lengths.iter().map(|&length| length as i32).collect();
        }
        let words: Vec<u32> = status.read()?;
        Ok(Compressed {
            k1: k1.read(&k1_buffer)?,
            k2: k2.read(&k2_buffer)?,
            status: [words[0], words[1], words[2], words[3]],
        })
    }

    /// Selects blocks by the compressed keys of a device; also gives the scores of the first `score_blocks` blocks, if any.
    pub fn select(&self, machine: &Machine, keys: &Compressed, score_blocks: Option<usize>) -> Result<Selected> {
        let Config {
            heads_q, heads_kv, dim, ..
        } = self.config;
        let operation = self.select_operation()?;
        let dtype = self.q.dtype();
        let device = &machine.device;
        let total_q = self.total_q();
        let q_bits: Vec<bf16> = self.q.to_bits().into_iter().map(bf16::from_bits).collect();
        let q = Buffer::from_slice(device, &q_bits)?;
        let (k1_buffer, k2_buffer) = (keys.k1.upload(machine)?, keys.k2.upload(machine)?);
        let cu_seqlens_q = Buffer::from_slice(device, &cumulative(&self.queries))?;
        let given = self.key_lengths(&self.keys);
        let lengths = Buffer::from_slice(device, &given)?;
        let factor = Buffer::from_slice(device, self.scale_factor.as_deref().unwrap_or_default())?;
        let mut indices = Buffer::from_slice(device, &vec![UNWRITTEN; total_q * heads_kv * operation.list_len()])?;
        let blocks = score_blocks.unwrap_or(0);
        let mut scores = Buffer::from_slice(device, &vec![f32::NAN; total_q * heads_kv * blocks])?;
        let mut status = Buffer::from_slice(device, &[0u32; 4])?;
        let args = SelectBlocksArgs {
            q: q.tensor(dtype, &[total_q, heads_q, dim])?,
            k1: keys.k1.tensor(machine, &k1_buffer, dtype)?,
            k2: Some(keys.k2.tensor(machine, &k2_buffer, dtype)?),
            sequences: Sequences {
                cu_seqlens_q: cu_seqlens_q.tensor(DType::I32, &[self.queries.len() + 1])?,
                keys: self.lengths_argument(lengths.tensor(DType::I32, &[given.len()])?),
                switch_len: None,
                max_seqlen_q: self.queries.iter().copied().max(),
                max_seqlen_k: self.keys.iter().copied().max(),
            },
            scale_factor: match &self.scale_factor {
                Some(_) => Some(factor.tensor(DType::F32, &[total_q])?),
                None => None,
            },
            block_indices: indices.tensor_mut(DType::I32, &[total_q, heads_kv, operation.list_len()])?,
            scores: match score_blocks {
                Some(blocks) => Some(scores.tensor_mut(DType::F32, &[total_q, heads_kv, blocks])?),
                None => None,
            },
            status: Some(status.tensor_mut(DType::U32, &[4])?),
        };
        // SAFETY: the stream is synchronized before the buffers are touched again.
        unsafe { operation.launch(&machine.kernels, &machine.stream, args)? };
        machine.stream.synchronize()?;
        let words: Vec<u32> = status.read()?;
        Ok(Selected {
            indices: indices.read()?,
            scores: score_blocks.map(|_| scores.read()).transpose()?,
            status: [words[0], words[1], words[2], words[3]],
        })
    }

    /// Selects blocks by given scores `[total_q, heads_kv, blocks]`.
    pub fn select_scored(&self, machine: &Machine, scores: &BlockScores) -> Result<Selected> {
        let heads_kv = self.config.heads_kv;
        let operation = self.select_operation()?;
        let device = &machine.device;
        let total_q = self.total_q();
        let score_buffer = Buffer::from_slice(device, &scores.scores)?;
        let cu_seqlens_q = Buffer::from_slice(device, &cumulative(&self.queries))?;
        let given = self.key_lengths(&self.keys);
        let lengths = Buffer::from_slice(device, &given)?;
        let mut indices = Buffer::from_slice(device, &vec![UNWRITTEN; total_q * heads_kv * operation.list_len()])?;
        let mut status = Buffer::from_slice(device, &[0u32; 4])?;
        let args = ScoredBlocksArgs {
            scores: score_buffer.tensor(DType::F32, &[total_q, heads_kv, scores.blocks])?,
            sequences: Sequences {
                cu_seqlens_q: cu_seqlens_q.tensor(DType::I32, &[self.queries.len() + 1])?,
                keys: self.lengths_argument(lengths.tensor(DType::I32, &[given.len()])?),
                switch_len: None,
                max_seqlen_q: None,
                max_seqlen_k: None,
            },
            block_indices: indices.tensor_mut(DType::I32, &[total_q, heads_kv, operation.list_len()])?,
            status: Some(status.tensor_mut(DType::U32, &[4])?),
        };
        // SAFETY: the stream is synchronized before the buffers are touched again.
        unsafe { operation.launch_scored(&machine.kernels, &machine.stream, args)? };
        machine.stream.synchronize()?;
        let words: Vec<u32> = status.read()?;
        Ok(Selected {
            indices: indices.read()?,
            scores: None,
            status: [words[0], words[1], words[2], words[3]],
        })
    }

    /// The first row of a sequence in K1 or K2.
    fn first_row(&self, sequence: usize, window: Window) -> usize {
        match self.storage {
            Storage::Packed => cumulative(&self.keys)[sequence] as usize / window.stride,
            Storage::Cached { .. } => 0,
        }
    }

    /// The rows that the reference gives for a window, as bits `[rows, heads_kv, dim]` a sequence.
    pub fn reference_rows(&self, window: Window) -> Vec<Values> {
        let Config { heads_kv, dim, .. } = self.config;
        let cu_seqlens = cumulative(&self.keys);
        match &self.k {
            Values::Bf16(k) => compress_keys(k, heads_kv, dim, &cu_seqlens, window)
                .sequences
                .into_iter()
                .map(Values::Bf16)
                .collect(),
            Values::F16(k) => compress_keys(k, heads_kv, dim, &cu_seqlens, window)
                .sequences
                .into_iter()
                .map(Values::F16)
                .collect(),
        }
    }

    /// The rows of a device, likewise.
    pub fn device_rows(&self, rows: &Rows, window: Window) -> Vec<Values> {
        let sequence_rows = |(sequence, &keys): (usize, &usize)| {
            let first = self.first_row(sequence, window);
            let cells = (0..window.rows(keys)).flat_map(|row| (0..self.config.heads_kv).map(move |head| (row, head)));
            let bits = cells.flat_map(|(row, head)| rows.bits[rows.range(sequence, first + row, head)].to_vec());
            Values::from_bits(self.k.precision(), bits)
        };
        self.keys.iter().enumerate().map(sequence_rows).collect()
    }

    /// How many elements of a device's tensor no row of a sequence covers and something has written.
    pub fn stray_writes(&self, rows: &Rows, window: Window) -> usize {
        let mut rest = rows.clone();
        for (sequence, &keys) in self.keys.iter().enumerate() {
            let first = self.first_row(sequence, window);
            for row in 0..window.rows(keys) {
                for head in 0..self.config.heads_kv {
                    let range = rest.range(sequence, first + row, head);
                    rest.bits[range].fill(POISON);
                }
            }
        }
        rest.bits.iter().filter(|&&bits| bits != POISON).count()
    }

    /// The scores that the reference gives for the compressed keys of a device, of as many blocks as [`Self::blocks`] says.
    pub fn reference_scores(&self, keys: &Compressed) -> BlockScores {
        let rows = |rows, window| self.device_rows(rows, window);
        let k1 = rows(&keys.k1, Window::fine(self.config.block_size));
        let k2 = rows(&keys.k2, Window::coarse(self.config.block_size));
        match &self.q {
            Values::Bf16(q) => self.score(q, compressed(&k1, as_bf16), compressed(&k2, as_bf16)),
            Values::F16(q) => self.score(q, compressed(&k1, as_f16), compressed(&k2, as_f16)),
        }
    }

    fn score<T: Value>(&self, q: &[T], k1: CompressedKeys<T>, k2: CompressedKeys<T>) -> BlockScores {
        block_scores(
            &self.config,
            q,
            &k1,
            &k2,
            &self.positions(),
            self.scale_factor.as_deref(),
        )
    }

    /// The lists that the reference gives for scores.
    pub fn reference_lists(&self, scores: &BlockScores) -> Vec<i32> {
        select_blocks(&self.config, scores, &self.positions())
    }
}

fn compressed<T>(sequences: &[Values], elements: impl Fn(&Values) -> Vec<T>) -> CompressedKeys<T> {
    CompressedKeys {
        sequences: sequences.iter().map(elements).collect(),
    }
}

fn as_bf16(values: &Values) -> Vec<bf16> {
    values.to_bits().into_iter().map(bf16::from_bits).collect()
}

fn as_f16(values: &Values) -> Vec<half::f16> {
    values.to_bits().into_iter().map(half::f16::from_bits).collect()
}
