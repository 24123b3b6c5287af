//! Attention of a few query tokens: their keys are cut into pieces, a block takes each, and a second launch merges them.

use super::launch::Tiling;
use crate::launch::{Kernels, Variant};
use crate::operations::sparse_layer::Config;
use crate::operations::workspace::Workspace;
use crate::operations::{SparseLayer, select_blocks};
use crate::sys::params::{
    SALA_ATTENTION_WARP_ROWS, SALA_DECODE_MAX_PIECES, SALA_DECODE_MAX_QUERIES, SALA_DECODE_PIECE_KEYS,
    SALA_DECODE_WARPS, sala_sparse_attention_decode_params, sala_sparse_attention_params,
};
use crate::{Entry, Error, Result, Stream, TensorMut};

const WARPS: usize = SALA_DECODE_WARPS as usize;
const MAX_QUERIES: usize = SALA_DECODE_MAX_QUERIES as usize;
const PIECE_KEYS: usize = SALA_DECODE_PIECE_KEYS as usize;
const MAX_PIECES: usize = SALA_DECODE_MAX_PIECES as usize;

/// Bytes of workspace for a piece's softmax, and for the number of pieces of a kv head.
const SOFTMAX_BYTES: usize = 2 * size_of::<f32>();
const COUNT_BYTES: usize = size_of::<i32>();

/// The two kernels of a decode step.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pieces: Vec<Variant<sala_sparse_attention_decode_params>>,
    merge: Vec<Variant<sala_sparse_attention_decode_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config, dim: u32) -> Result<Self> {
        let variant = |kernel, threads, shared| Variant::base(kernel, Some(config.dtype), &[dim], threads, shared, ());
        // `sizeof(DecodePlan<dim>)`: K of all keys, V of half of them, a number for each row and warp, three sums and a block for each warp.
        let keys = PIECE_KEYS * config.shape.dim * 2;
        let shared = keys + keys / 2 + SALA_ATTENTION_WARP_ROWS as usize * WARPS * 4 + WARPS * (3 + 1) * 4;
        // `sizeof(MergePlan<dim>)`: sums of all warps but the first, a weight for each piece, two numbers for each warp.
        let merged = (MAX_PIECES / 32 - 1) * config.shape.dim * 4 + MAX_PIECES * 4 + MAX_PIECES / 32 * 8;
        Ok(Self {
            pieces: vec![variant("sparse_attention_decode", WARPS * 32, shared)?],
            merge: vec![variant("sparse_attention_merge", MAX_PIECES, merged)?],
        })
    }

    /// Queues both launches, which the stream orders.
    ///
    /// # Safety
    /// As [`Kernels::queue`].
    pub(super) unsafe fn queue(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        config: &Config,
        tiling: Tiling,
        step: sala_sparse_attention_decode_params,
        workspace: Option<&TensorMut<'_>>,
    ) -> Result<()> {
        let bounds = Bounds::of_call(config, &step.attention)?;
        let layouts = [step.trees.parent != 0, true].map(|is_tree| bounds.layout(config, is_tree));
        let [Some(layout), Some(room)] = layouts else {
            let what = format!(
                "a decode step of {} sequences of up to {} tokens",
                bounds.batch, bounds.queries
            );
            return Err(Error::unsupported(
                what,
                "its workspace would be larger than memory can be",
            ));
        };
        // A workspace serves chains and trees, which have a piece more.
        let address = Workspace::with_room(workspace, room.bytes, "SparseLayer::workspace_size")?.address;
        let params = sala_sparse_attention_decode_params {
            partials: address,
            softmaxes: address + layout.softmaxes as u64,
            counts: address + layout.counts as u64,
            pieces: layout.pieces as i32,
            ..step
        };
        let Bounds { batch, queries, .. } = bounds;
        let [heads_q, heads_kv] = [config.shape.heads_q, config.shape.heads_kv];
        let pieces = kernels.pick(&self.pieces, |()| true)?;
        let merge = kernels.pick(&self.merge, |()| true)?;
        let blocks = queries * tiling.warps_per_token * layout.pieces;
        // SAFETY: the workspace has room for what the layout says; the rest is the caller's promise.
        unsafe {
            kernels.queue(stream, pieces, [blocks, heads_kv, batch], &params)?;
            kernels.queue(stream, merge, [heads_q, queries, batch], &params)
        }
    }
}

/// The bounds of a call that its launches and its workspace follow from.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    batch: usize,
    queries: usize,
    keys: usize,
    /// Entries of a list; none: all sequences are dense.
    list_len: Option<usize>,
    /// Lengths of their own decide which sequences are dense, so that one of any length may be.
    has_switch_len: bool,
}

impl Bounds {
    fn of_call(config: &Config, params: &sala_sparse_attention_params) -> Result<Self> {
        let sequences = params.sequences;
        let queries = sequences.max_seqlen_q as usize;
        if queries > MAX_QUERIES {
            let expected = format!("at most {MAX_QUERIES} (entry decode; absent, it is the rows of q)");
            return Err(Error::argument("max_seqlen_q", expected, queries));
        }
        Ok(Self {
            batch: sequences.batch as usize,
            queries,
            keys: sequences.keys.max_seqlen as usize,
            list_len: (params.all_dense == 0).then_some(params.list_len as usize),
            has_switch_len: sequences.switch_len != 0 && config.dense_len > 0,
        })
    }

    /// The most pieces that the keys of a chain's token are cut into, at least one.
    fn pieces(&self, config: &Config) -> usize {
        let dense = match self.list_len {
            Some(_) if config.dense_len == 0 => 0,
            Some(_) if !self.has_switch_len => self.keys.min(config.dense_len - 1),
            _ => self.keys,
        };
        let listed = self
            .list_len
            .map_or(0, |entries| entries.saturating_mul(config.block_size));
        let keys = listed.min(self.keys.next_multiple_of(config.block_size)).max(dense);
        keys.div_ceil(PIECE_KEYS).clamp(1, MAX_PIECES)
    }

    /// `None` where it does not fit any memory. The drafts of a tree are one more piece, of no more in all.
    fn layout(&self, config: &Config, is_tree: bool) -> Option<Layout> {
        let rows = self.batch.checked_mul(self.queries)?;
        let pieces = (self.pieces(config) + usize::from(is_tree)).min(MAX_PIECES);
        let parts = rows.checked_mul(config.shape.heads_q)?.checked_mul(pieces)?;
        let out = parts.checked_mul(config.shape.dim * size_of::<f32>())?;
        let softmaxes = parts.checked_mul(SOFTMAX_BYTES)?;
        let counts = rows.checked_mul(config.shape.heads_kv * COUNT_BYTES)?;
        let bytes = out.checked_add(softmaxes)?.checked_add(counts)?;
        Some(Layout {
            pieces,
            softmaxes: out,
            counts: out + softmaxes,
            bytes,
        })
    }
}

/// What lies where in a workspace: O of all pieces, their softmaxes, how many pieces there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    /// Of each row and head.
    pieces: usize,
    softmaxes: usize,
    counts: usize,
    bytes: usize,
}

impl SparseLayer {
    /// Bytes of workspace that serve selection and attention of an entry: of `batch` sequences of at most `max_seqlen_q` queries and `max_seqlen_k` keys. With
    /// `list_len` those over lists of that many entries, with [`SwitchLen::Keys`](crate::SwitchLen::Keys) or no choice; without it every call.
    ///
    /// [`Entry::Prefill`] takes none, but for a selection of lists that take more than 768 blocks by score (1152 at 64 channels). For [`Entry::Decode`] it is 16.3 KiB for each query token and 256 of its keys at 32 heads of 128 channels, and
    /// as much for its drafts, at most 2.1 MB for each.
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
            queries: max_seqlen_q,
            keys: max_seqlen_k,
            list_len,
            has_switch_len: false,
        };
        let attention = match entry {
            Entry::Prefill => 0,
            Entry::Decode => {
                let layout = bounds.layout(&self.config, true);
                layout.map_or(usize::MAX, |layout| layout.bytes)
            }
        };
        attention.max(select_blocks::workspace_size(
            self,
            entry,
            batch,
            max_seqlen_q,
            max_seqlen_k,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttentionShape, DType};

    fn layer(dense_len: usize) -> SparseLayer {
        let shape = AttentionShape {
            heads_q: 32,
            heads_kv: 2,
            dim: 128,
        };
        SparseLayer::builder(DType::Bf16, shape, dense_len).build().unwrap()
    }

    #[test]
    fn there_is_a_block_for_every_piece() {
        let pieces = |dense_len, keys, list_len, has_switch_len| {
            let bounds = Bounds {
                batch: 1,
                queries: 1,
                keys,
                list_len,
                has_switch_len,
            };
            bounds.pieces(&layer(dense_len).config)
        };
        assert_eq!(pieces(0, 1 << 20, Some(96), false), 24);
        assert_eq!(
            pieces(8192, 1 << 20, Some(96), false),
            32,
            "as many as a dense sequence has"
        );
        assert_eq!(pieces(8192, 1 << 20, Some(96), true), 128, "which may be of any length");
        assert_eq!(pieces(0, 1000, Some(96), false), 4, "no more than there are keys");
        assert_eq!(pieces(0, 1000, Some(0), false), 1, "which gives the outputs");
        assert_eq!(pieces(0, 0, None, false), 1);
        assert_eq!(pieces(0, 32768, None, false), 128);
        assert_eq!(pieces(0, 1 << 20, None, false), 128);
    }

    #[test]
    fn workspace_is_counted_for_decode_alone() {
        let layer = layer(0);
        let size = |entry, batch, queries| layer.workspace_size(entry, batch, queries, 1 << 20, Some(96));
        let token = (24 + 1) * 32 * (128 * 4 + 8) + 2 * 4;
        assert_eq!(size(Entry::Decode, 1, 1), token);
        assert_eq!(size(Entry::Decode, 3, 4), 12 * token);
        assert_eq!(size(Entry::Decode, 0, 1), 0);
        assert_eq!(size(Entry::Prefill, 1, 1), 0);
        assert_eq!(
            size(Entry::Decode, usize::MAX, 1),
            usize::MAX,
            "which there is no memory for"
        );
        assert!(layer.workspace_size(Entry::Decode, 1, 1, 1 << 20, None) <= 2_200_000);
    }

    #[test]
    fn blocks_fit_every_base_architecture() {
        let plan = layer(0).plans.attend;
        let decode = plan.decode.pieces.iter().map(|variant| variant.shared);
        let listed = plan.listed.last().map(|variant| variant.shared);
        let dense = plan.dense.last().map(|variant| variant.shared);
        assert!(decode.chain(listed).chain(dense).max().unwrap() <= 99 * 1024);
    }
}
