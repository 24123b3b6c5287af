//! The launches of linear attention that are counted.

use crate::case::{Case, Machine};
use crate::floors;
use sala_kernels::{Counters, DType, Decay, DecodeArgs, LinearAttention, PrefillArgs, Result, lightning_log_decay};
use sala_testkit::cases::cumulative;

/// Whole sequences from zero, states stored.
#[derive(Clone, Copy)]
struct Prefill {
    dtype: DType,
    lengths: &'static [usize],
    heads: usize,
    dim_k: usize,
    dim_v: usize,
    decay: Decay,
    multiprocessors: u32,
}

const PREFILL: Prefill = Prefill {
    dtype: DType::Bf16,
    lengths: &[1024],
    heads: 2,
    dim_k: 128,
    dim_v: 128,
    decay: Decay::PerHead,
    multiprocessors: 1,
};

/// SALA's dims with few and with many multiprocessors (which narrows the blocks), a ragged batch, a gate a token, f16, small heads.
const PREFILLS: [Prefill; 6] = [
    PREFILL,
    Prefill {
        multiprocessors: 132,
        ..PREFILL
    },
    Prefill {
        lengths: &[257, 0, 64, 703],
        ..PREFILL
    },
    Prefill {
        decay: Decay::PerToken,
        ..PREFILL
    },
    Prefill {
        dtype: DType::F16,
        ..PREFILL
    },
    Prefill {
        dim_k: 64,
        dim_v: 64,
        ..PREFILL
    },
];

/// Batches of decode steps: sequences, heads, channels.
const DECODES: [(usize, usize, usize); 3] = [(1, 32, 128), (16, 8, 128), (16, 8, 64)];

/// All launches.
pub fn cases() -> Result<Vec<Case>> {
    let prefills = PREFILLS.into_iter().map(prefill_case);
    let decodes = DECODES
        .into_iter()
        .map(|(batch, heads, dim)| decode_case(batch, heads, dim));
    prefills.chain(decodes).collect()
}

fn operation(dtype: DType, heads: usize, dim_k: usize, dim_v: usize, decay: Decay) -> Result<LinearAttention> {
    LinearAttention::builder(dtype, heads, dim_k, dim_v)
        .scale((dim_k as f32).sqrt().recip())
        .decay(decay)
        .build()
}

fn prefill_case(case: Prefill) -> Result<Case> {
    let Prefill {
        dtype,
        lengths,
        heads,
        dim_k,
        dim_v,
        decay,
        multiprocessors,
    } = case;
    let operation = operation(dtype, heads, dim_k, dim_v, decay)?;
    let gate = if decay == Decay::PerToken {
        ", a decay a token"
    } else {
        ""
    };
    Ok(Case {
        kernel: "linear_attention_scan",
        shape: format!("{dtype} lengths {lengths:?} heads {heads} dims {dim_k}x{dim_v}{gate}, {multiprocessors} SMs"),
        floor: floors::linear_prefill(lengths, heads, dim_k, dim_v),
        workspace: operation.workspace(),
        run: Box::new(move || run_prefill(&operation, case)),
    })
}

fn run_prefill(operation: &LinearAttention, case: Prefill) -> Result<Counters> {
    let Prefill {
        dtype,
        lengths,
        heads,
        dim_k,
        dim_v,
        decay,
        multiprocessors,
    } = case;
    let machine = Machine::new(multiprocessors)?;
    let (tokens, batch) = (lengths.iter().sum::<usize>(), lengths.len());
    let (keys, values) = ([tokens, heads, dim_k], [tokens, heads, dim_v]);
    let q = machine.normals(dtype, tokens * heads * dim_k, 1)?;
    let k = machine.normals(dtype, tokens * heads * dim_k, 2)?;
    let v = machine.normals(dtype, tokens * heads * dim_v, 3)?;
    let mut out = machine.space(dtype, tokens * heads * dim_v)?;
    let mut state = machine.space(DType::F32, batch * heads * dim_k * dim_v)?;
    let slots = machine.buffer(&(0..batch as i32).collect::<Vec<_>>())?;
    let cu_seqlens = machine.buffer(&cumulative(lengths))?;
    let per_head = lightning_log_decay(0, heads, heads);
    let (log_decay, decay_shape) = match decay {
        Decay::PerToken => (machine.buffer(&per_head.repeat(tokens))?, vec![tokens, heads]),
        _ => (machine.buffer(&per_head)?, vec![heads]),
    };
    let args = PrefillArgs {
        q: q.tensor(dtype, &keys)?,
        k: k.tensor(dtype, &keys)?,
        v: v.tensor(dtype, &values)?,
        cu_seqlens: cu_seqlens.tensor(DType::I32, &[batch + 1])?,
        log_decay: Some(log_decay.tensor(DType::F32, &decay_shape)?),
        state: Some(state.tensor_mut(DType::F32, &[batch, heads, dim_k, dim_v])?),
        state_in: None,
        state_out: Some(slots.tensor(DType::I32, &[batch])?),
        out: out.tensor_mut(dtype, &values)?,
        status: None,
    };
    // SAFETY: a host launch has finished when it returns, and the buffers outlive it.
    unsafe { operation.prefill(&machine.kernels, &machine.stream, args)? };
    Ok(machine.stream.take_counters())
}

fn decode_case(batch: usize, heads: usize, dim: usize) -> Result<Case> {
    let operation = operation(DType::Bf16, heads, dim, dim, Decay::PerHead)?;
    Ok(Case {
        kernel: "linear_attention_decode",
        shape: format!("bf16 batch {batch} heads {heads} dims {dim}x{dim}"),
        floor: floors::linear_decode(batch, heads, dim, dim),
        workspace: operation.workspace(),
        run: Box::new(move || run_decode(&operation, batch, heads, dim)),
    })
}

fn run_decode(operation: &LinearAttention, batch: usize, heads: usize, dim: usize) -> Result<Counters> {
    let machine = Machine::new(1)?;
    let shape = [batch, heads, dim];
    let rows = batch * heads * dim;
    let [q, k, v] = [1, 2, 3].map(|seed| machine.normals(DType::Bf16, rows, seed));
    let (q, k, v) = (q?, k?, v?);
    let mut out = machine.space(DType::Bf16, rows)?;
    let mut state = machine.space(DType::F32, rows * dim)?;
    let slots = machine.buffer(&(0..batch as i32).collect::<Vec<_>>())?;
    let log_decay = machine.buffer(&lightning_log_decay(0, heads, heads))?;
    let args = DecodeArgs {
        q: q.tensor(DType::Bf16, &shape)?,
        k: k.tensor(DType::Bf16, &shape)?,
        v: v.tensor(DType::Bf16, &shape)?,
        log_decay: Some(log_decay.tensor(DType::F32, &[heads])?),
        state: state.tensor_mut(DType::F32, &[batch, heads, dim, dim])?,
        state_in: Some(slots.tensor(DType::I32, &[batch])?),
        state_out: Some(slots.tensor(DType::I32, &[batch])?),
        out: out.tensor_mut(DType::Bf16, &shape)?,
        status: None,
    };
    // SAFETY: a host launch has finished when it returns, and the buffers outlive it.
    unsafe { operation.decode(&machine.kernels, &machine.stream, args)? };
    Ok(machine.stream.take_counters())
}
