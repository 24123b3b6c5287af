//! Linear attention on every device against the recurrence, over generated calls.
//!
//! `PROPTEST_CASES` sets how many calls a property sees, `SALA_TEST_SEED` repeats a run.

use proptest::prelude::*;
use sala_kernels::{Device, HostOptions};
use sala_testkit::cases::{
    DecayCase, LENGTHS, LOG_DECAYS, LinearCase, Magnitude, Numbers, StateCase, check, decays, linear_cases, precisions,
    seed,
};
use sala_testkit::devices::{Machine, all, all_orders, race_detecting_host};
use sala_testkit::linear::{DecayValues, LinearProblem, LinearRun, same_bits};
use sala_testkit::memory::{POISON, Packing};
use sala_testkit::tolerance::{Judgement, LinearShape, Precision, linear_out, linear_state};
use sala_testkit::values::Values;

/// A plain call; tests change what they are about.
fn plain_case() -> LinearCase {
    LinearCase {
        precision: Precision::Bf16,
        heads: 2,
        dim_k: 128,
        dim_v: 128,
        lengths: vec![100],
        decay: DecayCase::Lightning,
        state_is_vk: false,
        packing: Packing::Separate,
        magnitude: Magnitude::Normal,
        states: StateCase::InPlace,
        seed: seed(),
    }
}

fn prefill(problem: &LinearProblem, machine: &Machine) -> LinearRun {
    problem
        .prefill(machine)
        .unwrap_or_else(|error| panic!("prefill on {}: {error}", machine.name))
}

fn decode(problem: &LinearProblem, machine: &Machine) -> LinearRun {
    problem
        .decode(machine)
        .unwrap_or_else(|error| panic!("decode on {}: {error}", machine.name))
}

/// Runs a prefill and compares everything it leaves behind with the reference.
fn check_prefill(problem: &LinearProblem, machine: &Machine) {
    let run = prefill(problem, machine);
    problem
        .judge(&run, &problem.prefill_on_reference())
        .assert(&machine.name);
    assert_eq!(run.status, [0; 4], "{}: nothing was to be refused", machine.name);
    assert!(run.is_intact, "{}: memory beside the tensors has changed", machine.name);
}

/// Runs a decode step and compares everything it leaves behind with the reference.
fn check_decode(problem: &LinearProblem, machine: &Machine) {
    let run = decode(problem, machine);
    let batch = problem.tokens();
    let sequences: Vec<i32> = (0..=batch as i32).collect();
    let reference = problem.decode_on_reference();
    problem.judge_out(&run, &reference, &sequences).assert(&machine.name);
    problem.judge_pool(&run, &reference).assert(&machine.name);
    assert_eq!(run.status, [0; 4], "{}: nothing was to be refused", machine.name);
    assert!(run.is_intact, "{}: memory beside the tensors has changed", machine.name);
}

fn rows(problem: &LinearProblem, values: &Values, tokens: std::ops::Range<usize>) -> Values {
    let row = values.len() / problem.tokens().max(1);
    values.slice(tokens.start * row..tokens.end * row)
}

/// The tokens of a call as a call of their own, on the given pool.
fn part(problem: &LinearProblem, tokens: std::ops::Range<usize>, pool: Vec<f32>, slots: (i32, i32)) -> LinearProblem {
    let heads = problem.config.heads;
    let decay = match &problem.decay {
        DecayValues::PerToken(g) => DecayValues::PerToken(g[tokens.start * heads..tokens.end * heads].to_vec()),
        other => other.clone(),
    };
    LinearProblem {
        config: problem.config,
        q: rows(problem, &problem.q, tokens.clone()),
        k: rows(problem, &problem.k, tokens.clone()),
        v: rows(problem, &problem.v, tokens.clone()),
        cu_seqlens: vec![0, tokens.len() as i32],
        decay,
        pool,
        state_in: Some(vec![slots.0]),
        state_out: Some(vec![slots.1]),
        packing: problem.packing,
    }
}

/// Judges an output and a final state against the reference of a call of one sequence, whose state is in `slot`.
fn judge_sequence(problem: &LinearProblem, out: &Values, pool: &[f32], slot: usize) -> Judgement {
    let reference = problem.prefill_on_reference();
    let config = problem.config;
    let precision = problem.q.precision();
    let shape = LinearShape {
        precision,
        heads: config.heads,
        dim_v: config.dim_v,
        cu_seqlens: &problem.cu_seqlens,
    };
    let elements = slot * config.slot_len()..(slot + 1) * config.slot_len();
    let state: Vec<f64> = pool[elements.clone()].iter().map(|&x| f64::from(x)).collect();
    let head_len = config.dim_k * config.dim_v;
    linear_out(shape, &out.to_f64(), &reference.out).and(linear_state(
        precision,
        config.heads,
        head_len,
        &state,
        &reference.pool[elements],
    ))
}

#[test]
fn prefill_agrees_with_the_recurrence() {
    let machines = all_orders(seed());
    check(40, linear_cases(192), |case| {
        let problem = case.problem();
        machines.iter().for_each(|machine| check_prefill(&problem, machine));
    });
}

#[test]
fn prefill_agrees_at_every_edge_of_a_chunk() {
    for machine in all() {
        for (index, &length) in LENGTHS.iter().enumerate() {
            let precision = if index % 2 == 0 {
                Precision::Bf16
            } else {
                Precision::F16
            };
            let dims = [(128, 128), (64, 128), (64, 64), (128, 64)][index % 4];
            let lengths = vec![length, 0, LENGTHS[(index * 7 + 3) % LENGTHS.len()]];
            let case = LinearCase {
                precision,
                dim_k: dims.0,
                dim_v: dims.1,
                lengths,
                ..plain_case()
            };
            check_prefill(&case.problem(), &machine);
        }
    }
}

#[test]
fn prefill_agrees_for_every_decay() {
    for machine in all() {
        for precision in [Precision::Bf16, Precision::F16] {
            for g in LOG_DECAYS {
                let decay = DecayCase::Constant(g);
                check_prefill(
                    &LinearCase {
                        precision,
                        decay,
                        lengths: vec![130, 64],
                        ..plain_case()
                    }
                    .problem(),
                    &machine,
                );
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
            check_prefill(&case.problem(), &machine);
        }
    }
}

#[test]
fn what_decay_leaves_of_a_state_is_precise() {
    // Zero inputs add nothing to the initial state that could hide what is left of it, down to e^-60 here.
    for machine in all() {
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
            check_prefill(&problem, &machine);
            problem.cu_seqlens = vec![0, length as i32];
            let slots = problem.state_in.as_ref().expect("it has states")[0];
            check_decode(&part(&problem, 0..1, problem.pool.clone(), (slots, slots)), &machine);
        }
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
            let run = prefill(&problem, &machine);
            problem
                .judge(&run, &problem.prefill_on_reference())
                .assert(&machine.name);

            // The tokens from the reset on alone, from nothing: the same to the tolerance.
            let fresh = part(&problem, reset..200, vec![f32::NAN; problem.config.slot_len()], (-1, 0));
            let slot = problem.state_out.as_ref().expect("it stores")[0] as usize;
            let state = run.pool[slot * problem.config.slot_len()..(slot + 1) * problem.config.slot_len()].to_vec();
            judge_sequence(&fresh, &rows(&problem, &run.out, reset..200), &state, 0).assert(&machine.name);
        }
    }
}

#[test]
fn huge_numbers_do_not_overflow_inside() {
    for machine in all_orders(seed()) {
        for magnitude in [Magnitude::HugeScores, Magnitude::HugeState] {
            for precision in [Precision::F16, Precision::Bf16] {
                for decay in [DecayCase::None, DecayCase::Lightning, DecayCase::Constant(-20.0)] {
                    let lengths = vec![150, 17];
                    let case = LinearCase {
                        precision,
                        magnitude,
                        decay,
                        lengths,
                        ..plain_case()
                    };
                    check_prefill(&case.problem(), &machine);
                    check_decode(
                        &LinearCase {
                            lengths: vec![1; 3],
                            ..case
                        }
                        .problem(),
                        &machine,
                    );
                }
            }
        }
    }
}

#[test]
fn decode_agrees_with_the_recurrence() {
    let machines = all_orders(seed());
    check(40, (linear_cases(0), 1usize..=5), |(mut case, batch)| {
        case.lengths = vec![1; batch];
        if case.states == StateCase::None {
            case.states = StateCase::Mixed;
        }
        let problem = case.problem();
        machines.iter().for_each(|machine| check_decode(&problem, machine));
    });
}

#[test]
fn decode_steps_give_what_prefill_gives() {
    let shape = (precisions(), decays(), any::<bool>(), any::<u64>(), 1usize..=70);
    let machines = all();
    check(6, shape, |(precision, decay, state_is_vk, seed, length)| {
        let lengths = vec![length];
        let case = LinearCase {
            precision,
            decay,
            state_is_vk,
            seed,
            lengths,
            heads: 1,
            ..plain_case()
        };
        let problem = case.problem();
        let slots = problem.state_in.clone().expect("it has states");
        for machine in &machines {
            let mut pool = problem.pool.clone();
            let mut bits = Vec::new();
            for token in 0..length {
                let step = part(&problem, token..token + 1, pool, (slots[0], slots[0]));
                let run = decode(&step, machine);
                bits.extend(run.out.to_bits());
                pool = run.pool;
            }
            let out = Values::from_bits(precision, bits);
            judge_sequence(&problem, &out, &pool, slots[0] as usize).assert(&machine.name);
        }
    });
}

/// Runs one sequence in chunks that carry its state on; gives the output and the pool.
fn prefill_in_chunks(problem: &LinearProblem, chunks: &[usize], machine: &Machine) -> (Values, Vec<f32>) {
    let slot = problem.state_in.as_ref().expect("it has states")[0];
    let mut pool = problem.pool.clone();
    let mut bits = Vec::new();
    let mut start = 0;
    for &length in chunks {
        let run = prefill(&part(problem, start..start + length, pool, (slot, slot)), machine);
        bits.extend(run.out.to_bits());
        pool = run.pool;
        start += length;
    }
    assert_eq!(start, problem.tokens(), "the chunks make up the whole");
    (Values::from_bits(problem.q.precision(), bits), pool)
}

/// Cuts `total` tokens into chunks of random multiples of `unit`; the last is what remains.
fn random_chunks(total: usize, unit: usize, mut pick: impl FnMut(usize) -> usize) -> Vec<usize> {
    let mut chunks = Vec::new();
    let mut left = total;
    while left > 0 {
        let chunk = (unit * (1 + pick(3))).min(left);
        chunks.push(chunk);
        left -= chunk;
    }
    chunks
}

#[test]
fn chunks_of_64_change_no_bit() {
    let machines = all_orders(seed());
    let shape = (precisions(), decays(), any::<bool>(), any::<u64>(), 65usize..=400);
    check(10, shape, |(precision, decay, state_is_vk, seed, length)| {
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
        let mut numbers = Numbers::new(seed);
        let chunks = random_chunks(length, 64, |n| numbers.below(n));
        for machine in &machines {
            let whole = prefill(&problem, machine);
            let (out, pool) = prefill_in_chunks(&problem, &chunks, machine);
            assert!(
                out.to_bits() == whole.out.to_bits(),
                "{}: outputs differ for chunks {chunks:?}",
                machine.name
            );
            assert!(
                same_bits(&pool, &whole.pool),
                "{}: states differ for chunks {chunks:?}",
                machine.name
            );
        }
    });
}

#[test]
fn any_chunks_give_the_same_to_the_tolerance() {
    let machines = all();
    let shape = (
        precisions(),
        decays(),
        any::<u64>(),
        1usize..=200,
        prop::sample::select(vec![1usize, 15, 16, 33]),
    );
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
        let slot = problem.state_in.as_ref().expect("it has states")[0] as usize;
        let mut numbers = Numbers::new(seed);
        let chunks = random_chunks(length, unit.max(length / 12), |n| numbers.below(n));
        for machine in &machines {
            let (out, pool) = prefill_in_chunks(&problem, &chunks, machine);
            judge_sequence(&problem, &out, &pool, slot).assert(&format!("{}, chunks {chunks:?}", machine.name));
        }
    });
}

/// Sequence `index` of a call alone, with its states on the whole pool.
fn alone(problem: &LinearProblem, index: usize) -> LinearProblem {
    let tokens = problem.cu_seqlens[index] as usize..problem.cu_seqlens[index + 1] as usize;
    let slot = |list: &Option<Vec<i32>>| list.as_ref().map_or(-1, |list| list[index]);
    part(
        problem,
        tokens,
        problem.pool.clone(),
        (slot(&problem.state_in), slot(&problem.state_out)),
    )
}

#[test]
fn a_sequence_alone_gives_the_bits_it_gives_in_a_batch() {
    let machines = all_orders(seed());
    check(16, linear_cases(130), |mut case| {
        if case.states == StateCase::None {
            case.states = StateCase::Store;
        }
        let problem = case.problem();
        for machine in &machines {
            let batch = prefill(&problem, machine);
            for index in 0..case.lengths.len() {
                let single = alone(&problem, index);
                let run = prefill(&single, machine);
                let tokens = problem.cu_seqlens[index] as usize..problem.cu_seqlens[index + 1] as usize;
                if !tokens.is_empty() {
                    let in_batch = rows(&problem, &batch.out, tokens);
                    assert!(
                        run.out.to_bits() == in_batch.to_bits(),
                        "{}: outputs of sequence {index}",
                        machine.name
                    );
                }
                let slot = single.state_out.as_ref().expect("it has slots")[0];
                if slot >= 0 {
                    let state =
                        slot as usize * problem.config.slot_len()..(slot as usize + 1) * problem.config.slot_len();
                    assert!(
                        same_bits(&run.pool[state.clone()], &batch.pool[state]),
                        "{}: the state of sequence {index}",
                        machine.name
                    );
                }
            }
        }
    });
}

#[test]
fn a_decode_step_does_not_depend_on_its_batch() {
    for machine in all_orders(seed()) {
        for precision in [Precision::Bf16, Precision::F16] {
            let case = LinearCase {
                precision,
                lengths: vec![1; 6],
                states: StateCase::Mixed,
                ..plain_case()
            };
            let problem = case.problem();
            let batch = decode(&problem, &machine);
            for index in 0..6 {
                let run = decode(&alone(&problem, index), &machine);
                let in_batch = rows(&problem, &batch.out, index..index + 1);
                assert!(
                    run.out.to_bits() == in_batch.to_bits(),
                    "{}: sequence {index}",
                    machine.name
                );
            }
        }
    }
}

#[test]
fn the_same_call_twice_gives_the_same_bits() {
    let machines = all_orders(seed());
    check(8, linear_cases(192), |case| {
        let problem = case.problem();
        let first = prefill(&problem, &machines[0]);
        for machine in machines.iter().filter(|machine| machine.device.is_host()) {
            let again = prefill(&problem, machine);
            assert!(again.out.to_bits() == first.out.to_bits(), "{}: outputs", machine.name);
            assert!(same_bits(&again.pool, &first.pool), "{}: states", machine.name);
        }
        for machine in machines.iter().filter(|machine| !machine.device.is_host()) {
            let (first, again) = (prefill(&problem, machine), prefill(&problem, machine));
            assert!(again.out.to_bits() == first.out.to_bits(), "{}: outputs", machine.name);
            assert!(same_bits(&again.pool, &first.pool), "{}: states", machine.name);
        }
    });
}

#[test]
fn value_tiles_of_any_width_give_the_same_bits() {
    let narrow = |multiprocessors| {
        let options = HostOptions {
            multiprocessors,
            ..HostOptions::default()
        };
        Machine::open(
            format!("host, {multiprocessors} multiprocessors"),
            Device::host_with(options),
        )
        .expect("it loads")
    };
    let machines = [narrow(1), narrow(4), narrow(1000)];
    for precision in [Precision::Bf16, Precision::F16] {
        for (dim_k, dim_v) in [(128, 128), (64, 64), (64, 128)] {
            let case = LinearCase {
                precision,
                dim_k,
                dim_v,
                decay: DecayCase::PerToken,
                ..plain_case()
            };
            let problem = case.problem();
            let wide = prefill(&problem, &machines[0]);
            for machine in &machines[1..] {
                check_prefill(&problem, machine);
                let run = prefill(&problem, machine);
                assert!(run.out.to_bits() == wide.out.to_bits(), "{}: outputs", machine.name);
                assert!(same_bits(&run.pool, &wide.pool), "{}: states", machine.name);
            }
        }
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
            let len = problem.config.slot_len();
            // Sequence 1 moves its state from slot 0 to slot 1, sequence 2 starts from nothing and stores to slot 2.
            problem.pool = (0..9 * len).map(|i| i as f32 * 0.25).collect();
            problem.state_in = Some(vec![-1, 0, -1, -1]);
            problem.state_out = Some(vec![-1, 1, 2, 3]);
            let run = prefill(&problem, &machine);
            problem
                .judge(&run, &problem.prefill_on_reference())
                .assert(&machine.name);
            assert!(
                same_bits(&run.pool[len..2 * len], &problem.pool[..len]),
                "{}: the copy",
                machine.name
            );
            assert!(
                run.pool[2 * len..3 * len].iter().all(|&x| x == 0.0),
                "{}: the empty state",
                machine.name
            );
        }
    }
}

#[test]
fn a_slot_named_twice_goes_to_the_first_and_is_counted() {
    for machine in all() {
        let case = LinearCase {
            lengths: vec![20, 40, 0, 30],
            states: StateCase::Store,
            ..plain_case()
        };
        let mut problem = case.problem();
        problem.pool = vec![0.5; 9 * problem.config.slot_len()];
        // Sequences 1 and 2 want what sequence 0 has, and sequence 3 what sequence 1 starts from.
        problem.state_in = Some(vec![-1, 7, 8, -1]);
        problem.state_out = Some(vec![4, 4, 4, 7]);
        let reference = problem.prefill_on_reference();
        assert_eq!(reference.refused_slots, 3);
        let run = prefill(&problem, &machine);
        problem.judge(&run, &reference).assert(&machine.name);
        assert_eq!(run.status, [0, 0, 0, 3], "{}", machine.name);

        let mut step = LinearCase {
            lengths: vec![1; 4],
            ..case
        }
        .problem();
        step.pool = problem.pool.clone();
        step.state_in = problem.state_in.clone();
        step.state_out = problem.state_out.clone();
        let reference = step.decode_on_reference();
        let run = decode(&step, &machine);
        step.judge_out(&run, &reference, &[0, 1, 2, 3, 4]).assert(&machine.name);
        step.judge_pool(&run, &reference).assert(&machine.name);
        assert_eq!(run.status, [0, 0, 0, 3], "{}", machine.name);
    }
}

/// Asserts that a run has the same bits outside `poisoned` sequences as one without poison.
fn assert_no_leak(problem: &LinearProblem, clean: &LinearRun, run: &LinearRun, poisoned: usize, machine: &Machine) {
    let row = problem.config.heads * problem.config.dim_v;
    for (index, pair) in problem
        .cu_seqlens
        .windows(2)
        .enumerate()
        .filter(|(index, _)| *index != poisoned)
    {
        let elements = pair[0] as usize * row..pair[1] as usize * row;
        let (run_bits, clean_bits) = (
            run.out.slice(elements.clone()).to_bits(),
            clean.out.slice(elements).to_bits(),
        );
        assert!(
            run_bits == clean_bits,
            "{}: NaN of sequence {poisoned} is in sequence {index}",
            machine.name
        );
        let slot = problem.state_out.as_ref().expect("it stores")[index] as usize;
        let state = slot * problem.config.slot_len()..(slot + 1) * problem.config.slot_len();
        assert!(
            same_bits(&run.pool[state.clone()], &clean.pool[state]),
            "{}: NaN of sequence {poisoned} is in the state of sequence {index}",
            machine.name
        );
    }
}

#[test]
fn nan_stays_in_its_sequence() {
    // Chunks that end inside a tile, so that the rows of the next sequence lie where a careless load would find them.
    let lengths = vec![17, 65, 1, 40];
    for machine in all_orders(seed()) {
        for precision in [Precision::Bf16, Precision::F16] {
            for packing in [Packing::Separate, Packing::Fused] {
                let decay = DecayCase::PerToken;
                let case = LinearCase {
                    precision,
                    decay,
                    packing,
                    lengths: lengths.clone(),
                    ..plain_case()
                };
                let problem = case.problem();
                let clean = prefill(&problem, &machine);
                for poisoned in 0..lengths.len() {
                    let mut sick = problem.clone();
                    let tokens = problem.cu_seqlens[poisoned] as usize..problem.cu_seqlens[poisoned + 1] as usize;
                    let (key_row, value_row) = (2 * 128, 2 * 128);
                    sick.q.poison(tokens.start * key_row..tokens.end * key_row);
                    sick.k.poison(tokens.start * key_row..tokens.end * key_row);
                    sick.v.poison(tokens.start * value_row..tokens.end * value_row);
                    if let DecayValues::PerToken(g) = &mut sick.decay {
                        g[tokens.start * 2..tokens.end * 2].fill(f32::NAN);
                    }
                    let slot = problem.state_in.as_ref().expect("it has states")[poisoned] as usize;
                    sick.pool[slot * problem.config.slot_len()..][..problem.config.slot_len()].fill(f32::NAN);
                    assert_no_leak(&problem, &clean, &prefill(&sick, &machine), poisoned, &machine);
                }
            }
        }
    }
}

#[test]
fn tokens_of_no_sequence_are_not_touched() {
    for machine in all() {
        let case = LinearCase {
            lengths: vec![30, 50],
            ..plain_case()
        };
        let mut problem = case.problem();
        let clean = prefill(&problem, &machine);
        // The last 20 tokens belong to nobody, and hold NaN.
        problem.cu_seqlens = vec![0, 30, 60];
        for values in [&mut problem.q, &mut problem.k, &mut problem.v] {
            values.poison(60 * 256..80 * 256);
        }
        let run = prefill(&problem, &machine);
        problem
            .judge(&run, &problem.prefill_on_reference())
            .assert(&machine.name);
        assert!(
            run.out.slice(0..60 * 256).to_bits() == clean.out.slice(0..60 * 256).to_bits(),
            "{}",
            machine.name
        );
        assert!(
            run.out
                .slice(60 * 256..80 * 256)
                .to_bits()
                .iter()
                .all(|&bits| bits == POISON)
        );
        assert_eq!(run.status, [0; 4]);
    }
}

#[test]
fn layouts_change_no_bit() {
    for machine in all() {
        for precision in [Precision::Bf16, Precision::F16] {
            let case = LinearCase {
                precision,
                lengths: vec![70, 0, 33],
                ..plain_case()
            };
            let separate = prefill(&case.problem(), &machine);
            for packing in [Packing::Fused, Packing::HeadMajor] {
                let run = prefill(
                    &LinearCase {
                        packing,
                        ..case.clone()
                    }
                    .problem(),
                    &machine,
                );
                assert!(
                    run.out.to_bits() == separate.out.to_bits(),
                    "{}: {packing:?}",
                    machine.name
                );
                assert!(same_bits(&run.pool, &separate.pool), "{}: {packing:?}", machine.name);
                assert!(run.is_intact, "{}: {packing:?}", machine.name);
            }
        }
    }
}

#[test]
fn no_call_races() {
    let machine = race_detecting_host(seed());
    for (precision, dims, decay) in [
        (Precision::Bf16, (128, 128), DecayCase::Lightning),
        (Precision::F16, (64, 128), DecayCase::PerToken),
        (Precision::F16, (128, 64), DecayCase::None),
    ] {
        for state_is_vk in [false, true] {
            let lengths = vec![65, 0, 130];
            let (dim_k, dim_v) = dims;
            let case = LinearCase {
                precision,
                dim_k,
                dim_v,
                decay,
                state_is_vk,
                lengths,
                heads: 1,
                ..plain_case()
            };
            check_prefill(&case.problem(), &machine);
            check_decode(
                &LinearCase {
                    lengths: vec![1; 2],
                    ..case
                }
                .problem(),
                &machine,
            );
        }
    }
}

#[test]
fn long_sequences_keep_their_precision() {
    for machine in all() {
        for decay in [DecayCase::Constant(-1e-6), DecayCase::Lightning, DecayCase::PerToken] {
            let lengths = vec![1500];
            let case = LinearCase {
                decay,
                lengths,
                heads: 1,
                precision: Precision::F16,
                ..plain_case()
            };
            check_prefill(&case.problem(), &machine);
        }
    }
}
