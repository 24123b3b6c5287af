//! A call of few tokens that is split over the GPU gives the bits of the whole.

use crate::PRECISIONS;
use sala_kernels::reference::sparse_attention::Attention;
use sala_kernels::{HostOptions, Status};
use sala_testkit::batch::Storing;
use sala_testkit::devices::{Machine, cuda, host_with, shuffle};
use sala_testkit::operations::sparse_attention::AttentionProblem;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, GROUPS, ListCase, attention_cases};
use sala_testkit::problem::{Problem, assert_same_bits, compare_with, run};
use sala_testkit::property::{check, seed};

/// A CPU that claims so many multiprocessors that any call is split over them.
pub fn host_that_splits(change: impl FnOnce(&mut HostOptions)) -> Machine {
    host_with("host, splitting", |options| {
        change(options);
        options.multiprocessors = u32::MAX;
    })
}

/// Devices that split calls: the CPU in two orders of execution, and a GPU where calls are small.
pub fn machines_that_split() -> Vec<Machine> {
    let shuffled = host_that_splits(|options| shuffle(options, seed()));
    [host_that_splits(|_| {}), shuffled].into_iter().chain(cuda()).collect()
}

/// Splits a call, and compares everything it leaves behind with the reference and with the whole.
#[track_caller]
pub fn compare_split(problem: &AttentionProblem, reference: &Attention, machine: &Machine) {
    let split = compare_with(&problem.decode(), reference, machine);
    assert_same_bits(&split, &run(problem, machine), &machine.name);
}

#[test]
fn splitting_changes_no_bit() {
    let machines = machines_that_split();
    check(24, attention_cases(192), |case| {
        let problem = case.problem();
        let reference = problem.reference();
        machines
            .iter()
            .for_each(|machine| compare_split(&problem, &reference, machine));
    });
}

#[test]
fn decode_steps_are_split_whatever_their_length() {
    let machines = machines_that_split();
    for (index, group) in GROUPS.into_iter().chain([64]).enumerate() {
        let case = AttentionCase {
            precision: PRECISIONS[index % 2],
            group,
            dim: [128, 64][index % 2],
            block_size: [64, 128, 32][index % 3],
            lists: [ListCase::Selected, ListCase::Unruly, ListCase::None][index % 3],
            list_len: 12,
            dense_len: 130,
            with_factor: true,
            with_gate: true,
            storage: Storing::Cached,
            ..AttentionCase::plain(vec![(1, 1), (1, 64), (0, 0), (1, 129), (1, 1500), (4, 900)], seed())
        };
        let mut problem = case.problem();
        // Scores so far apart that maxima rise in the middle of a round.
        problem.config.scale *= [1.0, 8.0][index / 2 % 2];
        let reference = problem.reference();
        machines
            .iter()
            .for_each(|machine| compare_split(&problem, &reference, machine));
        problem.batch.switch_len = Some(vec![0, 0, 0, 1000, 129, 130]);
        compare_split(&problem, &problem.reference(), &machines[0]);
    }
}

#[test]
fn a_workspace_is_used_if_it_is_large_enough() {
    let mut problem = AttentionCase::plain(vec![(1, 300), (1, 500)], seed()).problem();
    problem.batch.max_seqlens[0] = Some(1);
    let split = problem.decode();
    let enough = split.workspace.expect("decoding takes one");
    for machine in machines_that_split() {
        let blocks = || machine.stream.take_counters().blocks;
        let whole = run(&problem, &machine);
        let blocks_of_whole = blocks();
        let too_few = [None, Some(0), Some(16), Some(enough - 16)];
        for workspace in too_few.into_iter().chain([Some(enough), Some(enough + 16)]) {
            let given = AttentionProblem {
                workspace,
                ..split.clone()
            };
            let what = format!("{}: {workspace:?} of {enough} bytes", machine.name);
            assert_same_bits(&run(&given, &machine), &whole, &what);
            // Only the CPU counts: two tiles in all, or for each of two rows a block of four steps and blocks of 32 columns.
            let times = if workspace < Some(enough) { 1 } else { 2 + 4 };
            assert_eq!(blocks(), blocks_of_whole * times, "{what}");
        }
        // A prefill does not use it.
        let prefill = AttentionProblem {
            workspace: Some(enough),
            ..problem.clone()
        };
        assert_same_bits(&run(&prefill, &machine), &whole, &machine.name);
        assert_eq!(blocks(), blocks_of_whole, "{}: a prefill", machine.name);
    }
}

#[test]
fn refusals_are_counted_once_however_a_call_is_split() {
    let case = AttentionCase {
        group: 48,
        ..AttentionCase::plain(vec![(2, 90), (1, 70), (3, 40)], seed())
    };
    let mut problem = case.problem();
    problem.batch.cu_seqlens_k[1] = i32::MAX;
    if let Some(lists) = &mut problem.lists {
        lists.indices.fill(1 << 10);
    }
    for machine in machines_that_split() {
        let (whole, split) = (run(&problem, &machine), run(&problem.decode(), &machine));
        assert_eq!(whole.status, Status::from([0, 9, 2, 0]), "{}", machine.name);
        assert_eq!(split.status, whole.status, "{}", machine.name);
        assert_same_bits(&whole, &split, &machine.name);
    }
}
