//! Gathering of rows of keys and values.

pub mod reference;

use super::choose_tokens::lists;
use super::sparse_layer::Config;
use super::{Keys, SparseLayer};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_GATHER_ROWS, SALA_GATHER_THREADS, sala_gather_rows_params};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// Gathering: the keys and values of chosen tokens, and their scores, go to tensors of their own, such as those that a rank passes on.
///
/// ```text
/// K_out[i] = K[index[i]]      V_out[i] = V[index[i]]      score_out[i] = score[index[i]]      per sequence and kv head; −1: zero, −∞
/// ```
///
/// The results are [`Keys::cached`] of as many keys as were chosen. [`crate::reference::gather_rows::gather_rows`] is the definition.
///
/// What is refused: [`semantics`](crate::semantics#gather_rows).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says.
///
/// # Example
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     AttentionShape, DType, Device, GatherRowsArgs, Kernels, Keys, SparseLayer, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let k: Vec<_> = (0..5 * 64).map(|i| bf16::from_f32((i / 64) as f32)).collect();
/// let (mut k_out, mut v_out) = (vec![bf16::ONE; 3 * 64], vec![bf16::ONE; 3 * 64]);
/// let args = GatherRowsArgs::new(
///     Tensor::from_slice(&k, &[1, 5, 1, 64])?,
///     Tensor::from_slice(&k, &[1, 5, 1, 64])?,
///     Keys::cached(Tensor::from_slice(&[5], &[1])?),
///     Tensor::from_slice(&[1, 4, -1], &[1, 1, 3])?,
///     TensorMut::from_slice(&mut k_out, &[1, 3, 1, 64])?,
///     TensorMut::from_slice(&mut v_out, &[1, 3, 1, 64])?,
/// );
/// kernels.run(&layer, args)?;
/// let rows = k_out.chunks(64).map(|row| f32::from(row[0]));
/// assert_eq!(rows.collect::<Vec<_>>(), [1.0, 4.0, 0.0]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct GatherRowsArgs<'a> {
    /// Keys, as in [`SparseAttentionArgs::k`](crate::SparseAttentionArgs::k).
    pub k: Tensor<'a>,
    /// Values, shaped as the keys.
    pub v: Tensor<'a>,
    /// Where the keys are, and how many each sequence has.
    pub keys: Keys<'a>,
    /// Tokens `[batch, heads_kv, k]` i32, in any order: −1 is none.
    pub token_indices: Tensor<'a>,
    /// Keys of the tokens, `[batch, k, heads_kv, dim]`.
    pub k_out: TensorMut<'a>,
    /// Values, shaped as the keys. Both may interleave in one allocation.
    pub v_out: TensorMut<'a>,
    /// Scores `[batch, heads_kv, tokens]` f32, and where those of the tokens go, `[batch, heads_kv, k]`. Sequences of more than `tokens` keys are
    /// refused and counted.
    pub scores: Option<(Tensor<'a>, TensorMut<'a>)>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> GatherRowsArgs<'a> {
    /// The gathering of keys and values alone.
    pub fn new(
        k: Tensor<'a>,
        v: Tensor<'a>,
        keys: Keys<'a>,
        token_indices: Tensor<'a>,
        k_out: TensorMut<'a>,
        v_out: TensorMut<'a>,
    ) -> Self {
        Self {
            k,
            v,
            keys,
            token_indices,
            k_out,
            v_out,
            scores: None,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_gather_rows_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "gather_rows";
        let dim = checks::compiled_for("dim", KERNEL, "dim", config.shape.dim)?;
        let variant = Variant::base(KERNEL, None, &[dim], SALA_GATHER_THREADS as usize, 0, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for GatherRowsArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            k,
            v,
            keys,
            token_indices,
            k_out,
            v_out,
            scores,
            status,
        } = self;
        Views::new()
            .read("k", *k)
            .read("v", *v)
            .keys(keys)
            .read("token_indices", *token_indices)
            .written("k_out", k_out)
            .written("v_out", v_out)
            .read("scores", scores.as_ref().map(|(scores, _)| *scores))
            .written("scores_out", scores.as_ref().map(|(_, out)| out))
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let batch = self.keys.batch()?;
        let params = self.params(config, batch)?;
        // A row takes one thread for each 16 bytes.
        let rows_of_block = SALA_GATHER_THREADS as usize * 8 / config.shape.dim * SALA_GATHER_ROWS as usize;
        let grid = [
            (params.chosen as usize).div_ceil(rows_of_block),
            config.shape.heads_kv,
            batch,
        ];
        let variant = kernels.pick(&layer.plans.gather.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl GatherRowsArgs<'_> {
    fn params(&self, config: &Config, batch: usize) -> Result<sala_gather_rows_params> {
        let Config { dtype, shape, .. } = *config;
        let heads = [shape.heads_kv, shape.dim];
        let k = self.keys.rows("k", &self.k, dtype, batch, heads)?;
        checks::shape("v", &self.v, self.k.shape())?;
        let v = self.keys.rows("v", &self.v, dtype, batch, heads)?;
        let (indices, chosen) = lists(&self.token_indices, batch, shape.heads_kv)?;
        // The results are caches, in order.
        let out = |name, tensor: &TensorMut<'_>| {
            let tensor = tensor.as_tensor();
            checks::shape(name, &tensor, &[batch, chosen as usize, shape.heads_kv, shape.dim])?;
            Ok::<_, Error>(super::keys::caches(name, &tensor, dtype, heads)?.rows)
        };
        let mut room = k.room();
        let (mut scores, mut scores_out) = Default::default();
        if let Some((given, out)) = &self.scores {
            let tokens = checks::last_axis(given);
            room.longest = room.longest.min(tokens);
            scores = checks::numbers("scores", given, DType::F32, &[batch, shape.heads_kv, tokens])?;
            let entries = [batch, shape.heads_kv, chosen as usize];
            scores_out = checks::numbers("scores_out", &out.as_tensor(), DType::F32, &entries)?;
        }
        Ok(sala_gather_rows_params {
            keys: self.keys.params(batch, room, None)?,
            k: k.rows,
            v: v.rows,
            indices,
            k_out: out("k_out", &self.k_out)?,
            v_out: out("v_out", &self.v_out)?,
            scores,
            scores_out,
            status: checks::status(self.status.as_ref())?,
            chosen,
            reserved: 0,
        })
    }
}
