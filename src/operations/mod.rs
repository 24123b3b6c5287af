//! The operations: what each computes and takes, and how it is launched.
//!
//! An operation's folder holds its arguments with their documentation, its plan (kernels and geometry, made once per layer), its launch, and
//! beside them `reference.rs`, the definition of what it computes.

mod append_keys;
mod choose_blocks;
mod choose_tokens;
mod commit_keys;
mod compact_keys;
mod compress_keys;
mod gather_rows;
mod keys;
mod linear_attention;
mod merge;
mod norms;
mod score_keys;
mod select_blocks;
mod sequences;
mod sparse_attention;
mod sparse_layer;
mod status;
mod workspace;

pub use append_keys::AppendKeysArgs;
pub use choose_blocks::ChooseBlocksArgs;
pub use choose_tokens::ChooseTokensArgs;
pub use commit_keys::CommitKeysArgs;
pub use compact_keys::CompactKeysArgs;
pub use compress_keys::CompressKeysArgs;
pub use gather_rows::GatherRowsArgs;
pub use keys::{CompressedStore, Keys};
pub use linear_attention::{
    CopyStates, CopyStatesArgs, Decay, LinearAttention, LinearAttentionBuilder, LinearCommitArgs, LinearCorrectArgs,
    LinearDecodeArgs, LinearPrefillArgs, LinearShape, LinearVerifyArgs, MergeStates, MergeStatesArgs, Split,
    StateLayout, SumDecayArgs, lightning_log_decay,
};
pub use merge::{Merge, MergeArgs};
pub use norms::{Norm, NormGateArgs, NormRopeArgs, SumSquaresArgs, rotary_cos_sin};
pub use score_keys::ScoreKeysArgs;
pub use select_blocks::SelectBlocksArgs;
pub use sequences::{Sequences, SwitchLen};
pub use sparse_attention::{DenseAttentionArgs, Entry, SparseAttentionArgs};
pub use sparse_layer::{AttentionShape, Lse, SparseLayer, SparseLayerBuilder};
pub use status::Status;

use crate::Result;
use sparse_layer::Config;

/// What the operations of a sparse layer have worked out in advance.
#[derive(Debug, Clone)]
struct SparsePlans {
    append: append_keys::Plan,
    commit: commit_keys::Plan,
    compress: compress_keys::Plan,
    select: select_blocks::Plan,
    choose: choose_blocks::Plan,
    score_keys: score_keys::Plan,
    choose_tokens: choose_tokens::Plan,
    gather: gather_rows::Plan,
    compact: compact_keys::Plan,
    attend: sparse_attention::Plan,
}

impl SparsePlans {
    fn new(config: &Config) -> Result<Self> {
        Ok(Self {
            append: append_keys::Plan::new(config)?,
            commit: commit_keys::Plan::new(config)?,
            compress: compress_keys::Plan::new(config)?,
            select: select_blocks::Plan::new(config)?,
            choose: choose_blocks::Plan::new(config)?,
            score_keys: score_keys::Plan::new(config)?,
            choose_tokens: choose_tokens::Plan::new()?,
            gather: gather_rows::Plan::new(config)?,
            compact: compact_keys::Plan::new(config)?,
            attend: sparse_attention::Plan::new(config)?,
        })
    }
}

/// The definitions of the operations, for [`crate::reference`].
pub(crate) mod definitions {
    pub use super::append_keys::reference as append_keys;
    pub use super::choose_tokens::reference as choose_tokens;
    pub use super::commit_keys::reference as commit_keys;
    pub use super::compact_keys::reference as compact_keys;
    pub use super::compress_keys::reference as compress_keys;
    pub use super::gather_rows::reference as gather_rows;
    pub use super::linear_attention::reference as linear_attention;
    pub use super::merge::reference as merge;
    pub use super::norms::reference as norms;
    pub use super::score_keys::reference as score_keys;
    pub use super::select_blocks::reference as select_blocks;
    pub use super::sparse_attention::reference as sparse_attention;
}
