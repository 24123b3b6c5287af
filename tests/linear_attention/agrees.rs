//! Outputs and states are those of the recurrence, to the tolerance.

use crate::{PRECISIONS, agree, judge_whole, part, plain_case, random_chunks, rows, run_in_parts, slot};
use proptest::prelude::*;
use sala_testkit::devices::{all, all_orders};
use sala_testkit::memory::Packing;
use sala_testkit::numbers::{LENGTHS, Numbers};
use sala_testkit::operations::linear_attention::cases::{
    DecayCase, LOG_DECAYS, LinearCase, Magnitude, StateCase, decays, linear_cases,
};
use sala_testkit::operations::linear_attention::{DecayValues, LinearProblem, LinearRun, Phase};
use sala_testkit::problem::{Problem, assert_same_bits, compare_with, run, same_bits};
use sala_testkit::property::{check, precisions, seed};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

/// Values that decay leaves less of than f16 holds count where keys, or decay, give them weight.
#[test]
fn small_parts_of_the_state_are_kept() {
    let machines = all();
    for precision in PRECISIONS {
        for state_is_vk in [false, true] {
            let case = LinearCase {
                precision,
                decay: DecayCase::Constant(-0.5),
                states: StateCase::Store,
                lengths: vec![128],
                heads: 1,
                state_is_vk,
                ..plain_case()
            };
            // Nothing is left in each chunk but what is far from its end.
            let mut problem = case.problem();
            let middle = |i: usize| i / 128 % 64 >= 32;
            let keys = problem.k.to_f64().into_iter().enumerate();
            problem.k = Values::round(precision, keys.map(|(i, x)| if middle(i) { 0.0 } else { x }));
            agree(&machines, &problem);
            // Small values under large queries.
            let case = LinearCase {
                decay: DecayCase::Constant(-0.02),
                lengths: vec![256],
                ..case
            };
            let mut problem = case.problem();
            let times =
                |values: &Values, factor: f64| Values::round(precision, values.to_f64().iter().map(|x| x * factor));
            problem.v = times(&problem.v, 3e-5);
            problem.q = times(&problem.q, 30.0);
            agree(&machines, &problem);
        }
    }
}

/// A log decay above 0 counts as 0; NaN makes the outputs from its token on, and the state, NaN.
#[test]
fn log_decays_that_are_none_are_taken_as_the_definition_says() {
    let machines = all();
    for case in [plain_case(), plain_case().decode(3)] {
        for g in [0.5, 1e-30, f32::INFINITY] {
            let case = LinearCase {
                decay: DecayCase::Constant(g),
                ..case.clone()
            };
            let zero = LinearCase {
                decay: DecayCase::Constant(0.0),
                ..case.clone()
            };
            agree(&machines, &case.problem());
            for machine in &machines {
                let runs = [case.problem(), zero.problem()].map(|problem| run(&problem, machine));
                assert_same_bits(&runs[0], &runs[1], &format!("{}: {g}", machine.name));
            }
        }
        let case = LinearCase {
            decay: DecayCase::PerToken,
            heads: 1,
            ..case
        };
        let clean = case.problem();
        let sick_token = clean.tokens() / 2;
        let mut sick = clean.clone();
        if let DecayValues::PerToken(g) = &mut sick.decay {
            g[sick_token] = f32::NAN;
        }
        for machine in &machines {
            let [clean_run, sick_run] = [&clean, &sick].map(|problem| run(problem, machine));
            let row = |run: &LinearRun, token: usize| rows(&clean, &run.out, token..token + 1);
            for token in 0..clean.tokens() {
                let is_touched = token == sick_token || (token > sick_token && case.phase == Phase::Prefill);
                let sick = row(&sick_run, token);
                match is_touched {
                    true => assert!(
                        sick.to_f64().iter().all(|x| x.is_nan()),
                        "{}: token {token}",
                        machine.name
                    ),
                    false => assert_eq!(
                        sick.to_bits(),
                        row(&clean_run, token).to_bits(),
                        "{}: token {token}",
                        machine.name
                    ),
                }
            }
            let sequence = if case.phase == Phase::Prefill { 0 } else { sick_token };
            let state = &sick_run.pool[clean.slot(slot(&clean.state_out, sequence) as usize)];
            assert!(state.iter().all(|x| x.is_nan()), "{}: the state", machine.name);
        }
    }
}

#[test]
fn prefill_agrees_with_the_recurrence() {
    let machines = all_orders(seed());
    check(40, linear_cases(192), |case| agree(&machines, &case.problem()));
}

#[test]
fn prefill_agrees_at_every_edge_of_a_chunk() {
    let machines = all();
    for (index, &length) in LENGTHS.iter().enumerate() {
        let (dim_k, dim_v) = [(128, 128), (64, 128), (64, 64), (128, 64)][index % 4];
        let case = LinearCase {
            precision: PRECISIONS[index % 2],
            dim_k,
            dim_v,
            lengths: vec![length, 0, LENGTHS[(index * 7 + 3) % LENGTHS.len()]],
            ..plain_case()
        };
        agree(&machines, &case.problem());
    }
}

#[test]
fn prefill_agrees_for_every_decay() {
    let machines = all();
    for precision in PRECISIONS {
        for g in LOG_DECAYS {
            let case = LinearCase {
                precision,
                decay: DecayCase::Constant(g),
                lengths: vec![130, 64],
                ..plain_case()
            };
            agree(&machines, &case.problem());
        }
        // The slopes of all 32 heads of SALA.
        let case = LinearCase {
            precision,
            heads: 32,
            dim_k: 64,
            dim_v: 64,
            lengths: vec![70],
            ..plain_case()
        };
        agree(&machines, &case.problem());
    }
}

#[test]
fn what_decay_leaves_of_a_state_is_precise() {
    // Zero inputs add nothing to the initial state that could hide what is left of it, down to e^-60 here.
    let machines = all();
    for g in [-1e-6, -0.01, -0.45, -0.55, -0.9, -60.0] {
        let length = if g < -1.0 { 1 } else { 66 };
        let case = LinearCase {
            decay: DecayCase::Constant(g),
            lengths: vec![length, 1],
            ..plain_case()
        };
        let mut problem = case.problem();
        let zeros = Values::round(problem.q.precision(), vec![0.0; problem.k.len()]);
        (problem.k, problem.v) = (zeros.clone(), zeros);
        agree(&machines, &problem);
        let slot = slot(&problem.state_in, 0);
        let step = part(&problem, 0..1, problem.pool.clone(), [slot, slot]);
        let phase = Phase::Decode;
        agree(&machines, &LinearProblem { phase, ..step });
    }
}

#[test]
fn resets_forget_whatever_came_before() {
    for machine in all() {
        for packing in [Packing::Separate, Packing::HeadMajor] {
            let case = LinearCase {
                decay: DecayCase::PerToken,
                lengths: vec![200],
                packing,
                ..plain_case()
            };
            let mut problem = case.problem();
            let reset = 77;
            if let DecayValues::PerToken(g) = &mut problem.decay {
                g[reset * 2..reset * 2 + 2].fill(f32::NEG_INFINITY);
            }
            let run = compare_with(&problem, &problem.reference(), &machine);

            // The tokens from the reset on alone, from nothing: the same to the tolerance.
            let fresh = part(&problem, reset..200, vec![f32::NAN; problem.config.slot_len()], [-1, 0]);
            let state = run.pool[problem.slot(slot(&problem.state_out, 0) as usize)].to_vec();
            judge_whole(&fresh, rows(&problem, &run.out, reset..200), state).assert(&machine.name);
        }
    }
}

#[test]
fn huge_numbers_do_not_overflow_inside() {
    let machines = all_orders(seed());
    for magnitude in [Magnitude::HugeScores, Magnitude::HugeState] {
        for precision in PRECISIONS {
            for decay in [DecayCase::None, DecayCase::Lightning, DecayCase::Constant(-20.0)] {
                let case = LinearCase {
                    precision,
                    magnitude,
                    decay,
                    lengths: vec![150, 17],
                    ..plain_case()
                };
                agree(&machines, &case.problem());
                agree(&machines, &case.decode(3).problem());
            }
        }
    }
}

#[test]
fn long_sequences_keep_their_precision() {
    let machines = all();
    for decay in [DecayCase::Constant(-1e-6), DecayCase::Lightning, DecayCase::PerToken] {
        let case = LinearCase {
            decay,
            lengths: vec![1500],
            heads: 1,
            precision: Precision::F16,
            ..plain_case()
        };
        agree(&machines, &case.problem());
    }
}

#[test]
fn an_empty_sequence_copies_its_state() {
    for machine in all() {
        for state_is_vk in [false, true] {
            let case = LinearCase {
                lengths: vec![20, 0, 0, 5],
                state_is_vk,
                states: StateCase::Store,
                ..plain_case()
            };
            let mut problem = case.problem();
            // Sequence 1 moves its state from slot 0 to slot 1, sequence 2 starts from nothing and stores to slot 2.
            problem.pool = (0..problem.pool.len()).map(|i| i as f32 * 0.25).collect();
            problem.state_in = Some(vec![-1, 0, -1, -1]);
            problem.state_out = Some(vec![-1, 1, 2, 3]);
            let run = compare_with(&problem, &problem.reference(), &machine);
            let [copied, empty] = [1, 2].map(|slot| &run.pool[problem.slot(slot)]);
            assert!(
                same_bits(copied, &problem.pool[problem.slot(0)]),
                "{}: the copy",
                machine.name
            );
            assert!(empty.iter().all(|&x| x == 0.0), "{}: the empty state", machine.name);
        }
    }
}

#[test]
fn any_chunks_give_the_same_to_the_tolerance() {
    let machines = all();
    let unit = prop::sample::select(vec![1usize, 15, 16, 33]);
    let shape = (precisions(), decays(), any::<u64>(), 1usize..=200, unit);
    check(8, shape, |(precision, decay, seed, length, unit)| {
        let case = LinearCase {
            precision,
            decay,
            seed,
            lengths: vec![length],
            heads: 1,
            ..plain_case()
        };
        let problem = case.problem();
        let mut numbers = Numbers::new(seed);
        let chunks = random_chunks(length, unit.max(length / 12), |n| numbers.below(n));
        for machine in &machines {
            let (out, pool) = run_in_parts(&problem, Phase::Prefill, &chunks, machine);
            judge_whole(&problem, out, pool).assert(&format!("{}, chunks {chunks:?}", machine.name));
        }
    });
}

#[test]
fn decode_agrees_with_the_recurrence() {
    let machines = all_orders(seed());
    check(40, (linear_cases(0), 1usize..=5), |(mut case, batch)| {
        if case.states == StateCase::None {
            case.states = StateCase::Mixed;
        }
        agree(&machines, &case.decode(batch).problem());
    });
}

#[test]
fn decode_steps_give_what_prefill_gives() {
    let shape = (precisions(), decays(), any::<bool>(), any::<u64>(), 1usize..=70);
    let machines = all();
    check(6, shape, |(precision, decay, state_is_vk, seed, length)| {
        let case = LinearCase {
            precision,
            decay,
            state_is_vk,
            seed,
            lengths: vec![length],
            heads: 1,
            ..plain_case()
        };
        let problem = case.problem();
        for machine in &machines {
            let (out, pool) = run_in_parts(&problem, Phase::Decode, &vec![1; length], machine);
            judge_whole(&problem, out, pool).assert(&machine.name);
        }
    });
}

#[test]
fn without_state_out_a_step_stays_in_its_slots() {
    let machines = all();
    let in_place = plain_case().decode(3).problem();
    let implied = LinearProblem {
        state_out: None,
        ..in_place.clone()
    };
    agree(&machines, &implied);
    for machine in &machines {
        assert_same_bits(&run(&implied, machine), &run(&in_place, machine), &machine.name);
    }
}
