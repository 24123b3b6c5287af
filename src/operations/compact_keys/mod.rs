//! Compaction of keys and values that are kept.

pub mod reference;

use super::choose_tokens::lists;
use super::sparse_layer::Config;
use super::{Keys, SparseLayer};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_COMPACT_SLICE, SALA_COMPACT_THREADS, sala_compact_keys_params};
use crate::{DType, Result, Stream, Tensor, TensorMut};

/// Compaction: the keys and values of kept tokens, and their scores, move to the front of their sequence, in packed tensors, caches or pages, in one
/// launch.
///
/// ```text
/// K[i] = K[index[i]]      V[i] = V[index[i]]      score[i] = score[index[i]]      per sequence and kv head; all rows are read before any is written
/// ```
///
/// Lists are ascending, as [`ChooseTokensArgs`](crate::ChooseTokensArgs) makes them; what an entry needs is that it is not before its own place.
/// The sequence then has as many keys as entries are no −1: the caller knows, it is the smaller of its length and k. Rows behind are left as
/// they are. [`crate::reference::compact_keys::compact_keys`] is the definition.
///
/// What is refused: [`semantics`](crate::semantics#compact_keys).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says.
///
/// # Example
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     AttentionShape, CompactKeysArgs, DType, Device, Kernels, Keys, SparseLayer, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let mut k: Vec<_> = (0..6 * 64).map(|i| bf16::from_f32((i / 64) as f32)).collect();
/// let mut v = k.clone();
/// let args = CompactKeysArgs::new(
///     TensorMut::from_slice(&mut k, &[1, 6, 1, 64])?,
///     TensorMut::from_slice(&mut v, &[1, 6, 1, 64])?,
///     Keys::cached(Tensor::from_slice(&[6], &[1])?),
///     Tensor::from_slice(&[0, 2, 3, 5], &[1, 1, 4])?,
/// );
/// kernels.run(&layer, args)?;
/// let rows = k.chunks(64).map(|row| f32::from(row[0]));
/// assert_eq!(rows.collect::<Vec<_>>(), [0.0, 2.0, 3.0, 5.0, 4.0, 5.0]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CompactKeysArgs<'a> {
    /// Keys, as in [`SparseAttentionArgs::k`](crate::SparseAttentionArgs::k). No two sequences share rows.
    pub k: TensorMut<'a>,
    /// Values, shaped as the keys. Both may interleave in one allocation.
    pub v: TensorMut<'a>,
    /// Where the keys are, and how many each sequence has before.
    pub keys: Keys<'a>,
    /// Kept tokens `[batch, heads_kv, k]` i32, ascending, −1 after the last.
    pub token_indices: Tensor<'a>,
    /// Scores `[batch, heads_kv, tokens]` f32 that move likewise. Sequences of more than `tokens` keys are refused and counted.
    pub scores: Option<TensorMut<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> CompactKeysArgs<'a> {
    /// The compaction of keys and values alone.
    pub fn new(k: TensorMut<'a>, v: TensorMut<'a>, keys: Keys<'a>, token_indices: Tensor<'a>) -> Self {
        Self {
            k,
            v,
            keys,
            token_indices,
            scores: None,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_compact_keys_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "compact_keys";
        let dim = checks::compiled_for("dim", KERNEL, "dim", config.shape.dim)?;
        let variant = Variant::base(KERNEL, None, &[dim], SALA_COMPACT_THREADS as usize, 0, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for CompactKeysArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            k,
            v,
            keys,
            token_indices,
            scores,
            status,
        } = self;
        Views::new()
            .written("k", k)
            .written("v", v)
            .keys(keys)
            .read("token_indices", *token_indices)
            .written("scores", scores)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let batch = self.keys.batch()?;
        let params = self.params(config, batch)?;
        let slices = 2 * config.shape.dim / SALA_COMPACT_SLICE as usize + usize::from(self.scores.is_some());
        let grid = [slices, config.shape.heads_kv, batch];
        let variant = kernels.pick(&layer.plans.compact.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl CompactKeysArgs<'_> {
    fn params(&self, config: &Config, batch: usize) -> Result<sala_compact_keys_params> {
        let Config { dtype, shape, .. } = *config;
        let heads = [shape.heads_kv, shape.dim];
        let k = self.keys.rows("k", &self.k.as_tensor(), dtype, batch, heads)?;
        checks::shape("v", &self.v.as_tensor(), self.k.as_tensor().shape())?;
        let v = self.keys.rows("v", &self.v.as_tensor(), dtype, batch, heads)?;
        let (indices, kept) = lists(&self.token_indices, batch, shape.heads_kv)?;
        let mut room = k.room();
        let scores = checks::optional(self.scores.as_ref().map(TensorMut::as_tensor), |scores| {
            let tokens = checks::last_axis(scores);
            room.longest = room.longest.min(tokens);
            checks::numbers("scores", scores, DType::F32, &[batch, shape.heads_kv, tokens])
        })?;
        Ok(sala_compact_keys_params {
            keys: self.keys.params(batch, room, None)?,
            k: k.rows,
            v: v.rows,
            indices,
            scores,
            status: checks::status(self.status.as_ref())?,
            kept,
            reserved: 0,
        })
    }
}
