//! States after accepted drafts.

use super::drafts::Drafts;
use super::{Config, LinearAttention, States};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{
    SALA_LINEAR_DECODE_CHANNELS, SALA_LINEAR_DECODE_THREADS, SALA_LINEAR_MAX_DRAFTS, sala_linear_attention_params,
    sala_linear_drafts_params,
};
use crate::{DType, Result, Stream, Tensor, TensorMut};

/// Commitment of accepted drafts: each state advances by those of its sequence, in their order.
///
/// ```text
/// S ← exp(g_i)·S + k_i v_iᵀ      for i on the accepted path
/// ```
///
/// How many were accepted is read on the device. With none, a state goes to its slot unchanged. The bits are those of as many
/// [`LinearDecodeArgs`](crate::LinearDecodeArgs). [`crate::reference::linear_attention::commit`] is the definition.
///
/// Slots, what is refused: [`semantics`](crate::semantics#linear_commit).
///
/// # Errors
/// As of [`LinearVerifyArgs`](crate::LinearVerifyArgs); `accepted` that is not one number per sequence, `path` that is not contiguous.
///
/// # Example
/// Of three drafts the first and the last were accepted:
///
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     DType, Decay, Device, Kernels, LinearAttention, LinearCommitArgs, LinearShape, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = LinearShape { heads_q: 1, heads_kv: 1, dim_k: 64, dim_v: 64 };
/// let layer = LinearAttention::builder(DType::Bf16, shape, Decay::None).scale(1.0 / 64.0).build()?;
/// let x = vec![bf16::ONE; 3 * 64];
/// let mut pool = vec![3f32; 64 * 64];
/// let slot = Tensor::from_slice(&[0], &[1])?;
/// let x = Tensor::from_slice(&x, &[1, 3, 1, 64])?;
/// let state = TensorMut::from_slice(&mut pool, &[1, 1, 64, 64])?;
/// let mut args = LinearCommitArgs::new(x, x, None, state, slot, Tensor::from_slice(&[2], &[1])?);
/// args.path = Some(Tensor::from_slice(&[0, 2, -1], &[1, 3])?);
/// kernels.run(&layer, args)?;
/// assert_eq!(pool, [5.0; 64 * 64]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct LinearCommitArgs<'a> {
    /// Keys `[batch, drafts, heads_kv, dim_k]`, as they were verified; the layer's type.
    pub k: Tensor<'a>,
    /// Values `[batch, drafts, heads_kv, dim_v]`.
    pub v: Tensor<'a>,
    /// The log decay, as in [`LinearVerifyArgs::log_decay`](crate::LinearVerifyArgs::log_decay).
    pub log_decay: Option<Tensor<'a>>,
    /// The pool of states, as in [`LinearPrefillArgs::state`](crate::LinearPrefillArgs::state).
    pub state: TensorMut<'a>,
    /// The slot of each sequence, `[batch]` i32; −1: a state of zero.
    pub state_in: Tensor<'a>,
    /// The slot each sequence leaves its state in, if that is another than `state_in`; −1: nowhere.
    pub state_out: Option<Tensor<'a>>,
    /// How many drafts of each sequence were accepted, `[batch]` i32: 0 to `drafts`. Another number refuses the sequence (lengths).
    pub accepted: Tensor<'a>,
    /// Which drafts were accepted, `[batch, drafts]` i32: the first `accepted` entries, ascending; the others are not read. Absent: the first
    /// drafts, as of a chain. A path that does not ascend refuses the sequence (lengths).
    pub path: Option<Tensor<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> LinearCommitArgs<'a> {
    /// The commitment of chains in place. `log_decay` is a tensor unless the layer has no decay.
    pub fn new(
        k: Tensor<'a>,
        v: Tensor<'a>,
        log_decay: Option<Tensor<'a>>,
        state: TensorMut<'a>,
        state_in: Tensor<'a>,
        accepted: Tensor<'a>,
    ) -> Self {
        Self {
            k,
            v,
            log_decay,
            state,
            state_in,
            state_out: None,
            accepted,
            path: None,
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
        const KERNEL: &str = "linear_attention_commit";
        let dim_k = checks::compiled_for("dim_k", KERNEL, "dim_k", config.shape.dim_k)?;
        // `sizeof(CommitPlan<dim_k>)`: k and v in f32, and two numbers of decay.
        let channels = SALA_LINEAR_DECODE_CHANNELS as usize;
        let shared = 4 * SALA_LINEAR_MAX_DRAFTS as usize * (config.shape.dim_k + channels + 2);
        let threads = SALA_LINEAR_DECODE_THREADS as usize;
        let variant = Variant::base(KERNEL, Some(config.dtype), &[dim_k], threads, shared, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for LinearCommitArgs<'_> {
    type Operation = LinearAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            k,
            v,
            log_decay,
            state,
            state_in,
            state_out,
            accepted,
            path,
            status,
        } = self;
        Views::new()
            .read("k", *k)
            .read("v", *v)
            .read("log_decay", *log_decay)
            .written("state", state)
            .read("state_in", *state_in)
            .read("state_out", *state_out)
            .read("accepted", *accepted)
            .read("path", *path)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &LinearAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let drafts = Drafts::of("k", &self.k)?;
        let params = self.params(config, drafts)?;
        let channels = SALA_LINEAR_DECODE_CHANNELS as usize;
        let grid = [config.shape.dim_v / channels, config.shape.heads_q, drafts.batch];
        let variant = kernels.pick(&layer.commit.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl LinearCommitArgs<'_> {
    fn params(&self, config: &Config, drafts: Drafts) -> Result<sala_linear_drafts_params> {
        let (dtype, shape) = (config.dtype, config.shape);
        let k = drafts.rows("k", &self.k, dtype, [shape.heads_kv, shape.dim_k])?;
        let v = drafts.rows("v", &self.v, dtype, [shape.heads_kv, shape.dim_v])?;
        let log_decay = drafts.log_decay(config, self.log_decay)?;
        let states = States {
            pool: Some(self.state.as_tensor()),
            state_in: Some(self.state_in),
            state_out: Some(self.state_out.unwrap_or(self.state_in)),
        };
        Ok(sala_linear_drafts_params {
            attention: sala_linear_attention_params {
                k: k.rows,
                v: v.rows,
                log_decay: log_decay.rows,
                states: states.params(config, drafts.batch)?,
                status: checks::status(self.status.as_ref())?,
                ..drafts.params(config)
            },
            k_stride: k.stride,
            v_stride: v.stride,
            log_decay_stride: log_decay.stride,
            accepted: checks::list("accepted", &self.accepted, DType::I32, drafts.batch)?,
            path: drafts.list("path", self.path)?,
            drafts: drafts.count as i32,
            ..Default::default()
        })
    }
}
