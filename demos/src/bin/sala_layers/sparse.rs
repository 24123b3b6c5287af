//! A sparse layer: new keys are appended and compressed, blocks are selected and attended to, and the output is gated. No norm, no rotary embedding.

use crate::config::Config;
use crate::random;
use demos::array::Array;
use demos::meter::Meter;
use half::bf16;
use sala_kernels::{
    AppendKeysArgs, AttentionShape, CompressKeysArgs, CompressedStore, DType, Entry, Keys, Result, SelectBlocksArgs,
    Sequences, SparseAttentionArgs, SparseLayer, SwitchLen,
};
use sala_testkit::numbers::Numbers;
use std::ops::Range;

/// One layer and all tokens it will see.
pub struct SparseMixer {
    layer: SparseLayer,
    /// `[tokens, heads_q, dim]`
    q: Array,
    out: Array,
    gate: Option<Array>,
    /// `[tokens, heads_kv, dim]`
    k_new: Array,
    v_new: Array,
    /// A cache `[1, tokens, heads_kv, dim]`, or pages `[pages, page_size, heads_kv, dim]`.
    k: Array,
    v: Array,
    /// Compressed keys, in the pages of the keys if those hold a block, else in a cache `[1, rows, heads_kv, dim]`.
    k1: Array,
    k2: Array,
    /// The pages of the sequence, `[1, pages]`, if its keys lie in pages.
    page_table: Option<Array>,
    /// Whether the compressed keys lie apart from the keys.
    is_apart: bool,
    /// `[tokens, heads_kv, list_len]`
    block_indices: Array,
    /// For decode steps.
    workspace: Array,
    /// What the kernels have refused.
    status: Array,
}

impl SparseMixer {
    /// A layer on a meter's device, for `tokens` tokens of random projections.
    /// Keys lie in pages of `page_size` tokens, if that is not 0.
    pub fn new(config: &Config, meter: &Meter, tokens: usize, page_size: usize, seed: u64) -> Result<SparseMixer> {
        let shape = AttentionShape {
            heads_q: config.num_attention_heads,
            heads_kv: config.num_key_value_heads,
            dim: config.head_dim,
        };
        let selection = &config.sparse_config;
        let layer = SparseLayer::builder(DType::Bf16, shape, selection.dense_len)
            .block_size(selection.block_size)
            .topk(selection.topk)
            .init_blocks(selection.init_blocks)
            .local_blocks(selection.local_blocks())
            .build()?;
        let workspace = layer.workspace_size(Entry::Decode, 1, 1, tokens, Some(layer.list_len()));

        let device = &meter.device;
        let queries = [tokens, shape.heads_q, shape.dim];
        let new_keys = [tokens, shape.heads_kv, shape.dim];
        let pages = if page_size == 0 { 0 } else { tokens.div_ceil(page_size) };
        let is_apart = pages > 0 && page_size < selection.block_size;
        // Rows of a store that has one for every `stride` tokens.
        let store = |stride: usize, rows: usize| match pages {
            0 => [1, rows, shape.heads_kv, shape.dim],
            _ if stride > 1 && is_apart => [1, rows, shape.heads_kv, shape.dim],
            _ => [pages, page_size / stride, shape.heads_kv, shape.dim],
        };
        let keys = store(1, tokens);
        let k1 = store(selection.block_size / 4, layer.k1_rows(tokens));
        let k2 = store(selection.block_size, layer.k2_rows(tokens));
        // Any order will do; this one is not the tokens' own.
        let table: Vec<i32> = (0..pages as i32).rev().collect();
        let table = (pages > 0).then(|| Array::of(device, &table, &[1, pages]));
        let mut numbers = Numbers::new(seed);
        let mut projection = |shape: &[usize]| {
            let values = random(&mut numbers, shape.iter().product());
            Array::of(device, &values, shape)
        };
        Ok(SparseMixer {
            q: projection(&queries)?,
            k_new: projection(&new_keys)?,
            v_new: projection(&new_keys)?,
            k: Array::zeros::<bf16>(device, &keys)?,
            v: Array::zeros::<bf16>(device, &keys)?,
            page_table: table.transpose()?,
            is_apart,
            gate: config.attn_use_output_gate.then(|| projection(&queries)).transpose()?,
            out: Array::zeros::<bf16>(device, &queries)?,
            k1: Array::zeros::<bf16>(device, &k1)?,
            k2: Array::zeros::<bf16>(device, &k2)?,
            block_indices: Array::zeros::<i32>(device, &[tokens, shape.heads_kv, layer.list_len()])?,
            workspace: Array::zeros::<u32>(device, &[workspace.div_ceil(size_of::<u32>())])?,
            status: Array::zeros::<u32>(device, &[4])?,
            layer,
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
    ///
    /// # Errors
    /// Also [`sala_kernels::Error::Refused`], if the kernels have refused anything since the layer was made.
    pub fn output(&self) -> Result<Vec<bf16>> {
        self.status.check_status()?;
        self.out.read()
    }

    fn advance(&mut self, meter: &mut Meter, new: Range<usize>) -> Result<()> {
        // The lengths of the one sequence, on the device: before the new tokens, with them, and where the new ones are in a tensor of their own.
        let old = Array::of(&meter.device, &[new.start as i32], &[1])?;
        let total = Array::of(&meter.device, &[new.end as i32], &[1])?;
        let cu_seqlens_q = Array::of(&meter.device, &[0, new.len() as i32], &[2])?;
        let keys = match &self.page_table {
            None => Keys::cached(total.view()?),
            Some(table) => Keys::paged(total.view()?, table.view()?),
        };
        let compressed = self.is_apart.then(CompressedStore::cached);
        let mut sequences = Sequences::new(cu_seqlens_q.view()?, keys);
        sequences.max_seqlen_k = Some(new.end);
        let switch_len = (self.layer.dense_len() > 0).then_some(SwitchLen::Keys);

        let (k_new, v_new) = (self.k_new.rows(&new)?, self.v_new.rows(&new)?);
        let mut args = AppendKeysArgs::new(k_new, v_new, self.k.view_mut()?, self.v.view_mut()?, sequences);
        args.status = Some(self.status.view_mut()?);
        meter.run("append_keys", &self.layer, args)?;

        let mut args = CompressKeysArgs::new(self.k.view()?, keys, self.k1.view_mut()?, self.k2.view_mut()?);
        args.compressed = compressed;
        args.seqlens_old = Some(old.view()?);
        args.max_seqlen_k = Some(new.end);
        args.max_new = Some(new.len());
        args.status = Some(self.status.view_mut()?);
        meter.run("compress_keys", &self.layer, args)?;

        // Below `dense_len` a selection finds on the device that it has nothing to do. Keys are compressed all the same, so that decoding can
        // pass that length at any step.
        let mut args = SelectBlocksArgs::new(
            self.q.rows(&new)?,
            self.k1.view()?,
            Some(self.k2.view()?),
            sequences,
            switch_len,
            self.block_indices.rows_mut(&new)?,
        );
        args.compressed = compressed;
        args.status = Some(self.status.view_mut()?);
        meter.run("select_blocks", &self.layer, args)?;

        let mut args = SparseAttentionArgs::new(
            self.q.rows(&new)?,
            self.k.view()?,
            self.v.view()?,
            sequences,
            switch_len,
            self.block_indices.rows(&new)?,
            self.out.rows_mut(&new)?,
        );
        args.gate = self.gate.as_ref().map(|gate| gate.rows(&new)).transpose()?;
        args.status = Some(self.status.view_mut()?);
        if new.len() > 1 {
            return meter.run("sparse_attention", &self.layer, args);
        }
        args.entry = Entry::Decode;
        args.workspace = Some(self.workspace.view_mut()?);
        meter.run("sparse_attention decode", &self.layer, args)
    }
}
