//! A linear layer: norm and rotary embedding on q and k, the scan or a decode step, norm and gate on the output.

use crate::around::{Rotation, apply_gate, rms_norm};
use crate::array::Array;
use crate::config::Config;
use crate::random;
use demos::meter::Meter;
use half::bf16;
use sala_kernels::{
    DType, Decay, LinearAttention, LinearDecodeArgs, LinearPrefillArgs, LinearShape, Result, lightning_log_decay,
};
use sala_testkit::numbers::Numbers;

/// One layer and all tokens it will see.
pub struct LinearMixer<'a> {
    config: &'a Config,
    layer: LinearAttention,
    /// `[tokens, heads, dim]`
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    gate: Vec<bf16>,
    output_norm: Vec<bf16>,
    log_decay: Array,
    /// One slot, and its number.
    state: Array,
    slot: Array,
    /// What the kernels have refused.
    status: Array,
}

impl<'a> LinearMixer<'a> {
    /// A layer on a meter's device, for `tokens` tokens of random projections. The norms and the rotary embedding of q and k are done here.
    pub fn new(config: &'a Config, meter: &Meter, tokens: usize, seed: u64) -> Result<LinearMixer<'a>> {
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
        let device = &meter.device;
        let rows = [tokens, heads, dim];
        let channels = tokens * heads * dim;
        let mut numbers = Numbers::new(seed);
        let mut q = random(&mut numbers, channels);
        let mut k = random(&mut numbers, channels);
        let v = random(&mut numbers, channels);
        for rows in [&mut q, &mut k] {
            prepare(config, rows, &norm_weight(&mut numbers, dim));
        }
        Ok(LinearMixer {
            config,
            layer,
            q: Array::of(device, &q, &rows)?,
            k: Array::of(device, &k, &rows)?,
            v: Array::of(device, &v, &rows)?,
            out: Array::zeros::<bf16>(device, &rows)?,
            gate: random(&mut numbers, channels),
            output_norm: norm_weight(&mut numbers, heads * dim),
            log_decay: Array::of(device, &lightning_log_decay(0, heads, heads)?, &[heads])?,
            state: Array::zeros::<f32>(device, &[1, heads, dim, dim])?,
            slot: Array::of(device, &[0i32], &[1])?,
            status: Array::zeros::<u32>(device, &[4])?,
        })
    }

    /// Takes in the first `length` tokens.
    pub fn prefill(&mut self, meter: &mut Meter, length: usize) -> Result<()> {
        let tokens = 0..length;
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
        args.status = Some(self.status.view_mut()?);
        meter.run("linear_attention prefill", &self.layer, args)
    }

    /// Takes in one more token.
    pub fn decode(&mut self, meter: &mut Meter, token: usize) -> Result<()> {
        let token = token..token + 1;
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
        meter.run("linear_attention decode", &self.layer, args)
    }

    /// What the layer hands to its output projection: `[tokens, heads · dim]`, normed over all heads and gated.
    ///
    /// # Errors
    /// Also [`sala_kernels::Error::Refused`], if the kernels have refused anything since the layer was made.
    pub fn output(&self) -> Result<Vec<bf16>> {
        self.status.check_status()?;
        let mut out = self.out.read()?;
        if self.config.use_output_norm {
            rms_norm(&mut out, &self.output_norm, self.config.rms_norm_eps);
        }
        if self.config.use_output_gate {
            apply_gate(&mut out, &self.gate);
        }
        Ok(out)
    }
}

/// Norm and rotary embedding of queries or keys, `[tokens, heads, dim]`, in place.
fn prepare(config: &Config, rows: &mut [bf16], weight: &[bf16]) {
    let (heads, dim) = (config.lightning_nh, config.lightning_head_dim);
    if config.qk_norm {
        rms_norm(rows, weight, config.rms_norm_eps);
    }
    if config.lightning_use_rope {
        for (position, token) in rows.chunks_exact_mut(heads * dim).enumerate() {
            let rotation = Rotation::new(position, dim, config.rope_theta);
            token.chunks_exact_mut(dim).for_each(|row| rotation.apply(row));
        }
    }
}

/// Weights of a norm, near one.
fn norm_weight(numbers: &mut Numbers, channels: usize) -> Vec<bf16> {
    (0..channels)
        .map(|_| bf16::from_f64(1.0 + 0.1 * numbers.normal()))
        .collect()
}
