//! Block-sparse attention: every query token attends to the key blocks that its list names, or densely to all of them.
//!
//! ```text
//! O = softmax(f·s·q Kᵀ)·V      LSE = ln Σ exp(f·s·q Kᵀ)      over the keys t ≤ p of the listed blocks
//! ```
//!
//! The attention stage of InfLLM-V2 (Zhao et al. 2025) and its kin: one list per token and kv head, shared by the query heads of the group. One
//! launch takes a ragged batch of whole prompts, chunks and single tokens, over packed keys or caches; short sequences are attended densely.
//! [`crate::reference::sparse_attention`] is the definition.
//!
//! A token's result is the same bits alone and in any batch, and however its prompt is cut into chunks.

use crate::checks;
use crate::kernels::KernelId;
use crate::sequences::Sequences;
use crate::sys::params::sala_sparse_attention_params;
use crate::{DType, Error, Kernels, Result, Stream, Tensor, TensorMut};

/// Warps and threads of a block, and the query rows of a warp.
const WARPS: usize = 8;
const THREADS: u32 = WARPS as u32 * 32;
const WARP_ROWS: usize = 16;
/// Keys of a step of the kernel.
const STEP: usize = 64;
/// 32-bit words in shared memory for the sets of blocks.
const SET_WORDS: usize = 8704;
/// The largest group of query heads on one kv head.
const MAX_GROUP: usize = 64;
/// The most entries of a list; a tile's entries are counted in 32 bits.
const MAX_LIST: usize = 1 << 20;
/// Limit of the second grid axis.
const MAX_HEADS_KV: usize = 65_535;

/// A sparse-attention operation: shapes and options, checked once.
///
/// ```
/// use sala_kernels::{DType, SparseAttention};
/// let op = SparseAttention::builder(DType::Bf16, 32, 2, 128).scale(128f32.powf(-0.5)).dense_len(8192).build()?;
/// assert!(SparseAttention::builder(DType::Bf16, 32, 3, 128).build().is_err(), "32 heads are no multiple of 3");
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SparseAttention {
    shape: Shape,
    tiling: Tiling,
    kernel: KernelId,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    dtype: DType,
    heads_q: usize,
    heads_kv: usize,
    dim: usize,
    block_size: usize,
    dense_len: usize,
    scale: f32,
}

/// How the rows of a group (one query head of one token each) are dealt to the warps of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tiling {
    tokens_a_warp: usize,
    warps_a_token: usize,
    tile_tokens: usize,
}

impl Tiling {
    fn of(group: usize) -> Self {
        let tokens_a_warp = (WARP_ROWS / group).max(1);
        let warps_a_token = group.div_ceil(WARP_ROWS);
        Self {
            tokens_a_warp,
            warps_a_token,
            tile_tokens: WARPS / warps_a_token * tokens_a_warp,
        }
    }
}

/// Describes a [`SparseAttention`].
#[derive(Debug, Clone)]
#[must_use = "call `build` to get the operation"]
pub struct SparseAttentionBuilder {
    shape: Shape,
}

/// Tensors of [`SparseAttention::launch`].
#[derive(Debug)]
pub struct SparseAttentionArgs<'a> {
    /// Queries `[total_q, heads_q, dim]`, the operation's type.
    pub q: Tensor<'a>,
    /// Keys `[total_k, heads_kv, dim]`, or caches `[batch, capacity, heads_kv, dim]`, as [`Sequences::keys`] says.
    pub k: Tensor<'a>,
    /// Values, shaped as the keys.
    pub v: Tensor<'a>,
    /// How rows and keys are cut into sequences.
    pub sequences: Sequences<'a>,
    /// The blocks each token attends to, `[total_q, heads_kv, list_len]` i32: a set, in any order, with repeats, and −1 anywhere. Indices of no
    /// block of the sequence are ignored and counted. Absent: every sequence is attended densely. The lists of sequences that are attended
    /// densely anyway, because they are shorter than `dense_len`, are not read.
    pub block_indices: Option<Tensor<'a>>,
    /// A factor of each token's scores, `[total_q]` f32.
    pub scale_factor: Option<Tensor<'a>>,
    /// `O` is multiplied by its sigmoid, `[total_q, heads_q, dim]`.
    pub gate: Option<Tensor<'a>>,
    /// Outputs `[total_q, heads_q, dim]`. Rows of skipped sequences, and rows of no sequence, are left as they are.
    pub out: TensorMut<'a>,
    /// `LSE`, natural logarithm, `[total_q, heads_q]` f32; −∞ where a token sees no key.
    pub lse: Option<TensorMut<'a>>,
    /// The status word, `[4]` u32, added to: refused pages, blocks, lengths and slots.
    pub status: Option<TensorMut<'a>>,
}

impl SparseAttention {
    /// Describes an operation on `heads_q` query heads that share `heads_kv` key and value heads (1 to 64 each), of `dim` channels (64 or 128),
    /// in bf16 or f16.
    ///
    /// Without further calls: scale 1, blocks of 64 keys, `dense_len` 0 (no sequence is attended densely if there are lists).
    pub fn builder(dtype: DType, heads_q: usize, heads_kv: usize, dim: usize) -> SparseAttentionBuilder {
        SparseAttentionBuilder {
            shape: Shape {
                dtype,
                heads_q,
                heads_kv,
                dim,
                block_size: 64,
                dense_len: 0,
                scale: 1.0,
            },
        }
    }

    /// Bytes of workspace that a launch needs: none.
    pub fn workspace(&self) -> usize {
        0
    }

    /// Launches the attention of every query token on `stream`.
    ///
    /// # Errors
    /// [`Error::Argument`] names the tensor that does not fit; nothing is launched then. On a host device, which has run the kernel by the
    /// time the call returns, also [`Error::Execution`].
    ///
    /// # Safety
    /// Until the launch has finished on `stream`, the memory behind every view must stay alive, inputs must not be written, and outputs and
    /// status not be touched, by anything that `stream` does not order.
    pub unsafe fn launch(&self, kernels: &Kernels, stream: &Stream, args: SparseAttentionArgs<'_>) -> Result<()> {
        let params = self.params(kernels, &args)?;
        let queries = args.sequences.max_queries(params.sequences.total_q as usize);
        let tiles = queries.div_ceil(self.tiling.tile_tokens);
        let grid = [tiles as u32, self.shape.heads_kv as u32, args.sequences.batch() as u32];
        // SAFETY: `params` describes views that were checked against this kernel's reads and writes; the caller keeps them alive and ordered.
        unsafe {
            kernels.launch(
                self.kernel,
                stream,
                grid,
                THREADS,
                shared_memory(self.shape.dim),
                &params,
            )
        }
    }

    /// [`Self::launch`] on the CPU, over host memory.
    ///
    /// # Errors
    /// As [`Self::launch`]; `kernels` must have been loaded on a host device.
    pub fn launch_host(&self, kernels: &Kernels, args: SparseAttentionArgs<'_>) -> Result<()> {
        let stream = kernels.host_stream()?;
        // SAFETY: a host launch has finished when it returns, and the views borrow their memory until then.
        unsafe { self.launch(kernels, &stream, args) }
    }

    fn params(&self, kernels: &Kernels, args: &SparseAttentionArgs<'_>) -> Result<sala_sparse_attention_params> {
        let Shape {
            heads_q,
            heads_kv,
            dim,
            block_size,
            dense_len,
            scale,
            ..
        } = self.shape;
        let (out, lse) = (args.out.as_tensor(), args.lse.as_ref().map(TensorMut::as_tensor));
        let status = args.status.as_ref().map(TensorMut::as_tensor);
        checks::rank("q", &args.q, 3)?;
        let total_q = first_axis(&args.q);
        let capacity_k = args.sequences.key_capacity("k", &args.k, heads_kv, dim)?;
        checks::shape("v", &args.v, args.k.shape())?;
        for (name, tensor) in [("q", args.q), ("out", out)]
            .into_iter()
            .chain(args.gate.map(|gate| ("gate", gate)))
        {
            checks::shape(name, &tensor, &[total_q, heads_q, dim])?;
            self.check_rows(name, &tensor)?;
        }
        for (name, tensor) in [("k", args.k), ("v", args.v)] {
            self.check_rows(name, &tensor)?;
        }
        let list_len = check_lists(args.block_indices.as_ref(), total_q, heads_kv)?;
        let factor = args.scale_factor.as_ref();
        check_vector("scale_factor", factor, DType::F32, &[total_q])?;
        check_vector("lse", lse.as_ref(), DType::F32, &[total_q, heads_q])?;
        check_vector("status", status.as_ref(), DType::U32, &[4])?;
        let place = kernels.device().place();
        let sequences = args.sequences.params(place, total_q, capacity_k, dense_len)?;
        args.check_memory(place)?;

        let stride = |tensor: &Tensor<'_>, axis: usize| tensor.stride(axis) as i64;
        let optional_stride =
            |tensor: Option<&Tensor<'_>>, axis: usize| tensor.map_or(0, |tensor| stride(tensor, axis));
        // The axes of k and v are the same but for the batch, which a cache has in front.
        let token_axis = args.k.rank() - 3;
        let batch_stride = |tensor: &Tensor<'_>| if token_axis == 0 { 0 } else { stride(tensor, 0) };
        Ok(sala_sparse_attention_params {
            sequences,
            q: args.q.address(),
            k: args.k.address(),
            v: args.v.address(),
            out: out.address(),
            lse: address(lse.as_ref()),
            block_indices: address(args.block_indices.as_ref()),
            scale_factor: address(factor),
            gate: address(args.gate.as_ref()),
            status: address(status.as_ref()),
            q_token_stride: stride(&args.q, 0),
            q_head_stride: stride(&args.q, 1),
            k_batch_stride: batch_stride(&args.k),
            k_token_stride: stride(&args.k, token_axis),
            k_head_stride: stride(&args.k, token_axis + 1),
            v_batch_stride: batch_stride(&args.v),
            v_token_stride: stride(&args.v, token_axis),
            v_head_stride: stride(&args.v, token_axis + 1),
            out_token_stride: stride(&out, 0),
            out_head_stride: stride(&out, 1),
            lse_token_stride: optional_stride(lse.as_ref(), 0),
            list_token_stride: optional_stride(args.block_indices.as_ref(), 0),
            list_head_stride: optional_stride(args.block_indices.as_ref(), 1),
            gate_token_stride: optional_stride(args.gate.as_ref(), 0),
            gate_head_stride: optional_stride(args.gate.as_ref(), 1),
            list_len: list_len as i32,
            block_size: block_size as i32,
            group: (heads_q / heads_kv) as i32,
            tokens_a_warp: self.tiling.tokens_a_warp as i32,
            warps_a_token: self.tiling.warps_a_token as i32,
            tile_tokens: self.tiling.tile_tokens as i32,
            scale,
            reserved: 0,
        })
    }

    /// What holds for every tensor of the operation's type.
    fn check_rows(&self, name: &'static str, tensor: &Tensor<'_>) -> Result<()> {
        checks::dtype(name, tensor, self.shape.dtype)?;
        checks::last_axis_contiguous(name, tensor)?;
        checks::rows_aligned(name, tensor)
    }
}

impl SparseAttentionBuilder {
    /// The factor of every score, mostly `1/√dim`. Any finite number.
    pub fn scale(mut self, scale: f32) -> Self {
        self.shape.scale = scale;
        self
    }

    /// Keys of a block: 32, 64 or 128.
    pub fn block_size(mut self, keys: usize) -> Self {
        self.shape.block_size = keys;
        self
    }

    /// Sequences whose [`Sequences::switch_len`] is below this are attended densely.
    pub fn dense_len(mut self, keys: usize) -> Self {
        self.shape.dense_len = keys;
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Error::Argument`] names what is out of range.
    pub fn build(self) -> Result<SparseAttention> {
        let Shape {
            dtype,
            heads_q,
            heads_kv,
            dim,
            block_size,
            scale,
            ..
        } = self.shape;
        if !matches!(dtype, DType::Bf16 | DType::F16) {
            return Err(Error::argument("dtype", "bf16 or f16", dtype));
        }
        if heads_kv == 0 || heads_kv > MAX_HEADS_KV {
            return Err(Error::argument(
                "heads_kv",
                format_args!("1 to {MAX_HEADS_KV}"),
                heads_kv,
            ));
        }
        let group = heads_q / heads_kv;
        if !heads_q.is_multiple_of(heads_kv) || group == 0 || group > MAX_GROUP {
            let expected = format!("1 to {MAX_GROUP} times the {heads_kv} kv heads");
            return Err(Error::argument("heads_q", expected, heads_q));
        }
        if !matches!(dim, 64 | 128) {
            return Err(Error::argument("dim", "64 or 128", dim));
        }
        if !matches!(block_size, 32 | 64 | 128) {
            return Err(Error::argument("block_size", "32, 64 or 128", block_size));
        }
        if !scale.is_finite() {
            return Err(Error::argument("scale", "a finite number", scale));
        }
        let kernel = KernelId::find(
            "sparse_attention",
            &[dtype.name(), if dim == 64 { "64" } else { "128" }],
        )?;
        Ok(SparseAttention {
            shape: self.shape,
            tiling: Tiling::of(group),
            kernel,
        })
    }
}

impl SparseAttentionArgs<'_> {
    fn written(&self) -> impl Iterator<Item = (&'static str, Tensor<'_>)> {
        let optional = [("lse", self.lse.as_ref()), ("status", self.status.as_ref())];
        let optional = optional
            .into_iter()
            .filter_map(|(name, view)| Some((name, view?.as_tensor())));
        std::iter::once(("out", self.out.as_tensor())).chain(optional)
    }

    fn read(&self) -> impl Iterator<Item = (&'static str, Tensor<'_>)> {
        let optional = [
            ("block_indices", self.block_indices),
            ("scale_factor", self.scale_factor),
            ("gate", self.gate),
        ];
        let optional = optional.into_iter().filter_map(|(name, view)| Some((name, view?)));
        [("q", self.q), ("k", self.k), ("v", self.v)]
            .into_iter()
            .chain(optional)
            .chain(self.sequences.views())
    }

    /// Every view lies in the device's memory, and nothing that is written is also read or written elsewhere.
    fn check_memory(&self, place: crate::device::Place) -> Result<()> {
        self.written()
            .chain(self.read())
            .try_for_each(|(name, view)| checks::place(name, &view, place))?;
        for (index, (name, view)) in self.written().enumerate() {
            self.read()
                .chain(self.written().skip(index + 1))
                .try_for_each(|(other, read)| checks::disjoint(name, &view, other, &read))?;
        }
        Ok(())
    }
}

/// Checks an optional tensor whose last axis is contiguous and whose rows need no alignment of their own.
fn check_vector(name: &'static str, tensor: Option<&Tensor<'_>>, dtype: DType, shape: &[usize]) -> Result<()> {
    let Some(tensor) = tensor else { return Ok(()) };
    checks::dtype(name, tensor, dtype)?;
    checks::shape(name, tensor, shape)?;
    checks::last_axis_contiguous(name, tensor)
}

/// Returns the entries of a list.
fn check_lists(lists: Option<&Tensor<'_>>, total_q: usize, heads_kv: usize) -> Result<usize> {
    let Some(lists) = lists else { return Ok(0) };
    let list_len = lists.shape().last().copied().unwrap_or(0);
    check_vector("block_indices", Some(lists), DType::I32, &[total_q, heads_kv, list_len])?;
    if list_len > MAX_LIST {
        return Err(Error::argument(
            "block_indices",
            format_args!("at most {MAX_LIST} entries a list"),
            list_len,
        ));
    }
    Ok(list_len)
}

fn first_axis(tensor: &Tensor<'_>) -> usize {
    tensor.shape().first().copied().unwrap_or(0)
}

fn address(tensor: Option<&Tensor<'_>>) -> u64 {
    tensor.map_or(0, Tensor::address)
}

/// `sizeof(AttentionPlan<dim>)`: two stages of K and V, and the sets. The kernel asserts the same sum.
const fn shared_memory(dim: usize) -> u32 {
    (2 * 2 * STEP * dim * 2 + SET_WORDS * 4) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fill_warps() {
        let tiling = |group| {
            let Tiling {
                tokens_a_warp,
                warps_a_token,
                tile_tokens,
            } = Tiling::of(group);
            [tokens_a_warp, warps_a_token, tile_tokens]
        };
        assert_eq!(tiling(1), [16, 1, 128]);
        assert_eq!(tiling(3), [5, 1, 40]);
        assert_eq!(tiling(7), [2, 1, 16]);
        assert_eq!(tiling(16), [1, 1, 8]);
        assert_eq!(tiling(17), [1, 2, 4]);
        assert_eq!(tiling(48), [1, 3, 2]);
        assert_eq!(tiling(64), [1, 4, 2]);
    }

    #[test]
    fn blocks_fit_every_base_architecture() {
        assert!(shared_memory(64) <= 99 * 1024 && shared_memory(128) <= 99 * 1024);
    }

    #[test]
    fn impossible_descriptions_are_refused() {
        let refused = |builder: SparseAttentionBuilder| match builder.build() {
            Err(Error::Argument { argument, .. }) => argument,
            other => panic!("{other:?}"),
        };
        let builder = |heads_q, heads_kv, dim| SparseAttention::builder(DType::F16, heads_q, heads_kv, dim);
        assert_eq!(refused(SparseAttention::builder(DType::F32, 1, 1, 64)), "dtype");
        assert_eq!(refused(builder(1, 0, 64)), "heads_kv");
        assert_eq!(refused(builder(3, 2, 64)), "heads_q");
        assert_eq!(refused(builder(65, 1, 64)), "heads_q");
        assert_eq!(refused(builder(0, 1, 64)), "heads_q");
        assert_eq!(refused(builder(1, 1, 96)), "dim");
        assert_eq!(refused(builder(1, 1, 64).block_size(16)), "block_size");
        assert_eq!(refused(builder(1, 1, 64).scale(f32::INFINITY)), "scale");
    }
}
