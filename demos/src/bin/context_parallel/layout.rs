//! Which tokens are where.

use std::ops::Range;

/// A prompt cut into parts of one length, one or two of them per rank.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub ranks: usize,
    pub tokens: usize,
    /// Two parts per rank, one from either end: rank r has parts r and 2·ranks − 1 − r, so that all have the same number of keys to attend to.
    pub is_zigzag: bool,
}

impl Layout {
    pub fn parts(&self) -> usize {
        self.ranks * self.parts_per_rank()
    }

    pub fn parts_per_rank(&self) -> usize {
        if self.is_zigzag { 2 } else { 1 }
    }

    /// Tokens of a part.
    pub fn part_len(&self) -> usize {
        self.tokens / self.parts()
    }

    /// The parts of a rank, ascending.
    pub fn parts_of(&self, rank: usize) -> Vec<usize> {
        match self.is_zigzag {
            false => vec![rank],
            true => vec![rank, self.parts() - 1 - rank],
        }
    }

    /// The tokens of a part.
    pub fn range(&self, part: usize) -> Range<usize> {
        part * self.part_len()..(part + 1) * self.part_len()
    }

    /// Where a part is in what all ranks have gathered, which is in the order of ranks.
    pub fn place(&self, part: usize) -> usize {
        let ranks = 0..self.ranks;
        let mut gathered = ranks.flat_map(|rank| self.parts_of(rank));
        gathered.position(|other| other == part).unwrap_or(part)
    }
}
