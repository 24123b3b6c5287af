//! Block-sparse and dense attention: softmax attention over the keys that a list of blocks makes visible.

use crate::reference::select_blocks::Position;
use crate::reference::{Value, dot, sequences};

/// Shapes and constants of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Query heads.
    pub heads_q: usize,
    /// Key and value heads; each serves `heads_q / heads_kv` query heads.
    pub heads_kv: usize,
    /// Channels of a query and a key.
    pub dim: usize,
    /// Channels of a value and an output.
    pub dim_v: usize,
    /// The softmax scale.
    pub scale: f32,
    /// Tokens of a block.
    pub block_size: usize,
}

/// Which blocks the tokens attend to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blocks<'a> {
    /// All of them, in every sequence.
    Dense,
    /// All of them, and of their keys those from `[total_q]` on: a token's own first one.
    From(&'a [i32]),
    /// Those in a list.
    Listed {
        /// `[total_q, heads_kv, list_len]`: a set, in any order, with repeats, and −1 anywhere.
        indices: &'a [i32],
        /// Entries of a list.
        list_len: usize,
        /// `[batch]`: sequences that are attended densely, whatever their lists say.
        dense: &'a [bool],
    },
}

/// What a call gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// `[total_q, heads_q, dim_v]`.
    pub out: Vec<f64>,
    /// `[total_q, heads_q]`, natural logarithm.
    pub lse: Vec<f64>,
    /// `[total_q, heads_q, dim_v]`: `Σ p·|v|`, the size of what was added up. The error of a kernel is judged against it.
    pub magnitude: Vec<f64>,
    /// Indices in lists that name no block of their sequence. They are ignored.
    pub refused_blocks: u32,
}

/// Attention of `q`, `[total_q, heads_q, dim]`, over `k`, `[total_k, heads_kv, dim]`, and `v`, `[total_k, heads_kv, dim_v]`.
///
/// ```text
/// O = softmax(f·s·qKᵀ)·V      LSE = ln Σ exp(f·s·qKᵀ)
/// ```
///
/// over the keys t ≤ p of the listed blocks, or those from a first one on; f is `scale_factor`, `[total_q]`, if given; `gate`, `[total_q, heads_q, dim_v]`, if given,
/// multiplies O with its sigmoid at the end. A draft of a tree sees of the listed blocks what lies before the first draft, and besides itself and
/// its ancestors. A token that sees no key gets `O = 0, LSE = −inf`; one with a factor of NaN gets NaN. `positions` are
/// [those of the queries](crate::reference::select_blocks::positions), or [of trees](crate::reference::select_blocks::tree_positions).
///
/// # Panics
/// Where a slice is shorter than its shape.
#[allow(clippy::too_many_arguments)]
pub fn sparse_attention<T: Value>(
    config: &Config,
    q: &[T],
    k: &[T],
    v: &[T],
    cu_seqlens_k: &[i32],
    positions: &[Option<Position>],
    blocks: Blocks<'_>,
    scale_factor: Option<&[f32]>,
    gate: Option<&[T]>,
) -> Attention {
    let rows = positions.len() * config.heads_q;
    let mut answer = Attention {
        out: vec![0.0; rows * config.dim_v],
        lse: vec![f64::NEG_INFINITY; rows],
        magnitude: vec![0.0; rows * config.dim_v],
        refused_blocks: 0,
    };
    let keys = sequences(cu_seqlens_k, k.len() / (config.heads_kv * config.dim));
    let group = config.heads_q / config.heads_kv;
    for (token, position) in positions.iter().enumerate() {
        let Some(Position {
            sequence, end, drafts, ..
        }) = *position
        else {
            continue;
        };
        let Some(range) = keys[sequence].clone() else { continue };
        let factor = scale_factor.map_or(1.0, |factor| f64::from(factor[token]));
        for head_kv in 0..config.heads_kv {
            let list_row = token * config.heads_kv + head_kv;
            let listed = listed_blocks(
                config,
                blocks,
                sequence,
                list_row,
                range.len(),
                &mut answer.refused_blocks,
            );
            let visible = (0..end).filter(|t| listed[t / config.block_size]);
            let visible = visible.chain((0..32).filter(|i| drafts >> i & 1 == 1).map(|i| end + i));
            let first = match blocks {
                Blocks::From(first_key) => usize::try_from(first_key[token]).unwrap_or(0),
                Blocks::Dense | Blocks::Listed { .. } => 0,
            };
            let visible = visible.filter(|&t| t >= first);
            let visible: Vec<usize> = visible.map(|t| (range.start + t) * config.heads_kv + head_kv).collect();
            for head in head_kv * group..(head_kv + 1) * group {
                let row = token * config.heads_q + head;
                let query = &q[row * config.dim..(row + 1) * config.dim];
                attend(config, query, k, v, &visible, factor, row, &mut answer);
            }
        }
    }
    if let Some(gate) = gate {
        apply_gate(&mut answer, gate);
    }
    answer
}

/// For each block of a sequence of `length` keys whether the row's list names it.
fn listed_blocks(
    config: &Config,
    blocks: Blocks<'_>,
    sequence: usize,
    row: usize,
    length: usize,
    refused: &mut u32,
) -> Vec<bool> {
    let count = length.div_ceil(config.block_size);
    let Blocks::Listed {
        indices,
        list_len,
        dense,
    } = blocks
    else {
        return vec![true; count];
    };
    if dense[sequence] {
        return vec![true; count];
    }
    let mut listed = vec![false; count];
    for &index in indices[row * list_len..(row + 1) * list_len]
        .iter()
        .filter(|&&index| index != -1)
    {
        match usize::try_from(index).ok().and_then(|index| listed.get_mut(index)) {
            Some(entry) => *entry = true,
            None => *refused += 1,
        }
    }
    listed
}

/// Softmax attention of one query over the rows `visible` of k and v.
#[allow(clippy::too_many_arguments)]
fn attend<T: Value>(
    config: &Config,
    query: &[T],
    k: &[T],
    v: &[T],
    visible: &[usize],
    factor: f64,
    row: usize,
    answer: &mut Attention,
) {
    let scale = factor * f64::from(config.scale);
    let logits: Vec<f64> = visible
        .iter()
        .map(|key| scale * dot(query, &k[key * config.dim..(key + 1) * config.dim]))
        .collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let out = &mut answer.out[row * config.dim_v..(row + 1) * config.dim_v];
    if factor.is_nan() {
        answer.lse[row] = f64::NAN;
        out.fill(f64::NAN);
        return;
    }
    if visible.is_empty() {
        return;
    }
    answer.lse[row] = max + total.ln();
    let magnitude = &mut answer.magnitude[row * config.dim_v..(row + 1) * config.dim_v];
    for (key, logit) in visible.iter().zip(&logits) {
        let p = (logit - max).exp() / total;
        let value = &v[key * config.dim_v..(key + 1) * config.dim_v];
        for ((out, magnitude), value) in out.iter_mut().zip(magnitude.iter_mut()).zip(value) {
            *out += p * value.to_f64();
            *magnitude += p * value.to_f64().abs();
        }
    }
}

/// `O·sigmoid(gate)`.
fn apply_gate<T: Value>(answer: &mut Attention, gate: &[T]) {
    for ((out, magnitude), gate) in answer.out.iter_mut().zip(&mut answer.magnitude).zip(gate) {
        let sigmoid = 1.0 / (1.0 + (-gate.to_f64()).exp());
        *out *= sigmoid;
        *magnitude *= sigmoid;
    }
}

/// Combines attention over two disjoint sets of keys; `out` is `[rows, dim_v]` and `lse` is `[rows]` for each. A row without keys on
/// either side keeps `O = 0, LSE = −inf`.
///
/// # Panics
/// Where the lengths do not fit.
///
/// ```
/// use sala_kernels::reference::sparse_attention::merge;
/// let (out, lse) = merge(&[1.0, 5.0], &[0.0, f64::NEG_INFINITY], &[3.0, 7.0], &[0.0, 2.0]);
/// assert_eq!(out, [2.0, 7.0]);
/// assert_eq!(lse, [2f64.ln(), 2.0]);
/// ```
pub fn merge(out_1: &[f64], lse_1: &[f64], out_2: &[f64], lse_2: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let dim_v = out_1.len().checked_div(lse_1.len()).unwrap_or(0);
    let mut out = vec![0.0; out_1.len()];
    let mut lse = vec![f64::NEG_INFINITY; lse_1.len()];
    for row in 0..lse.len() {
        let max = lse_1[row].max(lse_2[row]);
        if max == f64::NEG_INFINITY {
            continue;
        }
        let (weight_1, weight_2) = ((lse_1[row] - max).exp(), (lse_2[row] - max).exp());
        lse[row] = max + (weight_1 + weight_2).ln();
        for i in row * dim_v..(row + 1) * dim_v {
            out[i] = (weight_1 * out_1[i] + weight_2 * out_2[i]) / (weight_1 + weight_2);
        }
    }
    (out, lse)
}
