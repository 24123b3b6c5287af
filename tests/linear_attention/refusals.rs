//! An argument that does not fit is refused by name before anything runs.

use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{DType, Decay, LinearAttention, LinearDecodeArgs, LinearPrefillArgs, LinearShape, Result};
use sala_testkit::devices::all;
use sala_testkit::refusals::{Fault, Spare, check};

const TOKENS: usize = 20;
const HEADS: usize = 2;
const DIM: usize = 64;
const BATCH: usize = 3;
const SLOTS: usize = 4;

const ROWS: [usize; 3] = [TOKENS, HEADS, DIM];
const STEP: [usize; 3] = [BATCH, HEADS, DIM];
const STATES: [usize; 4] = [SLOTS, HEADS, DIM, DIM];

type Prefill = LinearPrefillArgs<'static>;
type Decode = LinearDecodeArgs<'static>;

fn layer(decay: Decay) -> Result<LinearAttention> {
    let shape = LinearShape {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim_k: DIM,
        dim_v: DIM,
    };
    LinearAttention::builder(Bf16, shape, decay).build()
}

/// A prefill with every tensor, for a decay of that shape.
fn prefill(spare: &Spare, decay_shape: Option<&[usize]>) -> Prefill {
    let [q, k, v] = [(); 3].map(|()| spare.tensor(Bf16, &ROWS));
    let log_decay = decay_shape.map(|shape| spare.tensor(F32, shape));
    let cu_seqlens = spare.list(&[0, 5, 5, TOKENS as i32]);
    let mut args = Prefill::new(q, k, v, cu_seqlens, log_decay, spare.tensor_mut(Bf16, &ROWS));
    args.state = Some(spare.tensor_mut(F32, &STATES));
    args.state_in = Some(spare.list(&[0, 1, 2]));
    args.state_out = Some(spare.list(&[0, 1, 2]));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

#[rustfmt::skip] // A line per fault.
const PREFILL_FAULTS: &[Fault<Prefill>] = &[
    ("q", |args, spare| args.q = spare.tensor(F16, &ROWS)),
    ("q", |args, spare| args.q = spare.tensor(Bf16, &[TOKENS, HEADS * DIM])),
    ("q", |args, spare| args.q = spare.tensor(Bf16, &[TOKENS, HEADS + 1, DIM])),
    ("q", |args, spare| args.q = spare.tensor(Bf16, &[TOKENS, HEADS, 128])),
    ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[512, 128, 2], 0)),
    ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[132, 64, 1], 0)),
    ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[256, 68, 1], 0)),
    ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[128, 64, 1], 4)),
    ("k", |args, spare| args.k = spare.tensor(Bf16, &[TOKENS - 1, HEADS, DIM])),
    ("k", |args, spare| args.k = spare.tensor(F32, &ROWS)),
    ("v", |args, spare| args.v = spare.tensor(Bf16, &[TOKENS, HEADS, 128])),
    ("v", |args, spare| args.v = spare.strided(Bf16, &ROWS, &[128, 64, 1], 1)),
    ("cu_seqlens", |args, spare| args.cu_seqlens = spare.tensor(F32, &[BATCH + 1])),
    ("cu_seqlens", |args, spare| args.cu_seqlens = spare.tensor(I32, &[BATCH + 1, 1])),
    ("cu_seqlens", |args, spare| args.cu_seqlens = spare.tensor(I32, &[0])),
    ("cu_seqlens", |args, spare| args.cu_seqlens = spare.strided(I32, &[BATCH + 1], &[2], 0)),
    ("log_decay", |args, _| args.log_decay = None),
    ("log_decay", |args, spare| args.log_decay = Some(spare.tensor(F32, &[HEADS + 1]))),
    ("log_decay", |args, spare| args.log_decay = Some(spare.tensor(F32, &[TOKENS, HEADS]))),
    ("log_decay", |args, spare| args.log_decay = Some(spare.tensor(Bf16, &[HEADS]))),
    ("state", |args, _| args.state = None),
    ("state", |args, spare| args.state = Some(spare.tensor_mut(F32, &[SLOTS, HEADS, DIM]))),
    ("state", |args, spare| args.state = Some(spare.tensor_mut(F32, &[SLOTS, HEADS, DIM, 128]))),
    ("state", |args, spare| args.state = Some(spare.tensor_mut(Bf16, &STATES))),
    ("state", |args, spare| {
        let misaligned = spare.strided(F32, &STATES, &[HEADS * DIM * DIM, DIM * DIM, DIM, 1], 1);
        args.state = Some(spare.over(misaligned, F32, &STATES));
    }),
    ("state_in", |args, spare| args.state_in = Some(spare.tensor(I32, &[BATCH + 1]))),
    ("state_in", |args, spare| args.state_in = Some(spare.tensor(F32, &[BATCH]))),
    ("state_out", |args, spare| args.state_out = Some(spare.tensor(I32, &[BATCH - 1]))),
    ("state_out", |args, spare| args.state_out = Some(spare.tensor(F32, &[BATCH]))),
    ("checkpoint_every", |args, _| args.checkpoint_every = 64),
    ("checkpoint_every", |args, spare| args.checkpoint_slots = Some(spare.tensor(I32, &[BATCH, 2]))),
    ("checkpoint_every", |args, spare| {
        (args.checkpoint_every, args.checkpoint_slots) = (100, Some(spare.tensor(I32, &[BATCH, 2])));
    }),
    ("checkpoint_slots", |args, spare| {
        (args.checkpoint_every, args.checkpoint_slots) = (64, Some(spare.tensor(I32, &[BATCH + 1, 2])));
    }),
    ("checkpoint_slots", |args, spare| {
        (args.checkpoint_every, args.checkpoint_slots) = (64, Some(spare.tensor(F32, &[BATCH, 2])));
    }),
    ("checkpoint_slots", |args, spare| {
        (args.checkpoint_every, args.checkpoint_slots) = (64, Some(spare.strided(I32, &[BATCH, 2], &[3, 1], 0)));
    }),
    ("workspace", |args, spare| args.workspace = Some(spare.tensor_mut(F32, &[2, 8]))),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[TOKENS + 1, HEADS, DIM])),
    ("out", |args, spare| args.out = spare.tensor_mut(F32, &ROWS)),
    ("out", |args, spare| args.out = spare.over(args.q, Bf16, &ROWS)),
    ("out", |args, spare| {
        let state = args.state.as_ref().expect("it has states");
        args.out = spare.over(state.as_tensor(), Bf16, &ROWS);
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[3]))),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(I32, &[4]))),
];

#[test]
fn a_wrong_argument_of_a_prefill_is_refused_by_name() -> Result<()> {
    for machine in all() {
        let per_head = |spare: &Spare| prefill(spare, Some(&[HEADS]));
        check(&machine, &layer(Decay::PerHead)?, per_head, PREFILL_FAULTS)?;

        let without = |spare: &Spare| prefill(spare, None);
        let a_decay: Fault<Prefill> = ("log_decay", |args, spare| {
            args.log_decay = Some(spare.tensor(F32, &[HEADS]))
        });
        check(&machine, &layer(Decay::None)?, without, &[a_decay])?;

        let per_token = |spare: &Spare| prefill(spare, Some(&[TOKENS, HEADS]));
        check(&machine, &layer(Decay::PerToken)?, per_token, &[a_decay])?;
    }
    Ok(())
}

/// A step with every tensor.
fn decode(spare: &Spare) -> Decode {
    let [q, k, v] = [(); 3].map(|()| spare.tensor(Bf16, &STEP));
    let log_decay = Some(spare.tensor(F32, &[HEADS]));
    let (state, out) = (spare.tensor_mut(F32, &STATES), spare.tensor_mut(Bf16, &STEP));
    let mut args = Decode::new(q, k, v, log_decay, state, spare.list(&[0, 1, 2]), out);
    args.state_out = Some(spare.list(&[0, 1, 2]));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

#[rustfmt::skip] // A line per fault.
const DECODE_FAULTS: &[Fault<Decode>] = &[
    ("q", |args, spare| args.q = spare.tensor(F16, &STEP)),
    ("q", |args, spare| args.q = spare.strided(Bf16, &STEP, &[132, 64, 1], 0)),
    ("k", |args, spare| args.k = spare.tensor(Bf16, &[BATCH + 1, HEADS, DIM])),
    ("v", |args, spare| args.v = spare.strided(Bf16, &STEP, &[128, 64, 1], 3)),
    ("log_decay", |args, _| args.log_decay = None),
    ("log_decay", |args, spare| args.log_decay = Some(spare.tensor(F32, &[BATCH, HEADS]))),
    ("state", |args, spare| args.state = spare.tensor_mut(F32, &[SLOTS, HEADS + 1, DIM, DIM])),
    ("state", |args, spare| args.state = spare.tensor_mut(U32, &STATES)),
    ("state_in", |args, spare| args.state_in = spare.tensor(I32, &[BATCH - 1])),
    ("state_out", |args, spare| args.state_out = Some(spare.tensor(F32, &[BATCH]))),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[BATCH, HEADS, 128])),
    ("out", |args, spare| args.out = spare.over(args.q, Bf16, &STEP)),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(F32, &[4]))),
];

#[test]
fn a_wrong_argument_of_a_step_is_refused_by_name() -> Result<()> {
    for machine in all() {
        check(&machine, &layer(Decay::PerHead)?, decode, DECODE_FAULTS)?;
    }
    Ok(())
}
