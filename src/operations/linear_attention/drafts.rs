//! Drafts of sequences: tensors `[batch, drafts, heads, dim]`.

use super::{Config, Decay};
use crate::launch::checks;
use crate::sys::params::{SALA_LINEAR_MAX_DRAFTS, sala_linear_attention_params, sala_rows};
use crate::{DType, Error, Result, Tensor};

/// How many sequences there are, and how many drafts each has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drafts {
    pub(super) batch: usize,
    pub(super) count: usize,
}

/// Where the first sequence's rows lie, and the elements from one sequence to the next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rows {
    pub(super) rows: sala_rows,
    pub(super) stride: i64,
}

impl Drafts {
    /// As a tensor `[batch, drafts, heads, dim]` has them.
    pub(super) fn of(argument: &'static str, tensor: &Tensor<'_>) -> Result<Self> {
        checks::rank(argument, tensor, 4)?;
        let (batch, count) = (checks::first_axis(tensor), tensor.shape().get(1).copied().unwrap_or(0));
        checks::batch(argument, batch)?;
        if count > SALA_LINEAR_MAX_DRAFTS as usize {
            let expected = format!("at most {SALA_LINEAR_MAX_DRAFTS} drafts of a sequence");
            return Err(Error::argument(argument, expected, count));
        }
        Ok(Self { batch, count })
    }

    /// Checks a tensor `[batch, drafts, heads, dim]` of rows that kernels move.
    pub(super) fn rows(
        self,
        argument: &'static str,
        tensor: &Tensor<'_>,
        dtype: DType,
        [heads, dim]: [usize; 2],
    ) -> Result<Rows> {
        checks::shape(argument, tensor, &[self.batch, self.count, heads, dim])?;
        checks::aligned_rows(argument, tensor, dtype)?;
        Ok(Rows::of(tensor))
    }

    /// Checks a contiguous list `[batch, drafts]` i32.
    pub(super) fn list(self, argument: &'static str, tensor: Option<Tensor<'_>>) -> Result<u64> {
        checks::optional(tensor, |tensor| {
            let rows = checks::numbers(argument, tensor, DType::I32, &[self.batch, self.count])?;
            if self.batch > 1 && rows.token_stride != self.count as i64 {
                let got = format_args!("strides {:?}", tensor.strides());
                return Err(Error::argument(argument, "a contiguous tensor", got));
            }
            Ok(rows.address)
        })
    }

    /// Checks the log decay: `[heads_q]`, `[batch, drafts, heads_q]` or none, as the layer's decay says.
    pub(super) fn log_decay(self, config: &Config, tensor: Option<Tensor<'_>>) -> Result<Rows> {
        const NAME: &str = "log_decay";
        let heads = config.shape.heads_q;
        let (per_head, per_token) = ([heads], [self.batch, self.count, heads]);
        let shape: &[usize] = match config.decay {
            Decay::None => {
                return match tensor {
                    None => Ok(Rows::default()),
                    Some(_) => Err(Error::argument(NAME, "no tensor (the layer has no decay)", "a tensor")),
                };
            }
            Decay::PerHead => &per_head,
            Decay::PerToken => &per_token,
        };
        let Some(tensor) = tensor else {
            return Err(Error::argument(NAME, format!("a tensor of shape {shape:?}"), "none"));
        };
        checks::dtype(NAME, &tensor, DType::F32)?;
        checks::shape(NAME, &tensor, shape)?;
        if config.decay == Decay::PerToken {
            return Ok(Rows::of(&tensor));
        }
        Ok(Rows {
            rows: sala_rows {
                address: tensor.address(),
                token_stride: 0,
                head_stride: checks::stride(&tensor, 0),
            },
            stride: 0,
        })
    }

    /// What kernels are told of the call but its tensors.
    pub(super) fn params(self, config: &Config) -> sala_linear_attention_params {
        sala_linear_attention_params {
            tokens: self.count as i64,
            ..config.constants()
        }
    }
}

impl Rows {
    fn of(tensor: &Tensor<'_>) -> Self {
        Self {
            rows: sala_rows {
                address: tensor.address(),
                token_stride: checks::stride(tensor, 1),
                head_stride: checks::stride(tensor, 2),
            },
            stride: checks::stride(tensor, 0),
        }
    }
}
