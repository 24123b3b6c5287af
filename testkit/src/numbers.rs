//! Reproducible numbers, and the lengths that every kernel is tried on.

use crate::tolerance::Precision;
use crate::values::Values;

/// Lengths of sequences around the edges of tiles and chunks.
pub const LENGTHS: [usize; 15] = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 191, 192];

/// A reproducible stream of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers {
    state: u64,
}

impl Numbers {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Numbers { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Close to a standard normal: the sum of twelve uniforms, around zero.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// `count` normal numbers times `size`.
    pub fn normals(&mut self, count: usize, size: f64) -> Vec<f64> {
        (0..count).map(|_| size * self.normal()).collect()
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// `count` normal numbers of a stream of their own.
pub fn normals(precision: Precision, count: usize, seed: u64) -> Values {
    Values::round(precision, Numbers::new(seed).normals(count, 1.0))
}

/// `[0, a, a + b, …]`.
pub fn cumulative(lengths: &[usize]) -> Vec<i32> {
    let mut total = 0;
    let ends = lengths.iter().map(|&length| {
        total += length as i32;
        total
    });
    [0].into_iter().chain(ends).collect()
}
