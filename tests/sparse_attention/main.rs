//! Sparse and dense attention on every device against the definition, over generated calls.
//!
//! `PROPTEST_CASES` sets how many calls a property sees, `SALA_TEST_SEED` repeats a run.

mod agrees;
mod invariances;
mod races;
mod recorded;
mod refusals;
mod steps;
mod trees;

use sala_testkit::devices::Machine;
use sala_testkit::operations::sparse_attention::cases::AttentionCase;
use sala_testkit::operations::sparse_attention::{AttentionProblem, Lists};
use sala_testkit::problem::{assert_same_bits, run};
use sala_testkit::property::seed;
use sala_testkit::storage::Storage;
use sala_testkit::tolerance::Precision;

const PRECISIONS: [Precision; 2] = [Precision::Bf16, Precision::F16];

/// Twelve tokens of one head at the end of 90 003 keys: a tile of 128 tokens has sets for 68 608 keys at a time.
fn long_problem() -> AttentionProblem {
    let (tokens, keys, list_len) = (12, 90_003, 6);
    let case = AttentionCase {
        group: 1,
        dim: 64,
        precision: Precision::F16,
        list_len,
        ..AttentionCase::plain(vec![(tokens, keys)], seed())
    };
    let mut problem = case.problem();
    let last = (keys / 64) as i32;
    let edge = 68_608 / 64;
    let lists = [
        [last, 0, edge - 1, edge, 500, -1],
        [edge, edge + 1, edge + 2, last, last + 1, -1],
        [0, 1, 2, 3, 4, 5],
        [edge - 1, last, last - 1, 7, 7, 999_999],
    ];
    let indices = lists.concat().repeat(tokens / lists.len());
    problem.lists = Some(Lists { indices, list_len });
    problem
}

/// Twelve tokens of one head that list other blocks each, all 189 of them together: a tile of 128 tokens lists some eighty at a time.
fn scattered_problem() -> AttentionProblem {
    let (tokens, keys, list_len) = (12, 12_050, 16);
    let case = AttentionCase {
        group: 1,
        dim: 64,
        precision: Precision::Bf16,
        list_len,
        ..AttentionCase::plain(vec![(tokens, keys)], seed())
    };
    let mut problem = case.problem();
    let indices = (0..tokens * list_len).map(|entry| (entry % list_len * tokens + entry / list_len) as i32);
    let indices = indices.collect();
    problem.lists = Some(Lists { indices, list_len });
    problem
}

/// Eight tokens with a warp each, whose lists have little in common: the first lists every block, the second every second one and so on. A warp runs
/// ahead of others as far as they let it, and waits for steps that are near and for some that are not.
fn diverging_problem(dim: usize) -> AttentionProblem {
    let (tokens, keys) = (8, 2_900);
    let blocks = keys / 64 + 1;
    let case = AttentionCase {
        dim,
        list_len: blocks,
        ..AttentionCase::plain(vec![(tokens, keys)], seed())
    };
    let mut problem = case.problem();
    let entry = |token: usize, block: usize| {
        if block.is_multiple_of(token + 1) {
            block as i32
        } else {
            -1
        }
    };
    let indices = (0..tokens).flat_map(|token| (0..blocks).map(move |block| entry(token, block)));
    problem.lists = Some(Lists {
        indices: indices.collect(),
        list_len: blocks,
    });
    problem
}

/// Half of a tile's tokens list the first and the last block, the others all: a ring that both halves share has to move on while the former wait.
fn gaping_problem(dim: usize) -> AttentionProblem {
    const BLOCKS: usize = 40;
    let case = AttentionCase {
        dim,
        list_len: BLOCKS,
        ..AttentionCase::plain(vec![(8, BLOCKS * 64)], seed())
    };
    let last = BLOCKS as i32 - 1;
    let entry = |token: usize, block: i32| {
        if token >= 4 || block % last == 0 { block } else { -1 }
    };
    let mut problem = case.problem();
    let indices = (0..8).flat_map(|token| (0..=last).map(move |block| entry(token, block)));
    problem.lists = Some(Lists {
        indices: indices.collect(),
        list_len: BLOCKS,
    });
    problem
}

/// Asserts that a sequence has the same bits however the keys of its batch are stored, and alone. `entry` gives the call that is tried.
fn assert_same_in_any_batch_and_store(
    machines: &[Machine],
    case: &AttentionCase,
    entry: impl Fn(&AttentionProblem) -> AttentionProblem,
) {
    let problem = case.problem();
    let longest = problem.batch.key_lengths().into_iter().max().unwrap_or(0) as usize;
    for machine in machines {
        let expected = run(&entry(&problem), machine);
        for storage in [
            Storage::Packed,
            Storage::Cached(longest),
            Storage::Cached(longest + 100),
            Storage::Cached(longest + 50_000),
            Storage::Indexed(longest),
            Storage::paged(1),
            Storage::paged(16),
            Storage::paged(64),
            Storage::paged(1024),
        ] {
            let mut stored = problem.clone();
            let what = format!("{}: {storage:?}", machine.name);
            stored.batch.storage = storage;
            assert_same_bits(&expected, &run(&entry(&stored), machine), &what);
        }
        for (sequence, &(queries, keys)) in case.lengths.iter().enumerate() {
            let first = problem.batch.cu_seqlens_q[sequence] as usize;
            let alone = run(&entry(&problem.part(sequence, 0..queries, keys)), machine);
            let within = expected.part(problem.total_q(), first..first + queries);
            assert_same_bits(&within, &alone, &format!("{}: sequence {sequence}", machine.name));
        }
    }
}
