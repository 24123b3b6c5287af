//! Wrong arguments are refused by name before anything runs; lengths that do not fit, by the kernel, which counts them.

use crate::inputs;
use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{AttentionShape, CompressKeysArgs, DType, Keys, Result, SparseLayer, Status};
use sala_testkit::devices::{Machine, all};
use sala_testkit::memory::POISON;
use sala_testkit::operations::compress_keys::CompressCall;
use sala_testkit::problem::run;
use sala_testkit::refusals::{Fault, Spare, check};
use sala_testkit::tolerance::Precision;

const KEYS: usize = 128;
const HEADS: usize = 2;
const DIM: usize = 64;
const BATCH: usize = 2;
/// Rows of K1 and K2 for that many keys.
const FINE: usize = 8;
const COARSE: usize = 2;

const K: [usize; 3] = [KEYS, HEADS, DIM];
const K1: [usize; 3] = [FINE, HEADS, DIM];
const K2: [usize; 3] = [COARSE, HEADS, DIM];

type Compress = CompressKeysArgs<'static>;

fn without_options(spare: &Spare) -> Compress {
    let keys = Keys::packed(spare.list(&[0, 40, KEYS as i32]));
    let [k1, k2] = [K1, K2].map(|shape| spare.tensor_mut(Bf16, &shape));
    Compress::new(spare.tensor(Bf16, &K), keys, k1, k2)
}

fn good(spare: &Spare) -> Compress {
    let mut args = without_options(spare);
    args.seqlens_old = Some(spare.list(&[0, 8]));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

/// Caches instead of packed keys.
fn cached(spare: &Spare) -> Compress {
    let keys = Keys::cached(spare.list(&[40, 88]));
    let [k1, k2] = [FINE, COARSE].map(|rows| spare.tensor_mut(Bf16, &[BATCH, rows, HEADS, DIM]));
    Compress::new(spare.tensor(Bf16, &[BATCH, KEYS, HEADS, DIM]), keys, k1, k2)
}

const FAULTS: &[Fault<Compress>] = &[
    ("k", |args, spare| args.k = spare.tensor(F16, &K)),
    ("k", |args, spare| args.k = spare.tensor(Bf16, &[KEYS, HEADS + 1, DIM])),
    ("k", |args, spare| args.k = spare.tensor(Bf16, &[KEYS * HEADS, DIM])),
    ("k", |args, spare| args.k = spare.tensor(Bf16, &[1, KEYS, HEADS, DIM])),
    ("k", |args, spare| args.k = spare.strided(Bf16, &K, &[132, 64, 1], 0)),
    ("k", |args, spare| args.k = spare.strided(Bf16, &K, &[128, 64, 1], 1)),
    ("k1", |args, spare| {
        args.k1 = spare.tensor_mut(Bf16, &[FINE - 1, HEADS, DIM])
    }),
    ("k1", |args, spare| args.k1 = spare.tensor_mut(F16, &K1)),
    ("k1", |args, spare| {
        args.k1 = spare.tensor_mut(Bf16, &[FINE, HEADS + 1, DIM])
    }),
    ("k1", |args, spare| args.k1 = spare.over(args.k, Bf16, &K1)),
    ("k2", |args, spare| {
        args.k2 = spare.tensor_mut(Bf16, &[COARSE - 1, HEADS, DIM])
    }),
    ("k2", |args, spare| args.k2 = spare.tensor_mut(F16, &K2)),
    ("k2", |args, spare| args.k2 = spare.over(args.k, Bf16, &K2)),
    // Of two outputs that share memory, the first is blamed.
    ("k1", |args, spare| args.k2 = spare.over(args.k1.as_tensor(), Bf16, &K2)),
    ("cu_seqlens_k", |args, spare| {
        args.keys = Keys::packed(spare.tensor(F32, &[BATCH + 1]))
    }),
    ("cu_seqlens_k", |args, spare| {
        args.keys = Keys::packed(spare.tensor(I32, &[0]))
    }),
    ("cu_seqlens_k", |args, spare| {
        args.keys = Keys::packed(spare.tensor(I32, &[BATCH + 1, 1]))
    }),
    // Keys of caches have four axes.
    ("k", |args, spare| args.keys = Keys::cached(spare.tensor(I32, &[BATCH]))),
    ("seqlens_old", |args, spare| {
        args.seqlens_old = Some(spare.tensor(I32, &[BATCH + 1]))
    }),
    ("seqlens_old", |args, spare| {
        args.seqlens_old = Some(spare.tensor(F32, &[BATCH]))
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[3]))),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(I32, &[4]))),
];

const CACHE_FAULTS: &[Fault<Compress>] = &[
    ("k", |args, spare| args.k = spare.tensor(Bf16, &K)),
    ("k", |args, spare| {
        args.k = spare.tensor(Bf16, &[BATCH + 1, KEYS, HEADS, DIM])
    }),
    ("k1", |args, spare| {
        args.k1 = spare.tensor_mut(Bf16, &[BATCH, FINE - 1, HEADS, DIM])
    }),
    ("k2", |args, spare| {
        args.k2 = spare.tensor_mut(Bf16, &[BATCH - 1, COARSE, HEADS, DIM])
    }),
    ("seqlens_k", |args, spare| {
        args.keys = Keys::cached(spare.tensor(F32, &[BATCH]))
    }),
    ("seqlens_k", |args, spare| {
        args.keys = Keys::cached(spare.tensor(I32, &[BATCH, 1]))
    }),
];

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    let shape = AttentionShape {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim: DIM,
    };
    let layer = SparseLayer::builder(Bf16, shape, 0).build()?;
    for machine in all() {
        check(&machine, &layer, good, FAULTS)?;
        check(&machine, &layer, without_options, &[])?;
        check(&machine, &layer, cached, CACHE_FAULTS)?;
    }
    Ok(())
}

/// Compresses a cache of 128 keys by lengths that the kernel judges: the sequences refused, and whether rows of K1 were written.
fn compress(machine: &Machine, length: i32, old: i32, max_new: Option<usize>) -> (Status, bool) {
    let mut inputs = inputs(Precision::Bf16, 64, 64, &[128]);
    inputs.batch = inputs.batch.cached(0);
    let mut problem = inputs.compress();
    problem.calls = vec![CompressCall {
        lengths: vec![length],
        old: Some(vec![old]),
        max_new,
    }];
    let run = run(&problem, machine);
    (run.status, run.keys.k1.bits.iter().any(|&bits| bits != POISON))
}

#[test]
fn lengths_that_do_not_fit_are_refused_and_counted() {
    let refused = |count| Status::from([0, 0, count, 0]);
    for machine in all() {
        assert_eq!(compress(&machine, 128, 0, None), (refused(0), true), "{}", machine.name);
        assert_eq!(
            compress(&machine, 128, 128, None),
            (refused(0), false),
            "{}",
            machine.name
        );
        for (length, old, max_new) in [
            (129, 0, None),
            (-1, 0, None),
            (128, -1, None),
            (64, 65, None),
            (128, 0, Some(127)),
            (i32::MIN, 0, None),
        ] {
            let what = format!("{}: {length} keys, {old} of them old, {max_new:?} new", machine.name);
            assert_eq!(compress(&machine, length, old, max_new), (refused(1), false), "{what}");
        }
    }
}
