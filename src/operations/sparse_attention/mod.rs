//! Block-sparse and dense attention.

mod decode;
mod launch;
pub mod reference;

pub(super) use launch::Plan;

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
/// A token's result is the same bits alone and in any batch, however its keys are stored, and however its prompt is cut into chunks; with
/// [`Entry::Decode`], as one of several tokens of a chain and alone. The two entries agree to rounding, and so do a chain and the same as a tree.
///
/// Lists, dense sequences, NaN, what is refused: [`semantics`](crate::semantics#sparse_attention).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says; `block_indices` if lists have more than 2²⁰ entries; `switch_len` where it is missing, or the layer has
/// no `dense_len`; with [`Entry::Decode`] a `workspace` smaller than [`SparseLayer::workspace_size`]; with [`Entry::Prefill`] a `parent`.
///
/// # Example
/// 128 keys that are all alike: the output is the mean of the values of block 1, the only one listed.
///
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     AttentionShape, DType, Device, Kernels, Keys, Sequences, SparseAttentionArgs, SparseLayer, Tensor,
///     TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let (q, k) = (vec![bf16::ONE; 64], vec![bf16::ONE; 128 * 64]);
/// let v: Vec<_> = (0..128 * 64).map(|i| bf16::from_f32((i / 4096) as f32 + 1.0)).collect();
/// let keys = Keys::cached(Tensor::from_slice(&[128], &[1])?);
/// let mut out = vec![bf16::ZERO; 64];
/// let args = SparseAttentionArgs::new(
///     Tensor::from_slice(&q, &[1, 1, 64])?,
///     Tensor::from_slice(&k, &[1, 128, 1, 64])?,
///     Tensor::from_slice(&v, &[1, 128, 1, 64])?,
///     Sequences::new(Tensor::from_slice(&[0, 1], &[2])?, keys),
///     None,
///     Tensor::from_slice(&[1, -1], &[1, 1, 2])?,
///     TensorMut::from_slice(&mut out, &[1, 1, 64])?,
/// );
/// kernels.run(&layer, args)?;
/// assert_eq!(out, [bf16::from_f32(2.0); 64]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
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
    /// With [`Entry::Decode`], the draft that each query token of a sequence follows, `[batch, max_seqlen_q]` i32 (or more columns, which are not
    /// read): less than its own index, −1 for the last token before the drafts. Draft `i` of `lq` has its key in row `lk − lq + i` and stands at
    /// `lk − lq` plus its number of ancestors; its list names keys before `lk − lq` alone, and of the drafts it sees itself and its ancestors.
    /// Absent: a chain. A parent that does not come before its child refuses the sequence (lengths).
    pub parent: Option<Tensor<'a>>,
    /// A factor of each token's scores, `[total_q]` f32.
    pub scale_factor: Option<Tensor<'a>>,
    /// `O` is multiplied by its sigmoid, `[total_q, heads_q, dim]`.
    pub gate: Option<Tensor<'a>>,
    /// `LSE`, natural logarithm, `[total_q, heads_q]` f32; −∞ where a token sees no key.
    pub lse: Option<TensorMut<'a>>,
    /// Memory of any type for [`Entry::Decode`], [`SparseLayer::workspace_size`] bytes. It need not be initialised, and belongs to one stream at a time.
    pub workspace: Option<TensorMut<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

/// Dense attention: every query token attends to all keys of its sequence up to its own, or to those from its first one on.
///
/// ```text
/// O = softmax(f·s·q Kᵀ)·V      LSE = ln Σ exp(f·s·q Kᵀ)      over the keys first_key ≤ t ≤ p
/// ```
///
/// The bits are those of [`SparseAttentionArgs`] with every block listed, where all tokens see their first key; on Hopper prefill agrees to rounding.
///
/// [`semantics`](crate::semantics#dense_attention) has the source, [`crate::reference::sparse_attention`] the definition.
///
/// # Errors
/// As of [`SparseAttentionArgs`], but for lists and `switch_len`, of which there are none.
///
/// # Example
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     AttentionShape, DType, DenseAttentionArgs, Device, Kernels, Keys, Sequences, SparseLayer, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let (q, k) = (vec![bf16::ONE; 64], vec![bf16::ONE; 128 * 64]);
/// let v: Vec<_> = (0..128 * 64).map(|i| bf16::from_f32((i / 4096) as f32 + 1.0)).collect();
/// let keys = Keys::packed(Tensor::from_slice(&[0, 128], &[2])?);
/// let mut out = vec![bf16::ZERO; 64];
/// let args = DenseAttentionArgs::new(
///     Tensor::from_slice(&q, &[1, 1, 64])?,
///     Tensor::from_slice(&k, &[128, 1, 64])?,
///     Tensor::from_slice(&v, &[128, 1, 64])?,
///     Sequences::new(Tensor::from_slice(&[0, 1], &[2])?, keys),
///     TensorMut::from_slice(&mut out, &[1, 1, 64])?,
/// );
/// kernels.run(&layer, args)?;
/// assert_eq!(out, [bf16::from_f32(1.5); 64]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
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
    /// As in [`SparseAttentionArgs::parent`].
    pub parent: Option<Tensor<'a>>,
    /// The first key that each query token sees, `[total_q]` i32: it sees keys from there to its own alone, and nothing where that is behind its
    /// own. What is below 0 is 0, which is what all tokens have if it is absent. Windows that slide, anchors and blocks that other devices passed
    /// on are such ranges of keys. Keys that no token of a tile sees take no time.
    pub first_key: Option<Tensor<'a>>,
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
    /// Up to 16 query tokens per sequence: steps that decode or verify. The keys of each token are cut into pieces over the whole GPU: by their
    /// place in its list for attention, by absolute rows for selection, and what they give is merged in order by later launches. Asks for a
    /// workspace of [`SparseLayer::workspace_size`] bytes, and for [`Sequences::max_seqlen_q`] where there are more than 16 query tokens in all.
    /// Selection without them is that of [`Entry::Prefill`], which gives the same lists.
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
            parent: None,
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
            parent: None,
            first_key: None,
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
            parent,
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
            parent: *parent,
            first_key: None,
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
            parent,
            first_key,
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
            parent: *parent,
            first_key: *first_key,
            scale_factor: *scale_factor,
            gate: *gate,
            lse: lse.as_ref(),
            workspace: workspace.as_ref(),
            status: status.as_ref(),
        }
    }
}
