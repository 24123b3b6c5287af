//! Linear attention with decay: the recurrence, token by token.
//!
//! ```text
//! S_t = exp(g_t)·S_{t−1} + k_t v_tᵀ          o_t = scale · S_tᵀ q_t
//! ```
//!
//! per sequence and head, with `g_t ≤ 0`: above 0 counts as 0, and NaN makes what it touches NaN. `S` has one row per key channel and one column per value channel.

mod ranks;

pub use ranks::{Sums, correct, merge_states, sum_decay};

use crate::reference::{Value, sequences};

/// A log decay below this counts as this: its factor is 0 in f32 for every purpose but a reset, which only −inf is.
pub const LOWEST_LOG_DECAY: f32 = -128.0;

/// Shapes and constants of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Heads of q, the outputs, the decay and the state.
    pub heads_q: usize,
    /// Heads of k and v, each of which serves `heads_q / heads_kv` heads of q.
    pub heads_kv: usize,
    /// Channels of a query and a key.
    pub dim_k: usize,
    /// Channels of a value and an output.
    pub dim_v: usize,
    /// The factor of every output.
    pub scale: f32,
    /// Whether a stored state is transposed: `[dim_v, dim_k]` instead of `[dim_k, dim_v]`.
    pub state_is_vk: bool,
}

impl Config {
    /// Elements of one slot of the pool.
    pub fn slot_len(&self) -> usize {
        self.heads_q * self.dim_k * self.dim_v
    }

    fn query<'t, T>(&self, q: &'t [T], token: usize, head: usize) -> &'t [T] {
        &q[(token * self.heads_q + head) * self.dim_k..][..self.dim_k]
    }

    /// The key that a query head reads.
    fn key<'t, T>(&self, k: &'t [T], token: usize, head: usize) -> &'t [T] {
        let head = head / (self.heads_q / self.heads_kv);
        &k[(token * self.heads_kv + head) * self.dim_k..][..self.dim_k]
    }

    /// The value that a query head reads.
    fn value<'t, T>(&self, v: &'t [T], token: usize, head: usize) -> &'t [T] {
        let head = head / (self.heads_q / self.heads_kv);
        &v[(token * self.heads_kv + head) * self.dim_v..][..self.dim_v]
    }

    fn output<'t>(&self, out: &'t mut [f64], token: usize, head: usize) -> &'t mut [f64] {
        &mut out[(token * self.heads_q + head) * self.dim_v..][..self.dim_v]
    }

    /// Where a slot holds key channel `row` and value channel `column` of a head.
    fn state_index(&self, head: usize, row: usize, column: usize) -> usize {
        let within = if self.state_is_vk {
            column * self.dim_k + row
        } else {
            row * self.dim_v + column
        };
        head * self.dim_k * self.dim_v + within
    }
}

/// The natural logarithm of the decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogDecay<'a> {
    /// The state never decays.
    None,
    /// `[heads_q]`: one constant per head.
    PerHead(&'a [f32]),
    /// `[tokens, heads_q]`.
    PerToken(&'a [f32]),
}

impl LogDecay<'_> {
    /// What the state is multiplied with before `token` is added.
    fn factor(&self, config: &Config, token: usize, head: usize) -> f64 {
        factor_of(self.at(config, token, head))
    }

    /// As it was given.
    fn at(&self, config: &Config, token: usize, head: usize) -> f32 {
        match self {
            LogDecay::None => 0.0,
            LogDecay::PerHead(decay) => decay[head],
            LogDecay::PerToken(decay) => decay[token * config.heads_q + head],
        }
    }
}

/// What a state is multiplied with.
fn factor_of(log_decay: f32) -> f64 {
    match log_decay {
        f32::NEG_INFINITY => 0.0,
        _ => f64::from(clamped(log_decay)).exp(),
    }
}

/// The log decay that one counts as, NaN as itself.
fn clamped(log_decay: f32) -> f32 {
    log_decay.clamp(LOWEST_LOG_DECAY, 0.0)
}

/// The states of a call: a pool of slots, and the slot that each sequence starts from and leaves its state in.
#[derive(Clone, Copy, Debug, Default)]
pub struct States<'a> {
    /// `[slots, heads_q, dim_k, dim_v]` (transposed with [`Config::state_is_vk`]), as it is before the call.
    pub pool: &'a [f32],
    /// `[batch]`; −1 starts from zero, as every sequence does without it.
    pub state_in: Option<&'a [i32]>,
    /// `[batch]`; −1 stores nothing, as happens for every sequence without it.
    pub state_out: Option<&'a [i32]>,
    /// States on the way, of whole sequences alone.
    pub checkpoints: Option<Checkpoints<'a>>,
}

/// The slots that states go to after every so many tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints<'a> {
    /// Tokens from one to the next.
    pub every: usize,
    /// Slots of each sequence; later checkpoints have none.
    pub max: usize,
    /// `[batch, max]`; −1 stores nothing. One that a sequence starts from or ends in, or that is outside the pool, is refused.
    pub slots: &'a [i32],
}

/// What a call leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// `[tokens, heads_q, dim_v]`; zero where no sequence has a token.
    pub out: Vec<f64>,
    /// The pool after the call.
    pub pool: Vec<f64>,
    /// Sequences refused because their range is not within the tokens. They read and write nothing.
    pub refused_lengths: u32,
    /// Slots refused. A `state_in` outside the pool refuses its sequence, which then reads and writes nothing; a `state_out` outside the
    /// pool, named by an earlier sequence, or read by another one, is not stored to.
    pub refused_slots: u32,
}

/// Runs whole sequences: q is `[tokens, heads_q, dim_k]`, k `[tokens, heads_kv, dim_k]`, v `[tokens, heads_kv, dim_v]`, `cu_seqlens` is `[batch + 1]`.
///
/// # Panics
/// Where a slice is shorter than its shape.
///
/// ```
/// use sala_kernels::reference::linear_attention::{Config, LogDecay, States, prefill};
/// let config = Config { heads_q: 1, heads_kv: 1, dim_k: 1, dim_v: 1, scale: 1.0, state_is_vk: false };
/// let states = States { pool: &[10.0], state_in: Some(&[0]), state_out: Some(&[0]), checkpoints: None };
/// let ones = [1.0f32; 3];
/// let answer = prefill(&config, &ones, &ones, &ones, &[0, 3], LogDecay::None, &states);
/// assert_eq!(answer.out, [11.0, 12.0, 13.0]);
/// assert_eq!(answer.pool, [13.0]);
/// ```
pub fn prefill<T: Value>(
    config: &Config,
    q: &[T],
    k: &[T],
    v: &[T],
    cu_seqlens: &[i32],
    log_decay: LogDecay<'_>,
    states: &States<'_>,
) -> Output {
    let tokens = q.len() / (config.heads_q * config.dim_k);
    let mut answer = Output {
        out: vec![0.0; tokens * config.heads_q * config.dim_v],
        pool: states.pool.iter().map(|&x| f64::from(x)).collect(),
        refused_lengths: 0,
        refused_slots: 0,
    };
    let update = Update {
        config,
        k,
        v,
        log_decay,
    };
    let slot_count = states.pool.len() / config.slot_len();
    for (sequence, range) in sequences(cu_seqlens, tokens).into_iter().enumerate() {
        let slots = resolve_slots(states, slot_count, sequence);
        answer.refused_lengths += u32::from(range.is_none());
        answer.refused_slots += slots.refused_slots;
        let Some(range) = range.filter(|_| !slots.is_refused) else {
            continue;
        };
        for head in 0..config.heads_q {
            let mut state = load_state(config, states.pool, slots.input, head);
            for token in range.clone() {
                update.advance(&mut state, token, head);
                let out = config.output(&mut answer.out, token, head);
                read_out(out, config.scale, &state, config.query(q, token, head));
                if let Some(slot) = checkpoint_slot(states, sequence, token + 1 - range.start) {
                    let in_pool = usize::try_from(slot).ok().filter(|&slot| slot < slot_count);
                    let slot = in_pool.filter(|_| !is_named(states, slot));
                    answer.refused_slots += u32::from(slot.is_none() && head == 0);
                    store_state(config, &mut answer.pool, slot, head, &state);
                }
            }
            store_state(config, &mut answer.pool, slots.output, head, &state);
        }
    }
    answer
}

/// Runs one token of each sequence: [`prefill`] with lengths of one; q is `[batch, heads_q, dim_k]`, and so on.
///
/// # Panics
/// Where a slice is shorter than its shape.
pub fn decode<T: Value>(
    config: &Config,
    q: &[T],
    k: &[T],
    v: &[T],
    log_decay: LogDecay<'_>,
    states: &States<'_>,
) -> Output {
    let batch = (q.len() / (config.heads_q * config.dim_k)) as i32;
    let cu_seqlens: Vec<i32> = (0..=batch).collect();
    prefill(config, q, k, v, &cu_seqlens, log_decay, states)
}

/// Outputs of draft tokens, `drafts` of each sequence, and states that stay as they are: tensors are `[batch · drafts, heads, dim]`, and
/// `parent`, `[batch · drafts]`, names the draft that each follows, −1 the state; without it each follows the one before. A parent that does
/// not come before its child refuses its sequence (lengths).
///
/// # Panics
/// Where a slice is shorter than its shape.
#[allow(clippy::too_many_arguments)]
pub fn verify<T: Value>(
    config: &Config,
    q: &[T],
    k: &[T],
    v: &[T],
    drafts: usize,
    log_decay: LogDecay<'_>,
    parent: Option<&[i32]>,
    states: &States<'_>,
) -> Output {
    let mut answer = Output {
        out: vec![0.0; q.len() / config.dim_k * config.dim_v],
        pool: states.pool.iter().map(|&x| f64::from(x)).collect(),
        refused_lengths: 0,
        refused_slots: 0,
    };
    let update = Update {
        config,
        k,
        v,
        log_decay,
    };
    let slot_count = states.pool.len() / config.slot_len();
    let batch = (q.len() / (config.heads_q * config.dim_k))
        .checked_div(drafts)
        .unwrap_or(0);
    for sequence in 0..batch {
        let slots = resolve_slots(states, slot_count, sequence);
        let first = sequence * drafts;
        let parents: Vec<i32> = match parent {
            Some(parent) => parent[first..first + drafts].to_vec(),
            None => (-1..drafts as i32 - 1).collect(),
        };
        let is_tree = (0..).zip(&parents).all(|(draft, parent)| (-1..draft).contains(parent));
        answer.refused_lengths += u32::from(!is_tree);
        answer.refused_slots += slots.refused_slots;
        if !is_tree || slots.is_refused {
            continue;
        }
        for head in 0..config.heads_q {
            // The state after each draft.
            let mut after: Vec<Vec<f64>> = Vec::new();
            for (draft, &parent) in parents.iter().enumerate() {
                let mut state = match usize::try_from(parent) {
                    Ok(parent) => after[parent].clone(),
                    Err(_) => load_state(config, states.pool, slots.input, head),
                };
                let token = first + draft;
                update.advance(&mut state, token, head);
                let out = config.output(&mut answer.out, token, head);
                read_out(out, config.scale, &state, config.query(q, token, head));
                after.push(state);
            }
        }
    }
    answer
}

/// States after those of the `drafts` tokens of each sequence that were accepted: `accepted` `[batch]` of them, those that `path`,
/// `[batch · drafts]`, names in ascending order, or the first ones. Another number or order refuses the sequence (lengths).
///
/// # Panics
/// Where a slice is shorter than its shape.
#[allow(clippy::too_many_arguments)]
pub fn commit<T: Value>(
    config: &Config,
    k: &[T],
    v: &[T],
    drafts: usize,
    log_decay: LogDecay<'_>,
    accepted: &[i32],
    path: Option<&[i32]>,
    states: &States<'_>,
) -> Output {
    let mut answer = Output {
        out: Vec::new(),
        pool: states.pool.iter().map(|&x| f64::from(x)).collect(),
        refused_lengths: 0,
        refused_slots: 0,
    };
    let update = Update {
        config,
        k,
        v,
        log_decay,
    };
    let slot_count = states.pool.len() / config.slot_len();
    for (sequence, &accepted) in accepted.iter().enumerate() {
        let slots = resolve_slots(states, slot_count, sequence);
        let count = usize::try_from(accepted).ok().filter(|&count| count <= drafts);
        let tokens: Option<Vec<i32>> = count.map(|count| match path {
            Some(path) => path[sequence * drafts..sequence * drafts + count].to_vec(),
            None => (0..count as i32).collect(),
        });
        let ascends = |tokens: &Vec<i32>| {
            let in_order = tokens.windows(2).all(|pair| pair[0] < pair[1]);
            in_order && tokens.iter().all(|token| (0..drafts as i32).contains(token))
        };
        let tokens = tokens.filter(ascends);
        answer.refused_lengths += u32::from(tokens.is_none());
        answer.refused_slots += slots.refused_slots;
        let Some(tokens) = tokens.filter(|_| !slots.is_refused) else {
            continue;
        };
        for head in 0..config.heads_q {
            let mut state = load_state(config, states.pool, slots.input, head);
            for &token in &tokens {
                let token = sequence * drafts + token as usize;
                update.advance(&mut state, token, head);
            }
            store_state(config, &mut answer.pool, slots.output, head, &state);
        }
    }
    answer
}

/// The pool after states have been copied from slots to slots, as `state_in` and `state_out` of `states` name them.
pub fn copy_states(config: &Config, states: &States<'_>) -> Output {
    let batch = states.state_in.map_or(0, <[i32]>::len);
    commit::<f32>(config, &[], &[], 0, LogDecay::None, &vec![0; batch], None, states)
}

/// What advances a state.
struct Update<'a, T> {
    config: &'a Config,
    k: &'a [T],
    v: &'a [T],
    log_decay: LogDecay<'a>,
}

impl<T: Value> Update<'_, T> {
    /// `S ← exp(g)·S + k vᵀ`. A factor of zero forgets what is finite: NaN stays.
    fn advance(&self, state: &mut [f64], token: usize, head: usize) {
        let factor = self.log_decay.factor(self.config, token, head);
        let value = self.config.value(self.v, token, head);
        let value: Vec<f64> = value.iter().map(|v| v.to_f64()).collect();
        let key = self.config.key(self.k, token, head);
        for (row, key) in state.chunks_exact_mut(value.len()).zip(key) {
            let key = key.to_f64();
            for (s, v) in row.iter_mut().zip(&value) {
                *s = factor * *s + key * v;
            }
        }
    }
}

/// `o = scale · Sᵀ q`.
fn read_out<T: Value>(out: &mut [f64], scale: f32, state: &[f64], query: &[T]) {
    for (row, query) in state.chunks_exact(out.len()).zip(query) {
        let query = query.to_f64();
        for (o, s) in out.iter_mut().zip(row) {
            *o += s * query;
        }
    }
    for o in out {
        *o *= f64::from(scale);
    }
}

/// One head's state, `[dim_k, dim_v]` whatever the pool's layout; zero without a slot.
fn load_state(config: &Config, pool: &[f32], slot: Option<usize>, head: usize) -> Vec<f64> {
    let mut state = vec![0.0; config.dim_k * config.dim_v];
    if let Some(slot) = slot {
        let slot = &pool[slot * config.slot_len()..][..config.slot_len()];
        for row in 0..config.dim_k {
            for column in 0..config.dim_v {
                state[row * config.dim_v + column] = f64::from(slot[config.state_index(head, row, column)]);
            }
        }
    }
    state
}

/// The inverse of [`load_state`].
fn store_state(config: &Config, pool: &mut [f64], slot: Option<usize>, head: usize, state: &[f64]) {
    let Some(slot) = slot else { return };
    let slot = &mut pool[slot * config.slot_len()..][..config.slot_len()];
    for row in 0..config.dim_k {
        for column in 0..config.dim_v {
            slot[config.state_index(head, row, column)] = state[row * config.dim_v + column];
        }
    }
}

/// The slots of one sequence.
struct Slots {
    /// Where the sequence starts from; `None` from zero.
    input: Option<usize>,
    /// Where it leaves its state; `None` nowhere.
    output: Option<usize>,
    /// Whether `state_in` is outside the pool, so that the sequence cannot run.
    is_refused: bool,
    /// How many of the two indices were refused.
    refused_slots: u32,
}

/// The slots of `sequence` in a pool of `count`.
fn resolve_slots(states: &States<'_>, count: usize, sequence: usize) -> Slots {
    let mut slots = Slots {
        input: None,
        output: None,
        is_refused: false,
        refused_slots: 0,
    };
    let in_pool = |slot: i32| usize::try_from(slot).ok().filter(|&slot| slot < count);
    if let Some(slot) = named_slot(states.state_in, sequence) {
        slots.input = in_pool(slot);
        slots.is_refused = slots.input.is_none();
        slots.refused_slots += u32::from(slots.is_refused);
    }
    if let Some(slot) = named_slot(states.state_out, sequence) {
        slots.output = in_pool(slot).filter(|_| !is_taken(states, sequence, slot));
        slots.refused_slots += u32::from(slots.output.is_none());
    }
    slots
}

/// The slot that a list names for `sequence`, if it names one.
fn named_slot(list: Option<&[i32]>, sequence: usize) -> Option<i32> {
    list.map(|list| list[sequence]).filter(|&slot| slot != -1)
}

/// The slot of the checkpoint after so many tokens of a sequence, if there is one there and it names a slot.
fn checkpoint_slot(states: &States<'_>, sequence: usize, tokens: usize) -> Option<i32> {
    let Checkpoints { every, max, slots } = states.checkpoints?;
    let index = tokens.checked_div(every)?;
    if !tokens.is_multiple_of(every) || index > max {
        return None;
    }
    Some(slots[sequence * max + index - 1]).filter(|&slot| slot != -1)
}

/// Whether a sequence starts from a slot or stores its state there.
fn is_named(states: &States<'_>, slot: i32) -> bool {
    [states.state_in, states.state_out]
        .into_iter()
        .flatten()
        .any(|list| list.contains(&slot))
}

/// Whether `sequence` may not store to `slot`: an earlier sequence stores there, or another one starts from it.
fn is_taken(states: &States<'_>, sequence: usize, slot: i32) -> bool {
    let stored_before = states.state_out.is_some_and(|out| out[..sequence].contains(&slot));
    let is_read = |(other, &input): (usize, &i32)| other != sequence && input == slot;
    stored_before
        || states
            .state_in
            .is_some_and(|inputs| inputs.iter().enumerate().any(is_read))
}
