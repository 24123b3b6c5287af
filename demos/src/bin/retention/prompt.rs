//! The prompt: keys, values and scores of its tokens, each made of the token's number, so that none need be kept to be known.

use crate::{OfHeads, Schedule};
use half::bf16;
use sala_testkit::numbers::Numbers;
use std::ops::Range;

/// Kv heads.
pub const HEADS: usize = 2;
/// Query heads.
pub const HEADS_Q: usize = 4;
/// Channels of a head.
pub const DIM: usize = 64;

/// Tokens of the needle.
const NEEDLE: usize = 8;

/// What a key's and a query's channels are: a token of the needle has a logit of DIM · KEY · QUERY / √DIM, others about an eighth of it.
const KEY: f32 = 1.0;
const QUERY: f32 = 2.5;

/// What is read.
pub struct Prompt {
    /// Where the needle is.
    pub needle: Range<usize>,
    needle_score: f32,
    local: usize,
}

/// Which of a token's rows.
#[derive(Clone, Copy)]
enum Row {
    Key = 1,
    Value = 2,
    Score = 3,
}

impl Prompt {
    pub fn new(schedule: &Schedule, depth: f64, needle_score: f32) -> Prompt {
        let first = depth * schedule.context().saturating_sub(NEEDLE) as f64;
        Prompt {
            needle: first as usize..first as usize + NEEDLE,
            needle_score,
            local: schedule.local,
        }
    }

    /// Keys `[tokens, HEADS, DIM]`.
    pub fn keys(&self, tokens: Range<usize>) -> Vec<bf16> {
        self.rows(
            tokens,
            |token| {
                if self.needle.contains(&token) {
                    NEEDLE_KEY
                } else {
                    token
                }
            },
            Row::Key,
        )
    }

    /// Values likewise; those of the needle are one.
    pub fn values(&self, tokens: Range<usize>) -> Vec<bf16> {
        self.rows(
            tokens,
            |token| {
                if self.needle.contains(&token) {
                    NEEDLE_KEY
                } else {
                    token
                }
            },
            Row::Value,
        )
    }

    fn rows(&self, tokens: Range<usize>, same_as: impl Fn(usize) -> usize, row: Row) -> Vec<bf16> {
        let heads = |token| (0..HEADS).map(move |head| (token, head));
        let pairs = tokens.map(same_as).flat_map(heads);
        pairs.flat_map(|(token, head)| signs(token, head, row, KEY)).collect()
    }

    /// What a retaining head says of tokens: from 0 to 1, and of the needle what the first one has learnt.
    pub fn scores(&self, tokens: Range<usize>, head: usize) -> impl Iterator<Item = f32> {
        tokens.map(move |token| match self.needle.contains(&token) {
            true if head == 0 => self.needle_score,
            true => 0.0,
            false => (bits(token, head, Row::Score) >> 40) as f32 / (1u64 << 24) as f32,
        })
    }

    /// The question's queries `[local, HEADS_Q, DIM]`: all of them look for the needle.
    pub fn queries(&self) -> Vec<bf16> {
        let group = HEADS_Q / HEADS;
        let rows = (0..self.local).flat_map(|_| 0..HEADS_Q);
        rows.flat_map(|head| signs(NEEDLE_KEY, head / group, Row::Key, QUERY))
            .collect()
    }

    /// How close the last token's output of a kv head is to the needle's value: 1 if it is that.
    pub fn found(&self, outputs: &[bf16], head: usize) -> f64 {
        let group = HEADS_Q / HEADS;
        let first = ((self.local - 1) * HEADS_Q + head * group) * DIM;
        let output = outputs[first..first + DIM].iter().map(|x| x.to_f64());
        let value: Vec<f64> = signs(NEEDLE_KEY, head, Row::Value, KEY).map(f64::from).collect();
        let (product, size) = output
            .zip(&value)
            .fold((0.0, 0.0), |(product, size), (a, b)| (product + a * b, size + a * a));
        product / (size * DIM as f64).sqrt()
    }
}

/// A number that no token has: that of the needle's rows.
const NEEDLE_KEY: usize = usize::MAX;

fn bits(token: usize, head: usize, row: Row) -> u64 {
    Numbers::new((token as u64).wrapping_mul(64) ^ (head as u64 * 4 + row as u64)).bits()
}

/// A row of `DIM` numbers of one size.
fn signs(token: usize, head: usize, row: Row, size: f32) -> impl Iterator<Item = bf16> {
    let bits = bits(token, head, row);
    (0..DIM).map(move |channel| bf16::from_f32(if bits >> channel & 1 == 1 { size } else { -size }))
}

/// The tokens of the needle that are among those at `positions`.
pub fn kept_of(needle: &Range<usize>, positions: &OfHeads<Vec<usize>>) -> OfHeads<usize> {
    std::array::from_fn(|head| {
        positions[head]
            .iter()
            .filter(|position| needle.contains(position))
            .count()
    })
}
