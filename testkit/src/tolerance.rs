//! How far a result may be from its f64 reference.
//!
//! Every function takes what a kernel gave and what it should have given, and returns a [`Judgement`]. A number that should be there and
//! is NaN is as wrong as can be; where the expected number is beyond the type, the result may be its infinity or its largest number.

use crate::memory::POISON;
use half::{bf16, f16};
use sala_kernels::DType;
use sala_kernels::reference::select_blocks::{BlockScores, Config as Selection, Position};
use std::collections::BTreeMap;

/// The types that kernels compute in, as far as tolerances go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 8 bits of mantissa.
    Bf16,
    /// 11 bits of mantissa.
    F16,
}

impl Precision {
    fn pick(self, bf16: f64, f16: f64) -> f64 {
        match self {
            Precision::Bf16 => bf16,
            Precision::F16 => f16,
        }
    }

    /// The type, as tensors know it.
    pub fn dtype(self) -> DType {
        match self {
            Precision::Bf16 => DType::Bf16,
            Precision::F16 => DType::F16,
        }
    }

    /// The largest finite number of the type.
    pub fn largest(self) -> f64 {
        self.pick(bf16::MAX.to_f64(), f16::MAX.to_f64())
    }

    /// From a number to the next of the type.
    pub fn ulp(self, x: f64) -> f64 {
        let (bits, smallest) = match self {
            Precision::Bf16 => (7, -126),
            Precision::F16 => (10, -14),
        };
        let exponent = if x == 0.0 {
            smallest
        } else {
            (x.abs().log2().floor() as i32).max(smallest)
        };
        f64::from(exponent - bits).exp2()
    }
}

/// How a result compares with what was expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// The largest absolute difference.
    pub max_abs: f64,
    /// The norm of the difference over the norm of what was expected, of the whole tensor.
    pub relative: f64,
    /// Where blocks were selected: how many lists, one per query token and kv head, are exactly those expected, and how many there are.
    pub selection: Option<(usize, usize)>,
    /// By name of the bound, the largest share of it that an error takes: up to 1 is within tolerance.
    pub shares: BTreeMap<&'static str, f64>,
    /// What is out of tolerance first; `None` if nothing is.
    pub failure: Option<String>,
}

impl Judgement {
    /// Whether everything is within tolerance.
    pub fn is_pass(&self) -> bool {
        self.failure.is_none()
    }

    /// Both judgements as one: the larger errors and the first failure.
    pub fn and(mut self, other: Judgement) -> Judgement {
        self.merge_shares(&other.shares);
        Judgement {
            max_abs: larger(self.max_abs, other.max_abs),
            relative: larger(self.relative, other.relative),
            selection: self.selection.or(other.selection),
            shares: self.shares,
            failure: self.failure.or(other.failure),
        }
    }

    /// Nothing to compare: a failure that is no matter of numbers.
    pub fn failed(failure: String) -> Judgement {
        Judgement {
            max_abs: f64::NAN,
            relative: f64::NAN,
            failure: Some(failure),
            ..Judgement::default()
        }
    }

    /// Adds shares of bounds, of which the larger ones stay.
    pub fn merge_shares(&mut self, shares: &BTreeMap<&'static str, f64>) {
        for (name, &share) in shares {
            self.add_share(name, share);
        }
    }

    pub(crate) fn add_share(&mut self, name: &'static str, share: f64) {
        let largest = self.shares.entry(name).or_insert(0.0);
        *largest = larger(*largest, share);
    }

    /// The same, with the part of the result that it is of before the failure.
    pub fn within(self, part: impl FnOnce() -> String) -> Judgement {
        Judgement {
            failure: self.failure.map(|failure| format!("{}: {failure}", part())),
            ..self
        }
    }

    /// Panics with the failure, if there is one, after `context`.
    #[track_caller]
    pub fn assert(&self, context: &str) {
        if let Some(failure) = &self.failure {
            panic!(
                "{context}: {failure} (max abs {:.3e}, relative {:.3e})",
                self.max_abs, self.relative
            );
        }
    }

    fn fail(&mut self, failure: impl FnOnce() -> String) {
        self.failure.get_or_insert_with(failure);
    }
}

/// The share of its bound that an error takes.
pub(crate) fn share(error: f64, bound: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / bound }
}

/// Whether an error is out of its bound, as NaN always is.
pub(crate) fn exceeds(error: f64, bound: f64) -> bool {
    error.is_nan() || error > bound
}

/// The larger error; NaN is larger than any number.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Sums of squares of differences and of what was expected.
#[derive(Clone, Copy, Debug, Default)]
struct Squares {
    difference: f64,
    expected: f64,
    max_abs: f64,
}

impl Squares {
    fn of(got: &[f64], expected: &[f64], largest: f64) -> Squares {
        let mut squares = Squares::default();
        for (&got, &expected) in got.iter().zip(expected) {
            if got.is_nan() && expected.is_nan() {
                continue;
            }
            let expected = clamp(expected, largest);
            let difference = (clamp(got, largest) - expected).abs();
            squares.difference += difference * difference;
            squares.expected += expected * expected;
            squares.max_abs = larger(squares.max_abs, difference);
        }
        squares
    }

    fn add(&mut self, other: Squares) {
        self.difference += other.difference;
        self.expected += other.expected;
        self.max_abs = larger(self.max_abs, other.max_abs);
    }

    fn relative(&self) -> f64 {
        if self.difference == 0.0 {
            0.0
        } else {
            (self.difference / self.expected).sqrt()
        }
    }

    fn judgement(&self) -> Judgement {
        Judgement {
            max_abs: self.max_abs,
            relative: self.relative(),
            ..Judgement::default()
        }
    }
}

/// The nearest number of the type's range; NaN stays NaN.
fn clamp(x: f64, largest: f64) -> f64 {
    x.clamp(-largest, largest)
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// A judgement of results of the wrong size, which cannot be compared.
fn wrong_length(got: &[f64], expected: &[f64]) -> Option<Judgement> {
    if got.len() == expected.len() {
        return None;
    }
    let failure = format!("{} elements where {} were expected", got.len(), expected.len());
    Some(Judgement::failed(failure))
}

/// Attention outputs, rows of `dim_v`. `magnitude` is `Σ p·|v|` of each element: what cancelled in the sum may leave its rounding behind.
pub fn attention_out(
    precision: Precision,
    dim_v: usize,
    got: &[f64],
    expected: &[f64],
    magnitude: &[f64],
) -> Judgement {
    if let Some(judgement) = wrong_length(got, expected).or_else(|| wrong_length(magnitude, expected)) {
        return judgement;
    }
    let mut total = Squares::default();
    let mut worst = Judgement::default();
    for (row, ((got, expected), magnitude)) in got
        .chunks(dim_v)
        .zip(expected.chunks(dim_v))
        .zip(magnitude.chunks(dim_v))
        .enumerate()
    {
        let squares = Squares::of(got, expected, precision.largest());
        let bound = precision.pick(6e-3, 8e-4) * (norm(expected) + norm(magnitude) / 4.0);
        let error = squares.difference.sqrt();
        worst.add_share("out row", share(error, bound));
        // Rows of NaN have no bound.
        if error > 0.0 && exceeds(error, bound) || error.is_nan() {
            worst.fail(|| format!("out row {row} is off by {error:.3e}, more than {bound:.3e}"));
        }
        total.add(squares);
    }
    let mut judgement = total.judgement().and(worst);
    // Of few rows, in which few keys have most of the weight, roundings do not average out.
    let bound = match got.len() / dim_v.max(1) {
        ..16 => precision.pick(4.5e-3, 6e-4),
        _ => precision.pick(3e-3, 4e-4),
    };
    let relative = judgement.relative;
    judgement.add_share("out", share(relative, bound));
    if exceeds(relative, bound) {
        judgement.fail(|| format!("out is off by {relative:.3e} of its norm, more than {bound:.1e}"));
    }
    judgement
}

/// Logarithms of sums of exponentials.
pub fn lse(got: &[f64], expected: &[f64]) -> Judgement {
    if let Some(judgement) = wrong_length(got, expected) {
        return judgement;
    }
    let mut judgement = Judgement::default();
    for (row, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let is_same = got == expected || (got.is_nan() && expected.is_nan());
        let error = if is_same { 0.0 } else { (got - expected).abs() };
        let bound = 1e-4 + 1e-5 * expected.abs();
        judgement.max_abs = larger(judgement.max_abs, error);
        judgement.add_share("lse", share(error, bound));
        if !is_same && (exceeds(error, bound) || error.is_infinite()) {
            judgement.fail(|| format!("lse row {row} is {got} instead of {expected}"));
        }
    }
    judgement
}

/// Shapes of a linear-attention result.
#[derive(Clone, Copy, Debug)]
pub struct LinearShape<'a> {
    /// The type of q, k, v and the output.
    pub precision: Precision,
    /// Heads.
    pub heads: usize,
    /// Channels of a value.
    pub dim_v: usize,
    /// Token ranges of the sequences, `[batch + 1]`.
    pub cu_seqlens: &'a [i32],
}

/// Linear-attention outputs, `[tokens, heads, dim_v]`: relative RMS of each sequence and head.
pub fn linear_out(shape: LinearShape<'_>, got: &[f64], expected: &[f64]) -> Judgement {
    if let Some(judgement) = wrong_length(got, expected) {
        return judgement;
    }
    let LinearShape {
        precision,
        heads,
        dim_v,
        cu_seqlens,
    } = shape;
    let mut total = Squares::default();
    let mut worst = Judgement::default();
    for (sequence, pair) in cu_seqlens.windows(2).enumerate() {
        let tokens = pair[0] as usize..pair[1] as usize;
        // Of few tokens roundings do not average out, and where the products with q and with the state cancel they stay behind.
        let bound = match tokens.len() {
            16.. => precision.pick(4e-3, 6e-4),
            4.. => precision.pick(6e-3, 9e-4),
            _ => precision.pick(1.2e-2, 1.8e-3),
        };
        for head in 0..heads {
            let mut squares = Squares::default();
            for token in tokens.clone() {
                let row = (token * heads + head) * dim_v..(token * heads + head + 1) * dim_v;
                squares.add(Squares::of(&got[row.clone()], &expected[row], precision.largest()));
            }
            let relative = squares.relative();
            worst.add_share("out", share(relative, bound));
            if exceeds(relative, bound) {
                worst.fail(|| {
                    let length = tokens.len();
                    format!("out of sequence {sequence} (length {length}), head {head} is off by {relative:.3e} of its RMS, more than {bound:.1e}")
                });
            }
            total.add(squares);
        }
    }
    total.judgement().and(worst)
}

/// Linear-attention states, `head_len` elements per slot and head: relative RMS of each.
pub fn linear_state(precision: Precision, heads: usize, head_len: usize, got: &[f64], expected: &[f64]) -> Judgement {
    if let Some(judgement) = wrong_length(got, expected) {
        return judgement;
    }
    let bound = precision.pick(2.5e-3, 4e-4);
    let mut total = Squares::default();
    let mut worst = Judgement::default();
    for (index, (got, expected)) in got.chunks(head_len).zip(expected.chunks(head_len)).enumerate() {
        let squares = Squares::of(got, expected, f64::from(f32::MAX));
        let relative = squares.relative();
        worst.add_share("state", share(relative, bound));
        if exceeds(relative, bound) {
            let (slot, head) = (index / heads, index % heads);
            worst.fail(|| {
                format!(
                    "the state of slot {slot}, head {head} is off by {relative:.3e} of its RMS, more than {bound:.1e}"
                )
            });
        }
        total.add(squares);
    }
    total.judgement().and(worst)
}

/// Rows of compressed keys: means of sums in f32, each within one step of its type, and exactly [`POISON`] where there is no row. What cancelled in
/// a sum of keys of up to `largest` may leave its rounding behind.
pub fn compressed(precision: Precision, largest: f64, got: &[u16], expected: &[u16]) -> Judgement {
    if got.len() != expected.len() {
        return Judgement::failed(format!("{} elements where {} were expected", got.len(), expected.len()));
    }
    let number = |bits: u16| match precision {
        Precision::Bf16 => bf16::from_bits(bits).to_f64(),
        Precision::F16 => f16::from_bits(bits).to_f64(),
    };
    let share_of = |(&got, &expected): (&u16, &u16)| match (got == expected, expected) {
        (true, _) => 0.0,
        (false, POISON) => f64::INFINITY,
        _ => {
            let rounding = share((number(got) - number(expected)).abs(), largest * CANCELLED);
            rounding.min(f64::from(steps(got, expected)))
        }
    };
    let far = got.iter().zip(expected).position(|pair| share_of(pair) > 1.0);
    let most = got.iter().zip(expected).map(share_of).fold(0.0, f64::max);
    Judgement {
        shares: BTreeMap::from([("mean", most)]),
        failure: far.map(|at| {
            format!(
                "element {at} has the bits {:#06x} instead of {:#06x}",
                got[at], expected[at]
            )
        }),
        ..Judgement::default()
    }
}

/// What a mean of sums in f32 may be off by, of the largest number that went into it.
const CANCELLED: f64 = 1.0 / (1 << 22) as f64;

/// The distance of two 16-bit numbers, in steps of their type.
fn steps(a: u16, b: u16) -> u32 {
    let ordered = |bits: u16| {
        let magnitude = i32::from(bits & 0x7fff);
        if bits & 0x8000 != 0 { -magnitude } else { magnitude }
    };
    ordered(a).abs_diff(ordered(b))
}

/// Whether the score of a block is the expected one: the same infinity, or close.
pub fn is_near_score(got: f32, expected: f32) -> bool {
    got == expected || (expected.is_finite() && (got - expected).abs() <= expected.abs() / 1024.0)
}

/// The share of its bound that the error of a score takes.
pub(crate) fn score_share(got: f32, expected: f32) -> f64 {
    if got == expected {
        return 0.0;
    }
    share(f64::from((got - expected).abs()), f64::from(expected.abs()) / 1024.0)
}

/// Below this relative gap between the last chosen score and the nearest different one, either choice is right.
pub const SELECTION_MARGIN: f32 = 1.0 / 512.0;

/// How selections are compared.
#[derive(Clone, Copy, Debug)]
pub struct SelectionCase<'a> {
    /// The constants of the selection.
    pub config: &'a Selection,
    /// Where the query tokens stand.
    pub positions: &'a [Option<Position>],
    /// The reference scores.
    pub scores: &'a BlockScores,
    /// `[total_q, heads_kv]`: known gaps at the cut, relative, in place of what the scores say.
    pub margin: Option<&'a [f32]>,
    /// `[total_q, heads_kv, width]` and `width`: the scores that the lists were chosen by, as far as they are known. They say what ties are; without
    /// them the reference does, whose scores may be equal by chance.
    pub own: Option<(&'a [f32], usize)>,
}

/// What [`selection`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectionJudgement {
    /// `[total_q, heads_kv]`: whether the row has exactly the expected set.
    pub same: Vec<bool>,
    /// What is wrong first; `None` if every difference is a near tie.
    pub failure: Option<String>,
}

impl SelectionJudgement {
    /// How many lists are exactly those expected, and how many there are.
    pub fn count(&self) -> (usize, usize) {
        let same = self.same.iter().filter(|&&same| same).count();
        (same, self.same.len())
    }
}

/// Lists of chosen blocks, `[total_q, heads_kv, list_len]`: a block that only one of the two sets holds must score within 2⁻¹⁰ of the
/// last chosen one, and of exactly equal scores the lower indices must have been chosen.
pub fn selection(case: SelectionCase<'_>, got: &[i32], expected: &[i32]) -> SelectionJudgement {
    let SelectionCase {
        config,
        positions,
        scores,
        margin,
        own,
    } = case;
    let mut judgement = SelectionJudgement {
        same: Vec::new(),
        failure: None,
    };
    if got.len() != expected.len() {
        judgement.failure = Some(format!(
            "{} list entries where {} were expected",
            got.len(),
            expected.len()
        ));
        return judgement;
    }
    let length = config.list_len();
    for (row, (got, expected)) in got.chunks(length).zip(expected.chunks(length)).enumerate() {
        let is_same = got == expected;
        judgement.same.push(is_same);
        let Some(position) = positions[row / config.heads_kv].filter(|_| !is_same) else {
            if !is_same {
                judgement
                    .failure
                    .get_or_insert_with(|| format!("row {row} sees no key and has the blocks {got:?}"));
            }
            continue;
        };
        let query_block = position.position / config.block_size;
        let row_scores = &scores.scores[row * scores.blocks..(row + 1) * scores.blocks];
        let ties = own.map_or(row_scores, |(scores, width)| &scores[row * width..(row + 1) * width]);
        let result = match margin {
            _ if !is_list(got, query_block) => Err("is no ascending list of candidates".to_string()),
            Some(margin) if margin[row] < SELECTION_MARGIN => Ok(()),
            Some(_) => Err("differs where the choice is clear".to_string()),
            None => near_ties_only(config, query_block, [row_scores, ties], got, expected),
        };
        if let Err(what) = result {
            let message = || {
                format!(
                    "row {row} at position {}: {got:?} {what}; expected {expected:?}",
                    position.position
                )
            };
            judgement.failure.get_or_insert_with(message);
        }
    }
    judgement
}

/// Whether the entries ascend, name candidates only, and end in −1 alone.
fn is_list(list: &[i32], query_block: usize) -> bool {
    let filled = list.iter().take_while(|&&block| block != -1).count();
    let (blocks, rest) = list.split_at(filled);
    let candidates = 0..=query_block as i32;
    rest.iter().all(|&block| block == -1)
        && blocks.iter().all(|block| candidates.contains(block))
        && blocks.windows(2).all(|pair| pair[0] < pair[1])
}

/// Whether the two sets differ by near ties at the cut alone.
fn near_ties_only(
    config: &Selection,
    query_block: usize,
    [scores, ties]: [&[f32]; 2],
    got: &[i32],
    expected: &[i32],
) -> Result<(), String> {
    let count = |list: &[i32]| list.iter().filter(|&&block| block != -1).count();
    if count(got) != count(expected) {
        return Err("has another number of blocks".into());
    }
    let is_forced = |block: i32| config.is_forced(block as usize, query_block);
    let free = |list: &[i32]| -> Vec<i32> { list.iter().copied().filter(|&b| b != -1 && !is_forced(b)).collect() };
    let (got, expected) = (free(got), free(expected));
    if got.len() != expected.len() {
        return Err("lacks a forced block".into());
    }
    let score = |block: i32| scores[block as usize];
    let cut = expected.iter().map(|&b| score(b)).fold(f32::INFINITY, f32::min);
    let one_sided = got
        .iter()
        .filter(|b| !expected.contains(b))
        .chain(expected.iter().filter(|b| !got.contains(b)));
    for &block in one_sided {
        let is_near = score(block) == cut || (score(block) - cut).abs() <= cut.abs() / 1024.0;
        if !is_near {
            return Err(format!(
                "differs in block {block}, whose score {} is not near the cut {cut}",
                score(block)
            ));
        }
    }
    for &chosen in &got {
        let tie = |block: i32| ties.get(block as usize);
        let is_tie = |block: i32| tie(block).is_some_and(|score| tie(chosen) == Some(score));
        let passed_over = (0..chosen).find(|b| !is_forced(*b) && !got.contains(b) && is_tie(*b));
        if let Some(lower) = passed_over {
            return Err(format!("has block {chosen} but not {lower}, which scores the same"));
        }
    }
    Ok(())
}
