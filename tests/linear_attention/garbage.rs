//! What only the device sees: NaN beside a sequence does not leak into it, and bad lengths and slots read and write nothing and are counted.

use crate::{PRECISIONS, plain_case, rows, slot, tokens};
use sala_kernels::{Result, Status};
use sala_testkit::devices::{Machine, all, all_orders};
use sala_testkit::memory::Packing;
use sala_testkit::operations::linear_attention::cases::{
    DecayCase, LinearCase, Magnitude, StateCase, device_indices, linear_cases,
};
use sala_testkit::operations::linear_attention::{DecayValues, LinearProblem, LinearRun};
use sala_testkit::problem::{Problem, compare_on, compare_with, launch, run, same_bits};
use sala_testkit::property::{check, seed};
use sala_testkit::refusals::assert_blamed;

/// A call whose device data a test then spoils.
fn small_case(lengths: Vec<usize>) -> LinearCase {
    LinearCase {
        dim_k: 64,
        dim_v: 64,
        lengths,
        packing: Packing::Fused,
        ..plain_case()
    }
}

/// Asserts that a run has the same bits outside `poisoned` sequences as one without poison.
fn assert_no_leak(problem: &LinearProblem, clean: &LinearRun, run: &LinearRun, poisoned: usize, machine: &Machine) {
    for index in (0..problem.batch()).filter(|&index| index != poisoned) {
        let what = format!("{}: NaN of sequence {poisoned} is in sequence {index}", machine.name);
        let [run_bits, clean_bits] = [run, clean].map(|run| rows(problem, &run.out, tokens(problem, index)).to_bits());
        assert!(run_bits == clean_bits, "{what}");
        let state = problem.slot(slot(&problem.state_out, index) as usize);
        assert!(
            same_bits(&run.pool[state.clone()], &clean.pool[state]),
            "{what}: its state"
        );
    }
}

#[test]
fn nan_stays_in_its_sequence() {
    // Chunks that end inside a tile, so that the rows of the next sequence lie where a careless load would find them.
    let lengths = vec![17, 65, 1, 40];
    for machine in all_orders(seed()) {
        for precision in PRECISIONS {
            for packing in [Packing::Separate, Packing::Fused] {
                let case = LinearCase {
                    precision,
                    decay: DecayCase::PerToken,
                    packing,
                    lengths: lengths.clone(),
                    ..plain_case()
                };
                let problem = case.problem();
                let clean = run(&problem, &machine);
                for poisoned in 0..lengths.len() {
                    let mut sick = problem.clone();
                    let tokens = tokens(&problem, poisoned);
                    for values in [&mut sick.q, &mut sick.k, &mut sick.v] {
                        values.poison(tokens.start * 2 * 128..tokens.end * 2 * 128);
                    }
                    if let DecayValues::PerToken(g) = &mut sick.decay {
                        g[tokens.start * 2..tokens.end * 2].fill(f32::NAN);
                    }
                    sick.pool[problem.slot(slot(&problem.state_in, poisoned) as usize)].fill(f32::NAN);
                    assert_no_leak(&problem, &clean, &run(&sick, &machine), poisoned, &machine);
                }
            }
        }
    }
}

#[test]
fn memory_of_another_device_is_refused() -> Result<()> {
    let machines = all();
    let [host, cuda] = machines.as_slice() else {
        println!("skipped: there is one device");
        return Ok(());
    };
    let problem = small_case(vec![20]).problem();
    for (here, elsewhere) in [(host, cuda), (cuda, host)] {
        let (memory, foreign) = (problem.upload(here)?, problem.upload(elsewhere)?);
        let mut args = problem.prefill_args(&memory);
        args.q = foreign.tensor("q");
        assert_blamed(launch(here, &problem.layer()?, args), "q", &here.name);
    }
    Ok(())
}

#[test]
fn calls_without_work_are_fine() -> Result<()> {
    let machines = all();
    let mut empty_batch = small_case(vec![20]).problem();
    empty_batch.cu_seqlens = vec![0];
    (empty_batch.state_in, empty_batch.state_out) = (None, None);
    compare_on(&machines, &empty_batch);
    for machine in &machines {
        let stateless = LinearCase {
            states: StateCase::None,
            ..small_case(vec![20])
        };
        let problem = stateless.problem();
        let memory = problem.upload(machine)?;
        let mut args = problem.prefill_args(&memory);
        args.status = None;
        launch(machine, &problem.layer()?, args)?;
    }
    Ok(())
}

#[test]
fn tokens_of_no_sequence_are_not_touched() {
    for machine in all() {
        let case = LinearCase {
            lengths: vec![30, 50],
            ..plain_case()
        };
        let mut problem = case.problem();
        let clean = run(&problem, &machine);
        // The last 20 tokens belong to nobody, and hold NaN.
        problem.cu_seqlens = vec![0, 30, 60];
        for values in [&mut problem.q, &mut problem.k, &mut problem.v] {
            values.poison(60 * 256..80 * 256);
        }
        let run = compare_with(&problem, &problem.reference(), &machine);
        let [bits, clean_bits] = [&run, &clean].map(|run| rows(&problem, &run.out, 0..60).to_bits());
        assert!(bits == clean_bits, "{}", machine.name);
        assert_eq!(run.status, Status::default(), "{}", machine.name);
    }
}

#[test]
fn a_slot_named_twice_goes_to_the_first_and_is_counted() {
    let case = LinearCase {
        lengths: vec![20, 40, 0, 30],
        states: StateCase::Store,
        ..plain_case()
    };
    for case in [case.decode(4), case] {
        let mut problem = case.problem();
        problem.pool.fill(0.5);
        // Sequences 1 and 2 want what sequence 0 has, and sequence 3 what sequence 1 starts from.
        problem.state_in = Some(vec![-1, 7, 8, -1]);
        problem.state_out = Some(vec![4, 4, 4, 7]);
        assert_eq!(problem.reference().refused_slots, 3);
        compare_on(&all(), &problem);
    }
}

#[test]
fn bad_lengths_read_and_write_nothing_and_are_counted() {
    let machines = all_orders(seed());
    for cu_seqlens in [
        [0, 30, 20, 50],
        [0, 30, 50, 51],
        [-1, 30, 40, 50],
        [0, 30, 40, i32::MAX],
        [0, i32::MIN, 40, 50],
        [60, 70, 80, 90],
        [0, -30, 40, 50],
        // A list of bounds that does not begin at 0 spoils its first sequence.
        [1, 20, 40, 50],
        [5, 5, 40, 50],
    ] {
        let mut problem = small_case(vec![20, 20, 10]).problem();
        problem.cu_seqlens = cu_seqlens.to_vec();
        assert!(problem.reference().refused_lengths > 0, "{cu_seqlens:?} is not counted");
        compare_on(&machines, &problem);
    }
}

#[test]
fn bad_slots_read_and_write_nothing_and_are_counted() {
    let machines = all_orders(seed());
    let prefill = small_case(vec![20, 20, 10]);
    for case in [prefill.decode(3), prefill] {
        for bad in [-2, i32::MIN, 7, 8, i32::MAX] {
            for (is_input, sequence) in [(true, 0), (true, 2), (false, 0), (false, 1)] {
                let mut problem = case.problem();
                let list = if is_input {
                    &mut problem.state_in
                } else {
                    &mut problem.state_out
                };
                list.as_mut().expect("it has states")[sequence] = bad;
                assert_eq!(problem.reference().refused_slots, 1, "slot {bad}");
                compare_on(&machines, &problem);
            }
        }
    }
}

#[test]
fn any_device_data_is_survived() {
    let machines = all_orders(seed());
    check(
        40,
        (linear_cases(0), device_indices()),
        |(mut case, (cu_seqlens, state_in, state_out))| {
            case.lengths = vec![60, 45, 30];
            case.heads = 1;
            case.states = StateCase::InPlace;
            // Inputs that dominate what decay leaves of a state: a remainder alone is far below the precision of the state it came from.
            case.magnitude = Magnitude::Normal;
            let mut problem = case.problem();
            // States of one, so that no slot holds NaN that a bad index could seem to have spread.
            problem.pool.fill(1.0);
            problem.cu_seqlens = cu_seqlens;
            problem.state_in = Some(state_in);
            problem.state_out = Some(state_out);
            compare_on(&machines, &problem);
        },
    );
}
