//! Scores of keys.

pub mod reference;

use super::keys::Room;
use super::sparse_layer::Config;
use super::workspace::Workspace;
use super::{Sequences, SparseLayer};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{
    SALA_SCORE_MAX_PIECES, SALA_SCORE_MAX_POOL, SALA_SCORE_PIECE, SALA_SCORE_THREADS, SALA_SCORE_TILE,
    sala_score_keys_params,
};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// Scores of keys, for methods that keep or pass on tokens by their scores: of each key its product with the mean of the queries, and the
/// largest of neighbouring ones.
///
/// ```text
/// s[t] = mean of q·K[t] over the query tokens and the heads of a group      score[t] = max of s[t − pool/2 … t + pool/2]
/// ```
///
/// There is no causal mask, and no scale: queries score all keys of their sequence. [`crate::reference::score_keys::score_keys`] is the
/// definition.
///
/// Formula, NaN and what is refused: [`semantics`](crate::semantics#score_keys).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says, an even `pool` or one above 31, or a workspace that is too small.
///
/// # Example
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     AttentionShape, DType, Device, Kernels, Keys, ScoreKeysArgs, Sequences, SparseLayer, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 2, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let queries = [[bf16::ONE; 64], [bf16::from_f32(3.0); 64]].concat(); // One token of two heads, whose mean is 2.
/// let k: Vec<_> = (0..8 * 64).map(|i| bf16::from_f32((i / 64 == 3) as u8 as f32)).collect();
/// let mut scores = [0.0f32; 8];
/// let mut workspace = vec![0.0f32; layer.tokens_workspace_size(1, 1, 0) / 4];
/// let keys = Keys::cached(Tensor::from_slice(&[7], &[1])?);
/// let mut args = ScoreKeysArgs::new(
///     Tensor::from_slice(&queries, &[1, 2, 64])?,
///     Tensor::from_slice(&k, &[1, 8, 1, 64])?,
///     Sequences::new(Tensor::from_slice(&[0, 1], &[2])?, keys),
///     TensorMut::from_slice(&mut scores, &[1, 1, 8])?,
/// );
/// args.pool = 5;
/// args.workspace = Some(TensorMut::from_slice(&mut workspace, &[64])?);
/// kernels.run(&layer, args)?;
/// assert_eq!(scores, [0.0, 128.0, 128.0, 128.0, 128.0, 128.0, 0.0, f32::NEG_INFINITY]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ScoreKeysArgs<'a> {
    /// Queries `[total_q, heads_q, dim]`, the layer's type.
    pub q: Tensor<'a>,
    /// Keys, as in [`SparseAttentionArgs::k`](crate::SparseAttentionArgs::k).
    pub k: Tensor<'a>,
    /// How queries and keys are cut into sequences.
    pub sequences: Sequences<'a>,
    /// Scores `[batch, heads_kv, tokens]` f32: −∞ past the end of a sequence. One of more than `tokens` keys is refused and counted.
    pub scores: TensorMut<'a>,
    /// Keys of the window that a score is the largest product of: odd, 1 (no neighbours, as [`Self::new`] has it) to 31. The source takes 5.
    pub pool: usize,
    /// [`SparseLayer::tokens_workspace_size`] bytes, for any query token.
    pub workspace: Option<TensorMut<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> ScoreKeysArgs<'a> {
    /// The scores of `k` by the mean of `q`, each of its own key alone.
    pub fn new(q: Tensor<'a>, k: Tensor<'a>, sequences: Sequences<'a>, scores: TensorMut<'a>) -> Self {
        Self {
            q,
            k,
            sequences,
            scores,
            pool: 1,
            workspace: None,
            status: None,
        }
    }
}

/// The kernels of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    sums: Vec<Variant<sala_score_keys_params>>,
    scores: Vec<Variant<sala_score_keys_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "score_keys";
        let dim = checks::compiled_for("dim", KERNEL, "dim", config.shape.dim)?;
        let (element, threads) = (Some(config.dtype), SALA_SCORE_THREADS as usize);
        // Eight sums of each thread; the mean and the products.
        let [sums, scores] = [threads * 8 * 4, (config.shape.dim + SALA_SCORE_TILE as usize) * 4];
        Ok(Self {
            sums: vec![Variant::base("score_keys_sums", element, &[dim], threads, sums, ())?],
            scores: vec![Variant::base(KERNEL, element, &[dim], threads, scores, ())?],
        })
    }
}

/// Pieces that the query tokens of a sequence are cut into, if there are at most so many.
fn pieces(queries: usize) -> usize {
    let pieces = queries.div_ceil(SALA_SCORE_PIECE as usize);
    pieces.min(SALA_SCORE_MAX_PIECES as usize)
}

/// Bytes of the sums of queries of `batch` sequences of at most `queries` query tokens.
pub(super) fn workspace_size(config: &Config, batch: usize, queries: usize) -> usize {
    let row = pieces(queries) * config.shape.dim * 4;
    batch.saturating_mul(config.shape.heads_kv).saturating_mul(row)
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for ScoreKeysArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            q,
            k,
            sequences,
            scores,
            pool: _,
            workspace,
            status,
        } = self;
        Views::new()
            .read("q", *q)
            .read("k", *k)
            .sequences(sequences)
            .written("scores", scores)
            .written("workspace", workspace)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let params = self.params(layer)?;
        let (heads_kv, batch) = (layer.config.shape.heads_kv, params.sequences.batch as usize);
        let plan = &layer.plans.score_keys;
        let [sums, scores] = [&plan.sums, &plan.scores].map(|variants| kernels.pick(variants, |()| true));
        let (sums, scores) = (sums?, scores?);
        let outputs = SALA_SCORE_TILE as usize - (self.pool - 1);
        let tiles = (params.scored as usize).div_ceil(outputs);
        // SAFETY: the parameters describe the views, which were checked against the kernels' reads and writes; the rest is the caller's promise.
        unsafe {
            kernels.queue(stream, sums, [params.pieces as usize, heads_kv, batch], &params)?;
            kernels.queue(stream, scores, [tiles, heads_kv, batch], &params)
        }
    }
}

impl ScoreKeysArgs<'_> {
    fn params(&self, layer: &SparseLayer) -> Result<sala_score_keys_params> {
        let Config { dtype, shape, .. } = layer.config;
        checks::rank("q", &self.q, 3)?;
        let total_q = checks::first_axis(&self.q);
        let q = checks::rows("q", &self.q, dtype, &[total_q, shape.heads_q, shape.dim])?;
        let batch = self.sequences.batch()?;
        let k = self
            .sequences
            .keys
            .rows("k", &self.k, dtype, batch, [shape.heads_kv, shape.dim])?;
        let scores = self.scores.as_tensor();
        let scored = checks::last_axis(&scores);
        if self.pool.is_multiple_of(2) || self.pool > SALA_SCORE_MAX_POOL as usize {
            let expected = format!("an odd number up to {SALA_SCORE_MAX_POOL}");
            return Err(Error::argument("pool", expected, self.pool));
        }
        let room = Room {
            longest: k.room.min(scored),
            ..k.room()
        };
        let sequences = self.sequences.params(total_q, room)?;
        let queries = sequences.max_seqlen_q as usize;
        let bytes = workspace_size(&layer.config, batch, queries);
        let workspace = Workspace::with_room(self.workspace.as_ref(), bytes, "SparseLayer::tokens_workspace_size")?;
        Ok(sala_score_keys_params {
            sequences,
            q,
            k: k.rows,
            scores: checks::numbers("scores", &scores, DType::F32, &[batch, shape.heads_kv, scored])?,
            sums: workspace.address,
            status: checks::status(self.status.as_ref())?,
            pieces: pieces(queries) as i32,
            group: layer.config.group() as i32,
            scored: checks::fits_i32("scores", scored)?,
            pool: self.pool as i32,
        })
    }
}
