//! Commitment of the keys of accepted drafts.

pub mod reference;

use super::sparse_layer::Config;
use super::{Keys, SparseLayer};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_COMMIT_MAX_DRAFTS, SALA_COMMIT_THREADS, sala_commit_keys_params};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// Commitment: the keys and values of those drafts of a tree that were accepted move to where the tokens that they become belong, in packed
/// tensors, caches or pages, in one launch.
///
/// ```text
/// K[base + i] = K[base + path[i]]      V[base + i] = V[base + path[i]]      i < accepted; all rows are read before any is written
/// ```
///
/// The order of a speculative step: append the drafts' keys, select and attend with [`SparseAttentionArgs::parent`](crate::SparseAttentionArgs::parent), commit what was
/// accepted, and compress with [`CompressKeysArgs::seqlens_old`](crate::CompressKeysArgs::seqlens_old) = base and lengths of base + accepted. A chain needs no commitment of keys: its
/// accepted drafts are where they belong. [`crate::reference::commit_keys`] is the definition.
///
/// What is refused: [`semantics`](crate::semantics#commit_keys).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says: `path` of more than 16 drafts, or `base`, `accepted` and `path` of another number of
/// sequences than `keys` has.
///
/// # Example
/// Of four drafts behind two keys, the second and the last were accepted:
///
/// ```
/// use half::bf16;
/// use sala_kernels::{AttentionShape, CommitKeysArgs, DType, Device, Kernels, Keys, SparseLayer, Tensor, TensorMut};
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let mut k: Vec<_> = (0..6 * 64).map(|i| bf16::from_f32((i / 64) as f32)).collect();
/// let mut v = k.clone();
/// let args = CommitKeysArgs::new(
///     TensorMut::from_slice(&mut k, &[1, 6, 1, 64])?,
///     TensorMut::from_slice(&mut v, &[1, 6, 1, 64])?,
///     Keys::cached(Tensor::from_slice(&[6], &[1])?),
///     Tensor::from_slice(&[2], &[1])?,
///     Tensor::from_slice(&[2], &[1])?,
///     Tensor::from_slice(&[1, 3, -1, -1], &[1, 4])?,
/// );
/// kernels.run(&layer, args)?;
/// let rows = k.chunks(64).map(|row| f32::from(row[0]));
/// assert_eq!(rows.collect::<Vec<_>>(), [0.0, 1.0, 3.0, 5.0, 4.0, 5.0]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CommitKeysArgs<'a> {
    /// All keys, as in [`SparseAttentionArgs::k`](crate::SparseAttentionArgs::k), those of the drafts last in their sequences.
    pub k: TensorMut<'a>,
    /// All values, shaped as the keys. Both may interleave in one allocation.
    pub v: TensorMut<'a>,
    /// Where the keys are, and how many a sequence has with its drafts.
    pub keys: Keys<'a>,
    /// Keys before the drafts of each sequence, `[batch]` i32.
    pub base: Tensor<'a>,
    /// How many drafts of each sequence were accepted, `[batch]` i32: 0 to `drafts`.
    pub accepted: Tensor<'a>,
    /// Which drafts were accepted, `[batch, drafts]` i32 of up to 16 drafts: the first `accepted` entries, ascending, as a path of a tree is; the others
    /// are not read. A base, a number or a path that cannot be refuses the sequence (lengths).
    pub path: Tensor<'a>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> CommitKeysArgs<'a> {
    /// The commitment of the drafts that `path` names.
    pub fn new(
        k: TensorMut<'a>,
        v: TensorMut<'a>,
        keys: Keys<'a>,
        base: Tensor<'a>,
        accepted: Tensor<'a>,
        path: Tensor<'a>,
    ) -> Self {
        Self {
            k,
            v,
            keys,
            base,
            accepted,
            path,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_commit_keys_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "commit_keys";
        let dim = checks::compiled_for("dim", KERNEL, "dim", config.shape.dim)?;
        let variant = Variant::base(KERNEL, None, &[dim], SALA_COMMIT_THREADS as usize, 0, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for CommitKeysArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            k,
            v,
            keys,
            base,
            accepted,
            path,
            status,
        } = self;
        Views::new()
            .written("k", k)
            .written("v", v)
            .keys(keys)
            .read("base", *base)
            .read("accepted", *accepted)
            .read("path", *path)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let batch = self.keys.batch()?;
        let params = self.params(config, batch)?;
        // A head takes one thread for each 16 bytes of a row.
        let heads_of_block = SALA_COMMIT_THREADS as usize * 8 / config.shape.dim;
        let blocks = match params.drafts {
            0 => 0,
            _ => config.shape.heads_kv.div_ceil(heads_of_block),
        };
        let variant = kernels.pick(&layer.plans.commit.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, [blocks, 2, batch], &params) }
    }
}

impl CommitKeysArgs<'_> {
    fn params(&self, config: &Config, batch: usize) -> Result<sala_commit_keys_params> {
        let Config { dtype, shape, .. } = *config;
        let heads = [shape.heads_kv, shape.dim];
        let k = self.keys.rows("k", &self.k.as_tensor(), dtype, batch, heads)?;
        checks::shape("v", &self.v.as_tensor(), self.k.as_tensor().shape())?;
        let v = self.keys.rows("v", &self.v.as_tensor(), dtype, batch, heads)?;
        checks::rank("path", &self.path, 2)?;
        let drafts = checks::last_axis(&self.path);
        let path = checks::numbers("path", &self.path, DType::I32, &[batch, drafts])?;
        if drafts > SALA_COMMIT_MAX_DRAFTS as usize {
            let expected = format!("at most {SALA_COMMIT_MAX_DRAFTS} drafts of a sequence");
            return Err(Error::argument("path", expected, drafts));
        }
        Ok(sala_commit_keys_params {
            keys: self.keys.params(batch, k.room(), None)?,
            k: k.rows,
            v: v.rows,
            base: checks::list("base", &self.base, DType::I32, batch)?,
            accepted: checks::list("accepted", &self.accepted, DType::I32, batch)?,
            path: path.address,
            path_stride: path.token_stride,
            status: checks::status(self.status.as_ref())?,
            drafts: drafts as i32,
            heads_kv: shape.heads_kv as i32,
        })
    }
}
