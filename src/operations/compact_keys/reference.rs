//! Compaction: which rows of keys move.

/// A row of a head that moves within its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The sequence.
    pub sequence: usize,
    /// The kv head.
    pub head: usize,
    /// Where the row is.
    pub from: usize,
    /// Where it goes.
    pub to: usize,
}

/// What moves, and how many entries of lists are wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// All of them are read before any is written.
    pub moved: Vec<Moved>,
    /// Entries that are not −1 and name a row before their own place, or none.
    pub wrong: usize,
}

/// Moves row `index[i]` to row `i` for the entries of lists `[batch, heads_kv, kept]`, in sequences of `lengths` keys; negative ones are those of
/// refused sequences.
///
/// ```
/// # use sala_kernels::reference::compact_keys::{Moved, compact_keys};
/// let compaction = compact_keys(&[0, 3, 1, -1], &[4], 1);
/// let moved = |from, to| Moved { sequence: 0, head: 0, from, to };
/// assert_eq!(compaction.moved, [moved(0, 0), moved(3, 1)]);
/// assert_eq!(compaction.wrong, 1);
/// ```
///
/// # Panics
/// Where lists are not of one length.
pub fn compact_keys(token_indices: &[i32], lengths: &[i32], heads_kv: usize) -> Compaction {
    let rows = lengths.len() * heads_kv;
    assert!(rows > 0 || token_indices.is_empty(), "lists of sequences");
    let kept = token_indices.len() / rows.max(1);
    let mut compaction = Compaction::default();
    for (entry, &token) in token_indices.iter().enumerate() {
        let (row, to) = (entry / kept, entry % kept);
        let (sequence, head) = (row / heads_kv, row % heads_kv);
        // A sequence without keys, or a refused one, has no rows that lists could name.
        if token == -1 || lengths[sequence] <= 0 {
            continue;
        }
        match usize::try_from(token) {
            Ok(from) if to <= from && token < lengths[sequence] => compaction.moved.push(Moved {
                sequence,
                head,
                from,
                to,
            }),
            _ => compaction.wrong += 1,
        }
    }
    compaction
}
