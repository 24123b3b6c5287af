//! Every step against its definition, with what is refused.

use crate::{config, seed};
use sala_testkit::devices::all_orders;
use sala_testkit::memory::Packing;
use sala_testkit::operations::linear_attention::DecayValues;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LOG_DECAYS};
use sala_testkit::operations::linear_ranks::{RanksProblem, Step};
use sala_testkit::problem::{Problem, assert_same_bits, compare_on, run};
use sala_testkit::tolerance::Precision;

#[test]
fn decays_add_up() {
    let machines = all_orders(seed());
    let constants = LOG_DECAYS.map(DecayCase::Constant);
    let decays = [DecayCase::None, DecayCase::Lightning, DecayCase::PerToken];
    for (index, decay) in decays.into_iter().chain(constants).enumerate() {
        for lengths in [&[1][..], &[256, 0, 257], &[15, 600, 16]] {
            let heads = [1, 33, 3][index % 3];
            compare_on(
                &machines,
                &RanksProblem::sum(config(heads, 64, 64, false), lengths, decay, seed()),
            );
        }
    }
    // More than a block has of a constant decay.
    let long = RanksProblem::sum(
        config(1, 64, 64, false),
        &[4097, 8191],
        DecayCase::Constant(-0.25),
        seed(),
    );
    compare_on(&machines, &long);
}

#[test]
fn a_million_small_decays_add_up_to_what_they_are() {
    // In plain f32 the sum stops growing: 4e-7 is less than half a unit in the last place of 8.
    let tokens = 1 << 20;
    let mut problem = RanksProblem::sum(config(1, 64, 64, false), &[tokens], DecayCase::None, seed());
    let Step::Sum { decay } = &mut problem.step else {
        unreachable!("it is a sum")
    };
    *decay = DecayValues::PerToken([vec![-8.0], vec![-4e-7; tokens - 1]].concat());
    compare_on(&all_orders(seed())[..1], &problem);
}

#[test]
fn nan_in_a_decay_stays_with_its_head_and_what_follows() {
    let mut problem = RanksProblem::sum(config(2, 64, 64, false), &[300, 20], DecayCase::PerToken, seed());
    let Step::Sum {
        decay: DecayValues::PerToken(g),
    } = &mut problem.step
    else {
        unreachable!("it has gates")
    };
    g[2 * 270 + 1] = f32::NAN;
    compare_on(&all_orders(seed()), &problem);
}

#[test]
fn states_merge_in_the_order_of_parts() {
    let machines = all_orders(seed());
    for (index, shape) in [[0, 1], [1, 3], [2, 2], [8, 1], [5, 3]].into_iter().enumerate() {
        let [dim_k, dim_v] = [[64, 64], [128, 64], [64, 256]][index % 3];
        let problem = RanksProblem::merge(config(1 + index % 3, dim_k, dim_v, index % 2 == 1), shape, seed());
        compare_on(&machines, &problem);
        compare_on(&machines, &problem.packed(Packing::Fused));
    }
}

#[test]
fn slots_that_cannot_be_are_refused_and_counted() {
    let machines = all_orders(seed());
    let good = RanksProblem::merge(config(2, 64, 64, false), [2, 2], seed());
    for (inputs, outputs) in [
        (vec![0, -2], vec![2, 3, 4, 5, -1, -1]),
        (vec![0, 6], vec![0, 3, 4, 5, -1, 1]),
        // In place, which is no matter; a slot twice; one that the other sequence begins in.
        (vec![0, 1], vec![-1, -1, 0, 1, 0, 5]),
        (vec![0, 1], vec![1, 0, 2, i32::MIN, 6, i32::MAX]),
        (vec![-1, -1], vec![2, 2, 2, 2, 2, 2]),
    ] {
        let mut problem = good.clone();
        problem.state_in = inputs;
        if let Step::Merge { state_out, .. } = &mut problem.step {
            *state_out = outputs;
        }
        compare_on(&machines, &problem);
    }
    let mut corrected = RanksProblem::correct(
        Precision::Bf16,
        config(2, 64, 64, false),
        &[9, 3, 8],
        DecayCase::None,
        seed(),
    );
    for state_in in [vec![0, 4, -1], vec![-2, 1, 1], vec![i32::MAX, i32::MIN, 0]] {
        corrected.state_in = state_in;
        compare_on(&machines, &corrected);
    }
    corrected.cu_seqlens = vec![0, 12, 9, 20];
    compare_on(&machines, &corrected);
}

#[test]
fn outputs_are_corrected() {
    let machines = all_orders(seed());
    let constants = LOG_DECAYS.map(DecayCase::Constant);
    let decays = [DecayCase::None, DecayCase::Lightning, DecayCase::PerToken];
    let packings = [Packing::Separate, Packing::Fused, Packing::HeadMajor];
    for (index, decay) in decays.into_iter().chain(constants).enumerate() {
        for (shape, [dim_k, dim_v]) in [[64, 64], [64, 128], [128, 64], [128, 256]].into_iter().enumerate() {
            let index = index + shape;
            let precision = [Precision::Bf16, Precision::F16][index % 2];
            let config = config(1 + index % 3, dim_k, dim_v, index / 2 % 2 == 0);
            let lengths = [&[1, 33][..], &[64, 0, 31], &[97]][index % 3];
            let problem = RanksProblem::correct(precision, config, lengths, decay, seed());
            compare_on(&machines, &problem.packed(packings[index % 3]));
        }
    }
    // More than a block has.
    let long = RanksProblem::correct(
        Precision::Bf16,
        config(1, 64, 64, false),
        &[1057],
        DecayCase::None,
        seed(),
    );
    compare_on(&machines, &long);
}

#[test]
fn states_beyond_f16_correct_f16() {
    let mut problem = RanksProblem::correct(
        Precision::F16,
        config(2, 64, 64, false),
        &[40],
        DecayCase::Lightning,
        seed(),
    );
    problem.config.scale = 1e-6;
    problem.pool.iter_mut().for_each(|x| *x *= 1e6);
    compare_on(&all_orders(seed()), &problem);
}

#[test]
fn zero_forgets_what_is_finite_alone() {
    let mut problem = RanksProblem::correct(
        Precision::Bf16,
        config(1, 64, 64, false),
        &[70],
        DecayCase::None,
        seed(),
    );
    let Step::Correct { cumulative, .. } = &mut problem.step else {
        unreachable!("it is a correction")
    };
    cumulative[3..].fill(-300.0);
    let machines = all_orders(seed());
    compare_on(&machines, &problem);
    problem.pool[5 * 64 + 7] = f32::NAN;
    problem.pool[9 * 64 + 20] = f32::INFINITY;
    compare_on(&machines, &problem);
    for machine in &machines {
        let out = run(&problem, machine).out.expect("corrected outputs").to_f64();
        let is_nan: Vec<_> = (0..64).filter(|&channel| out[69 * 64 + channel].is_nan()).collect();
        assert_eq!(is_nan, [7, 20], "{}", machine.name);
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone() {
    let config = config(2, 128, 64, false);
    for machine in all_orders(seed()) {
        let both = RanksProblem::correct(Precision::F16, config, &[80, 45], DecayCase::PerToken, seed());
        let mut alone = both.clone();
        let Step::Correct { q, cumulative, out } = &both.step else {
            unreachable!("it is a correction")
        };
        alone.step = Step::Correct {
            q: q.slice(80 * 256..125 * 256),
            cumulative: cumulative[160..].to_vec(),
            out: out.slice(80 * 128..125 * 128),
        };
        (alone.cu_seqlens, alone.tokens, alone.state_in) = (vec![0, 45], 45, vec![both.state_in[1]]);
        let mut tail = run(&both, &machine);
        tail.out = tail.out.map(|out| out.slice(80 * 128..125 * 128));
        assert_same_bits(&tail, &run(&alone, &machine), &machine.name);
    }
}
