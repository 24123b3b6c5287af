//! A sparse layer: its keys are compressed, blocks are selected and attended to, and the output is gated. No norm, no rotary embedding.

use crate::config::Config;
use crate::meter::Meter;
use crate::random;
use half::bf16;
use sala_kernels::{
    Buffer, CompressKeys, CompressKeysArgs, DType, KeyLengths, Result, SelectBlocks, SelectBlocksArgs, Sequences,
    SparseAttention, SparseAttentionArgs,
};
use sala_testkit::cases::Numbers;
use std::ops::Range;

/// One layer and all tokens it will see.
pub struct SparseLayer<'a> {
    config: &'a Config,
    compress_keys: CompressKeys,
    select_blocks: SelectBlocks,
    sparse_attention: SparseAttention,
    tokens: usize,
    /// `[tokens, heads_q, dim]`
    q: Buffer,
    out: Buffer,
    gate: Buffer,
    /// Caches `[1, tokens, heads_kv, dim]`. They hold all keys and values from the start; lengths say how many count.
    k: Buffer,
    v: Buffer,
    /// Compressed keys `[1, rows, heads_kv, dim]`.
    k1: Buffer,
    k2: Buffer,
    /// `[tokens, heads_kv, list_len]`
    block_indices: Buffer,
    /// For decode steps.
    workspace: Buffer,
}

impl<'a> SparseLayer<'a> {
    /// A layer on a meter's device, for `tokens` tokens of random projections.
    pub fn new(config: &'a Config, meter: &Meter, tokens: usize, seed: u64) -> Result<SparseLayer<'a>> {
        let (heads_q, heads_kv, dim) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let selection = &config.sparse_config;
        let device = &meter.device;
        let scale = (dim as f32).sqrt().recip();
        let compress_keys = CompressKeys::builder(DType::Bf16, heads_kv, dim)
            .block_size(selection.block_size)
            .build()?;
        let select_blocks = SelectBlocks::builder(DType::Bf16, heads_q, heads_kv, dim)
            .block_size(selection.block_size)
            .topk(selection.topk)
            .init_blocks(selection.init_blocks)
            .local_blocks(selection.local_blocks())
            .dense_len(selection.dense_len)
            .scale(scale)
            .build()?;
        let sparse_attention = SparseAttention::builder(DType::Bf16, heads_q, heads_kv, dim)
            .block_size(selection.block_size)
            .dense_len(selection.dense_len)
            .scale(scale)
            .build()?;
        let workspace = sparse_attention.decode_workspace(1, 1, tokens, Some(list_len(config)));

        let mut numbers = Numbers::new(seed);
        let mut projection = |heads: usize| Buffer::from_slice(device, &random(&mut numbers, tokens * heads * dim));
        let space = |rows: usize| Buffer::new(device, rows * heads_kv * dim * size_of::<bf16>());
        Ok(SparseLayer {
            config,
            tokens,
            q: projection(heads_q)?,
            k: projection(heads_kv)?,
            v: projection(heads_kv)?,
            gate: projection(heads_q)?,
            out: Buffer::new(device, tokens * heads_q * dim * size_of::<bf16>())?,
            k1: space(compress_keys.k1_rows(tokens))?,
            k2: space(compress_keys.k2_rows(tokens))?,
            block_indices: Buffer::new(device, tokens * heads_kv * list_len(config) * size_of::<i32>())?,
            workspace: Buffer::new(device, workspace)?,
            compress_keys,
            select_blocks,
            sparse_attention,
        })
    }

    /// Takes in the first `length` tokens.
    pub fn prefill(&mut self, meter: &mut Meter, length: usize) -> Result<()> {
        self.advance(meter, 0..length)
    }

    /// Takes in one more token.
    pub fn decode(&mut self, meter: &mut Meter, token: usize) -> Result<()> {
        self.advance(meter, token..token + 1)
    }

    /// What the layer hands to its output projection: `[tokens, heads · dim]`, gated.
    pub fn output(&self) -> Result<Vec<bf16>> {
        self.out.read()
    }

    fn advance(&mut self, meter: &mut Meter, new: Range<usize>) -> Result<()> {
        let lengths = Lengths::new(meter, &new)?;
        self.compress(meter, &new, &lengths)?;
        // Below `dense_len` a selection finds on the device that it has nothing to do. Keys are compressed all the same, so that decoding can
        // pass that length at any step.
        self.select(meter, &new, &lengths)?;
        self.attend(meter, &new, &lengths)
    }

    fn compress(&mut self, meter: &mut Meter, new: &Range<usize>, lengths: &Lengths) -> Result<()> {
        let (heads_kv, dim) = (self.config.num_key_value_heads, self.config.head_dim);
        let rows = |rows: usize| [1, rows, heads_kv, dim];
        let args = CompressKeysArgs {
            k: self.k.tensor(DType::Bf16, &rows(self.tokens))?,
            keys: lengths.keys()?,
            seqlens_old: Some(lengths.old.tensor(DType::I32, &[1])?),
            max_seqlen_k: Some(new.end),
            max_new: Some(new.len()),
            k1: self
                .k1
                .tensor_mut(DType::Bf16, &rows(self.compress_keys.k1_rows(self.tokens)))?,
            k2: self
                .k2
                .tensor_mut(DType::Bf16, &rows(self.compress_keys.k2_rows(self.tokens)))?,
            status: None,
        };
        meter.run("compress_keys", |kernels, stream| {
            // SAFETY: the buffers outlive the launch, which `run` waits for.
            unsafe { self.compress_keys.launch(kernels, stream, args) }
        })
    }

    fn select(&mut self, meter: &mut Meter, new: &Range<usize>, lengths: &Lengths) -> Result<()> {
        let Config {
            num_attention_heads: heads_q,
            num_key_value_heads: heads_kv,
            head_dim: dim,
            ..
        } = *self.config;
        let rows = |rows: usize| [1, rows, heads_kv, dim];
        let lists = [self.tokens, heads_kv, list_len(self.config)];
        let args = SelectBlocksArgs {
            q: self
                .q
                .tensor(DType::Bf16, &[self.tokens, heads_q, dim])?
                .narrow(0, new.clone())?,
            k1: self
                .k1
                .tensor(DType::Bf16, &rows(self.compress_keys.k1_rows(self.tokens)))?,
            k2: Some(
                self.k2
                    .tensor(DType::Bf16, &rows(self.compress_keys.k2_rows(self.tokens)))?,
            ),
            sequences: lengths.sequences(new)?,
            scale_factor: None,
            scores: None,
            block_indices: self
                .block_indices
                .tensor_mut(DType::I32, &lists)?
                .narrow(0, new.clone())?,
            status: None,
        };
        meter.run("select_blocks", |kernels, stream| {
            // SAFETY: the buffers outlive the launch, which `run` waits for.
            unsafe { self.select_blocks.launch(kernels, stream, args) }
        })
    }

    fn attend(&mut self, meter: &mut Meter, new: &Range<usize>, lengths: &Lengths) -> Result<()> {
        let Config {
            num_attention_heads: heads_q,
            num_key_value_heads: heads_kv,
            head_dim: dim,
            ..
        } = *self.config;
        let (rows, cache) = ([self.tokens, heads_q, dim], [1, self.tokens, heads_kv, dim]);
        let lists = [self.tokens, heads_kv, list_len(self.config)];
        let gate = match self.config.attn_use_output_gate {
            true => Some(self.gate.tensor(DType::Bf16, &rows)?.narrow(0, new.clone())?),
            false => None,
        };
        let args = SparseAttentionArgs {
            q: self.q.tensor(DType::Bf16, &rows)?.narrow(0, new.clone())?,
            k: self.k.tensor(DType::Bf16, &cache)?,
            v: self.v.tensor(DType::Bf16, &cache)?,
            sequences: lengths.sequences(new)?,
            block_indices: Some(self.block_indices.tensor(DType::I32, &lists)?.narrow(0, new.clone())?),
            scale_factor: None,
            gate,
            out: self.out.tensor_mut(DType::Bf16, &rows)?.narrow(0, new.clone())?,
            lse: None,
            status: None,
        };
        if new.len() > 1 {
            return meter.run("sparse_attention", |kernels, stream| {
                // SAFETY: the buffers outlive the launch, which `run` waits for.
                unsafe { self.sparse_attention.launch(kernels, stream, args) }
            });
        }
        let bytes = self.workspace.bytes();
        let workspace = self.workspace.tensor_mut(DType::U32, &[bytes / DType::U32.size()])?;
        meter.run("sparse_attention decode", |kernels, stream| {
            // SAFETY: the buffers outlive the launches, which `run` waits for.
            unsafe { self.sparse_attention.decode(kernels, stream, args, workspace) }
        })
    }
}

/// Entries of a token's list.
fn list_len(config: &Config) -> usize {
    config.sparse_config.topk + config.sparse_config.local_blocks()
}

/// The lengths of the one sequence, on the device: before the new tokens, with them, and where the new ones are in a tensor of their own.
struct Lengths {
    old: Buffer,
    total: Buffer,
    cu_seqlens_q: Buffer,
}

impl Lengths {
    fn new(meter: &Meter, new: &Range<usize>) -> Result<Lengths> {
        Ok(Lengths {
            old: Buffer::from_slice(&meter.device, &[new.start as i32])?,
            total: Buffer::from_slice(&meter.device, &[new.end as i32])?,
            cu_seqlens_q: Buffer::from_slice(&meter.device, &[0, new.len() as i32])?,
        })
    }

    fn keys(&self) -> Result<KeyLengths<'_>> {
        Ok(KeyLengths::Cached {
            seqlens_k: self.total.tensor(DType::I32, &[1])?,
        })
    }

    fn sequences(&self, new: &Range<usize>) -> Result<Sequences<'_>> {
        Ok(Sequences {
            cu_seqlens_q: self.cu_seqlens_q.tensor(DType::I32, &[2])?,
            keys: self.keys()?,
            switch_len: None,
            max_seqlen_q: None,
            max_seqlen_k: Some(new.end),
        })
    }
}
