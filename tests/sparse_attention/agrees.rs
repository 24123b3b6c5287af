//! Outputs and logarithms are those of the definition.

use crate::split::{compare_split, machines_that_split};
use crate::{PRECISIONS, long_problem};
use sala_testkit::batch::Batch;
use sala_testkit::devices::{all, all_orders};
use sala_testkit::numbers::LENGTHS;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, GROUPS, Inputs, ListCase, attention_cases};
use sala_testkit::operations::sparse_attention::{AttentionProblem, Lists};
use sala_testkit::problem::{Problem, compare_on, compare_with};
use sala_testkit::property::{check, seed};
use sala_testkit::values::Values;

#[test]
fn generated_calls_agree() {
    let machines = all_orders(seed());
    check(60, attention_cases(192), |case| compare_on(&machines, &case.problem()));
}

#[test]
fn every_group_type_and_dim_agrees() {
    let machines = all();
    for (index, group) in GROUPS.into_iter().chain([5, 9, 17, 48, 64]).enumerate() {
        for (variant, precision) in PRECISIONS.into_iter().enumerate() {
            let case = AttentionCase {
                precision,
                group,
                heads_kv: 1 + index % 2,
                dim: [64, 128][(index + variant) % 2],
                lists: ListCase::Unruly,
                list_len: 4,
                ..AttentionCase::plain(vec![(37, 150), (0, 70), (1, 200)], seed())
            };
            compare_on(&machines, &case.problem());
        }
    }
}

#[test]
fn every_edge_agrees() {
    let machines = all();
    for (index, length) in LENGTHS.into_iter().enumerate() {
        let other = LENGTHS[(index * 7 + 3) % LENGTHS.len()];
        let case = AttentionCase {
            precision: PRECISIONS[index % 2],
            group: [16, 4, 7][index % 3],
            dim: [128, 64][index % 2],
            block_size: [64, 32, 128][index % 3],
            lists: [ListCase::None, ListCase::Selected, ListCase::Unruly][index % 3],
            // A whole prompt, one of no queries, a decode step, an empty sequence, a chunk.
            lengths: vec![
                (length, length),
                (0, other),
                (other.min(1), other),
                (0, 0),
                (other.min(17), other),
            ],
            ..AttentionCase::plain(Vec::new(), seed())
        };
        compare_on(&machines, &case.problem());
    }
}

#[test]
fn more_queries_than_keys_see_nothing_at_first() {
    let problem = AttentionCase::plain(vec![(20, 9), (5, 0), (3, 40)], seed()).problem();
    let reference = problem.reference();
    for machine in all() {
        let run = compare_with(&problem, &reference, &machine);
        for token in (0..11).chain(20..25) {
            let row = run.part(problem.total_q(), token..token + 1);
            let sees_nothing = row.lse.iter().all(|&lse| lse == f32::NEG_INFINITY);
            assert!(sees_nothing, "{}: token {token}", machine.name);
            assert!(
                row.out.to_f64().iter().all(|&x| x == 0.0),
                "{}: token {token}",
                machine.name
            );
        }
        let rest = run.part(problem.total_q(), 11..20);
        assert!(rest.lse.iter().all(|lse| lse.is_finite()), "{}", machine.name);
    }
}

#[test]
fn empty_lists_see_nothing() {
    for machine in all() {
        for list_len in [0, 4] {
            let case = AttentionCase {
                list_len,
                ..AttentionCase::plain(vec![(9, 70), (1, 130)], seed())
            };
            let mut problem = case.problem();
            let indices = vec![-1; problem.total_q() * problem.config.heads_kv * list_len];
            problem.lists = Some(Lists { indices, list_len });
            let run = compare_with(&problem, &problem.reference(), &machine);
            let sees_nothing = run.lse.iter().all(|&lse| lse == f32::NEG_INFINITY);
            assert!(sees_nothing, "{}: lists of {list_len}", machine.name);
            let is_zero = run.out.to_bits().iter().all(|&bits| bits & 0x7fff == 0);
            assert!(is_zero, "{}: lists of {list_len}", machine.name);
        }
    }
}

#[test]
fn the_threshold_decides_by_sequence() {
    let lengths = [127, 128, 129].into_iter().flat_map(|keys| [(1, keys), (20, keys)]);
    let case = AttentionCase {
        dense_len: 128,
        list_len: 1,
        ..AttentionCase::plain(lengths.collect(), seed())
    };
    let by_keys = case.problem();
    assert_eq!(by_keys.batch.dense(), [true, true, false, false, false, false]);
    // The lengths that decide need not be those of the keys.
    let batch = Batch {
        switch_len: Some(vec![128, 127, 0, 200, 127, 128]),
        ..by_keys.batch.clone()
    };
    assert_eq!(batch.dense(), [false, true, true, false, true, false]);
    let by_switch = AttentionProblem {
        batch,
        ..by_keys.clone()
    };
    for problem in [by_keys, by_switch] {
        compare_on(&all(), &problem);
    }
}

#[test]
fn zero_and_negative_scales_are_factors_like_others() {
    let machines = all();
    for (scale, inputs) in [
        (0.0, Inputs::Normal),
        (-0.2, Inputs::Normal),
        (-1.0, Inputs::Huge),
        (1e-30, Inputs::Huge),
        (3.0, Inputs::Zero),
    ] {
        let case = AttentionCase {
            inputs,
            group: 7,
            with_factor: true,
            ..AttentionCase::plain(vec![(40, 200), (1, 70)], seed())
        };
        let mut problem = case.problem();
        problem.config.scale = scale;
        if let Some(factors) = &mut problem.scale_factor {
            (factors[3], factors[4], factors[5]) = (0.0, -0.0, -1.5);
        }
        compare_on(&machines, &problem);
    }
}

#[test]
fn gates_of_any_size_stay_finite() {
    let machines = all();
    for precision in PRECISIONS {
        let case = AttentionCase {
            precision,
            with_gate: true,
            ..AttentionCase::plain(vec![(9, 80)], seed())
        };
        let mut problem = case.problem();
        let gates = [-6e4, -200.0, -90.0, 0.0, 90.0, 6e4];
        let gates = gates.into_iter().cycle().take(problem.q.len());
        problem.gate = Some(Values::round(precision, gates));
        compare_on(&machines, &problem);
    }
}

/// A sequence so long that the sets of a tile describe it in two windows.
#[test]
fn long_sequences_are_walked_window_by_window() {
    let problem = long_problem();
    let reference = problem.reference();
    for machine in all() {
        compare_with(&problem, &reference, &machine);
    }
    for machine in machines_that_split() {
        compare_split(&problem, &reference, &machine);
    }
}
