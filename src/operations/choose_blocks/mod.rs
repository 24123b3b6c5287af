//! Block selection by given scores.

use super::keys::Room;
use super::select_blocks::{RADIX_BYTES, lists, queue_capacity};
use super::sparse_layer::Config;
use super::{Sequences, SparseLayer, SwitchLen};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_CHOOSE_WARPS, SALA_QUEUE_ENTRY, SALA_SELECT_LIST_WARPS, sala_choose_blocks_params};
use crate::{DType, Result, Stream, Tensor, TensorMut};

/// Block selection by scores that the caller has, such as sums over ranks that hold different query heads of a group.
///
/// A token takes the first `init_blocks` blocks, its own and the `local_blocks` before it, and of the others those with the highest scores,
/// equal ones in favour of the lower index: the rule of [`SelectBlocksArgs`](crate::SelectBlocksArgs).
/// [`crate::reference::select_blocks::select_blocks`] is the definition.
///
/// What is refused: [`semantics`](crate::semantics#choose_blocks).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says, or `switch_len`, as in [`SelectBlocksArgs`](crate::SelectBlocksArgs).
///
/// # Example
/// ```
/// use sala_kernels::{
///     AttentionShape, ChooseBlocksArgs, DType, Device, Kernels, Keys, Sequences, SparseLayer, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).topk(3).local_blocks(0).build()?;
/// let scores = [0.1f32, 0.2, 0.4, 0.3, 0.0]; // Of a token in block 4: the first block and its own are taken anyway.
/// let keys = Keys::cached(Tensor::from_slice(&[320], &[1])?);
/// let mut list = [0; 3];
/// let args = ChooseBlocksArgs::new(
///     Tensor::from_slice(&scores, &[1, 1, 5])?,
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
pub struct ChooseBlocksArgs<'a> {
    /// Scores `[total_q, heads_kv, blocks]` f32; a NaN counts as −∞. Sequences of more than `blocks` blocks are refused and counted.
    pub scores: Tensor<'a>,
    /// How rows and keys are cut into sequences. There are no keys to bound their number but the scores.
    pub sequences: Sequences<'a>,
    /// Which sequences are attended densely, so that their lists are empty.
    pub switch_len: Option<SwitchLen<'a>>,
    /// The lists, as in [`SelectBlocksArgs::block_indices`](crate::SelectBlocksArgs::block_indices).
    pub block_indices: TensorMut<'a>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> ChooseBlocksArgs<'a> {
    /// The choice by `scores`. `switch_len` is a choice if the layer has a `dense_len`, and `None` if it has none.
    pub fn new(
        scores: Tensor<'a>,
        sequences: Sequences<'a>,
        switch_len: Option<SwitchLen<'a>>,
        block_indices: TensorMut<'a>,
    ) -> Self {
        Self {
            scores,
            sequences,
            switch_len,
            block_indices,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// With how lists are filled.
    variants: Vec<Variant<sala_choose_blocks_params, Fill>>,
}

/// How a kernel fills lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fill {
    /// Query tokens of a block.
    tokens: usize,
    /// Entries of a token's queue, where it has one.
    queue_capacity: usize,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let warps = SALA_CHOOSE_WARPS as usize;
        let variant = match queue_capacity(config, warps, 0) {
            Some(queue_capacity) => {
                let fill = Fill {
                    tokens: warps,
                    queue_capacity,
                };
                let shared = warps * queue_capacity * SALA_QUEUE_ENTRY as usize;
                Variant::base("choose_blocks", None, &[], warps * 32, shared, fill)?
            }
            // Lists that no queue has room for.
            None => {
                let fill = Fill {
                    tokens: 1,
                    queue_capacity: 0,
                };
                let threads = SALA_SELECT_LIST_WARPS as usize * 32;
                Variant::base("choose_blocks_long", None, &[], threads, RADIX_BYTES, fill)?
            }
        };
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for ChooseBlocksArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            scores,
            sequences,
            switch_len,
            block_indices,
            status,
        } = self;
        Views::new()
            .read("scores", *scores)
            .sequences(sequences)
            .switch_len(switch_len)
            .written("block_indices", block_indices)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let heads_kv = config.shape.heads_kv;
        let variant = kernels.pick(&layer.plans.choose.variants, |_| true)?;
        checks::rank("scores", &self.scores, 3)?;
        let (total_q, blocks) = (checks::first_axis(&self.scores), checks::last_axis(&self.scores));
        let scored = Room {
            longest: blocks.saturating_mul(config.block_size),
            ..Room::ANY
        };
        let sequences = self
            .sequences
            .params(total_q, scored)?
            .with_dense_len(config.dense_len, &self.switch_len)?;
        let params = sala_choose_blocks_params {
            sequences,
            lists: lists(config, &self.block_indices, total_q, variant.tile.queue_capacity)?,
            scores: checks::numbers("scores", &self.scores, DType::F32, &[total_q, heads_kv, blocks])?,
            status: checks::status(self.status.as_ref())?,
        };
        let tiles = (sequences.max_seqlen_q as usize).div_ceil(variant.tile.tokens);
        let grid = [tiles, heads_kv, sequences.batch as usize];
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}
