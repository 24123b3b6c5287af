//! A linear layer: norm and rotary embedding on q and k, the scan or a decode step, norm and gate on the output.

use crate::config::Config;
use crate::random;
use demos::array::Array;
use demos::meter::Meter;
use half::bf16;
use sala_kernels::{
    DType, Decay, LinearAttention, LinearDecodeArgs, LinearPrefillArgs, LinearShape, Norm, NormGateArgs, NormRopeArgs,
    Result, lightning_log_decay, rotary_cos_sin,
};
use sala_testkit::numbers::Numbers;
use std::ops::Range;

/// One layer and all tokens it will see.
pub struct LinearMixer {
    layer: LinearAttention,
    norm: Norm,
    /// `[tokens, heads, dim]`; queries and keys are normed and turned in place as tokens come.
    q: Array,
    k: Array,
    v: Array,
    /// Normed and gated in place.
    out: Array,
    gate: Array,
    /// `[dim]` of queries and of keys, `[heads · dim]` of outputs.
    q_norm: Array,
    k_norm: Array,
    output_norm: Array,
    /// Absent: nothing turns.
    cos_sin: Option<Array>,
    /// `[tokens]`
    positions: Array,
    log_decay: Array,
    /// One slot, and its number.
    state: Array,
    slot: Array,
    /// For prompts that are split.
    workspace: Array,
    /// What the kernels have refused.
    status: Array,
}

impl LinearMixer {
    /// A layer on a meter's device, for `tokens` tokens of random projections.
    pub fn new(config: &Config, meter: &Meter, tokens: usize, seed: u64) -> Result<LinearMixer> {
        let (heads, dim) = (config.lightning_nh, config.lightning_head_dim);
        let shape = LinearShape {
            heads_q: heads,
            heads_kv: heads,
            dim_k: dim,
            dim_v: dim,
        };
        let layer = LinearAttention::builder(DType::Bf16, shape, Decay::PerHead)
            .scale(config.linear_scale())
            .build()?;
        let workspace = layer.workspace_size(1, tokens, tokens).div_ceil(size_of::<u32>());
        let device = &meter.device;
        let rows = [tokens, heads, dim];
        let channels = tokens * heads * dim;
        let mut numbers = Numbers::new(seed);
        let mut projection = || Array::of(device, &random(&mut numbers, channels), &rows);
        let (q, k, v, gate) = (projection()?, projection()?, projection()?, projection()?);
        let mut weight = |channels: usize| Array::of(device, &norm_weight(&mut numbers, channels), &[channels]);
        let positions: Vec<i32> = (0..tokens as i32).collect();
        let turns = || Array::of(device, &rotary_cos_sin(tokens, dim, config.rope_theta)?, &[tokens, dim]);
        Ok(LinearMixer {
            layer,
            norm: Norm::new(DType::Bf16, config.rms_norm_eps)?,
            q,
            k,
            v,
            out: Array::zeros::<bf16>(device, &rows)?,
            gate,
            q_norm: weight(dim)?,
            k_norm: weight(dim)?,
            output_norm: weight(heads * dim)?,
            cos_sin: config.lightning_use_rope.then(turns).transpose()?,
            positions: Array::of(device, &positions, &[tokens])?,
            log_decay: Array::of(device, &lightning_log_decay(0, heads, heads)?, &[heads])?,
            state: Array::zeros::<f32>(device, &[1, heads, dim, dim])?,
            slot: Array::of(device, &[0i32], &[1])?,
            workspace: Array::zeros::<u32>(device, &[workspace])?,
            status: Array::zeros::<u32>(device, &[4])?,
        })
    }

    /// Takes in the first `length` tokens.
    pub fn prefill(&mut self, meter: &mut Meter, length: usize) -> Result<()> {
        let tokens = 0..length;
        self.norm_and_turn(meter, &tokens)?;
        let cu_seqlens = Array::of(&meter.device, &[0, length as i32], &[2])?;
        let mut args = LinearPrefillArgs::new(
            self.q.rows(&tokens)?,
            self.k.rows(&tokens)?,
            self.v.rows(&tokens)?,
            cu_seqlens.view()?,
            Some(self.log_decay.view()?),
            self.out.rows_mut(&tokens)?,
        );
        args.state = Some(self.state.view_mut()?);
        args.state_out = Some(self.slot.view()?);
        args.workspace = Some(self.workspace.view_mut()?);
        args.status = Some(self.status.view_mut()?);
        meter.run("linear_attention prefill", &self.layer, args)?;
        self.norm_and_gate(meter, &tokens)
    }

    /// Takes in one more token.
    pub fn decode(&mut self, meter: &mut Meter, token: usize) -> Result<()> {
        let token = token..token + 1;
        self.norm_and_turn(meter, &token)?;
        let mut args = LinearDecodeArgs::new(
            self.q.rows(&token)?,
            self.k.rows(&token)?,
            self.v.rows(&token)?,
            Some(self.log_decay.view()?),
            self.state.view_mut()?,
            self.slot.view()?,
            self.out.rows_mut(&token)?,
        );
        args.status = Some(self.status.view_mut()?);
        meter.run("linear_attention decode", &self.layer, args)?;
        self.norm_and_gate(meter, &token)
    }

    /// What the layer hands to its output projection: `[tokens, heads · dim]`, normed over all heads and gated.
    ///
    /// # Errors
    /// Also [`sala_kernels::Error::Refused`], if the kernels have refused anything since the layer was made.
    pub fn output(&self) -> Result<Vec<bf16>> {
        self.status.check_status()?;
        self.out.read()
    }

    /// Norm and rotary embedding of the queries and keys of some tokens.
    fn norm_and_turn(&mut self, meter: &mut Meter, tokens: &Range<usize>) -> Result<()> {
        for (rows, weight) in [(&mut self.q, &self.q_norm), (&mut self.k, &self.k_norm)] {
            let mut args = NormRopeArgs::new(None, rows.rows_mut(tokens)?);
            args.weight = Some(weight.view()?);
            if let Some(cos_sin) = &self.cos_sin {
                args.cos_sin = Some(cos_sin.view()?);
                args.positions = Some(self.positions.rows(tokens)?);
            }
            args.status = Some(self.status.view_mut()?);
            meter.run("norm_rope", &self.norm, args)?;
        }
        Ok(())
    }

    /// The norm over all heads of some outputs, and their gate.
    fn norm_and_gate(&mut self, meter: &mut Meter, tokens: &Range<usize>) -> Result<()> {
        let gate = self.gate.flat_rows(tokens)?;
        let out = self.out.flat_rows_mut(tokens)?;
        let args = NormGateArgs::new(None, self.output_norm.view()?, gate, out);
        meter.run("norm_gate", &self.norm, args)
    }
}

/// Weights of a norm, near one.
fn norm_weight(numbers: &mut Numbers, channels: usize) -> Vec<bf16> {
    (0..channels)
        .map(|_| bf16::from_f64(1.0 + 0.1 * numbers.normal()))
        .collect()
}
