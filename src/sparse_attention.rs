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
//! A token's result is the same bits alone and in any batch, however its prompt is cut into chunks, and from [`SparseAttention::launch`] as
//! from [`SparseAttention::decode`], which spreads a few tokens over a whole GPU.

use crate::checks;
use crate::kernels::KernelId;
use crate::sequences::Sequences;
use crate::sys::params::{sala_sequences, sala_sparse_attention_params, sala_sparse_attention_split_params};
use crate::{DType, Error, Kernels, Result, Stream, Tensor, TensorMut};

/// Warps and threads of a block, and the query rows of a warp.
const WARPS: usize = 8;
const THREADS: u32 = WARPS as u32 * 32;
const WARP_ROWS: usize = 16;
/// Keys of a step of the kernel.
const STEP: usize = 64;
/// 32-bit words in shared memory for the sets of blocks, and the keys that a word of one set describes.
const SET_WORDS: usize = 8704;
const WORD_KEYS: usize = 1024;
/// The most entries of a list; a tile's entries are counted in 32 bits.
const MAX_LIST: usize = 1 << 20;
/// Threads of a block of the scores kernel, and the steps it takes.
const SCORES_THREADS: u32 = 128;
const SCORES_STEPS: usize = 4;
/// Threads of a block of the values kernel, the steps of a round, the columns of V, and `sizeof(ValuesPlan)`.
const VALUES_THREADS: u32 = 256;
const VALUES_ROUND: usize = 8;
const VALUES_COLUMNS: usize = 32;
const VALUES_SHARED_MEMORY: u32 = 83_968;
/// Bytes of workspace for a step of sixteen rows: scores, maxima, the step.
const SCORES_BYTES: usize = WARP_ROWS * STEP * 4;
const MAXIMA_BYTES: usize = WARP_ROWS * 4;
const STEP_BYTES: usize = 4;
const PLACE_BYTES: usize = SCORES_BYTES + MAXIMA_BYTES + STEP_BYTES;

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
    scores: KernelId,
    values: KernelId,
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

/// How the rows of a call are split over blocks when there are few of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    /// Groups of sixteen rows of one sequence and kv head.
    groups: usize,
    /// Steps of keys that a group may take.
    places: usize,
    /// Groups of the call.
    rows: usize,
}

impl Split {
    /// Bytes of workspace.
    fn bytes(&self) -> Option<usize> {
        self.rows.checked_mul(self.places)?.checked_mul(PLACE_BYTES)
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
        let params = self.params(kernels, &args, None)?;
        let grid = self.grid(&params);
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

    /// Bytes of workspace that [`Self::launch`] needs: none.
    pub fn workspace(&self) -> usize {
        0
    }

    /// Bytes of workspace with which [`Self::decode`] can spread a call over the GPU: `batch` sequences of at most `max_seqlen_q` queries and
    /// `max_seqlen_k` keys, lists of `list_len` entries (`None` without lists), no [`Sequences::switch_len`]. 0 if no workspace helps.
    ///
    /// For one token a sequence that is 4 KiB for each step of 64 keys and kv head, at groups of up to 16 query heads.
    pub fn decode_workspace(
        &self,
        batch: usize,
        max_seqlen_q: usize,
        max_seqlen_k: usize,
        list_len: Option<usize>,
    ) -> usize {
        let split = self.split(batch, max_seqlen_q, max_seqlen_k, list_len, false);
        split.and_then(|split| split.bytes()).unwrap_or(0)
    }

    /// [`Self::launch`] for a few query tokens, as in decode: the same results, bit for bit.
    ///
    /// [`Self::launch`] gives each kv head of a sequence a block or more, depending on its query tokens; where that leaves most of the GPU idle,
    /// this splits the keys over blocks too, in two launches. It needs a workspace (of any type) of [`Self::decode_workspace`] bytes, which
    /// belongs to one stream at a time. With a smaller one, and with query tokens enough, it is [`Self::launch`].
    ///
    /// # Errors
    /// As [`Self::launch`].
    ///
    /// # Safety
    /// As [`Self::launch`]; the workspace counts as an output.
    pub unsafe fn decode(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        args: SparseAttentionArgs<'_>,
        workspace: TensorMut<'_>,
    ) -> Result<()> {
        let workspace = workspace.as_tensor();
        let attention = self.params(kernels, &args, Some(workspace))?;
        checks::rank("workspace", &workspace, 1)?;
        checks::last_axis_contiguous("workspace", &workspace)?;
        checks::rows_aligned("workspace", &workspace)?;
        let grid = self.grid(&attention);
        let split = self.split_of(&attention, args.block_indices.is_some(), workspace.extent());
        let is_idle = grid.iter().map(|&blocks| u64::from(blocks)).product::<u64>()
            < u64::from(kernels.device().multiprocessors());
        let Some(split) = split.filter(|_| is_idle) else {
            // SAFETY: as in `launch`.
            return unsafe {
                kernels.launch(
                    self.kernel,
                    stream,
                    grid,
                    THREADS,
                    shared_memory(self.shape.dim),
                    &attention,
                )
            };
        };
        let scores = workspace.address();
        let maxima = scores + (split.rows * split.places * SCORES_BYTES) as u64;
        let steps = maxima + (split.rows * split.places * MAXIMA_BYTES) as u64;
        let (groups, places) = (split.groups as i32, split.places as i32);
        let params = sala_sparse_attention_split_params {
            attention,
            scores,
            maxima,
            steps,
            groups,
            places,
        };
        let [_, heads_kv, batch] = grid;
        let rows = heads_kv * split.groups as u32;
        let scores_grid = [(split.places / SCORES_STEPS) as u32, rows, batch];
        let values_grid = [(self.shape.dim / VALUES_COLUMNS) as u32, rows, batch];
        // SAFETY: as in `launch`; the workspace holds what `split` counts, and the stream orders the two launches.
        unsafe {
            kernels.launch(
                self.scores,
                stream,
                scores_grid,
                SCORES_THREADS,
                shared_memory(self.shape.dim),
                &params,
            )?;
            kernels.launch(
                self.values,
                stream,
                values_grid,
                VALUES_THREADS,
                VALUES_SHARED_MEMORY,
                &params,
            )
        }
    }

    /// [`Self::decode`] on the CPU, over host memory.
    ///
    /// # Errors
    /// As [`Self::decode`]; `kernels` must have been loaded on a host device.
    pub fn decode_host(
        &self,
        kernels: &Kernels,
        args: SparseAttentionArgs<'_>,
        workspace: TensorMut<'_>,
    ) -> Result<()> {
        let stream = kernels.host_stream()?;
        // SAFETY: a host launch has finished when it returns, and the views borrow their memory until then.
        unsafe { self.decode(kernels, &stream, args, workspace) }
    }

    /// Tiles of query tokens, kv heads, sequences.
    fn grid(&self, params: &sala_sparse_attention_params) -> [u32; 3] {
        let sala_sequences {
            max_seqlen_q, batch, ..
        } = params.sequences;
        let tiles = (max_seqlen_q as usize).div_ceil(self.tiling.tile_tokens);
        [tiles as u32, self.shape.heads_kv as u32, batch as u32]
    }

    /// How a call is split, if it can be and the workspace has room for it.
    fn split_of(&self, params: &sala_sparse_attention_params, has_lists: bool, workspace: u64) -> Option<Split> {
        let sala_sequences {
            batch,
            max_seqlen_q,
            max_seqlen_k,
            switch_len,
            ..
        } = params.sequences;
        let list_len = has_lists.then_some(params.list_len as usize);
        let split = self.split(
            batch as usize,
            max_seqlen_q as usize,
            max_seqlen_k as usize,
            list_len,
            switch_len != 0,
        )?;
        split.bytes().filter(|&bytes| bytes as u64 <= workspace)?;
        Some(split)
    }

    /// How a call of these bounds is split. None where it has nothing to split, or where the kernels could not hold a sequence's sets or grid.
    fn split(
        &self,
        batch: usize,
        max_queries: usize,
        max_keys: usize,
        list_len: Option<usize>,
        has_switch_len: bool,
    ) -> Option<Split> {
        let Shape {
            heads_kv,
            block_size,
            dense_len,
            ..
        } = self.shape;
        let Tiling {
            tokens_a_warp,
            warps_a_token,
            ..
        } = self.tiling;
        let groups = max_queries.div_ceil(tokens_a_warp).checked_mul(warps_a_token)?;
        let steps = max_keys.div_ceil(STEP);
        // A group's lists name at most so many steps; with `switch_len`, a sequence of any length may be dense.
        let listed = list_len.map_or(0, |entries| entries * tokens_a_warp * (block_size / STEP).max(1));
        let dense = match list_len {
            Some(_) if dense_len == 0 => 0,
            Some(_) if !has_switch_len => steps.min((dense_len - 1).div_ceil(STEP)),
            _ => steps,
        };
        let places = steps.min(listed).max(dense).next_multiple_of(VALUES_ROUND);
        let window = max_keys.div_ceil(WORD_KEYS);
        let fits = window <= SET_WORDS / (tokens_a_warp + 1)
            && groups.checked_mul(heads_kv)? <= checks::MAX_GRID
            && places <= i32::MAX as usize;
        let rows = batch.checked_mul(heads_kv)?.checked_mul(groups)?;
        (fits && places > 0 && rows > 0).then_some(Split { groups, places, rows })
    }

    fn params(
        &self,
        kernels: &Kernels,
        args: &SparseAttentionArgs<'_>,
        workspace: Option<Tensor<'_>>,
    ) -> Result<sala_sparse_attention_params> {
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
            checks::rows(name, &tensor, self.shape.dtype)?;
        }
        for (name, tensor) in [("k", args.k), ("v", args.v)] {
            checks::rows(name, &tensor, self.shape.dtype)?;
        }
        let list_len = check_lists(args.block_indices.as_ref(), total_q, heads_kv)?;
        let factor = args.scale_factor.as_ref();
        checks::vector("scale_factor", factor, DType::F32, &[total_q])?;
        checks::vector("lse", lse.as_ref(), DType::F32, &[total_q, heads_q])?;
        checks::vector("status", status.as_ref(), DType::U32, &[4])?;
        let place = kernels.device().place();
        let sequences = args.sequences.params(place, total_q, capacity_k, dense_len)?;
        let [cu_seqlens_q, lengths, switch_len] = args.sequences.named_views();
        checks::memory(
            place,
            &[
                ("out", Some(out)),
                ("lse", lse),
                ("status", status),
                ("workspace", workspace),
            ],
            &[
                ("q", Some(args.q)),
                ("k", Some(args.k)),
                ("v", Some(args.v)),
                ("block_indices", args.block_indices),
                ("scale_factor", args.scale_factor),
                ("gate", args.gate),
                cu_seqlens_q,
                lengths,
                switch_len,
            ],
        )?;

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
            lse: checks::address(lse.as_ref()),
            block_indices: checks::address(args.block_indices.as_ref()),
            scale_factor: checks::address(factor),
            gate: checks::address(args.gate.as_ref()),
            status: checks::address(status.as_ref()),
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
        checks::operand_type(dtype)?;
        let group = checks::group(heads_q, heads_kv)?;
        let channels = checks::dim("dim", dim)?;
        checks::block_size(block_size)?;
        checks::finite("scale", scale)?;
        let element = dtype.name();
        Ok(SparseAttention {
            shape: self.shape,
            tiling: Tiling::of(group),
            kernel: KernelId::find("sparse_attention", &[element, channels])?,
            scores: KernelId::find("sparse_attention_scores", &[element, channels])?,
            values: KernelId::find("sparse_attention_values", &[element])?,
        })
    }
}

/// Returns the entries of a list.
fn check_lists(lists: Option<&Tensor<'_>>, total_q: usize, heads_kv: usize) -> Result<usize> {
    let Some(lists) = lists else { return Ok(0) };
    let list_len = lists.shape().last().copied().unwrap_or(0);
    checks::vector("block_indices", Some(lists), DType::I32, &[total_q, heads_kv, list_len])?;
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

/// `sizeof(AttentionPlan<dim>)`, two stages of K and V, and the sets; and `sizeof(ScoresPlan<dim>)`, K of four steps, and the sets. The kernels
/// assert the same sum.
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
    fn a_split_has_a_place_for_every_step() {
        let op = |group: usize, dense_len| {
            SparseAttention::builder(DType::Bf16, 2 * group, 2, 128)
                .dense_len(dense_len)
                .build()
                .unwrap()
        };
        let places = |op: &SparseAttention, keys, list_len| {
            op.split(1, 1, keys, list_len, false).map_or(0, |split| split.places)
        };
        assert_eq!(
            places(&op(16, 8192), 1 << 20, Some(96)),
            128,
            "as many as a dense sequence has"
        );
        assert_eq!(places(&op(16, 0), 1 << 20, Some(96)), 96);
        assert_eq!(places(&op(16, 0), 1000, Some(96)), 16, "no more than there are keys");
        assert_eq!(
            places(&op(4, 0), 1 << 20, Some(10)),
            40,
            "a union of the lists of four tokens"
        );
        assert_eq!(places(&op(16, 8192), 1 << 20, None), 1 << 14);
        assert_eq!(
            op(16, 0).split(1, 1, 1 << 23, Some(96), false),
            None,
            "more keys than the sets describe"
        );
        assert_eq!(
            op(16, 0).split(3, 1, 6400, Some(8), false),
            Some(Split {
                groups: 1,
                places: 8,
                rows: 6
            })
        );
        assert_eq!(
            op(64, 0).split(1, 2, 6400, Some(8), false),
            Some(Split {
                groups: 8,
                places: 8,
                rows: 16
            })
        );
        assert_eq!(op(16, 0).decode_workspace(1, 1, 6400, Some(8)), 2 * 8 * (4096 + 64 + 4));
        assert_eq!(op(16, 0).decode_workspace(0, 1, 6400, Some(8)), 0);
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
