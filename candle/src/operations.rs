//! The calls that a decoder makes, over tensors: each names its tensors to a [`Launch`] and queues one operation.
#![allow(clippy::too_many_arguments, reason = "the operations' own, in their order")]

use candle_core::{DType, Error, Result, Tensor};
use sala_kernels::{
    AppendKeysArgs, CompressKeysArgs, DenseAttentionArgs, Entry, LinearAttention, LinearDecodeArgs, LinearPrefillArgs,
    Merge, MergeArgs, Norm, NormGateArgs, NormRopeArgs, SelectBlocksArgs, SparseAttentionArgs, SparseLayer,
};

use crate::{Kernels, Keys, Launch, Sequences, SwitchLen};

/// States of sequences in a pool, for [`Kernels::linear_prefill`].
#[derive(Debug, Clone, Copy)]
pub struct States<'a> {
    /// `[slots, heads_q, dim_k, dim_v]` F32, as the layer says. Written in place.
    pub pool: &'a Tensor,
    /// The slot that each sequence starts from, `[batch]`; −1 or absent: from zero.
    pub state_in: Option<&'a Tensor>,
    /// The slot that each sequence leaves its state in, `[batch]`; −1 or absent: nowhere.
    pub state_out: Option<&'a Tensor>,
}

impl Kernels {
    /// Scans prompts, `q` and `k` `[total_q, heads, dim_k]`, `v` `[total_q, heads, dim_v]`, of sequences from `cu_seqlens` `[batch + 1]`:
    /// [`LinearPrefillArgs`]. Gives the outputs, and writes states.
    pub fn linear_prefill(
        &self,
        layer: &LinearAttention,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        cu_seqlens: &Tensor,
        log_decay: Option<&Tensor>,
        states: Option<States<'_>>,
    ) -> Result<Tensor> {
        let out = self.like_rows("q", q, v)?;
        let total_q = q.dims().first().copied().unwrap_or(0);
        let batch = cu_seqlens.elem_count().saturating_sub(1);
        let workspace = self.workspace(layer.workspace_size(batch, total_q, total_q))?;
        let launch = Launch::new(self);
        let (q, k, v) = (launch.read("q", q)?, launch.read("k", k)?, launch.read("v", v)?);
        let cu_seqlens = launch.read("cu_seqlens", cu_seqlens)?;
        let log_decay = launch.read_if("log_decay", log_decay)?;
        let state = launch.write_if("state", states.map(|states| states.pool))?;
        let state_in = launch.read_if("state_in", states.and_then(|states| states.state_in))?;
        let state_out = launch.read_if("state_out", states.and_then(|states| states.state_out))?;
        let workspace = launch.write_if("workspace", workspace.as_ref())?;
        let (outputs, status) = (launch.write("out", &out)?, launch.write("status", self.status())?);
        launch.run(|views| {
            let mut args = LinearPrefillArgs::new(
                views.view(q)?,
                views.view(k)?,
                views.view(v)?,
                views.view(cu_seqlens)?,
                views.view_if(log_decay)?,
                views.view_mut(outputs)?,
            );
            args.state = views.view_mut_if(state)?;
            args.state_in = views.view_if(state_in)?;
            args.state_out = views.view_if(state_out)?;
            args.workspace = views.view_mut_if(workspace)?;
            args.status = Some(views.view_mut(status)?);
            views.queue(layer, args)
        })?;
        Ok(out)
    }

    /// One step of each sequence, `q` and `k` `[batch, heads, dim_k]`, `v` `[batch, heads, dim_v]`, whose states in `pool` are replaced:
    /// [`LinearDecodeArgs`]. `slots` is `[batch]`.
    pub fn linear_decode(
        &self,
        layer: &LinearAttention,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        log_decay: Option<&Tensor>,
        pool: &Tensor,
        slots: &Tensor,
    ) -> Result<Tensor> {
        let out = self.like_rows("q", q, v)?;
        let launch = Launch::new(self);
        let (q, k, v) = (launch.read("q", q)?, launch.read("k", k)?, launch.read("v", v)?);
        let (log_decay, slots) = (launch.read_if("log_decay", log_decay)?, launch.read("state_in", slots)?);
        let (pool, outputs) = (launch.write("state", pool)?, launch.write("out", &out)?);
        let status = launch.write("status", self.status())?;
        launch.run(|views| {
            let (q, k, v) = (views.view(q)?, views.view(k)?, views.view(v)?);
            let (pool, slots) = (views.view_mut(pool)?, views.view(slots)?);
            let log_decay = views.view_if(log_decay)?;
            let mut args = LinearDecodeArgs::new(q, k, v, log_decay, pool, slots, views.view_mut(outputs)?);
            args.status = Some(views.view_mut(status)?);
            views.queue(layer, args)
        })?;
        Ok(out)
    }

    /// Writes new keys and values `[total_q, heads_kv, dim]` into `k` and `v`, which lie as `sequences` says: [`AppendKeysArgs`].
    pub fn append_keys(
        &self,
        layer: &SparseLayer,
        k_new: &Tensor,
        v_new: &Tensor,
        k: &Tensor,
        v: &Tensor,
        sequences: &Sequences<&Tensor>,
    ) -> Result<()> {
        let launch = Launch::new(self);
        let (k_new, v_new) = (launch.read("k_new", k_new)?, launch.read("v_new", v_new)?);
        let (k, v) = (launch.write("k", k)?, launch.write("v", v)?);
        let (sequences, status) = (sequences.bind(&launch)?, launch.write("status", self.status())?);
        launch.run(|views| {
            let (k, v) = (views.view_mut(k)?, views.view_mut(v)?);
            let mut args = AppendKeysArgs::new(views.view(k_new)?, views.view(v_new)?, k, v, sequences.view(views)?);
            args.status = Some(views.view_mut(status)?);
            views.queue(layer, args)
        })
    }

    /// Writes the rows of `k1` and `k2` that became complete since sequences had `seqlens_old` keys, or all: [`CompressKeysArgs`].
    pub fn compress_keys(
        &self,
        layer: &SparseLayer,
        k: &Tensor,
        k1: &Tensor,
        k2: &Tensor,
        keys: &Keys<&Tensor>,
        seqlens_old: Option<&Tensor>,
    ) -> Result<()> {
        let launch = Launch::new(self);
        let (k, keys) = (launch.read("k", k)?, keys.bind(&launch)?);
        let (k1, k2) = (launch.write("k1", k1)?, launch.write("k2", k2)?);
        let seqlens_old = launch.read_if("seqlens_old", seqlens_old)?;
        let status = launch.write("status", self.status())?;
        launch.run(|views| {
            let (k1, k2) = (views.view_mut(k1)?, views.view_mut(k2)?);
            let mut args = CompressKeysArgs::new(views.view(k)?, keys.view(views)?, k1, k2);
            args.seqlens_old = views.view_if(seqlens_old)?;
            args.status = Some(views.view_mut(status)?);
            views.queue(layer, args)
        })
    }

    /// The lists of blocks that each token of `q` `[total_q, heads_q, dim]` attends to, `[total_q, heads_kv, list_len]` I32:
    /// [`SelectBlocksArgs`]. Without `k2` blocks are normalised as the layer's `lse` says.
    pub fn select_blocks(
        &self,
        layer: &SparseLayer,
        q: &Tensor,
        k1: &Tensor,
        k2: Option<&Tensor>,
        sequences: &Sequences<&Tensor>,
        switch_len: Option<SwitchLen<&Tensor>>,
        entry: Entry,
    ) -> Result<Tensor> {
        let (total_q, heads_kv) = (axis("q", q, 0)?, k1.dim(candle_core::D::Minus2)?);
        let lists = Tensor::zeros((total_q, heads_kv, layer.list_len()), DType::I32, q.device())?;
        let workspace = self.sparse_workspace(layer, sequences, entry, total_q)?;
        let launch = Launch::new(self);
        let (q, k1, k2) = (launch.read("q", q)?, launch.read("k1", k1)?, launch.read_if("k2", k2)?);
        let sequences = sequences.bind(&launch)?;
        let switch_len = switch_len.map(|switch_len| switch_len.bind(&launch)).transpose()?;
        let workspace = launch.write_if("workspace", workspace.as_ref())?;
        let (written, status) = (
            launch.write("block_indices", &lists)?,
            launch.write("status", self.status())?,
        );
        launch.run(|views| {
            let switch_len = switch_len.map(|switch_len| switch_len.view(views)).transpose()?;
            let (q, k1, k2) = (views.view(q)?, views.view(k1)?, views.view_if(k2)?);
            let mut args =
                SelectBlocksArgs::new(q, k1, k2, sequences.view(views)?, switch_len, views.view_mut(written)?);
            args.entry = entry;
            args.workspace = views.view_mut_if(workspace)?;
            args.status = Some(views.view_mut(status)?);
            views.queue(layer, args)
        })?;
        Ok(lists)
    }

    /// Attention of `q` `[total_q, heads_q, dim]` over the listed blocks, and its logarithm of the sum of exponentials `[total_q, heads_q]`:
    /// [`SparseAttentionArgs`].
    pub fn sparse_attention(
        &self,
        layer: &SparseLayer,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        block_indices: &Tensor,
        sequences: &Sequences<&Tensor>,
        switch_len: Option<SwitchLen<&Tensor>>,
        entry: Entry,
    ) -> Result<(Tensor, Tensor)> {
        let (out, lse) = self.attention_outputs(q)?;
        let workspace = self.sparse_workspace(layer, sequences, entry, axis("q", q, 0)?)?;
        let launch = Launch::new(self);
        let (q, k, v) = (launch.read("q", q)?, launch.read("k", k)?, launch.read("v", v)?);
        let (lists, sequences) = (launch.read("block_indices", block_indices)?, sequences.bind(&launch)?);
        let switch_len = switch_len.map(|switch_len| switch_len.bind(&launch)).transpose()?;
        let workspace = launch.write_if("workspace", workspace.as_ref())?;
        let (outputs, logs) = (launch.write("out", &out)?, launch.write("lse", &lse)?);
        let status = launch.write("status", self.status())?;
        launch.run(|views| {
            let (q, k, v) = (views.view(q)?, views.view(k)?, views.view(v)?);
            let switch_len = switch_len.map(|switch_len| switch_len.view(views)).transpose()?;
            let (sequences, lists) = (sequences.view(views)?, views.view(lists)?);
            let mut args = SparseAttentionArgs::new(q, k, v, sequences, switch_len, lists, views.view_mut(outputs)?);
            args.entry = entry;
            args.lse = Some(views.view_mut(logs)?);
            args.workspace = views.view_mut_if(workspace)?;
            args.status = Some(views.view_mut(status)?);
            views.queue(layer, args)
        })?;
        Ok((out, lse))
    }

    /// Attention of `q` over all keys, and its logarithm of the sum of exponentials: [`DenseAttentionArgs`].
    pub fn dense_attention(
        &self,
        layer: &SparseLayer,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        sequences: &Sequences<&Tensor>,
        entry: Entry,
    ) -> Result<(Tensor, Tensor)> {
        let (out, lse) = self.attention_outputs(q)?;
        let workspace = self.sparse_workspace(layer, sequences, entry, axis("q", q, 0)?)?;
        let launch = Launch::new(self);
        let (q, k, v) = (launch.read("q", q)?, launch.read("k", k)?, launch.read("v", v)?);
        let (sequences, workspace) = (
            sequences.bind(&launch)?,
            launch.write_if("workspace", workspace.as_ref())?,
        );
        let (outputs, logs) = (launch.write("out", &out)?, launch.write("lse", &lse)?);
        let status = launch.write("status", self.status())?;
        launch.run(|views| {
            let (q, k, v) = (views.view(q)?, views.view(k)?, views.view(v)?);
            let mut args = DenseAttentionArgs::new(q, k, v, sequences.view(views)?, views.view_mut(outputs)?);
            args.entry = entry;
            args.lse = Some(views.view_mut(logs)?);
            args.workspace = views.view_mut_if(workspace)?;
            args.status = Some(views.view_mut(status)?);
            views.queue(layer, args)
        })?;
        Ok((out, lse))
    }

    /// RMS norm of each head of `x` `[tokens, heads, dim]`, times `weight` `[dim]`, then rotary embedding with the rows of a table of
    /// cosines and sines `[count, dim]` F32 at `positions` `[tokens]`: [`NormRopeArgs`].
    pub fn norm_rope(
        &self,
        norm: &Norm,
        x: &Tensor,
        weight: Option<&Tensor>,
        rotary: Option<(&Tensor, &Tensor)>,
    ) -> Result<Tensor> {
        let out = Tensor::zeros(x.shape(), x.dtype(), x.device())?;
        self.norm_rope_into(norm, Some(x), weight, rotary, &out)?;
        Ok(out)
    }

    /// [`Self::norm_rope`] where `x` lies.
    pub fn norm_rope_inplace(
        &self,
        norm: &Norm,
        x: &Tensor,
        weight: Option<&Tensor>,
        rotary: Option<(&Tensor, &Tensor)>,
    ) -> Result<()> {
        self.norm_rope_into(norm, None, weight, rotary, x)
    }

    fn norm_rope_into(
        &self,
        norm: &Norm,
        x: Option<&Tensor>,
        weight: Option<&Tensor>,
        rotary: Option<(&Tensor, &Tensor)>,
        out: &Tensor,
    ) -> Result<()> {
        let launch = Launch::new(self);
        let (x, weight) = (launch.read_if("x", x)?, launch.read_if("weight", weight)?);
        let cos_sin = launch.read_if("cos_sin", rotary.map(|(cos_sin, _)| cos_sin))?;
        let positions = launch.read_if("positions", rotary.map(|(_, positions)| positions))?;
        let (out, status) = (launch.write("out", out)?, launch.write("status", self.status())?);
        launch.run(|views| {
            let mut args = NormRopeArgs::new(views.view_if(x)?, views.view_mut(out)?);
            args.weight = views.view_if(weight)?;
            args.cos_sin = views.view_if(cos_sin)?;
            args.positions = views.view_if(positions)?;
            args.status = Some(views.view_mut(status)?);
            views.queue(norm, args)
        })
    }

    /// RMS norm over the channels of `x` `[tokens, channels]`, times `weight` and the sigmoid of `gate`: [`NormGateArgs`].
    pub fn norm_gate(&self, norm: &Norm, x: &Tensor, weight: &Tensor, gate: &Tensor) -> Result<Tensor> {
        let out = Tensor::zeros(x.shape(), x.dtype(), x.device())?;
        self.norm_gate_into(norm, Some(x), weight, gate, &out)?;
        Ok(out)
    }

    /// [`Self::norm_gate`] where `x` lies.
    pub fn norm_gate_inplace(&self, norm: &Norm, x: &Tensor, weight: &Tensor, gate: &Tensor) -> Result<()> {
        self.norm_gate_into(norm, None, weight, gate, x)
    }

    fn norm_gate_into(
        &self,
        norm: &Norm,
        x: Option<&Tensor>,
        weight: &Tensor,
        gate: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let launch = Launch::new(self);
        let (x, weight, gate) = (
            launch.read_if("x", x)?,
            launch.read("weight", weight)?,
            launch.read("gate", gate)?,
        );
        let out = launch.write("out", out)?;
        launch.run(|views| {
            let (x, weight, gate) = (views.view_if(x)?, views.view(weight)?, views.view(gate)?);
            views.queue(norm, NormGateArgs::new(x, weight, gate, views.view_mut(out)?))
        })
    }

    /// Merges `second` into `first`, each outputs `[total_q, heads_q, dim]` with logarithms `[total_q, heads_q]` of attention over keys that
    /// the other has not seen: [`MergeArgs`].
    pub fn merge_inplace(&self, merge: &Merge, first: (&Tensor, &Tensor), second: (&Tensor, &Tensor)) -> Result<()> {
        let launch = Launch::new(self);
        let second = (launch.read("out2", second.0)?, launch.read("lse2", second.1)?);
        let (out, lse) = (launch.write("out", first.0)?, launch.write("lse", first.1)?);
        launch.run(|views| {
            let second = (views.view(second.0)?, views.view(second.1)?);
            views.queue(
                merge,
                MergeArgs::new(None, Some(second), views.view_mut(out)?, views.view_mut(lse)?),
            )
        })
    }

    /// Zeros of the rows of `rows` and the channels of `channels`.
    fn like_rows(&self, argument: &str, rows: &Tensor, channels: &Tensor) -> Result<Tensor> {
        let (tokens, heads) = (axis(argument, rows, 0)?, axis(argument, rows, 1)?);
        Tensor::zeros((tokens, heads, axis("v", channels, 2)?), rows.dtype(), rows.device())
    }

    /// Zeros for outputs of attention and their logarithms.
    fn attention_outputs(&self, q: &Tensor) -> Result<(Tensor, Tensor)> {
        let out = Tensor::zeros(q.shape(), q.dtype(), q.device())?;
        let lse = Tensor::zeros((axis("q", q, 0)?, axis("q", q, 1)?), DType::F32, q.device())?;
        Ok((out, lse))
    }

    /// What a call of an entry needs beside its tensors.
    fn sparse_workspace(
        &self,
        layer: &SparseLayer,
        sequences: &Sequences<&Tensor>,
        entry: Entry,
        total_q: usize,
    ) -> Result<Option<Tensor>> {
        let batch = sequences.cu_seqlens_q.elem_count().saturating_sub(1);
        let queries = sequences.max_seqlen_q.unwrap_or(total_q);
        let keys = sequences.max_seqlen_k.unwrap_or(i32::MAX as usize);
        self.workspace(layer.workspace_size(entry, batch, queries, keys, None))
    }

    /// Memory for a launch; none where the launch needs none, or will be refused whatever it has.
    fn workspace(&self, bytes: usize) -> Result<Option<Tensor>> {
        let words = bytes.div_ceil(4);
        (words > 0 && bytes < usize::MAX)
            .then(|| Tensor::zeros(words, DType::U32, self.device()))
            .transpose()
    }
}

/// The length of an axis that an output has too.
fn axis(argument: &str, tensor: &Tensor, axis: usize) -> Result<usize> {
    let length = tensor.dims().get(axis).copied();
    length.ok_or_else(|| Error::msg(format!("{argument}: expected 3 axes, got shape {:?}", tensor.dims())))
}
