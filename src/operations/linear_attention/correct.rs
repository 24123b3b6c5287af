//! Outputs of sequences whose parts are on several ranks.

use super::{Config, LinearAttention, States};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::operations::keys::bounds;
use crate::sys::params::{
    SALA_LINEAR_CORRECT_CHANNELS, SALA_LINEAR_CORRECT_SPAN, SALA_LINEAR_CORRECT_THREADS, SALA_LINEAR_STAGES,
    SALA_LINEAR_STEP, sala_linear_attention_params, sala_linear_correct_params,
};
use crate::{DType, Result, Stream, Tensor, TensorMut};

/// The correction of outputs that a prefill made from a state of zero, by the state that their sequence begins with.
///
/// ```text
/// o_t += scale · exp(G_t) · Sᵀ q_t
/// ```
///
/// `G` is the log decay added up to token t ([`SumDecayArgs`](crate::SumDecayArgs)), so that any decay will do. Tokens whose factor is 0 in f32
/// cost nothing. After it the outputs are those of a prefill that starts from `S`, but for a rounding more.
///
/// Slots, NaN, what is refused: [`semantics`](crate::semantics#linear_correct). [`crate::reference::linear_attention::correct`] is the definition.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says.
///
/// # Example
/// A state of ones that has decayed to a half at the first token and to nothing at the second:
///
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     DType, Decay, Device, Kernels, LinearAttention, LinearCorrectArgs, LinearShape, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = LinearShape { heads_q: 1, heads_kv: 1, dim_k: 64, dim_v: 64 };
/// let layer = LinearAttention::builder(DType::Bf16, shape, Decay::PerHead).scale(1.0 / 64.0).build()?;
/// let (q, state) = (vec![bf16::ONE; 2 * 64], vec![1f32; 64 * 64]);
/// let cumulative = [0.5f32.ln(), -200.0];
/// let mut out = vec![bf16::ONE; 2 * 64];
/// let args = LinearCorrectArgs::new(
///     Tensor::from_slice(&q, &[2, 1, 64])?,
///     Tensor::from_slice(&cumulative, &[2, 1])?,
///     Tensor::from_slice(&[0, 2], &[2])?,
///     Tensor::from_slice(&state, &[1, 1, 64, 64])?,
///     Tensor::from_slice(&[0], &[1])?,
///     TensorMut::from_slice(&mut out, &[2, 1, 64])?,
/// );
/// kernels.run(&layer, args)?;
/// assert_eq!([out[0], out[64]].map(f32::from), [1.5, 1.0]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct LinearCorrectArgs<'a> {
    /// Queries `[tokens, heads_q, dim_k]`, the layer's type.
    pub q: Tensor<'a>,
    /// `G`, f32 `[tokens, heads_q]`; above 0 counts as 0.
    pub cumulative: Tensor<'a>,
    /// Where sequences begin, as in [`LinearPrefillArgs::cu_seqlens`](crate::LinearPrefillArgs::cu_seqlens).
    pub cu_seqlens: Tensor<'a>,
    /// The pool of states, as in [`LinearPrefillArgs::state`](crate::LinearPrefillArgs::state).
    pub state: Tensor<'a>,
    /// The slot of the state that each sequence begins with, `[batch]` i32; −1: a state of zero, whose outputs are right as they are.
    pub state_in: Tensor<'a>,
    /// Outputs `[tokens, heads_q, dim_v]`, corrected in place.
    pub out: TensorMut<'a>,
    /// An upper bound of the lengths of sequences; absent: `tokens`. A longer sequence is refused and counted.
    pub max_seqlen_q: Option<usize>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> LinearCorrectArgs<'a> {
    /// The correction of all tokens of the sequences.
    pub fn new(
        q: Tensor<'a>,
        cumulative: Tensor<'a>,
        cu_seqlens: Tensor<'a>,
        state: Tensor<'a>,
        state_in: Tensor<'a>,
        out: TensorMut<'a>,
    ) -> Self {
        Self {
            q,
            cumulative,
            cu_seqlens,
            state,
            state_in,
            out,
            max_seqlen_q: None,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_linear_correct_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "linear_attention_correct";
        let dim_k = checks::compiled_for("dim_k", KERNEL, "dim_k", config.shape.dim_k)?;
        let threads = SALA_LINEAR_CORRECT_THREADS as usize;
        // `sizeof(CorrectPlan<dim_k>)`: queries of the stages, a factor per token, a number per warp.
        let queries = (SALA_LINEAR_STAGES * SALA_LINEAR_STEP) as usize * config.shape.dim_k * 2;
        let shared = queries + 4 * (SALA_LINEAR_CORRECT_SPAN as usize + threads / 32);
        let variant = Variant::base(KERNEL, Some(config.dtype), &[dim_k], threads, shared, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for LinearCorrectArgs<'_> {
    type Operation = LinearAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            cumulative,
            cu_seqlens,
            state,
            state_in,
            out,
            max_seqlen_q: _,
            status,
        } = self;
        Views::new()
            .read("q", *q)
            .read("cumulative", *cumulative)
            .read("cu_seqlens", *cu_seqlens)
            .read("state", *state)
            .read("state_in", *state_in)
            .written("out", out)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &LinearAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let shape = layer.config.shape;
        let batch = bounds("cu_seqlens", &self.cu_seqlens)?;
        let params = self.params(&layer.config, batch)?;
        let spans = (params.max_seqlen as usize).div_ceil(SALA_LINEAR_CORRECT_SPAN as usize);
        let tiles = shape.dim_v / SALA_LINEAR_CORRECT_CHANNELS as usize;
        // A block at least, which counts what is refused.
        let grid = [spans.max(1) * tiles, shape.heads_q, batch];
        let variant = kernels.pick(&layer.correct.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl LinearCorrectArgs<'_> {
    fn params(&self, config: &Config, batch: usize) -> Result<sala_linear_correct_params> {
        let (shape, tokens) = (config.shape, checks::first_axis(&self.q));
        checks::fits_i32("q", tokens)?;
        let rows =
            |name, tensor: &Tensor<'_>, dim| checks::rows(name, tensor, config.dtype, &[tokens, shape.heads_q, dim]);
        let states = States {
            pool: Some(self.state),
            state_in: Some(self.state_in),
            state_out: None,
        };
        Ok(sala_linear_correct_params {
            attention: sala_linear_attention_params {
                q: rows("q", &self.q, shape.dim_k)?,
                out: rows("out", &self.out.as_tensor(), shape.dim_v)?,
                log_decay: checks::numbers("cumulative", &self.cumulative, DType::F32, &[tokens, shape.heads_q])?,
                states: states.params(config, batch)?,
                cu_seqlens: checks::list("cu_seqlens", &self.cu_seqlens, DType::I32, batch + 1)?,
                status: checks::status(self.status.as_ref())?,
                tokens: tokens as i64,
                ..config.constants()
            },
            max_seqlen: self.max_seqlen_q.map_or(tokens, |bound| bound.min(tokens)) as i64,
            dim_v: shape.dim_v as i32,
            reserved: 0,
        })
    }
}
