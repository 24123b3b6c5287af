//! Commitment of drafts: which rows of keys move.

/// A row that moves within its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The sequence.
    pub sequence: usize,
    /// The position of the draft's key.
    pub from: usize,
    /// That of the token which it becomes.
    pub to: usize,
}

/// What moves, and which sequences are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commitment {
    /// All of them are read before any is written.
    pub moved: Vec<Moved>,
    /// Sequences whose base, number or path cannot be.
    pub refused: Vec<usize>,
}

/// Moves row `base + path[i]` to `base + i` for each i < `accepted`, in sequences of `lengths` keys, drafts included. `path` is
/// `[batch, drafts]`, ascending, and names drafts that the sequence has.
///
/// ```
/// # use sala_kernels::reference::commit_keys::{Moved, commit_keys};
/// let commitment = commit_keys(&[10], &[6], &[2], &[1, 3, 0, 0], 4);
/// let moved = |from, to| Moved { sequence: 0, from, to };
/// assert_eq!(commitment.moved, [moved(7, 6), moved(9, 7)]);
/// assert_eq!(commit_keys(&[10], &[6], &[2], &[3, 1, 0, 0], 4).refused, [0]);
/// ```
///
/// # Panics
/// Where a slice is shorter than its shape.
pub fn commit_keys(lengths: &[i32], base: &[i32], accepted: &[i32], path: &[i32], drafts: usize) -> Commitment {
    let mut commitment = Commitment::default();
    for (sequence, (&length, (&base, &accepted))) in lengths.iter().zip(base.iter().zip(accepted)).enumerate() {
        let path = &path[sequence * drafts..(sequence + 1) * drafts];
        match moves(i64::from(length), i64::from(base), accepted, path) {
            Some(moves) => commitment
                .moved
                .extend(moves.into_iter().map(|(from, to)| Moved { sequence, from, to })),
            None => commitment.refused.push(sequence),
        }
    }
    commitment
}

/// The moves of one sequence; `None` if it is refused.
fn moves(length: i64, base: i64, accepted: i32, path: &[i32]) -> Option<Vec<(usize, usize)>> {
    let columns = path.len() as i64;
    let path = path.get(..usize::try_from(accepted).ok()?)?;
    let drafts = columns.min(length - base);
    let ascends = path.windows(2).all(|pair| pair[0] < pair[1]);
    let are_drafts = path.iter().all(|&draft| (0..drafts).contains(&i64::from(draft)));
    if base < 0 || base > length || !ascends || !are_drafts {
        return None;
    }
    let row = |draft: i64| (base + draft) as usize;
    Some(
        (0..)
            .zip(path)
            .map(|(i, &draft)| (row(i64::from(draft)), row(i)))
            .collect(),
    )
}
