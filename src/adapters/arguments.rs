//! What adapters ask of an operation's arguments: every view, by name, and the launch. One implementation an operation.

use crate::sequences::Sequences;
use crate::{
    CompressKeys, CompressKeysArgs, DecodeArgs, Kernels, LinearAttention, PrefillArgs, Result, ScoredBlocksArgs,
    SelectBlocks, SelectBlocksArgs, SparseAttention, SparseAttentionArgs, Stream, Tensor, TensorMut,
};

/// The arguments of a launch. Implemented by the argument struct of every operation, and by nothing else.
pub trait Arguments: sealed::Sealed {
    /// The operation that takes them.
    type Operation;

    /// Every view among them. Implementations name all fields of their struct, so that none is forgotten.
    #[doc(hidden)]
    fn views(&self) -> Views<'_>;

    /// Launches the operation.
    ///
    /// # Safety
    /// As the operation's own launch.
    #[doc(hidden)]
    unsafe fn launch(self, operation: &Self::Operation, kernels: &Kernels, stream: &Stream) -> Result<()>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::PrefillArgs<'_> {}
    impl Sealed for super::DecodeArgs<'_> {}
    impl Sealed for super::CompressKeysArgs<'_> {}
    impl Sealed for super::SelectBlocksArgs<'_> {}
    impl Sealed for super::ScoredBlocksArgs<'_> {}
    impl Sealed for super::SparseAttentionArgs<'_> {}
}

/// Views with the names of their arguments.
#[derive(Debug, Default)]
pub struct Views<'a>(Vec<(&'static str, Tensor<'a>)>);

impl<'a> Views<'a> {
    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(&'static str, Tensor<'a>)> {
        self.0.iter()
    }

    fn read<'b>(mut self, name: &'static str, view: impl Into<Option<&'b Tensor<'a>>>) -> Self
    where
        'a: 'b,
    {
        self.0.extend(view.into().map(|view| (name, *view)));
        self
    }

    fn written(mut self, name: &'static str, view: impl Into<Option<&'a TensorMut<'a>>>) -> Self {
        self.0.extend(view.into().map(|view| (name, view.as_tensor())));
        self
    }

    fn sequences(mut self, sequences: &Sequences<'a>) -> Self {
        self.0.extend(sequences.views());
        self
    }
}

impl Arguments for PrefillArgs<'_> {
    type Operation = LinearAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k,
            v,
            cu_seqlens,
            log_decay,
            state,
            state_in,
            state_out,
            out,
            status,
        } = self;
        Views::default()
            .read("q", q)
            .read("k", k)
            .read("v", v)
            .read("cu_seqlens", cu_seqlens)
            .read("log_decay", log_decay)
            .written("state", state)
            .read("state_in", state_in)
            .read("state_out", state_out)
            .written("out", out)
            .written("status", status)
    }

    unsafe fn launch(self, operation: &LinearAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { operation.prefill(kernels, stream, self) }
    }
}

impl Arguments for DecodeArgs<'_> {
    type Operation = LinearAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k,
            v,
            log_decay,
            state,
            state_in,
            state_out,
            out,
            status,
        } = self;
        Views::default()
            .read("q", q)
            .read("k", k)
            .read("v", v)
            .read("log_decay", log_decay)
            .written("state", state)
            .read("state_in", state_in)
            .read("state_out", state_out)
            .written("out", out)
            .written("status", status)
    }

    unsafe fn launch(self, operation: &LinearAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { operation.decode(kernels, stream, self) }
    }
}

impl Arguments for CompressKeysArgs<'_> {
    type Operation = CompressKeys;

    fn views(&self) -> Views<'_> {
        let Self {
            k,
            keys,
            seqlens_old,
            max_seqlen_k: _,
            max_new: _,
            k1,
            k2,
            status,
        } = self;
        let (lengths_name, lengths) = keys.view();
        Views::default()
            .read("k", k)
            .read(lengths_name, &lengths)
            .read("seqlens_old", seqlens_old)
            .written("k1", k1)
            .written("k2", k2)
            .written("status", status)
    }

    unsafe fn launch(self, operation: &CompressKeys, kernels: &Kernels, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { operation.launch(kernels, stream, self) }
    }
}

impl Arguments for SelectBlocksArgs<'_> {
    type Operation = SelectBlocks;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k1,
            k2,
            sequences,
            scale_factor,
            block_indices,
            scores,
            status,
        } = self;
        Views::default()
            .read("q", q)
            .read("k1", k1)
            .read("k2", k2)
            .sequences(sequences)
            .read("scale_factor", scale_factor)
            .written("block_indices", block_indices)
            .written("scores", scores)
            .written("status", status)
    }

    unsafe fn launch(self, operation: &SelectBlocks, kernels: &Kernels, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { operation.launch(kernels, stream, self) }
    }
}

impl Arguments for ScoredBlocksArgs<'_> {
    type Operation = SelectBlocks;

    fn views(&self) -> Views<'_> {
        let Self {
            scores,
            sequences,
            block_indices,
            status,
        } = self;
        Views::default()
            .read("scores", scores)
            .sequences(sequences)
            .written("block_indices", block_indices)
            .written("status", status)
    }

    unsafe fn launch(self, operation: &SelectBlocks, kernels: &Kernels, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { operation.launch_scored(kernels, stream, self) }
    }
}

impl Arguments for SparseAttentionArgs<'_> {
    type Operation = SparseAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k,
            v,
            sequences,
            block_indices,
            scale_factor,
            gate,
            out,
            lse,
            status,
        } = self;
        Views::default()
            .read("q", q)
            .read("k", k)
            .read("v", v)
            .sequences(sequences)
            .read("block_indices", block_indices)
            .read("scale_factor", scale_factor)
            .read("gate", gate)
            .written("out", out)
            .written("lse", lse)
            .written("status", status)
    }

    unsafe fn launch(self, operation: &SparseAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { operation.launch(kernels, stream, self) }
    }
}
