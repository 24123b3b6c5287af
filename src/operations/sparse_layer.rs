//! The one value that all operations of a sparse-attention layer come from.

use super::SparsePlans;
use crate::launch::checks;
use crate::{DType, Error, Result};

/// Heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads: 1 to 64 times the kv heads.
    pub heads_q: usize,
    /// Key and value heads.
    pub heads_kv: usize,
    /// Channels of a head: 64 or 128.
    pub dim: usize,
}

/// Which compressed keys normalise the scores of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lse {
    /// K2: a quarter of the rows, and what InfLLM-V2 was trained with.
    #[default]
    Coarse,
    /// K1 itself, so that the scores of a token's rows sum to one per head.
    Exact,
}

/// A layer of block-sparse attention (InfLLM-V2, Zhao et al. 2025): compress the keys, score blocks of them, attend to the best.
///
/// All operations of the layer take this one value, so that they cannot disagree on types, heads, scale, blocks or the length from which
/// attention is sparse:
///
/// | arguments | what is launched |
/// |---|---|
/// | [`AppendKeysArgs`](crate::AppendKeysArgs) | new keys and values to where the sequence's are |
/// | [`CommitKeysArgs`](crate::CommitKeysArgs) | keys and values of accepted drafts to where they belong |
/// | [`CompressKeysArgs`](crate::CompressKeysArgs) | means of the keys over windows: K1 and K2 |
/// | [`SelectBlocksArgs`](crate::SelectBlocksArgs) | scores of blocks by K1 and K2, and each token's list of the best |
/// | [`ChooseBlocksArgs`](crate::ChooseBlocksArgs) | the lists by scores that the caller has |
/// | [`SparseAttentionArgs`](crate::SparseAttentionArgs) | attention over each token's list, from `SelectBlocksArgs` or the caller's own |
/// | [`DenseAttentionArgs`](crate::DenseAttentionArgs) | attention over all keys |
///
/// [`semantics`](crate::semantics#what-all-of-them-share) says what they compute, and what all of them do with bad lengths and indices.
///
/// ```
/// use sala_kernels::{AttentionShape, DType, SparseLayer};
/// let shape = AttentionShape { heads_q: 32, heads_kv: 2, dim: 128 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 8192).build()?;
/// assert_eq!((layer.list_len(), layer.k1_rows(8192), layer.k2_rows(8192)), (96, 512, 128));
///
/// let odd = AttentionShape { heads_q: 32, heads_kv: 3, dim: 128 };
/// assert!(SparseLayer::builder(DType::Bf16, odd, 8192).build().is_err(), "32 heads are no multiple of 3");
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SparseLayer {
    pub(super) config: Config,
    pub(super) plans: SparsePlans,
}

/// What a layer was described with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(super) dtype: DType,
    pub(super) shape: AttentionShape,
    pub(super) scale: f32,
    pub(super) dense_len: usize,
    pub(super) block_size: usize,
    pub(super) topk: usize,
    pub(super) init_blocks: usize,
    pub(super) local_blocks: usize,
    pub(super) lse: Lse,
}

impl Config {
    /// Query heads that share a kv head.
    pub(super) fn group(&self) -> usize {
        self.shape.heads_q / self.shape.heads_kv
    }

    /// Tokens from one row of K1 to the next.
    pub(super) fn k1_stride(&self) -> usize {
        self.block_size / 4
    }

    /// Tokens from one row of K2 to the next.
    pub(super) fn k2_stride(&self) -> usize {
        self.block_size
    }

    pub(super) fn list_len(&self) -> usize {
        self.topk + self.local_blocks
    }
}

/// Describes a [`SparseLayer`].
#[derive(Debug, Clone)]
#[must_use = "call `build` to get the layer"]
pub struct SparseLayerBuilder {
    config: Config,
}

impl SparseLayer {
    /// The most entries of a list.
    pub(super) const MAX_LIST: usize = 1 << 20;

    /// Describes a layer in bf16 or f16 that attends densely to sequences below `dense_len` tokens (SALA: 8192; 0: never).
    ///
    /// Without further calls: scale `1/√dim`, blocks of 64 tokens, `topk` 64, 1 initial and 32 local blocks, [`Lse::Coarse`].
    pub fn builder(dtype: DType, shape: AttentionShape, dense_len: usize) -> SparseLayerBuilder {
        SparseLayerBuilder {
            config: Config {
                dtype,
                shape,
                scale: (shape.dim as f32).powf(-0.5),
                dense_len,
                block_size: 64,
                topk: 64,
                init_blocks: 1,
                local_blocks: 32,
                lse: Lse::default(),
            },
        }
    }

    /// Entries of a list: `topk + local_blocks`.
    pub fn list_len(&self) -> usize {
        self.config.list_len()
    }

    /// Tokens of a block.
    pub fn block_size(&self) -> usize {
        self.config.block_size
    }

    /// Sequences below this length are attended densely; 0: none.
    pub fn dense_len(&self) -> usize {
        self.config.dense_len
    }

    /// Rows of K1 for `tokens` keys: of all packed sequences together, or of one cache.
    pub fn k1_rows(&self, tokens: usize) -> usize {
        tokens / self.config.k1_stride()
    }

    /// Rows of K2 for `tokens` keys, likewise.
    pub fn k2_rows(&self, tokens: usize) -> usize {
        tokens / self.config.k2_stride()
    }
}

impl SparseLayerBuilder {
    /// The factor of every score: any number of a magnitude up to 2.35e38.
    pub fn scale(mut self, scale: f32) -> Self {
        self.config.scale = scale;
        self
    }

    /// Tokens of a block: 32, 64 or 128.
    pub fn block_size(mut self, tokens: usize) -> Self {
        self.config.block_size = tokens;
        self
    }

    /// How many blocks a list takes besides `local_blocks`: the initial ones, the token's own, and those with the highest scores.
    pub fn topk(mut self, blocks: usize) -> Self {
        self.config.topk = blocks;
        self
    }

    /// Blocks at the start of a sequence that are always taken.
    pub fn init_blocks(mut self, blocks: usize) -> Self {
        self.config.init_blocks = blocks;
        self
    }

    /// Blocks before a token's own that are always taken, as its own is.
    pub fn local_blocks(mut self, blocks: usize) -> Self {
        self.config.local_blocks = blocks;
        self
    }

    /// What normalises the scores of blocks.
    pub fn lse(mut self, lse: Lse) -> Self {
        self.config.lse = lse;
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Error::Argument`] names what is out of range.
    pub fn build(self) -> Result<SparseLayer> {
        let Config {
            dtype,
            shape: AttentionShape { heads_q, heads_kv, .. },
            scale,
            block_size,
            topk,
            init_blocks,
            local_blocks,
            ..
        } = self.config;
        checks::operand_type(dtype)?;
        checks::group(heads_q, heads_kv)?;
        checks::block_size(block_size)?;
        for (name, blocks) in [
            ("topk", topk),
            ("init_blocks", init_blocks),
            ("local_blocks", local_blocks),
        ] {
            if blocks > SparseLayer::MAX_LIST {
                let expected = format!("at most {}", SparseLayer::MAX_LIST);
                return Err(Error::argument(name, expected, blocks));
            }
        }
        if topk <= init_blocks {
            let expected = format!("more than the {init_blocks} initial blocks (a list takes the token's own too)");
            return Err(Error::argument("topk", expected, topk));
        }
        let plans = SparsePlans::new(&self.config)?;
        checks::scale("scale", scale)?;
        Ok(SparseLayer {
            plans,
            config: self.config,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(heads_q: usize, heads_kv: usize, dim: usize) -> SparseLayerBuilder {
        let shape = AttentionShape { heads_q, heads_kv, dim };
        SparseLayer::builder(DType::F16, shape, 0)
    }

    #[test]
    fn impossible_descriptions_are_refused() {
        let refused = |builder: SparseLayerBuilder| match builder.build() {
            Err(error) => error.argument_name().expect("an argument is named"),
            Ok(layer) => panic!("{layer:?}"),
        };
        let shape = AttentionShape {
            heads_q: 1,
            heads_kv: 1,
            dim: 64,
        };
        assert_eq!(refused(SparseLayer::builder(DType::F32, shape, 0)), "dtype");
        assert_eq!(refused(builder(1, 0, 64)), "heads_kv");
        assert_eq!(refused(builder(3, 2, 64)), "heads_q");
        assert_eq!(refused(builder(65, 1, 64)), "heads_q");
        assert_eq!(refused(builder(0, 1, 64)), "heads_q");
        assert_eq!(refused(builder(1, 1, 96)), "dim");
        assert_eq!(refused(builder(1, 1, 64).block_size(16)), "block_size");
        assert_eq!(refused(builder(1, 1, 64).scale(f32::NAN)), "scale");
        assert_eq!(refused(builder(1, 1, 64).scale(f32::INFINITY)), "scale");
        assert_eq!(refused(builder(1, 1, 64).scale(-2.4e38)), "scale");
        builder(1, 1, 64).scale(-2.3e38).build().unwrap();
        assert_eq!(refused(builder(1, 1, 64).topk(3).init_blocks(3)), "topk");
        assert_eq!(refused(builder(1, 1, 64).local_blocks(usize::MAX)), "local_blocks");
    }
}
