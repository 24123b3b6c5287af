//! One token per sequence.

use super::{Common, Config, LinearAttention, States};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_LINEAR_DECODE_CHANNELS, SALA_LINEAR_DECODE_THREADS, sala_linear_attention_params};
use crate::{Result, Stream, Tensor, TensorMut};

/// One step of linear attention for each of `batch` sequences: the state decays, takes in the token, and is read by its query.
///
/// ```text
/// S ← exp(g)·S + k vᵀ          o = scale · Sᵀ q
/// ```
///
/// Slots, what is refused: [`semantics`](crate::semantics#linear_decode). [`crate::reference::linear_attention::decode`] is the definition.
///
/// # Errors
/// As of [`LinearPrefillArgs`](crate::LinearPrefillArgs).
///
/// # Example
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     DType, Decay, Device, Kernels, LinearAttention, LinearDecodeArgs, LinearShape, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = LinearShape { heads_q: 1, heads_kv: 1, dim_k: 64, dim_v: 64 };
/// let layer = LinearAttention::builder(DType::Bf16, shape, Decay::None).scale(1.0 / 64.0).build()?;
/// let x = vec![bf16::ONE; 64];
/// let mut pool = vec![3f32; 64 * 64];
/// let slot = Tensor::from_slice(&[0], &[1])?;
/// let x = Tensor::from_slice(&x, &[1, 1, 64])?;
/// let mut out = vec![bf16::ZERO; 64];
/// let state = TensorMut::from_slice(&mut pool, &[1, 1, 64, 64])?;
/// let args = LinearDecodeArgs::new(x, x, x, None, state, slot, TensorMut::from_slice(&mut out, &[1, 1, 64])?);
/// kernels.run(&layer, args)?;
/// assert_eq!((f32::from(out[0]), pool[0]), (4.0, 4.0));
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct LinearDecodeArgs<'a> {
    /// Queries `[batch, heads_q, dim_k]`, the layer's type.
    pub q: Tensor<'a>,
    /// Keys `[batch, heads_kv, dim_k]`.
    pub k: Tensor<'a>,
    /// Values `[batch, heads_kv, dim_v]`.
    pub v: Tensor<'a>,
    /// The log decay, f32: `[heads_q]` or `[batch, heads_q]` as [`Decay`](crate::Decay) says; absent for `Decay::None`.
    pub log_decay: Option<Tensor<'a>>,
    /// The pool of states, as in [`LinearPrefillArgs::state`](crate::LinearPrefillArgs::state).
    pub state: TensorMut<'a>,
    /// The slot of each sequence, `[batch]` i32; −1: a state of zero.
    pub state_in: Tensor<'a>,
    /// The slot each sequence leaves its state in, if that is another than `state_in`; −1: nowhere.
    pub state_out: Option<Tensor<'a>>,
    /// Outputs `[batch, heads_q, dim_v]`. A refused sequence gives 0.
    pub out: TensorMut<'a>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> LinearDecodeArgs<'a> {
    /// A step in place: each state stays in its slot. `log_decay` is a tensor unless the layer has no decay.
    pub fn new(
        q: Tensor<'a>,
        k: Tensor<'a>,
        v: Tensor<'a>,
        log_decay: Option<Tensor<'a>>,
        state: TensorMut<'a>,
        state_in: Tensor<'a>,
        out: TensorMut<'a>,
    ) -> Self {
        Self {
            q,
            k,
            v,
            log_decay,
            state,
            state_in,
            state_out: None,
            out,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_linear_attention_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "linear_attention_decode";
        let dim_k = checks::compiled_for("dim_k", KERNEL, "dim_k", config.shape.dim_k)?;
        let threads = SALA_LINEAR_DECODE_THREADS as usize;
        // `sizeof(DecodePlan<dim_k>)`: q, k and v in f32, a partial sum per warp and channel, and a slot.
        let channels = SALA_LINEAR_DECODE_CHANNELS as usize;
        let shared = 4 * (2 * config.shape.dim_k + channels + threads / 32 * channels + 1);
        let variant = Variant::base(KERNEL, Some(config.dtype), &[dim_k], threads, shared, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for LinearDecodeArgs<'_> {
    type Operation = LinearAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k,
            v,
            log_decay,
            state,
            state_in,
            state_out,
            out,
            status,
        } = self;
        Views::new()
            .read("q", *q)
            .read("k", *k)
            .read("v", *v)
            .read("log_decay", *log_decay)
            .written("out", out)
            .written("state", state)
            .read("state_in", *state_in)
            .read("state_out", *state_out)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &LinearAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let batch = checks::first_axis(&self.q);
        let common = Common {
            q: self.q,
            k: self.k,
            v: self.v,
            log_decay: self.log_decay,
            states: States {
                pool: Some(self.state.as_tensor()),
                state_in: Some(self.state_in),
                state_out: Some(self.state_out.unwrap_or(self.state_in)),
            },
            out: &self.out,
            status: self.status.as_ref(),
        };
        let params = common.params(config, batch, batch)?;
        let variant = kernels.pick(&layer.decode.variants, |()| true)?;
        let channels = SALA_LINEAR_DECODE_CHANNELS as usize;
        let grid = [config.shape.dim_v / channels, config.shape.heads_q, batch];
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}
