//! Drafts of linear attention as data: their verification, the commitment of accepted ones, and copies of states.

pub mod random;

use super::linear_attention::cases::{DecayCase, decay_values};
use super::linear_attention::{DecayValues, judge_pool, layer};
use crate::devices::Machine;
use crate::memory::{Memory, POISON, Packing};
use crate::numbers::Numbers;
use crate::problem::{Problem, Run, same_bits, submit};
use crate::replay;
use crate::storage::{KeyRows, Places};
use crate::tolerance::{self, Judgement, Precision, linear_out};
use crate::values::Values;
use sala_kernels::reference::linear_attention::{self as reference, Config, Output, States};
use sala_kernels::{
    CopyStates, CopyStatesArgs, LinearAttention, LinearCommitArgs, LinearVerifyArgs, Result, Split, Status,
};
use std::time::Duration;

/// What is done with the drafts of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Their outputs.
    Verify {
        /// `[batch, drafts]`; chains without it.
        parent: Option<Vec<i32>>,
    },
    /// The states after those that were accepted.
    Commit {
        /// `[batch]`.
        accepted: Vec<i32>,
        /// `[batch, drafts]`; the first ones without it.
        path: Option<Vec<i32>>,
    },
    /// There are none: states are copied from `state_in` to `state_out`.
    Copy,
}

/// One call with its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct DraftsProblem {
    pub step: Step,
    pub config: Config,
    /// Of each sequence.
    pub drafts: usize,
    /// `[batch, drafts, heads_q, dim_k]`.
    pub q: Values,
    /// `[batch, drafts, heads_kv, dim_k]`.
    pub k: Values,
    /// `[batch, drafts, heads_kv, dim_v]`.
    pub v: Values,
    pub decay: DecayValues,
    /// The pool of states before the call.
    pub pool: Vec<f32>,
    /// `[batch]`.
    pub state_in: Vec<i32>,
    /// `[batch]`, if it is another.
    pub state_out: Option<Vec<i32>>,
    /// How the tensors of drafts lie in memory.
    pub packing: Packing,
}

/// What a step is launched with.
#[derive(Debug)]
pub enum DraftsLayer {
    Linear(LinearAttention),
    Copies(CopyStates),
}

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct DraftsRun {
    /// `[batch, drafts, heads_q, dim_v]`, of a verification.
    pub out: Option<Values>,
    /// The pool after the call.
    pub pool: Vec<f32>,
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl DraftsProblem {
    /// Normal drafts of sequences that each have a slot; one slot more is NaN.
    pub fn normal(
        precision: Precision,
        config: Config,
        [batch, drafts]: [usize; 2],
        decay: DecayCase,
        seed: u64,
    ) -> DraftsProblem {
        let mut numbers = Numbers::new(seed);
        let tokens = batch * drafts;
        let mut tensor = |row: usize| Values::round(precision, numbers.normals(tokens * row, 1.0));
        let q = tensor(config.heads_q * config.dim_k);
        let k = tensor(config.heads_kv * config.dim_k);
        let v = tensor(config.heads_kv * config.dim_v);
        let decay = decay_values(decay, &mut numbers, config.heads_q, tokens);
        let states = numbers.normals(batch * config.slot_len(), 3.0);
        let mut pool: Vec<f32> = states.into_iter().map(|x| x as f32).collect();
        pool.resize((batch + 1) * config.slot_len(), f32::NAN);
        DraftsProblem {
            step: Step::Verify { parent: None },
            config,
            drafts,
            q,
            k,
            v,
            decay,
            pool,
            state_in: (0..batch as i32).rev().collect(),
            state_out: None,
            packing: Packing::Separate,
        }
    }

    /// The same as another step.
    pub fn with(&self, step: Step) -> DraftsProblem {
        DraftsProblem { step, ..self.clone() }
    }

    pub fn batch(&self) -> usize {
        self.state_in.len()
    }

    fn stored_to(&self) -> Option<&[i32]> {
        match self.step {
            Step::Verify { .. } => None,
            Step::Commit { .. } | Step::Copy => Some(self.state_out.as_ref().unwrap_or(&self.state_in)),
        }
    }

    /// `[batch, drafts, heads, dim]`, as stores of rows.
    fn rows(&self, values: Option<&Values>, heads: usize, dim: usize) -> KeyRows {
        let elements = self.batch() * self.drafts * heads * dim;
        KeyRows {
            bits: values.map_or_else(|| vec![POISON; elements], Values::to_bits),
            places: Places {
                stores: Some(self.batch()),
                rows: self.drafts,
                rows_of: Vec::new(),
            },
            heads,
            dim,
        }
    }
}

impl Problem for DraftsProblem {
    type Layer = DraftsLayer;
    type Run = DraftsRun;
    type Reference = Output;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Output {
        let [q, k, v] = [&self.q, &self.k, &self.v].map(Values::to_f64);
        let states = States {
            pool: &self.pool,
            state_in: Some(&self.state_in),
            state_out: self.stored_to(),
            checkpoints: None,
        };
        let (config, drafts, decay) = (&self.config, self.drafts, self.decay.as_reference());
        match &self.step {
            Step::Verify { parent } => reference::verify(config, &q, &k, &v, drafts, decay, parent.as_deref(), &states),
            Step::Commit { accepted, path } => {
                reference::commit(config, &k, &v, drafts, decay, accepted, path.as_deref(), &states)
            }
            Step::Copy => reference::copy_states(config, &states),
        }
    }

    fn layer(&self) -> Result<DraftsLayer> {
        Ok(match self.step {
            Step::Copy => DraftsLayer::Copies(CopyStates::new()?),
            Step::Verify { .. } | Step::Commit { .. } => {
                DraftsLayer::Linear(layer(&self.config, self.q.dtype(), &self.decay, Split::default())?)
            }
        })
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let Config {
            heads_q,
            heads_kv,
            dim_k,
            dim_v,
            state_is_vk,
            ..
        } = self.config;
        let (batch, drafts, precision) = (self.batch(), self.drafts, self.q.precision());
        let gap = self.packing.gap();
        let mut memory = Memory::new(&machine.device);
        let [q, out] = [(Some(&self.q), dim_k), (None, dim_v)].map(|(values, dim)| self.rows(values, heads_q, dim));
        let [k, v] = [(&self.k, dim_k), (&self.v, dim_v)].map(|(values, dim)| self.rows(Some(values), heads_kv, dim));
        memory.add_keys(precision, self.packing, &[("q", &q)])?;
        memory.add_keys(precision, self.packing, &[("k", &k), ("v", &v)])?;
        memory.add_keys(precision, self.packing, &[("out", &out)])?;
        match &self.decay {
            DecayValues::None => {}
            DecayValues::PerHead(g) => memory.add("log_decay", &[heads_q], gap, Some(g))?,
            DecayValues::PerToken(g) => memory.add("log_decay", &[batch, drafts, heads_q], gap, Some(g))?,
        }
        let [rows, columns] = if state_is_vk { [dim_v, dim_k] } else { [dim_k, dim_v] };
        let slots = self.pool.len() / self.config.slot_len();
        let pool_shape = [slots, heads_q, rows, columns];
        memory.add("state", &pool_shape, gap.next_multiple_of(4), Some(&self.pool))?;
        memory.add("state_in", &[batch], 0, Some(&self.state_in))?;
        if let Some(slots) = &self.state_out {
            memory.add("state_out", &[batch], 0, Some(slots))?;
        }
        let (per_draft, accepted) = match &self.step {
            Step::Verify { parent } => (parent.as_ref().map(|parent| ("parent", parent)), None),
            Step::Commit { accepted, path } => (path.as_ref().map(|path| ("path", path)), Some(accepted)),
            Step::Copy => (None, None),
        };
        if let Some((name, list)) = per_draft {
            memory.add(name, &[batch, drafts], 0, Some(list))?;
        }
        if let Some(accepted) = accepted {
            memory.add("accepted", &[batch], 0, Some(accepted))?;
        }
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &DraftsLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let memory = &*memory;
        let [q, k, v, state_in] = ["q", "k", "v", "state_in"].map(|name| memory.tensor(name));
        let log_decay = memory.get("log_decay");
        match (layer, &self.step) {
            (DraftsLayer::Copies(copies), _) => {
                let to = memory.get("state_out").unwrap_or(state_in);
                let mut args = CopyStatesArgs::new(memory.tensor_mut("state"), state_in, to);
                args.status = memory.get_mut("status");
                submit(machine, copies, args)
            }
            (DraftsLayer::Linear(layer), Step::Commit { .. }) => {
                let (state, accepted) = (memory.tensor_mut("state"), memory.tensor("accepted"));
                let mut args = LinearCommitArgs::new(k, v, log_decay, state, state_in, accepted);
                args.state_out = memory.get("state_out");
                args.path = memory.get("path");
                args.status = memory.get_mut("status");
                submit(machine, layer, args)
            }
            (DraftsLayer::Linear(layer), _) => {
                let (state, out) = (memory.tensor("state"), memory.tensor_mut("out"));
                let mut args = LinearVerifyArgs::new(q, k, v, log_decay, state, state_in, out);
                args.parent = memory.get("parent");
                args.status = memory.get_mut("status");
                submit(machine, layer, args)
            }
        }
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<DraftsRun> {
        let is_verification = matches!(self.step, Step::Verify { .. });
        Ok(DraftsRun {
            out: is_verification.then(|| memory.values("out")).transpose()?,
            pool: memory.read("state")?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    fn judge(&self, run: &DraftsRun, reference: &Output) -> Judgement {
        let precision = self.q.precision();
        let mut judgement = judge_pool(
            &self.config,
            precision,
            &self.pool,
            &run.pool,
            &reference.pool,
            self.stored_to(),
        );
        let Some(out) = &run.out else { return judgement };
        let (got, bits) = (out.to_f64(), out.to_bits());
        let row = self.config.heads_q * self.config.dim_v;
        for sequence in 0..self.batch() {
            let tokens = sequence * self.drafts..(sequence + 1) * self.drafts;
            let elements = tokens.start * row..tokens.end * row;
            let is_zero = reference.out[elements.clone()].iter().all(|&x| x == 0.0);
            let this = if is_zero && bits[elements].iter().all(|&bits| bits & 0x7fff == 0) {
                continue;
            } else {
                let shape = tolerance::LinearShape {
                    precision,
                    heads: self.config.heads_q,
                    dim_v: self.config.dim_v,
                    cu_seqlens: &[tokens.start as i32, tokens.end as i32],
                };
                linear_out(shape, &got, &reference.out)
            };
            judgement = judgement.and(this.within(|| format!("sequence {sequence}")));
        }
        judgement
    }

    fn refused(&self, reference: &Output) -> Status {
        Status::from([0, 0, reference.refused_lengths, reference.refused_slots])
    }

    fn replay(&self) -> Option<Vec<u8>> {
        replay::drafts_bytes(self)
    }
}

impl Run for DraftsRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &DraftsRun) -> Option<String> {
        let [a, b] = [self, other].map(|run| run.out.as_ref().map(Values::to_bits));
        if a != b {
            return Some("outputs".to_owned());
        }
        (!same_bits(&self.pool, &other.pool)).then(|| "states".to_owned())
    }
}

/// A tree of drafts for each sequence.
pub fn random_parents(numbers: &mut Numbers, batch: usize, drafts: usize) -> Vec<i32> {
    let parent = |draft: usize, numbers: &mut Numbers| numbers.below(draft + 1) as i32 - 1;
    (0..batch * drafts)
        .map(|index| parent(index % drafts, numbers))
        .collect()
}

/// Lengths from 0 to all, and ascending paths so long; what lies behind them is no draft.
pub fn random_paths(numbers: &mut Numbers, batch: usize, drafts: usize) -> (Vec<i32>, Vec<i32>) {
    let (mut accepted, mut paths) = (Vec::new(), Vec::new());
    for sequence in 0..batch {
        let mut path: Vec<i32> = (0..drafts as i32).filter(|_| numbers.below(2) == 0).collect();
        path.truncate([0, 1, drafts.saturating_sub(1), drafts][sequence % 4]);
        accepted.push(path.len() as i32);
        path.resize(drafts, i32::MAX);
        paths.extend(path);
    }
    (accepted, paths)
}

/// Chains and trees, paths and copies, in both types and layouts.
pub(super) fn samples(seed: u64) -> Vec<DraftsProblem> {
    let config = Config {
        heads_q: 4,
        heads_kv: 2,
        dim_k: 128,
        dim_v: 64,
        scale: 0.1,
        state_is_vk: false,
    };
    let mut numbers = Numbers::new(seed);
    let chain = DraftsProblem::normal(Precision::Bf16, config, [3, 5], DecayCase::Lightning, seed);
    let config = Config {
        dim_k: 64,
        dim_v: 128,
        state_is_vk: true,
        ..config
    };
    let gated =
        DraftsProblem::normal(Precision::F16, config, [4, 16], DecayCase::PerToken, seed).packed(Packing::Fused);
    let parent = Some(random_parents(&mut numbers, 4, 16));
    let (accepted, path) = random_paths(&mut numbers, 4, 16);
    let path = Some(path);
    vec![
        chain.with(Step::Commit {
            accepted: vec![5, 0, 2],
            path: None,
        }),
        DraftsProblem {
            state_out: Some(vec![3, -1, 1]),
            state_in: vec![0, 2, -1],
            ..chain.with(Step::Copy)
        },
        gated.with(Step::Verify { parent }),
        gated.with(Step::Commit { accepted, path }),
        chain,
    ]
}
