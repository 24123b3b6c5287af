//! Greedy sampling, so that two runs of one sequence can be compared token by token.

/// The token with the `rank`-th largest logit, 0 being the best; of equal ones the lower.
pub fn pick(logits: &[f32], rank: usize) -> u8 {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let by_logit = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    if rank < order.len() {
        order.select_nth_unstable_by(rank, by_logit);
    }
    order.get(rank).map_or(0, |&token| token as u8)
}

/// The most likely token.
pub fn best(logits: &[f32]) -> u8 {
    pick(logits, 0)
}
