//! Wrong arguments are refused by name before anything runs; lengths that do not fit, by the kernels, which count them.

use crate::{compress, given_scores, inputs};
use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{
    AttentionShape, ChooseBlocksArgs, DType, Entry, Keys, Lse, Result, SelectBlocksArgs, Sequences, SparseLayer,
    Status, SwitchLen,
};
use sala_testkit::batch::Batch;
use sala_testkit::devices::all;
use sala_testkit::memory::Packing;
use sala_testkit::operations::choose_blocks::ChooseProblem;
use sala_testkit::operations::select_blocks::UNWRITTEN;
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::run;
use sala_testkit::refusals::{Fault, Spare, check};
use sala_testkit::tolerance::Precision;

const QUERIES: usize = 8;
const HEADS_Q: usize = 4;
const HEADS_KV: usize = 2;
const DIM: usize = 64;
const BATCH: usize = 2;
/// Rows of K1 and K2 for 256 keys.
const FINE: usize = 16;
const COARSE: usize = 4;
const BLOCKS: usize = 6;
/// Entries of a list: `topk` and `local_blocks` as they come.
const LIST: usize = 96;

const ROWS: [usize; 3] = [QUERIES, HEADS_Q, DIM];
const K1: [usize; 3] = [FINE, HEADS_KV, DIM];
const K2: [usize; 3] = [COARSE, HEADS_KV, DIM];
const LISTS: [usize; 3] = [QUERIES, HEADS_KV, LIST];
const SCORES: [usize; 3] = [QUERIES, HEADS_KV, BLOCKS];

type Select = SelectBlocksArgs<'static>;
type Choose = ChooseBlocksArgs<'static>;
type Switch = Option<SwitchLen<'static>>;

fn layer(dense_len: usize, lse: Lse) -> Result<SparseLayer> {
    let shape = AttentionShape {
        heads_q: HEADS_Q,
        heads_kv: HEADS_KV,
        dim: DIM,
    };
    SparseLayer::builder(Bf16, shape, dense_len).lse(lse).build()
}

fn sequences(spare: &Spare) -> Sequences<'static> {
    let keys = Keys::packed(spare.list(&[0, 100, 256]));
    Sequences::new(spare.list(&[0, 3, QUERIES as i32]), keys)
}

fn select_without_options(spare: &Spare, switch_len: Switch, k2_shape: Option<&[usize]>) -> Select {
    let (q, k1) = (spare.tensor(Bf16, &ROWS), spare.tensor(Bf16, &K1));
    let k2 = k2_shape.map(|shape| spare.tensor(Bf16, shape));
    Select::new(q, k1, k2, sequences(spare), switch_len, spare.tensor_mut(I32, &LISTS))
}

fn select(spare: &Spare) -> Select {
    let switch_len = SwitchLen::Lengths(spare.list(&[40, 90]));
    let mut args = select_without_options(spare, Some(switch_len), Some(&K2));
    args.scale_factor = Some(spare.tensor(F32, &[QUERIES]));
    args.scores = Some(spare.tensor_mut(F32, &SCORES));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

fn choose_without_options(spare: &Spare, switch_len: Switch) -> Choose {
    let lists = spare.tensor_mut(I32, &LISTS);
    Choose::new(spare.tensor(F32, &SCORES), sequences(spare), switch_len, lists)
}

fn choose(spare: &Spare) -> Choose {
    let switch_len = SwitchLen::Lengths(spare.list(&[40, 90]));
    let mut args = choose_without_options(spare, Some(switch_len));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

/// What can be wrong with the arguments that selection takes by compressed keys and by scores.
macro_rules! faults_of_both {
    ($($fault:expr,)*) => {
        &[
            $($fault,)*
            ("cu_seqlens_q", |args, spare| args.sequences.cu_seqlens_q = spare.tensor(F32, &[BATCH + 1])),
            ("cu_seqlens_q", |args, spare| args.sequences.cu_seqlens_q = spare.tensor(I32, &[0])),
            ("cu_seqlens_k", |args, spare| {
                args.sequences.keys = Keys::packed(spare.tensor(I32, &[BATCH + 2]));
            }),
            ("cu_seqlens_k", |args, spare| {
                args.sequences.keys = Keys::packed(spare.tensor(F32, &[BATCH + 1]));
            }),
            ("switch_len", |args, _| args.switch_len = None),
            ("switch_len", |args, spare| {
                args.switch_len = Some(SwitchLen::Lengths(spare.tensor(I32, &[BATCH + 1])));
            }),
            ("switch_len", |args, spare| {
                args.switch_len = Some(SwitchLen::Lengths(spare.tensor(F32, &[BATCH])));
            }),
            ("block_indices", |args, spare| {
                args.block_indices = spare.tensor_mut(I32, &[QUERIES, HEADS_KV, LIST - 1]);
            }),
            ("block_indices", |args, spare| {
                args.block_indices = spare.tensor_mut(I32, &[QUERIES + 1, HEADS_KV, LIST]);
            }),
            ("block_indices", |args, spare| args.block_indices = spare.tensor_mut(F32, &LISTS)),
            ("block_indices", |args, spare| {
                args.block_indices = spare.over(args.sequences.cu_seqlens_q, I32, &LISTS);
            }),
            // Of two outputs that share memory, the first is blamed.
            ("block_indices", |args, spare| {
                args.status = Some(spare.over(args.block_indices.as_tensor(), U32, &[4]));
            }),
            ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[5]))),
            ("status", |args, spare| args.status = Some(spare.tensor_mut(F32, &[4]))),
        ]
    };
}

const SELECT_FAULTS: &[Fault<Select>] = faults_of_both![
    ("q", |args, spare| args.q = spare.tensor(F16, &ROWS)),
    ("q", |args, spare| args.q =
        spare.tensor(Bf16, &[QUERIES, HEADS_Q * DIM])),
    ("q", |args, spare| args.q =
        spare.tensor(Bf16, &[QUERIES, HEADS_KV, DIM])),
    ("q", |args, spare| args.q = spare.strided(Bf16, &ROWS, &[256, 64, 1], 1)),
    ("k1", |args, spare| args.k1 =
        spare.tensor(Bf16, &[FINE, HEADS_KV + 1, DIM])),
    ("k1", |args, spare| args.k1 =
        spare.tensor(Bf16, &[1, FINE, HEADS_KV, DIM])),
    ("k1", |args, spare| args.k1 = spare.tensor(F16, &K1)),
    ("k1", |args, spare| args.k1 = spare.strided(Bf16, &K1, &[132, 64, 1], 0)),
    ("k2", |args, _| args.k2 = None),
    ("k2", |args, spare| args.k2 =
        Some(spare.tensor(Bf16, &[COARSE, HEADS_KV, 128]))),
    ("k2", |args, spare| args.k2 = Some(spare.tensor(F16, &K2))),
    // Compressed keys of caches have four axes.
    ("k1", |args, spare| args.sequences.keys =
        Keys::cached(spare.tensor(I32, &[BATCH]))),
    ("scale_factor", |args, spare| args.scale_factor =
        Some(spare.tensor(F32, &[QUERIES + 1]))),
    ("scale_factor", |args, spare| args.scale_factor =
        Some(spare.tensor(I32, &[QUERIES]))),
    ("scores", |args, spare| args.scores =
        Some(spare.tensor_mut(F32, &[QUERIES, HEADS_Q, BLOCKS]))),
    ("scores", |args, spare| args.scores =
        Some(spare.tensor_mut(F32, &[QUERIES, HEADS_KV]))),
    ("scores", |args, spare| args.scores =
        Some(spare.tensor_mut(I32, &SCORES))),
    ("scores", |args, spare| args.scores =
        Some(spare.over(args.q, F32, &SCORES))),
    ("scores", |args, spare| args.scores =
        Some(spare.over(args.k1, F32, &SCORES))),
    ("block_indices", |args, spare| args.block_indices =
        spare.over(args.q, I32, &LISTS)),
    ("block_indices", |args, spare| {
        args.scores = Some(spare.over(args.block_indices.as_tensor(), F32, &SCORES));
    }),
];

const CHOOSE_FAULTS: &[Fault<Choose>] = faults_of_both![
    ("scores", |args, spare| args.scores = spare.tensor(I32, &SCORES)),
    ("scores", |args, spare| args.scores = spare.tensor(Bf16, &SCORES)),
    ("scores", |args, spare| args.scores =
        spare.tensor(F32, &[QUERIES, HEADS_KV + 1, BLOCKS])),
    ("scores", |args, spare| args.scores =
        spare.tensor(F32, &[QUERIES, HEADS_KV * BLOCKS])),
    ("scores", |args, spare| args.scores =
        spare.strided(F32, &SCORES, &[24, 12, 2], 0)),
    ("block_indices", |args, spare| args.block_indices =
        spare.over(args.scores, I32, &LISTS)),
];

#[test]
fn a_wrong_argument_of_a_selection_is_refused_by_name() -> Result<()> {
    for machine in all() {
        let good = |spare: &Spare| select_without_options(spare, Some(SwitchLen::Keys), Some(&K2));
        check(&machine, &layer(50, Lse::Coarse)?, select, SELECT_FAULTS)?;
        check(&machine, &layer(50, Lse::Coarse)?, good, &[])?;
        let faults: &[Fault<Select>] = &[
            ("switch_len", |args, _| args.switch_len = Some(SwitchLen::Keys)),
            ("switch_len", |args, spare| {
                args.switch_len = Some(SwitchLen::Lengths(spare.list(&[40, 90])));
            }),
        ];
        // Exact sums take no K2.
        let good = |spare: &Spare| select_without_options(spare, None, None);
        check(&machine, &layer(0, Lse::Exact)?, good, faults)?;
    }
    Ok(())
}

/// More than two sequences of up to eight tokens take, in numbers.
const WORKSPACE: usize = 2048;

fn select_trees(spare: &Spare) -> Select {
    let mut args = select(spare);
    args.entry = Entry::Decode;
    args.parent = Some(spare.tensor(I32, &[BATCH, QUERIES]));
    args.workspace = Some(spare.tensor_mut(U32, &[WORKSPACE]));
    args
}

const TREE_FAULTS: &[Fault<Select>] = &[
    ("parent", |args, _| args.entry = Entry::Prefill),
    ("parent", |args, spare| {
        args.parent = Some(spare.tensor(I32, &[BATCH, QUERIES - 1]));
    }),
    ("parent", |args, spare| {
        args.parent = Some(spare.tensor(I32, &[BATCH - 1, QUERIES]));
    }),
    ("parent", |args, spare| {
        args.parent = Some(spare.tensor(F32, &[BATCH, QUERIES]));
    }),
    // Without its workspace a chain is selected for as a prefill; trees cannot be.
    ("workspace", |args, _| args.workspace = None),
    ("workspace", |args, spare| {
        args.workspace = Some(spare.tensor_mut(U32, &[4]));
    }),
    ("max_seqlen_q", |args, spare| {
        args.q = spare.tensor(Bf16, &[17, HEADS_Q, DIM]);
        args.parent = Some(spare.tensor(I32, &[BATCH, 17]));
        args.block_indices = spare.tensor_mut(I32, &[17, HEADS_KV, LIST]);
        args.scores = None;
        args.scale_factor = None;
    }),
];

#[test]
fn a_wrong_argument_of_trees_is_refused_by_name() -> Result<()> {
    for machine in all() {
        check(&machine, &layer(50, Lse::Coarse)?, select_trees, TREE_FAULTS)?;
    }
    Ok(())
}

#[test]
fn a_wrong_argument_of_a_choice_is_refused_by_name() -> Result<()> {
    for machine in all() {
        let good = |spare: &Spare| choose_without_options(spare, Some(SwitchLen::Keys));
        check(&machine, &layer(50, Lse::Coarse)?, choose, CHOOSE_FAULTS)?;
        check(&machine, &layer(50, Lse::Coarse)?, good, &[])?;
        let faults: &[Fault<Choose>] = &[
            ("switch_len", |args, _| args.switch_len = Some(SwitchLen::Keys)),
            ("switch_len", |args, spare| {
                args.switch_len = Some(SwitchLen::Lengths(spare.list(&[40, 90])));
            }),
        ];
        let good = |spare: &Spare| choose_without_options(spare, None);
        check(&machine, &layer(0, Lse::Exact)?, good, faults)?;
    }
    Ok(())
}

#[test]
fn lengths_that_do_not_fit_are_refused_and_counted() {
    for machine in all() {
        let right = inputs(Precision::Bf16, small_config(2, 1, 64), &[4, 4], &[200, 200]);
        // The second sequence claims more keys than K1 has rows for.
        let mut wrong = right.select(&compress(&right, &machine), None);
        wrong.batch = Batch::new(&[4, 4], &[200, 500]).bounded();
        let got = run(&wrong, &machine);
        assert_eq!(got.status, Status::from([0, 0, 1, 0]), "{}", machine.name);
        assert!(got.part(8, 0..4).indices.iter().all(|&block| block != UNWRITTEN));
        assert!(got.part(8, 4..8).indices.iter().all(|&block| block == -1));
    }
}

#[test]
fn sequences_of_more_blocks_than_scores_are_refused_and_counted() {
    for machine in all() {
        let problem = ChooseProblem {
            config: small_config(2, 1, 64),
            scores: given_scores(0, 8, 100),
            batch: Batch::new(&[4, 4], &[64 * 100, 64 * 100 + 1]),
            packing: Packing::Separate,
        };
        let got = run(&problem, &machine);
        assert_eq!(got.status, Status::from([0, 0, 1, 0]), "{}", machine.name);
        assert!(got.part(8, 0..4).indices.iter().all(|&block| block != UNWRITTEN));
        assert!(got.part(8, 4..8).indices.iter().all(|&block| block == -1));
    }
}
