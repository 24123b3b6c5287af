//! A seeded way to try properties on generated cases.

use crate::memory::Packing;
use crate::numbers::LENGTHS;
use crate::tolerance::Precision;
use proptest::prelude::*;
use proptest::test_runner::{Config as TestConfig, RngAlgorithm, TestError, TestRng, TestRunner};

/// Lengths of a ragged batch: one to four of [`LENGTHS`] at up to `longest` tokens, sometimes with an empty sequence in the middle.
pub fn lengths(longest: usize) -> impl Strategy<Value = Vec<usize>> {
    let known: Vec<usize> = LENGTHS.into_iter().filter(|&length| length <= longest).collect();
    let length = prop_oneof![3 => prop::sample::select(known), 1 => 0..=longest];
    (prop::collection::vec(length, 1..=4), any::<bool>()).prop_map(|(mut lengths, with_empty)| {
        if with_empty {
            lengths.insert(lengths.len() / 2, 0);
        }
        lengths
    })
}

/// Both types.
pub fn precisions() -> impl Strategy<Value = Precision> {
    prop::sample::select(vec![Precision::Bf16, Precision::F16])
}

/// The ways for tensors to lie in memory that any device has room for.
pub fn packings() -> impl Strategy<Value = Packing> {
    prop::sample::select(vec![Packing::Separate, Packing::Fused, Packing::HeadMajor])
}

/// Where the numbers of a call come from, which is as good as any other.
pub fn seeds() -> impl Strategy<Value = u64> {
    any::<u64>().no_shrink()
}

/// Sometimes the seed that indices are spoiled from.
pub fn spoils() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![5 => Just(None), 1 => seeds().prop_map(Some)]
}

/// What makes values of strategies from a seed, always the same.
pub fn runner(config: TestConfig, seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Tries `cases` values (or `PROPTEST_CASES`) of a strategy; panics with the smallest one that fails.
///
/// The seed is printed and can be given as `SALA_TEST_SEED`.
pub fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S::Value: Clone,
{
    let seed = seed();
    println!("SALA_TEST_SEED={seed}");
    let cases = environment_number("PROPTEST_CASES").unwrap_or(cases);
    let config = TestConfig {
        cases,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..TestConfig::default()
    };
    let outcome = runner(config, seed).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("SALA_TEST_SEED={seed}: {why}\nsmallest case: {value:#?}"),
        Err(TestError::Abort(why)) => panic!("SALA_TEST_SEED={seed}: {why}"),
    }
}

/// The seed of this run.
pub fn seed() -> u64 {
    let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    environment_number("SALA_TEST_SEED").unwrap_or_else(clock)
}

fn environment_number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
