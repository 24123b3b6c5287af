//! Wrong arguments are refused by name before anything runs.

use DType::{Bf16, F16, F32, U32};
use sala_kernels::{
    CopyStates, CopyStatesArgs, DType, Decay, LinearAttention, LinearCommitArgs, LinearShape, LinearVerifyArgs, Result,
};
use sala_testkit::devices::all;
use sala_testkit::refusals::{Fault, Spare, check};

const BATCH: usize = 2;
const DRAFTS: usize = 3;
const Q: [usize; 4] = [BATCH, DRAFTS, 4, 64];
const K: [usize; 4] = [BATCH, DRAFTS, 2, 64];
const STATES: [usize; 4] = [5, 4, 64, 64];

type Verify = LinearVerifyArgs<'static>;
type Commit = LinearCommitArgs<'static>;
type Copy = CopyStatesArgs<'static>;

fn layer(decay: Decay) -> Result<LinearAttention> {
    let shape = LinearShape {
        heads_q: 4,
        heads_kv: 2,
        dim_k: 64,
        dim_v: 64,
    };
    LinearAttention::builder(Bf16, shape, decay).build()
}

fn verify(spare: &Spare) -> Verify {
    let [q, k, v] = [Q, K, K].map(|shape| spare.tensor(Bf16, &shape));
    let decay = Some(spare.tensor(F32, &[4]));
    let (state, slots, out) = (
        spare.tensor(F32, &STATES),
        spare.list(&[0, 1]),
        spare.tensor_mut(Bf16, &Q),
    );
    let mut args = Verify::new(q, k, v, decay, state, slots, out);
    args.parent = Some(spare.list_of(&[-1, 0, 0, -1, -1, -1], &[BATCH, DRAFTS]));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

fn commit(spare: &Spare) -> Commit {
    let [k, v] = [K, K].map(|shape| spare.tensor(Bf16, &shape));
    let decay = Some(spare.tensor(F32, &[BATCH, DRAFTS, 4]));
    let (state, slots) = (spare.tensor_mut(F32, &STATES), spare.list(&[0, 1]));
    let mut args = Commit::new(k, v, decay, state, slots, spare.list(&[3, 0]));
    args.path = Some(spare.list_of(&[0, 1, 2, 0, 0, 0], &[BATCH, DRAFTS]));
    args.state_out = Some(spare.list(&[2, 3]));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

fn copy(spare: &Spare) -> Copy {
    let mut args = Copy::new(
        spare.tensor_mut(F32, &STATES),
        spare.list(&[0, 1]),
        spare.list(&[2, -1]),
    );
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

const VERIFY_FAULTS: &[Fault<Verify>] = &[
    ("q", |args, spare| args.q = spare.tensor(Bf16, &[BATCH * DRAFTS, 4, 64])),
    ("q", |args, spare| args.q = spare.tensor(Bf16, &[BATCH, 17, 4, 64])),
    ("q", |args, spare| args.q = spare.tensor(F16, &Q)),
    ("k", |args, spare| args.k = spare.tensor(Bf16, &Q)),
    ("v", |args, spare| args.v = spare.tensor(Bf16, &[BATCH, DRAFTS, 2, 128])),
    ("v", |args, spare| {
        args.v = spare.strided(Bf16, &K, &[400, 132, 64, 1], 0)
    }),
    ("log_decay", |args, _| args.log_decay = None),
    ("log_decay", |args, spare| {
        args.log_decay = Some(spare.tensor(F32, &[BATCH, DRAFTS, 4]))
    }),
    ("state", |args, spare| args.state = spare.tensor(F32, &[5, 2, 64, 64])),
    ("state_in", |args, spare| args.state_in = spare.list(&[0, 1, 2])),
    ("parent", |args, spare| {
        args.parent = Some(spare.tensor(F32, &[BATCH, DRAFTS]))
    }),
    ("parent", |args, spare| args.parent = Some(spare.list(&[0; 6]))),
    ("parent", |args, spare| {
        args.parent = Some(spare.strided(DType::I32, &[BATCH, DRAFTS], &[4, 1], 0))
    }),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &K)),
    ("out", |args, spare| args.out = spare.over(args.q, Bf16, &Q)),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[3]))),
];

const COMMIT_FAULTS: &[Fault<Commit>] = &[
    ("k", |args, spare| args.k = spare.tensor(Bf16, &[BATCH, 17, 2, 64])),
    ("v", |args, spare| args.v = spare.tensor(Bf16, &[BATCH, 2, 2, 64])),
    ("log_decay", |args, spare| {
        args.log_decay = Some(spare.tensor(F32, &[4]))
    }),
    ("state", |args, spare| args.state = spare.tensor_mut(Bf16, &STATES)),
    ("state_out", |args, spare| args.state_out = Some(spare.list(&[0]))),
    ("accepted", |args, spare| args.accepted = spare.list(&[0])),
    ("path", |args, spare| args.path = Some(spare.list(&[0, 1]))),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(F32, &[4]))),
];

const COPY_FAULTS: &[Fault<Copy>] = &[
    ("state", |args, spare| args.state = spare.tensor_mut(F32, &[5, 4, 64])),
    ("state", |args, spare| args.state = spare.tensor_mut(Bf16, &STATES)),
    ("state", |args, spare| {
        args.state = spare.tensor_mut(F32, &[5, 4, 64, 63])
    }),
    ("sources", |args, spare| args.sources = spare.tensor(F32, &[2])),
    ("destinations", |args, spare| args.destinations = spare.list(&[0])),
    ("state", |args, spare| {
        args.status = Some(spare.over(args.state.as_tensor(), U32, &[4]))
    }),
];

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    for machine in all() {
        check(&machine, &layer(Decay::PerHead)?, verify, VERIFY_FAULTS)?;
        check(&machine, &layer(Decay::PerToken)?, commit, COMMIT_FAULTS)?;
        check(&machine, &CopyStates::new()?, copy, COPY_FAULTS)?;
    }
    Ok(())
}
