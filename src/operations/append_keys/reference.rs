//! Appending: where the new rows of keys go.

use crate::reference::sequences;

/// A new row and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its row among the new ones.
    pub row: usize,
    /// Its sequence.
    pub sequence: usize,
    /// Its position in the sequence.
    pub position: usize,
}

/// Where the new rows go that `cu_seqlens_q` cuts, of sequences of `lengths` keys, the new ones included. Rows before a sequence's first
/// position, or at `room` and later, go nowhere.
///
/// ```
/// # use sala_kernels::reference::append_keys::{Appended, append_keys};
/// let appended = append_keys(&[0, 2, 3], &[5, 1], 5);
/// assert_eq!(appended[1], Appended { row: 1, sequence: 0, position: 4 });
/// assert_eq!(append_keys(&[0, 2], &[1], 5), [Appended { row: 1, sequence: 0, position: 0 }]);
/// ```
pub fn append_keys(cu_seqlens_q: &[i32], lengths: &[i32], room: usize) -> Vec<Appended> {
    let total = cu_seqlens_q.last().map_or(0, |&end| end.max(0) as usize);
    let rows = sequences(cu_seqlens_q, total).into_iter().zip(lengths).enumerate();
    rows.flat_map(|(sequence, (rows, &length))| {
        let rows = rows.unwrap_or(0..0);
        let count = rows.len() as i64;
        rows.enumerate().filter_map(move |(r, row)| {
            let position = usize::try_from(r as i64 + i64::from(length) - count).ok()?;
            (position < room).then_some(Appended {
                row,
                sequence,
                position,
            })
        })
    })
    .collect()
}
