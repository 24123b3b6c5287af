//! Attention at random.

use super::AttentionProblem;
use super::cases::{AttentionCase, Inputs, ListCase, attention_cases};
use crate::batch::{Storing, storings, switch_lengths};
use crate::numbers::Numbers;
use crate::problem::Described;
use crate::property::spoils;
use crate::tolerance::Precision;
use crate::values::Values;
use proptest::prelude::*;

/// What is special about the numbers of a call.
#[derive(Clone, Debug)]
pub enum Special {
    Nothing,
    /// Numbers near the small end of their type.
    Tiny,
    /// A sequence whose queries, keys and values are all NaN, which must stay there and reach no token that sees nothing.
    Poisoned(usize),
    /// Factors of NaN for some tokens, which make them NaN and no other.
    Factors,
}

/// How the query tokens of a call are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Prefill,
    /// As a decode step.
    Step,
    /// As one of trees.
    Trees,
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct RandomAttention {
    pub case: AttentionCase,
    pub storing: Storing,
    pub kind: Kind,
    pub with_lse: bool,
    /// Whether the upper bounds are given.
    pub is_bounded: bool,
    /// Whether other lengths than those of the keys decide what is dense.
    pub with_switch: bool,
    /// What the usual scale is multiplied by.
    pub scale: f32,
    pub special: Special,
    pub spoiled: Option<u64>,
}

impl Described for RandomAttention {
    type Problem = AttentionProblem;

    fn problem(&self) -> AttentionProblem {
        let mut case = self.case.clone();
        case.storage = self.storing;
        if self.kind != Kind::Prefill {
            case = case.step();
        }
        if !matches!(self.special, Special::Nothing) {
            case.inputs = Inputs::Normal;
        }
        case.with_factor |= matches!(self.special, Special::Factors);
        let mut problem = case.problem();
        let mut numbers = Numbers::new(case.seed);
        problem.with_lse = self.with_lse;
        problem.config.scale *= self.scale;
        if self.is_bounded {
            problem.batch = problem.batch.bounded();
        }
        if self.with_switch && case.lists != ListCase::None {
            problem.batch.switch_len = Some(switch_lengths(case.lengths.len(), case.dense_len, &mut numbers));
        }
        match &self.special {
            Special::Nothing => {}
            Special::Tiny => make_tiny(&mut problem),
            Special::Poisoned(sequence) => {
                let sequence = sequence % case.lengths.len();
                poison(&mut problem, sequence);
            }
            Special::Factors => {
                let factors = problem.scale_factor.iter_mut().flatten();
                factors
                    .filter(|_| numbers.below(4) == 0)
                    .for_each(|factor| *factor = f32::NAN);
            }
        }
        match self.kind {
            Kind::Prefill => problem,
            Kind::Step => problem.decode(),
            Kind::Trees => problem.decode_trees(&mut numbers),
        }
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

fn make_tiny(problem: &mut AttentionProblem) {
    // Values of f16 that keep all their bits when they are summed up.
    let [scores, values] = match problem.q.precision() {
        Precision::Bf16 => [1e-18, 1e-30],
        Precision::F16 => [1e-6, 1e-2],
    };
    for (tensor, size) in [
        (&mut problem.q, scores),
        (&mut problem.k, scores),
        (&mut problem.v, values),
    ] {
        *tensor = Values::round(tensor.precision(), tensor.to_f64().into_iter().map(|x| x * size));
    }
}

fn poison(problem: &mut AttentionProblem, sequence: usize) {
    let (config, batch) = (problem.config, &problem.batch);
    let rows = |bounds: &[i32], row: usize| bounds[sequence] as usize * row..bounds[sequence + 1] as usize * row;
    problem.q.poison(rows(&batch.cu_seqlens_q, config.heads_q * config.dim));
    problem
        .k
        .poison(rows(&batch.cu_seqlens_k, config.heads_kv * config.dim));
    problem
        .v
        .poison(rows(&batch.cu_seqlens_k, config.heads_kv * config.dim_v));
}

/// With lists and without, prefills and decode steps.
pub(in crate::operations) fn calls() -> BoxedStrategy<RandomAttention> {
    let case = prop_oneof![3 => attention_cases(192), 1 => attention_cases(900)];
    let scale = prop::sample::select(vec![1.0f32, 1.0, 1.0, 0.0, -1.0]);
    let special = prop_oneof![
        8 => Just(Special::Nothing),
        1 => Just(Special::Tiny),
        1 => (0usize..4).prop_map(Special::Poisoned),
        1 => Just(Special::Factors),
    ];
    let kind = prop_oneof![2 => Just(Kind::Prefill), 1 => Just(Kind::Step), 1 => Just(Kind::Trees)];
    let options = (kind, any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    let call = |(case, storing, options, scale, special, spoiled)| {
        let (kind, with_lse, is_bounded, with_switch) = options;
        RandomAttention {
            case,
            storing,
            kind,
            with_lse,
            is_bounded,
            with_switch,
            scale,
            special,
            spoiled,
        }
    };
    (case, storings(), options, scale, special, spoils())
        .prop_map(call)
        .boxed()
}
