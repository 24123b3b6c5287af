//! Whole sequences: the scan in steps, of sequences that are split into segments where they are long.

use super::{Common, Config, LinearAttention, Split, States};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::operations::keys::bounds;
use crate::operations::workspace::Workspace;
use crate::shapes::{self, Axis};
use crate::sys::params::{
    SALA_LINEAR_ALIGNMENT, SALA_LINEAR_SEGMENT, SALA_LINEAR_SEGMENTS, SALA_LINEAR_STAGES, SALA_LINEAR_STEP,
    sala_linear_attention_params, sala_linear_prefill_params, sala_states,
};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

const KERNEL: &str = "linear_attention_scan";

/// Linear attention over whole sequences or chunks of them: `tokens` rows of all sequences, one after the other.
///
/// ```text
/// S_t = exp(g_t)·S_{t−1} + k_t v_tᵀ          o_t = scale · S_tᵀ q_t
/// ```
///
/// Walks sequences in steps of 32 tokens (the chunked form of Lightning Attention-2, Qin et al. 2024, section 3, and of Gated Linear
/// Attention, Yang et al. 2023, section 4), long ones in several places at a time: see [`Split`].
///
/// Decays, slots, what is refused: [`semantics`](crate::semantics#linear_prefill). [`crate::reference::linear_attention::prefill`] is the definition.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says; `log_decay` where it is missing, or the layer has no decay; `state` where slots are given and no pool; `workspace` where it is
/// smaller than [`LinearAttention::workspace_size`]; `checkpoint_every` where it is no multiple of 64, or 0 with slots.
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
    /// Tokens from checkpoint to checkpoint, a multiple of 64; 0 without `checkpoint_slots`.
    pub checkpoint_every: usize,
    /// The slots that the states after `checkpoint_every`, `2 · checkpoint_every`, … tokens of each sequence go to, contiguous
    /// `[batch, max_checkpoints]` i32; −1 skips one. Entries beyond a sequence's last checkpoint are not read. A slot that a `state_in` or
    /// `state_out` names, and one out of range, is refused and counted; of equal slots the content is unspecified.
    pub checkpoint_slots: Option<Tensor<'a>>,
    /// At least [`LinearAttention::workspace_size`] bytes of any type, from a multiple of 16; it need not be initialised. Without long
    /// sequences none is needed.
    pub workspace: Option<TensorMut<'a>>,
    /// An upper bound of the lengths of sequences; absent: `tokens`. A longer sequence is refused and counted.
    pub max_seqlen_q: Option<usize>,
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
            checkpoint_every: 0,
            checkpoint_slots: None,
            workspace: None,
            max_seqlen_q: None,
            status: None,
        }
    }
}

/// The kernels of a layer: the widest blocks first.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// With the value channels of a block.
    variants: Vec<Variant<sala_linear_prefill_params, usize>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let dim_k = checks::compiled_for("dim_k", KERNEL, "dim_k", config.shape.dim_k)?;
        let dim_v = config.shape.dim_v;
        if ![64, 128, 256].contains(&dim_v) {
            return Err(Error::argument("dim_v", "64, 128 or 256", dim_v));
        }
        let tiles = tiles().iter().rev().filter(|&&tile| tile as usize <= dim_v);
        let variant = |&tile: &u32| {
            let (channels, shared) = (tile as usize, shared_memory(config.shape.dim_k, tile as usize));
            let threads = channels / warp_channels(config.dtype, channels) * 32;
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
        segments: usize,
    ) -> Result<&'p Variant<sala_linear_prefill_params, usize>> {
        let multiprocessors = kernels.device().multiprocessors() as usize;
        let narrowest = self.variants.last().map_or(0, |variant| variant.tile);
        kernels.pick(&self.variants, |&tile| {
            tile == narrowest || segments * config.shape.heads_q * (config.shape.dim_v / tile) >= multiprocessors
        })
    }
}

/// The widths of blocks that there are kernels for, ascending.
fn tiles() -> &'static [u32] {
    let file = shapes::KERNELS.iter().find(|file| file.name == KERNEL);
    let axis: Option<&Axis> = file.and_then(|file| file.axes().last());
    axis.map_or(&[], |axis| axis.values)
}

/// `ScanShape<T, tile>::WARP_CHANNELS`: value channels of a warp.
fn warp_channels(dtype: DType, tile: usize) -> usize {
    if tile == 128 && dtype == DType::Bf16 { 32 } else { 16 }
}

/// `sizeof(ScanPlan<dim_k, tile>)`: the rows of the stages, then P twice, two decay tables, the factors of P, the scales of its rows, and what
/// the block knows of its segment.
const fn shared_memory(dim_k: usize, tile: usize) -> usize {
    const STEP: usize = SALA_LINEAR_STEP as usize;
    const SCORES: usize = 2 * STEP * STEP * 2;
    const DECAY_TABLE: usize = 4 * STEP * 4 + 8;
    const SCORE_FACTORS: usize = 3 * 2 * 32 * 16;
    const SCORE_SCALES: usize = 2 * 2 * STEP * 8;
    const SEGMENT: usize = 8 + 8 + 80;
    let stages = SALA_LINEAR_STAGES as usize * STEP * (2 * dim_k + tile) * 2;
    (stages + SCORES + 2 * DECAY_TABLE + SCORE_FACTORS + SCORE_SCALES + SEGMENT).next_multiple_of(16)
}

/// How a call splits its sequences, and what of its workspace is where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segments {
    /// Of the longest sequence.
    count: usize,
    /// Segments that there is room for in the workspace.
    places: usize,
    /// Sequence b has places from `count · b` on; otherwise they follow from its first token.
    by_batch: bool,
}

impl Segments {
    fn new(config: &Config, batch: usize, tokens: usize, max_seqlen: usize) -> Self {
        const SEGMENT: usize = SALA_LINEAR_SEGMENT as usize;
        let count = match config.split {
            Split::Never => 1,
            Split::Auto => (max_seqlen.min(tokens) / SEGMENT).clamp(1, SALA_LINEAR_SEGMENTS as usize),
        };
        let by_batch = batch.saturating_mul(count) <= tokens / SEGMENT;
        let places = match (count, by_batch) {
            (1, _) => 0,
            (_, true) => batch * count,
            (_, false) => tokens / SEGMENT,
        };
        Self {
            count,
            places,
            by_batch,
        }
    }

    /// Bytes of states, of the sums of their decays, and of counters, one after the other.
    fn sizes(&self, config: &Config) -> [usize; 3] {
        let places = self.places.saturating_mul(config.shape.heads_q);
        let state = config.shape.dim_k * config.shape.dim_v * 4;
        let narrowest = tiles().first().map_or(1, |&tile| tile as usize);
        let counters = config.shape.dim_v / narrowest * 4;
        [state, 8, counters].map(|bytes| places.saturating_mul(bytes))
    }

    fn bytes(&self, config: &Config) -> usize {
        self.sizes(config).into_iter().fold(0, usize::saturating_add)
    }

    /// What the kernel is told of the workspace.
    fn params(&self, config: &Config, workspace: Option<&TensorMut<'_>>) -> Result<sala_linear_prefill_params> {
        let bytes = self.bytes(config);
        let Workspace { address, .. } = Workspace::with_room(workspace, bytes, "LinearAttention::workspace_size")?;
        let [states, decays, _] = self.sizes(config).map(|bytes| bytes as u64);
        let (dim_k, dim_v) = (config.shape.dim_k as i64, config.shape.dim_v as i64);
        Ok(sala_linear_prefill_params {
            segment_states: sala_states {
                pool: address,
                slot_stride: config.shape.heads_q as i64 * dim_k * dim_v,
                head_stride: dim_k * dim_v,
                row_stride: dim_v,
                slots: self.places as i64,
                ..sala_states::default()
            },
            segment_decays: address + states,
            arrivals: address + states + decays,
            segments: self.count as i32,
            places_by_batch: i32::from(self.by_batch),
            dim_v: dim_v as i32,
            ..Default::default()
        })
    }
}

impl LinearAttention {
    /// Sequences of at least so many tokens are split: see [`Split`].
    pub const SPLIT_LEN: usize = 2 * SALA_LINEAR_SEGMENT as usize;

    /// Bytes of workspace of a [`LinearPrefillArgs`] of `batch` sequences, `total_q` tokens in all, of at most `max_seqlen_q` each: none if that
    /// is less than [`Self::SPLIT_LEN`], else at most one state per head for every 4096 tokens, and no more than eight for each sequence.
    pub fn workspace_size(&self, batch: usize, total_q: usize, max_seqlen_q: usize) -> usize {
        Segments::new(&self.config, batch, total_q, max_seqlen_q).bytes(&self.config)
    }
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
            checkpoint_every: _,
            checkpoint_slots,
            workspace,
            max_seqlen_q: _,
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
            .read("checkpoint_slots", *checkpoint_slots)
            .written("workspace", workspace)
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
        let tokens = checks::first_axis(&self.q);
        let max_seqlen = self.max_seqlen_q.map_or(tokens, |bound| bound.min(tokens));
        let segments = Segments::new(config, batch, tokens, max_seqlen);
        let checkpoints = self.checkpoints(batch)?;
        let params = sala_linear_prefill_params {
            attention: sala_linear_attention_params {
                cu_seqlens: checks::list("cu_seqlens", &self.cu_seqlens, DType::I32, batch + 1)?,
                ..common.params(config, tokens, batch)?
            },
            checkpoint_slots: checkpoints.address,
            checkpoint_every: self.checkpoint_every as i64,
            max_checkpoints: checkpoints.max as i32,
            max_seqlen: max_seqlen as i64,
            ..segments.params(config, self.workspace.as_ref())?
        };
        let blocks = batch.saturating_mul(segments.count);
        let variant = layer.prefill.pick(kernels, config, blocks)?;
        let tiles = config.shape.dim_v / variant.tile;
        let grid = [segments.count * tiles, config.shape.heads_q, batch];
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes, and the workspace has room for
        // the segments; the rest is the caller's promise.
        unsafe {
            if segments.count > 1 {
                let alone = sala_linear_prefill_params {
                    segments_alone: 1,
                    ..params
                };
                kernels.queue(stream, variant, grid, &alone)?;
            }
            kernels.queue(stream, variant, grid, &params)
        }
    }
}

/// The slots of checkpoints, `max` for each sequence.
#[derive(Default)]
struct Checkpoints {
    address: u64,
    max: usize,
}

impl LinearPrefillArgs<'_> {
    fn checkpoints(&self, batch: usize) -> Result<Checkpoints> {
        const ALIGNMENT: usize = SALA_LINEAR_ALIGNMENT as usize;
        let every = self.checkpoint_every;
        let is_given = self.checkpoint_slots.is_some();
        if is_given != (every > 0) || !every.is_multiple_of(ALIGNMENT) || i32::try_from(every).is_err() {
            let expected = match is_given {
                true => format!("a multiple of {ALIGNMENT} with checkpoint_slots"),
                false => "0 without checkpoint_slots".to_owned(),
            };
            return Err(Error::argument("checkpoint_every", expected, every));
        }
        checks::optional(self.checkpoint_slots, |slots| {
            checks::rank("checkpoint_slots", slots, 2)?;
            let max = checks::last_axis(slots);
            checks::fits_i32("checkpoint_slots", max)?;
            let rows = checks::numbers("checkpoint_slots", slots, DType::I32, &[batch, max])?;
            if ![0, max as i64].contains(&rows.token_stride) {
                let strides = format!("strides {:?}", slots.strides());
                return Err(Error::argument("checkpoint_slots", "contiguous rows", strides));
            }
            if self.state.is_none() {
                let expected = "a pool of states for checkpoint_slots";
                return Err(Error::argument("state", expected, "none"));
            }
            Ok(Checkpoints {
                address: rows.address,
                max,
            })
        })
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

    fn tile(layer: &LinearAttention, segments: usize, multiprocessors: u32) -> usize {
        let options = HostOptions {
            multiprocessors,
            ..HostOptions::default()
        };
        let kernels = Kernels::load(&Device::host_with(options)).unwrap();
        layer.prefill.pick(&kernels, &layer.config, segments).unwrap().tile
    }

    #[test]
    fn blocks_narrow_until_every_multiprocessor_has_one() {
        let wide = layer(DType::Bf16, 32, 128, 128);
        let tiles = [(1, 1), (1, 32), (1, 33), (1, 64), (1, 132), (5, 132)];
        let tiles = tiles.map(|(batch, multiprocessors)| tile(&wide, batch, multiprocessors));
        assert_eq!(tiles, [128, 128, 64, 64, 32, 128]);
        let narrow = layer(DType::F16, 4, 64, 128);
        assert_eq!(tile(&narrow, 1, 1), 128);
        assert_eq!(tile(&layer(DType::F16, 4, 64, 64), 1, 1), 64, "no wider than a value");
    }

    #[test]
    fn a_workspace_has_a_state_for_each_segment() {
        let layer = layer(DType::Bf16, 1, 128, 128);
        let places = |batch, tokens, longest| layer.workspace_size(batch, tokens, longest) / (128 * 128 * 4 + 8 + 16);
        assert_eq!(places(1, 8191, 8191), 0, "nothing is split");
        assert_eq!(places(1, 8192, 8192), 2);
        assert_eq!(places(1, 1 << 20, 1 << 20), 8);
        assert_eq!(places(100, 100 * 64, 64), 0);
        assert_eq!(places(100, 1 << 16, 1 << 16), 16, "whichever of the sequences is long");
        assert_eq!(places(2, 1 << 20, 1 << 14), 8);
        let shape = layer.config.shape;
        let never = LinearAttention::builder(DType::Bf16, shape, Decay::None).split(Split::Never);
        assert_eq!(never.build().unwrap().workspace_size(1, 1 << 20, 1 << 20), 0);
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
