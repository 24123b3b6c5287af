//! Reads a text with the kernels: compresses its keys, selects blocks and attends to them, for many tokens at once or one by one.

use crate::features::{DIM, Features, GROUP, SCALE};
use half::bf16;
use sala_kernels::{
    CompressKeys, CompressKeysArgs, DType, Device, Kernels, KeyLengths, Result, SelectBlocks, SelectBlocksArgs,
    Sequences, SparseAttention, SparseAttentionArgs, Tensor, TensorMut,
};
use std::time::{Duration, Instant};

/// What a token reads.
#[derive(Clone, Copy)]
pub struct Selection {
    /// Blocks in all.
    pub blocks: usize,
    /// Tokens of a block.
    pub block_size: usize,
    /// Blocks at the start of the text that every token reads.
    pub init_blocks: usize,
    /// Blocks before its own that a token always reads.
    pub local_blocks: usize,
}

impl Default for Selection {
    fn default() -> Self {
        Selection {
            blocks: 32,
            block_size: 64,
            init_blocks: 1,
            local_blocks: 8,
        }
    }
}

/// What came out for the tokens of one call.
#[derive(Default)]
pub struct Reading {
    /// `[tokens, blocks]`: the blocks each token read, −1 after the last.
    pub lists: Vec<i32>,
    /// `[tokens, GROUP, DIM]`
    pub out: Vec<bf16>,
}

/// Time spent in each kernel.
#[derive(Clone, Copy, Default)]
pub struct Times {
    pub compress: Duration,
    pub select: Duration,
    pub attend: Duration,
}

/// The keys and values of the text so far, and the kernels.
pub struct Reader {
    kernels: Kernels,
    compress_keys: CompressKeys,
    select_blocks: SelectBlocks,
    sparse_attention: SparseAttention,
    list_len: usize,
    capacity: usize,
    length: usize,
    /// `[1, capacity, 1, DIM]`, filled up to `length`.
    keys: Vec<bf16>,
    values: Vec<bf16>,
    /// Compressed keys, `[1, rows, 1, DIM]`.
    k1: Vec<bf16>,
    k2: Vec<bf16>,
    times: Times,
}

impl Reader {
    /// A reader on the CPU for texts of up to `capacity` tokens.
    pub fn new(selection: &Selection, capacity: usize) -> Result<Reader> {
        let Selection {
            blocks,
            block_size,
            init_blocks,
            local_blocks,
        } = *selection;
        let compress_keys = CompressKeys::builder(DType::Bf16, 1, DIM)
            .block_size(block_size)
            .build()?;
        let select_blocks = SelectBlocks::builder(DType::Bf16, GROUP, 1, DIM)
            .block_size(block_size)
            .topk(blocks - local_blocks)
            .init_blocks(init_blocks)
            .local_blocks(local_blocks)
            .scale(SCALE)
            .build()?;
        let sparse_attention = SparseAttention::builder(DType::Bf16, GROUP, 1, DIM)
            .block_size(block_size)
            .scale(SCALE)
            .build()?;
        Ok(Reader {
            kernels: Kernels::load(&Device::host())?,
            list_len: blocks,
            capacity,
            length: 0,
            keys: vec![bf16::ZERO; capacity * DIM],
            values: vec![bf16::ZERO; capacity * DIM],
            k1: vec![bf16::ZERO; compress_keys.k1_rows(capacity) * DIM],
            k2: vec![bf16::ZERO; compress_keys.k2_rows(capacity) * DIM],
            compress_keys,
            select_blocks,
            sparse_attention,
            times: Times::default(),
        })
    }

    /// Tokens read so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Time spent so far.
    pub fn times(&self) -> Times {
        self.times
    }

    /// Reads on: appends the tokens to the text, and lets each attend to the text up to itself.
    pub fn read(&mut self, features: &Features) -> Result<Reading> {
        let tokens = features.keys.len() / DIM;
        let old_length = self.length;
        self.length += tokens;
        self.keys[old_length * DIM..self.length * DIM].copy_from_slice(&features.keys);
        self.values[old_length * DIM..self.length * DIM].copy_from_slice(&features.values);

        let begin = Instant::now();
        self.compress(old_length)?;
        self.times.compress += begin.elapsed();

        let begin = Instant::now();
        let lists = self.select(features, tokens)?;
        self.times.select += begin.elapsed();

        let begin = Instant::now();
        let out = self.attend(features, tokens, &lists)?;
        self.times.attend += begin.elapsed();
        Ok(Reading { lists, out })
    }

    fn compress(&mut self, old_length: usize) -> Result<()> {
        let (new, old) = ([self.length as i32], [old_length as i32]);
        let (k1_rows, k2_rows) = (self.k1.len() / DIM, self.k2.len() / DIM);
        let args = CompressKeysArgs {
            k: Tensor::from_slice(&self.keys, &[1, self.capacity, 1, DIM])?,
            keys: KeyLengths::Cached {
                seqlens_k: Tensor::from_slice(&new, &[1])?,
            },
            seqlens_old: Some(Tensor::from_slice(&old, &[1])?),
            max_seqlen_k: Some(self.length),
            max_new: Some(self.length - old_length),
            k1: TensorMut::from_slice(&mut self.k1, &[1, k1_rows, 1, DIM])?,
            k2: TensorMut::from_slice(&mut self.k2, &[1, k2_rows, 1, DIM])?,
            status: None,
        };
        self.compress_keys.launch_host(&self.kernels, args)
    }

    fn select(&self, features: &Features, tokens: usize) -> Result<Vec<i32>> {
        let mut lists = vec![-1; tokens * self.list_len];
        let lengths = Lengths::new(tokens, self.length);
        let args = SelectBlocksArgs {
            q: Tensor::from_slice(&features.queries, &[tokens, GROUP, DIM])?,
            k1: Tensor::from_slice(&self.k1, &[1, self.k1.len() / DIM, 1, DIM])?,
            k2: Some(Tensor::from_slice(&self.k2, &[1, self.k2.len() / DIM, 1, DIM])?),
            sequences: lengths.sequences()?,
            scale_factor: None,
            scores: None,
            block_indices: TensorMut::from_slice(&mut lists, &[tokens, 1, self.list_len])?,
            status: None,
        };
        self.select_blocks.launch_host(&self.kernels, args)?;
        Ok(lists)
    }

    fn attend(&self, features: &Features, tokens: usize, lists: &[i32]) -> Result<Vec<bf16>> {
        let mut out = vec![bf16::ZERO; tokens * GROUP * DIM];
        let lengths = Lengths::new(tokens, self.length);
        let args = SparseAttentionArgs {
            q: Tensor::from_slice(&features.queries, &[tokens, GROUP, DIM])?,
            k: Tensor::from_slice(&self.keys, &[1, self.capacity, 1, DIM])?,
            v: Tensor::from_slice(&self.values, &[1, self.capacity, 1, DIM])?,
            sequences: lengths.sequences()?,
            block_indices: Some(Tensor::from_slice(lists, &[tokens, 1, self.list_len])?),
            scale_factor: None,
            gate: None,
            out: TensorMut::from_slice(&mut out, &[tokens, GROUP, DIM])?,
            lse: None,
            status: None,
        };
        self.sparse_attention.launch_host(&self.kernels, args)?;
        Ok(out)
    }
}

/// The lengths of the one sequence, as kernels read them.
struct Lengths {
    cu_seqlens_q: [i32; 2],
    seqlens_k: [i32; 1],
}

impl Lengths {
    fn new(queries: usize, keys: usize) -> Lengths {
        Lengths {
            cu_seqlens_q: [0, queries as i32],
            seqlens_k: [keys as i32],
        }
    }

    fn sequences(&self) -> Result<Sequences<'_>> {
        Ok(Sequences {
            cu_seqlens_q: Tensor::from_slice(&self.cu_seqlens_q, &[2])?,
            keys: KeyLengths::Cached {
                seqlens_k: Tensor::from_slice(&self.seqlens_k, &[1])?,
            },
            switch_len: None,
            max_seqlen_q: None,
            max_seqlen_k: Some(self.seqlens_k[0] as usize),
        })
    }
}
