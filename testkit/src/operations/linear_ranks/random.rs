//! Parts of sequences at random.

use super::{RanksProblem, Step};
use crate::memory::Packing;
use crate::numbers::Numbers;
use crate::operations::linear_attention::cases::{DecayCase, decays};
use crate::problem::{Described, Problem};
use crate::property::{lengths, packings, precisions, seeds, spoils};
use crate::tolerance::Precision;
use proptest::prelude::*;
use sala_kernels::reference::linear_attention::Config;

/// Which [`Step`], its lists yet to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepCase {
    Sum,
    Merge,
    Correct,
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct RanksCase {
    pub step: StepCase,
    pub precision: Precision,
    pub heads: usize,
    pub dims: [usize; 2],
    pub lengths: Vec<usize>,
    /// Of a merge.
    pub parts: usize,
    pub decay: DecayCase,
    pub state_is_vk: bool,
    pub packing: Packing,
    /// Whether slots are what they should not be, on which the definition has a say, and states hold what is not finite.
    pub is_odd: bool,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl Described for RanksCase {
    type Problem = RanksProblem;

    fn problem(&self) -> RanksProblem {
        let ([dim_k, dim_v], batch) = (self.dims, self.lengths.len());
        let config = Config {
            heads_q: self.heads,
            heads_kv: 1,
            dim_k,
            dim_v,
            scale: (dim_k as f32).powf(-0.5),
            state_is_vk: self.state_is_vk,
        };
        let mut problem = match self.step {
            StepCase::Sum => RanksProblem::sum(config, &self.lengths, self.decay, self.seed),
            StepCase::Merge => RanksProblem::merge(config, [self.parts, batch], self.seed),
            StepCase::Correct => RanksProblem::correct(self.precision, config, &self.lengths, self.decay, self.seed),
        };
        if self.is_odd {
            let mut numbers = Numbers::new(self.seed + 1);
            let slots = (problem.pool.len() / config.slot_len()) as i32;
            let spoil = |list: &mut Vec<i32>, numbers: &mut Numbers| {
                for entry in list {
                    if numbers.below(4) == 0 {
                        *entry = numbers.below(slots as usize + 3) as i32 - 2;
                    }
                }
            };
            spoil(&mut problem.state_in, &mut numbers);
            if let Step::Merge { state_out, .. } = &mut problem.step {
                spoil(state_out, &mut numbers);
            }
            if !problem.pool.is_empty() {
                let place = numbers.below(problem.pool.len());
                problem.pool[place] = f32::NAN;
            }
        }
        problem.packed(self.packing)
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

/// Sums, merges and corrections.
pub(in crate::operations) fn calls() -> BoxedStrategy<RanksCase> {
    let step = prop::sample::select(vec![StepCase::Sum, StepCase::Merge, StepCase::Correct]);
    let dim = || prop::sample::select(vec![64usize, 128]);
    let what = (step, precisions(), 1usize..4, [dim(), dim()], lengths(300), 0usize..5);
    let how = (decays(), any::<bool>(), packings(), prop::bool::weighted(0.3));
    (what, how, seeds(), spoils())
        .prop_map(|(what, how, seed, spoiled)| {
            let (step, precision, heads, dims, lengths, parts) = what;
            let (decay, state_is_vk, packing, is_odd) = how;
            RanksCase {
                step,
                precision,
                heads,
                dims,
                lengths,
                parts,
                decay,
                state_is_vk,
                packing,
                is_odd,
                seed,
                spoiled,
            }
        })
        .boxed()
}
