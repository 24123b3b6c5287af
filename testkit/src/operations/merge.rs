//! Merges of attention over two sets of keys as data.

use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::Numbers;
use crate::problem::{Described, Problem, Run, same_bits, submit};
use crate::property::{packings, precisions, seeds, spoils};
use crate::replay;
use crate::tolerance::{Judgement, Precision, lse};
use crate::values::Values;
use half::{bf16, f16};
use proptest::prelude::*;
use sala_kernels::reference::merge::{self as reference, Merged};
use sala_kernels::{Merge, MergeArgs, Result, Status};
use std::time::Duration;

/// Attention over one set of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// `[tokens, heads, dim]`.
    pub out: Values,
    /// `[tokens, heads]`.
    pub lse: Vec<f32>,
}

/// Where the result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Apart,
    /// Over this side.
    Over(usize),
}

/// A merge.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeProblem {
    pub tokens: usize,
    pub heads: usize,
    pub dim: usize,
    pub sides: [Side; 2],
    pub place: Place,
    /// How tensors lie in memory.
    pub packing: Packing,
}

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct MergeRun {
    /// `[tokens, heads, dim]`.
    pub out: Values,
    /// `[tokens, heads]`.
    pub lse: Vec<f32>,
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl MergeProblem {
    /// Normal rows, whose logarithms are `spread` apart or so. Some sides saw no key, and hold NaN.
    pub fn normal(precision: Precision, [tokens, heads, dim]: [usize; 3], spread: f64, seed: u64) -> MergeProblem {
        let mut numbers = Numbers::new(seed);
        let rows = tokens * heads;
        let sides = [0, 1].map(|_| {
            let mut out = Values::round(precision, numbers.normals(rows * dim, 1.0));
            let mut lse: Vec<f32> = numbers.normals(rows, spread).into_iter().map(|x| x as f32).collect();
            for (row, lse) in lse.iter_mut().enumerate() {
                if numbers.below(6) == 0 {
                    *lse = f32::NEG_INFINITY;
                    out.poison(row * dim..(row + 1) * dim);
                }
            }
            Side { out, lse }
        });
        MergeProblem {
            tokens,
            heads,
            dim,
            sides,
            place: Place::Apart,
            packing: Packing::Separate,
        }
    }

    /// Rows of a side.
    pub fn rows(&self) -> usize {
        self.tokens * self.heads
    }

    fn precision(&self) -> Precision {
        self.sides[0].out.precision()
    }
}

/// What the tensors of a side are called.
const NAMES: [[&str; 2]; 2] = [["out1", "lse1"], ["out2", "lse2"]];

impl Problem for MergeProblem {
    type Layer = Merge;
    type Run = MergeRun;
    type Reference = Merged;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Merged {
        let [first, second] = &self.sides;
        let lse = [&first.lse[..], &second.lse[..]];
        match (&first.out, &second.out) {
            (Values::Bf16(first), Values::Bf16(second)) => reference::merge::<bf16>(self.dim, [first, second], lse),
            (Values::F16(first), Values::F16(second)) => reference::merge::<f16>(self.dim, [first, second], lse),
            _ => panic!("sides of one type"),
        }
    }

    fn layer(&self) -> Result<Merge> {
        Merge::new(self.sides[0].out.dtype())
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let (shape, precision) = ([self.tokens, self.heads], self.precision());
        let mut memory = Memory::new(&machine.device);
        let mut add = |[out_name, lse_name]: [&'static str; 2], side: Option<&Side>| {
            let out = side.map(|side| &side.out);
            memory.add_rows(precision, self.packing, shape, &[(out_name, self.dim, out)])?;
            memory.add(lse_name, &shape, self.packing.gap(), side.map(|side| &side.lse[..]))
        };
        for (index, side) in self.sides.iter().enumerate() {
            match self.place {
                Place::Over(over) if over == index => add(["out", "lse"], Some(side))?,
                _ => add(NAMES[index], Some(side))?,
            }
        }
        if self.place == Place::Apart {
            add(["out", "lse"], None)?;
        }
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, merge: &Merge, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let memory = &*memory;
        let [first, second] = NAMES.map(|[out, lse]| memory.get(out).zip(memory.get(lse)));
        let args = MergeArgs::new(first, second, memory.tensor_mut("out"), memory.tensor_mut("lse"));
        submit(machine, merge, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<MergeRun> {
        Ok(MergeRun {
            out: memory.values("out")?,
            lse: memory.read("lse")?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    /// Each element is rounded once, and carries the rounding of weights and sums in f32.
    fn judge(&self, run: &MergeRun, reference: &Merged) -> Judgement {
        let logarithms: Vec<f64> = run.lse.iter().map(|&x| f64::from(x)).collect();
        let mut judgement = lse(&logarithms, &reference.lse);
        let (got, precision) = (run.out.to_f64(), self.precision());
        if got.len() != reference.out.len() {
            return Judgement::failed("another length".into());
        }
        let elements = got.into_iter().zip(&reference.out).zip(&reference.magnitude);
        for (index, ((got, &expected), &magnitude)) in elements.enumerate() {
            let is_same = got == expected || (got.is_nan() && expected.is_nan());
            if is_same || (expected.abs() > precision.largest() && got.is_infinite()) {
                continue;
            }
            let error = (got - expected).abs();
            let share = error / (0.505 * precision.ulp(expected) + 4e-6 * magnitude);
            judgement.max_abs = judgement.max_abs.max(error);
            judgement.add_share("out", share);
            if share.is_nan() || share > 1.0 {
                judgement
                    .failure
                    .get_or_insert_with(|| format!("element {index} is {got} instead of {expected}"));
            }
        }
        judgement
    }

    fn refused(&self, _: &Merged) -> Status {
        Status::default()
    }

    fn replay(&self) -> Option<Vec<u8>> {
        replay::merge_bytes(self)
    }
}

impl Run for MergeRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &MergeRun) -> Option<String> {
        if !same_bits(&self.lse, &other.lse) {
            return Some("lse".into());
        }
        (self.out.to_bits() != other.out.to_bits()).then(|| "out".into())
    }
}

/// Few and many heads, in both types, apart and in place.
pub(super) fn samples(seed: u64) -> Vec<MergeProblem> {
    let apart = MergeProblem::normal(Precision::Bf16, [5, 3, 128], 2.0, seed);
    let first = MergeProblem {
        place: Place::Over(0),
        packing: Packing::Fused,
        ..MergeProblem::normal(Precision::F16, [3, 37, 64], 5.0, seed)
    };
    let second = MergeProblem {
        place: Place::Over(1),
        packing: Packing::HeadMajor,
        ..MergeProblem::normal(Precision::Bf16, [2, 33, 128], 30.0, seed)
    };
    vec![apart, first, second]
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct MergeCase {
    pub precision: Precision,
    pub shape: [usize; 3],
    /// How far logarithms lie apart.
    pub spread: f64,
    pub place: Place,
    pub packing: Packing,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl Described for MergeCase {
    type Problem = MergeProblem;

    fn problem(&self) -> MergeProblem {
        MergeProblem {
            place: self.place,
            packing: self.packing,
            ..MergeProblem::normal(self.precision, self.shape, self.spread, self.seed)
        }
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

/// Merges of any number of heads, of sides that are alike and far apart.
pub(super) fn random() -> BoxedStrategy<MergeCase> {
    let shape = (0usize..9, 1usize..70, prop::sample::select(vec![64usize, 128]));
    let spread = prop::sample::select(vec![0.0, 1.0, 10.0, 100.0, 1e4, 1e30]);
    let place = prop::sample::select(vec![Place::Apart, Place::Over(0), Place::Over(1)]);
    ((precisions(), shape, spread, place), (packings(), seeds(), spoils()))
        .prop_map(
            |((precision, (tokens, heads, dim), spread, place), (packing, seed, spoiled))| MergeCase {
                precision,
                shape: [tokens, heads, dim],
                spread,
                place,
                packing,
                seed,
                spoiled,
            },
        )
        .boxed()
}
