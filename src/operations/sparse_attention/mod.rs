//! Block-sparse and dense attention.

mod launch;
pub mod reference;
mod split;

pub(super) use launch::Plan;
pub(super) use split::Workspace;

use super::{Sequences, SparseLayer, SwitchLen};
use crate::launch::{Arguments, Kernels, Views};
use crate::{Result, Stream, Tensor, TensorMut};
use launch::{Call, Lists};

/// Block-sparse attention: every query token attends to the key blocks that its list names.
///
/// ```text
/// O = softmax(f·s·q Kᵀ)·V      LSE = ln Σ exp(f·s·q Kᵀ)      over the keys t ≤ p of the listed blocks
/// ```
///
/// The attention stage of InfLLM-V2 (Zhao et al. 2025) and its kin: one list per token and kv head, shared by the query heads of the group. One
/// launch takes a ragged batch of whole prompts, chunks and single tokens, over packed keys or caches; sequences shorter than the layer's
/// `dense_len` are attended densely. [`crate::reference::sparse_attention`] is the definition.
///
/// A token's result is the same bits alone and in any batch, however its prompt is cut into chunks, and from either [`Entry`].
#[derive(Debug)]
#[non_exhaustive]
pub struct SparseAttentionArgs<'a> {
    /// Queries `[total_q, heads_q, dim]`, the layer's type.
    pub q: Tensor<'a>,
    /// Keys `[total_k, heads_kv, dim]`, or caches `[batch, capacity, heads_kv, dim]`, as [`Sequences::keys`] says.
    pub k: Tensor<'a>,
    /// Values, shaped as the keys.
    pub v: Tensor<'a>,
    /// How rows and keys are cut into sequences.
    pub sequences: Sequences<'a>,
    /// Which sequences are attended densely. Their lists are not read.
    pub switch_len: Option<SwitchLen<'a>>,
    /// The blocks each token attends to, `[total_q, heads_kv, list_len]` i32: a set, in any order, with repeats, and −1 anywhere. Indices of no
    /// block of the sequence are ignored and counted.
    pub block_indices: Tensor<'a>,
    /// Outputs `[total_q, heads_q, dim]`. A refused sequence gives 0 (and LSE −∞) where its rows are rows of `q`; rows of no sequence are left as they are.
    pub out: TensorMut<'a>,
    /// How the work is spread over the GPU.
    pub entry: Entry,
    /// A factor of each token's scores, `[total_q]` f32.
    pub scale_factor: Option<Tensor<'a>>,
    /// `O` is multiplied by its sigmoid, `[total_q, heads_q, dim]`.
    pub gate: Option<Tensor<'a>>,
    /// `LSE`, natural logarithm, `[total_q, heads_q]` f32; −∞ where a token sees no key.
    pub lse: Option<TensorMut<'a>>,
    /// Memory of any type for [`Entry::Decode`], which belongs to one stream at a time: [`SparseLayer::workspace_size`] bytes.
    pub workspace: Option<TensorMut<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

/// Dense attention: every query token attends to all keys of its sequence up to its own.
///
/// ```text
/// O = softmax(f·s·q Kᵀ)·V      LSE = ln Σ exp(f·s·q Kᵀ)      over the keys t ≤ p
/// ```
///
/// The bits are those of [`SparseAttentionArgs`] with every block listed.
#[derive(Debug)]
#[non_exhaustive]
pub struct DenseAttentionArgs<'a> {
    /// Queries, as in [`SparseAttentionArgs::q`].
    pub q: Tensor<'a>,
    /// Keys, as in [`SparseAttentionArgs::k`].
    pub k: Tensor<'a>,
    /// Values, shaped as the keys.
    pub v: Tensor<'a>,
    /// How rows and keys are cut into sequences.
    pub sequences: Sequences<'a>,
    /// Outputs, as in [`SparseAttentionArgs::out`].
    pub out: TensorMut<'a>,
    /// How the work is spread over the GPU.
    pub entry: Entry,
    /// As in [`SparseAttentionArgs::scale_factor`].
    pub scale_factor: Option<Tensor<'a>>,
    /// As in [`SparseAttentionArgs::gate`].
    pub gate: Option<Tensor<'a>>,
    /// As in [`SparseAttentionArgs::lse`].
    pub lse: Option<TensorMut<'a>>,
    /// As in [`SparseAttentionArgs::workspace`].
    pub workspace: Option<TensorMut<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

/// What a call of selection or attention is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Entry {
    /// Many query tokens: each kv head of a sequence gets a block or more, depending on its query tokens.
    #[default]
    Prefill,
    /// A few query tokens: where blocks by query tokens would leave most of the GPU idle, the keys are split over blocks too, in several launches
    /// with a workspace between them. With a smaller workspace than [`SparseLayer::workspace_size`], and with query tokens enough (selection: more
    /// than 16 of a sequence), it is [`Entry::Prefill`].
    Decode,
}

impl<'a> SparseAttentionArgs<'a> {
    /// Attention over lists, for prefill. `switch_len` is a choice if the layer has a `dense_len`, and `None` if it has none.
    pub fn new(
        q: Tensor<'a>,
        k: Tensor<'a>,
        v: Tensor<'a>,
        sequences: Sequences<'a>,
        switch_len: Option<SwitchLen<'a>>,
        block_indices: Tensor<'a>,
        out: TensorMut<'a>,
    ) -> Self {
        Self {
            q,
            k,
            v,
            sequences,
            switch_len,
            block_indices,
            out,
            entry: Entry::Prefill,
            scale_factor: None,
            gate: None,
            lse: None,
            workspace: None,
            status: None,
        }
    }
}

impl<'a> DenseAttentionArgs<'a> {
    /// Attention over all keys, for prefill.
    pub fn new(q: Tensor<'a>, k: Tensor<'a>, v: Tensor<'a>, sequences: Sequences<'a>, out: TensorMut<'a>) -> Self {
        Self {
            q,
            k,
            v,
            sequences,
            out,
            entry: Entry::Prefill,
            scale_factor: None,
            gate: None,
            lse: None,
            workspace: None,
            status: None,
        }
    }
}

// SAFETY: `call` destructures `self` and `Call::views` the call, so every view is named; the parameters are made of nothing else.
unsafe impl Arguments for SparseAttentionArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        self.call().views()
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.call().queue(layer, kernels, stream) }
    }
}

// SAFETY: as above.
unsafe impl Arguments for DenseAttentionArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        self.call().views()
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.call().queue(layer, kernels, stream) }
    }
}

impl SparseAttentionArgs<'_> {
    fn call(&self) -> Call<'_> {
        let Self {
            q,
            k,
            v,
            sequences,
            switch_len,
            block_indices,
            out,
            entry,
            scale_factor,
            gate,
            lse,
            workspace,
            status,
        } = self;
        Call {
            q: *q,
            k: *k,
            v: *v,
            sequences: *sequences,
            lists: Some(Lists {
                block_indices: *block_indices,
                switch_len: *switch_len,
            }),
            out,
            entry: *entry,
            scale_factor: *scale_factor,
            gate: *gate,
            lse: lse.as_ref(),
            workspace: workspace.as_ref(),
            status: status.as_ref(),
        }
    }
}

impl DenseAttentionArgs<'_> {
    fn call(&self) -> Call<'_> {
        let Self {
            q,
            k,
            v,
            sequences,
            out,
            entry,
            scale_factor,
            gate,
            lse,
            workspace,
            status,
        } = self;
        Call {
            q: *q,
            k: *k,
            v: *v,
            sequences: *sequences,
            lists: None,
            out,
            entry: *entry,
            scale_factor: *scale_factor,
            gate: *gate,
            lse: lse.as_ref(),
            workspace: workspace.as_ref(),
            status: status.as_ref(),
        }
    }
}
