//! Choices that a kernel could get wrong: ties, forced tokens, pieces of rows.

use sala_kernels::reference::choose_tokens::Config;
use sala_testkit::devices::{all, all_orders};
use sala_testkit::operations::choose_blocks::KINDS;
use sala_testkit::operations::choose_tokens::TokensProblem;
use sala_testkit::problem::{assert_same_bits, compare_on, run};
use sala_testkit::property::seed;

fn config(chosen: usize, init_tokens: usize, local_tokens: usize) -> Config {
    Config {
        heads_kv: 1,
        chosen,
        init_tokens,
        local_tokens,
    }
}

#[test]
fn scores_of_every_kind_are_ordered() {
    let machines = all_orders(seed());
    for kind in 0..KINDS {
        let problem = TokensProblem::new(config(300, 3, 50), &[2100, 301, 300, 299], kind, seed());
        compare_on(&machines, &problem);
        // Three pieces; the list ends in the midst of equal scores.
        compare_on(
            &all(),
            &TokensProblem::new(config(9000, 1, 70), &[33_000], kind, seed()),
        );
    }
}

/// Lists that take nothing by score, all but one token, and one token alone.
#[test]
fn lists_at_their_limits() {
    let machines = all_orders(seed());
    for (config, length) in [
        (config(7, 3, 4), 50),
        (config(7, 7, 0), 50),
        (config(7, 0, 7), 50),
        (config(49, 0, 0), 50),
        (config(49, 10, 20), 50),
        (config(1, 0, 0), 4097),
        (config(8, 8, 0), 8),
    ] {
        compare_on(&machines, &TokensProblem::new(config, &[length], 0, seed()));
    }
}

/// With the workspace a row is taken in pieces, without it whole: the lists are the same.
#[test]
fn a_workspace_changes_no_list() {
    for machine in all() {
        for (kind, chosen) in [(0, 6000), (1, 16_384), (5, 100), (4, 2000)] {
            let cut = TokensProblem::new(config(chosen, 2, 9), &[34_000, 20_000, 17], kind, seed());
            let whole = TokensProblem {
                with_workspace: false,
                ..cut.clone()
            };
            assert_same_bits(&run(&cut, &machine), &run(&whole, &machine), &machine.name);
        }
    }
}

/// More pieces than a row has: they are longer.
#[test]
fn a_million_scores() {
    let machines = [sala_testkit::devices::host()];
    for kind in [0, 1] {
        compare_on(
            &machines,
            &TokensProblem::new(config(16_384, 4, 100), &[(1 << 20) + 9], kind, seed()),
        );
    }
}
