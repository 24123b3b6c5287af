//! Wrong arguments are refused by name before anything runs; keys and values may interleave.

use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{AppendKeysArgs, AttentionShape, DType, Keys, Result, Sequences, SparseLayer, Tensor, TensorMut};
use sala_testkit::devices::all;
use sala_testkit::problem::launch;
use sala_testkit::refusals::{Fault, Spare, assert_blamed, check};

const HEADS: usize = 2;
const DIM: usize = 64;
const NEW: [usize; 3] = [6, HEADS, DIM];
const PAGES: [usize; 4] = [5, 16, HEADS, DIM];
const BATCH: usize = 2;

type Append = AppendKeysArgs<'static>;

fn layer() -> Result<SparseLayer> {
    let shape = AttentionShape {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim: DIM,
    };
    SparseLayer::builder(Bf16, shape, 0).build()
}

fn good(spare: &Spare) -> Append {
    let keys = Keys::paged(spare.list(&[10, 30]), spare.tensor(U32, &[BATCH, 3]));
    let sequences = Sequences::new(spare.list(&[0, 2, 6]), keys);
    let [k_new, v_new] = [0, 1].map(|_| spare.tensor(Bf16, &NEW));
    let [k, v] = [0, 1].map(|_| spare.tensor_mut(Bf16, &PAGES));
    let mut args = Append::new(k_new, v_new, k, v, sequences);
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

fn paged(spare: &Spare, table: Tensor<'static>) -> Keys<'static> {
    Keys::paged(spare.list(&[10, 30]), table)
}

const FAULTS: &[Fault<Append>] = &[
    ("k_new", |args, spare| args.k_new = spare.tensor(F16, &NEW)),
    ("k_new", |args, spare| {
        args.k_new = spare.tensor(Bf16, &[6, HEADS + 1, DIM])
    }),
    ("v_new", |args, spare| args.v_new = spare.tensor(Bf16, &[7, HEADS, DIM])),
    ("k", |args, spare| {
        args.k = spare.tensor_mut(Bf16, &[5 * 16, HEADS, DIM])
    }),
    ("k", |args, spare| args.k = spare.tensor_mut(Bf16, &[5, 24, HEADS, DIM])),
    ("k", |args, spare| {
        args.k = spare.tensor_mut(Bf16, &[5, 2048, HEADS, DIM])
    }),
    ("k", |args, spare| args.k = spare.tensor_mut(Bf16, &[5, 0, HEADS, DIM])),
    ("v", |args, spare| args.v = spare.tensor_mut(Bf16, &[4, 16, HEADS, DIM])),
    ("v", |args, spare| args.v = spare.tensor_mut(Bf16, &[5, 32, HEADS, DIM])),
    ("k", |args, spare| args.v = spare.over(args.k.as_tensor(), Bf16, &PAGES)),
    ("k", |args, spare| {
        args.k = spare.over(args.k_new, Bf16, &[1, 4, HEADS, DIM])
    }),
    ("page_table", |args, spare| {
        args.sequences.keys = paged(spare, spare.tensor(F32, &[BATCH, 3]))
    }),
    ("page_table", |args, spare| {
        args.sequences.keys = paged(spare, spare.tensor(I32, &[BATCH + 1, 3]))
    }),
    ("page_table", |args, spare| {
        args.sequences.keys = paged(spare, spare.strided(I32, &[BATCH, 3], &[6, 2], 0))
    }),
    ("seqlens_k", |args, spare| {
        args.sequences.keys = Keys::paged(spare.list(&[1, 2, 3]), spare.tensor(I32, &[BATCH, 3]))
    }),
    ("cache_index", |args, spare| {
        args.sequences.keys = Keys::cached_at(spare.list(&[1, 2]), spare.list(&[1]))
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[3]))),
];

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    for machine in all() {
        check(&machine, &layer()?, good, FAULTS)?;
    }
    Ok(())
}

/// Keys and values in one allocation: pages, tokens, or heads of both by turns; not elements that both have.
#[test]
fn keys_and_values_may_interleave_but_not_touch() -> Result<()> {
    let row = HEADS * DIM;
    let by_page = ([2 * 16 * row, row, DIM, 1], 16 * row);
    let by_token = ([2 * 16 * row, 2 * row, DIM, 1], row);
    let by_head = ([2 * 16 * row, 2 * row, 2 * DIM, 1], DIM);
    let heads_first = ([2 * 16 * row, DIM, 2 * 16 * DIM, 1], 16 * DIM);
    for machine in all() {
        let try_with = |strides: [usize; 4], offset: usize| {
            let spare = Spare::new(&machine.device);
            let mut args = good(&spare);
            let both = spare.tensor(Bf16, &[2 * 5 * 16 * row]);
            let part = |offset: usize| {
                let address = both.address() + 2 * offset as u64;
                // SAFETY: within the memory of `both`, which outlives the launch; the launch is what is tested to refuse overlaps.
                unsafe { TensorMut::from_raw(&machine.device, address, Bf16, &PAGES, &strides) }
            };
            (args.k, args.v) = (part(0)?, part(offset)?);
            launch(&machine, &layer()?, args)
        };
        for (strides, offset) in [by_page, by_token, by_head, heads_first] {
            try_with(strides, offset)?;
            assert_blamed(try_with(strides, 0), "k", "the same elements");
            assert_blamed(try_with(strides, 8), "k", "rows that overlap");
        }
    }
    Ok(())
}
