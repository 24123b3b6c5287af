//! Wrong arguments are refused by name before anything runs.

use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{
    DType, Decay, LinearAttention, LinearCorrectArgs, LinearShape, MergeStates, MergeStatesArgs, Result, SumDecayArgs,
};
use sala_testkit::devices::all;
use sala_testkit::refusals::{Fault, Spare, check};

const TOKENS: usize = 6;
const Q: [usize; 3] = [TOKENS, 4, 64];
const SUMS: [usize; 2] = [TOKENS, 4];
const STATES: [usize; 4] = [5, 4, 64, 64];

type Sum = SumDecayArgs<'static>;
type Merge = MergeStatesArgs<'static>;
type Correct = LinearCorrectArgs<'static>;

fn layer(decay: Decay) -> Result<LinearAttention> {
    let shape = LinearShape {
        heads_q: 4,
        heads_kv: 2,
        dim_k: 64,
        dim_v: 64,
    };
    LinearAttention::builder(Bf16, shape, decay).build()
}

fn sum(spare: &Spare) -> Sum {
    let (cumulative, total) = (spare.tensor_mut(F32, &SUMS), spare.tensor_mut(F32, &[2, 4]));
    let mut args = Sum::new(
        spare.list(&[0, 2, 6]),
        Some(spare.tensor(F32, &SUMS)),
        cumulative,
        total,
    );
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

/// Two parts of two sequences.
fn merge(spare: &Spare) -> Merge {
    let (adds, total) = (spare.tensor(F32, &[4, 4, 64, 64]), spare.tensor(F32, &[4, 4]));
    let slots = spare.list_of(&[-1, -1, 2, 3, 0, 1], &[3, 2]);
    let mut args = Merge::new(adds, total, spare.tensor_mut(F32, &STATES), spare.list(&[0, 1]), slots);
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

fn correct(spare: &Spare) -> Correct {
    let (q, sums, out) = (
        spare.tensor(Bf16, &Q),
        spare.tensor(F32, &SUMS),
        spare.tensor_mut(Bf16, &Q),
    );
    let (state, slots) = (spare.tensor(F32, &STATES), spare.list(&[0, 1]));
    let mut args = Correct::new(q, sums, spare.list(&[0, 2, 6]), state, slots, out);
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

const SUM_FAULTS: &[Fault<Sum>] = &[
    ("cu_seqlens", |args, spare| args.cu_seqlens = spare.list(&[])),
    ("cu_seqlens", |args, spare| args.cu_seqlens = spare.tensor(F32, &[3])),
    ("log_decay", |args, _| args.log_decay = None),
    ("log_decay", |args, spare| {
        args.log_decay = Some(spare.tensor(F32, &[4]))
    }),
    ("cumulative", |args, spare| {
        args.cumulative = spare.tensor_mut(Bf16, &SUMS)
    }),
    ("log_decay", |args, spare| {
        args.cumulative = spare.tensor_mut(F32, &[5, 4])
    }),
    ("total", |args, spare| args.total = spare.tensor_mut(F32, &[3, 4])),
    ("cumulative", |args, spare| {
        args.cumulative = spare.over(args.log_decay.expect("it is given"), F32, &SUMS)
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(F32, &[4]))),
];

const MERGE_FAULTS: &[Fault<Merge>] = &[
    ("adds", |args, spare| args.adds = spare.tensor(F32, &[3, 4, 64, 64])),
    ("adds", |args, spare| args.adds = spare.tensor(F16, &[4, 4, 64, 64])),
    ("total", |args, spare| args.total = spare.tensor(F32, &[2, 2, 4])),
    ("state", |args, spare| args.state = spare.tensor_mut(F32, &[5, 4, 64])),
    ("state", |args, spare| {
        args.state = spare.tensor_mut(F32, &[5, 4, 64, 63])
    }),
    ("state_in", |args, spare| {
        args.state_in = spare.list_of(&[0, 1], &[2, 1])
    }),
    ("state_out", |args, spare| args.state_out = spare.list(&[2, 3])),
    ("state_out", |args, spare| args.state_out = spare.tensor(I32, &[0, 2])),
    ("state_out", |args, spare| args.state_out = spare.tensor(I32, &[3, 1])),
    ("state_out", |args, spare| {
        args.state_out = spare.strided(I32, &[3, 2], &[4, 1], 0)
    }),
    ("state", |args, spare| {
        args.state = spare.over(args.adds, F32, &[4, 4, 64, 64])
    }),
];

const CORRECT_FAULTS: &[Fault<Correct>] = &[
    ("q", |args, spare| args.q = spare.tensor(F16, &Q)),
    ("q", |args, spare| args.q = spare.tensor(Bf16, &[TOKENS, 2, 64])),
    ("cumulative", |args, spare| args.cumulative = spare.tensor(F32, &[4])),
    ("state", |args, spare| args.state = spare.tensor(F32, &[5, 2, 64, 64])),
    ("state_in", |args, spare| args.state_in = spare.list(&[0])),
    ("out", |args, spare| {
        args.out = spare.tensor_mut(Bf16, &[TOKENS, 4, 128])
    }),
    ("out", |args, spare| args.out = spare.over(args.q, Bf16, &Q)),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[3]))),
];

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    for machine in all() {
        check(&machine, &layer(Decay::PerToken)?, sum, SUM_FAULTS)?;
        check(&machine, &MergeStates::new()?, merge, MERGE_FAULTS)?;
        check(&machine, &layer(Decay::PerHead)?, correct, CORRECT_FAULTS)?;
    }
    Ok(())
}
