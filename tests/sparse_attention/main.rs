//! Sparse and dense attention on every device against the definition, over generated calls.
//!
//! `PROPTEST_CASES` sets how many calls a property sees, `SALA_TEST_SEED` repeats a run.

mod agrees;
mod invariances;
mod races;
mod recorded;
mod refusals;
mod steps;

use sala_testkit::operations::sparse_attention::cases::AttentionCase;
use sala_testkit::operations::sparse_attention::{AttentionProblem, Lists};
use sala_testkit::property::seed;
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
