//! Where keys lie and how long sequences are, over whatever names a tensor: a candle tensor, its place in a launch, or a view.

use candle_core::{Result, Tensor};
use sala_kernels as sala;

use crate::{Launch, Read, Views};

/// Where the keys of sequences lie, as [`sala_kernels::Keys`].
#[derive(Debug, Clone, Copy)]
pub enum Keys<T> {
    /// One sequence after the other, `[total_k, heads_kv, dim]`.
    Packed {
        /// `[batch + 1]`.
        cu_seqlens_k: T,
    },
    /// In caches `[caches, capacity, heads_kv, dim]`.
    Cached {
        /// `[batch]`.
        seqlens_k: T,
        /// `[batch]`; without it sequence b has cache b.
        cache_index: Option<T>,
    },
    /// In pages `[pages, page_size, heads_kv, dim]`.
    Paged {
        /// `[batch]`.
        seqlens_k: T,
        /// `[batch, max_pages]`.
        page_table: T,
    },
}

/// The queries of sequences and their keys, as [`sala_kernels::Sequences`].
#[derive(Debug, Clone, Copy)]
pub struct Sequences<T> {
    /// `[batch + 1]`.
    pub cu_seqlens_q: T,
    /// Where the keys lie.
    pub keys: Keys<T>,
    /// The most queries of a sequence. [`sala_kernels::Entry::Decode`] needs it; it is 16 at most there.
    pub max_seqlen_q: Option<usize>,
    /// The most keys of a sequence.
    pub max_seqlen_k: Option<usize>,
}

/// What a sequence is attended densely or sparsely by, as [`sala_kernels::SwitchLen`].
#[derive(Debug, Clone, Copy)]
pub enum SwitchLen<T> {
    /// Its number of keys.
    Keys,
    /// Lengths of the caller's, `[batch]`.
    Lengths(T),
}

impl Keys<&Tensor> {
    /// The tensors, read by a launch.
    pub fn bind<'l>(&self, launch: &'l Launch<'_>) -> Result<Keys<Read<'l>>> {
        Ok(match *self {
            Self::Packed { cu_seqlens_k } => Keys::Packed {
                cu_seqlens_k: launch.read("cu_seqlens_k", cu_seqlens_k)?,
            },
            Self::Cached { seqlens_k, cache_index } => Keys::Cached {
                seqlens_k: launch.read("seqlens_k", seqlens_k)?,
                cache_index: launch.read_if("cache_index", cache_index)?,
            },
            Self::Paged { seqlens_k, page_table } => Keys::Paged {
                seqlens_k: launch.read("seqlens_k", seqlens_k)?,
                page_table: launch.read("page_table", page_table)?,
            },
        })
    }
}

impl Keys<Read<'_>> {
    /// Their views.
    pub fn view<'v>(&self, views: &Views<'v>) -> Result<sala::Keys<'v>> {
        Ok(match *self {
            Self::Packed { cu_seqlens_k } => sala::Keys::packed(views.view(cu_seqlens_k)?),
            Self::Cached { seqlens_k, cache_index } => match cache_index {
                None => sala::Keys::cached(views.view(seqlens_k)?),
                Some(index) => sala::Keys::cached_at(views.view(seqlens_k)?, views.view(index)?),
            },
            Self::Paged { seqlens_k, page_table } => sala::Keys::paged(views.view(seqlens_k)?, views.view(page_table)?),
        })
    }
}

impl<T> Sequences<T> {
    /// Sequences of any lengths.
    pub fn new(cu_seqlens_q: T, keys: Keys<T>) -> Self {
        Self {
            cu_seqlens_q,
            keys,
            max_seqlen_q: None,
            max_seqlen_k: None,
        }
    }
}

impl Sequences<&Tensor> {
    /// The tensors, read by a launch.
    pub fn bind<'l>(&self, launch: &'l Launch<'_>) -> Result<Sequences<Read<'l>>> {
        Ok(Sequences {
            cu_seqlens_q: launch.read("cu_seqlens_q", self.cu_seqlens_q)?,
            keys: self.keys.bind(launch)?,
            max_seqlen_q: self.max_seqlen_q,
            max_seqlen_k: self.max_seqlen_k,
        })
    }
}

impl Sequences<Read<'_>> {
    /// Their views.
    pub fn view<'v>(&self, views: &Views<'v>) -> Result<sala::Sequences<'v>> {
        let mut sequences = sala::Sequences::new(views.view(self.cu_seqlens_q)?, self.keys.view(views)?);
        sequences.max_seqlen_q = self.max_seqlen_q;
        sequences.max_seqlen_k = self.max_seqlen_k;
        Ok(sequences)
    }
}

impl SwitchLen<&Tensor> {
    /// The tensor, read by a launch.
    pub fn bind<'l>(&self, launch: &'l Launch<'_>) -> Result<SwitchLen<Read<'l>>> {
        Ok(match *self {
            Self::Keys => SwitchLen::Keys,
            Self::Lengths(lengths) => SwitchLen::Lengths(launch.read("switch_len", lengths)?),
        })
    }
}

impl SwitchLen<Read<'_>> {
    /// Its view.
    pub fn view<'v>(&self, views: &Views<'v>) -> Result<sala::SwitchLen<'v>> {
        Ok(match *self {
            Self::Keys => sala::SwitchLen::Keys,
            Self::Lengths(lengths) => sala::SwitchLen::Lengths(views.view(lengths)?),
        })
    }
}
