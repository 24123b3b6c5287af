//! Sequences whose parts are on several ranks.
//!
//! ```text
//! G_t = Σ g_i for i ≤ t          S ← exp(G of part r)·S + what part r adds          o_t += scale · exp(G_t) · Sᵀ q_t
//! ```

use super::{
    Config, LogDecay, Output, States, clamped, factor_of, load_state, named_slot, resolve_slots, sequences, store_state,
};
use crate::reference::Value;

/// The decay of sequences, added up.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    /// `[tokens, heads_q]`; 0 where no sequence has a token.
    pub cumulative: Vec<f64>,
    /// `[batch, heads_q]`; `None` of sequences that were refused.
    pub total: Vec<Option<f64>>,
    /// Sequences refused because their range is not within the tokens.
    pub refused_lengths: u32,
}

/// Adds up the log decay of `tokens` tokens over each sequence; each counts as it does to a state.
///
/// # Panics
/// Where a slice is shorter than its shape.
///
/// ```
/// use sala_kernels::reference::linear_attention::{Config, LogDecay, sum_decay};
/// let config = Config { heads_q: 1, heads_kv: 1, dim_k: 1, dim_v: 1, scale: 1.0, state_is_vk: false };
/// let sums = sum_decay(&config, 3, &[0, 2, 3], LogDecay::PerToken(&[-1.0, -2.0, -1000.0]));
/// assert_eq!(sums.cumulative, [-1.0, -3.0, -128.0]);
/// assert_eq!(sums.total, [Some(-3.0), Some(-128.0)]);
/// ```
pub fn sum_decay(config: &Config, tokens: usize, cu_seqlens: &[i32], log_decay: LogDecay<'_>) -> Sums {
    let heads = config.heads_q;
    let mut sums = Sums {
        cumulative: vec![0.0; tokens * heads],
        total: Vec::new(),
        refused_lengths: 0,
    };
    for range in sequences(cu_seqlens, tokens) {
        let Some(range) = range else {
            sums.refused_lengths += 1;
            sums.total.extend(vec![None; heads]);
            continue;
        };
        for head in 0..heads {
            let mut sum = 0.0;
            for token in range.clone() {
                sum += f64::from(clamped(log_decay.at(config, token, head)));
                sums.cumulative[token * heads + head] = sum;
            }
            sums.total.push(Some(sum));
        }
    }
    sums
}

/// Merges what the parts of each sequence add to its state: part r of sequence b is entry `r · batch + b` of `adds`, states in the layout of the
/// pool, and of `total` `[parts · batch, heads_q]`. `state_out` of `states` is `[parts + 1, batch]`: where the state before each part goes,
/// and the last one.
///
/// # Panics
/// Where a slice is shorter than its shape.
///
/// ```
/// use sala_kernels::reference::linear_attention::{Config, States, merge_states};
/// let config = Config { heads_q: 1, heads_kv: 1, dim_k: 1, dim_v: 1, scale: 1.0, state_is_vk: false };
/// let (state_in, state_out) = (Some(&[0][..]), Some(&[-1, 1, 2][..]));
/// let states = States { pool: &[8.0, 0.0, 0.0], state_in, state_out, checkpoints: None };
/// let answer = merge_states(&config, &[1.0, 5.0], &[0.0, f32::NEG_INFINITY], &states);
/// assert_eq!(answer.pool, [8.0, 9.0, 5.0]);
/// ```
pub fn merge_states(config: &Config, adds: &[f32], total: &[f32], states: &States<'_>) -> Output {
    let mut answer = Output {
        out: Vec::new(),
        pool: states.pool.iter().map(|&x| f64::from(x)).collect(),
        refused_lengths: 0,
        refused_slots: 0,
    };
    let slot_count = states.pool.len() / config.slot_len();
    let initial = states.state_in.unwrap_or_default();
    let batch = initial.len();
    let parts = (total.len() / config.heads_q).checked_div(batch).unwrap_or(0);
    for (sequence, &slot) in initial.iter().enumerate() {
        let Some(input) = slot_in(slot, slot_count) else {
            answer.refused_slots += 1;
            continue;
        };
        let mut state: Vec<_> = (0..config.heads_q)
            .map(|head| load_state(config, states.pool, input, head))
            .collect();
        for part in 0..=parts {
            let entry = part * batch + sequence;
            if let Some(named) = named_slot(states.state_out, entry) {
                let is_read = |(other, &slot): (usize, &i32)| other != sequence && slot == named;
                let is_stored = states.state_out.is_some_and(|slots| slots[..entry].contains(&named));
                let taken = is_stored || initial.iter().enumerate().any(is_read);
                let slot = slot_in(named, slot_count).flatten().filter(|_| !taken);
                answer.refused_slots += u32::from(slot.is_none());
                for (head, state) in state.iter().enumerate() {
                    store_state(config, &mut answer.pool, slot, head, state);
                }
            }
            if part == parts {
                break;
            }
            for (head, state) in state.iter_mut().enumerate() {
                let factor = factor_of(total[entry * config.heads_q + head]);
                let added = load_state(config, adds, Some(entry), head);
                for (s, added) in state.iter_mut().zip(added) {
                    *s = factor * *s + added;
                }
            }
        }
    }
    answer
}

/// The slot that an index names: `Some(None)` for −1, which is none, and `None` for one that there is not.
fn slot_in(slot: i32, count: usize) -> Option<Option<usize>> {
    match usize::try_from(slot) {
        Ok(slot) => (slot < count).then_some(Some(slot)),
        Err(_) => (slot == -1).then_some(None),
    }
}

/// Corrects outputs `[tokens, heads_q, dim_v]` that were made from zero by the state that each sequence begins with: `cumulative` is
/// `[tokens, heads_q]`. A factor of 0 in f32 leaves an output as it is, unless its channel of the state is not finite.
///
/// # Panics
/// Where a slice is shorter than its shape.
///
/// ```
/// use sala_kernels::reference::linear_attention::{Config, States, correct};
/// let config = Config { heads_q: 1, heads_kv: 1, dim_k: 1, dim_v: 1, scale: 0.5, state_is_vk: false };
/// let states = States { pool: &[8.0], state_in: Some(&[0]), ..States::default() };
/// let answer = correct(&config, &[2.0f32, 2.0], &[0.0, -500.0], &[0, 2], &states, &[1.0, 1.0]);
/// assert_eq!(answer.out, [9.0, 1.0]);
/// ```
pub fn correct<T: Value>(
    config: &Config,
    q: &[T],
    cumulative: &[f32],
    cu_seqlens: &[i32],
    states: &States<'_>,
    out: &[T],
) -> Output {
    let tokens = q.len() / (config.heads_q * config.dim_k);
    let mut answer = Output {
        out: out.iter().map(|o| o.to_f64()).collect(),
        pool: states.pool.iter().map(|&x| f64::from(x)).collect(),
        refused_lengths: 0,
        refused_slots: 0,
    };
    let slot_count = states.pool.len() / config.slot_len();
    for (sequence, range) in sequences(cu_seqlens, tokens).into_iter().enumerate() {
        let slots = resolve_slots(states, slot_count, sequence);
        answer.refused_lengths += u32::from(range.is_none());
        answer.refused_slots += slots.refused_slots;
        let Some((range, slot)) = range.zip(slots.input) else {
            continue;
        };
        for head in 0..config.heads_q {
            let state = load_state(config, states.pool, Some(slot), head);
            for token in range.clone() {
                let sum = cumulative[token * config.heads_q + head];
                let factor = f64::from(if sum.is_nan() { sum } else { sum.min(0.0).exp() });
                let query = config.query(q, token, head);
                for (column, o) in config.output(&mut answer.out, token, head).iter_mut().enumerate() {
                    let channel = || state.iter().skip(column).step_by(config.dim_v);
                    if factor == 0.0 && channel().all(|s| s.is_finite()) {
                        continue;
                    }
                    let product: f64 = channel().zip(query).map(|(s, q)| s * q.to_f64()).sum();
                    *o += f64::from(config.scale) * factor * product;
                }
            }
        }
    }
    answer
}
