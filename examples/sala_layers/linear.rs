//! A linear layer: norm and rotary embedding on q and k, the scan or a decode step, norm and gate on the output.

use crate::around::{Rotation, apply_gate, rms_norm};
use crate::config::Config;
use crate::meter::Meter;
use crate::random;
use half::bf16;
use sala_kernels::{Buffer, DType, Decay, DecodeArgs, LinearAttention, PrefillArgs, Result, lightning_log_decay};
use sala_testkit::cases::Numbers;

/// One layer and all tokens it will see.
pub struct LinearLayer<'a> {
    config: &'a Config,
    operation: LinearAttention,
    tokens: usize,
    /// `[tokens, heads, dim]`
    q: Buffer,
    k: Buffer,
    v: Buffer,
    out: Buffer,
    gate: Vec<bf16>,
    output_norm: Vec<bf16>,
    log_decay: Buffer,
    /// One slot, and its number.
    state: Buffer,
    slot: Buffer,
}

impl<'a> LinearLayer<'a> {
    /// A layer on a meter's device, for `tokens` tokens of random projections. The norms and the rotary embedding of q and k are done here.
    pub fn new(config: &'a Config, meter: &Meter, tokens: usize, seed: u64) -> Result<LinearLayer<'a>> {
        let (heads, dim) = (config.lightning_nh, config.lightning_head_dim);
        let operation = LinearAttention::builder(DType::Bf16, heads, dim, dim)
            .scale(config.linear_scale())
            .decay(Decay::PerHead)
            .build()?;
        let device = &meter.device;
        let channels = tokens * heads * dim;
        let mut numbers = Numbers::new(seed);
        let mut q = random(&mut numbers, channels);
        let mut k = random(&mut numbers, channels);
        let v = random(&mut numbers, channels);
        for rows in [&mut q, &mut k] {
            prepare(config, rows, &norm_weight(&mut numbers, dim));
        }
        Ok(LinearLayer {
            config,
            operation,
            tokens,
            q: Buffer::from_slice(device, &q)?,
            k: Buffer::from_slice(device, &k)?,
            v: Buffer::from_slice(device, &v)?,
            out: Buffer::new(device, channels * size_of::<bf16>())?,
            gate: random(&mut numbers, channels),
            output_norm: norm_weight(&mut numbers, heads * dim),
            log_decay: Buffer::from_slice(device, &lightning_log_decay(0, heads, heads))?,
            state: Buffer::new(device, heads * dim * dim * size_of::<f32>())?,
            slot: Buffer::from_slice(device, &[0i32])?,
        })
    }

    /// Takes in the first `length` tokens.
    pub fn prefill(&mut self, meter: &mut Meter, length: usize) -> Result<()> {
        let (heads, dim) = (self.config.lightning_nh, self.config.lightning_head_dim);
        let shape = [length, heads, dim];
        let cu_seqlens = Buffer::from_slice(&meter.device, &[0, length as i32])?;
        let args = PrefillArgs {
            q: self.q.tensor(DType::Bf16, &shape)?,
            k: self.k.tensor(DType::Bf16, &shape)?,
            v: self.v.tensor(DType::Bf16, &shape)?,
            cu_seqlens: cu_seqlens.tensor(DType::I32, &[2])?,
            log_decay: Some(self.log_decay.tensor(DType::F32, &[heads])?),
            state: Some(self.state.tensor_mut(DType::F32, &[1, heads, dim, dim])?),
            state_in: None,
            state_out: Some(self.slot.tensor(DType::I32, &[1])?),
            out: self.out.tensor_mut(DType::Bf16, &shape)?,
            status: None,
        };
        meter.run("linear_attention prefill", |kernels, stream| {
            // SAFETY: the buffers outlive the launch, which `run` waits for.
            unsafe { self.operation.prefill(kernels, stream, args) }
        })
    }

    /// Takes in one more token.
    pub fn decode(&mut self, meter: &mut Meter, token: usize) -> Result<()> {
        let (heads, dim) = (self.config.lightning_nh, self.config.lightning_head_dim);
        let shape = [self.tokens, heads, dim];
        let row = token..token + 1;
        let args = DecodeArgs {
            q: self.q.tensor(DType::Bf16, &shape)?.narrow(0, row.clone())?,
            k: self.k.tensor(DType::Bf16, &shape)?.narrow(0, row.clone())?,
            v: self.v.tensor(DType::Bf16, &shape)?.narrow(0, row.clone())?,
            log_decay: Some(self.log_decay.tensor(DType::F32, &[heads])?),
            state: self.state.tensor_mut(DType::F32, &[1, heads, dim, dim])?,
            state_in: Some(self.slot.tensor(DType::I32, &[1])?),
            state_out: Some(self.slot.tensor(DType::I32, &[1])?),
            out: self.out.tensor_mut(DType::Bf16, &shape)?.narrow(0, row)?,
            status: None,
        };
        meter.run("linear_attention decode", |kernels, stream| {
            // SAFETY: the buffers outlive the launch, which `run` waits for.
            unsafe { self.operation.decode(kernels, stream, args) }
        })
    }

    /// What the layer hands to its output projection: `[tokens, heads · dim]`, normed over all heads and gated.
    pub fn output(&self) -> Result<Vec<bf16>> {
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
