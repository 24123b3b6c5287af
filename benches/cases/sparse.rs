//! The calls of the sparse path: appending, key compression, block selection, choice, attention.

use super::{Call, Names, Visitor};
use sala_kernels::reference::select_blocks::BlockScores;
use sala_kernels::reference::{select_blocks, sparse_attention};
use sala_kernels::{Entry, Lse};
use sala_testkit::batch::{Batch, Storing};
use sala_testkit::floors;
use sala_testkit::memory::Packing;
use sala_testkit::numbers::{Numbers, normals};
use sala_testkit::operations::append_keys::AppendProblem;
use sala_testkit::operations::choose_blocks::ChooseProblem;
use sala_testkit::operations::commit_keys::CommitProblem;
use sala_testkit::operations::compress_keys::CompressProblem;
use sala_testkit::operations::merge::MergeProblem;
use sala_testkit::operations::select_blocks::SelectProblem;
use sala_testkit::operations::select_blocks::cases::SelectionInputs;
use sala_testkit::operations::sparse_attention::{AttentionProblem, Lists};
use sala_testkit::storage::{Content, KeyRows, Storage};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

/// Tokens of a block.
const BLOCK: usize = 64;

/// The last `queries` tokens of one sequence.
#[derive(Clone, Copy)]
struct Shape {
    queries: usize,
    keys: usize,
    heads_q: usize,
    heads_kv: usize,
    dim: usize,
    /// Blocks of a list, and of them those that are not chosen by score: at the start, and before the token's own.
    list_len: usize,
    init_blocks: usize,
    local_blocks: usize,
    /// Keys of a page; 0: they are packed.
    page_size: usize,
}

/// SALA: 96 blocks per token, of them 34 that it need not choose.
const SALA: Shape = Shape {
    queries: 1,
    keys: 8192,
    heads_q: 32,
    heads_kv: 2,
    dim: 128,
    list_len: 96,
    init_blocks: 1,
    local_blocks: 32,
    page_size: 0,
};

/// Four query heads per key head, short lists.
const SMALL: Shape = Shape {
    queries: 128,
    keys: 8192,
    heads_q: 4,
    heads_kv: 1,
    dim: 64,
    list_len: 32,
    init_blocks: 1,
    local_blocks: 8,
    page_size: 0,
};

/// Rows to append: how many, and keys of a page (0: packed).
const APPENDS: [(usize, usize); 3] = [(64, 0), (64, 64), (1, 16)];

/// Batches to compress: element, lengths, key heads, channels, keys of a page (0: packed).
const COMPRESSIONS: [(Precision, &[usize], usize, usize, usize); 4] = [
    (Precision::Bf16, &[8192], 2, 128, 0),
    (Precision::Bf16, &[1000, 33, 0, 2000], 2, 128, 0),
    (Precision::F16, &[4096], 1, 64, 0),
    (Precision::Bf16, &[8192], 2, 128, 64),
];

const SELECTIONS: [Shape; 6] = [
    Shape { queries: 64, ..SALA },
    Shape {
        queries: 64,
        keys: 32768,
        ..SALA
    },
    SALA,
    Shape { keys: 32768, ..SALA },
    SMALL,
    Shape {
        queries: 64,
        page_size: 64,
        ..SALA
    },
];

const CHOICES: [Shape; 2] = [
    Shape { queries: 64, ..SALA },
    Shape {
        queries: 64,
        keys: 32768,
        ..SALA
    },
];

/// Which free blocks the tokens of a test have in their lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Neighbours choose the same.
    Alike,
    /// Every token chooses by itself.
    Random,
    /// No lists: every block.
    Dense,
}

const ATTENTIONS: [(Shape, Choice); 9] = [
    (Shape { queries: 64, ..SALA }, Choice::Alike),
    (Shape { queries: 64, ..SALA }, Choice::Random),
    (SALA, Choice::Alike),
    (
        Shape {
            queries: 256,
            keys: 256,
            ..SALA
        },
        Choice::Dense,
    ),
    (Shape { keys: 4096, ..SALA }, Choice::Dense),
    (SMALL, Choice::Alike),
    (SMALL, Choice::Random),
    (
        Shape {
            queries: 64,
            page_size: 64,
            ..SALA
        },
        Choice::Random,
    ),
    (
        Shape {
            queries: 64,
            page_size: 16,
            ..SALA
        },
        Choice::Random,
    ),
];

/// Decode steps.
const STEPS: [(Shape, Choice); 3] = [
    (SALA, Choice::Alike),
    (Shape { keys: 4096, ..SALA }, Choice::Dense),
    (Shape { page_size: 64, ..SALA }, Choice::Alike),
];

/// Tokens, heads and channels of merges: a prompt, and a decode step.
const MERGES: [[usize; 3]; 2] = [[256, 32, 128], [1, 32, 128]];

/// The operation and its only kernel have one name.
fn alone(name: &'static str) -> Names {
    Names {
        kernel: name,
        operation: name,
    }
}

pub fn visit(visitor: &mut impl Visitor) {
    for (rows, page_size) in APPENDS {
        visitor.visit(alone("append_keys"), move || append(rows, page_size));
    }
    for page_size in [0, 16] {
        visitor.visit(alone("commit_keys"), move || commit(page_size));
    }
    for (precision, lengths, heads_kv, dim, page_size) in COMPRESSIONS {
        visitor.visit(alone("compress_keys"), move || {
            compression(precision, lengths, heads_kv, dim, page_size)
        });
    }
    for shape in SELECTIONS {
        visitor.visit(alone("select_blocks"), move || selection(&shape));
    }
    for shape in CHOICES {
        visitor.visit(alone("choose_blocks"), move || choice_of(&shape));
    }
    for (shape, choice) in ATTENTIONS {
        visitor.visit(attention_names(choice), move || attention(&shape, choice));
    }
    for (shape, choice) in STEPS {
        visitor.visit(attention_names(choice), move || step(&shape, choice));
    }
    for shape in MERGES {
        visitor.visit(alone("merge"), move || merge(shape));
    }
}

fn attention_names(choice: Choice) -> Names {
    alone(match choice {
        Choice::Dense => "dense_attention",
        Choice::Alike | Choice::Random => "sparse_attention",
    })
}

impl Shape {
    /// How it is printed.
    fn name(&self) -> String {
        let Shape {
            queries,
            keys,
            heads_q,
            heads_kv,
            dim,
            ..
        } = self;
        let pages = match self.page_size {
            0 => String::new(),
            page_size => format!(" in pages of {page_size}"),
        };
        format!("bf16 {queries} of {keys}{pages}, {heads_q}/{heads_kv} x {dim}")
    }

    fn config(&self) -> select_blocks::Config {
        select_blocks::Config {
            heads_q: self.heads_q,
            heads_kv: self.heads_kv,
            dim: self.dim,
            scale: (self.dim as f32).sqrt().recip(),
            block_size: BLOCK,
            topk: self.list_len - self.local_blocks,
            init_blocks: self.init_blocks,
            local_blocks: self.local_blocks,
            lse: Lse::Coarse,
        }
    }

    fn batch(&self) -> Batch {
        let storage = match self.page_size {
            0 => Storage::Packed,
            page_size => Storage::paged(page_size),
        };
        Batch {
            storage,
            ..Batch::new(&[self.queries], &[self.keys])
        }
    }

    fn queries(&self) -> Values {
        normals(Precision::Bf16, self.queries * self.heads_q * self.dim, 1)
    }

    /// So many rows of keys.
    fn keys(&self, rows: usize, seed: u64) -> Values {
        normals(Precision::Bf16, rows * self.heads_kv * self.dim, seed)
    }
}

fn append(rows: usize, page_size: usize) -> Call<AppendProblem> {
    let shape = Shape {
        queries: rows,
        page_size,
        ..SALA
    };
    let problem = AppendProblem::normal(Precision::Bf16, shape.heads_kv, shape.dim, shape.batch(), 1);
    Call {
        shape: format!("{} new", shape.name()),
        floor: floors::append(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}

/// Every second of 16 drafts.
fn commit(page_size: usize) -> Call<CommitProblem> {
    let storing = match page_size {
        0 => Storing::Packed,
        page_size => Storing::Paged(page_size),
    };
    let shape = Shape {
        keys: 1040,
        queries: 16,
        page_size,
        ..SALA
    };
    let heads = [shape.heads_kv, shape.dim];
    let mut problem = CommitProblem::random(Precision::Bf16, heads, &[shape.keys - 16], 16, storing, 1);
    problem.accepted = vec![8];
    problem.path = (0..16).map(|i| 2 * i + 1).collect();
    Call {
        shape: format!("{}, 8 accepted", shape.name()),
        floor: floors::commit(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}

fn compression(
    precision: Precision,
    lengths: &[usize],
    heads_kv: usize,
    dim: usize,
    page_size: usize,
) -> Call<CompressProblem> {
    let shape = Shape {
        heads_q: heads_kv,
        heads_kv,
        dim,
        ..SALA
    };
    let inputs = SelectionInputs {
        config: shape.config(),
        q: Values::round(precision, []),
        k: normals(precision, lengths.iter().sum::<usize>() * heads_kv * dim, 1),
        batch: Batch::new(&vec![0; lengths.len()], lengths),
        scale_factor: None,
        packing: Packing::Separate,
    };
    let inputs = match page_size {
        0 => inputs,
        _ => SelectionInputs {
            batch: inputs.batch.paged(page_size),
            ..inputs
        },
    };
    let pages = if page_size == 0 {
        String::new()
    } else {
        format!(" in pages of {page_size}")
    };
    let problem = inputs.compress();
    Call {
        shape: format!("{} {lengths:?}{pages}, {heads_kv} x {dim}", precision.dtype()),
        floor: floors::compression(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}

fn selection(shape: &Shape) -> Call<SelectProblem> {
    let rows = |stride: usize, seed: u64| {
        let block_size = BLOCK;
        let places = shape.batch().places(Content::Compressed { stride, block_size });
        let stored = KeyRows::empty(places, shape.heads_kv, shape.dim);
        let rows = stored.places.stores.unwrap_or(1) * stored.places.rows;
        let bits = shape.keys(rows, seed).to_bits();
        KeyRows { bits, ..stored }
    };
    let problem = SelectProblem {
        config: shape.config(),
        q: shape.queries(),
        k1: rows(BLOCK / 4, 2),
        k2: Some(rows(BLOCK, 3)),
        batch: shape.batch(),
        scale_factor: None,
        packing: Packing::Separate,
        score_blocks: None,
        entry: Entry::Prefill,
        workspace: None,
    };
    // One token of each sequence is a decode step.
    let problem = if shape.queries == 1 { problem.decode() } else { problem };
    Call {
        shape: format!("{}, {} blocks", shape.name(), shape.list_len),
        floor: floors::selection(&problem),
        workspace: problem.workspace.unwrap_or(0),
        problem,
        multiprocessors: 1,
    }
}

fn choice_of(shape: &Shape) -> Call<ChooseProblem> {
    let mut numbers = Numbers::new(5);
    let blocks = shape.keys.div_ceil(BLOCK);
    let scores = (0..shape.queries * shape.heads_kv * blocks).map(|_| numbers.uniform() as f32);
    let problem = ChooseProblem {
        config: shape.config(),
        scores: BlockScores {
            blocks,
            scores: scores.collect(),
        },
        batch: shape.batch(),
        packing: Packing::Separate,
    };
    Call {
        shape: format!("{}, {} blocks", shape.name(), shape.list_len),
        floor: floors::choice(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}

fn attention(shape: &Shape, choice: Choice) -> Call<AttentionProblem> {
    let select_blocks::Config {
        heads_q,
        heads_kv,
        dim,
        scale,
        block_size,
        ..
    } = shape.config();
    let (list_len, indices) = (shape.list_len, || make_lists(shape, choice));
    let problem = AttentionProblem {
        config: sparse_attention::Config {
            heads_q,
            heads_kv,
            dim,
            dim_v: dim,
            scale,
            block_size,
        },
        q: shape.queries(),
        k: shape.keys(shape.keys, 2),
        v: shape.keys(shape.keys, 3),
        batch: shape.batch(),
        lists: (choice != Choice::Dense).then(|| Lists {
            indices: indices(),
            list_len,
        }),
        first_key: None,
        scale_factor: None,
        gate: None,
        packing: Packing::Separate,
        with_lse: false,
        entry: Entry::Prefill,
        workspace: None,
    };
    let blocks = match choice {
        Choice::Alike => format!("{list_len} alike"),
        Choice::Random => format!("{list_len} random"),
        Choice::Dense => "dense".to_owned(),
    };
    Call {
        shape: format!("{}, {blocks}", shape.name()),
        floor: floors::attention(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}

/// The same as a decode step.
fn step(shape: &Shape, choice: Choice) -> Call<AttentionProblem> {
    let whole = attention(shape, choice);
    let problem = whole.problem.decode();
    Call {
        shape: format!("{}, a step", whole.shape),
        workspace: problem.workspace.unwrap_or(0),
        problem,
        ..whole
    }
}

/// Two sides of all rows.
fn merge([tokens, heads, dim]: [usize; 3]) -> Call<MergeProblem> {
    let mut problem = MergeProblem::normal(Precision::Bf16, [tokens, heads, dim], 1.0, 1);
    for side in &mut problem.sides {
        side.lse.fill(0.5);
    }
    Call {
        shape: format!("bf16 {tokens}, {heads} x {dim}"),
        floor: floors::merge(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}

/// Full lists, ascending: the blocks that are always read, and others by chance.
fn make_lists(shape: &Shape, choice: Choice) -> Vec<i32> {
    let mut numbers = Numbers::new(4);
    let rows = (0..shape.queries * shape.heads_kv).map(|row| {
        if choice == Choice::Alike {
            numbers = Numbers::new(4 + (row % shape.heads_kv) as u64);
        }
        let position = shape.keys - shape.queries + row / shape.heads_kv;
        make_list(shape, position / BLOCK, &mut numbers)
    });
    rows.flatten().collect()
}

fn make_list(shape: &Shape, own: usize, numbers: &mut Numbers) -> Vec<i32> {
    let mut chosen: Vec<usize> = (0..shape.init_blocks).chain(own - shape.local_blocks..=own).collect();
    while chosen.len() < shape.list_len {
        let block = numbers.below(own - shape.local_blocks);
        if !chosen.contains(&block) {
            chosen.push(block);
        }
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|block| block as i32).collect()
}
