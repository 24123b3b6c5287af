//! Sequences long enough to be split into segments, and states left on the way.

use crate::{PRECISIONS, agree, part, plain_case, rows, run_in_parts, slot, tokens};
use sala_kernels::{LinearAttention, Split, Status};
use sala_testkit::devices::{Machine, all, host, host_with, race_detecting_host, reversed_host, shuffled_host};
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, StateCase};
use sala_testkit::operations::linear_attention::{DecayValues, LinearProblem, LinearRun};
use sala_testkit::problem::{Problem, assert_same_bits, compare_with, launch, run, same_bits};
use sala_testkit::property::seed;
use sala_testkit::refusals::assert_blamed;
use sala_testkit::tolerance::Precision;
use std::time::Duration;

/// One head of 64 channels.
fn narrow(lengths: Vec<usize>, decay: DecayCase) -> LinearCase {
    LinearCase {
        heads: 1,
        dim_k: 64,
        dim_v: 64,
        lengths,
        decay,
        ..plain_case()
    }
}

const SPLIT: usize = LinearAttention::SPLIT_LEN;

#[test]
fn split_sequences_agree_with_the_recurrence() {
    let machines = all();
    for (index, decay) in [
        DecayCase::Constant(-0.0039),
        DecayCase::Constant(-0.5),
        DecayCase::Constant(-1e-6),
        DecayCase::PerToken,
        DecayCase::None,
    ]
    .into_iter()
    .enumerate()
    {
        let case = LinearCase {
            precision: PRECISIONS[index % 2],
            states: [StateCase::InPlace, StateCase::Mixed][index % 2],
            state_is_vk: index == 2,
            ..narrow(vec![100, SPLIT + 33], decay)
        };
        agree(&machines, &case.problem());
    }
}

#[test]
fn heads_that_warm_up_and_heads_that_do_not_share_a_call() {
    let case = LinearCase {
        heads: 3,
        lengths: vec![SPLIT, 70],
        ..narrow(vec![], DecayCase::Lightning)
    };
    let mut problem = case.problem();
    problem.decay = DecayValues::PerHead(vec![0.0, -0.01, f32::NEG_INFINITY]);
    agree(&all(), &problem);
}

/// Two warps per 64 channels or one per 32, blocks of fewer channels than a value has, grouped heads, two sequences with segments.
#[test]
fn every_width_of_blocks_is_split() {
    let machines = [
        host(),
        host_with("many multiprocessors", |options| options.multiprocessors = 200),
    ];
    for (precision, decay) in [
        (Precision::Bf16, DecayCase::None),
        (Precision::F16, DecayCase::Constant(-0.02)),
    ] {
        let case = LinearCase {
            precision,
            dim_k: 128,
            dim_v: 128,
            ..narrow(vec![SPLIT + 50], decay)
        };
        agree(&machines, &case.problem());
    }
    let case = LinearCase {
        group: 2,
        dim_v: 128,
        ..narrow(vec![SPLIT + 5, 30, SPLIT], DecayCase::PerToken)
    };
    agree(&machines, &case.problem());
}

#[test]
fn a_sequence_longer_than_its_bound_is_refused() {
    for machine in all() {
        let problem = narrow(vec![40, 65, 64], DecayCase::Lightning).problem();
        let whole = run(&problem, &machine);
        let mut memory = problem.upload(&machine).unwrap();
        let mut args = problem.prefill_args(&memory);
        args.max_seqlen_q = Some(64);
        launch(&machine, &problem.layer().unwrap(), args).unwrap();
        memory.take_back();
        let bounded = problem.read(&memory, Duration::ZERO).unwrap();
        assert_eq!(bounded.status, Status::from([0, 0, 1, 0]), "{}", machine.name);
        let bits = |run: &LinearRun, sequence| rows(&problem, &run.out, tokens(&problem, sequence)).to_bits();
        assert!(bits(&bounded, 1).iter().all(|&bits| bits == 0), "{}", machine.name);
        for sequence in [0, 2] {
            assert!(
                bits(&bounded, sequence) == bits(&whole, sequence),
                "{}: {sequence}",
                machine.name
            );
        }
        let state = problem.slot(slot(&problem.state_out, 1) as usize);
        assert!(
            same_bits(&bounded.pool[state.clone()], &problem.pool[state]),
            "{}: the state",
            machine.name
        );
    }
}

#[test]
fn a_long_call_without_room_is_refused() {
    let problem = narrow(vec![SPLIT], DecayCase::None).problem();
    let machine = host();
    let mut memory = problem.upload(&machine).unwrap();
    let mut args = problem.prefill_args(&memory);
    args.workspace = None;
    assert_blamed(
        launch(&machine, &problem.layer().unwrap(), args),
        "workspace",
        "none is given",
    );
    // A bound says that no sequence is long.
    memory.take_back();
    let mut args = problem.prefill_args(&memory);
    (args.workspace, args.max_seqlen_q) = (None, Some(SPLIT - 1));
    launch(&machine, &problem.layer().unwrap(), args).unwrap();
}

#[test]
fn the_state_after_64k_tokens_is_right() {
    for g in [-0.00390625, 0.0] {
        let case = narrow(vec![1 << 16], DecayCase::Constant(g));
        agree(&[host()], &case.problem());
    }
}

#[test]
fn f16_sums_16k_tokens_that_do_not_decay() {
    let case = LinearCase {
        precision: Precision::F16,
        ..narrow(vec![1 << 14], DecayCase::None)
    };
    for split in [Split::Auto, Split::Never] {
        agree(
            &[host()],
            &LinearProblem {
                split,
                ..case.problem()
            },
        );
    }
}

/// More blocks than multiprocessors, none of which may read the initial state once the final one is there: the last one first, too.
#[test]
fn split_sequences_stay_in_place_in_any_order() {
    let seed = seed();
    agree_in_place(&[
        reversed_host(),
        shuffled_host(seed),
        shuffled_host(seed.wrapping_add(1)),
    ]);
}

#[test]
fn split_sequences_in_place_do_not_race() {
    agree_in_place(&[race_detecting_host(seed())]);
}

fn agree_in_place(machines: &[Machine]) {
    for decay in [DecayCase::Constant(-0.1), DecayCase::None] {
        let case = LinearCase {
            heads: 2,
            states: StateCase::InPlace,
            ..narrow(vec![SPLIT + 1, 3], decay)
        };
        agree(machines, &case.problem());
    }
}

#[test]
fn a_split_depends_on_the_sequence_alone() {
    let machines = [
        host(),
        host_with("many multiprocessors", |options| options.multiprocessors = 200),
    ];
    for decay in [DecayCase::Constant(-0.01), DecayCase::PerToken] {
        let problem = narrow(vec![40, SPLIT + 5, 300], decay).problem();
        let batch = run(&problem, &machines[0]);
        for machine in &machines {
            let slots = [&problem.state_in, &problem.state_out].map(|list| slot(list, 1));
            let alone = run(
                &part(&problem, tokens(&problem, 1), problem.pool.clone(), slots),
                machine,
            );
            let in_batch = rows(&problem, &batch.out, tokens(&problem, 1));
            assert!(alone.out.to_bits() == in_batch.to_bits(), "{}: outputs", machine.name);
            let state = problem.slot(slots[1] as usize);
            assert!(
                same_bits(&alone.pool[state.clone()], &batch.pool[state]),
                "{}: the state",
                machine.name
            );
        }
    }
}

#[test]
fn sequences_may_begin_and_end_anywhere() {
    let lengths: Vec<usize> = (0..=64).map(|offset| 64 + offset).collect();
    for (dim_v, decay) in [(64, DecayCase::Lightning), (256, DecayCase::PerToken)] {
        let case = LinearCase {
            dim_v,
            ..narrow(lengths.clone(), decay)
        };
        agree(&all(), &case.problem());
    }
}

#[test]
fn checkpoints_are_the_states_of_calls_that_end_there() {
    let machines = all();
    for (precision, every) in PRECISIONS.into_iter().zip([64, 128]) {
        let case = LinearCase {
            precision,
            checkpoint_every: every,
            states: StateCase::Store,
            ..narrow(vec![300, 0, every, 70], DecayCase::PerToken)
        };
        let problem = case.problem();
        let (_, slots) = problem.checkpoints.clone().expect("it has some");
        let max = slots.len() / problem.batch();
        agree(&machines, &problem);
        for machine in &machines {
            let whole = run(&problem, machine);
            let mut count = 0;
            for sequence in 0..problem.batch() {
                let tokens = tokens(&problem, sequence);
                for (index, &checkpoint) in slots[sequence * max..][..max].iter().enumerate() {
                    let end = tokens.start + (index + 1) * every;
                    let Ok(checkpoint) = usize::try_from(checkpoint) else {
                        continue;
                    };
                    if end > tokens.end {
                        continue;
                    }
                    let until = run(
                        &part(&problem, tokens.start..end, problem.pool.clone(), [-1, 0]),
                        machine,
                    );
                    let (expected, got) = (&until.pool[problem.slot(0)], &whole.pool[problem.slot(checkpoint)]);
                    assert!(same_bits(expected, got), "{}: token {end}", machine.name);
                    count += 1;
                }
            }
            assert!(count > 2, "{count} checkpoints");
            // The outputs and the final states are those of a call without.
            let plain = LinearProblem {
                checkpoints: None,
                ..problem.clone()
            };
            let plain = run(&plain, machine);
            assert!(plain.out.to_bits() == whole.out.to_bits(), "{}: outputs", machine.name);
        }
    }
}

#[test]
fn checkpoints_of_split_sequences_and_bad_ones() {
    let case = LinearCase {
        checkpoint_every: 2048,
        states: StateCase::InPlace,
        ..narrow(vec![SPLIT + 64, 2048, 10], DecayCase::Constant(-0.01))
    };
    let mut problem = case.problem();
    agree(&all(), &problem);
    let (taken, slots) = (slot(&problem.state_in, 2), problem.slots() as i32);
    if let Some((_, checkpoints)) = &mut problem.checkpoints {
        checkpoints[..3].copy_from_slice(&[taken, slots, i32::MIN]);
        // Beyond the last one of a sequence.
        *checkpoints.last_mut().expect("there are some") = taken;
    }
    assert_eq!(problem.reference().refused_slots, 3);
    for machine in all() {
        compare_with(&problem, &problem.reference(), &machine);
    }
}

#[test]
fn a_sequence_that_is_never_split_has_the_bits_of_its_parts() {
    let machine = host();
    let case = narrow(vec![SPLIT + 64], DecayCase::Constant(-0.01));
    let problem = LinearProblem {
        split: Split::Never,
        ..case.problem()
    };
    let whole = run(&problem, &machine);
    let (out, pool) = run_in_parts(&problem, problem.phase, &[4096, SPLIT - 4096 + 64], &machine);
    assert!(out.to_bits() == whole.out.to_bits());
    assert!(same_bits(&pool, &whole.pool));
    let again = run(&problem, &machine);
    assert_same_bits(&whole, &again, "twice");
}
