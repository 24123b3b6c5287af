//! APB and Spava: a rank attends to an anchor, to keys that earlier parts pass on, and to its own.
//!
//! ```text
//! keys of part p      passed by 0 … p−1   anchor   own
//! queries             ·  ·  ·  ·  ·  ·    A: up to their position, nothing passed
//!                     ●  ●  ●  ●  ●  ●    ●  ●  ●  own: up to their position
//! ```

use crate::choice::{POOL, QUESTION, pooled_scores};
use crate::layout::Layout;
use crate::prompt::SHAPE;
use crate::rank::{KeyRows, Rank};
use demos::Failure;
use demos::array::Array;
use half::bf16;
use sala_kernels::{ChooseTokensArgs, GatherRowsArgs, Keys, ScoreKeysArgs, Sequences};
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

/// Outputs of the rank's tokens, and of the anchor's, which a model's next layer needs on every rank.
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
        let local = rank.keys(from_ref(&own))?;
        if part == 0 {
            // It begins with the anchor, and nothing is passed to it.
            let q = rank.queries(from_ref(&own))?;
            let out = rank.attend(&q, &local, own.len(), None)?;
            output.own.extend(out.read::<bf16>()?);
            continue;
        }
        let passed = part * passing.passed;
        let mut keys = rank.room(passed + passing.anchor + own.len())?;
        let mut filled = 0;
        for before in 0..part {
            let place = layout.place(before) * passing.passed;
            filled = rank.append(&mut keys, filled, &gathered, place..place + passing.passed)?;
        }
        filled = rank.append(&mut keys, filled, &anchor, 0..passing.anchor)?;
        filled = rank.append(&mut keys, filled, &local, 0..own.len())?;

        // A rank needs the anchor's outputs once. Its queries see nothing of what is passed.
        let anchors = if index == 0 { passing.anchor } else { 0 };
        let q = rank.queries(&[0..anchors, own.clone()])?;
        let first_key = rank.list((0..anchors + own.len()).map(|row| if row < anchors { passed } else { 0 }))?;
        let mut out = rank.attend(&q, &keys, filled, Some(&first_key))?.read::<bf16>()?;
        let of_own = out.split_off(anchors * SHAPE.heads_q * SHAPE.dim);
        output.own.extend(of_own);
        output.anchor.extend(out);
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
fn passed_on(rank: &mut Rank<'_>, passing: Passing, parts: &[usize]) -> Result<KeyRows, Failure> {
    let candidates: Vec<_> = parts
        .iter()
        .map(|&part| passing.candidates(&rank.layout, part))
        .collect();
    let from = rank.keys(&candidates)?;
    let ends = candidates.iter().scan(0, |end, range| {
        *end += range.len();
        Some(*end)
    });
    let cut = rank.list([0].into_iter().chain(ends))?;
    let keys = Keys::packed(cut.view()?);
    let scores = match passing.method {
        Method::Apb => learned_scores(rank, &candidates)?,
        Method::Spava => scores_by_question(rank, &from, keys, parts.len())?,
    };

    let device = rank.meter.device.clone();
    let lists = [parts.len(), SHAPE.heads_kv, passing.passed];
    let mut lists = Array::zeros::<i32>(&device, &lists)?;
    let args = ChooseTokensArgs::new(scores.view()?, keys, lists.view_mut()?);
    rank.meter.run("choose_tokens", &rank.layer, args)?;
    let mut passed = rank.room(parts.len() * passing.passed)?;
    let shape = [parts.len(), passing.passed, SHAPE.heads_kv, SHAPE.dim];
    let (k_out, v_out) = (passed.k.shaped_mut(&shape)?, passed.v.shaped_mut(&shape)?);
    let args = GatherRowsArgs::new(from.k.view()?, from.v.view()?, keys, lists.view()?, k_out, v_out);
    rank.meter.run("gather_rows", &rank.layer, args)?;
    Ok(passed)
}

/// What APB's trained heads would give: `[parts, heads_kv, tokens]`, pooled.
fn learned_scores(rank: &Rank<'_>, candidates: &[Range<usize>]) -> Result<Array, Failure> {
    let part_len = rank.layout.part_len();
    let mut scores = Vec::new();
    for range in candidates {
        for head in 0..SHAPE.heads_kv {
            let pooled = pooled_scores(rank.prompt, Method::Apb, range.clone(), head);
            scores.extend(pooled.into_iter().map(|score| score as f32));
            scores.resize(scores.len() + part_len - range.len(), f32::NEG_INFINITY);
        }
    }
    Ok(rank.array(&scores, &[candidates.len(), SHAPE.heads_kv, part_len])?)
}

/// Spava's scores: by the queries of the prompt's last tokens, which every rank has.
fn scores_by_question(rank: &mut Rank<'_>, from: &KeyRows, keys: Keys<'_>, parts: usize) -> Result<Array, Failure> {
    let (tokens, part_len) = (rank.prompt.tokens, rank.layout.part_len());
    let questions = vec![tokens - QUESTION..tokens; parts];
    let q = rank.queries(&questions)?;
    let cut = rank.list((0..=parts).map(|part| part * QUESTION))?;
    let device = rank.meter.device.clone();
    let mut scores = Array::zeros::<f32>(&device, &[parts, SHAPE.heads_kv, part_len])?;
    let bytes = rank.layer.tokens_workspace_size(parts, QUESTION, 0);
    let mut workspace = Array::zeros::<u32>(&device, &[bytes.div_ceil(4)])?;
    let sequences = Sequences::new(cut.view()?, keys);
    let mut args = ScoreKeysArgs::new(q.view()?, from.k.view()?, sequences, scores.view_mut()?);
    args.pool = POOL;
    args.workspace = Some(workspace.view_mut()?);
    rank.meter.run("score_keys", &rank.layer, args)?;
    Ok(scores)
}
