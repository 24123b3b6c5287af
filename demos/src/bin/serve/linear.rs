//! A linear layer: its pool of states, and its part of a step.

use crate::inputs::{Inputs, max_rows};
use crate::launcher::{Launcher, Scratch};
use crate::model::{CAPACITY, DIM, EPS, LINEAR_HEADS, Model, Norms};
use crate::pool::PAGE;
use crate::scheduler::Settings;
use demos::array::Array;
use half::bf16;
use sala_kernels::{
    CopyStates, CopyStatesArgs, DType, Decay, Device, LinearAttention, LinearCommitArgs, LinearDecodeArgs,
    LinearPrefillArgs, LinearShape, LinearVerifyArgs, Norm, NormGateArgs, NormRopeArgs, Result, Split,
};

/// The layer with all that it owns: a state for every slot, and what a step has of its rows.
pub struct LinearMixer {
    layer: LinearAttention,
    norm: Norm,
    copies: CopyStates,
    /// `[slots, LINEAR_HEADS, DIM, DIM]` f32
    states: Array,
    /// `[rows, LINEAR_HEADS, DIM]`
    pub q: Array,
    pub k: Array,
    pub v: Array,
    pub gate: Array,
    pub out: Array,
    q_norm: Array,
    k_norm: Array,
    out_norm: Array,
    cos_sin: Array,
    log_decay: Array,
}

impl LinearMixer {
    pub fn new(device: &Device, settings: &Settings, model: &Model, norms: &Norms) -> Result<LinearMixer> {
        let shape = LinearShape {
            heads_q: LINEAR_HEADS,
            heads_kv: LINEAR_HEADS,
            dim_k: DIM,
            dim_v: DIM,
        };
        let rows = || Array::zeros::<bf16>(device, &[max_rows(settings), LINEAR_HEADS, DIM]);
        let weight = |values: &[bf16]| Array::of(device, values, &[values.len()]);
        Ok(LinearMixer {
            // Long prompts in one place at a time: the same bits however they are cut.
            layer: LinearAttention::builder(DType::Bf16, shape, Decay::PerHead)
                .split(Split::Never)
                .build()?,
            norm: Norm::new(DType::Bf16, EPS)?,
            copies: CopyStates::new()?,
            states: Array::zeros::<f32>(device, &[settings.slots, LINEAR_HEADS, DIM, DIM])?,
            q: rows()?,
            k: rows()?,
            v: rows()?,
            gate: rows()?,
            out: rows()?,
            q_norm: weight(&norms.q)?,
            k_norm: weight(&norms.k)?,
            out_norm: weight(&norms.out)?,
            cos_sin: Array::of(device, &model.cos_sin, &[CAPACITY, DIM])?,
            log_decay: Array::of(device, &model.log_decay, &[LINEAR_HEADS])?,
        })
    }

    /// The layer's part of a step: norm and turn, then the states of decoding sequences and of prompts, norm and gate.
    pub fn mix(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        self.norm_and_turn(launcher, scratch, inputs)?;
        match inputs.shape.width {
            _ if inputs.shape.decode == 0 => {}
            1 => self.decode(launcher, scratch, inputs)?,
            _ => self.verify(launcher, scratch, inputs)?,
        }
        if inputs.shape.prefill > 0 {
            self.prefill(launcher, scratch, inputs)?;
        }
        let rows = 0..inputs.shape.rows();
        let (weight, gate) = (self.out_norm.view()?, self.gate.flat_rows(&rows)?);
        let args = NormGateArgs::new(None, weight, gate, self.out.flat_rows_mut(&rows)?);
        launcher.run("norm_gate", &self.norm, args)
    }

    fn norm_and_turn(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let rows = 0..inputs.shape.rows();
        for (x, weight) in [(&mut self.q, &self.q_norm), (&mut self.k, &self.k_norm)] {
            let mut args = NormRopeArgs::new(None, x.rows_mut(&rows)?);
            args.weight = Some(weight.view()?);
            args.cos_sin = Some(self.cos_sin.view()?);
            args.positions = Some(inputs.positions.rows(&rows)?);
            args.status = Some(scratch.status.view_mut()?);
            launcher.run("norm_rope", &self.norm, args)?;
        }
        Ok(())
    }

    fn prefill(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let part = inputs.prefilling()?;
        let mut args = LinearPrefillArgs::new(
            self.q.rows(&part.rows)?,
            self.k.rows(&part.rows)?,
            self.v.rows(&part.rows)?,
            part.sequences.cu_seqlens_q,
            Some(self.log_decay.view()?),
            self.out.rows_mut(&part.rows)?,
        );
        args.state = Some(self.states.view_mut()?);
        args.state_in = Some(part.state_in);
        args.state_out = Some(part.state_out);
        args.checkpoint_every = PAGE;
        args.checkpoint_slots = Some(inputs.checkpoints()?);
        args.max_seqlen_q = Some(part.longest);
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("linear_prefill", &self.layer, args)
    }

    fn decode(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let rows = 0..inputs.shape.decode_rows();
        let mut args = LinearDecodeArgs::new(
            self.q.rows(&rows)?,
            self.k.rows(&rows)?,
            self.v.rows(&rows)?,
            Some(self.log_decay.view()?),
            self.states.view_mut()?,
            inputs.decoding()?.state_in,
            self.out.rows_mut(&rows)?,
        );
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("linear_decode", &self.layer, args)
    }

    fn verify(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let drafts = [inputs.shape.decode, inputs.shape.width, LINEAR_HEADS, DIM];
        let mut args = LinearVerifyArgs::new(
            self.q.first(&drafts)?,
            self.k.first(&drafts)?,
            self.v.first(&drafts)?,
            Some(self.log_decay.view()?),
            self.states.view()?,
            inputs.decoding()?.state_in,
            self.out.first_mut(&drafts)?,
        );
        args.parent = inputs.parent()?;
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("linear_verify", &self.layer, args)
    }

    /// After the drafts: states take in those that were accepted.
    pub fn commit(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let drafts = [inputs.shape.decode, inputs.shape.width, LINEAR_HEADS, DIM];
        let mut args = LinearCommitArgs::new(
            self.k.first(&drafts)?,
            self.v.first(&drafts)?,
            Some(self.log_decay.view()?),
            self.states.view_mut()?,
            inputs.decoding()?.state_in,
            inputs.accepted()?,
        );
        args.path = Some(inputs.path()?);
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("linear_commit", &self.layer, args)
    }

    /// Copies states for forks: pairs of slots, from and to.
    pub fn copy_states(
        &mut self,
        launcher: &mut Launcher,
        scratch: &mut Scratch,
        slots: &[(usize, usize)],
    ) -> Result<()> {
        let device = launcher.device().clone();
        let list = |side: fn(&(usize, usize)) -> usize| {
            let slots: Vec<i32> = slots.iter().map(|pair| side(pair) as i32).collect();
            Array::of(&device, &slots, &[slots.len()])
        };
        let (from, to) = (list(|pair| pair.0)?, list(|pair| pair.1)?);
        let mut args = CopyStatesArgs::new(self.states.view_mut()?, from.view()?, to.view()?);
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("copy_states", &self.copies, args)
    }
}
