//! Each operation's arguments in Rust, made of those in C.
//!
//! Arguments of Rust are written out in full: one that the header does not know does not compile.

use super::handles::entry;
use super::structs::{Versioned, bound, count, reserved};
use super::tensors::Place;
use crate::sys::c_api::*;
use crate::{
    AppendKeysArgs, Arguments, ChooseBlocksArgs, ChooseTokensArgs, CommitKeysArgs, CompactKeysArgs, CompressKeysArgs,
    CopyStatesArgs, DenseAttentionArgs, Error, GatherRowsArgs, LinearCommitArgs, LinearCorrectArgs, LinearDecodeArgs,
    LinearPrefillArgs, LinearVerifyArgs, MergeArgs, MergeStatesArgs, NormGateArgs, NormRopeArgs, Result, ScoreKeysArgs,
    SelectBlocksArgs, SparseAttentionArgs, SumDecayArgs, SumSquaresArgs,
};

/// The arguments of a launch in C.
pub(super) trait Call: Versioned {
    /// Those in Rust.
    type Args<'a>: Arguments;

    /// Makes these of those.
    ///
    /// # Safety
    /// As [`Place`] says, for each pointer among them.
    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>>;
}

impl Call for sala_append_keys_args {
    type Args<'a> = AppendKeysArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(AppendKeysArgs {
                k_new: place.read("k_new", self.k_new)?,
                v_new: place.read("v_new", self.v_new)?,
                k: place.written("k", self.k)?,
                v: place.written("v", self.v)?,
                sequences: place.sequences(self.cu_seqlens_q, self.keys, [self.max_seqlen_q, self.max_seqlen_k])?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_compress_keys_args {
    type Args<'a> = CompressKeysArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(CompressKeysArgs {
                k: place.read("k", self.k)?,
                keys: place.keys(self.keys)?,
                k1: place.written("k1", self.k1)?,
                k2: place.written("k2", self.k2)?,
                compressed: place.compressed(self.compressed)?,
                seqlens_old: place.optional("seqlens_old", self.seqlens_old)?,
                max_seqlen_k: bound("max_seqlen_k", self.max_seqlen_k)?,
                max_new: bound("max_new", self.max_new)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_select_blocks_args {
    type Args<'a> = SelectBlocksArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(SelectBlocksArgs {
                q: place.read("q", self.q)?,
                k1: place.read("k1", self.k1)?,
                k2: place.optional("k2", self.k2)?,
                compressed: place.compressed(self.compressed)?,
                sequences: place.sequences(self.cu_seqlens_q, self.keys, [self.max_seqlen_q, self.max_seqlen_k])?,
                switch_len: place.switch_len(self.switch_by, self.switch_len)?,
                block_indices: place.written("block_indices", self.block_indices)?,
                entry: entry(self.entry)?,
                parent: place.optional("parent", self.parent)?,
                scale_factor: place.optional("scale_factor", self.scale_factor)?,
                scores: place.optional_written("scores", self.scores)?,
                workspace: place.optional_written("workspace", self.workspace)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_choose_blocks_args {
    type Args<'a> = ChooseBlocksArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        reserved(self.reserved)?;
        // SAFETY: the caller's promise.
        unsafe {
            Ok(ChooseBlocksArgs {
                scores: place.read("scores", self.scores)?,
                sequences: place.sequences(self.cu_seqlens_q, self.keys, [self.max_seqlen_q, self.max_seqlen_k])?,
                switch_len: place.switch_len(self.switch_by, self.switch_len)?,
                block_indices: place.written("block_indices", self.block_indices)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_sparse_attention_args {
    type Args<'a> = SparseAttentionArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(SparseAttentionArgs {
                q: place.read("q", self.q)?,
                k: place.read("k", self.k)?,
                v: place.read("v", self.v)?,
                sequences: place.sequences(self.cu_seqlens_q, self.keys, [self.max_seqlen_q, self.max_seqlen_k])?,
                switch_len: place.switch_len(self.switch_by, self.switch_len)?,
                block_indices: place.read("block_indices", self.block_indices)?,
                out: place.written("out", self.out)?,
                entry: entry(self.entry)?,
                parent: place.optional("parent", self.parent)?,
                scale_factor: place.optional("scale_factor", self.scale_factor)?,
                gate: place.optional("gate", self.gate)?,
                lse: place.optional_written("lse", self.lse)?,
                workspace: place.optional_written("workspace", self.workspace)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_dense_attention_args {
    type Args<'a> = DenseAttentionArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        reserved(self.reserved)?;
        // SAFETY: the caller's promise.
        unsafe {
            Ok(DenseAttentionArgs {
                q: place.read("q", self.q)?,
                k: place.read("k", self.k)?,
                v: place.read("v", self.v)?,
                sequences: place.sequences(self.cu_seqlens_q, self.keys, [self.max_seqlen_q, self.max_seqlen_k])?,
                out: place.written("out", self.out)?,
                entry: entry(self.entry)?,
                parent: place.optional("parent", self.parent)?,
                first_key: place.optional("first_key", self.first_key)?,
                scale_factor: place.optional("scale_factor", self.scale_factor)?,
                gate: place.optional("gate", self.gate)?,
                lse: place.optional_written("lse", self.lse)?,
                workspace: place.optional_written("workspace", self.workspace)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_commit_keys_args {
    type Args<'a> = CommitKeysArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(CommitKeysArgs {
                k: place.written("k", self.k)?,
                v: place.written("v", self.v)?,
                keys: place.keys(self.keys)?,
                base: place.read("base", self.base)?,
                accepted: place.read("accepted", self.accepted)?,
                path: place.read("path", self.path)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_score_keys_args {
    type Args<'a> = ScoreKeysArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(ScoreKeysArgs {
                q: place.read("q", self.q)?,
                k: place.read("k", self.k)?,
                sequences: place.sequences(self.cu_seqlens_q, self.keys, [self.max_seqlen_q, self.max_seqlen_k])?,
                scores: place.written("scores", self.scores)?,
                pool: count("pool", self.pool)?,
                workspace: place.optional_written("workspace", self.workspace)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_choose_tokens_args {
    type Args<'a> = ChooseTokensArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(ChooseTokensArgs {
                scores: place.read("scores", self.scores)?,
                keys: place.keys(self.keys)?,
                token_indices: place.written("token_indices", self.token_indices)?,
                init_tokens: count("init_tokens", self.init_tokens)?,
                local_tokens: count("local_tokens", self.local_tokens)?,
                workspace: place.optional_written("workspace", self.workspace)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_gather_rows_args {
    type Args<'a> = GatherRowsArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            let scores = place.optional("scores", self.scores)?;
            let scores_out = place.optional_written("scores_out", self.scores_out)?;
            Ok(GatherRowsArgs {
                k: place.read("k", self.k)?,
                v: place.read("v", self.v)?,
                keys: place.keys(self.keys)?,
                token_indices: place.read("token_indices", self.token_indices)?,
                k_out: place.written("k_out", self.k_out)?,
                v_out: place.written("v_out", self.v_out)?,
                scores: both(["scores", "scores_out"], (scores, scores_out))?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_compact_keys_args {
    type Args<'a> = CompactKeysArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(CompactKeysArgs {
                k: place.written("k", self.k)?,
                v: place.written("v", self.v)?,
                keys: place.keys(self.keys)?,
                token_indices: place.read("token_indices", self.token_indices)?,
                scores: place.optional_written("scores", self.scores)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_merge_args {
    type Args<'a> = MergeArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            let first = (place.optional("out1", self.out1)?, place.optional("lse1", self.lse1)?);
            let second = (place.optional("out2", self.out2)?, place.optional("lse2", self.lse2)?);
            Ok(MergeArgs {
                first: both(["out1", "lse1"], first)?,
                second: both(["out2", "lse2"], second)?,
                out: place.written("out", self.out)?,
                lse: place.written("lse", self.lse)?,
            })
        }
    }
}

impl Call for sala_linear_prefill_args {
    type Args<'a> = LinearPrefillArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(LinearPrefillArgs {
                q: place.read("q", self.q)?,
                k: place.read("k", self.k)?,
                v: place.read("v", self.v)?,
                cu_seqlens: place.read("cu_seqlens", self.cu_seqlens)?,
                log_decay: place.optional("log_decay", self.log_decay)?,
                out: place.written("out", self.out)?,
                state: place.optional_written("state", self.state)?,
                state_in: place.optional("state_in", self.state_in)?,
                state_out: place.optional("state_out", self.state_out)?,
                checkpoint_every: count("checkpoint_every", self.checkpoint_every)?,
                checkpoint_slots: place.optional("checkpoint_slots", self.checkpoint_slots)?,
                workspace: place.optional_written("workspace", self.workspace)?,
                max_seqlen_q: bound("max_seqlen_q", self.max_seqlen_q)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_linear_decode_args {
    type Args<'a> = LinearDecodeArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(LinearDecodeArgs {
                q: place.read("q", self.q)?,
                k: place.read("k", self.k)?,
                v: place.read("v", self.v)?,
                log_decay: place.optional("log_decay", self.log_decay)?,
                state: place.written("state", self.state)?,
                state_in: place.read("state_in", self.state_in)?,
                state_out: place.optional("state_out", self.state_out)?,
                out: place.written("out", self.out)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_linear_verify_args {
    type Args<'a> = LinearVerifyArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(LinearVerifyArgs {
                q: place.read("q", self.q)?,
                k: place.read("k", self.k)?,
                v: place.read("v", self.v)?,
                log_decay: place.optional("log_decay", self.log_decay)?,
                state: place.read("state", self.state)?,
                state_in: place.read("state_in", self.state_in)?,
                parent: place.optional("parent", self.parent)?,
                out: place.written("out", self.out)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_linear_commit_args {
    type Args<'a> = LinearCommitArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(LinearCommitArgs {
                k: place.read("k", self.k)?,
                v: place.read("v", self.v)?,
                log_decay: place.optional("log_decay", self.log_decay)?,
                state: place.written("state", self.state)?,
                state_in: place.read("state_in", self.state_in)?,
                state_out: place.optional("state_out", self.state_out)?,
                accepted: place.read("accepted", self.accepted)?,
                path: place.optional("path", self.path)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_copy_states_args {
    type Args<'a> = CopyStatesArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(CopyStatesArgs {
                state: place.written("state", self.state)?,
                sources: place.read("sources", self.sources)?,
                destinations: place.read("destinations", self.destinations)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_sum_decay_args {
    type Args<'a> = SumDecayArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(SumDecayArgs {
                cu_seqlens: place.read("cu_seqlens", self.cu_seqlens)?,
                log_decay: place.optional("log_decay", self.log_decay)?,
                cumulative: place.written("cumulative", self.cumulative)?,
                total: place.written("total", self.total)?,
                max_seqlen_q: bound("max_seqlen_q", self.max_seqlen_q)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_merge_states_args {
    type Args<'a> = MergeStatesArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(MergeStatesArgs {
                adds: place.read("adds", self.adds)?,
                total: place.read("total", self.total)?,
                state: place.written("state", self.state)?,
                state_in: place.read("state_in", self.state_in)?,
                state_out: place.read("state_out", self.state_out)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_linear_correct_args {
    type Args<'a> = LinearCorrectArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(LinearCorrectArgs {
                q: place.read("q", self.q)?,
                cumulative: place.read("cumulative", self.cumulative)?,
                cu_seqlens: place.read("cu_seqlens", self.cu_seqlens)?,
                state: place.read("state", self.state)?,
                state_in: place.read("state_in", self.state_in)?,
                out: place.written("out", self.out)?,
                max_seqlen_q: bound("max_seqlen_q", self.max_seqlen_q)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_norm_rope_args {
    type Args<'a> = NormRopeArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        reserved(self.reserved)?;
        // SAFETY: the caller's promise.
        unsafe {
            Ok(NormRopeArgs {
                x: place.optional("x", self.x)?,
                weight: place.optional("weight", self.weight)?,
                cos_sin: place.optional("cos_sin", self.cos_sin)?,
                positions: place.optional("positions", self.positions)?,
                out: place.written("out", self.out)?,
                status: place.optional_written("status", self.status)?,
            })
        }
    }
}

impl Call for sala_norm_gate_args {
    type Args<'a> = NormGateArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        reserved(self.reserved)?;
        // SAFETY: the caller's promise.
        unsafe {
            let sums = place.optional("sum_squares", self.sum_squares)?;
            let sum_squares = match (sums, count("channels", self.channels)?) {
                (None, 0) => None,
                (None, given) => return Err(Error::argument("channels", "0 without sum_squares", given)),
                (Some(sums), channels) => Some((sums, channels)),
            };
            Ok(NormGateArgs {
                x: place.optional("x", self.x)?,
                weight: place.read("weight", self.weight)?,
                gate: place.read("gate", self.gate)?,
                out: place.written("out", self.out)?,
                sum_squares,
            })
        }
    }
}

impl Call for sala_sum_squares_args {
    type Args<'a> = SumSquaresArgs<'a>;

    unsafe fn arguments<'a>(&self, place: Place<'_>) -> Result<Self::Args<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(SumSquaresArgs {
                x: place.read("x", self.x)?,
                out: place.written("out", self.out)?,
            })
        }
    }
}

/// Two tensors that come together, such as outputs and their logarithms, or neither.
fn both<A, B>([out_name, lse_name]: [&'static str; 2], (out, lse): (Option<A>, Option<B>)) -> Result<Option<(A, B)>> {
    match (out, lse) {
        (None, None) => Ok(None),
        (Some(out), Some(lse)) => Ok(Some((out, lse))),
        (Some(_), None) => Err(Error::argument(
            lse_name,
            format_args!("a tensor beside {out_name}"),
            "NULL",
        )),
        (None, Some(_)) => Err(Error::argument(
            out_name,
            format_args!("a tensor beside {lse_name}"),
            "NULL",
        )),
    }
}
