//! States are copied as sequences fork, and a reused slot forgets what it held.

use crate::{config, seed};
use sala_testkit::devices::all_orders;
use sala_testkit::memory::Packing;
use sala_testkit::operations::linear_attention::cases::DecayCase;
use sala_testkit::operations::linear_drafts::{DraftsProblem, Step};
use sala_testkit::problem::{compare_on, run};
use sala_testkit::tolerance::Precision;

fn copy(state_in: Vec<i32>, state_out: Vec<i32>) -> DraftsProblem {
    let config = config(1, 128, 128, false);
    let problem = DraftsProblem::normal(Precision::Bf16, config, [4, 1], DecayCase::None, seed());
    DraftsProblem {
        step: Step::Copy,
        state_in,
        state_out: Some(state_out),
        ..problem
    }
}

#[test]
fn a_state_goes_to_as_many_slots_as_are_named() {
    let machines = all_orders(seed());
    let problem = copy(vec![0, 0, 0, -1], vec![1, 2, 4, -1]);
    for packing in [Packing::Separate, Packing::Fused] {
        compare_on(
            &machines,
            &DraftsProblem {
                packing,
                ..problem.clone()
            },
        );
    }
    for machine in &machines {
        let run = run(&problem, machine);
        let length = problem.config.slot_len();
        for slot in [1, 2, 4] {
            let copied = &run.pool[slot * length..(slot + 1) * length];
            assert_eq!(copied, &problem.pool[..length], "{}: slot {slot}", machine.name);
        }
    }
}

#[test]
fn a_source_of_none_clears_a_slot() {
    for machine in all_orders(seed()) {
        // Slot 4 holds NaN.
        let problem = copy(vec![-1, 1, 2, 3], vec![4, 1, -1, 3]);
        let run = run(&problem, &machine);
        let length = problem.config.slot_len();
        assert!(
            run.pool[4 * length..].iter().all(|&x| x.to_bits() == 0),
            "{}",
            machine.name
        );
        assert_eq!(run.pool[..4 * length], problem.pool[..4 * length], "{}", machine.name);
    }
}
