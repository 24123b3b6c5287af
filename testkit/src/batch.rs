//! The sequences of a sparse call: how queries and keys are cut, how the keys are stored, and which sequences are attended densely.

use crate::memory::Memory;
use crate::numbers::{Numbers, cumulative};
use crate::operations::linear_drafts::random_parents;
use crate::storage::{Content, Places, Storage, keys};
use proptest::prelude::*;
use sala_kernels::reference::select_blocks::{Position, positions, tree_positions};
use sala_kernels::{Result, Sequences, SwitchLen};

/// The sequences of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[batch + 1]`.
    pub cu_seqlens_q: Vec<i32>,
    /// `[batch + 1]`, however the keys are stored.
    pub cu_seqlens_k: Vec<i32>,
    pub storage: Storage,
    /// The upper bounds that the call gives, of queries and keys.
    pub max_seqlens: [Option<usize>; 2],
    /// Shorter sequences are attended densely; 0: none.
    pub dense_len: usize,
    /// `[batch]`: the lengths that are compared with `dense_len`, if not those of the keys. They mean nothing to a layer without one.
    pub switch_len: Option<Vec<i32>>,
    /// The trees that the queries of a decode step make, if they are not chains.
    pub trees: Option<Trees>,
}

/// What each draft of a decode step follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Trees {
    /// `[batch, columns]`.
    pub parent: Vec<i32>,
    pub columns: usize,
}

impl Trees {
    /// Trees at random of up to so many drafts.
    pub fn random(numbers: &mut Numbers, sequences: usize, columns: usize) -> Trees {
        let parent = random_parents(numbers, sequences, columns);
        Trees { parent, columns }
    }

    /// The chains of so many sequences, as trees.
    pub fn chains(sequences: usize, columns: usize) -> Trees {
        let parent = (0..columns as i32).map(|draft| draft - 1).collect::<Vec<_>>();
        let parent = parent.repeat(sequences);
        Trees { parent, columns }
    }

    /// That of one sequence.
    pub fn one(&self, sequence: usize) -> Trees {
        let columns = self.columns;
        let parent = self.parent[sequence * columns..(sequence + 1) * columns].to_vec();
        Trees { parent, columns }
    }
}

/// How the keys of a case are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storing {
    /// One sequence after the other.
    Packed,
    /// In caches, with room to spare.
    Cached,
    /// In caches that an index names.
    Indexed,
    /// In pages of so many keys.
    Paged(usize),
}

impl Batch {
    /// Packed sequences of so many queries and keys, without upper bounds; none is dense.
    pub fn new(queries: &[usize], keys: &[usize]) -> Batch {
        Batch {
            cu_seqlens_q: cumulative(queries),
            cu_seqlens_k: cumulative(keys),
            storage: Storage::Packed,
            max_seqlens: [None; 2],
            dense_len: 0,
            switch_len: None,
            trees: None,
        }
    }

    /// The same with the tightest upper bounds.
    pub fn bounded(self) -> Batch {
        let longest = |lengths: Vec<i32>| lengths.into_iter().max().map_or(0, |longest| longest.max(0) as usize);
        Batch {
            max_seqlens: [Some(longest(self.query_lengths())), Some(longest(self.key_lengths()))],
            ..self
        }
    }

    /// The same with keys in caches that have room for `spare` more than the longest sequence has.
    pub fn cached(self, spare: usize) -> Batch {
        let longest = self.key_lengths().into_iter().max().unwrap_or(0);
        Batch {
            storage: Storage::Cached(longest as usize + spare),
            ..self
        }
    }

    /// The same with keys in caches that an index names, with room for `spare` more than the longest sequence has.
    pub fn indexed(self, spare: usize) -> Batch {
        let longest = self.key_lengths().into_iter().max().unwrap_or(0);
        Batch {
            storage: Storage::Indexed(longest as usize + spare),
            ..self
        }
    }

    /// The same with keys in pages.
    pub fn paged(self, page_size: usize) -> Batch {
        Batch {
            storage: Storage::paged(page_size),
            ..self
        }
    }

    /// The same with keys stored so, in caches with room for a few more.
    pub fn stored(self, storing: Storing) -> Batch {
        match storing {
            Storing::Packed => self,
            Storing::Cached => self.cached(7),
            Storing::Indexed => self.indexed(7),
            Storing::Paged(page_size) => self.paged(page_size),
        }
    }

    /// How many there are.
    pub fn sequences(&self) -> usize {
        self.cu_seqlens_q.len() - 1
    }

    pub fn query_lengths(&self) -> Vec<i32> {
        lengths(&self.cu_seqlens_q)
    }

    pub fn key_lengths(&self) -> Vec<i32> {
        lengths(&self.cu_seqlens_k)
    }

    /// Whether each sequence is attended densely.
    pub fn dense(&self) -> Vec<bool> {
        let lengths = self.switch_len.clone().unwrap_or_else(|| self.key_lengths());
        let dense_len = i64::try_from(self.dense_len).unwrap_or(i64::MAX);
        let is_dense = |length: i32| i64::from(length.max(0)) < dense_len;
        lengths.into_iter().map(is_dense).collect()
    }

    /// Where query tokens stand, of `total_q` and `total_k` tokens in all.
    pub fn positions(&self, total_q: usize, total_k: usize) -> Vec<Option<Position>> {
        let [queries, keys] = [&self.cu_seqlens_q, &self.cu_seqlens_k];
        match &self.trees {
            None => positions(queries, keys, total_q, total_k),
            Some(Trees { parent, columns }) => tree_positions(parent, *columns, queries, keys, total_q, total_k),
        }
    }

    /// Where the `total_q` query tokens stand whose sequences choose blocks; those of dense sequences have empty lists.
    pub fn choosing(&self, total_q: usize) -> Vec<Option<Position>> {
        let total_k = self.cu_seqlens_k.last().map_or(0, |&end| end as usize);
        let dense = self.dense();
        let positions = self.positions(total_q, total_k).into_iter();
        positions
            .map(|position| position.filter(|position| !dense[position.sequence]))
            .collect()
    }

    /// Keys that there is room for: of all packed ones, or of each sequence.
    pub fn capacity(&self) -> usize {
        self.storage.capacity(&self.cu_seqlens_k)
    }

    /// Where keys are, raw or compressed.
    pub fn places(&self, content: Content) -> Places {
        self.storage.places(&self.cu_seqlens_k, content)
    }

    /// What `keys` says of lengths: where packed ones begin, or how many each sequence has.
    pub fn lengths_of_keys(&self) -> Vec<i32> {
        match &self.storage {
            Storage::Packed => self.cu_seqlens_k.clone(),
            _ => self.key_lengths(),
        }
    }

    /// Uploads lengths and places; `block_size` is that of the layer.
    pub fn add_to(&self, memory: &mut Memory, block_size: usize) -> Result<()> {
        let lengths = self.lengths_of_keys();
        self.storage.add_to(memory, &self.cu_seqlens_k, block_size)?;
        memory.add("cu_seqlens_q", &[self.cu_seqlens_q.len()], 0, Some(&self.cu_seqlens_q))?;
        add_key_lengths(memory, &self.storage, &lengths)?;
        if let Some(Trees { parent, columns }) = &self.trees {
            memory.add("parent", &[self.sequences(), *columns], 0, Some(parent))?;
        }
        match &self.switch_len {
            Some(lengths) => memory.add("switch_len", &[lengths.len()], 0, Some(lengths)),
            None => Ok(()),
        }
    }

    /// The sequences whose lengths lie in `memory`.
    pub fn view<'a>(&self, memory: &'a Memory) -> Sequences<'a> {
        let mut sequences = Sequences::new(memory.tensor("cu_seqlens_q"), keys(memory));
        [sequences.max_seqlen_q, sequences.max_seqlen_k] = self.max_seqlens;
        sequences
    }

    /// What decides which of them are dense.
    pub fn switch_len<'a>(&self, memory: &'a Memory) -> Option<SwitchLen<'a>> {
        match (self.dense_len, memory.get("switch_len")) {
            (0, _) => None,
            (_, Some(lengths)) => Some(SwitchLen::Lengths(lengths)),
            (_, None) => Some(SwitchLen::Keys),
        }
    }
}

/// Every way of storing keys, pages of every size that is a power of two among them.
pub fn storings() -> impl Strategy<Value = Storing> {
    prop_oneof![
        2 => Just(Storing::Packed),
        1 => Just(Storing::Cached),
        1 => Just(Storing::Indexed),
        3 => (0u32..=10).prop_map(|log| Storing::Paged(1 << log)),
    ]
}

/// Lengths that decide what is dense: around the threshold, of nothing, and of any size.
pub fn switch_lengths(count: usize, dense_len: usize, numbers: &mut Numbers) -> Vec<i32> {
    let threshold = dense_len as i32;
    (0..count)
        .map(|_| numbers.pick(&[threshold - 1, threshold, threshold + 1, 0, -5, i32::MIN, i32::MAX]))
        .collect()
}

/// Uploads what a call is told of the lengths of keys: where packed ones begin, or how many each cache has.
pub fn add_key_lengths(memory: &mut Memory, storage: &Storage, lengths: &[i32]) -> Result<()> {
    memory.add(length_name(storage), &[lengths.len()], 0, Some(lengths))
}

/// What the lengths of keys are called that are stored so.
pub fn length_name(storage: &Storage) -> &'static str {
    match storage {
        Storage::Packed => "cu_seqlens_k",
        _ => "seqlens_k",
    }
}

fn lengths(bounds: &[i32]) -> Vec<i32> {
    bounds.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect()
}
