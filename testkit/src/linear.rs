//! Linear-attention calls as data: run one on a device, or on the reference.

use crate::devices::Machine;
use crate::memory::{Arena, Packing, PaddedRows};
use crate::tolerance::{Judgement, LinearShape, linear_out, linear_state};
use crate::values::Values;
use sala_kernels::reference::linear_attention::{self as reference, Config, LogDecay, States};
use sala_kernels::{Buffer, DType, Decay, DecodeArgs, LinearAttention, PrefillArgs, Result, StateLayout, Tensor};
use std::time::{Duration, Instant};

/// A log decay and its values.
#[derive(Clone, Debug, PartialEq)]
pub enum DecayValues {
    /// None.
    None,
    /// `[heads]`.
    PerHead(Vec<f32>),
    /// `[tokens, heads]`.
    PerToken(Vec<f32>),
}

impl DecayValues {
    /// As the reference takes it.
    pub fn as_reference(&self) -> LogDecay<'_> {
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

    fn values(&self) -> &[f32] {
        match self {
            DecayValues::None => &[],
            DecayValues::PerHead(values) | DecayValues::PerToken(values) => values,
        }
    }
}

/// One call with its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProblem {
    /// Shapes and constants.
    pub config: Config,
    /// `[tokens, heads, dim_k]`.
    pub q: Values,
    /// `[tokens, heads, dim_k]`.
    pub k: Values,
    /// `[tokens, heads, dim_v]`.
    pub v: Values,
    /// `[batch + 1]`; not used by decode, whose tokens are its batch.
    pub cu_seqlens: Vec<i32>,
    /// The decay.
    pub decay: DecayValues,
    /// The pool of states before the call; empty for a call without one.
    pub pool: Vec<f32>,
    /// `[batch]`.
    pub state_in: Option<Vec<i32>>,
    /// `[batch]`.
    pub state_out: Option<Vec<i32>>,
    /// How q, k, v and the output lie in memory.
    pub packing: Packing,
}

/// What a call on a device leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearRun {
    /// `[tokens, heads, dim_v]`; poison where nothing was written.
    pub out: Values,
    /// The pool after the call.
    pub pool: Vec<f32>,
    /// The status word; it starts at zero.
    pub status: [u32; 4],
    /// Whether memory between and beside the tensors is as it was.
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

/// Which kernel a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Prefill,
    Decode,
}

impl LinearProblem {
    /// Tokens of the call.
    pub fn tokens(&self) -> usize {
        self.q.len() / (self.config.heads * self.config.dim_k)
    }

    /// Slots of the pool.
    pub fn slots(&self) -> usize {
        self.pool.len() / self.config.slot_len()
    }

    /// The operation that the call is one of.
    pub fn operation(&self) -> Result<LinearAttention> {
        let Config {
            heads,
            dim_k,
            dim_v,
            scale,
            state_is_vk,
        } = self.config;
        let layout = if state_is_vk { StateLayout::Vk } else { StateLayout::Kv };
        let builder = LinearAttention::builder(self.q.dtype(), heads, dim_k, dim_v);
        builder
            .scale(scale)
            .decay(self.decay.kind())
            .state_layout(layout)
            .build()
    }

    /// Runs whole sequences in f64.
    pub fn prefill_on_reference(&self) -> reference::Output {
        let (q, k, v) = (self.q.to_f64(), self.k.to_f64(), self.v.to_f64());
        reference::prefill(
            &self.config,
            &q,
            &k,
            &v,
            &self.cu_seqlens,
            self.decay.as_reference(),
            &self.states(),
        )
    }

    /// Runs one token a sequence in f64.
    pub fn decode_on_reference(&self) -> reference::Output {
        let (q, k, v) = (self.q.to_f64(), self.k.to_f64(), self.v.to_f64());
        reference::decode(&self.config, &q, &k, &v, self.decay.as_reference(), &self.states())
    }

    /// Runs whole sequences on a device.
    pub fn prefill(&self, machine: &Machine) -> Result<LinearRun> {
        self.launch(machine, Phase::Prefill)
    }

    /// Runs one token a sequence on a device.
    pub fn decode(&self, machine: &Machine) -> Result<LinearRun> {
        self.launch(machine, Phase::Decode)
    }

    /// Judges a run against the reference: outputs of the sequences that `cu_seqlens` names, and the whole pool.
    pub fn judge(&self, run: &LinearRun, reference: &reference::Output) -> Judgement {
        self.judge_out(run, reference, &self.cu_seqlens)
            .and(self.judge_pool(run, reference))
    }

    /// Judges outputs of the sequences that `cu_seqlens` names.
    pub fn judge_out(&self, run: &LinearRun, reference: &reference::Output, cu_seqlens: &[i32]) -> Judgement {
        let Config { heads, dim_v, .. } = self.config;
        let shape = LinearShape {
            precision: self.q.precision(),
            heads,
            dim_v,
            cu_seqlens,
        };
        linear_out(shape, &run.out.to_f64(), &reference.out)
    }

    /// Judges the pool: the slots that the call stores to are within tolerance, and the others have not changed.
    pub fn judge_pool(&self, run: &LinearRun, reference: &reference::Output) -> Judgement {
        let Config {
            heads, dim_k, dim_v, ..
        } = self.config;
        let slot_len = self.config.slot_len();
        let stored = |slot: usize| self.state_out.as_ref().is_some_and(|out| out.contains(&(slot as i32)));
        let mut judgement = Judgement::default();
        for slot in 0..self.slots() {
            let elements = slot * slot_len..(slot + 1) * slot_len;
            if stored(slot) {
                let got: Vec<f64> = run.pool[elements.clone()].iter().map(|&x| f64::from(x)).collect();
                let precision = self.q.precision();
                let mut this = linear_state(precision, heads, dim_k * dim_v, &got, &reference.pool[elements]);
                this.failure = this
                    .failure
                    .map(|failure| format!("in slot {slot} of the pool: {failure}"));
                judgement = judgement.and(this);
            } else if !same_bits(&run.pool[elements.clone()], &self.pool[elements]) {
                let failure = Some(format!("slot {slot} has changed, but no sequence stores to it"));
                judgement = judgement.and(Judgement {
                    failure,
                    ..Judgement::default()
                });
            }
        }
        judgement
    }

    fn states(&self) -> States<'_> {
        States {
            pool: &self.pool,
            state_in: self.state_in.as_deref(),
            state_out: self.state_out.as_deref(),
        }
    }

    fn launch(&self, machine: &Machine, phase: Phase) -> Result<LinearRun> {
        let Config {
            heads, dim_k, dim_v, ..
        } = self.config;
        let operation = self.operation()?;
        let device = &machine.device;
        let precision = self.q.precision();
        let ([q_place, k_place, v_place], length) = self.packing.place(self.tokens(), heads, [dim_k, dim_k, dim_v]);
        let tensors = [
            (q_place, Some(&self.q)),
            (k_place, Some(&self.k)),
            (v_place, Some(&self.v)),
        ];
        let inputs = Arena::new(device, precision, length, &tensors)?;
        let ([out_place], length) = self.packing.place(self.tokens(), heads, [dim_v]);
        let mut outputs = Arena::new(device, precision, length, &[(out_place, None::<&Values>)])?;
        let cu_seqlens = Optional::new(machine, Some(&self.cu_seqlens))?;
        let state_in = Optional::new(machine, self.state_in.as_deref())?;
        let state_out = Optional::new(machine, self.state_out.as_deref())?;
        let decay_shape = match &self.decay {
            DecayValues::PerToken(_) => vec![self.tokens(), heads],
            _ => vec![heads],
        };
        let (rows, columns) = if self.config.state_is_vk {
            (dim_v, dim_k)
        } else {
            (dim_k, dim_v)
        };
        let pool_shape = [self.slots(), heads, rows, columns];
        let [decay_gap, pool_gap] = if self.packing == Packing::Fused { [3, 8] } else { [0, 0] };
        let decay = PaddedRows::new(device, &decay_shape, self.decay.values(), decay_gap)?;
        let mut pool = PaddedRows::new(device, &pool_shape, &self.pool, pool_gap)?;
        let mut status = Buffer::from_slice(device, &[0u32; 4])?;

        let (q, k, v) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let out = outputs.tensor_mut(0)?;
        let log_decay = match &self.decay {
            DecayValues::None => None,
            _ => Some(decay.tensor()?),
        };
        let (state_in, state_out) = (state_in.tensor()?, state_out.tensor()?);
        let has_pool = !self.pool.is_empty() || state_in.is_some() || state_out.is_some();
        let pool_view = pool.tensor_mut()?;
        let status_view = Some(status.tensor_mut(DType::U32, &[4])?);

        machine.stream.synchronize()?;
        let started = Instant::now();
        match phase {
            Phase::Prefill => {
                let cu_seqlens = cu_seqlens.tensor()?.expect("it was given");
                let state = has_pool.then_some(pool_view);
                let status = status_view;
                let args = PrefillArgs {
                    q,
                    k,
                    v,
                    cu_seqlens,
                    log_decay,
                    state,
                    state_in,
                    state_out,
                    out,
                    status,
                };
                // SAFETY: the stream is synchronized before the buffers are touched again.
                unsafe { operation.prefill(&machine.kernels, &machine.stream, args)? };
            }
            Phase::Decode => {
                let (state, status) = (pool_view, status_view);
                let args = DecodeArgs {
                    q,
                    k,
                    v,
                    log_decay,
                    state,
                    state_in,
                    state_out,
                    out,
                    status,
                };
                // SAFETY: as above.
                unsafe { operation.decode(&machine.kernels, &machine.stream, args)? };
            }
        }
        machine.stream.synchronize()?;
        let elapsed = started.elapsed();
        let status: Vec<u32> = status.read()?;
        let (pool, is_pool_intact) = pool.read()?;
        Ok(LinearRun {
            out: outputs.read(0)?,
            pool,
            status: [status[0], status[1], status[2], status[3]],
            is_intact: inputs.is_intact()? && outputs.is_intact()? && is_pool_intact,
            elapsed,
        })
    }
}

/// Whether two tensors are the same, NaN included.
pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// A list of indices on a device, if there is one.
struct Optional {
    buffer: Option<(Buffer, usize)>,
}

impl Optional {
    fn new(machine: &Machine, list: Option<&[i32]>) -> Result<Optional> {
        let upload = |list: &[i32]| Ok((Buffer::from_slice(&machine.device, list)?, list.len()));
        Ok(Optional {
            buffer: list.map(upload).transpose()?,
        })
    }

    fn tensor(&self) -> Result<Option<Tensor<'_>>> {
        self.buffer
            .as_ref()
            .map(|(buffer, length)| buffer.tensor(DType::I32, &[*length]))
            .transpose()
    }
}
