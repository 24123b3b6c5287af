//! The sequences of an attention call.

use super::Entry;
use super::keys::{Keys, Room, bounds};
use crate::launch::checks;
use crate::sys::params::{sala_sequences, sala_trees};
use crate::{DType, Error, Result, Tensor};

/// The sequences of an attention call: how the rows of `q` and the keys are cut.
///
/// All lengths lie on the device and are never read back. Queries are the last tokens of their sequence: query `r` of `lq` stands at position
/// `r + lk − lq`. A sequence whose numbers do not fit the tensors or the bounds is refused, and counted in the status word of the launch.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Sequences<'a> {
    /// Where the queries of a sequence begin, `[batch + 1]` i32: from 0, non-decreasing, to at most the rows of `q`.
    pub cu_seqlens_q: Tensor<'a>,
    /// Where the keys are, and how many a sequence has.
    pub keys: Keys<'a>,
    /// No sequence has more queries than this. Sizes the grid. Absent: the rows of `q`.
    pub max_seqlen_q: Option<usize>,
    /// No sequence has more keys than this. Absent: what the key tensor has room for.
    pub max_seqlen_k: Option<usize>,
}

/// The length that decides whether a sequence is attended densely: it is, if the length is below the layer's `dense_len`.
///
/// A layer with a `dense_len` asks for the choice at every call that depends on it; one without takes none.
#[derive(Debug, Clone, Copy)]
pub enum SwitchLen<'a> {
    /// The number of keys of this call, which grows as a prompt is fed in chunks: what the source does.
    Keys,
    /// Lengths `[batch]` i32, such as those of the whole prompts, so that chunks of one prompt are attended alike.
    Lengths(Tensor<'a>),
}

impl<'a> Sequences<'a> {
    /// Sequences without bounds on their lengths.
    pub fn new(cu_seqlens_q: Tensor<'a>, keys: Keys<'a>) -> Self {
        Self {
            cu_seqlens_q,
            keys,
            max_seqlen_q: None,
            max_seqlen_k: None,
        }
    }

    /// The number of sequences.
    pub(crate) fn batch(&self) -> Result<usize> {
        bounds("cu_seqlens_q", &self.cu_seqlens_q)
    }

    /// Checks the lengths and gives what kernels are told of them. No sequence is dense.
    pub(crate) fn params(&self, total_q: usize, room: Room) -> Result<sala_sequences> {
        let batch = self.batch()?;
        Ok(sala_sequences {
            keys: self.keys.params(batch, room, self.max_seqlen_k)?,
            cu_seqlens_q: checks::list("cu_seqlens_q", &self.cu_seqlens_q, DType::I32, batch + 1)?,
            switch_len: 0,
            total_q: total_q as i64,
            batch: batch as i32,
            max_seqlen_q: checks::saturate(self.max_seqlen_q.unwrap_or(total_q).min(total_q)),
            dense_len: 0,
            reserved: 0,
        })
    }
}

impl sala_trees {
    /// The trees that `parent` `[batch, at least max_seqlen_q]` makes of the queries of a decode step; chains without it.
    pub(crate) fn of(parent: Option<Tensor<'_>>, entry: Entry, sequences: &sala_sequences) -> Result<Self> {
        const NAME: &str = "parent";
        if parent.is_some() && entry == Entry::Prefill {
            let expected = "none (the queries of a prefill are a chain; entry decode takes trees)";
            return Err(Error::argument(NAME, expected, "a tensor"));
        }
        checks::optional(parent, |parent| {
            checks::rank(NAME, parent, 2)?;
            let (batch, columns) = (sequences.batch as usize, checks::last_axis(parent));
            let queries = sequences.max_seqlen_q as usize;
            if columns < queries {
                let expected = format_args!("shape [{batch}, at least {queries}] (max_seqlen_q)");
                return Err(Error::argument(NAME, expected, format_args!("{:?}", parent.shape())));
            }
            let rows = checks::numbers(NAME, parent, DType::I32, &[batch, columns])?;
            Ok(Self {
                parent: rows.address,
                stride: rows.token_stride,
            })
        })
    }
}

impl sala_sequences {
    /// The same, of which those whose switch length is below `dense_len` are dense.
    pub(crate) fn with_dense_len(self, dense_len: usize, switch_len: &Option<SwitchLen<'_>>) -> Result<Self> {
        let switch_len = match (switch_len, dense_len) {
            (None, 0) | (Some(SwitchLen::Keys), 1..) => 0,
            (Some(SwitchLen::Lengths(lengths)), 1..) => {
                checks::list("switch_len", lengths, DType::I32, self.batch as usize)?
            }
            (None, _) => {
                let expected = format!("SwitchLen::Keys or lengths (sequences below {dense_len} are dense)");
                return Err(Error::argument("switch_len", expected, "none"));
            }
            (Some(_), _) => {
                let expected = "none (the layer's dense_len is 0: no sequence is dense)";
                return Err(Error::argument("switch_len", expected, "a choice"));
            }
        };
        Ok(Self {
            switch_len,
            dense_len: checks::saturate(dense_len),
            ..self
        })
    }
}
