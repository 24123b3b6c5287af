//! The kernels that operations launch.

use super::{Axis, ELEMENTS, Instances, KernelFile, Machine};

/// Every kernel file.
pub const KERNELS: &[KernelFile] = &[
    // Prefill of linear attention.
    KernelFile {
        name: "linear_attention_scan",
        machine: Machine::Base,
        params: "sala_linear_prefill_params",
        instances: by_element(&[
            axis("dim_k", &[64, 128]),
            axis("value channels of a block", &[32, 64, 128]),
        ]),
        tests: &["linear_attention"],
    },
    // One token per sequence.
    KernelFile {
        name: "linear_attention_decode",
        machine: Machine::Base,
        params: "sala_linear_attention_params",
        instances: by_element(&[axis("dim_k", &[64, 128])]),
        tests: &["linear_attention"],
    },
    // Outputs of draft tokens.
    KernelFile {
        name: "linear_attention_verify",
        machine: Machine::Base,
        params: "sala_linear_drafts_params",
        instances: by_element(&[axis("dim_k", &[64, 128])]),
        tests: &["linear_drafts"],
    },
    // States after those of them that were accepted.
    KernelFile {
        name: "linear_attention_commit",
        machine: Machine::Base,
        params: "sala_linear_drafts_params",
        instances: by_element(&[axis("dim_k", &[64, 128])]),
        tests: &["linear_drafts"],
    },
    // States from slot to slot.
    KernelFile {
        name: "copy_states",
        machine: Machine::Base,
        params: "sala_copy_states_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["linear_drafts"],
    },
    // Sequences whose parts are on several ranks: decay added up, states merged, outputs corrected.
    KernelFile {
        name: "sum_decay",
        machine: Machine::Base,
        params: "sala_sum_decay_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["linear_ranks"],
    },
    KernelFile {
        name: "merge_states",
        machine: Machine::Base,
        params: "sala_merge_states_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["linear_ranks"],
    },
    KernelFile {
        name: "linear_attention_correct",
        machine: Machine::Base,
        params: "sala_linear_correct_params",
        instances: by_element(&[axis("dim_k", &[64, 128])]),
        tests: &["linear_ranks"],
    },
    // What stands before and behind linear attention.
    KernelFile {
        name: "norm_rope",
        machine: Machine::Base,
        params: "sala_norm_rope_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["norms"],
    },
    KernelFile {
        name: "norm_gate",
        machine: Machine::Base,
        params: "sala_norm_gate_params",
        instances: by_element(&[axis("vectors of a thread", &[1, 2, 4, 8])]),
        tests: &["norms"],
    },
    KernelFile {
        name: "sum_squares",
        machine: Machine::Base,
        params: "sala_norm_gate_params",
        instances: by_element(&[axis("vectors of a thread", &[1, 2, 4, 8])]),
        tests: &["norms"],
    },
    // New keys and values to where they belong.
    KernelFile {
        name: "append_keys",
        machine: Machine::Base,
        params: "sala_append_keys_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[axis("dim", &[64, 128])],
            keep: all,
        },
        tests: &["append_keys"],
    },
    // Those of accepted drafts to where they belong.
    KernelFile {
        name: "commit_keys",
        machine: Machine::Base,
        params: "sala_commit_keys_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[axis("dim", &[64, 128])],
            keep: all,
        },
        tests: &["commit_keys"],
    },
    // Scores of keys by the mean of the queries, whose sums come first.
    KernelFile {
        name: "score_keys_sums",
        machine: Machine::Base,
        params: "sala_score_keys_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["tokens"],
    },
    KernelFile {
        name: "score_keys",
        machine: Machine::Base,
        params: "sala_score_keys_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["tokens"],
    },
    // The choice of tokens by scores.
    KernelFile {
        name: "choose_tokens",
        machine: Machine::Base,
        params: "sala_choose_tokens_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["tokens"],
    },
    // The same for rows that are cut into pieces: a digit of the orders of scores, and the lists.
    KernelFile {
        name: "choose_tokens_digits",
        machine: Machine::Base,
        params: "sala_choose_tokens_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["tokens"],
    },
    KernelFile {
        name: "choose_tokens_lists",
        machine: Machine::Base,
        params: "sala_choose_tokens_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["tokens"],
    },
    // Rows of chosen tokens to tensors of their own.
    KernelFile {
        name: "gather_rows",
        machine: Machine::Base,
        params: "sala_gather_rows_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[axis("dim", &[64, 128])],
            keep: all,
        },
        tests: &["tokens"],
    },
    // Those of kept tokens to the front of their sequences.
    KernelFile {
        name: "compact_keys",
        machine: Machine::Base,
        params: "sala_compact_keys_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[axis("dim", &[64, 128])],
            keep: all,
        },
        tests: &["tokens"],
    },
    // Means of keys over windows.
    KernelFile {
        name: "compress_keys",
        machine: Machine::Base,
        params: "sala_compress_keys_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["compress_keys"],
    },
    // Scores of blocks and the choice by them.
    KernelFile {
        name: "select_blocks",
        machine: Machine::Base,
        params: "sala_select_blocks_params",
        instances: Instances::Shapes {
            elements: ELEMENTS,
            axes: &[axis("dim", &[64, 128]), axis("padded group", &[4, 8, 16, 32, 64])],
            // Eight tokens of a warp do not fit in the registers beside 128 channels of Q.
            keep: |values| *values != [128, 4],
        },
        tests: &["select_blocks"],
    },
    KernelFile {
        name: "select_blocks",
        machine: Machine::Sm90a,
        params: "sala_select_blocks_params",
        instances: by_element(&[axis("dim", &[64, 128]), axis("padded group", &[8, 16, 32])]),
        tests: &["select_blocks"],
    },
    // The same for few query tokens, over more blocks: sums of pieces of rows, scores, lists.
    KernelFile {
        name: "select_blocks_sums",
        machine: Machine::Base,
        params: "sala_select_split_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["select_blocks"],
    },
    KernelFile {
        name: "select_blocks_scores",
        machine: Machine::Base,
        params: "sala_select_split_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["select_blocks"],
    },
    KernelFile {
        name: "select_blocks_lists",
        machine: Machine::Base,
        params: "sala_select_split_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["select_blocks"],
    },
    // The choice alone, by given scores.
    KernelFile {
        name: "choose_blocks",
        machine: Machine::Base,
        params: "sala_choose_blocks_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["select_blocks"],
    },
    // The same for lists that take more blocks by score than a queue has room for.
    KernelFile {
        name: "choose_blocks_long",
        machine: Machine::Base,
        params: "sala_choose_blocks_params",
        instances: Instances::Shapes {
            elements: &[],
            axes: &[],
            keep: all,
        },
        tests: &["select_blocks"],
    },
    // Attention over all keys.
    KernelFile {
        name: "dense_attention",
        machine: Machine::Base,
        params: "sala_sparse_attention_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["sparse_attention"],
    },
    KernelFile {
        name: "dense_attention_wide",
        machine: Machine::Base,
        params: "sala_sparse_attention_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["sparse_attention"],
    },
    KernelFile {
        name: "dense_attention",
        machine: Machine::Sm90a,
        params: "sala_sparse_attention_group_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["sparse_attention"],
    },
    // Attention over listed blocks.
    KernelFile {
        name: "sparse_attention",
        machine: Machine::Base,
        params: "sala_sparse_attention_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["sparse_attention"],
    },
    KernelFile {
        name: "sparse_attention",
        machine: Machine::Sm90a,
        params: "sala_sparse_attention_group_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["sparse_attention"],
    },
    // Attention over two sets of keys made one.
    KernelFile {
        name: "merge",
        machine: Machine::Base,
        params: "sala_merge_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["merge"],
    },
    // A decode step over pieces of the keys, and what merges them.
    KernelFile {
        name: "sparse_attention_decode",
        machine: Machine::Base,
        params: "sala_sparse_attention_decode_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["sparse_attention"],
    },
    KernelFile {
        name: "sparse_attention_merge",
        machine: Machine::Base,
        params: "sala_sparse_attention_decode_params",
        instances: by_element(&[axis("dim", &[64, 128])]),
        tests: &["sparse_attention"],
    },
];

const fn axis(name: &'static str, values: &'static [u32]) -> Axis {
    Axis { name, values }
}

/// Every combination for both element types.
const fn by_element(axes: &'static [Axis]) -> Instances {
    Instances::Shapes {
        elements: ELEMENTS,
        axes,
        keep: all,
    }
}

fn all(_: &[u32]) -> bool {
    true
}
