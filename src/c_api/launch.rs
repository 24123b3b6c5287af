//! The functions that launch. The header describes them.

use std::ffi::c_void;

use super::errors::guard;
use super::handles::{KernelsHandle, LinearAttentionHandle, SparseLayerHandle};
use super::operations::Call;
use super::structs::{self, there};
use crate::sys::c_api::*;
use crate::{Arguments, Error, Norm, Result, Stream};

/// Queues what a call asks for.
///
/// # Safety
/// As of [`Call::arguments`] and [`crate::Kernels::launch`]; `stream` is null or a live stream.
pub(super) unsafe fn launch<'a, C: Call>(
    kernels: &KernelsHandle,
    operation: &<C::Args<'a> as Arguments>::Operation,
    stream: *mut c_void,
    args: C::Args<'a>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let stream = Stream::from_raw(kernels.kernels.device(), stream)?;
        kernels.kernels.launch(&stream, operation, args)
    }
}

/// Operations of a layer.
macro_rules! of_layer {
    ($($name:ident($args:ident) of $layer:ident;)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of the header.")]
        ///
        /// # Safety
        /// Pointers are null or as the header says, and memory is as it says until the launch has finished on `stream`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            kernels: *const KernelsHandle,
            layer: *const $layer,
            stream: *mut c_void,
            args: *const $args,
        ) -> i32 {
            // SAFETY: the caller's promise.
            guard(|| unsafe {
                let kernels = there("kernels", kernels)?;
                let layer = there("layer", layer)?;
                let args = structs::read("args", args)?;
                launch::<$args>(kernels, &layer.0, stream, args.arguments(kernels.place())?)
            })
        }
    )*};
}

of_layer! {
    sala_append_keys(sala_append_keys_args) of SparseLayerHandle;
    sala_compress_keys(sala_compress_keys_args) of SparseLayerHandle;
    sala_select_blocks(sala_select_blocks_args) of SparseLayerHandle;
    sala_choose_blocks(sala_choose_blocks_args) of SparseLayerHandle;
    sala_sparse_attention(sala_sparse_attention_args) of SparseLayerHandle;
    sala_dense_attention(sala_dense_attention_args) of SparseLayerHandle;
    sala_commit_keys(sala_commit_keys_args) of SparseLayerHandle;
    sala_score_keys(sala_score_keys_args) of SparseLayerHandle;
    sala_choose_tokens(sala_choose_tokens_args) of SparseLayerHandle;
    sala_gather_rows(sala_gather_rows_args) of SparseLayerHandle;
    sala_compact_keys(sala_compact_keys_args) of SparseLayerHandle;
    sala_linear_prefill(sala_linear_prefill_args) of LinearAttentionHandle;
    sala_linear_decode(sala_linear_decode_args) of LinearAttentionHandle;
    sala_linear_verify(sala_linear_verify_args) of LinearAttentionHandle;
    sala_linear_commit(sala_linear_commit_args) of LinearAttentionHandle;
    sala_sum_decay(sala_sum_decay_args) of LinearAttentionHandle;
    sala_linear_correct(sala_linear_correct_args) of LinearAttentionHandle;
}

/// A call of an operation that has no layer: the kernels hold what it needs.
pub(super) trait Free: Call {
    /// Launches it.
    ///
    /// # Safety
    /// As of [`launch`].
    unsafe fn launch(&self, kernels: &KernelsHandle, stream: *mut c_void) -> Result<()>;
}

/// Operations without a layer.
macro_rules! free {
    ($($name:ident($args:ident) = |$call:ident, $kernels:ident, $arguments:ident| $operation:expr;)*) => {$(
        impl Free for $args {
            unsafe fn launch(&self, $kernels: &KernelsHandle, stream: *mut c_void) -> Result<()> {
                let $call = self;
                // SAFETY: the caller's promise.
                unsafe {
                    let $arguments = self.arguments($kernels.place())?;
                    let operation = $operation;
                    launch::<$args>($kernels, operation, stream, $arguments)
                }
            }
        }

        #[doc = concat!("`", stringify!($name), "` of the header.")]
        ///
        /// # Safety
        /// Pointers are null or as the header says, and memory is as it says until the launch has finished on `stream`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            kernels: *const KernelsHandle,
            stream: *mut c_void,
            args: *const $args,
        ) -> i32 {
            // SAFETY: the caller's promise.
            guard(|| unsafe {
                let kernels = there("kernels", kernels)?;
                Free::launch(&structs::read("args", args)?, kernels, stream)
            })
        }
    )*};
}

free! {
    sala_merge(sala_merge_args) = |_call, kernels, args| kernels.merge(args.out.dtype())?;
    sala_copy_states(sala_copy_states_args) = |_call, kernels, _args| &kernels.copy_states;
    sala_merge_states(sala_merge_states_args) = |_call, kernels, _args| &kernels.merge_states;
    sala_norm_rope(sala_norm_rope_args) = |call, kernels, args| &with_eps(kernels.norm("out", args.out.dtype())?, call.eps)?;
    sala_norm_gate(sala_norm_gate_args) = |call, kernels, args| &with_eps(kernels.norm("out", args.out.dtype())?, call.eps)?;
    sala_sum_squares(sala_sum_squares_args) = |_call, kernels, args| kernels.norm("x", args.x.dtype())?;
}

/// A norm with what is added to the mean of squares. A plain zero is one that was forgotten.
fn with_eps(norm: &Norm, eps: f32) -> Result<Norm> {
    if eps.to_bits() == 0 {
        return Err(Error::argument("eps", "a number above 0 (-0.0f: none)", "0"));
    }
    norm.with_eps(eps)
}
