//! What must not change a bit: chunks of 64, the batch, the order of execution, the width of blocks, the memory layout.

use crate::{PRECISIONS, agree, part, plain_case, random_chunks, rows, run_in_parts, slot, tokens};
use proptest::prelude::*;
use sala_testkit::devices::{all, all_orders, host_with};
use sala_testkit::memory::Packing;
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, StateCase, decays, linear_cases};
use sala_testkit::operations::linear_attention::{LinearProblem, Phase};
use sala_testkit::problem::{assert_same_bits, run, same_bits};
use sala_testkit::property::{check, precisions, seed};

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
            let whole = run(&problem, machine);
            let (out, pool) = run_in_parts(&problem, Phase::Prefill, &chunks, machine);
            let what = format!("on {}, chunks {chunks:?}", machine.name);
            assert!(out.to_bits() == whole.out.to_bits(), "{what}: outputs");
            assert!(same_bits(&pool, &whole.pool), "{what}: states");
        }
    });
}

/// Sequence `index` of a call alone, with its states on the whole pool.
fn alone(problem: &LinearProblem, index: usize) -> LinearProblem {
    let slots = [&problem.state_in, &problem.state_out].map(|list| slot(list, index));
    part(problem, tokens(problem, index), problem.pool.clone(), slots)
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
            let batch = run(&problem, machine);
            for index in 0..case.lengths.len() {
                let single = alone(&problem, index);
                let run = run(&single, machine);
                let in_batch = rows(&problem, &batch.out, tokens(&problem, index));
                let what = format!("sequence {index} on {}", machine.name);
                assert!(run.out.to_bits() == in_batch.to_bits(), "{what}: outputs");
                if let Ok(slot) = usize::try_from(slot(&single.state_out, 0)) {
                    let state = problem.slot(slot);
                    assert!(
                        same_bits(&run.pool[state.clone()], &batch.pool[state]),
                        "{what}: the state"
                    );
                }
            }
        }
    });
}

#[test]
fn a_decode_step_does_not_depend_on_its_batch() {
    for machine in all_orders(seed()) {
        for precision in PRECISIONS {
            let case = LinearCase {
                precision,
                states: StateCase::Mixed,
                ..plain_case()
            };
            let problem = case.decode(6).problem();
            let batch = run(&problem, &machine);
            for index in 0..6 {
                let run = run(&alone(&problem, index), &machine);
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
        // All orders on the CPU give one result, and a GPU one of its own.
        for is_host in [true, false] {
            let mut machines = machines.iter().filter(|machine| machine.device.is_host() == is_host);
            let Some(first) = machines.next() else { continue };
            let expected = run(&problem, first);
            for machine in [first].into_iter().chain(machines) {
                assert_same_bits(&run(&problem, machine), &expected, &machine.name);
            }
        }
    });
}

#[test]
fn value_tiles_of_any_width_give_the_same_bits() {
    let host = |multiprocessors| {
        let name = format!("host, {multiprocessors} multiprocessors");
        host_with(&name, |options| options.multiprocessors = multiprocessors)
    };
    let machines = [1, 4, 1000].map(host);
    for precision in PRECISIONS {
        for (dim_k, dim_v) in [(128, 128), (64, 64), (64, 128)] {
            let case = LinearCase {
                precision,
                dim_k,
                dim_v,
                decay: DecayCase::PerToken,
                ..plain_case()
            };
            let problem = case.problem();
            agree(&machines, &problem);
            let wide = run(&problem, &machines[0]);
            for machine in &machines[1..] {
                assert_same_bits(&run(&problem, machine), &wide, &machine.name);
            }
        }
    }
}

#[test]
fn layouts_change_no_bit() {
    for machine in all() {
        for precision in PRECISIONS {
            let case = LinearCase {
                precision,
                lengths: vec![70, 0, 33],
                ..plain_case()
            };
            let separate = run(&case.problem(), &machine);
            for packing in [Packing::Fused, Packing::HeadMajor] {
                let other = LinearCase {
                    packing,
                    ..case.clone()
                };
                let what = format!("{packing:?} on {}", machine.name);
                assert_same_bits(&run(&other.problem(), &machine), &separate, &what);
            }
        }
    }
}
