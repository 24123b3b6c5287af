//! Drafts at random.

use super::{DraftsProblem, Step, random_parents, random_paths};
use crate::memory::Packing;
use crate::numbers::Numbers;
use crate::operations::linear_attention::cases::{DecayCase, decays};
use crate::problem::{Described, Problem};
use crate::property::{packings, precisions, seeds, spoils};
use crate::tolerance::Precision;
use proptest::prelude::*;
use sala_kernels::reference::linear_attention::Config;

/// Which [`Step`], its lists yet to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepCase {
    VerifyChain,
    VerifyTree,
    CommitFirst,
    CommitPath,
    Copy,
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct DraftsCase {
    pub step: StepCase,
    pub precision: Precision,
    /// Heads of k and v, and query heads of each.
    pub heads: (usize, usize),
    pub dims: [usize; 2],
    /// Sequences, and drafts of each.
    pub shape: [usize; 2],
    pub decay: DecayCase,
    pub state_is_vk: bool,
    pub packing: Packing,
    /// Whether states are stored where they were loaded from.
    pub in_place: bool,
    /// Whether lists and slots hold what they should not, on which the definition has a say.
    pub has_bad_indices: bool,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl Described for DraftsCase {
    type Problem = DraftsProblem;

    fn problem(&self) -> DraftsProblem {
        let ((heads_kv, group), [dim_k, dim_v], [batch, drafts]) = (self.heads, self.dims, self.shape);
        let config = Config {
            heads_q: heads_kv * group,
            heads_kv,
            dim_k,
            dim_v,
            scale: (dim_k as f32).powf(-0.5),
            state_is_vk: self.state_is_vk,
        };
        let mut numbers = Numbers::new(self.seed);
        let mut problem = DraftsProblem::normal(self.precision, config, self.shape, self.decay, self.seed);
        if !self.in_place {
            let others = problem.pool.clone();
            problem.pool.extend(others);
            problem.state_out = Some((0..batch).map(|sequence| (batch + 1 + sequence) as i32).collect());
        }
        let mut parent = random_parents(&mut numbers, batch, drafts);
        let (mut accepted, mut path) = random_paths(&mut numbers, batch, drafts);
        if self.has_bad_indices {
            let lists = [&mut parent, &mut accepted, &mut path, &mut problem.state_in];
            for list in lists.into_iter().chain(&mut problem.state_out) {
                spoil(list, &mut numbers, drafts.max(2 * batch) as i32);
            }
        }
        problem.step = match self.step {
            StepCase::VerifyChain => Step::Verify { parent: None },
            StepCase::VerifyTree => Step::Verify { parent: Some(parent) },
            StepCase::CommitFirst => Step::Commit { accepted, path: None },
            StepCase::CommitPath => {
                let path = Some(path);
                Step::Commit { accepted, path }
            }
            StepCase::Copy => Step::Copy,
        };
        problem.packed(self.packing)
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

/// Replaces an entry in eight, mostly by one that may be right elsewhere.
fn spoil(list: &mut [i32], numbers: &mut Numbers, largest: i32) {
    for entry in list {
        *entry = match numbers.below(32) {
            0 => numbers.bits() as i32,
            1..4 => numbers.below(largest as usize + 3) as i32 - 1,
            _ => *entry,
        };
    }
}

/// Verifications, commitments and copies.
pub(in crate::operations) fn calls() -> BoxedStrategy<DraftsCase> {
    let step = prop::sample::select(vec![
        StepCase::VerifyTree,
        StepCase::CommitPath,
        StepCase::VerifyChain,
        StepCase::CommitFirst,
        StepCase::Copy,
    ]);
    let heads = prop::sample::select(vec![(1, 1), (2, 1), (3, 1), (1, 2), (2, 3)]);
    let dim = || prop::sample::select(vec![64usize, 128]);
    let shape = (1usize..=5, 1usize..=16).prop_map(<[usize; 2]>::from);
    let what = (step, precisions(), heads, [dim(), dim()], shape, decays());
    let how = (any::<bool>(), packings(), any::<bool>(), prop::bool::weighted(0.25));
    (what, how, seeds(), spoils())
        .prop_map(|(what, how, seed, spoiled)| {
            let (step, precision, heads, dims, shape, decay) = what;
            let (state_is_vk, packing, in_place, has_bad_indices) = how;
            DraftsCase {
                step,
                precision,
                heads,
                dims,
                shape,
                decay,
                state_is_vk,
                packing,
                in_place,
                has_bad_indices,
                seed,
                spoiled,
            }
        })
        .boxed()
}
