//! Trees of drafts: each sees what its list names before the drafts, itself and its ancestors.

use crate::{PRECISIONS, assert_same_in_any_batch_and_store};
use sala_kernels::Status;
use sala_testkit::batch::{Storing, Trees};
use sala_testkit::devices::{all, all_orders, race_detecting_host};
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::sparse_attention::AttentionProblem;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, GROUPS, ListCase, attention_cases};
use sala_testkit::problem::{Problem, assert_same_bits, compare_on, compare_with, run};
use sala_testkit::property::{check, seed};
use sala_testkit::storage::{Pages, Storage};

#[test]
fn generated_trees_agree() {
    let machines = all_orders(seed());
    check(60, attention_cases(192), |case| {
        let step = case.clone().step().problem();
        compare_on(&machines, &step.decode_trees(&mut Numbers::new(case.seed)));
    });
}

/// Sequences of any length, drafts that straddle cells and pages, and more drafts than keys.
#[test]
fn trees_agree_whatever_their_length() {
    let machines = all_orders(seed());
    let mut numbers = Numbers::new(seed());
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
            storage: [Storing::Cached, Storing::Paged(4), Storing::Packed, Storing::Paged(64)][index % 4],
            ..AttentionCase::plain(
                vec![
                    (1, 1),
                    (16, 16),
                    (0, 0),
                    (16, 9),
                    (5, 133),
                    (16, 1500),
                    (9, 900),
                    (16, 20),
                ],
                seed(),
            )
        };
        let mut problem = case.problem();
        problem.config.scale *= [1.0, 8.0][index / 2 % 2];
        let mut trees = problem.decode_trees(&mut numbers);
        compare_on(&machines, &trees);
        trees.batch.switch_len = Some(vec![0, 0, 0, 1000, 129, 130, 7, 200]);
        let again = trees.decode();
        compare_with(&again, &again.reference(), &machines[0]);
    }
}

/// A list of 127 pieces and the drafts, and one of more, whose pieces are longer.
#[test]
fn trees_of_long_sequences_agree() {
    let mut numbers = Numbers::new(seed());
    for past in [127 * 256, 127 * 256 + 1] {
        let case = AttentionCase {
            group: 1,
            dim: 64,
            lists: ListCase::None,
            ..AttentionCase::plain(vec![(4, past + 4)], seed())
        };
        compare_on(&all(), &case.problem().decode_trees(&mut numbers));
    }
}

/// With every block listed, a chain as a tree gives what the chain gives, but for rounding.
#[test]
fn a_chain_is_a_tree() {
    for machine in all() {
        let case = AttentionCase {
            lists: ListCase::None,
            ..AttentionCase::plain(vec![(16, 70), (3, 258), (7, 1030)], seed())
        };
        let chain = case.problem().decode();
        let mut tree = chain.clone();
        tree.batch.trees = Some(Trees::chains(3, 16));
        compare_with(&tree, &chain.reference(), &machine);
    }
}

#[test]
fn a_tree_has_the_same_bits_in_any_batch_and_store() {
    let machines = all();
    check(8, attention_cases(192), |case| {
        let case = case.clone().step();
        let longest = case.lengths.iter().map(|(queries, _)| *queries).max().unwrap_or(0);
        let all_trees = Trees::random(&mut Numbers::new(case.seed), case.lengths.len(), longest);
        let trees = |problem: &AttentionProblem| {
            let mut step = problem.decode();
            // A part of the batch has kept its own.
            step.batch.trees.get_or_insert_with(|| all_trees.clone());
            step
        };
        let mut with_trees = case.problem();
        with_trees.batch.trees = Some(all_trees.clone());
        let whole = run(&with_trees.decode(), &machines[0]);
        for (sequence, &(queries, keys)) in case.lengths.iter().enumerate() {
            let first = with_trees.batch.cu_seqlens_q[sequence] as usize;
            let alone = run(&with_trees.part(sequence, 0..queries, keys).decode(), &machines[0]);
            let within = whole.part(with_trees.total_q(), first..first + queries);
            assert_same_bits(&within, &alone, &format!("sequence {sequence}"));
        }
        if case.lengths.len() == 1 {
            assert_same_in_any_batch_and_store(&machines, &case, trees);
        }
    });
}

/// A NaN in a draft reaches those below it alone.
#[test]
fn siblings_do_not_see_each_other() {
    for machine in all() {
        for storage in [Storing::Packed, Storing::Paged(1), Storing::Paged(64)] {
            let case = AttentionCase {
                storage,
                ..AttentionCase::plain(vec![(6, 250), (2, 90)], seed())
            };
            let mut problem = case.problem().decode();
            //     0 ─ 1 ─ 3        4 ─ 5: another root
            //       └ 2
            let parent = vec![-1, 0, 0, 1, -1, 4, -1, 0, -1, -1, -1, -1];
            problem.batch.trees = Some(Trees { parent, columns: 6 });
            let expected = run(&problem, &machine);
            for draft in 0..6usize {
                let mut spoilt = problem.clone();
                let row = problem.config.heads_kv * problem.config.dim;
                let key = (244 + draft) * row..(245 + draft) * row;
                spoilt.k.poison(key.clone());
                spoilt.v.poison(key);
                let got = run(&spoilt, &machine);
                let below: &[usize] = [&[0, 1, 2, 3][..], &[1, 3], &[2], &[3], &[4, 5], &[5]][draft];
                for token in (0..8).filter(|token| !below.contains(token)) {
                    let rows = [&expected, &got].map(|run| run.part(8, token..token + 1));
                    let what = format!("{}: {storage:?}, NaN in {draft}, seen by {token}", machine.name);
                    assert_same_bits(&rows[0], &rows[1], &what);
                }
                for &token in below {
                    assert!(
                        got.part(8, token..token + 1).lse.iter().all(|lse| lse.is_nan()),
                        "{draft} in {token}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_no_tree_is_refused_and_counted() {
    let case = AttentionCase::plain(vec![(3, 90), (4, 300), (2, 700)], seed());
    let right = case.problem().decode();
    let parents = |second: [i32; 4]| {
        let parent = [[-1, 0, 0, 77], second, [-1, 0, i32::MIN, 5]].concat();
        Some(Trees { parent, columns: 4 })
    };
    for machine in all() {
        let mut good = right.clone();
        good.batch.trees = parents([-1, 0, 1, -1]);
        let expected = run(&good, &machine);
        assert_eq!(expected.status, Status::default(), "entries of no draft are not read");
        for second in [
            [0, 0, 0, 0],
            [-1, 1, 0, 0],
            [-1, 0, 1, 3],
            [-2, 0, 1, 2],
            [-1, 0, i32::MAX, 1],
            [-1, 0, 1, i32::MIN],
        ] {
            let mut bad = right.clone();
            bad.batch.trees = parents(second);
            let got = run(&bad, &machine);
            assert_eq!(got.status, Status::from([0, 0, 1, 0]), "{}: {second:?}", machine.name);
            for others in [0..3, 7..9] {
                let rows = [&expected, &got].map(|run| run.part(9, others.clone()));
                assert_same_bits(&rows[0], &rows[1], &machine.name);
            }
            let refused = got.part(9, 3..7);
            assert!(
                refused.lse.iter().all(|&lse| lse == f32::NEG_INFINITY),
                "{}: {second:?}",
                machine.name
            );
            assert!(
                refused.out.to_bits().iter().all(|&bits| bits == 0),
                "{}: {second:?}",
                machine.name
            );
        }
    }
}

/// A draft in a bad page is as if it were not there, and counted.
#[test]
fn drafts_in_bad_pages_are_not_seen() {
    for machine in all() {
        let mut problem = AttentionCase::plain(vec![(3, 203)], seed()).problem();
        problem.batch.storage = Storage::Paged(Pages {
            bad: Some((0, 201)),
            ..Pages::new(1)
        });
        // The last draft, and the same without its bad ancestor.
        let [with, without] = [[-1, 0, 1], [-1, 0, 0]].map(|parent| {
            let mut step = problem.decode();
            let parent = parent.to_vec();
            step.batch.trees = Some(Trees { parent, columns: 3 });
            run(&step, &machine)
        });
        assert!(with.status.pages > 0 && without.status.pages > 0, "{}", machine.name);
        assert_same_bits(&with.part(3, 2..3), &without.part(3, 2..3), &machine.name);
        assert!(with.part(3, 2..3).lse.iter().all(|lse| lse.is_finite()));
    }
}

#[test]
fn no_trees_race() {
    let machine = race_detecting_host(seed());
    let mut numbers = Numbers::new(seed());
    let case = AttentionCase {
        storage: Storing::Paged(16),
        lists: ListCase::Unruly,
        ..AttentionCase::plain(vec![(5, 300), (16, 400)], seed())
    };
    let problem = case.problem().decode_trees(&mut numbers);
    compare_with(&problem, &problem.reference(), &machine);
}
