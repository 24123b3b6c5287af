//! The choice of tokens: the highest scores, and what is always taken.

/// The shape of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Heads of scores.
    pub heads_kv: usize,
    /// Entries of a list.
    pub chosen: usize,
    /// Tokens at the start of a sequence that are always taken.
    pub init_tokens: usize,
    /// Tokens at its end that are always taken.
    pub local_tokens: usize,
}

/// The lists `[batch, heads_kv, chosen]` of sequences of `lengths` tokens, by scores `[batch, heads_kv, tokens]`: ascending, −1 after the
/// last. A NaN counts as −∞, and of equal scores the lower index is taken. A sequence of fewer than no tokens or of more than `tokens` has
/// empty lists.
///
/// ```
/// # use sala_kernels::reference::choose_tokens::{Config, choose_tokens};
/// let config = Config { heads_kv: 1, chosen: 3, init_tokens: 1, local_tokens: 1 };
/// assert_eq!(choose_tokens(&config, &[0.0, 2.0, f32::NAN, 2.0, 0.0], &[5], 5), [0, 1, 4]);
/// assert_eq!(choose_tokens(&config, &[0.0, 2.0, f32::NAN, 2.0, 0.0], &[2], 5), [0, 1, -1]);
/// ```
///
/// # Panics
/// Where a slice is shorter than its shape.
pub fn choose_tokens(config: &Config, scores: &[f32], lengths: &[i32], tokens: usize) -> Vec<i32> {
    let Config {
        heads_kv,
        chosen,
        init_tokens,
        local_tokens,
    } = *config;
    let mut lists = vec![-1; lengths.len() * heads_kv * chosen];
    for row in 0..lengths.len() * heads_kv {
        let length = usize::try_from(lengths[row / heads_kv]).ok();
        let Some(length) = length.filter(|&length| length <= tokens) else {
            continue;
        };
        let scores = &scores[row * tokens..][..length];
        let is_forced = |t: usize| t < init_tokens || t + local_tokens >= length;
        let number = |t: usize| {
            if scores[t].is_nan() {
                f32::NEG_INFINITY
            } else {
                scores[t]
            }
        };
        let mut order: Vec<usize> = (0..length).collect();
        order.sort_by(|&a, &b| {
            let by_score = number(b).partial_cmp(&number(a)).expect("no NaN is left");
            is_forced(b).cmp(&is_forced(a)).then(by_score).then(a.cmp(&b))
        });
        order.truncate(chosen);
        order.sort_unstable();
        for (entry, token) in lists[row * chosen..].iter_mut().zip(order) {
            *entry = token as i32;
        }
    }
    lists
}
