//! Pages that are not there, stores without spare rows, and lists that cannot be.

use sala_kernels::reference::score_keys::Config;
use sala_testkit::batch::{Batch, Storing};
use sala_testkit::devices::{all_orders, can_detect_races, race_detecting_host};
use sala_testkit::operations::compact_keys::CompactProblem;
use sala_testkit::operations::gather_rows::{GatherProblem, KeptTokens};
use sala_testkit::operations::score_keys::ScoreProblem;
use sala_testkit::problem::{compare_on, run};
use sala_testkit::property::seed;
use sala_testkit::storage::{Pages, Storage};
use sala_testkit::tolerance::Precision;

/// Pages of which one is bad.
fn with_bad(page_size: usize, page: usize) -> Storage {
    Storage::Paged(Pages {
        bad: Some((0, page)),
        ..Pages::new(page_size)
    })
}

#[test]
fn keys_of_bad_pages_have_no_scores() {
    let machines = all_orders(seed());
    let config = Config {
        heads_q: 4,
        heads_kv: 2,
        dim: 64,
        pool: 5,
    };
    for (page_size, page) in [(1, 509), (16, 0), (64, 7), (128, 4)] {
        let batch = Batch {
            storage: with_bad(page_size, page),
            ..Batch::new(&[3, 1], &[530, 70])
        };
        compare_on(&machines, &ScoreProblem::normal(Precision::F16, config, batch, seed()));
    }
}

#[test]
fn rows_of_bad_pages_are_zero_or_stay() {
    let machines = all_orders(seed());
    for (page_size, page) in [(1, 40), (16, 0), (64, 3)] {
        let mut kept = KeptTokens::random(Precision::Bf16, [2, 64], &[300, 9], 200, Storing::Packed, seed());
        kept.batch.storage = with_bad(page_size, page);
        compare_on(&machines, &GatherProblem(kept.clone()));
        compare_on(&machines, &CompactProblem(kept));
    }
}

/// Entries before their own place, repeated, in no order, and of no token.
#[test]
fn lists_that_do_not_ascend_move_what_can_be_moved() {
    let machines = all_orders(seed());
    for storing in [Storing::Packed, Storing::Indexed, Storing::Paged(1), Storing::Paged(64)] {
        let mut kept = KeptTokens::random(Precision::F16, [1, 128], &[1500, 3], 1400, storing, seed());
        let count = kept.chosen;
        for (entry, token) in kept.indices[..count].iter_mut().enumerate() {
            // In turn: as it is, backwards from the end, its own place, before it, past the end.
            *token = match entry % 5 {
                0 => *token,
                1 => 1499 - entry as i32 / 2,
                2 => entry as i32,
                3 => entry as i32 - 1,
                _ => 1500,
            };
        }
        compare_on(&machines, &GatherProblem(kept.clone()));
        compare_on(&machines, &CompactProblem(kept.clone()));
        if can_detect_races() {
            run(&CompactProblem(kept), &race_detecting_host(seed()));
        }
    }
}

/// Lists longer than a sequence, of one token, and of none.
#[test]
fn lists_of_any_length() {
    let machines = all_orders(seed());
    for chosen in [0, 1, 511, 512, 513, 1025] {
        let kept = KeptTokens::random(Precision::Bf16, [2, 64], &[700, 0, 1], chosen, Storing::Cached, seed());
        compare_on(&machines, &GatherProblem(kept.clone()));
        compare_on(&machines, &CompactProblem(kept));
    }
}
