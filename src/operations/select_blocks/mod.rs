//! Block selection.

pub mod reference;
mod split;

pub(super) use split::{RADIX_BYTES, workspace_size};

use super::keys::{KeyRows, Room};
use super::sparse_layer::Config;
use super::workspace::Workspace;
use super::{CompressedStore, Entry, Lse, Sequences, SparseLayer, SwitchLen};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::shapes::{self, KernelFile, Machine};
use crate::sys::params::{
    SALA_QUEUE_BATCH, SALA_QUEUE_ENTRY, SALA_SELECT_COLUMNS, SALA_SELECT_GROUP_COLUMNS, SALA_SELECT_GROUP_STAGES,
    SALA_SELECT_GROUP_STEP, SALA_SELECT_GROUPS, SALA_SELECT_SCORE_STRIDE, SALA_SELECT_STAGES, SALA_SELECT_STEP,
    SALA_SELECT_WARPS, sala_block_lists, sala_select_blocks_params, sala_select_split_params, sala_trees,
};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};
use split::Split;
use std::collections::BTreeSet;

const KERNEL: &str = "select_blocks";
/// Shared memory that every GPU has for a block, and that of Hopper.
const SHARED_MEMORY: usize = 99 * 1024;
const HOPPER_SHARED_MEMORY: usize = 227 * 1024;

/// Block selection: which blocks of keys each query token attends to.
///
/// ```text
/// m_j, Z_j = max and Σ exp of f·s·q_j·C[c] over the rows of C that end at or before the token      C = K2, or K1 for exact sums
/// P[c]     = Σ_j exp(f·s·q_j·K1[c] − m_j) / Z_j                                                     j: the query heads of the group
/// score[b] = max of P[c], c = 4b − 1 .. 4b + 3
/// ```
///
/// The first two stages of InfLLM-V2 (Zhao et al. 2025), scoring through compressed keys and top-k. Prefill is one launch, and scores leave the
/// chip only if they are asked for; with [`Entry::Decode`] and at most 16 query tokens of each sequence it is three, over a workspace, which take
/// the rows of a sequence apart over blocks. (Lists that take more than 768 blocks by score, 1152 at 64 channels, are always filled so, sixteen tokens of each
/// sequence at a time.) A token takes the first `init_blocks` blocks, its own and the `local_blocks` before it, and of the others those with
/// the highest scores, equal ones in favour of the lower index; `topk + local_blocks` in all. Nothing is scored while the list has room for
/// every block. [`crate::reference::select_blocks`] is the definition.
///
/// A token's list is the same alone and in any batch, however its prompt is cut into chunks, and from either [`Entry`].
///
/// Scores of NaN and beyond f32, dense sequences, what is refused: [`semantics`](crate::semantics#select_blocks).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says; `k2` where there is none and scores are normalised by it; `switch_len`
/// where it is missing, or the layer has no `dense_len`; `parent` with [`Entry::Prefill`], and with a `parent` more than 16 query tokens (`max_seqlen_q`) or a `workspace` smaller
/// than [`SparseLayer::workspace_size`]. [`Error::Unsupported`](crate::Error::Unsupported) if no kernel is left that the device and `SALA_KERNELS` allow.
///
/// # Example
/// A list of three: the first block, the token's own, which is block 4, and the best of the others, which one row of K1 speaks for.
///
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     AttentionShape, DType, Device, Kernels, Keys, Lse, SelectBlocksArgs, Sequences, SparseLayer, Tensor,
///     TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).lse(Lse::Exact).topk(3).local_blocks(0).build()?;
/// let q = vec![bf16::ONE; 64];
/// let mut k1 = vec![bf16::ZERO; 20 * 64];
/// k1[9 * 64..10 * 64].fill(bf16::ONE); // The mean of tokens 144 to 175, all of block 2.
/// let keys = Keys::cached(Tensor::from_slice(&[320], &[1])?);
/// let mut list = [0; 3];
/// let args = SelectBlocksArgs::new(
///     Tensor::from_slice(&q, &[1, 1, 64])?,
///     Tensor::from_slice(&k1, &[1, 20, 1, 64])?,
///     None,
///     Sequences::new(Tensor::from_slice(&[0, 1], &[2])?, keys),
///     None,
///     TensorMut::from_slice(&mut list, &[1, 1, 3])?,
/// );
/// kernels.run(&layer, args)?;
/// assert_eq!(list, [0, 2, 4]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct SelectBlocksArgs<'a> {
    /// Queries `[total_q, heads_q, dim]`, the layer's type.
    pub q: Tensor<'a>,
    /// K1 as [`CompressKeysArgs`](crate::CompressKeysArgs) writes it, complete for all keys of the sequences.
    pub k1: Tensor<'a>,
    /// K2, likewise. May be absent with [`Lse::Exact`].
    pub k2: Option<Tensor<'a>>,
    /// Where K1 and K2 lie, if not as the keys do; as in [`CompressKeysArgs`](crate::CompressKeysArgs).
    pub compressed: Option<CompressedStore<'a>>,
    /// How rows and keys are cut into sequences. The keys themselves are not read: their number is bounded by the rows of K1 and K2.
    pub sequences: Sequences<'a>,
    /// Which sequences are attended densely, so that their lists are empty.
    pub switch_len: Option<SwitchLen<'a>>,
    /// The lists, `[total_q, heads_kv, list_len]` i32: ascending, −1 after the last. Empty for tokens without keys and for sequences that are
    /// attended densely, and for sequences that are refused but for the bounds of their rows. Rows of no sequence are left as they are.
    pub block_indices: TensorMut<'a>,
    /// How the work is spread over the GPU.
    pub entry: Entry,
    /// With [`Entry::Decode`], the trees that the queries of sequences make, as in [`SparseAttentionArgs::parent`](crate::SparseAttentionArgs::parent). A draft stands where
    /// its number of ancestors says, and sees the rows of K1 and K2 whose windows end before the first draft.
    pub parent: Option<Tensor<'a>>,
    /// A factor of each token's logits, `[total_q]` f32; the one that attention is given.
    pub scale_factor: Option<Tensor<'a>>,
    /// The scores, `[total_q, heads_kv, blocks]` f32, if wanted: −∞ where a block has no row that the token sees, scores of blocks past the last
    /// axis are dropped. With it, every visible row is scored.
    pub scores: Option<TensorMut<'a>>,
    /// Memory of any type, [`SparseLayer::workspace_size`] bytes, which belongs to one stream at a time: for [`Entry::Decode`], and for any entry if
    /// lists take more than 768 blocks by score (1152 at 64 channels).
    pub workspace: Option<TensorMut<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> SelectBlocksArgs<'a> {
    /// The selection by `k1` and `k2`. `switch_len` is a choice if the layer has a `dense_len`, and `None` if it has none.
    pub fn new(
        q: Tensor<'a>,
        k1: Tensor<'a>,
        k2: Option<Tensor<'a>>,
        sequences: Sequences<'a>,
        switch_len: Option<SwitchLen<'a>>,
        block_indices: TensorMut<'a>,
    ) -> Self {
        Self {
            q,
            k1,
            k2,
            compressed: None,
            sequences,
            switch_len,
            block_indices,
            entry: Entry::Prefill,
            parent: None,
            scale_factor: None,
            scores: None,
            workspace: None,
            status: None,
        }
    }
}

/// The kernels of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_select_blocks_params, Tile>>,
    split: split::Plan,
}

/// How a kernel cuts its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    /// Query tokens of a block.
    tokens: usize,
    /// Entries of a token's queue.
    queue_capacity: usize,
}

impl Plan {
    /// The kernels whose tokens have room for their queues: those of better machines come first, then those that pad groups least.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let dim = checks::compiled_for("dim", KERNEL, "dim", config.shape.dim)?;
        let mut variants = Vec::new();
        let wide_enough = |&heads: &u32| heads as usize >= config.group();
        let least = padded_groups(Machine::Base, dim).into_iter().find(wide_enough);
        for machine in [Machine::Sm90a, Machine::Base] {
            let padded = padded_groups(machine, dim).into_iter().filter(wide_enough);
            // A kernel for Hopper does not make up for columns that pad groups more.
            for heads in padded.filter(|&heads| machine == Machine::Base || Some(heads) == least) {
                let cut = Cut::of(machine, config.shape.dim, heads as usize);
                let Some(queue_capacity) = queue_capacity_within(config, cut.tokens, cut.shared_memory - cut.bytes)
                else {
                    continue;
                };
                let shared = cut.bytes + cut.tokens * queue_capacity * SALA_QUEUE_ENTRY as usize;
                let tile = Tile {
                    tokens: cut.tokens,
                    queue_capacity,
                };
                let values = [dim, heads];
                let element = Some(config.dtype);
                variants.push(Variant::of(
                    machine,
                    KERNEL,
                    element,
                    &values,
                    cut.threads,
                    shared,
                    tile,
                )?);
            }
        }
        Ok(Self {
            variants,
            split: split::Plan::new(config)?,
        })
    }

    /// Whether lists take more blocks by score than a queue has room for, so that prompts too are taken apart, a few tokens at a time.
    fn is_always_split(&self) -> bool {
        !self.variants.iter().any(|variant| variant.machine == Machine::Base)
    }
}

/// What a block of a machine's kernel takes, for groups padded to some number of heads.
struct Cut {
    /// Query tokens.
    tokens: usize,
    threads: usize,
    /// Of shared memory: what lies before the queues, and all that there is.
    bytes: usize,
    shared_memory: usize,
}

impl Cut {
    fn of(machine: Machine, dim: usize, heads: usize) -> Self {
        match machine {
            Machine::Sm90a => {
                let groups = SALA_SELECT_GROUPS as usize;
                let group_tokens = SALA_SELECT_GROUP_COLUMNS as usize / heads;
                Self {
                    tokens: groups * group_tokens,
                    threads: (groups + 1) * 128,
                    bytes: hopper_plan_bytes(dim, group_tokens),
                    shared_memory: HOPPER_SHARED_MEMORY,
                }
            }
            _ => Self {
                tokens: SALA_SELECT_WARPS as usize * (SALA_SELECT_COLUMNS as usize / heads).max(1),
                threads: SALA_SELECT_WARPS as usize * 32,
                bytes: ring_bytes(dim),
                shared_memory: SHARED_MEMORY,
            },
        }
    }
}

/// The columns that kernels of a machine pad the heads of a group to, in order.
fn padded_groups(machine: Machine, dim: u32) -> Vec<u32> {
    let files = shapes::KERNELS
        .iter()
        .filter(|file| file.name == KERNEL && file.machine == machine);
    let of_dim = files
        .flat_map(KernelFile::instances)
        .filter(|instance| instance.values[0] == dim);
    let heads: BTreeSet<_> = of_dim.map(|instance| instance.values[1]).collect();
    Vec::from_iter(heads)
}

/// The part of `SelectPlan<dim>` before the queues: the steps of compressed keys in shared memory, and two barriers for each.
const fn ring_bytes(dim: usize) -> usize {
    SALA_SELECT_STAGES as usize * (SALA_SELECT_STEP as usize * dim * 2 + 2 * 8)
}

/// The part of `GroupPlan<dim, heads>` before the queues: steps of compressed keys and the columns of Q; m and Z of
/// columns, of eight sums of pieces and in the end, and bounds; a list, a factor and two buffers of scores for each token; barriers. Rounded up to
/// its alignment.
const fn hopper_plan_bytes(dim: usize, group_tokens: usize) -> usize {
    let rows = (SALA_SELECT_GROUP_STAGES * SALA_SELECT_GROUP_STEP) as usize;
    let columns = SALA_SELECT_GROUP_COLUMNS as usize;
    let token = 32 + 4 + 2 * SALA_SELECT_SCORE_STRIDE as usize * 8;
    let group = columns * (dim * 2 + (8 + 1) * 8 + 2 * 4) + group_tokens * token + 3 * 8;
    let bytes = rows * dim * 2 + SALA_SELECT_GROUPS as usize * group + SALA_SELECT_GROUP_STAGES as usize * 2 * 8;
    bytes.next_multiple_of(1024)
}

/// Entries of a token's queue where `tokens` of them share what `used` bytes leave of a block's shared memory on every GPU.
pub(super) fn queue_capacity(config: &Config, tokens: usize, used: usize) -> Option<usize> {
    queue_capacity_within(config, tokens, SHARED_MEMORY - used)
}

/// Entries of a token's queue where `tokens` of them share so many bytes: a multiple of a batch, and about twice what it keeps if there is
/// room. None if not even one batch would fit beside what a queue keeps.
fn queue_capacity_within(config: &Config, tokens: usize, bytes: usize) -> Option<usize> {
    const BATCH: usize = SALA_QUEUE_BATCH as usize;
    // How many blocks a list takes by their scores; the layer's builder has checked that it is not negative.
    let kept = config.topk - config.init_blocks - 1;
    let room = bytes / tokens / SALA_QUEUE_ENTRY as usize / BATCH * BATCH;
    let capacity = (kept + kept.max(64)).next_multiple_of(BATCH).min(room);
    (capacity >= kept + BATCH).then_some(capacity)
}

/// Checks the lists that selection writes, and gives what kernels are told of them and of the blocks that belong to every list.
pub(super) fn lists(
    config: &Config,
    indices: &TensorMut<'_>,
    total_q: usize,
    queue_capacity: usize,
) -> Result<sala_block_lists> {
    let shape = [total_q, config.shape.heads_kv, config.list_len()];
    Ok(sala_block_lists {
        indices: checks::numbers("block_indices", &indices.as_tensor(), DType::I32, &shape)?,
        list_len: config.list_len() as i32,
        block_size: config.block_size as i32,
        init_blocks: config.init_blocks as i32,
        local_blocks: config.local_blocks as i32,
        queue_capacity: queue_capacity as i32,
        block_shift: config.block_size.trailing_zeros() as i32,
    })
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for SelectBlocksArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k1,
            k2,
            compressed,
            sequences,
            switch_len,
            block_indices,
            entry: _,
            parent,
            scale_factor,
            scores,
            workspace,
            status,
        } = self;
        Views::new()
            .read("q", *q)
            .read("k1", *k1)
            .read("k2", *k2)
            .compressed(compressed)
            .sequences(sequences)
            .switch_len(switch_len)
            .written("block_indices", block_indices)
            .read("parent", *parent)
            .read("scale_factor", *scale_factor)
            .written("scores", scores)
            .written("workspace", workspace)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let plan = &layer.plans.select;
        let params = self.params(&layer.config)?;
        let trees = sala_trees::of(self.parent, self.entry, &params.sequences)?;
        let workspace = Workspace::new(self.workspace.as_ref())?;
        let queries = params.sequences.max_seqlen_q as usize;
        let has_trees = trees.parent != 0;
        if has_trees && queries > split::TOKENS {
            let expected = format_args!("at most {} (of trees; absent, it is the rows of q)", split::TOKENS);
            return Err(Error::argument("max_seqlen_q", expected, queries));
        }
        let split = if has_trees || plan.is_always_split() {
            Split::of_any_call(&layer.config, &params, workspace.bytes)?
        } else if self.entry == Entry::Decode && queries <= split::TOKENS {
            Split::of_call(&layer.config, &params, workspace.bytes)
        } else {
            None
        };
        if let Some(split) = split {
            let step = sala_select_split_params {
                select: params,
                trees,
                ..Default::default()
            };
            // SAFETY: the parameters describe the views, which were checked against the kernels' reads and writes; the workspace holds what the
            // split counts; the rest is the caller's promise.
            return unsafe { plan.split.queue(kernels, stream, step, split, workspace, &layer.config) };
        }
        if plan.is_always_split() {
            return Ok(());
        }
        let variant = kernels.pick(&plan.variants, |_| true)?;
        let tiles = queries.div_ceil(variant.tile.tokens);
        let grid = [tiles, layer.config.shape.heads_kv, params.sequences.batch as usize];
        let params = sala_select_blocks_params {
            lists: sala_block_lists {
                queue_capacity: variant.tile.queue_capacity as i32,
                ..params.lists
            },
            ..params
        };
        // SAFETY: as above.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl SelectBlocksArgs<'_> {
    /// How many keys the rows of K1 and K2 are enough for, where they are of the same keys.
    fn room(&self, config: &Config, k1: &KeyRows, k2: Option<&KeyRows>) -> Result<Room> {
        let page_size = k1.page_size().saturating_mul(config.k1_stride());
        let in_pages_of_keys = k1.is_paged() && self.compressed.is_none();
        let room = k1.compressed_room(config.k1_stride(), &self.compressed);
        if in_pages_of_keys {
            k1.fits_pages("k1", page_size, config.block_size, config.k1_stride())?;
        }
        let Some(k2) = k2 else { return Ok(room) };
        if in_pages_of_keys {
            k2.fits_pages("k2", page_size, config.block_size, config.k2_stride())?;
        }
        k2.has_stores_of("k2", k1, "k1")?;
        let other = k2.compressed_room(config.k2_stride(), &self.compressed);
        Ok(Room {
            capacity: room.capacity.min(other.capacity),
            longest: room.longest.min(other.longest),
            caches: room.caches,
        })
    }

    fn params(&self, config: &Config) -> Result<sala_select_blocks_params> {
        let Config { dtype, shape, lse, .. } = *config;
        checks::rank("q", &self.q, 3)?;
        let total_q = checks::first_axis(&self.q);
        let q = checks::rows("q", &self.q, dtype, &[total_q, shape.heads_q, shape.dim])?;
        let batch = self.sequences.batch()?;
        let rows = |name, tensor: &Tensor<'_>| {
            let heads = [shape.heads_kv, shape.dim];
            let keys = self.sequences.keys;
            keys.compressed_rows(name, tensor, &self.compressed, dtype, batch, heads)
        };
        let k1 = rows("k1", &self.k1)?;
        let k2 = match (self.k2, lse) {
            (Some(k2), _) => Some(rows("k2", &k2)?),
            (None, Lse::Exact) => None,
            (None, Lse::Coarse) => {
                let expected = "a tensor (the scores are normalised by it)";
                return Err(Error::argument("k2", expected, "none"));
            }
        };
        let sequences = self.sequences.params(total_q, self.room(config, &k1, k2.as_ref())?)?;
        let scores = self.scores.as_ref().map(TensorMut::as_tensor);
        let score_blocks = scores.as_ref().map_or(0, checks::last_axis);
        Ok(sala_select_blocks_params {
            sequences: sequences.with_dense_len(config.dense_len, &self.switch_len)?,
            lists: lists(config, &self.block_indices, total_q, 0)?,
            q,
            scores: checks::optional(scores, |scores| {
                checks::numbers("scores", scores, DType::F32, &[total_q, shape.heads_kv, score_blocks])
            })?,
            k1: k1.rows,
            k2: k2.unwrap_or_default().rows,
            scale_factor: checks::optional(self.scale_factor, |factor| {
                checks::list("scale_factor", factor, DType::F32, total_q)
            })?,
            status: checks::status(self.status.as_ref())?,
            scale: config.scale,
            group: config.group() as i32,
            score_blocks: checks::saturate(score_blocks),
            exact_lse: i32::from(lse == Lse::Exact),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttentionShape;

    fn layer(heads_q: usize, dim: usize, topk: usize) -> Result<SparseLayer> {
        let shape = AttentionShape {
            heads_q,
            heads_kv: 1,
            dim,
        };
        SparseLayer::builder(DType::F16, shape, 0).topk(topk).build()
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
            for variant in layer(group, dim, topk).unwrap().plans.select.variants {
                let room = Cut::of(variant.machine, dim, 8).shared_memory;
                assert!(variant.shared as usize <= room, "{group} {dim} {topk}");
                assert!(variant.tile.queue_capacity >= topk - 2 + SALA_QUEUE_BATCH as usize);
            }
        }
    }

    #[test]
    fn hopper_has_kernels_that_pad_no_more() {
        for (group, dim, tokens) in [
            (1, 128, Some(32)),
            (4, 64, None),
            (5, 64, Some(32)),
            (8, 128, Some(32)),
            (12, 128, Some(16)),
            (32, 64, Some(8)),
            (33, 128, None),
        ] {
            let variants = layer(group, dim, 64).unwrap().plans.select.variants;
            let hopper = variants.iter().filter(|variant| variant.machine == Machine::Sm90a);
            let found: Vec<_> = hopper.map(|variant| variant.tile.tokens).collect();
            assert_eq!(found, Vec::from_iter(tokens), "{group}");
            assert_eq!(variants[0].machine == Machine::Sm90a, tokens.is_some(), "{group}");
        }
        let long = layer(16, 128, 400).unwrap().plans.select.variants;
        assert_eq!(long[0].machine, Machine::Base, "queues are too long for as many tokens");
    }

    #[test]
    fn long_lists_take_a_kernel_with_fewer_tokens_per_block() {
        let tokens = |topk| {
            let variants = layer(4, 128, topk).unwrap().plans.select.variants;
            let base = variants.iter().find(|variant| variant.machine == Machine::Base);
            base.unwrap().tile.tokens
        };
        assert_eq!((tokens(64), tokens(200), tokens(400)), (32, 16, 8));
        let longest = layer(4, 128, 770).unwrap();
        assert!(!longest.plans.select.is_always_split());
        assert_eq!(longest.workspace_size(Entry::Prefill, 1, 100, 1 << 20, None), 0);
        let longer = layer(4, 128, 771).unwrap();
        assert!(longer.plans.select.is_always_split());
        let size = |entry| longer.workspace_size(entry, 3, 100, 1 << 20, None);
        assert_eq!(
            size(Entry::Prefill),
            3 * 16 * (128 * 8 * 8 + 16_384 * 4),
            "of sixteen tokens"
        );
    }
}
