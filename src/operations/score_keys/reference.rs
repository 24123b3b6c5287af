//! Scores of keys: products with the mean of the queries, in f64.

use crate::reference::{Value, dot, sequences};

/// The shape of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Query heads.
    pub heads_q: usize,
    /// Heads of keys.
    pub heads_kv: usize,
    /// Channels of a head.
    pub dim: usize,
    /// Keys of the window that a score is the largest product of, an odd number.
    pub pool: usize,
}

/// Scores `[batch, heads_kv, tokens]`.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyScores {
    /// −∞ where there is no key.
    pub scores: Vec<f64>,
    /// The largest `mean of Σ|q|·|k|` of a score's window, shaped as the scores: what the rounding of its sums is relative to.
    pub magnitude: Vec<f64>,
}

/// The mean of `q·k` over a sequence's query tokens and the query heads of each kv head, and of `pool` neighbouring keys the largest. `q` is
/// `[total_q, heads_q, dim]` and `k` `[total_k, heads_kv, dim]`; NaN counts as −∞, as does the mean over no queries. Sequences of more than
/// `tokens` keys are refused: all their scores are −∞.
///
/// ```
/// # use sala_kernels::reference::score_keys::{Config, score_keys};
/// let config = Config { heads_q: 2, heads_kv: 1, dim: 1, pool: 3 };
/// let scores = score_keys(&config, &[1.0, 3.0], &[0, 1], &[5.0, 0.0, -1.0, 4.0], &[0, 4], 5).scores;
/// assert_eq!(scores, [10.0, 10.0, 8.0, 8.0, f64::NEG_INFINITY]);
/// ```
///
/// # Panics
/// Where a slice is shorter than its shape.
pub fn score_keys<T: Value>(
    config: &Config,
    q: &[T],
    cu_seqlens_q: &[i32],
    k: &[T],
    cu_seqlens_k: &[i32],
    tokens: usize,
) -> KeyScores {
    let Config {
        heads_q, heads_kv, dim, ..
    } = *config;
    let [queries, keys] = [
        (cu_seqlens_q, q.len() / (heads_q * dim)),
        (cu_seqlens_k, k.len() / (heads_kv * dim)),
    ]
    .map(|(bounds, total)| sequences(bounds, total));
    let rows = queries.len() * heads_kv * tokens;
    let mut found = KeyScores {
        scores: vec![f64::NEG_INFINITY; rows],
        magnitude: vec![0.0; rows],
    };
    for (sequence, (queries, keys)) in queries.into_iter().zip(keys).enumerate() {
        let (Some(queries), Some(keys)) = (queries, keys) else {
            continue;
        };
        if keys.len() > tokens || queries.is_empty() {
            continue;
        }
        for head in 0..heads_kv {
            let group = heads_q / heads_kv;
            let row = |token: usize, j: usize| {
                let first = (token * heads_q + head * group + j) * dim;
                &q[first..first + dim]
            };
            let rows: Vec<_> = queries
                .clone()
                .flat_map(|token| (0..group).map(move |j| (token, j)))
                .collect();
            let count = rows.len() as f64;
            let products: Vec<_> = keys
                .clone()
                .map(|key| {
                    let first = (key * heads_kv + head) * dim;
                    let k = &k[first..first + dim];
                    let sum: f64 = rows.iter().map(|&(token, j)| dot(row(token, j), k)).sum();
                    let size = |x: &T| x.to_f64().abs();
                    let sizes = rows
                        .iter()
                        .map(|&(token, j)| row(token, j).iter().zip(k).map(|(q, k)| size(q) * size(k)).sum::<f64>());
                    (sum / count, sizes.sum::<f64>() / count)
                })
                .collect();
            let first = (sequence * heads_kv + head) * tokens;
            for t in 0..keys.len() {
                let near = t.saturating_sub(config.pool / 2)..keys.len().min(t + config.pool / 2 + 1);
                for &(product, magnitude) in &products[near] {
                    found.scores[first + t] = found.scores[first + t].max(product);
                    found.magnitude[first + t] = found.magnitude[first + t].max(magnitude);
                }
            }
        }
    }
    found
}
