//! Replayed drafts of linear attention: their verification, and the commitment of accepted ones.

use super::file::{ReplayFile, check_heads};
use super::linear::parse_log_decay;
use super::{ResultShapes, Results};
use crate::devices::Machine;
use crate::memory::Packing;
use crate::operations::linear_drafts::{DraftsProblem, Step};
use crate::problem::Problem;
use crate::tolerance::{Judgement, LinearShape, linear_out, linear_state};
use crate::values::Values;
use sala_kernels::reference::linear_attention::Config;
use std::time::Duration;

/// One step: sequence b has slot b of the pool, which holds `initial_state[b]`.
#[derive(Clone, Debug)]
pub struct DraftsCall {
    /// The call.
    pub problem: DraftsProblem,
    /// `[batch · drafts, heads, dim_v]`, of a verification.
    pub expected_out: Option<Vec<f64>>,
    /// `[batch, heads, dim_k, dim_v]`, of a commitment.
    pub expected_final_state: Option<Vec<f64>>,
}

impl DraftsCall {
    pub(super) fn parse_verify(file: &ReplayFile<'_>) -> Result<Self, String> {
        let names = ["q", "k", "v", "log_decay", "initial_state", "parent", "expected.out"];
        file.expect_only(&names)?;
        let q = file.shape_3("q")?;
        let mut call = parse(file, q[1], file.scale()?)?;
        let [batch, drafts] = [call.problem.batch(), call.problem.drafts];
        let config = call.problem.config;
        let rows = batch * drafts;
        call.problem.q = file.values("q", &[rows, config.heads_q, config.dim_k])?;
        let parent = optional_indices(file, "parent", &[batch, drafts])?;
        call.problem.step = Step::Verify { parent };
        call.expected_out = file.optional_numbers("expected.out", &[rows, config.heads_q, config.dim_v])?;
        Ok(call)
    }

    pub(super) fn parse_commit(file: &ReplayFile<'_>) -> Result<Self, String> {
        let names = [
            "k",
            "v",
            "log_decay",
            "initial_state",
            "accepted",
            "path",
            "expected.final_state",
        ];
        file.expect_only(&names)?;
        let heads_q = state_shape(file)?[1];
        let mut call = parse(file, heads_q, 1.0)?;
        let [batch, drafts] = [call.problem.batch(), call.problem.drafts];
        let config = call.problem.config;
        call.problem.step = Step::Commit {
            accepted: file.indices("accepted", Some(&[batch]))?,
            path: optional_indices(file, "path", &[batch, drafts])?,
        };
        let shape = [batch, heads_q, config.dim_k, config.dim_v];
        call.expected_final_state = file.optional_numbers("expected.final_state", &shape)?;
        Ok(call)
    }

    pub(super) fn operation(&self) -> &'static str {
        match self.problem.step {
            Step::Verify { .. } => "linear_verify",
            Step::Commit { .. } | Step::Copy => "linear_commit",
        }
    }

    pub(super) fn shape(&self) -> String {
        let DraftsProblem { config, drafts, k, .. } = &self.problem;
        let (batch, dtype) = (self.problem.batch(), k.dtype());
        let Config {
            heads_q,
            heads_kv,
            dim_k,
            dim_v,
            ..
        } = config;
        format!("T={drafts} B={batch} H={heads_q}/{heads_kv} D={dim_k}x{dim_v} {dtype}")
    }

    pub(super) fn result_shapes(&self) -> ResultShapes {
        let Config {
            heads_q, dim_k, dim_v, ..
        } = self.problem.config;
        let batch = self.problem.batch();
        ResultShapes::from([
            ("out", vec![batch * self.problem.drafts, heads_q, dim_v]),
            ("final_state", vec![batch, heads_q, dim_k, dim_v]),
        ])
    }

    fn is_verification(&self) -> bool {
        matches!(self.problem.step, Step::Verify { .. })
    }

    pub(super) fn run_on_reference(&self) -> Results {
        let answer = self.problem.reference();
        Results {
            has_out: self.is_verification(),
            out: answer.out,
            final_state: (!self.is_verification()).then_some(answer.pool),
            ..Results::default()
        }
    }

    pub(super) fn run(&self, machine: &Machine) -> sala_kernels::Result<(Results, Duration)> {
        let run = self.problem.run(machine)?;
        let state = run.pool.iter().map(|&x| f64::from(x)).collect();
        let results = Results {
            has_out: self.is_verification(),
            out: run.out.as_ref().map_or(Vec::new(), Values::to_f64),
            out_precision: run.out.as_ref().map(Values::precision),
            final_state: (!self.is_verification()).then_some(state),
            ..Results::default()
        };
        Ok((results, run.elapsed))
    }

    pub(super) fn judge(&self, results: &Results) -> Judgement {
        let reference = self.problem.reference();
        let precision = self.problem.k.precision();
        let Config {
            heads_q, dim_k, dim_v, ..
        } = self.problem.config;
        if let Some(state) = &results.final_state {
            let expected = self.expected_final_state.as_ref().unwrap_or(&reference.pool);
            return linear_state(precision, heads_q, dim_k * dim_v, state, expected);
        }
        let bounds: Vec<i32> = (0..=self.problem.batch())
            .map(|b| (b * self.problem.drafts) as i32)
            .collect();
        let shape = LinearShape {
            precision,
            heads: heads_q,
            dim_v,
            cu_seqlens: &bounds,
        };
        let expected = self.expected_out.as_ref().unwrap_or(&reference.out);
        linear_out(shape, &results.out, expected)
    }
}

fn state_shape(file: &ReplayFile<'_>) -> Result<[usize; 4], String> {
    let shape: Result<[usize; 4], _> = file.shape("initial_state")?.try_into();
    shape.map_err(|shape| {
        format!("tensor `initial_state` has shape {shape:?}, expected [sequences, heads, key channels, value channels]")
    })
}

fn optional_indices(file: &ReplayFile<'_>, name: &str, shape: &[usize]) -> Result<Option<Vec<i32>>, String> {
    file.has(name).then(|| file.indices(name, Some(shape))).transpose()
}

/// What both steps have. Queries are zeros until they are set.
fn parse(file: &ReplayFile<'_>, heads_q: usize, scale: f32) -> Result<DraftsCall, String> {
    let [batch, state_heads, dim_k, dim_v] = state_shape(file)?;
    let [rows, heads_kv, _] = file.shape_3("k")?;
    check_heads(heads_q, heads_kv)?;
    if state_heads != heads_q {
        return Err(format!(
            "tensor `initial_state` has {state_heads} heads, expected the {heads_q} of `q`"
        ));
    }
    if batch == 0 || !rows.is_multiple_of(batch) || !(1..=16).contains(&(rows / batch)) {
        return Err(format!(
            "tensor `k` has {rows} rows, expected 1 to 16 for each of the {batch} sequences"
        ));
    }
    let config = Config {
        heads_q,
        heads_kv,
        dim_k,
        dim_v,
        scale,
        state_is_vk: false,
    };
    let k = file.values("k", &[rows, heads_kv, dim_k])?;
    let v = file.values("v", &[rows, heads_kv, dim_v])?;
    let state = file.floats("initial_state", &[batch, heads_q, dim_k, dim_v])?;
    let problem = DraftsProblem {
        step: Step::Copy,
        config,
        drafts: rows / batch,
        q: Values::round(k.precision(), vec![0.0; rows * heads_q * dim_k]),
        k,
        v,
        decay: parse_log_decay(file, rows, heads_q)?,
        pool: state,
        state_in: (0..batch as i32).collect(),
        state_out: None,
        packing: Packing::Separate,
    };
    Ok(DraftsCall {
        problem,
        expected_out: None,
        expected_final_state: None,
    })
}
