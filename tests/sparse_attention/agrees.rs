//! Outputs and logarithms are those of the definition.

use crate::steps::compare_entries;
use crate::{PRECISIONS, diverging_problem, gaping_problem, long_problem, scattered_problem};
use sala_kernels::Status;
use sala_testkit::batch::Batch;
use sala_testkit::devices::{all_variants, all_variants_and_orders};
use sala_testkit::memory::POISON;
use sala_testkit::numbers::LENGTHS;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, GROUPS, Inputs, ListCase, attention_cases};
use sala_testkit::operations::sparse_attention::{AttentionProblem, AttentionRun, Lists};
use sala_testkit::problem::{Problem, assert_same_bits, compare_on, compare_with, run};
use sala_testkit::property::{check, seed};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

#[test]
fn generated_calls_agree() {
    let machines = all_variants_and_orders(seed());
    check(60, attention_cases(192), |case| compare_on(&machines, &case.problem()));
}

#[test]
fn every_group_type_and_dim_agrees() {
    let machines = all_variants();
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
    let machines = all_variants();
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
    for machine in all_variants() {
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
    for machine in all_variants() {
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
        compare_on(&all_variants(), &problem);
    }
}

#[test]
fn zero_and_negative_scales_are_factors_like_others() {
    let machines = all_variants();
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

/// A factor of NaN makes its token NaN, whatever it sees, and no other.
#[test]
fn factors_of_nan_stay_in_their_tokens() {
    let case = AttentionCase {
        with_factor: true,
        ..AttentionCase::plain(vec![(9, 80), (1, 70)], seed())
    };
    let clean = case.problem();
    let mut sick = clean.clone();
    let row = clean.config.heads_kv * case.list_len;
    if let (Some(factors), Some(lists)) = (&mut sick.scale_factor, &mut sick.lists) {
        (factors[2], factors[5], factors[9]) = (f32::NAN, f32::NAN, f32::NAN);
        lists.indices[5 * row..6 * row].fill(-1);
    }
    let check = |name: &str, clean: &AttentionRun, sick: &AttentionRun| {
        for token in 0..10 {
            let [clean, sick] = [clean, sick].map(|run| run.part(10, token..token + 1));
            if [2, 5, 9].contains(&token) {
                assert!(sick.out.to_f64().iter().all(|x| x.is_nan()), "{name}: token {token}");
                assert!(sick.lse.iter().all(|x| x.is_nan()), "{name}: token {token}");
            } else {
                assert_same_bits(&clean, &sick, &format!("{name}: token {token}"));
            }
        }
    };
    for machine in all_variants() {
        check(&machine.name, &run(&clean, &machine), &run(&sick, &machine));
        let [clean, sick] = [&clean, &sick].map(|problem| run(&problem.decode(), &machine));
        check(&format!("{}, a step", machine.name), &clean, &sick);
    }
}

/// Many keys of little weight under one of weight 1, as under an attention sink: f16 has few bits below 2⁻¹⁴.
#[test]
fn small_weights_add_up() {
    // With more, what tensor cores cut off of sums shows too.
    let keys = 65_536;
    let precision = Precision::F16;
    let case = AttentionCase {
        precision,
        group: 1,
        dim: 64,
        lists: ListCase::None,
        ..AttentionCase::plain(vec![(1, keys)], seed())
    };
    let mut problem = case.problem();
    problem.config.scale = 1.0;
    // The first channel alone makes scores: 0, and −17·ln 2 or the next number of the type.
    let channel = |channel: usize, value: f64| if channel == 0 { value } else { 0.0 };
    let values = |tokens: usize, value: &dyn Fn(usize) -> f64| {
        let elements = (0..tokens * 64).map(|i| channel(i % 64, value(i / 64)));
        Values::round(precision, elements)
    };
    problem.q = values(1, &|_| 1.0);
    problem.k = values(keys, &|token| {
        if token == 0 {
            0.0
        } else {
            -17.0 * std::f64::consts::LN_2
        }
    });
    problem.v = values(keys, &|token| if token == 0 { 0.0 } else { 1.0 });
    let reference = problem.reference();
    for machine in all_variants() {
        compare_entries(&problem, &reference, &machine);
    }
}

/// A length below zero counts as zero.
#[test]
fn negative_switch_lengths_are_lengths_of_zero() {
    let case = AttentionCase {
        list_len: 1,
        ..AttentionCase::plain(vec![(1, 1000), (1, 300)], seed())
    };
    for dense_len in [0, 1, 64] {
        let mut problem = AttentionCase {
            dense_len,
            ..case.clone()
        }
        .problem();
        problem.batch.switch_len = Some(vec![-5, i32::MIN]);
        assert_eq!(problem.batch.dense(), [dense_len > 0; 2]);
        let reference = problem.reference();
        for machine in all_variants() {
            compare_entries(&problem, &reference, &machine);
        }
    }
}

/// A list of bounds that does not begin at 0 spoils its first sequence, whose rows nobody writes.
#[test]
fn bounds_that_do_not_begin_at_zero_are_refused() {
    let clean = AttentionCase::plain(vec![(20, 100), (9, 80)], seed()).problem();
    for is_query in [true, false] {
        let mut problem = clean.clone();
        let Batch {
            cu_seqlens_q,
            cu_seqlens_k,
            ..
        } = &mut problem.batch;
        let bounds = if is_query { cu_seqlens_q } else { cu_seqlens_k };
        bounds[0] = 3;
        for machine in all_variants_and_orders(seed()) {
            let [refused, whole] = [&problem, &clean].map(|problem| run(problem, &machine));
            assert_eq!(refused.status, Status::from([0, 0, 1, 0]), "{}", machine.name);
            let rows = refused.part(29, 0..20);
            // Rows that are no rows of q are nobody's to write.
            let expected = if is_query { POISON } else { 0 };
            let is_expected = rows.out.to_bits().iter().all(|&bits| bits == expected);
            assert!(is_expected, "{}: rows of the refused sequence", machine.name);
            let [refused, whole] = [refused, whole].map(|run| run.part(29, 20..29));
            assert!(refused.out.to_bits() == whole.out.to_bits(), "{}", machine.name);
        }
    }
}

#[test]
fn gates_of_any_size_stay_finite() {
    let machines = all_variants();
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
    for machine in all_variants() {
        compare_entries(&problem, &reference, &machine);
    }
}

/// Lists whose union has more steps than a tile's list has room for.
#[test]
fn unions_of_any_length_are_walked() {
    let problem = scattered_problem();
    let reference = problem.reference();
    for machine in all_variants() {
        compare_with(&problem, &reference, &machine);
    }
}

/// Warps that meet at few steps, in several orders.
#[test]
fn warps_far_apart_agree() {
    for dim in [64, 128] {
        let problem = diverging_problem(dim);
        let reference = problem.reference();
        for machine in all_variants_and_orders(seed()) {
            compare_with(&problem, &reference, &machine);
        }
    }
}

#[test]
fn lists_with_wide_gaps_agree() {
    for dim in [64, 128] {
        compare_on(&all_variants(), &gaping_problem(dim));
    }
}
