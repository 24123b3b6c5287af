//! Norms, rotary embedding and gate as data.

pub mod random;

use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::Numbers;
use crate::problem::{Problem, Run, submit};
use crate::replay;
use crate::tolerance::{Judgement, Precision};
use crate::values::Values;
use half::{bf16, f16};
use sala_kernels::reference::norms::{self as reference, Rotation};
use sala_kernels::{Norm, NormGateArgs, NormRopeArgs, Result, Status, SumSquaresArgs, rotary_cos_sin};
use std::time::Duration;

/// What follows the norm.
#[derive(Clone, Debug, PartialEq)]
pub enum Follows {
    /// Rotary embedding of heads of `dim` channels.
    Rope {
        dim: usize,
        with_weight: bool,
        /// `[tokens]`, rows of a table `[count, dim]` of cosines and sines.
        positions: Option<(Vec<i32>, Vec<f32>)>,
    },
    /// A gate.
    Gate {
        /// `[tokens, channels]`.
        gate: Values,
        /// `[tokens]`, and the channels that they are of.
        sums: Option<(Vec<f32>, usize)>,
    },
    /// Nothing: sums of squares are given.
    Sums,
}

/// One call with its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct NormProblem {
    pub follows: Follows,
    /// `[tokens, channels]`.
    pub x: Values,
    /// `[channels]`, of a head before rotary embedding.
    pub weight: Values,
    pub tokens: usize,
    /// Of a token, those of all heads.
    pub channels: usize,
    pub eps: f32,
    /// Whether the output takes the place of x.
    pub in_place: bool,
    /// How tensors of tokens lie in memory.
    pub packing: Packing,
}

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct NormRun {
    /// Bits of 16-bit outputs, or sums.
    pub out: Vec<f64>,
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

/// What a call should give.
#[derive(Clone, Debug, PartialEq)]
pub struct Normed {
    pub out: Vec<f64>,
    pub refused: u32,
}

/// Positions of a table: with rows far apart, it has to leave room in the address space for a sanitizer's shadow.
const TABLE: usize = 1000;

impl NormProblem {
    /// Rotary embedding of normal rows, at positions that the table has.
    pub fn rope(precision: Precision, [tokens, heads, dim]: [usize; 3], seed: u64) -> NormProblem {
        let mut numbers = Numbers::new(seed);
        let mut tensor = |count: usize| Values::round(precision, numbers.normals(count, 1.0));
        let (x, weight) = (tensor(tokens * heads * dim), tensor(dim));
        let positions = (0..tokens).map(|_| numbers.below(TABLE) as i32).collect();
        NormProblem {
            follows: Follows::Rope {
                dim,
                with_weight: true,
                positions: Some((positions, turns(TABLE, dim))),
            },
            x,
            weight,
            tokens,
            channels: heads * dim,
            eps: 1e-6,
            in_place: false,
            packing: Packing::Separate,
        }
    }

    /// Gated normal rows.
    pub fn gate(precision: Precision, [tokens, channels]: [usize; 2], seed: u64) -> NormProblem {
        let mut numbers = Numbers::new(seed);
        let mut tensor = |count: usize, size: f64| Values::round(precision, numbers.normals(count, size));
        NormProblem {
            follows: Follows::Gate {
                gate: tensor(tokens * channels, 3.0),
                sums: None,
            },
            x: tensor(tokens * channels, 1.0),
            weight: tensor(channels, 1.0),
            tokens,
            channels,
            eps: 1e-6,
            in_place: false,
            packing: Packing::Separate,
        }
    }

    /// The sums of squares of the rows.
    pub fn sums(&self) -> NormProblem {
        NormProblem {
            follows: Follows::Sums,
            ..self.clone()
        }
    }

    /// `[tokens, heads, dim]` before rotary embedding, else `[tokens, channels]`.
    fn shape(&self) -> Vec<usize> {
        match self.follows {
            Follows::Rope { dim, .. } => vec![self.tokens, self.channels / dim, dim],
            Follows::Gate { .. } | Follows::Sums => vec![self.tokens, self.channels],
        }
    }

    fn reference_of<T: sala_kernels::reference::Value>(&self, x: &[T], weight: &[T], gate: &[T]) -> Normed {
        match &self.follows {
            Follows::Rope {
                dim,
                with_weight,
                positions,
            } => {
                let rotation = positions.as_ref();
                let rotation = rotation.map(|(positions, cos_sin)| Rotation { cos_sin, positions });
                let weight = with_weight.then_some(weight);
                let shape = [self.channels / dim, *dim];
                let (out, refused) = reference::norm_rope(x, shape, weight, rotation, self.eps);
                Normed { out, refused }
            }
            Follows::Gate { sums, .. } => {
                let sums = sums.as_ref().map(|(sums, covered)| (&sums[..], *covered));
                Normed {
                    out: reference::norm_gate(x, weight, gate, sums, self.eps),
                    refused: 0,
                }
            }
            Follows::Sums => Normed {
                out: reference::sum_squares(x, self.channels),
                refused: 0,
            },
        }
    }
}

impl Problem for NormProblem {
    type Layer = Norm;
    type Run = NormRun;
    type Reference = Normed;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Normed {
        let gate = match &self.follows {
            Follows::Gate { gate, .. } => gate,
            Follows::Rope { .. } | Follows::Sums => &self.x,
        };
        match (&self.x, &self.weight, gate) {
            (Values::Bf16(x), Values::Bf16(weight), Values::Bf16(gate)) => self.reference_of::<bf16>(x, weight, gate),
            (Values::F16(x), Values::F16(weight), Values::F16(gate)) => self.reference_of::<f16>(x, weight, gate),
            _ => panic!("tensors of one type"),
        }
    }

    fn layer(&self) -> Result<Norm> {
        Norm::new(self.x.dtype(), self.eps)
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let (precision, shape) = (self.x.precision(), self.shape());
        // Rows start at multiples of 16 bytes.
        let gap = self.packing.gap().next_multiple_of(8);
        let mut memory = Memory::new(&machine.device);
        if self.in_place {
            memory.add_values("out", precision, &shape, gap, Some(&self.x))?;
        } else {
            memory.add_values("x", precision, &shape, gap, Some(&self.x))?;
        }
        match self.follows {
            Follows::Sums => memory.add::<f32>("out", &[self.tokens], 0, None)?,
            _ if self.in_place => {}
            _ => memory.add_values("out", precision, &shape, gap, None)?,
        }
        memory.add_values("weight", precision, &[self.weight.len()], 0, Some(&self.weight))?;
        match &self.follows {
            Follows::Rope {
                dim,
                positions: Some((positions, cos_sin)),
                ..
            } => {
                memory.add(
                    "cos_sin",
                    &[cos_sin.len() / dim, *dim],
                    self.packing.gap(),
                    Some(cos_sin),
                )?;
                memory.add("positions", &[self.tokens], 0, Some(positions))?;
            }
            Follows::Gate { gate, sums } => {
                memory.add_values("gate", precision, &shape, gap, Some(gate))?;
                if let Some((sums, _)) = sums {
                    memory.add("sum_squares", &[self.tokens], 0, Some(sums))?;
                }
            }
            Follows::Rope { .. } | Follows::Sums => {}
        }
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, norm: &Norm, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let memory = &*memory;
        let (x, weight, out) = (memory.get("x"), memory.tensor("weight"), memory.tensor_mut("out"));
        match &self.follows {
            Follows::Rope { with_weight, .. } => {
                let mut args = NormRopeArgs::new(x, out);
                args.weight = with_weight.then_some(weight);
                args.cos_sin = memory.get("cos_sin");
                args.positions = memory.get("positions");
                args.status = memory.get_mut("status");
                submit(machine, norm, args)
            }
            Follows::Gate { sums, .. } => {
                let mut args = NormGateArgs::new(x, weight, memory.tensor("gate"), out);
                let given = memory.get("sum_squares");
                args.sum_squares = sums.as_ref().and_then(|(_, covered)| Some((given?, *covered)));
                submit(machine, norm, args)
            }
            Follows::Sums => submit(machine, norm, SumSquaresArgs::new(memory.tensor("x"), out)),
        }
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<NormRun> {
        let out = match self.follows {
            Follows::Sums => memory.read::<f32>("out")?.into_iter().map(f64::from).collect(),
            Follows::Rope { .. } | Follows::Gate { .. } => memory.values("out")?.to_f64(),
        };
        Ok(NormRun {
            out,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    fn judge(&self, run: &NormRun, reference: &Normed) -> Judgement {
        let precision = self.x.precision();
        let expected = &reference.out;
        let allowed = |index: usize| match &self.follows {
            // Of the larger of the two channels that turn together.
            Follows::Rope { dim, .. } => {
                let (row, channel) = (index / dim * dim, index % dim);
                let pair = row + (channel + dim / 2) % dim;
                3.0 * precision.ulp(expected[index].abs().max(expected[pair].abs())) + 1e-5
            }
            Follows::Gate { .. } => 2.0 * precision.ulp(expected[index]) + 1e-5,
            Follows::Sums => 1e-5 * expected[index],
        };
        let mut judgement = Judgement::default();
        for (index, (&got, &expected)) in run.out.iter().zip(expected).enumerate() {
            let is_same = got == expected || (got.is_nan() && expected.is_nan());
            if is_same || (expected.abs() > precision.largest() && got.is_infinite()) {
                continue;
            }
            let error = (got - expected).abs();
            let share = error / allowed(index);
            judgement.max_abs = judgement.max_abs.max(error);
            judgement.add_share("out", share);
            if share.is_nan() || share > 1.0 {
                judgement
                    .failure
                    .get_or_insert_with(|| format!("element {index} is {got} instead of {expected}"));
            }
        }
        if run.out.len() != expected.len() {
            judgement.failure = Some("another length".into());
        }
        judgement
    }

    fn refused(&self, reference: &Normed) -> Status {
        Status::from([0, 0, reference.refused, 0])
    }

    fn replay(&self) -> Option<Vec<u8>> {
        replay::norm_bytes(self)
    }
}

impl Run for NormRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &NormRun) -> Option<String> {
        let bits = |run: &NormRun| run.out.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        (bits(self) != bits(other)).then(|| "out".into())
    }
}

/// The table of so many positions.
pub fn turns(count: usize, dim: usize) -> Vec<f32> {
    rotary_cos_sin(count, dim, 10_000.0).expect("an even number of channels")
}

/// Ragged heads and channels, in both types, with and without options.
pub(super) fn samples(seed: u64) -> Vec<NormProblem> {
    let rope = NormProblem::rope(Precision::Bf16, [7, 3, 128], seed);
    let plain = NormProblem {
        follows: Follows::Rope {
            dim: 64,
            with_weight: false,
            positions: None,
        },
        in_place: true,
        ..NormProblem::rope(Precision::F16, [5, 1, 64], seed)
    };
    let outside = NormProblem {
        follows: Follows::Rope {
            dim: 64,
            with_weight: true,
            positions: Some((vec![0, -1, 8, 7], turns(8, 64))),
        },
        packing: Packing::Fused,
        ..NormProblem::rope(Precision::F16, [4, 2, 64], seed)
    };
    let gate = NormProblem::gate(Precision::Bf16, [3, 4096], seed);
    let narrow = NormProblem {
        in_place: true,
        packing: Packing::Fused,
        ..NormProblem::gate(Precision::F16, [5, 136], seed)
    };
    let sums = gate.sums();
    vec![rope, plain, outside, gate, narrow, sums]
}
