//! What was kept and put out, against a naive choice and attention in f64.

use crate::cache::Cache;
use crate::prompt::{DIM, HEADS, HEADS_Q, Prompt, kept_of};
use crate::{Schedule, Scorer};
use half::bf16;
use std::cmp::Reverse;

/// How much the process may grow while chunks are read, in bytes: what the allocator keeps, but no cache.
const GROWTH: usize = 16 << 20;

/// The first thing that is wrong.
pub fn all(
    schedule: &Schedule,
    prompt: &Prompt,
    cache: &Cache,
    outputs: &[bf16],
    resident: &[Option<usize>],
) -> Result<(), String> {
    rows_are_those_of_their_tokens(prompt, cache)?;
    if schedule.by == Scorer::Given {
        the_choice_is_the_naive_one(schedule, prompt, cache)?;
    }
    outputs_are_those_of_softmax(schedule, prompt, cache, outputs)?;
    memory_is_flat(resident)?;
    let kept = kept_of(&prompt.needle, &cache.positions);
    let expected = match schedule.by {
        Scorer::Given => [prompt.needle.len(), 0],
        Scorer::Question => [prompt.needle.len(); HEADS],
    };
    if kept != expected {
        return Err(format!(
            "{kept:?} tokens of the needle are kept instead of {expected:?}"
        ));
    }
    Ok(())
}

/// Keys and values have moved together with their positions.
fn rows_are_those_of_their_tokens(prompt: &Prompt, cache: &Cache) -> Result<(), String> {
    for (head, positions) in cache.positions.iter().enumerate() {
        for (row, &token) in positions.iter().enumerate() {
            let of_row = (row * HEADS + head) * DIM..(row * HEADS + head + 1) * DIM;
            let of_token = head * DIM..(head + 1) * DIM;
            let (keys, values) = (prompt.keys(token..token + 1), prompt.values(token..token + 1));
            if cache.keys[of_row.clone()] != keys[of_token.clone()] || cache.values[of_row] != values[of_token] {
                return Err(format!("row {row} of head {head} is not token {token}"));
            }
        }
    }
    Ok(())
}

/// The same schedule over lists of tokens, sorted whole.
fn the_choice_is_the_naive_one(schedule: &Schedule, prompt: &Prompt, cache: &Cache) -> Result<(), String> {
    for head in 0..HEADS {
        let mut kept: Vec<(usize, f32)> = Vec::new();
        for tokens in schedule.chunks() {
            kept.extend(tokens.clone().zip(prompt.scores(tokens.clone(), head)));
            let free = kept.len().saturating_sub(schedule.forced(tokens.end));
            let mut order: Vec<usize> = (0..kept.len()).collect();
            // Those that stay first, then by score, then by place.
            order.sort_by_key(|&place| (place < free, Reverse(ordered(kept[place].1)), place));
            order.truncate(schedule.budget);
            order.sort_unstable();
            kept = order.into_iter().map(|place| kept[place]).collect();
        }
        let question = schedule.context()..schedule.context() + schedule.local;
        let expected: Vec<usize> = kept.iter().map(|&(token, _)| token).chain(question).collect();
        if cache.positions[head] != expected {
            return Err(format!("head {head} has not kept what a naive choice keeps"));
        }
    }
    Ok(())
}

/// Numbers in the order of scores, which are none below 0 here.
fn ordered(score: f32) -> u32 {
    (score + 0.0).to_bits()
}

fn outputs_are_those_of_softmax(
    schedule: &Schedule,
    prompt: &Prompt,
    cache: &Cache,
    outputs: &[bf16],
) -> Result<(), String> {
    let queries = prompt.queries();
    for (row, output) in outputs.chunks(DIM).enumerate() {
        let (token, head) = (row / HEADS_Q, row % HEADS_Q / (HEADS_Q / HEADS));
        let seen = cache.length() - schedule.local + token + 1;
        let query = &queries[row * DIM..(row + 1) * DIM];
        let of = |rows: &[bf16], key: usize| -> Vec<f64> {
            let first = (key * HEADS + head) * DIM;
            rows[first..first + DIM].iter().map(|x| x.to_f64()).collect()
        };
        let logits: Vec<f64> = (0..seen)
            .map(|key| {
                of(&cache.keys, key)
                    .iter()
                    .zip(query)
                    .map(|(k, q)| k * q.to_f64())
                    .sum::<f64>()
                    / (DIM as f64).sqrt()
            })
            .collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut expected) = (0.0, vec![0.0; DIM]);
        for (key, logit) in logits.into_iter().enumerate() {
            let weight = (logit - most).exp();
            sum += weight;
            for (expected, value) in expected.iter_mut().zip(of(&cache.values, key)) {
                *expected += weight * value;
            }
        }
        let pairs = || {
            output
                .iter()
                .zip(&expected)
                .map(|(got, expected)| (got.to_f64(), expected / sum))
        };
        let error: f64 = pairs()
            .map(|(got, expected)| (got - expected).powi(2))
            .sum::<f64>()
            .sqrt();
        // The values are of size one: so is the sum of their sizes, weighted.
        let size = pairs().map(|(_, expected)| expected * expected).sum::<f64>().sqrt();
        if error > 0.006 * (size + (DIM as f64).sqrt() / 4.0) {
            return Err(format!("output {row} is {error:.4} from that of softmax"));
        }
    }
    Ok(())
}

fn memory_is_flat(resident: &[Option<usize>]) -> Result<(), String> {
    let sizes: Vec<usize> = resident.iter().copied().flatten().collect();
    // The first half fills the cache and the allocator's pockets.
    let Some((&before, &after)) = sizes.get(sizes.len() / 2).zip(sizes.last()) else {
        return Ok(());
    };
    if after > before + GROWTH {
        return Err(format!("the process has grown from {before} to {after} bytes"));
    }
    Ok(())
}
