//! Where keys lie, and how many each sequence has.

use crate::launch::checks;
use crate::sys::params::{sala_key_rows, sala_keys};
use crate::{DType, Error, Result, Tensor};

/// Where the keys of each sequence lie, and how many there are: of k and v, and of the compressed keys.
///
/// Lengths lie on the device and are never read back. A sequence whose lengths do not fit the tensors is refused and counted.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Keys<'a> {
    /// One sequence after the other in tensors `[total_k, heads_kv, dim]`.
    #[non_exhaustive]
    Packed {
        /// Where the keys of a sequence begin, `[batch + 1]` i32: from 0, non-decreasing, to at most `total_k`.
        cu_seqlens_k: Tensor<'a>,
    },
    /// Each sequence in a cache of its own, tensors `[batch, capacity, heads_kv, dim]`.
    #[non_exhaustive]
    Cached {
        /// The filled part of each cache, `[batch]` i32, with the tokens of this call.
        seqlens_k: Tensor<'a>,
    },
}

/// A tensor of keys, values or compressed keys as kernels take it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeyRows {
    /// Rows of all packed sequences together, or of one cache.
    pub(crate) count: usize,
    pub(crate) rows: sala_key_rows,
}

impl<'a> Keys<'a> {
    /// Packed keys: `cu_seqlens_k` `[batch + 1]` i32 says where those of a sequence begin.
    pub fn packed(cu_seqlens_k: Tensor<'a>) -> Self {
        Self::Packed { cu_seqlens_k }
    }

    /// A cache per sequence: `seqlens_k` `[batch]` i32 says how much of it is filled, this call's tokens included.
    pub fn cached(seqlens_k: Tensor<'a>) -> Self {
        Self::Cached { seqlens_k }
    }

    /// The tensor of lengths and its name.
    pub(crate) fn lengths(&self) -> (&'static str, Tensor<'a>) {
        match *self {
            Self::Packed { cu_seqlens_k } => ("cu_seqlens_k", cu_seqlens_k),
            Self::Cached { seqlens_k } => ("seqlens_k", seqlens_k),
        }
    }

    /// The number of sequences.
    pub(crate) fn batch(&self) -> Result<usize> {
        let (name, lengths) = self.lengths();
        checks::rank(name, &lengths, 1)?;
        match self {
            Self::Packed { .. } => bounds(name, &lengths),
            Self::Cached { .. } => {
                checks::batch(name, checks::first_axis(&lengths))?;
                Ok(checks::first_axis(&lengths))
            }
        }
    }

    /// What kernels are told of the lengths of `batch` sequences. `capacity` counts the tokens that the key tensors have room for: all packed
    /// ones together, or those of one cache.
    pub(crate) fn params(&self, batch: usize, capacity: usize, max_seqlen: Option<usize>) -> Result<sala_keys> {
        let (name, lengths) = self.lengths();
        let (cu_seqlens, seqlens) = match self {
            Self::Packed { .. } => (checks::list(name, &lengths, DType::I32, batch + 1)?, 0),
            Self::Cached { .. } => (0, checks::list(name, &lengths, DType::I32, batch)?),
        };
        Ok(sala_keys {
            cu_seqlens,
            seqlens,
            capacity: i64::try_from(capacity).unwrap_or(i64::MAX),
            max_seqlen: checks::saturate(max_seqlen.unwrap_or(capacity).min(capacity)),
            reserved: 0,
        })
    }

    /// Checks a tensor `[rows, heads, dim]`, or `[batch, rows, heads, dim]` for caches, of rows that kernels move.
    pub(crate) fn rows(
        &self,
        argument: &'static str,
        tensor: &Tensor<'_>,
        dtype: DType,
        batch: usize,
        [heads, dim]: [usize; 2],
    ) -> Result<KeyRows> {
        // The axis of rows. A cache has the batch before it.
        let axis = match self {
            Self::Packed { .. } => 0,
            Self::Cached { .. } => 1,
        };
        checks::rank(argument, tensor, axis + 3)?;
        let count = tensor.shape().get(axis).copied().unwrap_or(0);
        let shape = [batch, count, heads, dim];
        checks::shape(argument, tensor, shape.get(1 - axis..).unwrap_or_default())?;
        checks::aligned_rows(argument, tensor, dtype)?;
        let rows = sala_key_rows {
            address: tensor.address(),
            store_stride: if axis == 1 { checks::stride(tensor, 0) } else { 0 },
            row_stride: checks::stride(tensor, axis),
            head_stride: checks::stride(tensor, axis + 1),
        };
        Ok(KeyRows { count, rows })
    }
}

/// The number of sequences that bounds `[batch + 1]` cut.
pub(crate) fn bounds(argument: &'static str, bounds: &Tensor<'_>) -> Result<usize> {
    checks::rank(argument, bounds, 1)?;
    let batch = checks::first_axis(bounds)
        .checked_sub(1)
        .ok_or_else(|| Error::argument(argument, "shape [batch + 1]", "shape [0]"))?;
    checks::batch(argument, batch)?;
    Ok(batch)
}
