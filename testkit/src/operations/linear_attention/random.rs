//! Linear attention at random.

use super::cases::{LinearCase, Magnitude, StateCase, device_indices, linear_cases, split_cases};
use super::{DecayValues, LinearProblem, Phase};
use crate::problem::Described;
use crate::property::spoils;
use proptest::prelude::*;
use sala_kernels::reference::linear_attention::Config;

/// What is special about the data of a call.
#[derive(Clone, Debug)]
pub enum Special {
    Nothing,
    /// A sequence whose numbers, its state among them, are all NaN, which must stay there.
    Poisoned(usize),
    /// Bounds and slots of three sequences, on which the definition has a say whatever they are.
    Indices {
        cu_seqlens: Vec<i32>,
        state_in: Vec<i32>,
        state_out: Vec<i32>,
    },
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct RandomLinear {
    pub case: LinearCase,
    pub special: Special,
    pub spoiled: Option<u64>,
}

impl Described for RandomLinear {
    type Problem = LinearProblem;

    fn problem(&self) -> LinearProblem {
        let mut case = self.case.clone();
        match &self.special {
            Special::Nothing => {}
            // A slot that held NaN before would hide whether it was written.
            Special::Poisoned(_) => case.states = StateCase::InPlace,
            // Inputs that dominate what decay leaves of a state: a remainder alone is far below the precision of the state it came from.
            Special::Indices { .. } => {
                case.lengths = if case.phase == Phase::Decode {
                    vec![1; 3]
                } else {
                    vec![60, 45, 30]
                };
                (case.states, case.magnitude) = (StateCase::InPlace, Magnitude::Normal);
            }
        }
        let mut problem = case.problem();
        match &self.special {
            Special::Nothing => {}
            Special::Poisoned(sequence) => poison(&mut problem, sequence % case.lengths.len()),
            Special::Indices {
                cu_seqlens,
                state_in,
                state_out,
            } => {
                problem.pool.fill(1.0);
                if problem.phase == Phase::Prefill {
                    problem.cu_seqlens = cu_seqlens.clone();
                }
                problem.state_in = Some(state_in.clone());
                problem.state_out = Some(state_out.clone());
            }
        }
        problem
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

fn poison(problem: &mut LinearProblem, sequence: usize) {
    let tokens = problem.cu_seqlens[sequence] as usize..problem.cu_seqlens[sequence + 1] as usize;
    let Config {
        heads_q,
        heads_kv,
        dim_k,
        dim_v,
        ..
    } = problem.config;
    for (values, row) in [
        (&mut problem.q, heads_q * dim_k),
        (&mut problem.k, heads_kv * dim_k),
        (&mut problem.v, heads_kv * dim_v),
    ] {
        values.poison(tokens.start * row..tokens.end * row);
    }
    if let DecayValues::PerToken(decay) = &mut problem.decay {
        decay[tokens.start * heads_q..tokens.end * heads_q].fill(f32::NAN);
    }
    let slot = problem.state_in.as_ref().map_or(-1, |slots| slots[sequence]);
    if let Ok(slot) = usize::try_from(slot) {
        let slot = problem.slot(slot);
        problem.pool[slot].fill(f32::NAN);
    }
}

/// Prefills and steps.
pub(in crate::operations) fn calls() -> BoxedStrategy<RandomLinear> {
    let case = prop_oneof![40 => linear_cases(192), 10 => linear_cases(500), 1 => split_cases()];
    let special = prop_oneof![
        6 => Just(Special::Nothing),
        1 => (0usize..4).prop_map(Special::Poisoned),
        2 => device_indices().prop_map(|(cu_seqlens, state_in, state_out)| Special::Indices { cu_seqlens, state_in, state_out }),
    ];
    let call = |(case, is_step, special, spoiled): (LinearCase, bool, Special, Option<u64>)| {
        let case = match (is_step, case.states) {
            (false, _) => case,
            // A step takes a pool.
            (true, StateCase::None) => LinearCase {
                states: StateCase::Store,
                ..case.decode(case.lengths.len())
            },
            (true, _) => case.decode(case.lengths.len()),
        };
        RandomLinear { case, special, spoiled }
    };
    (case, prop::bool::weighted(0.25), special, spoils())
        .prop_map(call)
        .boxed()
}
