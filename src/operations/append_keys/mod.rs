//! Appending of keys.

pub mod reference;

use super::keys::Room;
use super::sparse_layer::Config;
use super::{Keys, Sequences, SparseLayer};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_APPEND_THREADS, sala_append_keys_params};
use crate::{Result, Stream, Tensor, TensorMut};

/// Appending: new rows of K and V go to the ends of their sequences, into packed tensors, caches or pages, in one launch.
///
/// ```text
/// K[r + Lk − Lq] = k_new[r]      V[r + Lk − Lq] = v_new[r]      r: the new rows of a sequence, Lq of them; Lk counts them too
/// ```
///
/// Rows at negative positions, past the room that a cache or a row of the page table has, or in a page that the table names wrongly are not
/// written, and counted; the others are. Of two sequences that name one row, one of them writes it, unspecified which.
/// [`crate::reference::append_keys`] is the definition.
///
/// Formula, stores and what is left out: [`semantics`](crate::semantics#append_keys).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view whose type, shape, strides or alignment are not as its field says, or that shares elements with
/// `k` or `v`. Lengths, slots and tables are checked on the device ([`Status`](crate::Status)).
///
/// # Example
/// Two new tokens of a sequence that has five with them, in a cache with room for eight:
///
/// ```
/// use half::bf16;
/// use sala_kernels::{
///     AppendKeysArgs, AttentionShape, DType, Device, Kernels, Keys, Sequences, SparseLayer, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let new = vec![bf16::ONE; 2 * 64];
/// let (mut k, mut v) = (vec![bf16::ZERO; 8 * 64], vec![bf16::ZERO; 8 * 64]);
/// let keys = Keys::cached(Tensor::from_slice(&[5], &[1])?);
/// let args = AppendKeysArgs::new(
///     Tensor::from_slice(&new, &[2, 1, 64])?,
///     Tensor::from_slice(&new, &[2, 1, 64])?,
///     TensorMut::from_slice(&mut k, &[1, 8, 1, 64])?,
///     TensorMut::from_slice(&mut v, &[1, 8, 1, 64])?,
///     Sequences::new(Tensor::from_slice(&[0, 2], &[2])?, keys),
/// );
/// kernels.run(&layer, args)?;
/// let is_written = k.chunks(64).map(|row| row[0] == bf16::ONE);
/// assert_eq!(is_written.collect::<Vec<_>>(), [false, false, false, true, true, false, false, false]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct AppendKeysArgs<'a> {
    /// New keys `[total_q, heads_kv, dim]`, the layer's type.
    pub k_new: Tensor<'a>,
    /// New values, shaped as the keys.
    pub v_new: Tensor<'a>,
    /// All keys, as in [`SparseAttentionArgs::k`](crate::SparseAttentionArgs::k).
    pub k: TensorMut<'a>,
    /// All values, shaped as the keys. Both may interleave in one allocation.
    pub v: TensorMut<'a>,
    /// How new rows and keys are cut into sequences: `cu_seqlens_q` counts new rows.
    pub sequences: Sequences<'a>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> AppendKeysArgs<'a> {
    /// The appending of `k_new` and `v_new` to `k` and `v`.
    pub fn new(
        k_new: Tensor<'a>,
        v_new: Tensor<'a>,
        k: TensorMut<'a>,
        v: TensorMut<'a>,
        sequences: Sequences<'a>,
    ) -> Self {
        Self {
            k_new,
            v_new,
            k,
            v,
            sequences,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_append_keys_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "append_keys";
        let dim = checks::compiled_for("dim", KERNEL, "dim", config.shape.dim)?;
        let variant = Variant::base(KERNEL, None, &[dim], SALA_APPEND_THREADS as usize, 0, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for AppendKeysArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            k_new,
            v_new,
            k,
            v,
            sequences,
            status,
        } = self;
        Views::new()
            .read("k_new", *k_new)
            .read("v_new", *v_new)
            .written("k", k)
            .written("v", v)
            .sequences(sequences)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let config = &layer.config;
        let params = self.params(config)?;
        let rows = params.sequences.max_seqlen_q as usize * config.shape.heads_kv;
        // A head of a row takes one thread for each 16 bytes.
        let rows_of_block = SALA_APPEND_THREADS as usize * 8 / config.shape.dim;
        let grid = [rows.div_ceil(rows_of_block), 1, params.sequences.batch as usize];
        let variant = kernels.pick(&layer.plans.append.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl AppendKeysArgs<'_> {
    fn params(&self, config: &Config) -> Result<sala_append_keys_params> {
        let Config { dtype, shape, .. } = *config;
        checks::rank("k_new", &self.k_new, 3)?;
        let total_q = checks::first_axis(&self.k_new);
        let new = |name, tensor: &Tensor<'_>| checks::rows(name, tensor, dtype, &[total_q, shape.heads_kv, shape.dim]);
        let (k_new, v_new) = (new("k_new", &self.k_new)?, new("v_new", &self.v_new)?);
        let batch = self.sequences.batch()?;
        let heads = [shape.heads_kv, shape.dim];
        let keys = &self.sequences.keys;
        let k = keys.rows("k", &self.k.as_tensor(), dtype, batch, heads)?;
        checks::shape("v", &self.v.as_tensor(), self.k.as_tensor().shape())?;
        let v = keys.rows("v", &self.v.as_tensor(), dtype, batch, heads)?;
        let room = k.room();
        // Rows that a sequence has no room for are left out one by one; only packed ones are bounded together.
        let (bounds, room) = match keys {
            Keys::Packed { .. } => (room, i32::MAX),
            Keys::Cached { .. } | Keys::Paged { .. } => {
                let any = Room {
                    caches: room.caches,
                    ..Room::ANY
                };
                (any, checks::saturate(room.capacity))
            }
        };
        Ok(sala_append_keys_params {
            sequences: self.sequences.params(total_q, bounds)?,
            k_new,
            v_new,
            k: k.rows,
            v: v.rows,
            status: checks::status(self.status.as_ref())?,
            room,
            heads_kv: shape.heads_kv as i32,
        })
    }
}
