//! Key compression: means over sliding windows of a sequence's keys.
//!
//! ```text
//! C[c] = mean(K[c·stride .. c·stride + size − 1])
//! ```
//!
//! per sequence and kv head, for full windows only. Block selection uses two of them: K1 (`size` is half a block, `stride` a quarter)
//! and K2 (four times both).

use crate::reference::{Value, sequences};

/// A sliding window over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Tokens of a window.
    pub size: usize,
    /// Tokens from one window to the next.
    pub stride: usize,
}

impl Window {
    /// The window of K1 for blocks of `block_size` tokens.
    pub fn fine(block_size: usize) -> Self {
        Window {
            size: block_size / 2,
            stride: block_size / 4,
        }
    }

    /// The window of K2 for blocks of `block_size` tokens.
    pub fn coarse(block_size: usize) -> Self {
        Window {
            size: block_size * 2,
            stride: block_size,
        }
    }

    /// How many full windows `length` tokens have.
    pub fn rows(&self, length: usize) -> usize {
        if length < self.size {
            0
        } else {
            (length - self.size) / self.stride + 1
        }
    }
}

/// The compressed keys of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct CompressedKeys<T> {
    /// For each sequence `[rows, heads_kv, dim]`; empty for a refused sequence.
    pub sequences: Vec<Vec<T>>,
}

/// Compresses `k`, `[tokens, heads_kv, dim]`; a mean is rounded once, to the type of the keys.
///
/// # Panics
/// Where `k` is shorter than `cu_seqlens` says.
pub fn compress_keys<T: Value>(
    k: &[T],
    heads_kv: usize,
    dim: usize,
    cu_seqlens: &[i32],
    window: Window,
) -> CompressedKeys<T> {
    let channels = heads_kv * dim;
    let ranges = sequences(cu_seqlens, k.len() / channels);
    let compress = |keys: &[T]| {
        let rows = window.rows(keys.len() / channels);
        let first_tokens = (0..rows).map(|row| row * window.stride);
        first_tokens
            .flat_map(|first| window_mean(&keys[first * channels..], channels, window.size))
            .collect()
    };
    let sequences = ranges.into_iter().map(|range| {
        let range = range.unwrap_or(0..0);
        compress(&k[range.start * channels..range.end * channels])
    });
    CompressedKeys {
        sequences: sequences.collect(),
    }
}

/// The mean of the first `size` rows of `keys`, for each of their `channels`.
fn window_mean<T: Value>(keys: &[T], channels: usize, size: usize) -> Vec<T> {
    let mean = |channel: usize| {
        let sum: f64 = (0..size).map(|token| keys[token * channels + channel].to_f64()).sum();
        T::from_f64(sum / size as f64)
    };
    (0..channels).map(mean).collect()
}
