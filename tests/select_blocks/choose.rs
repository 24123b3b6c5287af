//! Lists by given scores are exactly those of the definition.

use crate::{KINDS, given_scores};
use sala_kernels::reference::select_blocks::Config;
use sala_testkit::batch::Batch;
use sala_testkit::devices::{all, all_orders};
use sala_testkit::memory::Packing;
use sala_testkit::operations::choose_blocks::ChooseProblem;
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::compare_on;
use sala_testkit::property::seed;

#[test]
fn every_kind_of_scores_gives_the_lists_of_the_definition() {
    let machines = all_orders(seed());
    for kind in 0..KINDS {
        for (topk, init_blocks, local_blocks, blocks) in
            [(7, 1, 2, 500), (64, 1, 32, 2000), (2, 1, 0, 300), (3, 2, 4, 300)]
        {
            let config = Config {
                topk,
                init_blocks,
                local_blocks,
                block_size: 32,
                ..small_config(2, 2, 64)
            };
            let problem = ChooseProblem {
                config,
                scores: given_scores(kind, 23 * 2, blocks),
                batch: Batch::new(&[3, 20], &[blocks * 32 - 5, 20]),
                packing: [Packing::Separate, Packing::Fused][kind % 2],
            };
            compare_on(&machines, &problem);
        }
    }
}

#[test]
fn a_million_tokens_agree() {
    for kind in [0, 2] {
        let config = Config {
            topk: 64,
            local_blocks: 32,
            ..small_config(1, 1, 64)
        };
        let problem = ChooseProblem {
            config,
            scores: given_scores(kind, 2, 16384),
            batch: Batch::new(&[2], &[1 << 20]),
            packing: Packing::Separate,
        };
        compare_on(&all(), &problem);
    }
}
