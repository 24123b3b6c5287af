//! Every shape, decay and tree against the definition.

use crate::{config, seed};
use sala_testkit::devices::all_orders;
use sala_testkit::memory::Packing;
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LOG_DECAYS};
use sala_testkit::operations::linear_drafts::{DraftsProblem, Step, random_parents, random_paths};
use sala_testkit::problem::compare_on;
use sala_testkit::tolerance::Precision;

#[test]
fn drafts_of_every_shape_agree() {
    let machines = all_orders(seed());
    let mut numbers = Numbers::new(seed());
    let packings = [Packing::Separate, Packing::Fused, Packing::HeadMajor];
    let constants = LOG_DECAYS.map(DecayCase::Constant);
    let decays = [DecayCase::None, DecayCase::Lightning, DecayCase::PerToken];
    let decays: Vec<_> = decays.into_iter().chain(constants).collect();
    for (index, drafts) in [1, 2, 3, 5, 7, 8, 15, 16].into_iter().enumerate() {
        for (shape, (dim_k, dim_v)) in [(64, 64), (64, 128), (128, 64), (128, 128)].into_iter().enumerate() {
            let index = index + shape;
            let precision = [Precision::Bf16, Precision::F16][index % 2];
            let config = config([1, 4, 3][index % 3], dim_k, dim_v, index / 2 % 2 == 0);
            let batch = 1 + numbers.below(5);
            let chain = DraftsProblem::normal(precision, config, [batch, drafts], decays[index % decays.len()], seed());
            let chain = DraftsProblem {
                packing: packings[index % 3],
                ..chain
            };
            let parent = Some(random_parents(&mut numbers, batch, drafts));
            let (accepted, path) = random_paths(&mut numbers, batch, drafts);
            for step in [
                Step::Verify { parent },
                Step::Commit {
                    accepted,
                    path: Some(path),
                },
            ] {
                compare_on(&machines, &chain.with(step));
            }
            compare_on(&machines, &chain);
        }
    }
}

#[test]
fn the_reset_of_one_branch_is_not_that_of_another() {
    // Draft 1 forgets everything; 2 follows the state, 3 follows 1.
    let machines = all_orders(seed());
    let config = config(1, 64, 64, false);
    let mut problem = DraftsProblem::normal(Precision::Bf16, config, [1, 4], DecayCase::PerToken, seed());
    if let sala_testkit::operations::linear_attention::DecayValues::PerToken(g) = &mut problem.decay {
        g.fill(-0.25);
        g[2..4].fill(f32::NEG_INFINITY);
    }
    compare_on(
        &machines,
        &problem.with(Step::Verify {
            parent: Some(vec![-1, 0, -1, 1]),
        }),
    );
}

#[test]
fn a_reset_does_not_make_a_number_of_nan() {
    // Sequence 1 starts from the slot that is NaN.
    let machines = all_orders(seed());
    let config = config(2, 64, 128, false);
    let reset = DecayCase::Constant(f32::NEG_INFINITY);
    let mut chain = DraftsProblem::normal(Precision::F16, config, [2, 3], reset, seed());
    chain.state_in = vec![0, 2];
    compare_on(&machines, &chain);
    let step = Step::Commit {
        accepted: vec![1, 3],
        path: None,
    };
    compare_on(&machines, &chain.with(step));
}
