//! Synthetic lists of blocks, as neighbouring tokens of a prefill have them.

use std::collections::BTreeSet;

/// Query tokens of a tile.
pub const TOKENS: usize = 8;
/// Blocks that a token lists by score, and those that every token lists: the first block and its own neighbourhood.
const FREE: usize = 62;
const FORCED: usize = 34;
/// Blocks of the sequence, and those at its end that nobody lists by score.
const BLOCKS: usize = 2048;
const LOCAL: usize = 40;

/// Tiles that are drawn, to choose from.
const DRAWN: u64 = 64;

/// Which tokens of a tile list each block of the tile's union, in ascending order.
pub type Masks = Vec<[bool; TOKENS]>;

/// `count` tiles whose unions are of about the mean length.
///
/// From token to token a free block stays with probability `overlap`; others are drawn anew from the whole sequence, which makes the union large.
pub fn typical_tiles(overlap: f64, count: usize) -> Vec<Masks> {
    let mut tiles: Vec<Masks> = (0..DRAWN).map(|seed| draw_tile(overlap, seed)).collect();
    let mean = tiles.iter().map(Vec::len).sum::<usize>() as f64 / DRAWN as f64;
    let distance = |tile: &Masks| (tile.len() as f64 - mean).abs();
    tiles.sort_by(|one, other| distance(one).total_cmp(&distance(other)));
    tiles.truncate(count);
    tiles
}

fn draw_tile(overlap: f64, seed: u64) -> Masks {
    let mut random = Random(seed);
    let mut chosen: Vec<BTreeSet<usize>> = Vec::new();
    for _ in 0..TOKENS {
        let mut own = chosen.last().cloned().unwrap_or_default();
        own.retain(|_| random.unit() <= overlap);
        while own.len() < FREE {
            own.insert(random.between(1, BLOCKS - LOCAL));
        }
        chosen.push(own);
    }
    let union: BTreeSet<usize> = chosen.iter().flatten().copied().collect();
    let everyone = [true; TOKENS];
    let mut masks = vec![everyone];
    masks.extend(
        union
            .iter()
            .map(|block| std::array::from_fn(|token| chosen[token].contains(block))),
    );
    masks.extend([everyone; FORCED - 1]);
    masks
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, first: usize, end: usize) -> usize {
        first + (self.next() % (end - first) as u64) as usize
    }
}
