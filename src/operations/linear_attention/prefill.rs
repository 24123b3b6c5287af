//! Whole sequences: the chunked scan.

use super::{Common, Config, LinearAttention, States};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::operations::keys::bounds;
use crate::shapes::{self, Axis};
use crate::sys::params::{SALA_LINEAR_CHUNK, SALA_LINEAR_SCAN_WARP_CHANNELS, sala_linear_attention_params};
use crate::{DType, Result, Stream, Tensor, TensorMut};

const KERNEL: &str = "linear_attention_scan";

/// Linear attention over whole sequences or chunks of them: `tokens` rows of all sequences, one after the other.
///
/// ```text
/// S_t = exp(g_t)·S_{t−1} + k_t v_tᵀ          o_t = scale · S_tᵀ q_t
/// ```
///
/// Walks sequences in chunks of 64 tokens (the chunked form of Lightning Attention-2, Qin et al. 2024, section 3, and of Gated Linear
/// Attention, Yang et al. 2023, section 4).
///
/// Decays, slots, what is refused: [`semantics`](crate::semantics#linear_prefill). [`crate::reference::linear_attention::prefill`] is the definition.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says; `log_decay` where it is missing, or the layer has no decay; `state` where slots are given and no pool.
///
/// # Example
/// Three tokens without decay, whose state goes to slot 0:
///
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     DType, Decay, Device, Kernels, LinearAttention, LinearPrefillArgs, LinearShape, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = LinearShape { heads_q: 1, heads_kv: 1, dim_k: 64, dim_v: 64 };
/// let layer = LinearAttention::builder(DType::Bf16, shape, Decay::None).scale(1.0 / 64.0).build()?;
/// let x = vec![bf16::ONE; 3 * 64];
/// let x = Tensor::from_slice(&x, &[3, 1, 64])?;
/// let (mut out, mut pool) = (vec![bf16::ZERO; 3 * 64], vec![0f32; 64 * 64]);
/// let out_rows = TensorMut::from_slice(&mut out, &[3, 1, 64])?;
/// let mut args = LinearPrefillArgs::new(x, x, x, Tensor::from_slice(&[0, 3], &[2])?, None, out_rows);
/// args.state = Some(TensorMut::from_slice(&mut pool, &[1, 1, 64, 64])?);
/// args.state_out = Some(Tensor::from_slice(&[0], &[1])?);
/// kernels.run(&layer, args)?;
/// assert_eq!([out[0], out[64], out[128]].map(f32::from), [1.0, 2.0, 3.0]);
/// assert_eq!(pool, [3.0; 64 * 64]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct LinearPrefillArgs<'a> {
    /// Queries `[tokens, heads_q, dim_k]`, the layer's type.
    pub q: Tensor<'a>,
    /// Keys `[tokens, heads_kv, dim_k]`.
    pub k: Tensor<'a>,
    /// Values `[tokens, heads_kv, dim_v]`.
    pub v: Tensor<'a>,
    /// Where sequences begin, `[batch + 1]` i32: from 0, non-decreasing, to at most `tokens`. Read on the device: a sequence whose bounds do
    /// not hold is refused and counted in the status word.
    pub cu_seqlens: Tensor<'a>,
    /// The log decay, f32: `[heads_q]` or `[tokens, heads_q]` as [`Decay`](crate::Decay) says; absent for `Decay::None`.
    pub log_decay: Option<Tensor<'a>>,
    /// Outputs `[tokens, heads_q, dim_v]`. A sequence whose slots are refused gives 0; rows of no sequence are left as they are.
    pub out: TensorMut<'a>,
    /// The pool of states, f32 `[slots, heads, dim_k, dim_v]` or as [`StateLayout`](crate::StateLayout) says. Required with `state_in` or
    /// `state_out`.
    pub state: Option<TensorMut<'a>>,
    /// The slot each sequence starts from, `[batch]` i32; −1 or an absent tensor: a state of zero. A sequence that names no slot of the pool
    /// is refused and counted.
    pub state_in: Option<Tensor<'a>>,
    /// The slot each sequence leaves its state in, `[batch]` i32; −1 or an absent tensor: nowhere. May equal `state_in`. Of two sequences
    /// that name one slot the first has it; that, a slot that another sequence starts from, and an index out of range are refused and counted.
    pub state_out: Option<Tensor<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> LinearPrefillArgs<'a> {
    /// Sequences that start from a state of zero and leave none. `log_decay` is a tensor unless the layer has no decay.
    pub fn new(
        q: Tensor<'a>,
        k: Tensor<'a>,
        v: Tensor<'a>,
        cu_seqlens: Tensor<'a>,
        log_decay: Option<Tensor<'a>>,
        out: TensorMut<'a>,
    ) -> Self {
        Self {
            q,
            k,
            v,
            cu_seqlens,
            log_decay,
            out,
            state: None,
            state_in: None,
            state_out: None,
            status: None,
        }
    }
}

/// The kernels of a layer: the widest blocks first.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// With the value channels of a block.
    variants: Vec<Variant<sala_linear_attention_params, usize>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let dim_k = checks::compiled_for("dim_k", KERNEL, "dim_k", config.shape.dim_k)?;
        // Values have as many channels as keys may have: that is what the kernels are tried with.
        checks::compiled_for("dim_v", KERNEL, "dim_k", config.shape.dim_v)?;
        let most = config.shape.dim_k.min(config.shape.dim_v);
        let tiles = tiles().iter().rev().filter(|&&tile| tile as usize <= most);
        let variant = |&tile: &u32| {
            let (channels, shared) = (tile as usize, shared_memory(config.shape.dim_k, tile as usize));
            let threads = channels / SALA_LINEAR_SCAN_WARP_CHANNELS as usize * 32;
            Variant::base(KERNEL, Some(config.dtype), &[dim_k, tile], threads, shared, channels)
        };
        Ok(Self {
            variants: tiles.map(variant).collect::<Result<_>>()?,
        })
    }

    /// The kernel whose blocks are widest while there is still one for every multiprocessor. The choice changes no bit of the result.
    fn pick<'p>(
        &'p self,
        kernels: &Kernels,
        config: &Config,
        batch: usize,
    ) -> Result<&'p Variant<sala_linear_attention_params, usize>> {
        let multiprocessors = kernels.device().multiprocessors() as usize;
        let narrowest = self.variants.last().map_or(0, |variant| variant.tile);
        kernels.pick(&self.variants, |&tile| {
            tile == narrowest || batch * config.shape.heads_q * (config.shape.dim_v / tile) >= multiprocessors
        })
    }
}

/// The widths of blocks that there are kernels for, ascending.
fn tiles() -> &'static [u32] {
    let file = shapes::KERNELS.iter().find(|file| file.name == KERNEL);
    let axis: Option<&Axis> = file.and_then(|file| file.axes().last());
    axis.map_or(&[], |axis| axis.values)
}

/// `sizeof(ScanPlan<dim_k, tile>)`: two stages of Q and K, V, P, two decay tables, the scales of P.
const fn shared_memory(dim_k: usize, tile: usize) -> usize {
    const CHUNK: usize = SALA_LINEAR_CHUNK as usize;
    let decay_table = (4 * CHUNK + 2) * 4;
    2 * CHUNK * dim_k * 2 * 2 + CHUNK * tile * 2 + CHUNK * CHUNK * 2 + 2 * decay_table + 2 * CHUNK * 8
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for LinearPrefillArgs<'_> {
    type Operation = LinearAttention;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k,
            v,
            cu_seqlens,
            log_decay,
            out,
            state,
            state_in,
            state_out,
            status,
        } = self;
        Views::new()
            .read("q", *q)
            .read("k", *k)
            .read("v", *v)
            .read("cu_seqlens", *cu_seqlens)
            .read("log_decay", *log_decay)
            .written("out", out)
            .written("state", state)
            .read("state_in", *state_in)
            .read("state_out", *state_out)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &LinearAttention, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let batch = bounds("cu_seqlens", &self.cu_seqlens)?;
        let common = Common {
            q: self.q,
            k: self.k,
            v: self.v,
            log_decay: self.log_decay,
            states: States {
                pool: self.state.as_ref().map(TensorMut::as_tensor),
                state_in: self.state_in,
                state_out: self.state_out,
            },
            out: &self.out,
            status: self.status.as_ref(),
        };
        let params = sala_linear_attention_params {
            cu_seqlens: checks::list("cu_seqlens", &self.cu_seqlens, DType::I32, batch + 1)?,
            ..common.params(config, checks::first_axis(&self.q), batch)?
        };
        let variant = layer.prefill.pick(kernels, config, batch)?;
        let grid = [config.shape.dim_v / variant.tile, config.shape.heads_q, batch];
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;
    use crate::{Decay, Device, HostOptions, LinearShape};

    fn layer(dtype: DType, heads: usize, dim_k: usize, dim_v: usize) -> LinearAttention {
        let shape = LinearShape {
            heads_q: heads,
            heads_kv: heads,
            dim_k,
            dim_v,
        };
        LinearAttention::builder(dtype, shape, Decay::PerHead).build().unwrap()
    }

    fn tile(layer: &LinearAttention, batch: usize, multiprocessors: u32) -> usize {
        let options = HostOptions {
            multiprocessors,
            ..HostOptions::default()
        };
        let kernels = Kernels::load(&Device::host_with(options)).unwrap();
        layer.prefill.pick(&kernels, &layer.config, batch).unwrap().tile
    }

    #[test]
    fn blocks_narrow_until_every_multiprocessor_has_one() {
        let wide = layer(DType::Bf16, 32, 128, 128);
        let tiles = [(1, 1), (1, 32), (1, 33), (1, 64), (1, 132), (5, 132)];
        let tiles = tiles.map(|(batch, multiprocessors)| tile(&wide, batch, multiprocessors));
        assert_eq!(tiles, [128, 128, 64, 64, 32, 128]);
        let narrow = layer(DType::F16, 4, 64, 128);
        assert_eq!(tile(&narrow, 1, 1), 64, "a block wider than dim_k has no kernel");
    }

    #[test]
    fn blocks_fit_every_base_architecture() {
        for dim_k in [64, 128] {
            for variant in layer(DType::Bf16, 1, dim_k, 128).prefill.variants {
                assert!(variant.shared <= 99 * 1024);
            }
        }
    }
}
