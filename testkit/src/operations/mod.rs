//! Calls of every operation as data, and the calls that each is tried on everywhere.

pub mod append_keys;
pub mod choose_blocks;
pub mod choose_tokens;
pub mod commit_keys;
pub mod compact_keys;
pub mod compress_keys;
pub mod gather_rows;
pub mod linear_attention;
pub mod linear_drafts;
pub mod linear_ranks;
pub mod merge;
pub mod norms;
pub mod score_keys;
pub mod select_blocks;
pub mod sparse_attention;

use crate::problem::{Described, Problem};
use proptest::strategy::BoxedStrategy;

/// What is done with the calls of every operation, one operation after the other.
pub trait Visitor {
    /// Gets some calls of an operation: ragged, with empty sequences and tails, and small enough for the race detector.
    fn visit<P: Problem>(&mut self, operation: &str, problems: Vec<P>);
}

/// Shows a visitor every operation.
pub fn visit_all(visitor: &mut impl Visitor, seed: u64) {
    visitor.visit("append_keys", append_keys::samples(seed));
    visitor.visit("choose_blocks", choose_blocks::samples(seed));
    visitor.visit("choose_tokens", choose_tokens::samples(seed));
    visitor.visit("commit_keys", commit_keys::samples(seed));
    visitor.visit("compact_keys", compact_keys::samples(seed));
    visitor.visit("compress_keys", compress_keys::samples(seed));
    visitor.visit("gather_rows", gather_rows::samples(seed));
    visitor.visit("linear_attention", linear_attention::cases::samples(seed));
    visitor.visit("linear_drafts", linear_drafts::samples(seed));
    visitor.visit("linear_ranks", linear_ranks::samples(seed));
    visitor.visit("merge", merge::samples(seed));
    visitor.visit("norms", norms::samples(seed));
    visitor.visit("score_keys", score_keys::samples(seed));
    visitor.visit("select_blocks", select_blocks::samples(seed));
    visitor.visit("sparse_attention", sparse_attention::cases::samples(seed));
}

/// What is done with random calls of every operation, one operation after the other.
pub trait Fuzzer {
    /// Gets what makes calls of an operation: of any shapes and options, on keys stored in every way, with extreme and with spoiled data.
    fn visit<C: Described>(&mut self, operation: &str, calls: BoxedStrategy<C>);
}

/// Shows a fuzzer every operation.
pub fn fuzz_all(fuzzer: &mut impl Fuzzer) {
    fuzzer.visit("append_keys", append_keys::random());
    fuzzer.visit("choose_blocks", choose_blocks::random());
    fuzzer.visit("choose_tokens", choose_tokens::random());
    fuzzer.visit("commit_keys", commit_keys::random());
    fuzzer.visit("compact_keys", compact_keys::random());
    fuzzer.visit("compress_keys", compress_keys::random());
    fuzzer.visit("gather_rows", gather_rows::random());
    fuzzer.visit("linear_attention", linear_attention::random::calls());
    fuzzer.visit("linear_drafts", linear_drafts::random::calls());
    fuzzer.visit("linear_ranks", linear_ranks::random::calls());
    fuzzer.visit("merge", merge::random());
    fuzzer.visit("norms", norms::random::calls());
    fuzzer.visit("score_keys", score_keys::random());
    fuzzer.visit("select_blocks", select_blocks::random::calls());
    fuzzer.visit("sparse_attention", sparse_attention::random::calls());
}
