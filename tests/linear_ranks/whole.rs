//! A sequence in parts gives what it gives whole: prefill from zero, decay, states merged in order, outputs corrected.

use crate::{config, seed};
use sala_testkit::devices::{Machine, all};
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, Magnitude, StateCase};
use sala_testkit::operations::linear_attention::{DecayValues, LinearProblem, Phase};
use sala_testkit::operations::linear_ranks::{RanksProblem, Step};
use sala_testkit::problem::{Problem, run};
use sala_testkit::tolerance::{LinearShape, Precision, linear_out, linear_state};
use sala_testkit::values::Values;
use std::ops::Range;

const HEADS: usize = 2;
const DIM: usize = 64;

fn whole(precision: Precision, tokens: usize, decay: DecayCase) -> LinearProblem {
    let case = LinearCase {
        phase: Phase::Prefill,
        precision,
        heads: 1,
        group: HEADS,
        dim_k: DIM,
        dim_v: DIM,
        lengths: vec![tokens],
        decay,
        state_is_vk: false,
        packing: Default::default(),
        magnitude: Magnitude::Normal,
        states: StateCase::InPlace,
        checkpoint_every: 0,
        seed: seed(),
    };
    case.problem()
}

/// A part from zero, which leaves its state.
fn part(whole: &LinearProblem, range: Range<usize>) -> LinearProblem {
    let total = whole.tokens();
    let rows = |values: &Values| values.rows(total, range.clone());
    let mut part = whole.clone();
    (part.q, part.k, part.v) = (rows(&whole.q), rows(&whole.k), rows(&whole.v));
    part.cu_seqlens = vec![0, range.len() as i32];
    if let DecayValues::PerToken(g) = &whole.decay {
        part.decay = DecayValues::PerToken(g[range.start * HEADS..range.end * HEADS].to_vec());
    }
    part.pool = vec![f32::NAN; part.config.slot_len()];
    (part.state_in, part.state_out) = (None, Some(vec![0]));
    part
}

/// The outputs of all parts, and the last state.
fn by_parts(whole: &LinearProblem, cuts: &[usize], machine: &Machine) -> (Vec<f64>, Vec<f32>) {
    let config = whole.config;
    let parts: Vec<_> = cuts.windows(2).map(|cut| part(whole, cut[0]..cut[1])).collect();
    let runs: Vec<_> = parts.iter().map(|part| run(part, machine)).collect();
    let sums: Vec<_> = parts
        .iter()
        .map(|part| {
            let mut sum = RanksProblem::sum(config, &[part.tokens()], DecayCase::None, 0);
            sum.step = Step::Sum {
                decay: part.decay.clone(),
            };
            run(&sum, machine).numbers
        })
        .collect();
    let slot = whole.state_in.as_ref().expect("it begins with a state")[0] as usize;
    let mut merge = RanksProblem::merge(config, [parts.len(), 1], 0);
    merge.step = Step::Merge {
        adds: runs.iter().flat_map(|run| run.pool.clone()).collect(),
        total: sums.iter().flat_map(|[_, total]| total.clone()).collect(),
        state_out: (1..=parts.len() as i32 + 1).collect(),
    };
    merge.state_in = vec![0];
    merge.pool = whole.pool[whole.slot(slot)].to_vec();
    merge.pool.resize((parts.len() + 2) * config.slot_len(), f32::NAN);
    let pool = run(&merge, machine).numbers[0].clone();
    let corrected = parts.iter().zip(&runs).zip(&sums).enumerate();
    let corrected = corrected.flat_map(|(index, ((part, local), [cumulative, _]))| {
        let mut correct = RanksProblem::correct(part.q.precision(), config, &[part.tokens()], DecayCase::None, 0);
        correct.step = Step::Correct {
            q: part.q.clone(),
            cumulative: cumulative.clone(),
            out: local.out.clone(),
        };
        (correct.pool, correct.state_in) = (pool.clone(), vec![index as i32 + 1]);
        run(&correct, machine).out.expect("corrected outputs").to_f64()
    });
    (
        corrected.collect(),
        pool[(parts.len() + 1) * config.slot_len()..].to_vec(),
    )
}

#[test]
fn parts_give_what_the_whole_gives() {
    let decays = [
        DecayCase::None,
        DecayCase::Lightning,
        DecayCase::PerToken,
        DecayCase::Constant(-0.5),
        DecayCase::Constant(f32::NEG_INFINITY),
    ];
    for machine in all() {
        for (index, decay) in decays.into_iter().enumerate() {
            let precision = [Precision::Bf16, Precision::F16][index % 2];
            let whole = whole(precision, 230, decay);
            let expected = whole.reference();
            let (out, state) = by_parts(&whole, &[0, 64, 64, 101, 230], &machine);
            let shape = LinearShape {
                precision,
                heads: HEADS,
                dim_v: DIM,
                cu_seqlens: &[0, 230],
            };
            linear_out(shape, &out, &expected.out).assert(&format!("{decay:?} on {}", machine.name));
            let slot = whole.stored_to().expect("it stores its state")[0] as usize;
            let state: Vec<f64> = state.into_iter().map(f64::from).collect();
            linear_state(precision, HEADS, DIM * DIM, &state, &expected.pool[whole.slot(slot)])
                .assert(&format!("state, {decay:?} on {}", machine.name));
        }
    }
}

#[test]
fn the_order_of_parts_matters() {
    // What the test above relies on: two parts the other way round are another sequence.
    let machine = &all()[0];
    let mut merge = RanksProblem::merge(config(1, DIM, DIM, false), [2, 1], seed());
    let Step::Merge { total, .. } = &mut merge.step else {
        unreachable!("it is a merge")
    };
    total.copy_from_slice(&[-0.1, -2.0]);
    let mut swapped = merge.clone();
    let Step::Merge { adds, total, .. } = &mut swapped.step else {
        unreachable!("it is a merge")
    };
    adds.rotate_left(DIM * DIM);
    total.rotate_left(1);
    assert_ne!(run(&merge, machine).numbers[0], run(&swapped, machine).numbers[0]);
}
