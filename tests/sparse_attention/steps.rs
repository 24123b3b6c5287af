//! Decode steps: few tokens, whose keys are cut into pieces.

use crate::{PRECISIONS, assert_same_in_any_batch_and_store};
use sala_kernels::Status;
use sala_kernels::reference::sparse_attention::Attention;
use sala_testkit::batch::Storing;
use sala_testkit::devices::{Machine, all, all_orders};
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, GROUPS, ListCase, attention_cases};
use sala_testkit::operations::sparse_attention::{AttentionProblem, Lists};
use sala_testkit::problem::{Problem, assert_same_bits, compare_with, run};
use sala_testkit::property::{check, seed};
use sala_testkit::refusals::assert_blamed;

/// Compares everything a call leaves behind with the reference, by either entry.
#[track_caller]
pub fn compare_entries(problem: &AttentionProblem, reference: &Attention, machine: &Machine) {
    compare_with(problem, reference, machine);
    compare_with(&problem.decode(), reference, machine);
}

#[test]
fn generated_steps_agree() {
    let machines = all_orders(seed());
    check(60, attention_cases(192), |case| {
        let problem = case.clone().step().problem().decode();
        let reference = problem.reference();
        for machine in &machines {
            compare_with(&problem, &reference, machine);
        }
    });
}

/// Sparse and dense sequences of one batch, with as many heads of a group as fill warps in every way.
#[test]
fn steps_agree_whatever_their_length() {
    let machines = all_orders(seed());
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
            ..AttentionCase::plain(
                vec![(1, 1), (1, 64), (0, 0), (1, 129), (1, 1500), (4, 900), (16, 20)],
                seed(),
            )
        };
        let mut problem = case.problem();
        // Scores so far apart that maxima differ by much between pieces.
        problem.config.scale *= [1.0, 8.0][index / 2 % 2];
        let reference = problem.reference();
        for machine in &machines {
            compare_with(&problem.decode(), &reference, machine);
        }
        problem.batch.switch_len = Some(vec![0, 0, 0, 1000, 129, 130, 7]);
        compare_with(&problem.decode(), &problem.reference(), &machines[0]);
    }
}

/// One token of a step alone, on the keys that it sees.
fn alone(problem: &AttentionProblem, sequence: usize, token: usize) -> AttentionProblem {
    let queries = problem.batch.query_lengths()[sequence] as usize;
    let keys = problem.batch.key_lengths()[sequence] as usize;
    let part = problem.part(sequence, token..token + 1, keys + token + 1 - queries);
    AttentionProblem {
        workspace: None,
        ..part
    }
    .decode()
}

/// Several tokens at once, as a verification takes them, have the bits of one after the other.
#[track_caller]
fn assert_chain_is_decoded(problem: &AttentionProblem, machine: &Machine, what: &str) {
    let whole = run(&problem.decode(), machine);
    for sequence in 0..problem.batch.sequences() {
        let first = problem.batch.cu_seqlens_q[sequence] as usize;
        for token in 0..problem.batch.query_lengths()[sequence] as usize {
            let one = run(&alone(problem, sequence, token), machine);
            let row = whole.part(problem.total_q(), first + token..first + token + 1);
            let what = format!("{}: {what}, sequence {sequence}, token {token}", machine.name);
            assert_same_bits(&row, &one, &what);
        }
    }
}

#[test]
fn verifying_a_chain_is_decoding_it() {
    for machine in all() {
        for (index, (group, dim, block_size)) in [(16, 128, 64), (2, 64, 32), (48, 64, 128)].into_iter().enumerate() {
            for lists in [ListCase::None, ListCase::Selected, ListCase::Unruly] {
                let case = AttentionCase {
                    precision: PRECISIONS[index % 2],
                    group,
                    dim,
                    block_size,
                    lists,
                    list_len: 15,
                    dense_len: 100,
                    with_factor: true,
                    with_gate: true,
                    storage: [Storing::Packed, Storing::Cached, Storing::Paged(16)][index],
                    ..AttentionCase::plain(vec![(16, 70), (3, 258), (7, 1030)], seed())
                };
                let mut problem = case.problem();
                problem.config.scale *= 8.0;
                // The second sequence is dense, whatever lengths its tokens have one by one.
                problem.batch.switch_len = Some(vec![100, 99, 1030]);
                assert_chain_is_decoded(&problem, &machine, &format!("group {group}, {lists:?}"));
            }
        }
    }
}

/// Pieces grow where there would be more than 128: between two tokens of this chain.
#[test]
fn verifying_a_chain_is_decoding_it_where_pieces_grow() {
    let case = AttentionCase {
        group: 1,
        dim: 64,
        lists: ListCase::None,
        ..AttentionCase::plain(vec![(4, 128 * 256 + 2)], seed())
    };
    let problem = case.problem();
    for machine in all() {
        assert_chain_is_decoded(&problem, &machine, "more than 128 pieces");
        compare_with(&problem.decode(), &problem.reference(), &machine);
    }
}

#[test]
fn a_step_has_the_same_bits_in_any_batch_and_store() {
    let machines = all();
    check(12, attention_cases(192), |case| {
        assert_same_in_any_batch_and_store(&machines, &case.clone().step(), AttentionProblem::decode);
    });
}

/// Bounds on lengths, lists with more room and another number of multiprocessors change the grid, and no bit.
#[test]
fn grids_change_no_bit() {
    let case = AttentionCase {
        dense_len: 200,
        ..AttentionCase::plain(vec![(3, 700), (0, 10), (1, 150)], seed())
    };
    let plain = case.problem();
    let bounded = AttentionProblem {
        batch: plain.batch.clone().bounded(),
        ..plain.clone()
    };
    let mut roomy = plain.clone();
    let padded = |list: &[i32], room: usize| [list, &vec![-1; room]].concat();
    roomy.lists = plain.lists.as_ref().map(|lists| Lists {
        indices: lists
            .indices
            .chunks(lists.list_len)
            .flat_map(|list| padded(list, 40))
            .collect(),
        list_len: lists.list_len + 40,
    });
    let mut switched = plain.clone();
    switched.batch.switch_len = Some(plain.batch.key_lengths());
    for machine in all() {
        let expected = run(&plain.decode(), &machine);
        for (what, problem) in [
            ("bounds", &bounded),
            ("longer lists", &roomy),
            ("lengths to switch by", &switched),
        ] {
            let what = format!("{}: {what}", machine.name);
            assert_same_bits(&expected, &run(&problem.decode(), &machine), &what);
        }
    }
}

#[test]
fn a_step_asks_for_its_workspace() {
    let mut problem = AttentionCase::plain(vec![(1, 300), (1, 500)], seed()).problem();
    problem.batch.max_seqlens[0] = Some(1);
    let step = problem.decode();
    let enough = step.workspace.expect("decoding takes one");
    let with = |problem: &AttentionProblem, workspace| AttentionProblem {
        workspace,
        ..problem.clone()
    };
    for machine in all() {
        let expected = run(&step, &machine);
        machine.stream.take_counters();
        for workspace in [None, Some(0), Some(16), Some(enough - 16)] {
            let what = format!("{}: {workspace:?} of {enough} bytes", machine.name);
            assert_blamed(with(&step, workspace).run(&machine), "workspace", &what);
            assert_eq!(machine.stream.take_counters().blocks, 0, "{what}: a kernel has run");
        }
        let with_more = run(&with(&step, Some(enough + 16)), &machine);
        assert_same_bits(&with_more, &expected, &machine.name);
        // A prefill does not use one.
        let prefill = [run(&problem, &machine), run(&with(&problem, Some(16)), &machine)];
        assert_same_bits(&prefill[0], &prefill[1], &machine.name);
    }
}

#[test]
fn a_step_has_no_more_than_16_tokens_of_a_sequence() {
    let problem = AttentionCase::plain(vec![(17, 300), (1, 500)], seed()).problem();
    for machine in all() {
        assert_blamed(problem.decode().run(&machine), "max_seqlen_q", &machine.name);
        // Nor may there be more without a bound: 18 rows could be of one sequence.
        let mut unbounded = AttentionCase::plain(vec![(9, 300), (9, 500)], seed())
            .problem()
            .decode();
        run(&unbounded, &machine);
        unbounded.batch.max_seqlens[0] = None;
        assert_blamed(unbounded.run(&machine), "max_seqlen_q", &machine.name);
        // What the bound does not say is refused by kernels, and counted.
        let mut longer = problem.decode();
        longer.batch.max_seqlens[0] = Some(16);
        let run = run(&longer, &machine);
        assert_eq!(run.status, Status::from([0, 0, 1, 0]), "{}", machine.name);
        assert!(run.lse[..17 * 16].iter().all(|&lse| lse == f32::NEG_INFINITY));
        assert!(run.lse[17 * 16..].iter().all(|&lse| lse.is_finite()));
    }
}

#[test]
fn refusals_are_counted_once_however_keys_are_cut() {
    let case = AttentionCase {
        group: 48,
        ..AttentionCase::plain(vec![(2, 90), (1, 70), (3, 900)], seed())
    };
    let mut problem = case.problem();
    problem.batch.cu_seqlens_k[1] = i32::MAX;
    if let Some(lists) = &mut problem.lists {
        lists.indices.fill(1 << 10);
    }
    for machine in all() {
        let [whole, step] = [&problem, &problem.decode()].map(|problem| run(problem, &machine));
        assert_eq!(whole.status, Status::from([0, 9, 2, 0]), "{}", machine.name);
        assert_eq!(step.status, whole.status, "{}", machine.name);
        assert_same_bits(&whole, &step, &machine.name);
    }
}
