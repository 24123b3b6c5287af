//! Norms at random.

use super::{Follows, NormProblem, turns};
use crate::memory::Packing;
use crate::numbers::Numbers;
use crate::problem::{Described, Problem};
use crate::property::{packings, precisions, seeds, spoils};
use crate::tolerance::Precision;
use crate::values::Values;
use proptest::prelude::*;

/// What follows the norm, its values yet to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowsCase {
    /// Rotary embedding of so many heads of so many channels; a table of so many rows.
    Rope {
        heads: usize,
        dim: usize,
        with_weight: bool,
        table: Option<usize>,
    },
    /// A gate on so many channels, with sums that are given or not.
    Gate { channels: usize, with_sums: bool },
    /// Nothing: sums of squares of so many channels.
    Sums { channels: usize },
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct NormCase {
    pub follows: FollowsCase,
    pub precision: Precision,
    pub tokens: usize,
    /// What rows are multiplied by.
    pub size: f64,
    pub eps: f32,
    pub in_place: bool,
    pub packing: Packing,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl Described for NormCase {
    type Problem = NormProblem;

    fn problem(&self) -> NormProblem {
        let (precision, tokens) = (self.precision, self.tokens);
        let mut numbers = Numbers::new(self.seed ^ 1);
        let problem = match self.follows {
            FollowsCase::Rope {
                heads,
                dim,
                with_weight,
                table,
            } => {
                // Some positions are beside the table.
                let positions = table.map(|rows| {
                    let positions = (0..tokens).map(|_| numbers.below(rows + 2) as i32 - 1).collect();
                    (positions, turns(rows, dim))
                });
                NormProblem {
                    follows: Follows::Rope {
                        dim,
                        with_weight,
                        positions,
                    },
                    ..NormProblem::rope(precision, [tokens, heads, dim], self.seed)
                }
            }
            FollowsCase::Gate { channels, with_sums } => {
                let mut problem = NormProblem::gate(precision, [tokens, channels], self.seed);
                if let Follows::Gate { sums, .. } = &mut problem.follows {
                    // Of the rows of four ranks.
                    let of_row = |_| (numbers.uniform() * 4.0 * channels as f64) as f32;
                    *sums = with_sums.then(|| ((0..tokens).map(of_row).collect(), 4 * channels));
                }
                problem
            }
            FollowsCase::Sums { channels } => NormProblem::gate(precision, [tokens, channels], self.seed).sums(),
        };
        let x = Values::round(precision, problem.x.to_f64().iter().map(|x| x * self.size));
        let in_place = self.in_place && problem.follows != Follows::Sums;
        let problem = NormProblem {
            x,
            eps: self.eps,
            in_place,
            ..problem
        };
        problem.packed(self.packing)
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

/// Norms that everything follows.
pub(in crate::operations) fn calls() -> BoxedStrategy<NormCase> {
    let channels =
        || prop_oneof![3 => 1usize..64, 2 => 64usize..600, 1 => 2000usize..=2048].prop_map(|count| 8 * count);
    let dim = prop::sample::select(vec![64usize, 128]);
    let table = prop::option::of(1usize..40);
    let rope = (1usize..10, dim, any::<bool>(), table).prop_map(|(heads, dim, with_weight, table)| FollowsCase::Rope {
        heads,
        dim,
        with_weight,
        table,
    });
    let gate = (channels(), any::<bool>()).prop_map(|(channels, with_sums)| FollowsCase::Gate { channels, with_sums });
    let sums = channels().prop_map(|channels| FollowsCase::Sums { channels });
    let follows = prop_oneof![3 => rope, 3 => gate, 1 => sums];
    let size = prop_oneof![6 => Just(1.0), 1 => Just(0.0), 1 => Just(1e-3), 1 => Just(1e4)];
    let eps = prop::sample::select(vec![1e-6f32, 1e-5, 1e-2]);
    (
        (follows, precisions(), 0usize..12, size),
        (eps, any::<bool>(), packings()),
        (seeds(), spoils()),
    )
        .prop_map(
            |((follows, precision, tokens, size), (eps, in_place, packing), (seed, spoiled))| NormCase {
                follows,
                precision,
                tokens,
                size,
                eps,
                in_place,
                packing,
                seed,
                spoiled,
            },
        )
        .boxed()
}
