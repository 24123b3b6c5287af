//! Block selection: which blocks of keys a query token attends to.
//!
//! A token scores every block of keys in its past through the compressed keys K1 and K2 ([`block_scores`]), and attends to the blocks
//! that are always chosen plus those with the highest scores ([`select_blocks`]).

use crate::Lse;
use crate::reference::compress_keys::{CompressedKeys, Window};
use crate::reference::{Value, dot, sequences};
use std::cmp::Ordering;

/// Shapes and constants of scoring and selection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Query heads.
    pub heads_q: usize,
    /// Key heads; each serves `heads_q / heads_kv` query heads, which share one list.
    pub heads_kv: usize,
    /// Channels of a head.
    pub dim: usize,
    /// The softmax scale.
    pub scale: f32,
    /// Tokens of a block.
    pub block_size: usize,
    /// Blocks chosen besides `local_blocks`.
    pub topk: usize,
    /// Blocks at the start that are always chosen.
    pub init_blocks: usize,
    /// Blocks before the query's own that are always chosen, as its own is.
    pub local_blocks: usize,
    /// What normalises the scores.
    pub lse: Lse,
}

impl Config {
    /// The length of a list.
    pub fn list_len(&self) -> usize {
        self.topk + self.local_blocks
    }

    /// Whether a token in block `query_block` always attends to `block`.
    pub fn is_forced(&self, block: usize, query_block: usize) -> bool {
        block < self.init_blocks || block + self.local_blocks >= query_block
    }
}

/// The scores of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockScores {
    /// Blocks of the longest sequence.
    pub blocks: usize,
    /// `[total_q, heads_kv, blocks]`; −inf where a block has no row that the token may see.
    pub scores: Vec<f32>,
}

/// Where each query token stands: the last query of a sequence at its last key. A token has no position where a sequence has more queries than
/// keys, or belongs to no sequence.
pub fn positions(cu_seqlens_q: &[i32], cu_seqlens_k: &[i32], total_q: usize, total_k: usize) -> Vec<Option<Position>> {
    in_sequences(cu_seqlens_q, cu_seqlens_k, total_q, total_k, |_, queries, keys| {
        let stands = |r: usize| (r + keys).checked_sub(queries);
        let position = |r| stands(r).map(|position| (position, position + 1, 0));
        (0..queries).map(position).collect()
    })
}

/// Where each query token stands whose sequence is a tree of drafts, `parent` `[batch, columns]`: base + depth, base being the number of keys
/// before the drafts and depth that of ancestors. A token has no position where that is negative, or where a parent does not come before its
/// child, which refuses the sequence.
pub fn tree_positions(
    parent: &[i32],
    columns: usize,
    cu_seqlens_q: &[i32],
    cu_seqlens_k: &[i32],
    total_q: usize,
    total_k: usize,
) -> Vec<Option<Position>> {
    in_sequences(
        cu_seqlens_q,
        cu_seqlens_k,
        total_q,
        total_k,
        |sequence, queries, keys| {
            let parent = &parent[sequence * columns..][..queries];
            let mut paths: Vec<u32> = Vec::new();
            for (draft, &parent) in parent.iter().enumerate() {
                let above = match usize::try_from(parent) {
                    Ok(parent) if parent < draft => paths[parent],
                    Err(_) if parent == -1 => 0,
                    _ => return vec![None; queries],
                };
                paths.push(above | 1 << draft);
            }
            let position = |path: &u32| {
                let position = (keys + path.count_ones() as usize - 1).checked_sub(queries)?;
                Some((
                    position,
                    keys.saturating_sub(queries),
                    path >> queries.saturating_sub(keys),
                ))
            };
            paths.iter().map(position).collect()
        },
    )
}

/// What `stands` says of the tokens of each sequence: position, end and drafts. It is given the sequence and its numbers of queries and keys.
fn in_sequences(
    cu_seqlens_q: &[i32],
    cu_seqlens_k: &[i32],
    total_q: usize,
    total_k: usize,
    stands: impl Fn(usize, usize, usize) -> Vec<Option<(usize, usize, u32)>>,
) -> Vec<Option<Position>> {
    let mut positions = vec![None; total_q];
    let queries = sequences(cu_seqlens_q, total_q);
    let keys = sequences(cu_seqlens_k, total_k);
    for (sequence, (queries, keys)) in queries.into_iter().zip(keys).enumerate() {
        let (Some(queries), Some(keys)) = (queries, keys) else {
            continue;
        };
        let stands = stands(sequence, queries.len(), keys.len());
        for (token, stands) in queries.zip(stands) {
            positions[token] = stands.map(|(position, end, drafts)| Position {
                sequence,
                position,
                end,
                drafts,
            });
        }
    }
    positions
}

/// Where a query token stands, and which keys it may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its sequence in the batch.
    pub sequence: usize,
    /// Where it stands in the sequence: in a chain where its own key lies.
    pub position: usize,
    /// Its list names keys before this one: up to its own, or in a tree those before the first draft. Windows that end before it are scored.
    pub end: usize,
    /// Drafts of a tree that it sees besides, itself among them: bit i is the one whose key is `end + i`.
    pub drafts: u32,
}

/// Scores every block for every query token; `q` is `[total_q, heads_q, dim]`, `positions` comes from [`positions`] or [`tree_positions`], and
/// `scale_factor`, if any, is `[total_q]`.
///
/// ```text
/// m_j, Z_j = max and Σ exp over the rows c of the normalising keys that p sees, of s·q_j·C[c]
/// P[c]     = Σ_j exp(s·q_j·K1[c] − m_j) / Z_j       for the rows of K1 that p sees
/// score[b] = max of P[c] over 4b − 1 ≤ c ≤ 4b + 3
/// ```
///
/// where p sees the rows whose window ends at or before it, or before the first draft of a tree. A NaN logit is left out everywhere.
///
/// # Panics
/// Where a slice is shorter than its shape.
pub fn block_scores<T: Value>(
    config: &Config,
    q: &[T],
    k1: &CompressedKeys<T>,
    k2: &CompressedKeys<T>,
    positions: &[Option<Position>],
    scale_factor: Option<&[f32]>,
) -> BlockScores {
    let blocks = positions
        .iter()
        .flatten()
        .map(|p| p.position / config.block_size + 1)
        .max()
        .unwrap_or(0);
    let mut scores = vec![f32::NEG_INFINITY; positions.len() * config.heads_kv * blocks];
    for (token, position) in positions.iter().enumerate() {
        let Some(Position { sequence, end, .. }) = *position else {
            continue;
        };
        let factor = scale_factor.map_or(1.0, |factor| f64::from(factor[token]));
        let scale = factor * f64::from(config.scale);
        for head in 0..config.heads_kv {
            let queries = group_queries(config, q, token, head);
            let rows = |keys: &CompressedKeys<T>, window: Window| {
                logits(
                    config,
                    &queries,
                    &keys.sequences[sequence],
                    head,
                    window.rows(end),
                    scale,
                )
            };
            let fine = rows(k1, Window::fine(config.block_size));
            let normalisers: Vec<_> = match config.lse {
                Lse::Coarse => rows(k2, Window::coarse(config.block_size))
                    .iter()
                    .map(|l| max_and_sum(l))
                    .collect(),
                Lse::Exact => fine.iter().map(|l| max_and_sum(l)).collect(),
            };
            let probabilities = row_probabilities(&fine, &normalisers);
            let first = (token * config.heads_kv + head) * blocks;
            for (block, score) in scores[first..first + blocks].iter_mut().enumerate() {
                *score = block_score(&probabilities, block);
            }
        }
    }
    BlockScores { blocks, scores }
}

/// The query vectors of one token that read kv head `head`.
fn group_queries<'a, T: Value>(config: &Config, q: &'a [T], token: usize, head: usize) -> Vec<&'a [T]> {
    let group = config.heads_q / config.heads_kv;
    let first = token * config.heads_q + head * group;
    (first..first + group)
        .map(|row| &q[row * config.dim..(row + 1) * config.dim])
        .collect()
}

/// `scale·q_j·C[c]` for each query of the group and each of the first `rows` compressed keys.
fn logits<T: Value>(
    config: &Config,
    queries: &[&[T]],
    keys: &[T],
    head: usize,
    rows: usize,
    scale: f64,
) -> Vec<Vec<f64>> {
    let key = |row: usize| &keys[(row * config.heads_kv + head) * config.dim..][..config.dim];
    queries
        .iter()
        .map(|query| (0..rows).map(|row| scale * dot(query, key(row))).collect())
        .collect()
}

/// `(max, Σ exp(x − max))` over the numbers among `logits`; `None` if there are none.
fn max_and_sum(logits: &[f64]) -> Option<(f64, f64)> {
    let max = logits.iter().copied().filter(|x| !x.is_nan()).reduce(f64::max)?;
    let sum = logits.iter().filter(|x| !x.is_nan()).map(|x| (x - max).exp()).sum();
    Some((max, sum))
}

/// `P[c]`, as the f32 that scores are compared in; `None` for a row with no number among its logits.
fn row_probabilities(fine: &[Vec<f64>], normalisers: &[Option<(f64, f64)>]) -> Vec<Option<f32>> {
    let rows = fine.first().map_or(0, Vec::len);
    let probability = |row: usize| {
        let mut sum = None;
        for (logits, normaliser) in fine.iter().zip(normalisers) {
            if logits[row].is_nan() {
                continue;
            }
            let share = normaliser.map_or(0.0, |(max, total)| (logits[row] - max).exp() / total);
            sum = Some(sum.unwrap_or(0.0) + share);
        }
        sum.map(to_score)
    };
    (0..rows).map(probability).collect()
}

/// Overflow is +inf, and numbers below the normal ones are 0.
fn to_score(probability: f64) -> f32 {
    if probability < f64::from(f32::MIN_POSITIVE) {
        0.0
    } else {
        probability as f32
    }
}

/// The best of the rows whose windows touch the block.
fn block_score(probabilities: &[Option<f32>], block: usize) -> f32 {
    let first = (4 * block).saturating_sub(1);
    let end = (4 * block + 4).min(probabilities.len());
    let rows = probabilities.get(first..end).unwrap_or(&[]);
    rows.iter().flatten().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Chooses blocks by the given scores: `[total_q, heads_kv, list_len]`, ascending, −1 after the last.
///
/// Candidates are the blocks up to the query's own. If there are more than a list holds, the forced ones come first, then those with
/// the highest scores, of equal ones the lower index.
///
/// # Panics
/// Where `scores` is shorter than its shape or has fewer blocks than a token needs.
pub fn select_blocks(config: &Config, scores: &BlockScores, positions: &[Option<Position>]) -> Vec<i32> {
    let length = config.list_len();
    let mut lists = vec![-1; positions.len() * config.heads_kv * length];
    for (row, list) in lists.chunks_exact_mut(length).enumerate() {
        let Some(position) = positions[row / config.heads_kv] else {
            continue;
        };
        let query_block = position.position / config.block_size;
        let scores = scores
            .scores
            .get(row * scores.blocks..(row + 1) * scores.blocks)
            .unwrap_or(&[]);
        for (entry, block) in list.iter_mut().zip(best_blocks(config, scores, query_block)) {
            *entry = block as i32;
        }
    }
    lists
}

/// The chosen blocks of one row, ascending.
fn best_blocks(config: &Config, scores: &[f32], query_block: usize) -> Vec<usize> {
    let mut candidates: Vec<usize> = (0..=query_block).collect();
    if candidates.len() > config.list_len() {
        let by_rank = |a: &usize, b: &usize| {
            let forced = config
                .is_forced(*b, query_block)
                .cmp(&config.is_forced(*a, query_block));
            forced.then_with(|| descending(scores[*a], scores[*b])).then(a.cmp(b))
        };
        candidates.sort_by(by_rank);
        candidates.truncate(config.list_len());
        candidates.sort_unstable();
    }
    candidates
}

/// Scores from high to low; a NaN that a caller brings counts as −inf.
fn descending(a: f32, b: f32) -> Ordering {
    let number = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    number(b).partial_cmp(&number(a)).expect("neither is NaN")
}
