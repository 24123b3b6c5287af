//! Attention of a few query tokens, split over more blocks than there are tiles of them.

use super::launch::{SETS_BYTES, Tiling, step_bytes};
use crate::launch::{Kernels, Variant, checks};
use crate::operations::sparse_layer::Config;
use crate::operations::{SparseLayer, select_blocks};
use crate::sys::params::{
    SALA_ATTENTION_SCORES_WARPS, SALA_ATTENTION_SET_WORDS, SALA_ATTENTION_STEP, SALA_ATTENTION_VALUES_COLUMNS,
    SALA_ATTENTION_VALUES_WARPS, SALA_ATTENTION_WARP_ROWS, SALA_ATTENTION_WORD_KEYS, sala_sparse_attention_params,
    sala_sparse_attention_split_params,
};
use crate::{Entry, Result, Stream, TensorMut};

const STEP: usize = SALA_ATTENTION_STEP as usize;
const WARP_ROWS: usize = SALA_ATTENTION_WARP_ROWS as usize;
/// Steps of a round of the values kernel.
const ROUND: usize = SALA_ATTENTION_VALUES_WARPS as usize;
const VALUES_COLUMNS: usize = SALA_ATTENTION_VALUES_COLUMNS as usize;

/// Bytes of workspace for a step of sixteen rows: scores, maxima, the step.
const SCORES_BYTES: usize = WARP_ROWS * STEP * 4;
const MAXIMA_BYTES: usize = WARP_ROWS * 4;
const STEP_BYTES: usize = 4;

/// The two kernels of a split call.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) scores: Vec<Variant<sala_sparse_attention_split_params>>,
    values: Vec<Variant<sala_sparse_attention_split_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config, dim: u32) -> Result<Self> {
        let element = Some(config.dtype);
        let warps = SALA_ATTENTION_SCORES_WARPS as usize;
        // `sizeof(ScoresPlan<dim>)`: K of a step per warp, and the sets.
        let shared = warps * step_bytes(config.shape.dim) + SETS_BYTES;
        let scores = Variant::base("sparse_attention_scores", element, &[dim], warps * 32, shared, ())?;
        // `sizeof(ValuesPlan)`: two stages of V, the weights of a round as fragments, and their sums.
        let shared = 2 * ROUND * step_bytes(VALUES_COLUMNS) + ROUND * STEP * WARP_ROWS * 2 + ROUND * 2 * 32 * 4;
        let values = Variant::base("sparse_attention_values", element, &[], ROUND * 32, shared, ())?;
        Ok(Self {
            scores: vec![scores],
            values: vec![values],
        })
    }

    /// Queues both launches, which the stream orders.
    ///
    /// # Safety
    /// As [`Kernels::queue`]; the workspace has room for the split.
    pub(super) unsafe fn queue(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        attention: sala_sparse_attention_params,
        split: Split,
        workspace: Workspace,
        config: &Config,
    ) -> Result<()> {
        let steps_of_call = split.rows * split.places;
        let maxima = workspace.address + (steps_of_call * SCORES_BYTES) as u64;
        let steps = maxima + (steps_of_call * MAXIMA_BYTES) as u64;
        let params = sala_sparse_attention_split_params {
            attention,
            scores: workspace.address,
            maxima,
            steps,
            row_groups: split.row_groups as i32,
            places: split.places as i32,
        };
        let rows = config.shape.heads_kv * split.row_groups;
        let batch = attention.sequences.batch as usize;
        let scores_blocks = split.places / SALA_ATTENTION_SCORES_WARPS as usize;
        let values_blocks = config.shape.dim / VALUES_COLUMNS;
        let scores = kernels.pick(&self.scores, |()| true)?;
        let values = kernels.pick(&self.values, |()| true)?;
        // SAFETY: the caller's promise.
        unsafe {
            kernels.queue(stream, scores, [scores_blocks, rows, batch], &params)?;
            kernels.queue(stream, values, [values_blocks, rows, batch], &params)
        }
    }
}

/// The workspace of a call; no bytes if there is none.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::operations) struct Workspace {
    pub(in crate::operations) address: u64,
    pub(in crate::operations) bytes: u64,
}

impl Workspace {
    pub(in crate::operations) fn new(workspace: Option<&TensorMut<'_>>) -> Result<Self> {
        checks::optional(workspace.map(TensorMut::as_tensor), |workspace| {
            checks::rank("workspace", workspace, 1)?;
            checks::last_axis_contiguous("workspace", workspace)?;
            checks::rows_aligned("workspace", workspace)?;
            Ok(Self {
                address: workspace.address(),
                bytes: workspace.extent(),
            })
        })
    }
}

/// How the rows of a call are split over blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// Groups of sixteen rows of one sequence and kv head.
    row_groups: usize,
    /// Steps of keys that a row group may take.
    places: usize,
    /// Row groups of the call.
    rows: usize,
}

/// The bounds of a call that its split follows from.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    batch: usize,
    max_queries: usize,
    max_keys: usize,
    /// Entries of a list; none: all sequences are dense.
    list_len: Option<usize>,
    /// Lengths of their own decide which sequences are dense, so that one of any length may be.
    has_switch_len: bool,
}

impl Split {
    /// How a call is split, if it can be and the workspace has room for it.
    pub(super) fn of_call(
        config: &Config,
        tiling: Tiling,
        params: &sala_sparse_attention_params,
        workspace: u64,
    ) -> Option<Self> {
        let sequences = params.sequences;
        let bounds = Bounds {
            batch: sequences.batch as usize,
            max_queries: sequences.max_seqlen_q as usize,
            max_keys: sequences.keys.max_seqlen as usize,
            list_len: (params.all_dense == 0).then_some(params.list_len as usize),
            has_switch_len: sequences.switch_len != 0,
        };
        let split = Self::of(config, tiling, bounds)?;
        split.bytes().filter(|&bytes| bytes as u64 <= workspace)?;
        Some(split)
    }

    /// How a call of these bounds is split. None where it has nothing to split, or where the kernels could not hold a sequence's sets or grid.
    fn of(config: &Config, tiling: Tiling, bounds: Bounds) -> Option<Self> {
        let Bounds {
            batch,
            max_queries,
            max_keys,
            list_len,
            has_switch_len,
        } = bounds;
        let Tiling {
            tokens_per_warp,
            warps_per_token,
            ..
        } = tiling;
        let heads_kv = config.shape.heads_kv;
        let row_groups = max_queries.div_ceil(tokens_per_warp).checked_mul(warps_per_token)?;
        let steps = max_keys.div_ceil(STEP);
        // The lists of a row group name at most so many steps.
        let listed = list_len.map_or(0, |entries| {
            entries * tokens_per_warp * (config.block_size / STEP).max(1)
        });
        let dense = match list_len {
            Some(_) if config.dense_len == 0 => 0,
            Some(_) if !has_switch_len => steps.min((config.dense_len - 1).div_ceil(STEP)),
            _ => steps,
        };
        let places = steps.min(listed).max(dense).next_multiple_of(ROUND);
        let window = max_keys.div_ceil(SALA_ATTENTION_WORD_KEYS as usize);
        let fits = window <= SALA_ATTENTION_SET_WORDS as usize / (tokens_per_warp + 1)
            && row_groups.checked_mul(heads_kv)? <= checks::MAX_GRID
            && places <= i32::MAX as usize;
        let rows = batch.checked_mul(heads_kv)?.checked_mul(row_groups)?;
        (fits && places > 0 && rows > 0).then_some(Self {
            row_groups,
            places,
            rows,
        })
    }

    /// Bytes of workspace.
    fn bytes(&self) -> Option<usize> {
        const PLACE_BYTES: usize = SCORES_BYTES + MAXIMA_BYTES + STEP_BYTES;
        self.rows.checked_mul(self.places)?.checked_mul(PLACE_BYTES)
    }
}

impl SparseLayer {
    /// Bytes of workspace that serve selection and attention of an entry: `batch` sequences of at most `max_seqlen_q` queries and `max_seqlen_k` keys. With
    /// `list_len` those over lists of that many entries, with [`SwitchLen::Keys`](crate::SwitchLen::Keys) or no choice; without it every call.
    ///
    /// For one token per sequence [`Entry::Decode`] takes 4 KiB for each step of 64 keys and kv head, at groups of up to 16 query heads.
    /// [`Entry::Prefill`] takes none.
    pub fn workspace_size(
        &self,
        entry: Entry,
        batch: usize,
        max_seqlen_q: usize,
        max_seqlen_k: usize,
        list_len: Option<usize>,
    ) -> usize {
        let bounds = Bounds {
            batch,
            max_queries: max_seqlen_q,
            max_keys: max_seqlen_k,
            list_len,
            has_switch_len: false,
        };
        match entry {
            Entry::Prefill => 0,
            Entry::Decode => Split::of(&self.config, self.plans.attend.tiling, bounds)
                .and_then(|split| split.bytes())
                .unwrap_or(0)
                .max(select_blocks::workspace_size(self, batch, max_seqlen_q, max_seqlen_k)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttentionShape, DType};

    fn layer(group: usize, dense_len: usize) -> SparseLayer {
        let shape = AttentionShape {
            heads_q: 2 * group,
            heads_kv: 2,
            dim: 128,
        };
        SparseLayer::builder(DType::Bf16, shape, dense_len).build().unwrap()
    }

    fn split(layer: &SparseLayer, batch: usize, queries: usize, keys: usize, list_len: Option<usize>) -> Option<Split> {
        let bounds = Bounds {
            batch,
            max_queries: queries,
            max_keys: keys,
            list_len,
            has_switch_len: false,
        };
        Split::of(&layer.config, layer.plans.attend.tiling, bounds)
    }

    #[test]
    fn a_split_has_a_place_for_every_step() {
        let places = |layer, keys, list_len| split(&layer, 1, 1, keys, list_len).map_or(0, |split| split.places);
        let as_dense = places(layer(16, 8192), 1 << 20, Some(96));
        assert_eq!(as_dense, 128, "as many as a dense sequence has");
        assert_eq!(places(layer(16, 0), 1 << 20, Some(96)), 96);
        assert_eq!(places(layer(16, 0), 1000, Some(96)), 16, "no more than there are keys");
        let of_four = places(layer(4, 0), 1 << 20, Some(10));
        assert_eq!(of_four, 40, "a union of the lists of four tokens");
        assert_eq!(places(layer(16, 8192), 1 << 20, None), 1 << 14);
        let too_long = split(&layer(16, 0), 1, 1, 1 << 23, Some(96));
        assert_eq!(too_long, None, "more keys than the sets describe");
    }

    #[test]
    fn a_split_counts_row_groups() {
        let expected = |row_groups, rows| {
            Some(Split {
                row_groups,
                places: 8,
                rows,
            })
        };
        assert_eq!(split(&layer(16, 0), 3, 1, 6400, Some(8)), expected(1, 6));
        assert_eq!(split(&layer(64, 0), 1, 2, 6400, Some(8)), expected(8, 16));
    }

    #[test]
    fn workspace_is_counted_for_decode_alone() {
        let layer = layer(16, 0);
        let size = |entry, batch| layer.workspace_size(entry, batch, 1, 6400, Some(8));
        assert_eq!(size(Entry::Decode, 1), 2 * 8 * (4096 + 64 + 4));
        assert_eq!(size(Entry::Decode, 0), 0);
        assert_eq!(size(Entry::Prefill, 1), 0);
    }

    #[test]
    fn blocks_fit_every_base_architecture() {
        let plan = layer(16, 0).plans.attend;
        let split = plan.split.scores.iter().chain(&plan.split.values);
        let shared = plan
            .whole
            .iter()
            .map(|variant| variant.shared)
            .chain(split.map(|variant| variant.shared));
        assert!(shared.max().unwrap() <= 99 * 1024);
    }
}
