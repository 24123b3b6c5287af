//! Replayed linear attention.

use super::file::ReplayFile;
use super::{ResultShapes, Results, Values};
use crate::tolerance::{Judgement, LinearShape, linear_out, linear_state};
use sala_kernels::reference::linear_attention::{Config, LogDecay, States, prefill};

/// One prefill: sequence b starts from `initial_state[b]` (or zero) and leaves `final_state[b]`.
#[derive(Clone, Debug)]
pub struct LinearCall {
    /// Shapes and constants.
    pub config: Config,
    /// `[tokens, heads, dim_k]`.
    pub q: Values,
    /// `[tokens, heads, dim_k]`.
    pub k: Values,
    /// `[tokens, heads, dim_v]`.
    pub v: Values,
    /// `[batch + 1]`.
    pub cu_seqlens: Vec<i32>,
    /// `[heads]` or `[tokens, heads]`.
    pub log_decay: Vec<f32>,
    /// Whether `log_decay` has a row a token.
    pub decays_per_token: bool,
    /// `[batch, heads, dim_k, dim_v]`.
    pub initial_state: Option<Vec<f32>>,
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

impl LinearCall {
    pub(super) fn parse(file: &ReplayFile<'_>) -> Result<Self, String> {
        file.expect_only(&TENSORS)?;
        let scale = file.scale()?;
        let [tokens, heads, dim_k] = file.shape_3("q")?;
        let dim_v = file.shape_3("v")?[2];
        let value_shape = [tokens, heads, dim_v];
        let key_shape = [tokens, heads, dim_k];
        let (q, k, v) = file.query_key_value(&key_shape, &key_shape, &value_shape)?;
        let cu_seqlens = file.bounds("cu_seqlens", tokens)?;
        let state_shape = [cu_seqlens.len() - 1, heads, dim_k, dim_v];
        let (log_decay, decays_per_token) = parse_log_decay(file, tokens, heads)?;
        Ok(LinearCall {
            config: Config {
                heads,
                dim_k,
                dim_v,
                scale,
                state_is_vk: false,
            },
            q,
            k,
            v,
            cu_seqlens,
            log_decay,
            decays_per_token,
            initial_state: file.optional_floats("initial_state", &state_shape)?,
            expected_out: file.optional_numbers("expected.out", &value_shape)?,
            expected_final_state: file.optional_numbers("expected.final_state", &state_shape)?,
        })
    }

    /// Sequences of the call.
    pub fn batch(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// Tokens of the call.
    pub fn tokens(&self) -> usize {
        self.cu_seqlens.last().map_or(0, |&total| total as usize)
    }

    /// The decay as the reference takes it.
    pub fn decay(&self) -> LogDecay<'_> {
        if self.decays_per_token {
            LogDecay::PerToken(&self.log_decay)
        } else {
            LogDecay::PerHead(&self.log_decay)
        }
    }

    pub(super) fn shape(&self) -> String {
        let Config {
            heads, dim_k, dim_v, ..
        } = self.config;
        format!(
            "T={} B={} H={heads} D={dim_k}x{dim_v} {:?}",
            self.tokens(),
            self.batch(),
            self.q.precision()
        )
    }

    pub(super) fn result_shapes(&self) -> ResultShapes {
        let Config {
            heads, dim_k, dim_v, ..
        } = self.config;
        ResultShapes::from([
            ("out", vec![self.tokens(), heads, dim_v]),
            ("final_state", vec![self.batch(), heads, dim_k, dim_v]),
        ])
    }

    pub(super) fn run_on_reference(&self) -> Results {
        let zeros = vec![0.0; self.batch() * self.config.slot_len()];
        let slots: Vec<i32> = (0..self.batch() as i32).collect();
        let states = States {
            pool: self.initial_state.as_deref().unwrap_or(&zeros),
            state_in: Some(&slots),
            state_out: Some(&slots),
        };
        let (q, k, v) = (self.q.to_f64(), self.k.to_f64(), self.v.to_f64());
        let answer = prefill(&self.config, &q, &k, &v, &self.cu_seqlens, self.decay(), &states);
        Results {
            out: answer.out,
            final_state: Some(answer.pool),
            ..Results::default()
        }
    }

    pub(super) fn judge(&self, results: &Results) -> Judgement {
        let reference = match (&self.expected_out, &self.expected_final_state) {
            (Some(_), Some(_)) => Results::default(),
            _ => self.run_on_reference(),
        };
        let precision = self.q.precision();
        let Config {
            heads, dim_k, dim_v, ..
        } = self.config;
        let shape = LinearShape {
            precision,
            heads,
            dim_v,
            cu_seqlens: &self.cu_seqlens,
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

fn parse_log_decay(file: &ReplayFile<'_>, tokens: usize, heads: usize) -> Result<(Vec<f32>, bool), String> {
    let per_token = match file.shape("log_decay")?.as_slice() {
        [h] if *h == heads => false,
        [t, h] if *t == tokens && *h == heads => true,
        other => {
            return Err(format!(
                "tensor `log_decay` has shape {other:?}, expected [{heads}] or [{tokens}, {heads}]"
            ));
        }
    };
    let shape = if per_token { vec![tokens, heads] } else { vec![heads] };
    let values = file.floats("log_decay", &shape)?;
    match values.iter().find(|&&g| g.is_nan() || g > 0.0) {
        Some(g) => Err(format!(
            "tensor `log_decay` holds {g}, expected numbers that are at most 0"
        )),
        None => Ok((values, per_token)),
    }
}
