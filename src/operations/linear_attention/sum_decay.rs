//! The decay of sequences whose parts are on several ranks.

use super::{Config, LinearAttention, log_decay};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::operations::keys::bounds;
use crate::sys::params::{
    SALA_DECAY_PER_TOKEN, SALA_SUM_DECAY_SPAN, SALA_SUM_DECAY_THREADS, sala_linear_attention_params,
    sala_sum_decay_params,
};
use crate::{DType, Result, Stream, Tensor, TensorMut};

/// The log decay added up over each sequence.
///
/// ```text
/// G_t = Σ g_i for i ≤ t        total = G of the last token, 0 without tokens
/// ```
///
/// A rank that has a part of a sequence needs both: `G` corrects its outputs ([`LinearCorrectArgs`](crate::LinearCorrectArgs)), and `total` is what
/// its part does to the states of the parts before ([`MergeStatesArgs`](crate::MergeStatesArgs)).
///
/// What is refused: [`semantics`](crate::semantics#sum_decay). [`crate::reference::linear_attention::sum_decay`] is the definition.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says; `log_decay` where it is missing, or the layer has no decay.
///
/// # Example
/// A head that halves with each of three tokens:
///
/// ```
/// use sala_kernels::{
///     DType, Decay, Device, Kernels, LinearAttention, LinearShape, SumDecayArgs, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = LinearShape { heads_q: 1, heads_kv: 1, dim_k: 64, dim_v: 64 };
/// let layer = LinearAttention::builder(DType::Bf16, shape, Decay::PerHead).build()?;
/// let (mut cumulative, mut total) = ([0f32; 3], [0f32]);
/// let args = SumDecayArgs::new(
///     Tensor::from_slice(&[0, 3], &[2])?,
///     Some(Tensor::from_slice(&[-0.5f32], &[1])?),
///     TensorMut::from_slice(&mut cumulative, &[3, 1])?,
///     TensorMut::from_slice(&mut total, &[1, 1])?,
/// );
/// kernels.run(&layer, args)?;
/// assert_eq!((cumulative, total), ([-0.5, -1.0, -1.5], [-1.5]));
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct SumDecayArgs<'a> {
    /// Where sequences begin, as in [`LinearPrefillArgs::cu_seqlens`](crate::LinearPrefillArgs::cu_seqlens).
    pub cu_seqlens: Tensor<'a>,
    /// The log decay, f32: `[heads_q]` or `[tokens, heads_q]` as [`Decay`](crate::Decay) says; absent for `Decay::None`.
    pub log_decay: Option<Tensor<'a>>,
    /// `G`, f32 `[tokens, heads_q]`. Rows of no sequence are left as they are.
    pub cumulative: TensorMut<'a>,
    /// f32 `[batch, heads_q]`. A refused sequence leaves its row as it is.
    pub total: TensorMut<'a>,
    /// An upper bound of the lengths of sequences; absent: `tokens`. A longer sequence is refused and counted.
    pub max_seqlen_q: Option<usize>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> SumDecayArgs<'a> {
    /// `log_decay` is a tensor unless the layer has no decay.
    pub fn new(
        cu_seqlens: Tensor<'a>,
        log_decay: Option<Tensor<'a>>,
        cumulative: TensorMut<'a>,
        total: TensorMut<'a>,
    ) -> Self {
        Self {
            cu_seqlens,
            log_decay,
            cumulative,
            total,
            max_seqlen_q: None,
            status: None,
        }
    }
}

/// The kernel, which is the same for all layers.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_sum_decay_params>>,
}

impl Plan {
    pub(super) fn new() -> Result<Self> {
        let threads = SALA_SUM_DECAY_THREADS as usize;
        // `sizeof(SumPlan)`: two sums of a thread, each of two numbers.
        let variant = Variant::base("sum_decay", None, &[], threads, 2 * threads * 8, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for SumDecayArgs<'_> {
    type Operation = LinearAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            cu_seqlens,
            log_decay,
            cumulative,
            total,
            max_seqlen_q: _,
            status,
        } = self;
        Views::new()
            .read("cu_seqlens", *cu_seqlens)
            .read("log_decay", *log_decay)
            .written("cumulative", cumulative)
            .written("total", total)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &LinearAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let batch = bounds("cu_seqlens", &self.cu_seqlens)?;
        let params = self.params(&layer.config, batch)?;
        let spans = match params.attention.decay as u32 {
            SALA_DECAY_PER_TOKEN => 1,
            _ => (params.max_seqlen as usize)
                .div_ceil(SALA_SUM_DECAY_SPAN as usize)
                .max(1),
        };
        let grid = [layer.config.shape.heads_q.div_ceil(32), spans, batch];
        let variant = kernels.pick(&layer.sum_decay.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl SumDecayArgs<'_> {
    fn params(&self, config: &Config, batch: usize) -> Result<sala_sum_decay_params> {
        let (cumulative, total) = (self.cumulative.as_tensor(), self.total.as_tensor());
        let (heads, tokens) = (config.shape.heads_q, checks::first_axis(&cumulative));
        checks::fits_i32("cumulative", tokens)?;
        Ok(sala_sum_decay_params {
            attention: sala_linear_attention_params {
                log_decay: log_decay(config, self.log_decay, tokens)?,
                cu_seqlens: checks::list("cu_seqlens", &self.cu_seqlens, DType::I32, batch + 1)?,
                status: checks::status(self.status.as_ref())?,
                tokens: tokens as i64,
                ..config.constants()
            },
            cumulative: checks::numbers("cumulative", &cumulative, DType::F32, &[tokens, heads])?,
            total: checks::numbers("total", &total, DType::F32, &[batch, heads])?,
            max_seqlen: self.max_seqlen_q.map_or(tokens, |bound| bound.min(tokens)) as i64,
            heads: heads as i32,
            reserved: 0,
        })
    }
}
