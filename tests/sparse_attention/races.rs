//! No order of threads and copies is a race.

use crate::long_problem;
use crate::split::{compare_split, host_that_splits};
use sala_testkit::devices::{detect_races, race_detecting_host, shuffle};
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, ListCase, attention_cases};
use sala_testkit::problem::{Problem, compare_on};
use sala_testkit::property::{check, seed};

/// Groups of several tokens per warp, of one, and of several warps per token.
const GROUPS: [(usize, ListCase); 3] = [(16, ListCase::Selected), (3, ListCase::Unruly), (32, ListCase::None)];

#[test]
fn no_call_races() {
    let machines = [race_detecting_host(seed())];
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
    compare_on(&machines, &long_problem());
}

#[test]
fn no_split_call_races() {
    let machine = host_that_splits(|options| {
        shuffle(options, seed());
        detect_races(options, seed());
    });
    check(10, attention_cases(192), |case| {
        let problem = case.problem();
        compare_split(&problem, &problem.reference(), &machine);
    });
    for (group, lists) in GROUPS {
        let case = AttentionCase {
            group,
            lists,
            list_len: 20,
            ..AttentionCase::plain(vec![(1, 1500), (2, 700)], seed())
        };
        let problem = case.problem();
        compare_split(&problem, &problem.reference(), &machine);
    }
}
