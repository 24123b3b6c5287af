//! No order of threads and copies is a race.

use crate::{diverging_problem, gaping_problem, long_problem, scattered_problem};
use sala_testkit::devices::{detect_races, host_with, race_detecting_variants};
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, ListCase, attention_cases};
use sala_testkit::problem::compare_on;
use sala_testkit::property::{check, seed};
use sala_testkit::storage::Storage;

/// Groups of several tokens per warp, of one, and of several warps per token.
const GROUPS: [(usize, ListCase); 3] = [(16, ListCase::Selected), (3, ListCase::Unruly), (32, ListCase::None)];

#[test]
fn no_call_races() {
    let machines = race_detecting_variants(seed());
    check(10, attention_cases(192), |case| compare_on(&machines, &case.problem()));
    for (group, lists) in GROUPS {
        let case = AttentionCase {
            group,
            lists,
            list_len: 5,
            ..AttentionCase::plain(vec![(20, 400), (1, 600)], seed())
        };
        compare_on(&machines, &case.problem());
    }
    // The dense kernel of narrow tiles, which many multiprocessors share.
    let narrow = host_with("host of many multiprocessors, detecting races", |options| {
        detect_races(options, seed());
        options.multiprocessors = 1 << 20;
    });
    for dim in [64, 128] {
        let case = AttentionCase {
            dim,
            lists: ListCase::None,
            with_first_key: true,
            ..AttentionCase::plain(vec![(20, 400), (1, 600)], seed())
        };
        compare_on(std::slice::from_ref(&narrow), &case.problem());
        compare_on(&machines, &case.problem());
    }
    compare_on(&machines, &long_problem());
    compare_on(&machines, &scattered_problem());
    compare_on(&machines, &diverging_problem(128));
    compare_on(&machines, &gaping_problem(128));
    // Steps that lie in one page each, and in several.
    for page in [64, 16] {
        for lists in [ListCase::Selected, ListCase::None] {
            let case = AttentionCase {
                lists,
                ..AttentionCase::plain(vec![(9, 520)], seed())
            };
            let mut problem = case.problem();
            problem.batch.storage = Storage::paged(page);
            compare_on(&machines, &problem);
        }
    }
}

#[test]
fn no_step_races() {
    let machines = race_detecting_variants(seed());
    check(10, attention_cases(192), |case| {
        compare_on(&machines, &case.clone().step().problem().decode());
    });
    for (group, lists) in GROUPS {
        let case = AttentionCase {
            group,
            lists,
            list_len: 20,
            ..AttentionCase::plain(vec![(1, 1500), (2, 700)], seed())
        };
        compare_on(&machines, &case.problem().decode());
    }
    compare_on(&machines, &long_problem().decode());
}
