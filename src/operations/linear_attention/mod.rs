//! Linear attention with decay.

mod commit;
mod copy;
mod correct;
mod decode;
mod drafts;
mod merge_states;
mod prefill;
pub mod reference;
mod sum_decay;
mod verify;

pub use commit::LinearCommitArgs;
pub use copy::{CopyStates, CopyStatesArgs};
pub use correct::LinearCorrectArgs;
pub use decode::LinearDecodeArgs;
pub use merge_states::{MergeStates, MergeStatesArgs};
pub use prefill::LinearPrefillArgs;
pub use sum_decay::SumDecayArgs;
pub use verify::LinearVerifyArgs;

use crate::launch::checks;
use crate::sys::params::{
    SALA_DECAY_NONE, SALA_DECAY_PER_HEAD, SALA_DECAY_PER_TOKEN, sala_linear_attention_params, sala_rows, sala_states,
};
use crate::{DType, Error, Result, Tensor, TensorMut};

/// How the log decay `g` varies. Values are natural logarithms, at most 0; below −128 counts as −128, and −∞ resets the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decay {
    /// `g = 0`: plain linear attention.
    None,
    /// One constant per head (Lightning, RetNet): a tensor `[heads]`.
    PerHead,
    /// One per token and head (simple GLA, Mamba-2): a tensor `[tokens, heads]`.
    PerToken,
}

/// The order of the last two axes of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StateLayout {
    /// `[slots, heads, dim_k, dim_v]`.
    #[default]
    Kv,
    /// `[slots, heads, dim_v, dim_k]`.
    Vk,
}

/// Whether long sequences are scanned in several places at a time.
///
/// A sequence of at least [`LinearAttention::SPLIT_LEN`] tokens is then cut into up to eight segments of at least 4096. A head whose decay is a
/// constant that forgets within 8192 tokens starts each segment early, from zero, by as many tokens as it takes for `e^(g·tokens) ≤ 2⁻²⁴`: what
/// that leaves out is less than an f32 state rounds away. Other heads, and all with a decay per token, are exact: a pass before adds up what
/// each segment does to the state. Results depend on a sequence's own length, never on the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Split {
    /// By their length.
    #[default]
    Auto,
    /// Never: the same bits however a sequence is cut into calls of multiples of 64 tokens. A long sequence alone leaves most of a GPU idle.
    Never,
}

/// Heads of a linear-attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Heads of q, of the outputs, the decay and the state.
    pub heads_q: usize,
    /// Heads of k and v: query head h reads head `h / (heads_q / heads_kv)` of them.
    pub heads_kv: usize,
    /// Channels of a query and a key: 64 or 128.
    pub dim_k: usize,
    /// Channels of a value and an output: 64, 128 or 256.
    pub dim_v: usize,
}

/// A layer of linear attention with decay: Lightning attention, simple GLA, Mamba-2's scalar gate.
///
/// Per sequence and head, with a state `S` of `dim_k × dim_v` in f32:
///
/// ```text
/// S_t = exp(g_t)·S_{t−1} + k_t v_tᵀ          o_t = scale · S_tᵀ q_t
/// ```
///
/// | arguments | what is launched |
/// |---|---|
/// | [`LinearPrefillArgs`] | whole sequences, in steps of 32 tokens |
/// | [`LinearDecodeArgs`] | one token per sequence |
/// | [`LinearVerifyArgs`] | outputs of up to 16 draft tokens per sequence, a chain or a tree; states stay as they are |
/// | [`LinearCommitArgs`] | the states after those drafts that were accepted |
/// | [`SumDecayArgs`] | the decay added up, for sequences whose parts are on several ranks |
/// | [`LinearCorrectArgs`] | outputs that were made from zero, corrected by the state that their sequence begins with |
///
/// All of them read states in a pool of slots that the caller owns. [`crate::reference::linear_attention`] is the definition, token by
/// token, and [`semantics`](crate::semantics#linear_prefill) says it in words. Results are the same bits for a sequence alone and in any batch, and for any
/// chunking at multiples of 64 tokens in which no call is long enough to be [split](Split).
///
/// ```
/// use sala_kernels::{DType, Decay, LinearAttention, LinearShape};
/// let shape = LinearShape { heads_q: 32, heads_kv: 32, dim_k: 128, dim_v: 128 };
/// let lightning = LinearAttention::builder(DType::Bf16, shape, Decay::PerHead).build()?;
///
/// let odd = LinearShape { dim_k: 96, ..shape };
/// assert!(LinearAttention::builder(DType::Bf16, odd, Decay::PerHead).build().is_err());
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LinearAttention {
    config: Config,
    prefill: prefill::Plan,
    decode: decode::Plan,
    verify: verify::Plan,
    commit: commit::Plan,
    correct: correct::Plan,
    sum_decay: sum_decay::Plan,
}

/// What a layer was described with.
#[derive(Debug, Clone, Copy)]
struct Config {
    dtype: DType,
    shape: LinearShape,
    scale: f32,
    decay: Decay,
    state_layout: StateLayout,
    split: Split,
}

impl Config {
    /// Rows and columns of a state.
    fn state_shape(&self) -> [usize; 2] {
        let LinearShape { dim_k, dim_v, .. } = self.shape;
        match self.state_layout {
            StateLayout::Kv => [dim_k, dim_v],
            StateLayout::Vk => [dim_v, dim_k],
        }
    }

    /// What kernels are told whatever the tensors.
    fn constants(&self) -> sala_linear_attention_params {
        sala_linear_attention_params {
            decay: match self.decay {
                Decay::None => SALA_DECAY_NONE,
                Decay::PerHead => SALA_DECAY_PER_HEAD,
                Decay::PerToken => SALA_DECAY_PER_TOKEN,
            } as i32,
            scale: self.scale,
            group: (self.shape.heads_q / self.shape.heads_kv) as i32,
            ..Default::default()
        }
    }
}

/// Describes a [`LinearAttention`].
#[derive(Debug, Clone)]
#[must_use = "call `build` to get the layer"]
pub struct LinearAttentionBuilder {
    config: Config,
}

impl LinearAttention {
    /// Describes a layer in bf16 or f16. Without further calls: scale `1/√dim_k`, [`StateLayout::Kv`], [`Split::Auto`].
    pub fn builder(dtype: DType, shape: LinearShape, decay: Decay) -> LinearAttentionBuilder {
        LinearAttentionBuilder {
            config: Config {
                dtype,
                shape,
                scale: (shape.dim_k as f32).powf(-0.5),
                decay,
                state_layout: StateLayout::default(),
                split: Split::default(),
            },
        }
    }
}

impl LinearAttentionBuilder {
    /// The factor of every output: any number of a magnitude up to 2.35e38.
    pub fn scale(mut self, scale: f32) -> Self {
        self.config.scale = scale;
        self
    }

    /// The order of a state's axes.
    pub fn state_layout(mut self, layout: StateLayout) -> Self {
        self.config.state_layout = layout;
        self
    }

    /// Whether long sequences are split.
    pub fn split(mut self, split: Split) -> Self {
        self.config.split = split;
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Error::Argument`] names what is out of range.
    pub fn build(self) -> Result<LinearAttention> {
        let Config {
            dtype, shape, scale, ..
        } = self.config;
        checks::operand_type(dtype)?;
        checks::heads("heads_q", shape.heads_q)?;
        checks::group(shape.heads_q, shape.heads_kv)?;
        let prefill = prefill::Plan::new(&self.config)?;
        let decode = decode::Plan::new(&self.config)?;
        checks::scale("scale", scale)?;
        Ok(LinearAttention {
            config: self.config,
            prefill,
            decode,
            verify: verify::Plan::new(&self.config)?,
            commit: commit::Plan::new(&self.config)?,
            correct: correct::Plan::new(&self.config)?,
            sum_decay: sum_decay::Plan::new()?,
        })
    }
}

/// The log decays of Lightning attention for heads `first_head..first_head + heads` of `total_heads`: `−slope`, with the slopes of ALiBi
/// (Press et al. 2021, section 3): `2^(−8(h+1)/H)` for H a power of two, else those of the power of two below, followed by every other one
/// of the power of two above. They do not depend on the layer.
///
/// # Errors
/// [`Error::Argument`] if there are not so many heads, or more than a layer can have.
///
/// ```
/// use sala_kernels::lightning_log_decay;
/// assert_eq!(lightning_log_decay(0, 2, 4)?, [-0.25, -0.0625]);
/// assert!(lightning_log_decay(3, 2, 4).is_err(), "heads 3 and 4 of 4");
/// # Ok::<(), sala_kernels::Error>(())
/// ```
pub fn lightning_log_decay(first_head: usize, heads: usize, total_heads: usize) -> Result<Vec<f32>> {
    checks::heads("total_heads", total_heads)?;
    let end = first_head.checked_add(heads).filter(|&end| end <= total_heads);
    let Some(end) = end else {
        let expected = format!("at most the {total_heads} heads there are from head {first_head} on");
        return Err(Error::argument("heads", expected, heads));
    };
    let below = 1 << total_heads.ilog2();
    let slope = |power: usize, of: usize| (-8.0 * power as f64 / of as f64).exp2();
    let log_decay = |head: usize| {
        let slope = match head.checked_sub(below) {
            None => slope(head + 1, below),
            Some(past) => slope(2 * past + 1, 2 * below),
        };
        -slope as f32
    };
    Ok((first_head..end).map(log_decay).collect())
}

/// The tensors that both kernels have.
struct Common<'a, 'b> {
    q: Tensor<'a>,
    k: Tensor<'a>,
    v: Tensor<'a>,
    log_decay: Option<Tensor<'a>>,
    states: States<'a>,
    out: &'b TensorMut<'a>,
    status: Option<&'b TensorMut<'a>>,
}

/// The pool of states and the slots of each sequence.
struct States<'a> {
    pool: Option<Tensor<'a>>,
    state_in: Option<Tensor<'a>>,
    state_out: Option<Tensor<'a>>,
}

impl Common<'_, '_> {
    /// Checks `rows` tokens of `batch` sequences, and gives what kernels are told, without `cu_seqlens`.
    fn params(&self, config: &Config, rows: usize, batch: usize) -> Result<sala_linear_attention_params> {
        let Config { dtype, shape, .. } = *config;
        checks::fits_i32("q", rows)?;
        checks::batch("batch", batch)?;
        let tensor = |name, tensor: &Tensor<'_>, heads, dim| checks::rows(name, tensor, dtype, &[rows, heads, dim]);
        Ok(sala_linear_attention_params {
            q: tensor("q", &self.q, shape.heads_q, shape.dim_k)?,
            k: tensor("k", &self.k, shape.heads_kv, shape.dim_k)?,
            v: tensor("v", &self.v, shape.heads_kv, shape.dim_v)?,
            out: tensor("out", &self.out.as_tensor(), shape.heads_q, shape.dim_v)?,
            log_decay: log_decay(config, self.log_decay, rows)?,
            states: self.states.params(config, batch)?,
            cu_seqlens: 0,
            status: checks::status(self.status)?,
            tokens: rows as i64,
            ..config.constants()
        })
    }
}

/// What kernels are told of the log decay of so many tokens.
fn log_decay(config: &Config, tensor: Option<Tensor<'_>>, rows: usize) -> Result<sala_rows> {
    let heads = config.shape.heads_q;
    let per_head = [heads];
    let per_token = [rows, heads];
    let shape: &[usize] = match (config.decay, &tensor) {
        (Decay::None, None) => return Ok(sala_rows::default()),
        (Decay::None, Some(_)) => {
            let expected = "no tensor (the layer has no decay)";
            return Err(Error::argument("log_decay", expected, "a tensor"));
        }
        (Decay::PerHead, _) => &per_head,
        (Decay::PerToken, _) => &per_token,
    };
    let Some(decay) = &tensor else {
        let expected = format!("a tensor of shape {shape:?}");
        return Err(Error::argument("log_decay", expected, "none"));
    };
    checks::dtype("log_decay", decay, DType::F32)?;
    checks::shape("log_decay", decay, shape)?;
    Ok(match config.decay {
        Decay::PerToken => sala_rows::of(decay),
        _ => sala_rows {
            address: decay.address(),
            token_stride: 0,
            head_stride: checks::stride(decay, 0),
        },
    })
}

impl States<'_> {
    fn params(&self, config: &Config, batch: usize) -> Result<sala_states> {
        let slots_of = |name, slots: Option<Tensor<'_>>| {
            checks::optional(slots, |slots| {
                if self.pool.is_none() {
                    let expected = format!("a pool of states for {name}");
                    return Err(Error::argument("state", expected, "none"));
                }
                checks::list(name, slots, DType::I32, batch)
            })
        };
        let (state_in, state_out) = (
            slots_of("state_in", self.state_in)?,
            slots_of("state_out", self.state_out)?,
        );
        let (heads, [rows, columns]) = (config.shape.heads_q, config.state_shape());
        let states = checks::optional(self.pool, |pool| {
            let slots = checks::first_axis(pool);
            checks::fits_i32("state", slots)?;
            checks::shape("state", pool, &[slots, heads, rows, columns])?;
            checks::aligned_rows("state", pool, DType::F32)?;
            Ok(sala_states {
                pool: pool.address(),
                slot_stride: checks::stride(pool, 0),
                head_stride: checks::stride(pool, 1),
                row_stride: checks::stride(pool, 2),
                slots: slots as i64,
                ..sala_states::default()
            })
        })?;
        Ok(sala_states {
            state_in,
            state_out,
            batch: batch as i32,
            is_vk: i32::from(config.state_layout == StateLayout::Vk),
            ..states
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightning_slopes_follow_alibi() {
        let eight = lightning_log_decay(0, 8, 8).unwrap();
        let powers: Vec<f32> = (1..=8).map(|power| -(0.5f32.powi(power))).collect();
        assert_eq!(eight, powers);
        let six = lightning_log_decay(0, 6, 6).unwrap();
        assert_eq!(six, [-0.25, -0.0625, -0.015_625, -0.003_906_25, -0.5, -0.125]);
        assert_eq!(lightning_log_decay(2, 3, 6).unwrap(), six[2..5]);
    }

    #[test]
    fn slopes_of_heads_that_are_not_there_are_refused() {
        let blamed = |first, heads, total| lightning_log_decay(first, heads, total).unwrap_err().argument_name();
        assert_eq!(blamed(0, 1, 0), Some("total_heads"));
        assert_eq!(blamed(0, 1, usize::MAX), Some("total_heads"));
        assert_eq!(blamed(0, usize::MAX, 8), Some("heads"));
        assert_eq!(blamed(usize::MAX, 2, 8), Some("heads"));
        assert_eq!(lightning_log_decay(8, 0, 8).unwrap(), []);
    }

    #[test]
    fn impossible_descriptions_are_refused() {
        let refused = |dtype, heads, dim_k, dim_v, scale| {
            let shape = LinearShape {
                heads_q: heads,
                heads_kv: heads,
                dim_k,
                dim_v,
            };
            match LinearAttention::builder(dtype, shape, Decay::None).scale(scale).build() {
                Err(error) => error.argument_name().expect("an argument is named"),
                Ok(layer) => panic!("{layer:?}"),
            }
        };
        assert_eq!(refused(DType::F32, 1, 64, 64, 1.0), "dtype");
        assert_eq!(refused(DType::F16, 0, 64, 64, 1.0), "heads_q");
        assert_eq!(refused(DType::F16, 1, 32, 64, 1.0), "dim_k");
        assert_eq!(refused(DType::F16, 1, 64, 96, 1.0), "dim_v");
        assert_eq!(refused(DType::F16, 1, 64, 512, 1.0), "dim_v");
        assert_eq!(refused(DType::F16, 1, 64, 64, f32::NAN), "scale");
    }
}
