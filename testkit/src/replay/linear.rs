//! Replayed linear attention.

use super::file::{ReplayFile, check_heads};
use super::{ResultShapes, Results};
use crate::devices::Machine;
use crate::memory::Packing;
use crate::operations::linear_attention::{DecayValues, LinearProblem, LinearRun, Phase};
use crate::problem::Problem;
use crate::tolerance::{Judgement, LinearShape, linear_out, linear_state};
use sala_kernels::Split;
use sala_kernels::reference::linear_attention::Config;
use std::time::Duration;

/// One prefill: sequence b starts from `initial_state[b]` (or zero) and leaves `final_state[b]`, in slot b of the pool.
#[derive(Clone, Debug)]
pub struct LinearCall {
    /// The call.
    pub problem: LinearProblem,
    /// `[tokens, heads, dim_v]`.
    pub expected_out: Option<Vec<f64>>,
    /// `[batch, heads, dim_k, dim_v]`.
    pub expected_final_state: Option<Vec<f64>>,
}

const TENSORS: [&str; 8] = [
    "q",
    "k",
    "v",
    "cu_seqlens",
    "log_decay",
    "initial_state",
    "expected.out",
    "expected.final_state",
];

/// The most elements that the states of a call may have: 8 GiB of them.
const MAX_STATES: usize = 1 << 31;

impl LinearCall {
    pub(super) fn parse(file: &ReplayFile<'_>) -> Result<Self, String> {
        file.expect_only(&TENSORS)?;
        let scale = file.scale()?;
        let [tokens, heads, dim_k] = file.shape_3("q")?;
        let heads_kv = file.shape_3("k")?[1];
        check_heads(heads, heads_kv)?;
        let dim_v = file.shape_3("v")?[2];
        let config = Config {
            heads_q: heads,
            heads_kv,
            dim_k,
            dim_v,
            scale,
            state_is_vk: false,
        };
        let out_shape = [tokens, heads, dim_v];
        let (q, k, v) = file.query_key_value(
            &[tokens, heads, dim_k],
            &[tokens, heads_kv, dim_k],
            &[tokens, heads_kv, dim_v],
        )?;
        let cu_seqlens = file.bounds("cu_seqlens", tokens)?;
        let batch = cu_seqlens.len() - 1;
        let state_shape = [batch, heads, dim_k, dim_v];
        if batch.saturating_mul(config.slot_len()) > MAX_STATES {
            return Err(format!(
                "has states of shape {state_shape:?}, expected at most {MAX_STATES} elements in all"
            ));
        }
        let initial_state = file.optional_floats("initial_state", &state_shape)?;
        let slots: Vec<i32> = (0..batch as i32).collect();
        let problem = LinearProblem {
            phase: Phase::Prefill,
            config,
            q,
            k,
            v,
            cu_seqlens,
            decay: parse_log_decay(file, tokens, heads)?,
            state_in: initial_state.is_some().then(|| slots.clone()),
            state_out: Some(slots),
            checkpoints: None,
            split: Split::Auto,
            pool: initial_state.unwrap_or_else(|| vec![0.0; batch * config.slot_len()]),
            packing: Packing::Separate,
        };
        Ok(LinearCall {
            problem,
            expected_out: file.optional_numbers("expected.out", &out_shape)?,
            expected_final_state: file.optional_numbers("expected.final_state", &state_shape)?,
        })
    }

    pub(super) fn shape(&self) -> String {
        let Config {
            heads_q: heads,
            dim_k,
            dim_v,
            ..
        } = self.problem.config;
        let (tokens, batch) = (self.problem.tokens(), self.problem.batch());
        format!(
            "T={tokens} B={batch} H={heads} D={dim_k}x{dim_v} {}",
            self.problem.q.dtype()
        )
    }

    pub(super) fn result_shapes(&self) -> ResultShapes {
        let Config {
            heads_q: heads,
            dim_k,
            dim_v,
            ..
        } = self.problem.config;
        let (tokens, batch) = (self.problem.tokens(), self.problem.batch());
        ResultShapes::from([
            ("out", vec![tokens, heads, dim_v]),
            ("final_state", vec![batch, heads, dim_k, dim_v]),
        ])
    }

    pub(super) fn run_on_reference(&self) -> Results {
        let answer = self.problem.reference();
        Results {
            has_out: true,
            out: answer.out,
            final_state: Some(answer.pool),
            ..Results::default()
        }
    }

    pub(super) fn run(&self, machine: &Machine) -> sala_kernels::Result<(Results, Duration)> {
        let run = self.problem.run(machine)?;
        Ok((self.results(&run), run.elapsed))
    }

    /// What a run of the call gave.
    pub fn results(&self, run: &LinearRun) -> Results {
        Results {
            has_out: true,
            out: run.out.to_f64(),
            out_precision: Some(run.out.precision()),
            final_state: Some(run.pool.iter().map(|&x| f64::from(x)).collect()),
            ..Results::default()
        }
    }

    pub(super) fn judge(&self, results: &Results) -> Judgement {
        let reference = match (&self.expected_out, &self.expected_final_state) {
            (Some(_), Some(_)) => Results::default(),
            _ => self.run_on_reference(),
        };
        let precision = self.problem.q.precision();
        let Config {
            heads_q: heads,
            dim_k,
            dim_v,
            ..
        } = self.problem.config;
        let shape = LinearShape {
            precision,
            heads,
            dim_v,
            cu_seqlens: &self.problem.cu_seqlens,
        };
        let expected_out = self.expected_out.as_ref().unwrap_or(&reference.out);
        let mut judgement = linear_out(shape, &results.out, expected_out);
        let expected_state = self.expected_final_state.as_ref().or(reference.final_state.as_ref());
        if let (Some(state), Some(expected)) = (&results.final_state, expected_state) {
            judgement = judgement.and(linear_state(precision, heads, dim_k * dim_v, state, expected));
        }
        judgement
    }
}

pub(super) fn parse_log_decay(file: &ReplayFile<'_>, tokens: usize, heads: usize) -> Result<DecayValues, String> {
    let shape = file.shape("log_decay")?;
    if shape != [heads] && shape != [tokens, heads] {
        return Err(format!(
            "tensor `log_decay` has shape {shape:?}, expected [{heads}] or [{tokens}, {heads}]"
        ));
    }
    let values = file.floats("log_decay", &shape)?;
    match values.iter().find(|g| g.is_nan() || **g > 0.0) {
        Some(g) => Err(format!(
            "tensor `log_decay` holds {g}, expected numbers that are at most 0"
        )),
        None if shape.len() == 1 => Ok(DecayValues::PerHead(values)),
        None => Ok(DecayValues::PerToken(values)),
    }
}
