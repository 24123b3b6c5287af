//! APB and Spava: a rank attends to an anchor, to keys that earlier parts pass on, and to its own.
//!
//! ```text
//! keys of part p      passed by 0 … p−1   anchor   own
//! queries             ·  ·  ·  ·  ·  ·    A: up to their position, nothing passed
//!                     ●  ●  ●  ●  ●  ●    ●  ●  ●  own: up to their position
//! ```

use crate::choice::chosen;
use crate::layout::Layout;
use crate::prompt::SHAPE;
use crate::rank::{KeyRows, Rank};
use demos::Failure;
use half::bf16;
use std::ops::Range;
use std::slice::from_ref;

/// How keys are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By what a model has learned (here by a direction), one part per rank.
    Apb,
    /// By their products with the queries of the prompt's last tokens, two parts per rank, one from either end.
    Spava,
}

/// Tokens of the anchor, and tokens that each part passes on per kv head.
#[derive(Clone, Copy, Debug)]
pub struct Passing {
    pub method: Method,
    pub anchor: usize,
    pub passed: usize,
}

impl Passing {
    /// Its layout of a prompt.
    pub fn layout(&self, ranks: usize, tokens: usize) -> Layout {
        Layout {
            ranks,
            tokens,
            is_zigzag: self.method == Method::Spava,
        }
    }

    /// The tokens of a part that it may pass on: every rank has the anchor.
    pub fn candidates(&self, layout: &Layout, part: usize) -> Range<usize> {
        let Range { start, end } = layout.range(part);
        start.max(self.anchor)..end
    }
}

/// Outputs of the rank's tokens. Those of the anchor, which a model's next layer needs on every rank, are checked against `anchor_out` of
/// the first part by the caller.
pub fn prefill(rank: &mut Rank<'_>, passing: Passing) -> Result<Output, Failure> {
    let layout = rank.layout;
    let parts = layout.parts_of(rank.index());
    let own = passed_on(rank, passing, &parts)?;
    let gathered = rank.gather(&own)?;
    let anchor_range = 0..passing.anchor;
    let anchor = rank.keys(from_ref(&anchor_range))?;
    let mut output = Output::default();
    for (index, &part) in parts.iter().enumerate() {
        let own = layout.range(part);
        let (q, local) = (rank.queries(from_ref(&own))?, rank.keys(from_ref(&own))?);
        if part == 0 {
            // It begins with the anchor, and nothing is passed to it.
            output
                .own
                .extend(rank.attend(&q, &local, layout.part_len())?.read::<bf16>()?);
            continue;
        }
        let passed = part * passing.passed;
        let mut keys = rank.room(passed + passing.anchor + layout.part_len())?;
        let mut filled = 0;
        for before in 0..part {
            let place = layout.place(before) * passing.passed;
            filled = rank.append(&mut keys, filled, &gathered, place..place + passing.passed)?;
        }
        filled = rank.append(&mut keys, filled, &anchor, 0..passing.anchor)?;
        filled = rank.append(&mut keys, filled, &local, 0..layout.part_len())?;
        output.own.extend(rank.attend(&q, &keys, filled)?.read::<bf16>()?);
        if index == 0 {
            let q = rank.queries(from_ref(&anchor_range))?;
            output.anchor = rank.attend(&q, &anchor, passing.anchor)?.read()?;
        }
    }
    Ok(output)
}

/// What a rank gives.
#[derive(Default)]
pub struct Output {
    /// `[tokens of its parts, heads_q, dim]`
    pub own: Vec<bf16>,
    /// `[anchor, heads_q, dim]`; of a rank whose part is the first, nothing.
    pub anchor: Vec<bf16>,
}

/// The keys and values that the rank's parts pass on: of each kv head its own tokens, ascending.
fn passed_on(rank: &Rank<'_>, passing: Passing, parts: &[usize]) -> Result<KeyRows, Failure> {
    let (mut k, mut v) = (Vec::<bf16>::new(), Vec::<bf16>::new());
    let at = |head: usize, token: usize| (token * SHAPE.heads_kv + head) * SHAPE.dim;
    for &part in parts {
        let candidates = passing.candidates(&rank.layout, part);
        let lists: Vec<_> = (0..SHAPE.heads_kv)
            .map(|head| chosen(rank.prompt, passing, candidates.clone(), head))
            .collect();
        for entry in 0..passing.passed {
            for (head, list) in lists.iter().enumerate() {
                let row = at(head, list[entry])..at(head, list[entry]) + SHAPE.dim;
                k.extend(&rank.prompt.k[row.clone()]);
                v.extend(&rank.prompt.v[row]);
            }
        }
    }
    let shape = [parts.len() * passing.passed, SHAPE.heads_kv, SHAPE.dim];
    Ok(KeyRows {
        k: rank.array(&k, &shape)?,
        v: rank.array(&v, &shape)?,
    })
}
