//! Wrong arguments are refused by name before anything runs; lengths that do not fit, by the kernels, which count them.

use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{
    AttentionShape, DType, DenseAttentionArgs, Entry, Keys, Result, Sequences, SparseAttentionArgs, SparseLayer,
    Status, SwitchLen,
};
use sala_testkit::devices::all;
use sala_testkit::memory::POISON;
use sala_testkit::operations::sparse_attention::AttentionProblem;
use sala_testkit::operations::sparse_attention::cases::AttentionCase;
use sala_testkit::problem::run;
use sala_testkit::property::seed;
use sala_testkit::refusals::{Fault, Spare, check};
use sala_testkit::storage::Storage;

const QUERIES: usize = 10;
const KEYS: usize = 70;
const HEADS_Q: usize = 4;
const HEADS_KV: usize = 2;
const DIM: usize = 64;
const BATCH: usize = 2;
const LIST: usize = 3;
/// More than two sequences of up to ten tokens take.
const WORKSPACE: usize = 16_384;

const ROWS: [usize; 3] = [QUERIES, HEADS_Q, DIM];
const KEY_ROWS: [usize; 3] = [KEYS, HEADS_KV, DIM];
const CACHES: [usize; 4] = [BATCH, KEYS, HEADS_KV, DIM];
const LISTS: [usize; 3] = [QUERIES, HEADS_KV, LIST];
const LSE: [usize; 2] = [QUERIES, HEADS_Q];

type Sparse = SparseAttentionArgs<'static>;
type Dense = DenseAttentionArgs<'static>;

fn layer(dense_len: usize) -> Result<SparseLayer> {
    let shape = AttentionShape {
        heads_q: HEADS_Q,
        heads_kv: HEADS_KV,
        dim: DIM,
    };
    SparseLayer::builder(Bf16, shape, dense_len).build()
}

fn sequences(spare: &Spare) -> Sequences<'static> {
    let keys = Keys::packed(spare.list(&[0, 30, KEYS as i32]));
    Sequences::new(spare.list(&[0, 4, QUERIES as i32]), keys)
}

/// Every option of good arguments.
macro_rules! with_options {
    ($args:expr, $spare:ident) => {{
        let mut args = $args;
        args.entry = Entry::Decode;
        args.parent = Some($spare.tensor(I32, &[BATCH, QUERIES]));
        args.scale_factor = Some($spare.tensor(F32, &[QUERIES]));
        args.gate = Some($spare.tensor(Bf16, &ROWS));
        args.lse = Some($spare.tensor_mut(F32, &LSE));
        args.workspace = Some($spare.tensor_mut(U32, &[WORKSPACE]));
        args.status = Some($spare.tensor_mut(U32, &[4]));
        args
    }};
}

fn sparse_without_options(spare: &Spare, switch_len: Option<SwitchLen<'static>>) -> Sparse {
    let [k, v] = [(); 2].map(|()| spare.tensor(Bf16, &KEY_ROWS));
    let (q, out) = (spare.tensor(Bf16, &ROWS), spare.tensor_mut(Bf16, &ROWS));
    Sparse::new(q, k, v, sequences(spare), switch_len, spare.tensor(I32, &LISTS), out)
}

fn dense_without_options(spare: &Spare) -> Dense {
    let [k, v] = [(); 2].map(|()| spare.tensor(Bf16, &KEY_ROWS));
    let (q, out) = (spare.tensor(Bf16, &ROWS), spare.tensor_mut(Bf16, &ROWS));
    Dense::new(q, k, v, sequences(spare), out)
}

fn sparse(spare: &Spare) -> Sparse {
    let switch_len = SwitchLen::Lengths(spare.list(&[40, 90]));
    with_options!(sparse_without_options(spare, Some(switch_len)), spare)
}

fn dense(spare: &Spare) -> Dense {
    let mut args = with_options!(dense_without_options(spare), spare);
    args.first_key = Some(spare.tensor(I32, &[QUERIES]));
    args
}

/// What can be wrong with the arguments that attention takes with lists and without.
macro_rules! faults_of_both {
    ($($fault:expr,)*) => {
        &[
            $($fault,)*
            ("q", |args, spare| args.q = spare.tensor(F16, &ROWS)),
            ("q", |args, spare| args.q = spare.tensor(Bf16, &[QUERIES, HEADS_Q * DIM])),
            ("q", |args, spare| args.q = spare.tensor(Bf16, &[QUERIES, HEADS_Q + 2, DIM])),
            ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[260, 64, 1], 0)),
            ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[272, 68, 1], 0)),
            ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[256, 64, 1], 1)),
            ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[512, 128, 2], 0)),
            ("k", |args, spare| args.k = spare.tensor(Bf16, &[KEYS, HEADS_KV + 1, DIM])),
            ("k", |args, spare| args.k = spare.tensor(Bf16, &[1, KEYS, HEADS_KV, DIM])),
            ("k", |args, spare| args.k = spare.tensor(F16, &KEY_ROWS)),
            ("k", |args, spare| args.k = spare.strided(Bf16, &KEY_ROWS, &[128, 64, 1], 4)),
            ("v", |args, spare| args.v = spare.tensor(Bf16, &[KEYS + 1, HEADS_KV, DIM])),
            ("v", |args, spare| args.v = spare.tensor(Bf16, &[KEYS, HEADS_KV, 128])),
            ("v", |args, spare| args.v = spare.tensor(F16, &KEY_ROWS)),
            ("v", |args, spare| args.v = spare.strided(Bf16, &KEY_ROWS, &[132, 64, 1], 0)),
            ("v", |args, spare| args.v = spare.strided(Bf16, &KEY_ROWS, &[256, 128, 2], 0)),
            ("cu_seqlens_q", |args, spare| args.sequences.cu_seqlens_q = spare.tensor(F32, &[BATCH + 1])),
            ("cu_seqlens_q", |args, spare| args.sequences.cu_seqlens_q = spare.tensor(I32, &[0])),
            ("cu_seqlens_q", |args, spare| args.sequences.cu_seqlens_q = spare.tensor(I32, &[BATCH + 1, 1])),
            ("cu_seqlens_q", |args, spare| args.sequences.cu_seqlens_q = spare.strided(I32, &[BATCH + 1], &[2], 0)),
            // The first list that has another number of sequences.
            ("cu_seqlens_k", |args, spare| args.sequences.cu_seqlens_q = spare.tensor(I32, &[BATCH + 2])),
            ("cu_seqlens_k", |args, spare| {
                args.sequences.keys = Keys::packed(spare.tensor(I32, &[BATCH + 2]));
            }),
            ("cu_seqlens_k", |args, spare| {
                args.sequences.keys = Keys::packed(spare.tensor(F32, &[BATCH + 1]));
            }),
            // Keys of caches have four axes, and a cache for each sequence.
            ("k", |args, spare| args.sequences.keys = Keys::cached(spare.tensor(I32, &[BATCH]))),
            ("k", |args, spare| {
                args.sequences.keys = Keys::cached(spare.tensor(I32, &[BATCH]));
                [args.k, args.v] = [(); 2].map(|()| spare.tensor(Bf16, &[BATCH + 1, KEYS, HEADS_KV, DIM]));
            }),
            ("seqlens_k", |args, spare| {
                args.sequences.keys = Keys::cached(spare.tensor(I32, &[BATCH + 1]));
                [args.k, args.v] = [(); 2].map(|()| spare.tensor(Bf16, &CACHES));
            }),
            ("seqlens_k", |args, spare| {
                args.sequences.keys = Keys::cached(spare.tensor(F32, &[BATCH]));
                [args.k, args.v] = [(); 2].map(|()| spare.tensor(Bf16, &CACHES));
            }),
            ("scale_factor", |args, spare| args.scale_factor = Some(spare.tensor(F32, &[QUERIES - 1]))),
            ("scale_factor", |args, spare| args.scale_factor = Some(spare.tensor(F32, &[QUERIES + 1]))),
            ("scale_factor", |args, spare| args.scale_factor = Some(spare.tensor(Bf16, &[QUERIES]))),
            ("scale_factor", |args, spare| args.scale_factor = Some(spare.tensor(I32, &[QUERIES]))),
            ("gate", |args, spare| args.gate = Some(spare.tensor(Bf16, &[QUERIES, HEADS_Q, 128]))),
            ("gate", |args, spare| args.gate = Some(spare.tensor(Bf16, &[QUERIES, HEADS_KV, DIM]))),
            ("gate", |args, spare| args.gate = Some(spare.tensor(F32, &ROWS))),
            ("gate", |args, spare| args.gate = Some(spare.strided(Bf16, &ROWS, &[256, 64, 1], 1))),
            ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[QUERIES + 1, HEADS_Q, DIM])),
            ("out", |args, spare| args.out = spare.tensor_mut(F16, &ROWS)),
            ("out", |args, spare| args.out = spare.over(args.q, Bf16, &ROWS)),
            ("out", |args, spare| args.out = spare.over(args.k, Bf16, &ROWS)),
            ("out", |args, spare| args.out = spare.over(args.v, Bf16, &ROWS)),
            ("lse", |args, spare| args.lse = Some(spare.tensor_mut(F32, &[QUERIES, HEADS_KV]))),
            ("lse", |args, spare| args.lse = Some(spare.tensor_mut(Bf16, &LSE))),
            ("lse", |args, spare| args.lse = Some(spare.over(args.q, F32, &LSE))),
            ("lse", |args, spare| args.lse = Some(spare.over(args.k, F32, &LSE))),
            ("parent", |args, _| args.entry = Entry::Prefill),
            ("parent", |args, spare| args.parent = Some(spare.tensor(I32, &[BATCH, QUERIES - 1]))),
            ("parent", |args, spare| args.parent = Some(spare.tensor(I32, &[BATCH + 1, QUERIES]))),
            ("parent", |args, spare| args.parent = Some(spare.tensor(I32, &[BATCH * QUERIES]))),
            ("parent", |args, spare| args.parent = Some(spare.tensor(F32, &[BATCH, QUERIES]))),
            ("parent", |args, spare| args.parent = Some(spare.strided(I32, &[BATCH, QUERIES], &[20, 2], 0))),
            ("out", |args, spare| {
                args.out = spare.over(args.parent.expect("it has one"), Bf16, &ROWS);
            }),
            ("workspace", |args, _| args.workspace = None),
            ("workspace", |args, spare| args.workspace = Some(spare.tensor_mut(U32, &[64, 128]))),
            ("workspace", |args, spare| args.workspace = Some(spare.tensor_mut(U32, &[WORKSPACE / 4]))),
            ("workspace", |args, spare| {
                let misaligned = spare.strided(U32, &[WORKSPACE], &[1], 1);
                args.workspace = Some(spare.over(misaligned, U32, &[WORKSPACE]));
            }),
            ("workspace", |args, spare| args.workspace = Some(spare.over(args.q, U32, &[1024]))),
            ("workspace", |args, spare| args.workspace = Some(spare.over(args.v, U32, &[1024]))),
            ("workspace", |args, spare| {
                args.workspace = Some(spare.over(args.sequences.cu_seqlens_q, U32, &[BATCH + 1]));
            }),
            // Of two outputs that share memory, the first is blamed.
            ("out", |args, spare| {
                args.workspace = Some(spare.over(args.out.as_tensor(), U32, &[1024]));
            }),
            ("out", |args, spare| args.status = Some(spare.over(args.out.as_tensor(), U32, &[4]))),
            ("workspace", |args, spare| {
                let workspace = args.workspace.as_ref().expect("it has one");
                args.status = Some(spare.over(workspace.as_tensor(), U32, &[4]));
            }),
            ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[5]))),
            ("status", |args, spare| args.status = Some(spare.tensor_mut(F32, &[4]))),
        ]
    };
}

const SPARSE_FAULTS: &[Fault<Sparse>] = faults_of_both![
    ("switch_len", |args, _| args.switch_len = None),
    ("switch_len", |args, spare| {
        args.switch_len = Some(SwitchLen::Lengths(spare.tensor(I32, &[BATCH + 1])));
    }),
    ("switch_len", |args, spare| {
        args.switch_len = Some(SwitchLen::Lengths(spare.tensor(F32, &[BATCH])));
    }),
    ("block_indices", |args, spare| args.block_indices =
        spare.tensor(F32, &LISTS)),
    ("block_indices", |args, spare| args.block_indices =
        spare.tensor(F32, &LISTS)),
    ("block_indices", |args, spare| args.block_indices =
        spare.tensor(I32, &[QUERIES, HEADS_KV])),
    ("block_indices", |args, spare| {
        args.block_indices = spare.tensor(I32, &[QUERIES, HEADS_KV + 1, LIST]);
    }),
    ("block_indices", |args, spare| {
        args.block_indices = spare.strided(I32, &LISTS, &[12, 6, 2], 0);
    }),
    ("block_indices", |args, spare| {
        // Every token has the same list, of more entries than kernels count.
        args.block_indices = spare.strided(I32, &[QUERIES, HEADS_KV, (1 << 20) + 1], &[0, 0, 1], 0);
    }),
    ("out", |args, spare| args.out =
        spare.over(args.block_indices, Bf16, &ROWS)),
    ("workspace", |args, spare| args.workspace =
        Some(spare.over(args.block_indices, U32, &[LIST]))),
    // The first tensor that has other query tokens.
    ("block_indices", |args, spare| args.q =
        spare.tensor(Bf16, &[QUERIES - 1, HEADS_Q, DIM])),
];

const DENSE_FAULTS: &[Fault<Dense>] = faults_of_both![
    ("out", |args, spare| args.q =
        spare.tensor(Bf16, &[QUERIES - 1, HEADS_Q, DIM])),
    ("first_key", |args, spare| args.first_key =
        Some(spare.tensor(I32, &[QUERIES + 1]))),
    ("first_key", |args, spare| args.first_key =
        Some(spare.tensor(F32, &[QUERIES]))),
    ("first_key", |args, spare| args.first_key =
        Some(spare.tensor(I32, &[QUERIES, 1]))),
];

/// What a layer without a `dense_len` does not take.
const SWITCH_FAULTS: &[Fault<Sparse>] = &[
    ("switch_len", |args, _| args.switch_len = Some(SwitchLen::Keys)),
    ("switch_len", |args, spare| {
        args.switch_len = Some(SwitchLen::Lengths(spare.list(&[40, 90])));
    }),
];

#[test]
fn a_wrong_argument_of_sparse_attention_is_refused_by_name() -> Result<()> {
    for machine in all() {
        let (with, without) = (layer(50)?, layer(0)?);
        check(&machine, &with, sparse, SPARSE_FAULTS)?;
        check(
            &machine,
            &with,
            |spare| sparse_without_options(spare, Some(SwitchLen::Keys)),
            &[],
        )?;
        check(
            &machine,
            &without,
            |spare| sparse_without_options(spare, None),
            SWITCH_FAULTS,
        )?;
    }
    Ok(())
}

#[test]
fn a_wrong_argument_of_dense_attention_is_refused_by_name() -> Result<()> {
    for machine in all() {
        for dense_len in [0, 50] {
            check(&machine, &layer(dense_len)?, dense, DENSE_FAULTS)?;
            check(&machine, &layer(dense_len)?, dense_without_options, &[])?;
        }
    }
    Ok(())
}

#[test]
fn lengths_that_do_not_fit_are_refused_and_counted() {
    let plain = AttentionCase::plain(vec![(20, 90), (10, 70), (5, 40)], seed()).problem();
    let with = |change: &dyn Fn(&mut AttentionProblem)| {
        let mut problem = plain.clone();
        change(&mut problem);
        problem
    };
    // What is wrong, and the sequences that it spoils.
    let cases = [
        (with(&|p| p.batch.max_seqlens[0] = Some(19)), vec![0]),
        (with(&|p| p.batch.max_seqlens[1] = Some(69)), vec![0, 1]),
        (with(&|p| p.batch.cu_seqlens_q[3] = 36), vec![2]),
        (with(&|p| p.batch.cu_seqlens_k[3] = 201), vec![2]),
        (with(&|p| p.batch.cu_seqlens_q[0] = -1), vec![0]),
        (with(&|p| p.batch.cu_seqlens_k[1] = i32::MAX), vec![0, 1]),
        (with(&|p| p.batch.cu_seqlens_q[1] = 31), vec![1]),
        (with(&|p| p.batch.storage = Storage::Cached(75)), vec![0]),
        (with(&|p| p.batch.storage = Storage::Cached(0)), vec![0, 1, 2]),
    ];
    for machine in all() {
        for (index, (problem, spoilt)) in cases.iter().enumerate() {
            let run = run(problem, &machine);
            let what = format!("{}: case {index}", machine.name);
            assert_eq!(run.status, Status::from([0, 0, spoilt.len() as u32, 0]), "{what}");
            for sequence in 0..3 {
                let bounds = |problem: &AttentionProblem| problem.batch.cu_seqlens_q[sequence..sequence + 2].to_vec();
                if bounds(problem) != bounds(&plain) {
                    continue;
                }
                let rows = run.part(problem.total_q(), [0..20, 20..30, 30..35][sequence].clone());
                let is_zero = rows.out.to_bits().iter().all(|&bits| bits == 0);
                let is_empty = is_zero && rows.lse.iter().all(|&lse| lse == f32::NEG_INFINITY);
                assert_eq!(is_empty, spoilt.contains(&sequence), "{what}: sequence {sequence}");
            }
        }
    }
}

#[test]
fn rows_of_no_sequence_are_left_alone() {
    let mut problem = AttentionCase::plain(vec![(20, 90), (10, 70)], seed()).problem();
    problem.batch.cu_seqlens_q = vec![0, 20, 27];
    for machine in all() {
        let run = run(&problem, &machine);
        for token in 27..30 {
            let row = run.part(problem.total_q(), token..token + 1);
            let is_untouched = row.out.to_bits().iter().all(|&bits| bits == POISON);
            assert!(is_untouched, "{}: token {token}", machine.name);
        }
        let rows = run.part(problem.total_q(), 0..27);
        assert!(rows.lse.iter().all(|lse| lse.is_finite()), "{}", machine.name);
    }
}
