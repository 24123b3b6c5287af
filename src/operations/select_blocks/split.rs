//! Selection for few query tokens: a sequence's rows are taken apart over blocks, in three launches. Lists that no other kernel has room for are
//! filled so too, of as many query tokens at a time.

use crate::launch::{Kernels, Variant, checks};
use crate::operations::sparse_layer::Config;
use crate::operations::workspace::Workspace;
use crate::operations::{Entry, Lse, SparseLayer};
use crate::sys::params::{
    SALA_SELECT_BATCH, SALA_SELECT_BINS, SALA_SELECT_LIST_WARPS, SALA_SELECT_MASKS, SALA_SELECT_PIECE,
    SALA_SELECT_PIECE_BLOCKS, SALA_SELECT_PIECE_WARPS, sala_select_blocks_params, sala_select_split_params,
};
use crate::{Error, Result, Stream};

const PIECE: usize = SALA_SELECT_PIECE as usize;
const PIECE_BLOCKS: usize = SALA_SELECT_PIECE_BLOCKS as usize;
/// The most query tokens of a sequence that are taken at a time.
pub(super) const TOKENS: usize = 16;
/// Where more sequences would take a larger workspace than this, they are taken some at a time.
const MOST_BYTES: usize = 64 << 20;
/// Blocks that score: so many on each multiprocessor, of at most so many pieces each.
const BLOCKS_EACH: usize = 4;
const MOST_ROUNDS: usize = 4;
/// Heads of a product, and bytes of m and Z of one head.
const PRODUCT_HEADS: usize = 8;
const SUM_BYTES: usize = 2 * 4;
/// `sizeof(RadixPlan)`: a histogram and 32 words beside it, the candidates of a batch, masks, a count of each warp, two words for each 32 scores of a batch twice, a bin
/// and a count, padded to 16 bytes.
pub(in crate::operations) const RADIX_BYTES: usize = 4
    * (SALA_SELECT_BINS + SALA_SELECT_BATCH + SALA_SELECT_MASKS + SALA_SELECT_LIST_WARPS + SALA_SELECT_BATCH / 8 + 40)
        as usize;

/// The three kernels.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) sums: Vec<Variant<sala_select_split_params>>,
    pub(super) scores: Vec<Variant<sala_select_split_params>>,
    pub(super) lists: Vec<Variant<sala_select_split_params>>,
    /// Bytes of shared memory that each query token takes when scores are formed.
    token_bytes: usize,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let dim = checks::compiled_for("dim", "select_blocks_sums", "dim", config.shape.dim)?;
        let element = Some(config.dtype);
        let threads = SALA_SELECT_PIECE_WARPS as usize * 32;
        let rows = PIECE * config.shape.dim * 2;
        // m and Z of the heads, and P of the rows of two pieces.
        let token_bytes = heads_padded(config) * SUM_BYTES + 2 * PIECE * 4;
        let lists = SALA_SELECT_LIST_WARPS as usize * 32;
        Ok(Self {
            sums: vec![Variant::base("select_blocks_sums", element, &[dim], threads, rows, ())?],
            scores: vec![Variant::base(
                "select_blocks_scores",
                element,
                &[dim],
                threads,
                rows,
                (),
            )?],
            lists: vec![Variant::base("select_blocks_lists", None, &[], lists, RADIX_BYTES, ())?],
            token_bytes,
        })
    }

    /// Queues the three launches, which the stream orders.
    ///
    /// # Safety
    /// As [`Kernels::queue`]; the workspace has room for the split.
    pub(super) unsafe fn queue(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        step: sala_select_split_params,
        split: Split,
        workspace: Workspace,
        config: &Config,
    ) -> Result<()> {
        let heads_kv = config.shape.heads_kv;
        let select = &step.select;
        let [batch, queries] = [select.sequences.batch as usize, select.sequences.max_seqlen_q as usize];
        // Nothing is scored where every list has room for all blocks, unless scores are asked for.
        let is_scored = split.blocks > config.list_len() || select.scores.address != 0;
        let [pieces, score_pieces] = match is_scored {
            true => [split.pieces, split.blocks.div_ceil(PIECE_BLOCKS)],
            false => [0, 0],
        };
        let multiprocessors = kernels.device().multiprocessors() as usize;
        let sums = kernels.pick(&self.sums, |()| true)?;
        let mut scores = kernels.pick(&self.scores, |()| true)?.clone();
        scores.shared += (split.tokens * self.token_bytes) as u32;
        let lists = kernels.pick(&self.lists, |()| true)?;
        for first_token in (0..queries).step_by(split.tokens) {
            for first_sequence in (0..batch).step_by(split.sequences) {
                let sequences = split.sequences.min(batch - first_sequence);
                let score_blocks = score_blocks(score_pieces, heads_kv * sequences, multiprocessors);
                let params = sala_select_split_params {
                    sums: workspace.address,
                    block_scores: workspace.address + split.sum_bytes() as u64,
                    pieces: split.pieces as i32,
                    blocks: split.blocks as i32,
                    heads_padded: split.heads_padded as i32,
                    heads_kv: heads_kv as i32,
                    first_sequence: first_sequence as i32,
                    first_token: first_token as i32,
                    tokens: split.tokens as i32,
                    product_reciprocal: (1_usize << 16).div_ceil(split.heads_padded / PRODUCT_HEADS) as i32,
                    ..step
                };
                // SAFETY: the caller's promise.
                unsafe {
                    kernels.queue(stream, sums, [pieces, heads_kv, sequences], &params)?;
                    kernels.queue(stream, &scores, [score_blocks, heads_kv, sequences], &params)?;
                    kernels.queue(stream, lists, [split.tokens, heads_kv, sequences], &params)?;
                }
            }
        }
        Ok(())
    }
}

/// How many blocks score the pieces of each head. They share them, one after the other where a GPU would not hold a block for each: what a block finds
/// out about its sequence it then finds out once. The choice changes no bit of the result.
fn score_blocks(pieces: usize, heads: usize, multiprocessors: usize) -> usize {
    (BLOCKS_EACH * multiprocessors / heads.max(1)).clamp(pieces.div_ceil(MOST_ROUNDS), pieces)
}

/// The query heads of a kv head, padded to products.
fn heads_padded(config: &Config) -> usize {
    config.group().next_multiple_of(PRODUCT_HEADS)
}

/// How the rows of a call are taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// Sequences and query tokens of each that the workspace has room for at a time.
    sequences: usize,
    tokens: usize,
    heads_kv: usize,
    /// Pieces of the rows that make m and Z.
    pieces: usize,
    /// Blocks of keys.
    blocks: usize,
    heads_padded: usize,
}

impl Split {
    /// How a call is taken apart, if the workspace has room for it. One without query tokens is not.
    pub(super) fn of_call(config: &Config, params: &sala_select_blocks_params, workspace: u64) -> Option<Self> {
        let sequences = &params.sequences;
        let [batch, queries, keys] = [sequences.batch, sequences.max_seqlen_q, sequences.keys.max_seqlen];
        let split = Self::of(config, batch as usize, queries as usize, keys as usize)?;
        split.bytes().filter(|&bytes| bytes as u64 <= workspace)?;
        Some(split)
    }

    /// The same of a call that has to be taken apart.
    pub(super) fn of_any_call(
        config: &Config,
        params: &sala_select_blocks_params,
        workspace: u64,
    ) -> Result<Option<Self>> {
        match Self::of_call(config, params, workspace) {
            None if params.sequences.max_seqlen_q > 0 && params.sequences.batch > 0 => {
                let expected = "as many bytes as SparseLayer::workspace_size says";
                Err(Error::argument("workspace", expected, workspace))
            }
            split => Ok(split),
        }
    }

    /// How a call of so many sequences of at most so many query tokens and keys is taken apart. None where it has no query tokens.
    fn of(config: &Config, batch: usize, queries: usize, keys: usize) -> Option<Self> {
        let stride = match config.lse {
            Lse::Coarse => config.k2_stride(),
            Lse::Exact => config.k1_stride(),
        };
        if batch == 0 || queries == 0 {
            return None;
        }
        let split = Self {
            sequences: 1,
            tokens: queries.min(TOKENS),
            heads_kv: config.shape.heads_kv,
            // A window has two strides.
            pieces: (keys / stride).saturating_sub(1).div_ceil(PIECE),
            blocks: keys.div_ceil(config.block_size),
            heads_padded: heads_padded(config),
        };
        let sequences = match split.bytes() {
            Some(bytes) => MOST_BYTES.checked_div(bytes).unwrap_or(batch),
            None => 1,
        };
        Some(Self {
            sequences: sequences.clamp(1, batch),
            ..split
        })
    }

    /// Query tokens and kv heads that the workspace has room for.
    fn rows(&self) -> usize {
        self.sequences * self.tokens * self.heads_kv
    }

    fn sum_bytes(&self) -> usize {
        self.rows() * self.pieces * self.heads_padded * SUM_BYTES
    }

    /// Bytes of workspace.
    fn bytes(&self) -> Option<usize> {
        let sums = self.pieces.checked_mul(self.heads_padded * SUM_BYTES)?;
        let rows = self.sequences.checked_mul(self.tokens)?.checked_mul(self.heads_kv)?;
        rows.checked_mul(sums.checked_add(self.blocks.checked_mul(4)?)?)
    }
}

/// Bytes of workspace that serve selection for `batch` sequences of at most `queries` query tokens and `keys` keys; 0 where it takes none.
pub(in crate::operations) fn workspace_size(
    layer: &SparseLayer,
    entry: Entry,
    batch: usize,
    queries: usize,
    keys: usize,
) -> usize {
    let is_split = match entry {
        Entry::Decode => queries <= TOKENS,
        Entry::Prefill => false,
    };
    if !is_split && !layer.plans.select.is_always_split() {
        return 0;
    }
    let split = Split::of(&layer.config, batch, queries, keys);
    split.map_or(0, |split| split.bytes().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttentionShape, DType};

    fn layer(lse: Lse) -> SparseLayer {
        let shape = AttentionShape {
            heads_q: 32,
            heads_kv: 2,
            dim: 128,
        };
        SparseLayer::builder(DType::Bf16, shape, 0).lse(lse).build().unwrap()
    }

    #[test]
    fn workspaces_are_small() {
        const MIB: usize = 1 << 20;
        let size_of = |lse, batch, queries, keys| workspace_size(&layer(lse), Entry::Decode, batch, queries, keys);
        let size = |batch, queries, keys| size_of(Lse::Coarse, batch, queries, keys);
        assert_eq!(size(1, 1, 1 << 17), 2 * (16 * 16 * 8 + 2048 * 4));
        assert!(size(256, 1, 1 << 17) <= 64 * MIB);
        assert!(size(8, 16, 1 << 20) <= 64 * MIB);
        assert!(size(256, 16, 1 << 17) <= 64 * MIB, "some at a time");
        assert_eq!(size(1, 17, 1 << 17), 0, "more query tokens than it takes");
        assert_eq!(size(0, 1, 1 << 17), 0);
        let exact = size_of(Lse::Exact, 1, 1, 1 << 17);
        assert_eq!(exact, 2 * (64 * 16 * 8 + 2048 * 4), "four times the rows");
        assert!(size_of(Lse::Exact, 256, 1, 1 << 17) <= 64 * MIB);
        assert!(size_of(Lse::Exact, 8, 16, 1 << 20) <= 64 * MIB);
        assert!(size_of(Lse::Exact, 256, 16, 1 << 17) <= 64 * MIB);
        assert!(size_of(Lse::Exact, 65_535, 16, 1 << 20) <= 64 * MIB);
        assert_eq!(
            size_of(Lse::Exact, 2, 16, usize::MAX / 2),
            usize::MAX,
            "which there is no memory for"
        );
    }

    /// A prompt takes none while queues have room for what lists take by score, and a few tokens at a time take little of it beyond.
    #[test]
    fn prompts_take_little_workspace() {
        let shape = AttentionShape {
            heads_q: 128,
            heads_kv: 8,
            dim: 128,
        };
        for (topk, takes_some) in [(96, false), (256, false), (1024, true), (8192, true)] {
            let layer = SparseLayer::builder(DType::Bf16, shape, 0).topk(topk).build().unwrap();
            for (batch, keys) in [(1, 1 << 17), (1, 1 << 20), (256, 1 << 20)] {
                let bytes = workspace_size(&layer, Entry::Prefill, batch, keys, keys);
                assert_eq!(bytes > 0, takes_some, "lists of {topk}, {batch} sequences of {keys}");
                assert!(bytes <= MOST_BYTES, "{bytes} bytes for lists of {topk}");
            }
        }
    }

    /// Of a sequence of 128K and of 1M tokens, which have 67 and 529 pieces for each of two heads.
    #[test]
    fn blocks_share_pieces_where_a_gpu_has_no_room_for_all() {
        assert_eq!(score_blocks(67, 2, 132), 67, "room for all");
        assert_eq!(score_blocks(529, 2, 132), 264, "as many as there is room for");
        assert_eq!(score_blocks(67, 64 * 2, 132), 17, "four pieces at most");
        assert_eq!(score_blocks(3, 1 << 20, 132), 1);
        assert_eq!(score_blocks(0, 2, 132), 0, "nothing is scored");
    }

    #[test]
    fn blocks_fit_every_base_architecture() {
        let plan = layer(Lse::Coarse).plans.select.split;
        let scores = plan.scores[0].shared as usize + TOKENS * plan.token_bytes;
        let others = plan
            .sums
            .iter()
            .chain(&plan.lists)
            .map(|variant| variant.shared as usize);
        assert!(others.chain([scores]).max().unwrap() <= 99 * 1024);
    }
}
