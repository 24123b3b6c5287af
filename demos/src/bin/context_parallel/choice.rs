//! Which keys a part passes on, as a definition; kernels score, choose and gather them.

use crate::passing::{Method, Passing};
use crate::prompt::{Prompt, SHAPE};
use half::bf16;
use std::ops::Range;

/// Query tokens that Spava scores keys with: the last ones of the prompt, where its question is.
pub const QUESTION: usize = 16;

/// Scores are the largest of so many neighbours.
pub const POOL: usize = 5;

/// The tokens of a range with the highest pooled scores for a kv head, ascending; of equal scores the first.
pub fn chosen(prompt: &Prompt, passing: Passing, candidates: Range<usize>, head: usize) -> Vec<usize> {
    let scores = pooled_scores(prompt, passing.method, candidates.clone(), head);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(passing.passed);
    order.sort_unstable();
    order.into_iter().map(|index| candidates.start + index).collect()
}

/// The score of each token of a range for a kv head: the largest of its neighbours there.
pub fn pooled_scores(prompt: &Prompt, method: Method, candidates: Range<usize>, head: usize) -> Vec<f64> {
    let scores: Vec<f64> = candidates.map(|token| score(prompt, method, token, head)).collect();
    let pooled = |index: usize| {
        let window = index.saturating_sub(POOL / 2)..(index + POOL / 2 + 1).min(scores.len());
        scores[window].iter().copied().fold(f64::NEG_INFINITY, f64::max)
    };
    (0..scores.len()).map(pooled).collect()
}

fn score(prompt: &Prompt, method: Method, token: usize, head: usize) -> f64 {
    let row = |values: &[bf16], heads: usize, token: usize, head: usize| -> Vec<f64> {
        let row = &values[(token * heads + head) * SHAPE.dim..][..SHAPE.dim];
        row.iter().map(|x| x.to_f64()).collect()
    };
    let key = row(&prompt.k, SHAPE.heads_kv, token, head);
    let dot = |other: &[f64]| -> f64 { key.iter().zip(other).map(|(a, b)| a * b).sum() };
    if method == Method::Apb {
        return dot(&prompt.direction);
    }
    let group = SHAPE.heads_q / SHAPE.heads_kv;
    let question = prompt.tokens - QUESTION..prompt.tokens;
    let queries = question.flat_map(|token| (0..group).map(move |index| (token, head * group + index)));
    let products: Vec<f64> = queries
        .map(|(token, head)| dot(&row(&prompt.q, SHAPE.heads_q, token, head)))
        .collect();
    products.iter().sum::<f64>() / products.len() as f64
}
