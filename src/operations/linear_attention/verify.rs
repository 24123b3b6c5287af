//! Outputs of drafts.

use super::drafts::Drafts;
use super::{Config, LinearAttention, States};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{
    SALA_LINEAR_DECODE_CHANNELS, SALA_LINEAR_DECODE_THREADS, SALA_LINEAR_MAX_DRAFTS, sala_linear_attention_params,
    sala_linear_drafts_params,
};
use crate::{Result, Stream, Tensor, TensorMut};

/// Verification of up to 16 draft tokens per sequence, a chain or a tree: what each would give after its ancestors. States stay as they are.
///
/// ```text
/// o_i = scale · ( e^(G_i)·S₀ᵀ q_i + Σ_j e^(G_i − G_j)·(q_i·k_j)·v_j )      j: i and its ancestors;  G_i = Σ g on the path to i
/// ```
///
/// [`LinearCommitArgs`](crate::LinearCommitArgs) then advances the states by those drafts that were accepted. A chain gives the same bits with
/// `parent` and without. [`crate::reference::linear_attention::verify`] is the definition.
///
/// Slots, what is refused: [`semantics`](crate::semantics#linear_verify).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says: `q` with more than 16 drafts, `parent` that is not contiguous; `log_decay` as of
/// [`LinearPrefillArgs`](crate::LinearPrefillArgs).
///
/// # Example
/// A tree of three drafts, of which two follow the first:
///
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     DType, Decay, Device, Kernels, LinearAttention, LinearShape, LinearVerifyArgs, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = LinearShape { heads_q: 1, heads_kv: 1, dim_k: 64, dim_v: 64 };
/// let layer = LinearAttention::builder(DType::Bf16, shape, Decay::None).scale(1.0 / 64.0).build()?;
/// let x = vec![bf16::ONE; 3 * 64];
/// let pool = vec![3f32; 64 * 64];
/// let slot = Tensor::from_slice(&[0], &[1])?;
/// let x = Tensor::from_slice(&x, &[1, 3, 1, 64])?;
/// let mut out = vec![bf16::ZERO; 3 * 64];
/// let state = Tensor::from_slice(&pool, &[1, 1, 64, 64])?;
/// let out_rows = TensorMut::from_slice(&mut out, &[1, 3, 1, 64])?;
/// let mut args = LinearVerifyArgs::new(x, x, x, None, state, slot, out_rows);
/// args.parent = Some(Tensor::from_slice(&[-1, 0, 0], &[1, 3])?);
/// kernels.run(&layer, args)?;
/// assert_eq!([out[0], out[64], out[128]].map(f32::from), [4.0, 5.0, 5.0]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct LinearVerifyArgs<'a> {
    /// Queries `[batch, drafts, heads_q, dim_k]`, the layer's type.
    pub q: Tensor<'a>,
    /// Keys `[batch, drafts, heads_kv, dim_k]`.
    pub k: Tensor<'a>,
    /// Values `[batch, drafts, heads_kv, dim_v]`.
    pub v: Tensor<'a>,
    /// The log decay, f32: `[heads_q]` or `[batch, drafts, heads_q]` as [`Decay`](crate::Decay) says; absent for `Decay::None`.
    pub log_decay: Option<Tensor<'a>>,
    /// The pool of states, as in [`LinearPrefillArgs::state`](crate::LinearPrefillArgs::state). It is read.
    pub state: Tensor<'a>,
    /// The slot of each sequence, `[batch]` i32; −1: a state of zero. A sequence that names no slot of the pool is refused and counted.
    pub state_in: Tensor<'a>,
    /// The draft that each draft follows, `[batch, drafts]` i32: less than its own index, −1 for the state. Absent: each follows the one before.
    /// A parent that does not come before its child refuses the sequence (lengths). Short sequences pad with −1.
    pub parent: Option<Tensor<'a>>,
    /// Outputs `[batch, drafts, heads_q, dim_v]`. A refused sequence gives 0.
    pub out: TensorMut<'a>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> LinearVerifyArgs<'a> {
    /// The verification of chains. `log_decay` is a tensor unless the layer has no decay.
    pub fn new(
        q: Tensor<'a>,
        k: Tensor<'a>,
        v: Tensor<'a>,
        log_decay: Option<Tensor<'a>>,
        state: Tensor<'a>,
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
            parent: None,
            out,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_linear_drafts_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "linear_attention_verify";
        const DRAFTS: usize = SALA_LINEAR_MAX_DRAFTS as usize;
        let dim_k = checks::compiled_for("dim_k", KERNEL, "dim_k", config.shape.dim_k)?;
        let (threads, channels) = (
            SALA_LINEAR_DECODE_THREADS as usize,
            SALA_LINEAR_DECODE_CHANNELS as usize,
        );
        // `sizeof(VerifyPlan<dim_k>)`: q, k and v in f32, weights, factors, and a partial sum per warp, draft and channel.
        let shared = 4 * DRAFTS * (2 * config.shape.dim_k + channels + DRAFTS + 1 + threads / 32 * channels);
        let variant = Variant::base(KERNEL, Some(config.dtype), &[dim_k], threads, shared, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for LinearVerifyArgs<'_> {
    type Operation = LinearAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k,
            v,
            log_decay,
            state,
            state_in,
            parent,
            out,
            status,
        } = self;
        Views::new()
            .read("q", *q)
            .read("k", *k)
            .read("v", *v)
            .read("log_decay", *log_decay)
            .read("state", *state)
            .read("state_in", *state_in)
            .read("parent", *parent)
            .written("out", out)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &LinearAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let drafts = Drafts::of("q", &self.q)?;
        let params = self.params(config, drafts)?;
        let channels = SALA_LINEAR_DECODE_CHANNELS as usize;
        let heads = if drafts.count == 0 { 0 } else { config.shape.heads_q };
        let grid = [config.shape.dim_v / channels, heads, drafts.batch];
        let variant = kernels.pick(&layer.verify.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl LinearVerifyArgs<'_> {
    fn params(&self, config: &Config, drafts: Drafts) -> Result<sala_linear_drafts_params> {
        let (dtype, shape) = (config.dtype, config.shape);
        let rows = |name, tensor: &Tensor<'_>, heads, dim| drafts.rows(name, tensor, dtype, [heads, dim]);
        let q = rows("q", &self.q, shape.heads_q, shape.dim_k)?;
        let k = rows("k", &self.k, shape.heads_kv, shape.dim_k)?;
        let v = rows("v", &self.v, shape.heads_kv, shape.dim_v)?;
        let out = rows("out", &self.out.as_tensor(), shape.heads_q, shape.dim_v)?;
        let log_decay = drafts.log_decay(config, self.log_decay)?;
        let states = States {
            pool: Some(self.state),
            state_in: Some(self.state_in),
            state_out: None,
        };
        Ok(sala_linear_drafts_params {
            attention: sala_linear_attention_params {
                q: q.rows,
                k: k.rows,
                v: v.rows,
                out: out.rows,
                log_decay: log_decay.rows,
                states: states.params(config, drafts.batch)?,
                status: checks::status(self.status.as_ref())?,
                ..drafts.params(config)
            },
            q_stride: q.stride,
            k_stride: k.stride,
            v_stride: v.stride,
            out_stride: out.stride,
            log_decay_stride: log_decay.stride,
            parent: drafts.list("parent", self.parent)?,
            drafts: drafts.count as i32,
            ..Default::default()
        })
    }
}
