//! What the kernels refuse and count.

use crate::{config, seed};
use sala_testkit::devices::all_orders;
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::linear_attention::cases::DecayCase;
use sala_testkit::operations::linear_drafts::{DraftsProblem, Step, random_parents, random_paths};
use sala_testkit::problem::{compare_on, run};
use sala_testkit::tolerance::Precision;

const DRAFTS: usize = 6;

fn chain() -> DraftsProblem {
    let config = config(2, 64, 64, false);
    DraftsProblem::normal(Precision::Bf16, config, [4, DRAFTS], DecayCase::Lightning, seed())
}

#[test]
fn parents_and_paths_that_cannot_be_are_refused_and_counted() {
    let machines = all_orders(seed());
    let good: Vec<i32> = (-1..DRAFTS as i32 - 1).collect();
    for (draft, parent) in [(0, 0), (2, 2), (3, 5), (1, -2), (5, i32::MAX), (4, i32::MIN)] {
        let mut parents = good.repeat(4);
        parents[DRAFTS + draft] = parent;
        compare_on(&machines, &chain().with(Step::Verify { parent: Some(parents) }));
    }
    for accepted in [-1, DRAFTS as i32 + 1, i32::MAX, i32::MIN] {
        let accepted = vec![2, accepted, 0, DRAFTS as i32];
        compare_on(&machines, &chain().with(Step::Commit { accepted, path: None }));
    }
    for (index, draft) in [(0, -1), (1, 0), (1, 6), (2, 1), (2, i32::MAX)] {
        let mut path: Vec<i32> = (0..DRAFTS as i32).collect::<Vec<_>>().repeat(4);
        path[2 * DRAFTS + index] = draft;
        // Of the fourth sequence nothing is accepted, so that its path is not read.
        path[3 * DRAFTS..].fill(-7);
        let accepted = vec![1, 3, 3, 0];
        let path = Some(path);
        compare_on(&machines, &chain().with(Step::Commit { accepted, path }));
    }
}

#[test]
fn slots_that_cannot_be_are_refused_and_counted() {
    let machines = all_orders(seed());
    let accepted = vec![3, 1, 0, 6];
    for (state_in, state_out) in [
        (vec![0, -1, 5, i32::MIN], None),
        (vec![0, 1, 2, 3], Some(vec![4, 4, -1, 3])),
        (vec![0, 0, 1, 2], Some(vec![3, 4, 0, 7])),
        (vec![2, 2, 2, 2], None),
        (vec![-1; 4], Some(vec![-1; 4])),
    ] {
        let problem = DraftsProblem {
            state_in,
            state_out,
            ..chain()
        };
        compare_on(&machines, &problem);
        let accepted = accepted.clone();
        compare_on(&machines, &problem.with(Step::Commit { accepted, path: None }));
        compare_on(&machines, &problem.with(Step::Copy));
    }
}

/// Lists of any content lead to no other memory.
#[test]
fn corrupted_lists_lead_nowhere_else() {
    let mut numbers = Numbers::new(seed());
    for machine in all_orders(seed()) {
        for _ in 0..10 {
            let mut spoil = |list: Vec<i32>| -> Vec<i32> {
                let spoilt = |entry| match numbers.below(4) {
                    0 => numbers.bits() as i32,
                    1 => numbers.below(20) as i32 - 2,
                    _ => entry,
                };
                list.into_iter().map(spoilt).collect()
            };
            let mut fresh = Numbers::new(seed());
            let (accepted, path) = random_paths(&mut fresh, 4, DRAFTS);
            let problem = DraftsProblem {
                state_in: spoil(vec![0, 1, 2, 3]),
                state_out: Some(spoil(vec![0, 1, 2, 3])),
                ..chain()
            };
            let parent = Some(spoil(random_parents(&mut fresh, 4, DRAFTS)));
            let (accepted, path) = (spoil(accepted), Some(spoil(path)));
            for step in [Step::Verify { parent }, Step::Commit { accepted, path }, Step::Copy] {
                run(&problem.with(step), &machine);
            }
        }
    }
}
