//! Rows are the means of their windows, and nothing else is written.

use crate::inputs;
use sala_testkit::devices::{all_orders, host};
use sala_testkit::memory::Packing;
use sala_testkit::numbers::LENGTHS;
use sala_testkit::problem::compare_on;
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

#[test]
fn rows_are_the_means_of_their_windows() {
    let machines = all_orders(seed());
    let lengths: Vec<usize> = LENGTHS.into_iter().chain([1200]).collect();
    for (precision, dim, block_size, packing) in [
        (Precision::Bf16, 128, 64, Packing::Separate),
        (Precision::F16, 64, 64, Packing::HeadMajor),
        (Precision::Bf16, 64, 32, Packing::Fused),
        (Precision::F16, 128, 128, Packing::Separate),
    ] {
        let mut inputs = inputs(precision, dim, block_size, &lengths);
        inputs.packing = packing;
        compare_on(&machines, &inputs.compress());
        inputs.batch = inputs.batch.cached(37);
        compare_on(&machines, &inputs.compress());
    }
}

#[test]
fn zero_and_huge_keys_stay_within_a_step() {
    // Six times two times the larger one is near the end of f16.
    for size in [0.0, 5e3] {
        for precision in [Precision::Bf16, Precision::F16] {
            let mut inputs = inputs(precision, 64, 64, &[300]);
            inputs.k = Values::round(precision, inputs.k.to_f64().iter().map(|x| x * size));
            compare_on(&[host()], &inputs.compress());
        }
    }
}
