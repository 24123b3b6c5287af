//! The queries, keys and values of a prompt: random, as if they came from the projections of a layer. Every rank takes its own rows.

use half::bf16;
use sala_kernels::{AttentionShape, Decay, LinearShape};
use sala_testkit::numbers::Numbers;
use std::ops::Range;

/// Of the attention layer.
pub const SHAPE: AttentionShape = AttentionShape {
    heads_q: 4,
    heads_kv: 2,
    dim: 64,
};

/// Of the linear layer, which reads the same queries, and keys and values of as many heads.
pub const LINEAR: LinearShape = LinearShape {
    heads_q: 4,
    heads_kv: 2,
    dim_k: 64,
    dim_v: 64,
};

/// A gate per token and head; constants would be added up alike.
pub const DECAY: Decay = Decay::PerToken;

/// One sequence.
pub struct Prompt {
    pub tokens: usize,
    /// `[tokens, heads_q, dim]`
    pub q: Vec<bf16>,
    /// `[tokens, heads_kv, dim]`
    pub k: Vec<bf16>,
    pub v: Vec<bf16>,
    /// `[tokens, heads_q]`: some heads forget, one hardly.
    pub log_decay: Vec<f32>,
    /// What stands in for a model's learned scores of keys: a direction, `[dim]`.
    pub direction: Vec<f64>,
}

impl Prompt {
    pub fn random(tokens: usize, seed: u64) -> Prompt {
        let mut numbers = Numbers::new(seed);
        let mut normals = |heads: usize| -> Vec<bf16> {
            let normals = numbers.normals(tokens * heads * SHAPE.dim, 1.0);
            normals.into_iter().map(bf16::from_f64).collect()
        };
        let (q, k, v) = (normals(SHAPE.heads_q), normals(SHAPE.heads_kv), normals(SHAPE.heads_kv));
        let gates = (0..tokens * SHAPE.heads_q).map(|index| {
            let strength = [0.0005, 0.004, 0.03, 0.3][index % SHAPE.heads_q % 4];
            -(numbers.uniform() * strength) as f32
        });
        Prompt {
            tokens,
            q,
            k,
            v,
            log_decay: gates.collect(),
            direction: Numbers::new(seed + 1).normals(SHAPE.dim, 1.0),
        }
    }
}

/// The rows of some tokens, one range after the other.
pub fn rows<T: Copy>(values: &[T], tokens: usize, ranges: &[Range<usize>]) -> Vec<T> {
    let row = values.len() / tokens;
    let rows = ranges
        .iter()
        .flat_map(|range| &values[range.start * row..range.end * row]);
    rows.copied().collect()
}
