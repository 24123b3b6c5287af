//! Linear-attention calls as data: run one on a device, or on the reference.

pub mod cases;
pub mod random;

use crate::devices::Machine;
use crate::memory::{Memory, POISON, Packing};
use crate::problem::{Problem, Run, same_bits, submit};
use crate::replay;
use crate::tolerance::{self, Judgement, Precision, linear_out, linear_state};
use crate::values::Values;
use sala_kernels::reference::linear_attention::{self as reference, Checkpoints, Config, LogDecay, Output, States};
use sala_kernels::reference::sequences;
use sala_kernels::{
    DType, Decay, LinearAttention, LinearDecodeArgs, LinearPrefillArgs, LinearShape, Result, Split, StateLayout, Status,
};
use std::ops::Range;
use std::time::Duration;

/// A log decay and its values.
#[derive(Clone, Debug, PartialEq)]
pub enum DecayValues {
    None,
    /// `[heads]`.
    PerHead(Vec<f32>),
    /// `[tokens, heads]`.
    PerToken(Vec<f32>),
}

impl DecayValues {
    pub(super) fn as_reference(&self) -> LogDecay<'_> {
        match self {
            DecayValues::None => LogDecay::None,
            DecayValues::PerHead(values) => LogDecay::PerHead(values),
            DecayValues::PerToken(values) => LogDecay::PerToken(values),
        }
    }

    fn kind(&self) -> Decay {
        match self {
            DecayValues::None => Decay::None,
            DecayValues::PerHead(_) => Decay::PerHead,
            DecayValues::PerToken(_) => Decay::PerToken,
        }
    }
}

/// The layer that calls of linear attention are of.
pub(super) fn layer(config: &Config, dtype: DType, decay: &DecayValues, split: Split) -> Result<LinearAttention> {
    let Config {
        heads_q,
        heads_kv,
        dim_k,
        dim_v,
        scale,
        state_is_vk,
    } = *config;
    let layout = if state_is_vk { StateLayout::Vk } else { StateLayout::Kv };
    let shape = LinearShape {
        heads_q,
        heads_kv,
        dim_k,
        dim_v,
    };
    let builder = LinearAttention::builder(dtype, shape, decay.kind());
    builder.scale(scale).state_layout(layout).split(split).build()
}

/// Which arguments a call is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Whole sequences.
    #[default]
    Prefill,
    /// One token per sequence.
    Decode,
}

/// One call with its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProblem {
    pub phase: Phase,
    /// Shapes and constants.
    pub config: Config,
    /// `[tokens, heads, dim_k]`.
    pub q: Values,
    /// `[tokens, heads, dim_k]`.
    pub k: Values,
    /// `[tokens, heads, dim_v]`.
    pub v: Values,
    /// `[batch + 1]`; `[0, 1, 2, …]` for a decode step, which does not take it.
    pub cu_seqlens: Vec<i32>,
    pub decay: DecayValues,
    /// The pool of states before the call; empty for a prefill without one.
    pub pool: Vec<f32>,
    /// `[batch]`. Absent: all −1, which a decode step is given.
    pub state_in: Option<Vec<i32>>,
    /// `[batch]`. Absent: all −1 for a prefill, `state_in` for a decode step.
    pub state_out: Option<Vec<i32>>,
    /// Tokens from checkpoint to checkpoint of a prefill, and `[batch, max_checkpoints]` slots of them.
    pub checkpoints: Option<(usize, Vec<i32>)>,
    /// Whether a prefill splits long sequences.
    pub split: Split,
    /// How q, k, v and the output lie in memory.
    pub packing: Packing,
}

/// What a call on a device leaves behind.
#[derive(Clone, Debug)]
pub struct LinearRun {
    /// `[tokens, heads, dim_v]`; poison where nothing was written.
    pub out: Values,
    /// The pool after the call.
    pub pool: Vec<f32>,
    /// The status word; it starts at zero.
    pub status: Status,
    /// Whether all other memory is as it was.
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl LinearProblem {
    /// Tokens of the call.
    pub fn tokens(&self) -> usize {
        self.q.len() / (self.config.heads_q * self.config.dim_k)
    }

    /// Sequences of the call.
    pub fn batch(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// Slots of the pool.
    pub fn slots(&self) -> usize {
        self.pool.len() / self.config.slot_len()
    }

    /// The elements of a pool that a slot has.
    pub fn slot(&self, slot: usize) -> Range<usize> {
        slot * self.config.slot_len()..(slot + 1) * self.config.slot_len()
    }

    /// The slot that each sequence leaves its state in.
    pub fn stored_to(&self) -> Option<&[i32]> {
        let in_place = self.state_in.as_ref().filter(|_| self.phase == Phase::Decode);
        self.state_out.as_ref().or(in_place).map(Vec::as_slice)
    }

    /// All slots that the call is to write.
    fn written_slots(&self) -> Option<Vec<i32>> {
        let checkpoints = self.checkpoints.as_ref().map(|(_, slots)| slots.as_slice());
        let lists = [self.stored_to(), checkpoints].into_iter().flatten();
        lists.map(<[i32]>::to_vec).reduce(|a, b| [a, b].concat())
    }

    /// The arguments of the call as a prefill, over [`Self::upload`].
    pub fn prefill_args<'a>(&self, memory: &'a Memory) -> LinearPrefillArgs<'a> {
        let [q, k, v, cu_seqlens] = ["q", "k", "v", "cu_seqlens"].map(|name| memory.tensor(name));
        let (log_decay, out) = (memory.get("log_decay"), memory.tensor_mut("out"));
        let mut args = LinearPrefillArgs::new(q, k, v, cu_seqlens, log_decay, out);
        (args.state_in, args.state_out) = (memory.get("state_in"), memory.get("state_out"));
        args.checkpoint_every = self.checkpoints.as_ref().map_or(0, |(every, _)| *every);
        args.checkpoint_slots = memory.get("checkpoint_slots");
        args.workspace = memory.get_mut("workspace");
        let has_pool = !self.pool.is_empty() || args.state_in.is_some() || args.state_out.is_some();
        args.state = has_pool.then(|| memory.tensor_mut("state"));
        args.status = memory.get_mut("status");
        args
    }

    /// The arguments of the call as a step, over [`Self::upload`].
    pub fn decode_args<'a>(&self, memory: &'a Memory) -> LinearDecodeArgs<'a> {
        let [q, k, v, state_in] = ["q", "k", "v", "state_in"].map(|name| memory.tensor(name));
        let (state, out) = (memory.tensor_mut("state"), memory.tensor_mut("out"));
        let mut args = LinearDecodeArgs::new(q, k, v, memory.get("log_decay"), state, state_in, out);
        args.state_out = memory.get("state_out");
        args.status = memory.get_mut("status");
        args
    }

    /// The token ranges of the sequences that run: those whose bounds hold, and that start from zero or a slot of the pool.
    fn running(&self) -> Vec<Range<usize>> {
        self.ranges(true)
    }

    /// Those of the others whose bounds hold.
    fn refused_ranges(&self) -> Vec<Range<usize>> {
        self.ranges(false)
    }

    fn ranges(&self, that_start: bool) -> Vec<Range<usize>> {
        let starts = |sequence: usize| {
            let slot = self.state_in.as_ref().map_or(-1, |slots| slots[sequence]);
            (-1..self.slots() as i64).contains(&i64::from(slot))
        };
        let ranges = sequences(&self.cu_seqlens, self.tokens()).into_iter().enumerate();
        ranges
            .filter(|(sequence, _)| starts(*sequence) == that_start)
            .filter_map(|(_, range)| range)
            .collect()
    }

    /// Judges the outputs of sequences that share their tokens with no other, and that tokens of no sequence are as they were.
    fn judge_out(&self, out: &Values, expected: &[f64]) -> Judgement {
        let Config {
            heads_q: heads, dim_v, ..
        } = self.config;
        let (got, bits) = (out.to_f64(), out.to_bits());
        let running = self.running();
        let refused = self.refused_ranges();
        let users = |token: usize| running.iter().filter(|range| range.contains(&token)).count();
        let users: Vec<usize> = (0..self.tokens()).map(users).collect();
        let mut judgement = Judgement::default();
        for range in running
            .iter()
            .filter(|range| users[(*range).clone()].iter().all(|&users| users == 1))
        {
            let shape = tolerance::LinearShape {
                precision: out.precision(),
                heads,
                dim_v,
                cu_seqlens: &[range.start as i32, range.end as i32],
            };
            let this = linear_out(shape, &got, expected);
            judgement = judgement.and(this.within(|| format!("tokens {range:?}")));
        }
        let row = heads * dim_v;
        let is_wrong = |&token: &usize| {
            // What a refused sequence gives is zero; what no sequence has is left as it was.
            let is_refused = refused.iter().any(|range| range.contains(&token));
            let expected = if is_refused { 0 } else { POISON };
            bits[token * row..(token + 1) * row]
                .iter()
                .any(|&bits| bits != expected)
        };
        match (0..users.len()).filter(|&token| users[token] == 0).find(is_wrong) {
            Some(token) => judgement.and(Judgement::failed(format!(
                "token {token} of no running sequence is wrong"
            ))),
            None => judgement,
        }
    }
}

/// Judges a pool: slots that the reference stores to are within tolerance, and the others have not changed.
pub(super) fn judge_pool(
    config: &Config,
    precision: Precision,
    before: &[f32],
    got: &[f32],
    expected: &[f64],
    stored_to: Option<&[i32]>,
) -> Judgement {
    let length = config.slot_len();
    let slots = before
        .chunks(length)
        .zip(got.chunks(length))
        .zip(expected.chunks(length));
    let mut judgement = Judgement::default();
    for (slot, ((before, got), expected)) in slots.enumerate() {
        let is_named = stored_to.is_some_and(|slots| slots.contains(&(slot as i32)));
        let is_same = |(expected, &before): (&f64, &f32)| {
            *expected == f64::from(before) || (expected.is_nan() && before.is_nan())
        };
        // Zeros of any sign, and NaN of any bits.
        let is_as_before = |(got, before): (&f32, &f32)| got == before || (got.is_nan() && before.is_nan());
        let this = if is_named && !expected.iter().zip(before).all(is_same) {
            let got: Vec<f64> = got.iter().copied().map(f64::from).collect();
            linear_state(precision, config.heads_q, config.dim_k * config.dim_v, &got, expected)
        } else if same_bits(got, before) || (is_named && got.iter().zip(before).all(is_as_before)) {
            continue;
        } else {
            Judgement::failed("it has changed, but no sequence stores to it".to_owned())
        };
        judgement = judgement.and(this.within(|| format!("slot {slot} of the pool")));
    }
    judgement
}

impl Problem for LinearProblem {
    type Layer = LinearAttention;
    type Run = LinearRun;
    type Reference = Output;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Output {
        let (q, k, v) = (self.q.to_f64(), self.k.to_f64(), self.v.to_f64());
        let states = States {
            pool: &self.pool,
            state_in: self.state_in.as_deref(),
            state_out: self.stored_to(),
            checkpoints: self.checkpoints.as_ref().map(|(every, slots)| Checkpoints {
                every: *every,
                max: slots.len() / self.batch().max(1),
                slots,
            }),
        };
        let decay = self.decay.as_reference();
        match self.phase {
            Phase::Prefill => reference::prefill(&self.config, &q, &k, &v, &self.cu_seqlens, decay, &states),
            Phase::Decode => reference::decode(&self.config, &q, &k, &v, decay, &states),
        }
    }

    fn layer(&self) -> Result<LinearAttention> {
        layer(&self.config, self.q.dtype(), &self.decay, self.split)
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let Config {
            heads_q: heads,
            heads_kv,
            dim_k,
            dim_v,
            ..
        } = self.config;
        let (tokens, precision) = (self.tokens(), self.q.precision());
        // Rows of a state start at multiples of 16 bytes.
        let (decay_gap, pool_gap) = (self.packing.gap(), self.packing.gap().next_multiple_of(4));
        let mut memory = Memory::new(&machine.device);
        let (query, keys) = (
            ("q", dim_k, Some(&self.q)),
            [("k", dim_k, Some(&self.k)), ("v", dim_v, Some(&self.v))],
        );
        // A projection that makes all of them has rows of all only where they have as many heads.
        if heads == heads_kv {
            memory.add_rows(precision, self.packing, [tokens, heads], &[query, keys[0], keys[1]])?;
        } else {
            memory.add_rows(precision, self.packing, [tokens, heads], &[query])?;
            memory.add_rows(precision, self.packing, [tokens, heads_kv], &keys)?;
        }
        memory.add_rows(precision, self.packing, [tokens, heads], &[("out", dim_v, None)])?;
        match &self.decay {
            DecayValues::None => {}
            DecayValues::PerHead(g) => memory.add("log_decay", &[heads], decay_gap, Some(g))?,
            DecayValues::PerToken(g) => memory.add("log_decay", &[tokens, heads], decay_gap, Some(g))?,
        }
        let (rows, columns) = if self.config.state_is_vk {
            (dim_v, dim_k)
        } else {
            (dim_k, dim_v)
        };
        let pool_shape = [self.slots(), heads, rows, columns];
        memory.add("state", &pool_shape, pool_gap, Some(&self.pool))?;
        memory.add("cu_seqlens", &[self.cu_seqlens.len()], 0, Some(&self.cu_seqlens))?;
        let nowhere = (self.phase == Phase::Decode).then(|| vec![-1; self.batch()]);
        let state_in = self.state_in.as_ref().or(nowhere.as_ref());
        for (name, slots) in [("state_in", state_in), ("state_out", self.state_out.as_ref())] {
            if let Some(slots) = slots {
                memory.add(name, &[slots.len()], 0, Some(slots))?;
            }
        }
        if let Some((_, slots)) = &self.checkpoints {
            let shape = [self.batch(), slots.len() / self.batch().max(1)];
            memory.add("checkpoint_slots", &shape, 0, Some(slots))?;
        }
        if self.phase == Phase::Prefill {
            let bytes = self.layer()?.workspace_size(self.batch(), tokens, tokens);
            memory.add::<f32>("workspace", &[bytes / 4], 0, None)?;
        }
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &LinearAttention, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        match self.phase {
            Phase::Prefill => submit(machine, layer, self.prefill_args(memory)),
            Phase::Decode => submit(machine, layer, self.decode_args(memory)),
        }
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<LinearRun> {
        Ok(LinearRun {
            out: memory.values("out")?,
            pool: memory.read("state")?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    fn judge(&self, run: &LinearRun, reference: &Output) -> Judgement {
        let out = self.judge_out(&run.out, &reference.out);
        let pool = judge_pool(
            &self.config,
            self.q.precision(),
            &self.pool,
            &run.pool,
            &reference.pool,
            self.written_slots().as_deref(),
        );
        out.and(pool)
    }

    fn refused(&self, reference: &Output) -> Status {
        Status::from([0, 0, reference.refused_lengths, reference.refused_slots])
    }

    fn replay(&self) -> Option<Vec<u8>> {
        replay::linear_bytes(self)
    }
}

impl Run for LinearRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &LinearRun) -> Option<String> {
        if self.out.to_bits() != other.out.to_bits() {
            return Some("outputs".to_owned());
        }
        (!same_bits(&self.pool, &other.pool)).then(|| "states".to_owned())
    }
}
