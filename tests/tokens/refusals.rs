//! Wrong arguments are refused by name.

use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{
    AttentionShape, ChooseTokensArgs, CompactKeysArgs, DType, GatherRowsArgs, Keys, Result, ScoreKeysArgs, Sequences,
    SparseLayer,
};
use sala_testkit::devices::all;
use sala_testkit::refusals::{Fault, Spare, check};

const HEADS: usize = 2;
const DIM: usize = 64;
const BATCH: usize = 2;
const CHOSEN: usize = 6;
const TOKENS: usize = 40;
const PAGES: [usize; 4] = [5, 16, HEADS, DIM];
const QUERIES: [usize; 3] = [7, 2 * HEADS, DIM];
const LISTS: [usize; 3] = [BATCH, HEADS, CHOSEN];
const SCORES: [usize; 3] = [BATCH, HEADS, TOKENS];
const RESULTS: [usize; 4] = [BATCH, CHOSEN, HEADS, DIM];

fn layer() -> Result<SparseLayer> {
    let shape = AttentionShape {
        heads_q: 2 * HEADS,
        heads_kv: HEADS,
        dim: DIM,
    };
    SparseLayer::builder(Bf16, shape, 0).build()
}

fn keys(spare: &Spare) -> Keys<'static> {
    Keys::paged(spare.list(&[10, 30]), spare.tensor(U32, &[BATCH, 3]))
}

fn score(spare: &Spare) -> ScoreKeysArgs<'static> {
    let sequences = Sequences::new(spare.list(&[0, 3, 7]), keys(spare));
    let [q, k] = [spare.tensor(Bf16, &QUERIES), spare.tensor(Bf16, &PAGES)];
    let mut args = ScoreKeysArgs::new(q, k, sequences, spare.tensor_mut(F32, &SCORES));
    args.workspace = Some(spare.tensor_mut(F32, &[BATCH * HEADS * DIM]));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

const SCORE_FAULTS: &[Fault<ScoreKeysArgs<'static>>] = &[
    ("q", |args, spare| args.q = spare.tensor(F16, &QUERIES)),
    ("q", |args, spare| args.q = spare.tensor(Bf16, &[7, HEADS, DIM])),
    ("q", |args, spare| {
        args.q = spare.strided(Bf16, &QUERIES, &[260, 64, 1], 0)
    }),
    ("k", |args, spare| args.k = spare.tensor(F16, &PAGES)),
    ("k", |args, spare| args.k = spare.tensor(Bf16, &[80, HEADS, DIM])),
    ("cu_seqlens_q", |args, spare| {
        args.sequences.cu_seqlens_q = spare.tensor(F32, &[3])
    }),
    ("scores", |args, spare| args.scores = spare.tensor_mut(I32, &SCORES)),
    ("scores", |args, spare| {
        args.scores = spare.tensor_mut(F32, &[BATCH, TOKENS, HEADS])
    }),
    ("scores", |args, spare| args.scores = spare.over(args.q, F32, &SCORES)),
    ("pool", |args, _| args.pool = 0),
    ("pool", |args, _| args.pool = 4),
    ("pool", |args, _| args.pool = 33),
    ("pool", |args, _| args.pool = usize::MAX),
    ("workspace", |args, _| args.workspace = None),
    ("workspace", |args, spare| {
        args.workspace = Some(spare.tensor_mut(F32, &[BATCH * HEADS * DIM - 1]))
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[5]))),
];

fn choose(spare: &Spare) -> ChooseTokensArgs<'static> {
    let mut args = ChooseTokensArgs::new(spare.tensor(F32, &SCORES), keys(spare), spare.tensor_mut(I32, &LISTS));
    (args.init_tokens, args.local_tokens) = (2, 4);
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

const CHOOSE_FAULTS: &[Fault<ChooseTokensArgs<'static>>] = &[
    ("scores", |args, spare| args.scores = spare.tensor(I32, &SCORES)),
    ("scores", |args, spare| {
        args.scores = spare.tensor(F32, &[BATCH, HEADS * TOKENS])
    }),
    ("scores", |args, spare| {
        args.scores = spare.strided(F32, &SCORES, &[200, 100, 2], 0)
    }),
    ("token_indices", |args, spare| {
        args.token_indices = spare.tensor_mut(F32, &LISTS)
    }),
    ("token_indices", |args, spare| {
        args.token_indices = spare.tensor_mut(I32, &[BATCH, HEADS + 1, CHOSEN])
    }),
    ("token_indices", |args, spare| {
        args.token_indices = spare.over(args.scores, I32, &LISTS)
    }),
    ("init_tokens", |args, _| args.init_tokens = 3),
    ("init_tokens", |args, _| args.local_tokens = usize::MAX),
    ("workspace", |args, spare| {
        args.workspace = Some(spare.over(args.scores, F32, &[4]))
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(F32, &[4]))),
];

fn gather(spare: &Spare) -> GatherRowsArgs<'static> {
    let [k, v] = [0, 1].map(|_| spare.tensor(Bf16, &PAGES));
    let [k_out, v_out] = [0, 1].map(|_| spare.tensor_mut(Bf16, &RESULTS));
    let mut args = GatherRowsArgs::new(k, v, keys(spare), spare.tensor(I32, &LISTS), k_out, v_out);
    args.scores = Some((spare.tensor(F32, &SCORES), spare.tensor_mut(F32, &LISTS)));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

const GATHER_FAULTS: &[Fault<GatherRowsArgs<'static>>] = &[
    ("k", |args, spare| args.k = spare.tensor(F16, &PAGES)),
    ("v", |args, spare| args.v = spare.tensor(Bf16, &[4, 16, HEADS, DIM])),
    ("v", |args, spare| args.v = spare.tensor(F16, &PAGES)),
    ("token_indices", |args, spare| {
        args.token_indices = spare.tensor(F32, &LISTS)
    }),
    ("token_indices", |args, spare| {
        args.token_indices = spare.tensor(I32, &[BATCH + 1, HEADS, CHOSEN])
    }),
    ("k_out", |args, spare| args.k_out = spare.tensor_mut(F16, &RESULTS)),
    ("k_out", |args, spare| {
        args.k_out = spare.tensor_mut(Bf16, &[BATCH, CHOSEN + 1, HEADS, DIM])
    }),
    ("k_out", |args, spare| args.k_out = spare.over(args.k, Bf16, &RESULTS)),
    ("v_out", |args, spare| {
        args.v_out = spare.tensor_mut(Bf16, &[BATCH * CHOSEN, HEADS, DIM])
    }),
    ("k_out", |args, spare| {
        args.v_out = spare.over(args.k_out.as_tensor(), Bf16, &RESULTS)
    }),
    ("scores", |args, spare| {
        args.scores = Some((spare.tensor(F32, &[BATCH, TOKENS]), spare.tensor_mut(F32, &LISTS)))
    }),
    ("scores_out", |args, spare| {
        args.scores = Some((spare.tensor(F32, &SCORES), spare.tensor_mut(F32, &SCORES)))
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[5]))),
];

fn compact(spare: &Spare) -> CompactKeysArgs<'static> {
    let [k, v] = [0, 1].map(|_| spare.tensor_mut(Bf16, &PAGES));
    let mut args = CompactKeysArgs::new(k, v, keys(spare), spare.tensor(I32, &LISTS));
    args.scores = Some(spare.tensor_mut(F32, &SCORES));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

const COMPACT_FAULTS: &[Fault<CompactKeysArgs<'static>>] = &[
    ("k", |args, spare| args.k = spare.tensor_mut(F16, &PAGES)),
    ("k", |args, spare| args.v = spare.over(args.k.as_tensor(), Bf16, &PAGES)),
    ("v", |args, spare| args.v = spare.tensor_mut(Bf16, &[4, 16, HEADS, DIM])),
    ("token_indices", |args, spare| {
        args.token_indices = spare.tensor(F32, &LISTS)
    }),
    ("token_indices", |args, spare| {
        args.token_indices = spare.tensor(I32, &[BATCH, CHOSEN])
    }),
    ("scores", |args, spare| {
        args.scores = Some(spare.tensor_mut(Bf16, &SCORES))
    }),
    ("scores", |args, spare| {
        args.scores = Some(spare.tensor_mut(F32, &[BATCH, HEADS + 1, TOKENS]))
    }),
    ("scores", |args, spare| {
        args.scores = Some(spare.over(args.token_indices, F32, &[BATCH, HEADS, 1]))
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[5]))),
];

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    for machine in all() {
        check(&machine, &layer()?, score, SCORE_FAULTS)?;
        check(&machine, &layer()?, choose, CHOOSE_FAULTS)?;
        check(&machine, &layer()?, gather, GATHER_FAULTS)?;
        check(&machine, &layer()?, compact, COMPACT_FAULTS)?;
    }
    Ok(())
}

#[test]
fn workspaces_are_small() -> Result<()> {
    let layer = layer()?;
    let size = |batch, queries, tokens| layer.tokens_workspace_size(batch, queries, tokens);
    assert_eq!(size(1, 0, 16_384), 0, "a block takes such a row");
    assert_eq!(size(1, 1, 0), HEADS * DIM * 4);
    assert_eq!(size(1, 1 << 20, 0), HEADS * 32 * DIM * 4);
    assert_eq!(size(1, 0, 16_385), HEADS * (2 * (2 * 256 + 1) + 8) * 4);
    assert!(size(1, 1 << 20, 1 << 20) < HEADS * (160 << 10));
    assert_eq!(size(usize::MAX, 1, 1 << 20), usize::MAX, "which there is no memory for");
    Ok(())
}
