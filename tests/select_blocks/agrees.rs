//! Scores and lists are those of the definition.

use crate::{check, inputs};
use sala_kernels::Lse;
use sala_kernels::reference::select_blocks::Config;
use sala_testkit::devices::{all_levels, all_levels_and_orders};
use sala_testkit::memory::Packing;
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::select_blocks::SelectProblem;
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::{Problem, compare_with};
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;

#[test]
fn every_group_size_agrees() {
    for machine in all_levels() {
        for group in [1, 2, 3, 4, 6, 7, 8, 16, 32, 64] {
            let config = small_config(2 * group, 2, if group % 2 == 0 { 64 } else { 128 });
            check(&inputs(Precision::Bf16, config, &[30, 3], &[900, 1030]), &machine);
        }
    }
}

#[test]
fn every_mode_agrees() {
    for machine in all_levels_and_orders(seed()) {
        for lse in [Lse::Coarse, Lse::Exact] {
            for (precision, block_size) in [(Precision::Bf16, 32), (Precision::F16, 64), (Precision::F16, 128)] {
                for (init_blocks, local_blocks, topk) in [(1, 2, 7), (0, 0, 3), (3, 1, 4)] {
                    let config = Config {
                        lse,
                        block_size,
                        init_blocks,
                        local_blocks,
                        topk,
                        ..small_config(8, 1, 64)
                    };
                    check(&inputs(precision, config, &[17], &[14 * block_size + 37]), &machine);
                }
            }
        }
    }
}

#[test]
fn ragged_batches_of_prompts_chunks_and_single_tokens_agree() {
    let queries = [65, 1, 0, 33, 1, 64, 5, 0, 31];
    let keys = [65, 700, 0, 650, 1, 128, 3, 640, 608];
    for machine in all_levels() {
        let packed = inputs(Precision::Bf16, small_config(4, 2, 64), &queries, &keys);
        let mut cached = packed.clone();
        cached.batch = cached.batch.cached(70);
        for mut inputs in [packed, cached] {
            for packing in [Packing::HeadMajor, Packing::Fused] {
                inputs.packing = packing;
                check(&inputs, &machine);
            }
        }
    }
}

#[test]
fn whole_prompts_agree_from_the_first_token_on() {
    for machine in all_levels() {
        check(
            &inputs(Precision::F16, small_config(16, 1, 128), &[1090], &[1090]),
            &machine,
        );
    }
}

#[test]
fn factors_and_negative_scales_agree() {
    for machine in all_levels() {
        let mut numbers = Numbers::new(seed());
        let mut inputs = inputs(Precision::Bf16, small_config(4, 1, 64), &[40], &[800]);
        inputs.scale_factor = Some((0..40).map(|_| (numbers.uniform() * 2.0 - 0.7) as f32).collect());
        for scale in [inputs.config.scale, -inputs.config.scale, 0.0] {
            inputs.config.scale = scale;
            check(&inputs, &machine);
        }
    }
}

/// Scoring begins where the initial blocks end, which may be where a step of rows begins.
#[test]
fn many_initial_blocks_agree() {
    for machine in all_levels() {
        for init_blocks in [15, 16, 17, 32] {
            let config = Config {
                init_blocks,
                topk: init_blocks + 4,
                block_size: 32,
                ..small_config(4, 1, 64)
            };
            let keys = 32 * (init_blocks + 9);
            check(&inputs(Precision::Bf16, config, &[60, 1], &[keys, keys - 7]), &machine);
        }
    }
}

#[test]
fn long_lists_and_many_tokens_per_warp_agree() {
    for machine in all_levels() {
        for (heads_q, topk) in [(1, 40), (1, 150), (16, 140)] {
            let config = Config {
                topk,
                block_size: 32,
                ..small_config(heads_q, 1, 64)
            };
            check(&inputs(Precision::Bf16, config, &[9], &[32 * 240]), &machine);
        }
    }
}

#[test]
fn exact_sums_need_no_coarse_keys() {
    for machine in all_levels() {
        let config = Config {
            lse: Lse::Exact,
            ..small_config(8, 2, 64)
        };
        let inputs = inputs(Precision::F16, config, &[5, 9], &[300, 900]);
        let keys = crate::compress(&inputs, &machine);
        // Fewer scores than there are blocks: the rest are dropped.
        for score_blocks in [None, Some(11)] {
            let problem = SelectProblem {
                k2: None,
                ..inputs.select(&keys, score_blocks)
            };
            compare_with(&problem, &problem.reference(), &machine);
        }
    }
}
