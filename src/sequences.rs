//! Where the sequences of an attention call lie in its tensors.

use crate::checks;
use crate::device::Place;
use crate::sys::params::sala_sequences;
use crate::{DType, Error, Result, Tensor};

/// The sequences of an attention call: how the rows of `q` and the keys are cut.
///
/// All lengths lie on the device and are never read back. Queries are the last tokens of their sequence: query `r` of `lq` stands at position
/// `r + lk − lq`. A sequence whose numbers do not fit the tensors or the hints is skipped, and counted in the status word of the launch.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// Where the queries of a sequence begin, `[batch + 1]` i32: from 0, non-decreasing, to at most the rows of `q`.
    pub cu_seqlens_q: Tensor<'a>,
    /// How many keys a sequence has, and where they are.
    pub keys: KeyLengths<'a>,
    /// The length that is compared with `dense_len`, `[batch]` i32. Absent: the number of keys, which grows as a prompt is fed in chunks.
    pub switch_len: Option<Tensor<'a>>,
    /// No sequence has more queries than this. Sizes the grid. Absent: the rows of `q`.
    pub max_seqlen_q: Option<usize>,
    /// No sequence has more keys than this. Absent: what the key tensor has room for.
    pub max_seqlen_k: Option<usize>,
}

/// The keys of each sequence.
#[derive(Debug, Clone, Copy)]
pub enum KeyLengths<'a> {
    /// One after the other in tensors `[total_k, heads_kv, dim]`.
    Packed {
        /// Where the keys of a sequence begin, `[batch + 1]` i32: from 0, non-decreasing, to at most `total_k`.
        cu_seqlens_k: Tensor<'a>,
    },
    /// Each in a cache of its own, tensors `[batch, capacity, heads_kv, dim]`.
    Cached {
        /// The filled part of each cache, `[batch]` i32, with the tokens of this call.
        seqlens_k: Tensor<'a>,
    },
}

/// How the rows of a key tensor lie, of raw or compressed keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRows {
    /// Of all packed sequences together, or of one cache.
    pub(crate) rows: usize,
    /// 0 for packed keys.
    pub(crate) batch_stride: i64,
    pub(crate) row_stride: i64,
    pub(crate) head_stride: i64,
}

impl<'a> KeyLengths<'a> {
    /// The tensor of lengths and its name.
    pub(crate) fn view(&self) -> (&'static str, Tensor<'a>) {
        match *self {
            KeyLengths::Packed { cu_seqlens_k } => ("cu_seqlens_k", cu_seqlens_k),
            KeyLengths::Cached { seqlens_k } => ("seqlens_k", seqlens_k),
        }
    }

    /// What kernels are told: the addresses of `cu_seqlens_k` and `seqlens_k`, 0 for the one that is absent.
    pub(crate) fn addresses(&self) -> (u64, u64) {
        match self {
            KeyLengths::Packed { cu_seqlens_k } => (cu_seqlens_k.address(), 0),
            KeyLengths::Cached { seqlens_k } => (0, seqlens_k.address()),
        }
    }

    /// The number of sequences.
    pub(crate) fn batch(&self) -> Result<usize> {
        let (name, view) = self.view();
        checks::rank(name, &view, 1)?;
        let entries = view.shape().first().copied().unwrap_or(0);
        match self {
            KeyLengths::Cached { .. } => Ok(entries),
            KeyLengths::Packed { .. } => entries
                .checked_sub(1)
                .ok_or_else(|| Error::argument(name, "shape [batch + 1]", "shape [0]")),
        }
    }

    /// Checks the shape of a tensor `[rows, heads, dim]`, or `[batch, rows, heads, dim]` for caches, and gives its measures.
    pub(crate) fn key_rows(
        &self,
        argument: &'static str,
        tensor: &Tensor<'_>,
        batch: usize,
        heads: usize,
        dim: usize,
    ) -> Result<KeyRows> {
        let axis = |axis: usize| tensor.shape().get(axis).copied().unwrap_or(0);
        let stride = |axis: usize| tensor.stride(axis) as i64;
        match self {
            KeyLengths::Packed { .. } => {
                checks::rank(argument, tensor, 3)?;
                checks::shape(argument, tensor, &[axis(0), heads, dim])?;
                Ok(KeyRows {
                    rows: axis(0),
                    batch_stride: 0,
                    row_stride: stride(0),
                    head_stride: stride(1),
                })
            }
            KeyLengths::Cached { .. } => {
                checks::rank(argument, tensor, 4)?;
                checks::shape(argument, tensor, &[batch, axis(1), heads, dim])?;
                Ok(KeyRows {
                    rows: axis(1),
                    batch_stride: stride(0),
                    row_stride: stride(1),
                    head_stride: stride(2),
                })
            }
        }
    }
}

impl<'a> Sequences<'a> {
    /// The number of sequences.
    pub(crate) fn batch(&self) -> usize {
        self.cu_seqlens_q
            .shape()
            .first()
            .map_or(0, |&length| length.saturating_sub(1))
    }

    /// The index tensors, for checks that concern every view of a launch.
    pub(crate) fn views(&self) -> impl Iterator<Item = (&'static str, Tensor<'a>)> + use<'a> {
        self.named_views()
            .into_iter()
            .filter_map(|(name, view)| Some((name, view?)))
    }

    /// The index tensors as [`checks::memory`] takes them.
    pub(crate) fn named_views(&self) -> [checks::NamedView<'a>; 3] {
        let (lengths_name, lengths) = self.keys.view();
        [
            ("cu_seqlens_q", Some(self.cu_seqlens_q)),
            (lengths_name, Some(lengths)),
            ("switch_len", self.switch_len),
        ]
    }

    /// The tokens of a key tensor as `capacity_k` of the kernels counts them: all of a packed tensor, those of one cache otherwise. Refuses a
    /// tensor of another shape than `keys` and the heads and channels call for.
    pub(crate) fn key_capacity(
        &self,
        argument: &'static str,
        keys: &Tensor<'_>,
        heads: usize,
        dim: usize,
    ) -> Result<usize> {
        let packed = matches!(self.keys, KeyLengths::Packed { .. });
        checks::rank(argument, keys, if packed { 3 } else { 4 })?;
        let axis = |axis: usize| keys.shape().get(axis).copied().unwrap_or(0);
        if packed {
            checks::shape(argument, keys, &[axis(0), heads, dim])?;
            Ok(axis(0))
        } else {
            checks::shape(argument, keys, &[self.batch(), axis(1), heads, dim])?;
            Ok(axis(1))
        }
    }

    /// Checks the index tensors and gives what kernels are told of them.
    pub(crate) fn params(
        &self,
        place: Place,
        total_q: usize,
        capacity_k: usize,
        dense_len: usize,
    ) -> Result<sala_sequences> {
        checks::rank("cu_seqlens_q", &self.cu_seqlens_q, 1)?;
        if self.cu_seqlens_q.is_empty() {
            return Err(Error::argument("cu_seqlens_q", "shape [batch + 1]", "shape [0]"));
        }
        let batch = self.batch();
        checks::batch("cu_seqlens_q", batch)?;
        for (name, view) in self.views() {
            let length = if name.starts_with("cu_") { batch + 1 } else { batch };
            checks::place(name, &view, place)?;
            checks::dtype(name, &view, DType::I32)?;
            checks::shape(name, &view, &[length])?;
            checks::last_axis_contiguous(name, &view)?;
        }
        let (cu_seqlens_k, seqlens_k) = self.keys.addresses();
        Ok(sala_sequences {
            cu_seqlens_q: self.cu_seqlens_q.address(),
            cu_seqlens_k,
            seqlens_k,
            switch_len: self.switch_len.map_or(0, |view| view.address()),
            total_q: total_q as i64,
            capacity_k: capacity_k as i64,
            batch: batch as i32,
            max_seqlen_q: saturate(self.max_seqlen_q.unwrap_or(total_q).min(total_q)),
            max_seqlen_k: saturate(self.max_seqlen_k.unwrap_or(capacity_k).min(capacity_k)),
            dense_len: saturate(dense_len),
        })
    }
}

/// Lengths are counted in 32 bits on the device, so a larger bound says nothing more.
pub(crate) fn saturate(bound: usize) -> i32 {
    i32::try_from(bound).unwrap_or(i32::MAX)
}
