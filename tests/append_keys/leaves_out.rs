//! Rows without a place are not written, and counted; the others are.

use sala_testkit::batch::Batch;
use sala_testkit::devices::all_orders;
use sala_testkit::memory::Packing;
use sala_testkit::operations::append_keys::{AppendProblem, is_untouched};
use sala_testkit::problem::{compare_on, run};
use sala_testkit::property::seed;
use sala_testkit::storage::Storage;
use sala_testkit::tolerance::Precision;

fn problem(storage: Storage, queries: &[usize], keys: &[usize]) -> AppendProblem {
    let batch = Batch {
        storage,
        ..Batch::new(queries, keys)
    };
    AppendProblem::normal(Precision::Bf16, 2, 64, batch, seed())
}

#[test]
fn rows_before_the_first_position_or_past_the_room_are_left_out() {
    let machines = all_orders(seed());
    for storage in [Storage::Cached(40), Storage::Indexed(40), Storage::Packed] {
        // More new rows than keys; a length past the room, of which the first rows fit; one that fits exactly.
        compare_on(&machines, &problem(storage, &[7, 9, 40, 0], &[3, 44, 40, 90]));
    }
}

#[test]
fn every_layout_is_appended_to() {
    let machines = all_orders(seed());
    let sizes = [1, 2, 8, 16, 64, 256, 1024];
    let stores = sizes
        .map(Storage::paged)
        .into_iter()
        .chain([Storage::Packed, Storage::Cached(600)]);
    for storage in stores {
        for packing in [Packing::Separate, Packing::Fused, Packing::HeadMajor] {
            let problem = problem(storage.clone(), &[1, 100, 0, 37], &[300, 100, 20, 600]);
            compare_on(&machines, &AppendProblem { packing, ..problem });
        }
    }
}

#[test]
fn a_sequence_longer_than_the_caller_said_is_refused_as_a_whole() {
    for machine in all_orders(seed()) {
        for hints in [[Some(36), None], [None, Some(599)]] {
            let mut problem = problem(Storage::Cached(600), &[37], &[600]);
            problem.batch.max_seqlens = hints;
            let run = run(&problem, &machine);
            assert_eq!(run.status.lengths, 1, "{}: {hints:?}", machine.name);
            assert!(
                is_untouched(&run.k) && is_untouched(&run.v),
                "{}: {hints:?}",
                machine.name
            );
        }
    }
}
