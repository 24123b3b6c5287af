//! No order of threads and copies is a race.

use crate::{check, given_scores, inputs};
use sala_kernels::Lse;
use sala_kernels::reference::select_blocks::Config;
use sala_testkit::batch::Batch;
use sala_testkit::devices::{race_detecting_host, race_detecting_levels};
use sala_testkit::memory::Packing;
use sala_testkit::operations::choose_blocks::ChooseProblem;
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::compare_on;
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;

#[test]
fn no_selection_races() {
    for machine in race_detecting_levels(seed()) {
        check(
            &inputs(Precision::Bf16, small_config(4, 1, 64), &[9], &[1000]),
            &machine,
        );
        let wide = small_config(16, 1, 128);
        check(&inputs(Precision::Bf16, wide, &[17, 1], &[1000, 300]), &machine);
        let long = |heads_q, topk| Config {
            block_size: 32,
            topk,
            lse: Lse::Exact,
            ..small_config(heads_q, 1, 64)
        };
        check(&inputs(Precision::Bf16, long(40, 34), &[2], &[32 * 160]), &machine);
        // Several pieces and steps, two groups of warps, and queues that are cut.
        check(&inputs(Precision::Bf16, long(16, 8), &[12], &[32 * 200]), &machine);
    }
}

#[test]
fn no_choice_races() {
    let machines = [race_detecting_host(seed())];
    for kind in [1, 2] {
        let problem = ChooseProblem {
            config: small_config(1, 1, 64),
            scores: given_scores(kind, 9, 700),
            batch: Batch::new(&[9], &[64 * 700]),
            packing: Packing::Separate,
        };
        compare_on(&machines, &problem);
    }
}
