//! Block selection: which blocks of keys a query token attends to.
//!
//! ```text
//! m_j, Z_j = max and Σ exp of f·s·q_j·C[c] over the rows of C that end at or before the token      C = K2, or K1 for exact sums
//! P[c]     = Σ_j exp(f·s·q_j·K1[c] − m_j) / Z_j                                                     j: the query heads of the group
//! score[b] = max of P[c], c = 4b − 1 .. 4b + 3
//! ```
//!
//! The first two stages of InfLLM-V2 (Zhao et al. 2025), scoring through compressed keys and top-k, in one launch: scores leave the chip only if
//! they are asked for. A token takes the first `init_blocks` blocks, its own and the `local_blocks` before it, and of the others those with the
//! highest scores, equal ones in favour of the lower index; `topk + local_blocks` in all. Nothing is scored while the list has room for every block.
//! [`crate::reference::select_blocks`] is the definition.
//!
//! A token's list is the same alone and in any batch, and however its prompt is cut into chunks.

use crate::checks;
use crate::kernels::KernelId;
use crate::sequences::{KeyRows, Sequences, saturate};
use crate::sys::params::sala_select_blocks_params;
use crate::{DType, Error, Kernels, Result, Stream, Tensor, TensorMut};

/// Warps and threads of a block.
const WARPS: usize = 8;
const THREADS: u32 = WARPS as u32 * 32;
/// Columns (query heads of tokens) that a warp scores at a time.
const COLUMNS: usize = 32;
/// Rows of compressed keys in a step, and steps in shared memory.
const STEP: usize = 64;
const STAGES: usize = 3;
/// Rows of K1 from one block to the next.
const BLOCK_ROWS: usize = 4;
/// Shared memory that every GPU has for a block.
const SHARED_MEMORY: usize = 99 * 1024;
/// Bytes of an entry of a token's queue, and how many enter it at once.
const ENTRY: usize = 8;
const BATCH: usize = 32;
const PADDED_GROUPS: [(usize, &str); 4] = [(8, "8"), (16, "16"), (32, "32"), (64, "64")];
/// The most entries of a list.
const MAX_LIST: usize = 1 << 20;

/// Which compressed keys normalise the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lse {
    /// K2: a quarter of the rows, and what InfLLM-V2 was trained with.
    #[default]
    Coarse,
    /// K1 itself, so that the scores of a token's rows sum to one a head.
    Exact,
}

/// A block-selection operation: shapes and options, checked once.
///
/// ```
/// use sala_kernels::{DType, SelectBlocks};
/// let op = SelectBlocks::builder(DType::Bf16, 32, 2, 128).scale(128f32.powf(-0.5)).build()?;
/// assert_eq!(op.list_len(), 96);
/// assert!(SelectBlocks::builder(DType::Bf16, 32, 2, 128).topk(1).build().is_err(), "no room for the blocks that are always taken");
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SelectBlocks {
    shape: Shape,
    scoring: Scoring,
    top_k: KernelId,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    dtype: DType,
    heads_q: usize,
    heads_kv: usize,
    dim: usize,
    block_size: usize,
    topk: usize,
    init_blocks: usize,
    local_blocks: usize,
    dense_len: usize,
    lse: Lse,
    scale: f32,
}

impl Shape {
    fn list_len(&self) -> usize {
        self.topk + self.local_blocks
    }

    /// How many blocks a list takes by their scores; the builder has checked that it is not negative.
    fn wanted(&self) -> usize {
        self.topk - self.init_blocks - 1
    }
}

/// The kernel that scores, and how a launch of it is shaped.
#[derive(Debug, Clone, Copy)]
struct Scoring {
    kernel: KernelId,
    block_tokens: usize,
    queue_capacity: usize,
}

/// Describes a [`SelectBlocks`].
#[derive(Debug, Clone)]
#[must_use = "call `build` to get the operation"]
pub struct SelectBlocksBuilder {
    shape: Shape,
}

/// Tensors of [`SelectBlocks::launch`].
#[derive(Debug)]
pub struct SelectBlocksArgs<'a> {
    /// Queries `[total_q, heads_q, dim]`, the operation's type.
    pub q: Tensor<'a>,
    /// K1 as [`CompressKeys`](crate::CompressKeys) writes it, complete for all keys of the sequences.
    pub k1: Tensor<'a>,
    /// K2, likewise. May be absent with [`Lse::Exact`].
    pub k2: Option<Tensor<'a>>,
    /// How rows and keys are cut into sequences. The keys themselves are not read: their number is bounded by the rows of K1 and K2.
    pub sequences: Sequences<'a>,
    /// A factor of each token's logits, `[total_q]` f32; the one that attention is given.
    pub scale_factor: Option<Tensor<'a>>,
    /// The lists, `[total_q, heads_kv, list_len]` i32: ascending, −1 after the last. Empty for tokens without keys and for sequences that are
    /// attended densely. Rows of skipped sequences, and rows of no sequence, are left as they are.
    pub block_indices: TensorMut<'a>,
    /// The scores, `[total_q, heads_kv, blocks]` f32, if wanted: −∞ where a block has no row that the token sees, scores of blocks past the last
    /// axis are dropped. With it, every visible row is scored.
    pub scores: Option<TensorMut<'a>>,
    /// The status word, `[4]` u32, added to: refused pages, blocks, lengths and slots.
    pub status: Option<TensorMut<'a>>,
}

/// Tensors of [`SelectBlocks::launch_scored`].
#[derive(Debug)]
pub struct ScoredBlocksArgs<'a> {
    /// Scores `[total_q, heads_kv, blocks]` f32; a NaN counts as −∞. Sequences of more than `blocks` blocks are skipped and counted.
    pub scores: Tensor<'a>,
    /// How rows and keys are cut into sequences.
    pub sequences: Sequences<'a>,
    /// The lists, as in [`SelectBlocksArgs::block_indices`].
    pub block_indices: TensorMut<'a>,
    /// The status word, as in [`SelectBlocksArgs::status`].
    pub status: Option<TensorMut<'a>>,
}

impl SelectBlocks {
    /// Describes an operation on `heads_q` query heads that share `heads_kv` key heads (1 to 64 each), of `dim` channels (64 or 128), in bf16 or f16.
    ///
    /// Without further calls: blocks of 64 tokens, `topk` 64, 1 initial and 32 local blocks, [`Lse::Coarse`], scale 1, `dense_len` 0.
    pub fn builder(dtype: DType, heads_q: usize, heads_kv: usize, dim: usize) -> SelectBlocksBuilder {
        SelectBlocksBuilder {
            shape: Shape {
                dtype,
                heads_q,
                heads_kv,
                dim,
                block_size: 64,
                topk: 64,
                init_blocks: 1,
                local_blocks: 32,
                dense_len: 0,
                lse: Lse::default(),
                scale: 1.0,
            },
        }
    }

    /// Entries of a list: `topk + local_blocks`.
    pub fn list_len(&self) -> usize {
        self.shape.list_len()
    }

    /// Bytes of workspace that a launch needs: none.
    pub fn workspace(&self) -> usize {
        0
    }

    /// Launches the scoring of blocks and the choice among them on `stream`.
    ///
    /// # Errors
    /// [`Error::Argument`] names the tensor that does not fit; nothing is launched then. On a host device, which has run the kernel by the
    /// time the call returns, also [`Error::Execution`].
    ///
    /// # Safety
    /// Until the launch has finished on `stream`, the memory behind every view must stay alive, inputs must not be written, and outputs and
    /// status not be touched, by anything that `stream` does not order.
    pub unsafe fn launch(&self, kernels: &Kernels, stream: &Stream, args: SelectBlocksArgs<'_>) -> Result<()> {
        let params = self.params(kernels, &args)?;
        let Scoring {
            kernel,
            block_tokens,
            queue_capacity,
        } = self.scoring;
        let shared = ring_bytes(self.shape.dim) + block_tokens * queue_capacity * ENTRY;
        let grid = self.grid(&args.sequences, &params, block_tokens);
        // SAFETY: `params` describes views that were checked against this kernel's reads and writes; the caller keeps them alive and ordered.
        unsafe { kernels.launch(kernel, stream, grid, THREADS, shared as u32, &params) }
    }

    /// Launches the choice by scores that the caller has, such as sums over ranks that hold different query heads of a group.
    ///
    /// # Errors
    /// As [`Self::launch`].
    ///
    /// # Safety
    /// As [`Self::launch`].
    pub unsafe fn launch_scored(&self, kernels: &Kernels, stream: &Stream, args: ScoredBlocksArgs<'_>) -> Result<()> {
        let params = self.scored_params(kernels, &args)?;
        let shared = WARPS * params.queue_capacity as usize * ENTRY;
        let grid = self.grid(&args.sequences, &params, WARPS);
        // SAFETY: as in `launch`.
        unsafe { kernels.launch(self.top_k, stream, grid, THREADS, shared as u32, &params) }
    }

    /// [`Self::launch`] on the CPU, over host memory.
    ///
    /// # Errors
    /// As [`Self::launch`]; `kernels` must have been loaded on a host device.
    pub fn launch_host(&self, kernels: &Kernels, args: SelectBlocksArgs<'_>) -> Result<()> {
        let stream = kernels.host_stream()?;
        // SAFETY: a host launch has finished when it returns, and the views borrow their memory until then.
        unsafe { self.launch(kernels, &stream, args) }
    }

    /// [`Self::launch_scored`] on the CPU, over host memory.
    ///
    /// # Errors
    /// As [`Self::launch_scored`]; `kernels` must have been loaded on a host device.
    pub fn launch_scored_host(&self, kernels: &Kernels, args: ScoredBlocksArgs<'_>) -> Result<()> {
        let stream = kernels.host_stream()?;
        // SAFETY: a host launch has finished when it returns, and the views borrow their memory until then.
        unsafe { self.launch_scored(kernels, &stream, args) }
    }

    fn grid(&self, sequences: &Sequences<'_>, params: &sala_select_blocks_params, block_tokens: usize) -> [u32; 3] {
        let queries = params.sequences.max_seqlen_q as usize;
        [
            queries.div_ceil(block_tokens) as u32,
            self.shape.heads_kv as u32,
            sequences.batch() as u32,
        ]
    }

    fn params(&self, kernels: &Kernels, args: &SelectBlocksArgs<'_>) -> Result<sala_select_blocks_params> {
        let Shape {
            dtype,
            heads_q,
            heads_kv,
            dim,
            block_size,
            lse,
            dense_len,
            ..
        } = self.shape;
        checks::rank("q", &args.q, 3)?;
        let total_q = first_axis(&args.q);
        checks::shape("q", &args.q, &[total_q, heads_q, dim])?;
        checks::rows("q", &args.q, dtype)?;
        let rows = |name, tensor: &Tensor<'_>| -> Result<KeyRows> {
            checks::rows(name, tensor, dtype)?;
            args.sequences
                .keys
                .key_rows(name, tensor, args.sequences.batch(), heads_kv, dim)
        };
        let k1 = rows("k1", &args.k1)?;
        let k2 = args.k2.as_ref().map(|k2| rows("k2", k2)).transpose()?;
        if k2.is_none() && lse == Lse::Coarse {
            return Err(Error::argument(
                "k2",
                "a tensor (the scores are normalised by it)",
                "none",
            ));
        }
        checks::vector("scale_factor", args.scale_factor.as_ref(), DType::F32, &[total_q])?;

        let scores = args.scores.as_ref().map(TensorMut::as_tensor);
        let capacity = k2
            .iter()
            .map(|k2| key_capacity(k2, block_size))
            .fold(key_capacity(&k1, block_size / BLOCK_ROWS), usize::min);
        let lists = Lists {
            total_q,
            capacity,
            dense_len,
            scores,
            indices: &args.block_indices,
            status: args.status.as_ref(),
        };
        let common = self.list_params(kernels, &args.sequences, &lists)?;
        let [cu_seqlens_q, lengths, switch_len] = args.sequences.named_views();
        checks::memory(
            kernels.device().place(),
            &[lists.indices_view(), ("scores", scores), lists.status_view()],
            &[
                ("q", Some(args.q)),
                ("k1", Some(args.k1)),
                ("k2", args.k2),
                ("scale_factor", args.scale_factor),
                cu_seqlens_q,
                lengths,
                switch_len,
            ],
        )?;
        let stride = |tensor: &Tensor<'_>, axis: usize| tensor.stride(axis) as i64;
        let k2 = k2.unwrap_or(KeyRows {
            rows: 0,
            batch_stride: 0,
            row_stride: 0,
            head_stride: 0,
        });
        Ok(sala_select_blocks_params {
            q: args.q.address(),
            k1: args.k1.address(),
            k2: checks::address(args.k2.as_ref()),
            scale_factor: checks::address(args.scale_factor.as_ref()),
            q_token_stride: stride(&args.q, 0),
            q_head_stride: stride(&args.q, 1),
            k1_batch_stride: k1.batch_stride,
            k1_row_stride: k1.row_stride,
            k1_head_stride: k1.head_stride,
            k2_batch_stride: k2.batch_stride,
            k2_row_stride: k2.row_stride,
            k2_head_stride: k2.head_stride,
            queue_capacity: self.scoring.queue_capacity as i32,
            exact_lse: i32::from(lse == Lse::Exact),
            ..common
        })
    }

    fn scored_params(&self, kernels: &Kernels, args: &ScoredBlocksArgs<'_>) -> Result<sala_select_blocks_params> {
        checks::rank("scores", &args.scores, 3)?;
        let lists = Lists {
            total_q: first_axis(&args.scores),
            // There are no keys here that packed lengths could run past.
            capacity: i32::MAX as usize,
            // Whoever has scores wants lists.
            dense_len: 0,
            scores: Some(args.scores),
            indices: &args.block_indices,
            status: args.status.as_ref(),
        };
        let mut params = self.list_params(kernels, &args.sequences, &lists)?;
        let blocks = args.scores.shape().last().copied().unwrap_or(0);
        let scored_keys = saturate(blocks.saturating_mul(self.shape.block_size));
        params.sequences.max_seqlen_k = params.sequences.max_seqlen_k.min(scored_keys);
        let [cu_seqlens_q, lengths, switch_len] = args.sequences.named_views();
        checks::memory(
            kernels.device().place(),
            &[lists.indices_view(), lists.status_view()],
            &[("scores", Some(args.scores)), cu_seqlens_q, lengths, switch_len],
        )?;
        Ok(params)
    }

    /// Checks what both kernels have; gives the parameters without those of scoring.
    fn list_params(
        &self,
        kernels: &Kernels,
        sequences: &Sequences<'_>,
        lists: &Lists<'_>,
    ) -> Result<sala_select_blocks_params> {
        let Shape {
            heads_q,
            heads_kv,
            block_size,
            init_blocks,
            local_blocks,
            scale,
            ..
        } = self.shape;
        let list_len = self.list_len();
        let indices = lists.indices.as_tensor();
        let status = lists.status.map(TensorMut::as_tensor);
        checks::vector(
            "block_indices",
            Some(&indices),
            DType::I32,
            &[lists.total_q, heads_kv, list_len],
        )?;
        let score_blocks = lists
            .scores
            .as_ref()
            .and_then(|scores| scores.shape().last().copied())
            .unwrap_or(0);
        checks::vector(
            "scores",
            lists.scores.as_ref(),
            DType::F32,
            &[lists.total_q, heads_kv, score_blocks],
        )?;
        checks::vector("status", status.as_ref(), DType::U32, &[4])?;
        let sequences = sequences.params(kernels.device().place(), lists.total_q, lists.capacity, lists.dense_len)?;
        let stride = |tensor: Option<&Tensor<'_>>, axis: usize| tensor.map_or(0, |tensor| tensor.stride(axis) as i64);
        Ok(sala_select_blocks_params {
            sequences,
            scores: checks::address(lists.scores.as_ref()),
            block_indices: indices.address(),
            status: checks::address(status.as_ref()),
            scores_token_stride: stride(lists.scores.as_ref(), 0),
            scores_head_stride: stride(lists.scores.as_ref(), 1),
            list_token_stride: stride(Some(&indices), 0),
            list_head_stride: stride(Some(&indices), 1),
            scale,
            group: (heads_q / heads_kv) as i32,
            block_size: block_size as i32,
            init_blocks: init_blocks as i32,
            local_blocks: local_blocks as i32,
            list_len: list_len as i32,
            queue_capacity: queue_capacity(self.shape.wanted(), SHARED_MEMORY / WARPS).unwrap_or(0) as i32,
            score_blocks: saturate(score_blocks),
            ..sala_select_blocks_params::default()
        })
    }
}

/// What a launch of either kernel writes, and how much it may expect.
struct Lists<'a> {
    total_q: usize,
    /// Upper bound of the keys of a sequence (of all packed ones).
    capacity: usize,
    dense_len: usize,
    scores: Option<Tensor<'a>>,
    indices: &'a TensorMut<'a>,
    status: Option<&'a TensorMut<'a>>,
}

impl Lists<'_> {
    fn indices_view(&self) -> checks::NamedView<'_> {
        ("block_indices", Some(self.indices.as_tensor()))
    }

    fn status_view(&self) -> checks::NamedView<'_> {
        ("status", self.status.map(TensorMut::as_tensor))
    }
}

impl SelectBlocksBuilder {
    /// How many blocks a list takes besides `local_blocks`: the initial ones, the token's own, and those with the highest scores.
    pub fn topk(mut self, blocks: usize) -> Self {
        self.shape.topk = blocks;
        self
    }

    /// Blocks at the start of a sequence that are always taken.
    pub fn init_blocks(mut self, blocks: usize) -> Self {
        self.shape.init_blocks = blocks;
        self
    }

    /// Blocks before a token's own that are always taken, as its own is.
    pub fn local_blocks(mut self, blocks: usize) -> Self {
        self.shape.local_blocks = blocks;
        self
    }

    /// Tokens of a block: 32, 64 or 128.
    pub fn block_size(mut self, tokens: usize) -> Self {
        self.shape.block_size = tokens;
        self
    }

    /// What normalises the scores.
    pub fn lse(mut self, lse: Lse) -> Self {
        self.shape.lse = lse;
        self
    }

    /// The factor of every logit, mostly `1/√dim`. Any finite number.
    pub fn scale(mut self, scale: f32) -> Self {
        self.shape.scale = scale;
        self
    }

    /// Sequences whose [`Sequences::switch_len`] is below this are attended densely, so that [`SelectBlocks::launch`] gives them empty lists.
    pub fn dense_len(mut self, keys: usize) -> Self {
        self.shape.dense_len = keys;
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Error::Argument`] names what is out of range; [`Error::Unsupported`] if lists take more blocks by score than the kernels have room for.
    pub fn build(self) -> Result<SelectBlocks> {
        let Shape {
            dtype,
            heads_q,
            heads_kv,
            dim,
            block_size,
            topk,
            init_blocks,
            local_blocks,
            scale,
            ..
        } = self.shape;
        checks::operand_type(dtype)?;
        let group = checks::group(heads_q, heads_kv)?;
        let channels = checks::dim("dim", dim)?;
        checks::block_size(block_size)?;
        checks::finite("scale", scale)?;
        for (name, blocks) in [
            ("topk", topk),
            ("init_blocks", init_blocks),
            ("local_blocks", local_blocks),
        ] {
            if blocks > MAX_LIST {
                return Err(Error::argument(name, format_args!("at most {MAX_LIST}"), blocks));
            }
        }
        if topk <= init_blocks {
            let expected = format!("more than the {init_blocks} initial blocks (a list takes the token's own too)");
            return Err(Error::argument("topk", expected, topk));
        }
        Ok(SelectBlocks {
            shape: self.shape,
            scoring: find_scoring(&self.shape, group, channels)?,
            top_k: KernelId::find("top_k_blocks", &[])?,
        })
    }
}

/// The kernel that pads groups least among those whose tokens have room for their queues.
fn find_scoring(shape: &Shape, group: usize, channels: &str) -> Result<Scoring> {
    let queues = SHARED_MEMORY - ring_bytes(shape.dim);
    for (heads, heads_name) in PADDED_GROUPS.into_iter().filter(|&(heads, _)| heads >= group) {
        let block_tokens = WARPS * (COLUMNS / heads).max(1);
        let Some(queue_capacity) = queue_capacity(shape.wanted(), queues / block_tokens) else {
            continue;
        };
        let kernel = KernelId::find("select_blocks", &[shape.dtype.name(), channels, heads_name])?;
        return Ok(Scoring {
            kernel,
            block_tokens,
            queue_capacity,
        });
    }
    let most = queues / WARPS / ENTRY / BATCH * BATCH - BATCH;
    Err(Error::unsupported(
        format!("a list that takes {} blocks by score", shape.wanted()),
        format!("at dim {} the kernels have room for {most}", shape.dim),
    ))
}

/// Entries of a token's queue: a multiple of [`BATCH`], and about twice what it keeps, if `bytes` allow. `None` if not even one batch would fit
/// beside what it keeps.
fn queue_capacity(wanted: usize, bytes: usize) -> Option<usize> {
    let comfortable = (wanted + wanted.max(64)).next_multiple_of(BATCH);
    let capacity = comfortable.min(bytes / ENTRY / BATCH * BATCH);
    (capacity >= wanted + BATCH).then_some(capacity)
}

/// How many keys the rows of a compressed tensor are enough for.
fn key_capacity(rows: &KeyRows, stride: usize) -> usize {
    rows.rows.saturating_mul(stride).saturating_add(stride - 1)
}

/// The part of `SelectPlan<dim>` before the queues: three steps of compressed keys.
const fn ring_bytes(dim: usize) -> usize {
    STAGES * STEP * dim * 2
}

fn first_axis(tensor: &Tensor<'_>) -> usize {
    tensor.shape().first().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(heads_q: usize, heads_kv: usize, dim: usize) -> SelectBlocksBuilder {
        SelectBlocks::builder(DType::F16, heads_q, heads_kv, dim)
    }

    #[test]
    fn blocks_fit_every_base_architecture() {
        for (group, dim, topk) in [
            (1, 64, 64),
            (4, 128, 64),
            (16, 128, 64),
            (64, 128, 64),
            (1, 128, 200),
            (16, 64, 600),
        ] {
            let scoring = builder(group, 1, dim).topk(topk).build().unwrap().scoring;
            let shared = ring_bytes(dim) + scoring.block_tokens * scoring.queue_capacity * ENTRY;
            assert!(shared <= SHARED_MEMORY, "{group} {dim} {topk}: {shared}");
            assert!(scoring.queue_capacity >= topk - 2 + BATCH);
        }
    }

    #[test]
    fn long_lists_take_a_kernel_with_fewer_tokens_a_block() {
        let tokens = |topk| builder(4, 1, 128).topk(topk).build().unwrap().scoring.block_tokens;
        assert_eq!((tokens(64), tokens(200), tokens(400)), (32, 16, 8));
        let error = builder(4, 1, 128).topk(1000).build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "a list that takes 998 blocks by score is not supported: at dim 128 the kernels have room for 768"
        );
    }

    #[test]
    fn impossible_descriptions_are_refused() {
        let refused = |builder: SelectBlocksBuilder| match builder.build() {
            Err(Error::Argument { argument, .. }) => argument,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(SelectBlocks::builder(DType::F32, 1, 1, 64)), "dtype");
        assert_eq!(refused(builder(1, 0, 64)), "heads_kv");
        assert_eq!(refused(builder(3, 2, 64)), "heads_q");
        assert_eq!(refused(builder(65, 1, 64)), "heads_q");
        assert_eq!(refused(builder(1, 1, 96)), "dim");
        assert_eq!(refused(builder(1, 1, 64).block_size(16)), "block_size");
        assert_eq!(refused(builder(1, 1, 64).scale(f32::NAN)), "scale");
        assert_eq!(refused(builder(1, 1, 64).topk(3).init_blocks(3)), "topk");
        assert_eq!(refused(builder(1, 1, 64).local_blocks(usize::MAX)), "local_blocks");
    }
}
