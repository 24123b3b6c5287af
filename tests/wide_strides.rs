//! Strides are 64-bit numbers: every operation gives the same bits when all rows of its tensors lie more than 2³² elements apart.
//!
//! Most of that memory is never touched, so these calls run on the CPU only. That the strides of axes of one row are free is part of every test:
//! [`sala_testkit::memory::Memory`] makes them huge.

use sala_kernels::Entry;
use sala_testkit::devices::{Machine, host};
use sala_testkit::memory::Packing;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, Magnitude, StateCase};
use sala_testkit::operations::linear_attention::{LinearProblem, Phase};
use sala_testkit::operations::select_blocks::cases::{SelectionInputs, small_config};
use sala_testkit::operations::sparse_attention::AttentionProblem;
use sala_testkit::operations::sparse_attention::cases::AttentionCase;
use sala_testkit::operations::{Visitor, visit_all};
use sala_testkit::problem::{Problem, assert_same_bits, compare_with, run};
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;

struct SpreadsOut(Machine);

impl SpreadsOut {
    fn check<P: Problem>(&self, operation: &str, problem: &P) {
        let close = run(problem, &self.0);
        let wide = problem.clone().packed(Packing::Wide);
        let wide = compare_with(&wide, &problem.reference(), &self.0);
        assert_same_bits(&close, &wide, &format!("{operation} with rows far apart"));
    }
}

impl Visitor for SpreadsOut {
    fn visit<P: Problem>(&mut self, operation: &str, problems: Vec<P>) {
        println!("{operation}");
        for problem in &problems {
            self.check(operation, problem);
        }
    }
}

// One test: two at a time could run out of addresses.
#[test]
fn every_operation_takes_rows_far_apart() {
    let seed = seed();
    println!("SALA_TEST_SEED={seed}");
    let mut spreads_out = SpreadsOut(host());
    visit_all(&mut spreads_out, seed);

    // What those calls do not come to: several pieces, a second step of compressed keys, a state of whose rows each thread takes a part.
    spreads_out.check("attention in pieces", &decode_attention(seed));
    let inputs = SelectionInputs::normal(Precision::Bf16, small_config(2, 1, 64), &[2], &[64 * 70], seed);
    let keys = inputs.compress().reference();
    spreads_out.check("long selection", &inputs.select(&keys, None));
    spreads_out.check("transposed state", &transposed_step(seed));
}

fn decode_attention(seed: u64) -> AttentionProblem {
    let case = AttentionCase {
        heads_kv: 2,
        group: 3,
        with_gate: true,
        with_factor: true,
        ..AttentionCase::plain(vec![(1, 300), (2, 70)], seed)
    };
    let step = case.problem().decode();
    assert_eq!(step.entry, Entry::Decode);
    step
}

fn transposed_step(seed: u64) -> LinearProblem {
    let case = LinearCase {
        phase: Phase::Decode,
        precision: Precision::Bf16,
        heads: 2,
        group: 1,
        dim_k: 64,
        dim_v: 64,
        lengths: vec![1; 3],
        decay: DecayCase::PerToken,
        state_is_vk: true,
        packing: Packing::Separate,
        magnitude: Magnitude::Normal,
        states: StateCase::InPlace,
        checkpoint_every: 0,
        seed,
    };
    case.problem()
}
