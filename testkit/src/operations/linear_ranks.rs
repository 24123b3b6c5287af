//! Sequences whose parts are on several ranks as data: decay added up, states merged, outputs corrected.

pub mod random;

use super::linear_attention::cases::{DecayCase, decay_values};
use super::linear_attention::{DecayValues, layer};
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::{Numbers, cumulative};
use crate::problem::{Problem, Run, same_bits, submit};
use crate::tolerance::{Judgement, Precision, share};
use crate::values::Values;
use sala_kernels::reference::linear_attention::{self as reference, Config, Output, States, Sums};
use sala_kernels::reference::sequences;
use sala_kernels::{
    LinearAttention, LinearCorrectArgs, MergeStates, MergeStatesArgs, Result, Split, Status, SumDecayArgs,
};
use std::time::Duration;

/// What is done with the parts of sequences.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Their decay is added up.
    Sum { decay: DecayValues },
    /// What they add to states is merged.
    Merge {
        /// `[parts · batch, heads_q, dim_k, dim_v]`, in the layout of states.
        adds: Vec<f32>,
        /// `[parts · batch, heads_q]`.
        total: Vec<f32>,
        /// `[parts + 1, batch]`.
        state_out: Vec<i32>,
    },
    /// Outputs are corrected.
    Correct {
        /// `[tokens, heads_q, dim_k]`.
        q: Values,
        /// `[tokens, heads_q]`.
        cumulative: Vec<f32>,
        /// `[tokens, heads_q, dim_v]`, as they are before.
        out: Values,
    },
}

/// One call with its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct RanksProblem {
    pub step: Step,
    pub config: Config,
    pub precision: Precision,
    /// `[batch + 1]`; of a merge its length alone counts.
    pub cu_seqlens: Vec<i32>,
    pub tokens: usize,
    /// The pool of states before the call; empty where decay is added up.
    pub pool: Vec<f32>,
    /// `[batch]`.
    pub state_in: Vec<i32>,
    pub packing: Packing,
}

/// What a step is launched with.
#[derive(Debug)]
pub enum RanksLayer {
    Linear(LinearAttention),
    Merge(MergeStates),
}

/// What the definition says of a step.
#[derive(Debug)]
pub enum Answer {
    Sums(Sums),
    States(Output),
}

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct RanksRun {
    /// Corrected outputs.
    pub out: Option<Values>,
    /// The sums, cumulative and total, or the pool.
    pub numbers: [Vec<f32>; 2],
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl RanksProblem {
    fn new(precision: Precision, config: Config, lengths: &[usize], step: Step) -> RanksProblem {
        RanksProblem {
            step,
            config,
            precision,
            cu_seqlens: cumulative(lengths),
            tokens: lengths.iter().sum(),
            pool: Vec::new(),
            state_in: vec![-1; lengths.len()],
            packing: Packing::Separate,
        }
    }

    /// The decay of sequences of these lengths.
    pub fn sum(config: Config, lengths: &[usize], decay: DecayCase, seed: u64) -> RanksProblem {
        let tokens = lengths.iter().sum();
        let decay = decay_values(decay, &mut Numbers::new(seed), config.heads_q, tokens);
        Self::new(Precision::Bf16, config, lengths, Step::Sum { decay })
    }

    /// Normal states of `parts` parts of `batch` sequences, which begin in a slot each but for the first one. All states on the way are stored, but
    /// those before the first part.
    pub fn merge(config: Config, [parts, batch]: [usize; 2], seed: u64) -> RanksProblem {
        let mut numbers = Numbers::new(seed);
        let mut states = |count: usize| -> Vec<f32> {
            let normals = numbers.normals(count * config.slot_len(), 3.0);
            normals.into_iter().map(|x| x as f32).collect()
        };
        let (adds, mut pool) = (states(parts * batch), states(batch));
        pool.resize((batch + parts * batch) * config.slot_len(), f32::NAN);
        let choices = [0.0, -1e-6, -0.3, -5.0, -200.0, f32::NEG_INFINITY, 0.5];
        let total = (0..parts * batch * config.heads_q)
            .map(|_| numbers.pick(&choices))
            .collect();
        let out_slots = (batch..batch + parts * batch).map(|slot| slot as i32);
        let state_out = vec![-1; batch].into_iter().chain(out_slots).collect();
        let step = Step::Merge { adds, total, state_out };
        let mut state_in: Vec<i32> = (0..batch as i32).collect();
        if let Some(first) = state_in.first_mut() {
            *first = -1;
        }
        RanksProblem {
            pool,
            state_in,
            ..Self::new(Precision::Bf16, config, &vec![0; batch], step)
        }
    }

    /// Normal outputs and queries of sequences that begin in a slot each, in reverse order; the slot after those is NaN.
    pub fn correct(
        precision: Precision,
        config: Config,
        lengths: &[usize],
        decay: DecayCase,
        seed: u64,
    ) -> RanksProblem {
        let mut numbers = Numbers::new(seed);
        let tokens: usize = lengths.iter().sum();
        let mut tensor = |dim: usize| Values::round(precision, numbers.normals(tokens * config.heads_q * dim, 1.0));
        let (q, out) = (tensor(config.dim_k), tensor(config.dim_v));
        let decay = decay_values(decay, &mut numbers, config.heads_q, tokens);
        let sums = reference::sum_decay(&config, tokens, &cumulative(lengths), decay.as_reference());
        let step = Step::Correct {
            q,
            cumulative: sums.cumulative.into_iter().map(|sum| sum as f32).collect(),
            out,
        };
        let states = numbers.normals(lengths.len() * config.slot_len(), 3.0);
        let mut pool: Vec<f32> = states.into_iter().map(|x| x as f32).collect();
        pool.resize((lengths.len() + 1) * config.slot_len(), f32::NAN);
        RanksProblem {
            pool,
            state_in: (0..lengths.len() as i32).rev().collect(),
            ..Self::new(precision, config, lengths, step)
        }
    }

    pub fn batch(&self) -> usize {
        self.state_in.len()
    }

    /// The shape of so many states.
    fn states(&self, count: usize) -> [usize; 4] {
        let Config {
            heads_q, dim_k, dim_v, ..
        } = self.config;
        let [rows, columns] = if self.config.state_is_vk {
            [dim_v, dim_k]
        } else {
            [dim_k, dim_v]
        };
        [count, heads_q, rows, columns]
    }

    /// How far a corrected output may be off: it is rounded once, and so is the state as an operand.
    fn bound(&self, q: &[f64], token: usize, head: usize, column: usize, factor: f64, state: &[f64]) -> f64 {
        let Config {
            heads_q,
            dim_k,
            dim_v,
            scale,
            ..
        } = self.config;
        let query = &q[(token * heads_q + head) * dim_k..][..dim_k];
        let channel = || state.iter().skip(column).step_by(dim_v).map(|s| s.abs());
        let products: f64 = query.iter().zip(channel()).map(|(q, s)| q.abs() * s).sum();
        let largest = channel().fold(0.0, f64::max) * query.iter().map(|q| q.abs()).sum::<f64>();
        let operand = match self.precision {
            Precision::Bf16 => 0.0021,
            Precision::F16 => 0.000_26,
        };
        f64::from(scale).abs() * factor * (operand * products + 1e-6 * largest)
    }
}

impl Problem for RanksProblem {
    type Layer = RanksLayer;
    type Run = RanksRun;
    type Reference = Answer;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Answer {
        let states = States {
            pool: &self.pool,
            state_in: Some(&self.state_in),
            ..States::default()
        };
        match &self.step {
            Step::Sum { decay } => {
                let decay = decay.as_reference();
                Answer::Sums(reference::sum_decay(&self.config, self.tokens, &self.cu_seqlens, decay))
            }
            Step::Merge { adds, total, state_out } => {
                let states = States {
                    state_out: Some(state_out),
                    ..states
                };
                Answer::States(reference::merge_states(&self.config, adds, total, &states))
            }
            Step::Correct { q, cumulative, out } => {
                let (q, out) = (q.to_f64(), out.to_f64());
                let cu_seqlens = &self.cu_seqlens;
                Answer::States(reference::correct(
                    &self.config,
                    &q,
                    cumulative,
                    cu_seqlens,
                    &states,
                    &out,
                ))
            }
        }
    }

    fn layer(&self) -> Result<RanksLayer> {
        let none = DecayValues::None;
        let decay = match &self.step {
            Step::Merge { .. } => return Ok(RanksLayer::Merge(MergeStates::new()?)),
            Step::Sum { decay } => decay,
            Step::Correct { .. } => &none,
        };
        let layer = layer(&self.config, self.precision.dtype(), decay, Split::default())?;
        Ok(RanksLayer::Linear(layer))
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let Config {
            heads_q: heads,
            dim_k,
            dim_v,
            ..
        } = self.config;
        let (tokens, gap) = (self.tokens, self.packing.gap());
        let pool_gap = gap.next_multiple_of(4);
        let mut memory = Memory::new(&machine.device);
        match &self.step {
            Step::Sum { decay } => {
                match decay {
                    DecayValues::None => {}
                    DecayValues::PerHead(g) => memory.add("log_decay", &[heads], gap, Some(g))?,
                    DecayValues::PerToken(g) => memory.add("log_decay", &[tokens, heads], gap, Some(g))?,
                }
                memory.add::<f32>("cumulative", &[tokens, heads], gap, None)?;
                memory.add::<f32>("total", &[self.batch(), heads], gap, None)?;
            }
            Step::Merge { adds, total, state_out } => {
                let entries = total.len() / heads;
                memory.add("adds", &self.states(entries), pool_gap, Some(adds))?;
                memory.add("total", &[entries, heads], gap, Some(total))?;
                let states = state_out.len().checked_div(self.batch()).unwrap_or(1);
                memory.add("state_out", &[states, self.batch()], 0, Some(state_out))?;
            }
            Step::Correct { q, cumulative, out } => {
                memory.add_rows(self.precision, self.packing, [tokens, heads], &[("q", dim_k, Some(q))])?;
                memory.add_rows(
                    self.precision,
                    self.packing,
                    [tokens, heads],
                    &[("out", dim_v, Some(out))],
                )?;
                memory.add("cumulative", &[tokens, heads], gap, Some(cumulative))?;
            }
        }
        if !matches!(self.step, Step::Sum { .. }) {
            let slots = self.pool.len() / self.config.slot_len();
            memory.add("state", &self.states(slots), pool_gap, Some(&self.pool))?;
            memory.add("state_in", &[self.batch()], 0, Some(&self.state_in))?;
        }
        if !matches!(self.step, Step::Merge { .. }) {
            memory.add("cu_seqlens", &[self.cu_seqlens.len()], 0, Some(&self.cu_seqlens))?;
        }
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &RanksLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let memory = &*memory;
        let tensor = |name| memory.tensor(name);
        match (layer, &self.step) {
            (RanksLayer::Merge(merge), _) => {
                let (state, slots) = (memory.tensor_mut("state"), tensor("state_in"));
                let mut args = MergeStatesArgs::new(tensor("adds"), tensor("total"), state, slots, tensor("state_out"));
                args.status = memory.get_mut("status");
                submit(machine, merge, args)
            }
            (RanksLayer::Linear(layer), Step::Sum { .. }) => {
                let (cumulative, total) = (memory.tensor_mut("cumulative"), memory.tensor_mut("total"));
                let mut args = SumDecayArgs::new(tensor("cu_seqlens"), memory.get("log_decay"), cumulative, total);
                args.status = memory.get_mut("status");
                submit(machine, layer, args)
            }
            (RanksLayer::Linear(layer), _) => {
                let [q, sums, bounds, state, slots] =
                    ["q", "cumulative", "cu_seqlens", "state", "state_in"].map(tensor);
                let mut args = LinearCorrectArgs::new(q, sums, bounds, state, slots, memory.tensor_mut("out"));
                args.status = memory.get_mut("status");
                submit(machine, layer, args)
            }
        }
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<RanksRun> {
        let (mut out, mut numbers) = (None, [Vec::new(), Vec::new()]);
        match self.step {
            Step::Sum { .. } => numbers = [memory.read("cumulative")?, memory.read("total")?],
            Step::Merge { .. } => numbers[0] = memory.read("state")?,
            Step::Correct { .. } => out = Some(memory.values("out")?),
        }
        Ok(RanksRun {
            out,
            numbers,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    fn judge(&self, run: &RanksRun, reference: &Answer) -> Judgement {
        match (&self.step, reference) {
            (Step::Sum { .. }, Answer::Sums(sums)) => self.judge_sums(&run.numbers, sums),
            (Step::Merge { adds, .. }, Answer::States(expected)) => {
                self.judge_states(adds, &run.numbers[0], &expected.pool)
            }
            (Step::Correct { q, cumulative, .. }, Answer::States(expected)) => {
                let out = run.out.as_ref().map(Values::to_f64).unwrap_or_default();
                self.judge_outputs(&q.to_f64(), cumulative, &out, &expected.out)
            }
            _ => Judgement::failed("the definition of another step".to_owned()),
        }
    }

    fn refused(&self, reference: &Answer) -> Status {
        match reference {
            Answer::Sums(sums) => Status::from([0, 0, sums.refused_lengths, 0]),
            Answer::States(output) => Status::from([0, 0, output.refused_lengths, output.refused_slots]),
        }
    }
}

/// Judges numbers one by one, each against its bound.
fn judge_numbers(name: &'static str, numbers: impl Iterator<Item = (f64, f64, f64)>) -> Judgement {
    let mut judgement = Judgement::default();
    for (index, (got, expected, bound)) in numbers.enumerate() {
        if got == expected || (got.is_nan() && expected.is_nan()) {
            continue;
        }
        let error = (got - expected).abs();
        let part = share(error, bound);
        judgement.max_abs = judgement.max_abs.max(error);
        judgement.add_share(name, part);
        if part.is_nan() || part > 1.0 {
            let failure = format!("{name} {index} is {got} instead of {expected}, more than {bound:.2e} off");
            judgement.failure.get_or_insert(failure);
        }
    }
    judgement
}

impl RanksProblem {
    /// A sum is rounded once; rows of no sequence, and of one that is refused, are as they were.
    fn judge_sums(&self, [cumulative, total]: &[Vec<f32>; 2], sums: &Sums) -> Judgement {
        let heads = self.config.heads_q;
        let mut has_sequence = vec![false; self.tokens];
        for range in sequences(&self.cu_seqlens, self.tokens).into_iter().flatten() {
            has_sequence[range].fill(true);
        }
        let one = |got: f32, expected: Option<f64>| match expected {
            Some(expected) => (f64::from(got), expected, 1e-7 * expected.abs()),
            None => (f64::from(got), f64::NAN, 0.0),
        };
        let is_there = |index: usize| has_sequence[index / heads];
        let of_tokens = cumulative.iter().zip(&sums.cumulative).enumerate();
        let of_tokens = of_tokens.map(|(index, (&got, &sum))| one(got, is_there(index).then_some(sum)));
        let of_all = total.iter().zip(&sums.total).map(|(&got, &sum)| one(got, sum));
        judge_numbers("sum", of_tokens).and(judge_numbers("total", of_all))
    }

    fn judge_states(&self, adds: &[f32], got: &[f32], expected: &[f64]) -> Judgement {
        let finite = adds.iter().chain(&self.pool).filter(|x| x.is_finite());
        let largest = finite.fold(0.0, |largest: f32, x| largest.max(x.abs()));
        let numbers = got.iter().zip(expected);
        judge_numbers(
            "state",
            numbers.map(|(&got, &expected)| (f64::from(got), expected, 1e-6 * (expected.abs() + f64::from(largest)))),
        )
    }

    fn judge_outputs(&self, q: &[f64], cumulative: &[f32], got: &[f64], expected: &[f64]) -> Judgement {
        let Config {
            heads_q, dim_k, dim_v, ..
        } = self.config;
        let mut bounds = vec![0.0; got.len()];
        for (sequence, range) in sequences(&self.cu_seqlens, self.tokens).into_iter().enumerate() {
            let slots = self.pool.len() / self.config.slot_len();
            let slot = usize::try_from(self.state_in[sequence])
                .ok()
                .filter(|&slot| slot < slots);
            let Some((range, slot)) = range.zip(slot) else { continue };
            let pool = &self.pool[slot * self.config.slot_len()..][..self.config.slot_len()];
            for head in 0..heads_q {
                let state = &pool[head * dim_k * dim_v..][..dim_k * dim_v];
                let state: Vec<f64> = (0..dim_k * dim_v)
                    .map(|index| match self.config.state_is_vk {
                        true => f64::from(state[index % dim_v * dim_k + index / dim_v]),
                        false => f64::from(state[index]),
                    })
                    .collect();
                for token in range.clone() {
                    let factor = f64::from(cumulative[token * heads_q + head]).exp();
                    for column in 0..dim_v {
                        let index = (token * heads_q + head) * dim_v + column;
                        let ulp = if factor < 1e-40 {
                            0.0
                        } else {
                            0.505 * self.precision.ulp(expected[index])
                        };
                        bounds[index] = ulp + self.bound(q, token, head, column, factor, &state);
                    }
                }
            }
        }
        let fits = |got: f64, expected: f64| got.is_infinite() && expected.abs() > self.precision.largest();
        let numbers = got.iter().zip(expected).zip(bounds);
        judge_numbers(
            "out",
            numbers.map(|((&got, &expected), bound)| match fits(got, expected) {
                true => (got, got, bound),
                false => (got, expected, bound),
            }),
        )
    }
}

impl Run for RanksRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &RanksRun) -> Option<String> {
        let [a, b] = [self, other].map(|run| run.out.as_ref().map(Values::to_bits));
        if a != b {
            return Some("outputs".to_owned());
        }
        let is_same = self.numbers.iter().zip(&other.numbers).all(|(a, b)| same_bits(a, b));
        (!is_same).then(|| "numbers".to_owned())
    }
}

/// Every step, in both types and layouts, with decays that forget and that do not.
pub(super) fn samples(seed: u64) -> Vec<RanksProblem> {
    let config = Config {
        heads_q: 3,
        heads_kv: 3,
        dim_k: 128,
        dim_v: 64,
        scale: 0.1,
        state_is_vk: false,
    };
    let other = Config {
        heads_q: 2,
        heads_kv: 1,
        dim_k: 64,
        dim_v: 128,
        state_is_vk: true,
        ..config
    };
    let many = Config { heads_q: 36, ..config };
    // Few rows, which fit the addresses there are where they are 16 GiB apart.
    let short = Config {
        dim_k: 64,
        dim_v: 128,
        ..config
    };
    vec![
        RanksProblem::sum(many, &[270, 0, 33], DecayCase::PerToken, seed).packed(Packing::Fused),
        RanksProblem::sum(config, &[5, 70], DecayCase::Lightning, seed),
        RanksProblem::merge(short, [3, 2], seed).packed(Packing::Fused),
        RanksProblem::merge(other, [0, 1], seed),
        RanksProblem::correct(Precision::Bf16, config, &[100, 0, 33], DecayCase::Lightning, seed),
        RanksProblem::correct(Precision::F16, other, &[65, 31], DecayCase::PerToken, seed).packed(Packing::Fused),
    ]
}
