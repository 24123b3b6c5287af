//! What the bits of a row do not depend on.

use crate::inputs;
use sala_kernels::reference::compress_keys::Window;
use sala_testkit::devices::all;
use sala_testkit::memory::Packing;
use sala_testkit::operations::compress_keys::{Compressed, rows_by_sequence};
use sala_testkit::problem::{assert_same_bits, run};
use sala_testkit::tolerance::Precision;

#[test]
fn every_layout_gives_the_same_rows() {
    for machine in all() {
        let plain = inputs(Precision::Bf16, 64, 64, &[100, 0, 333, 64, 1]);
        let rows = |Compressed { k1, k2 }: &Compressed| {
            let bounds = &plain.batch.cu_seqlens_k;
            [(k1, Window::fine(64)), (k2, Window::coarse(64))]
                .map(|(rows, window)| rows_by_sequence(rows, window, bounds))
        };
        let expected = rows(&run(&plain.compress(), &machine).keys);
        for (spare, packing) in [
            (None, Packing::HeadMajor),
            (None, Packing::Fused),
            (Some(5), Packing::Separate),
            (Some(0), Packing::HeadMajor),
            (Some(1), Packing::Fused),
        ] {
            let mut other = plain.clone();
            other.packing = packing;
            if let Some(spare) = spare {
                other.batch = other.batch.cached(spare);
            }
            let got = rows(&run(&other.compress(), &machine).keys);
            assert!(
                got == expected,
                "{}: {:?}, {packing:?}",
                machine.name,
                other.batch.storage
            );
        }
    }
}

#[test]
fn rows_have_the_same_bits_however_the_tokens_arrive() {
    for machine in all() {
        for (precision, block_size) in [(Precision::Bf16, 64), (Precision::F16, 32)] {
            let lengths = [700, 129, 16, 0, 385];
            let mut inputs = inputs(precision, 64, block_size, &lengths);
            inputs.batch = inputs.batch.cached(3);
            let whole = run(&inputs.compress(), &machine);
            for chunk in [15, 16, 63, 64, 512] {
                let steps = 700usize.div_ceil(chunk);
                let ends = (1..=steps).map(|step| lengths.map(|length| length.min(step * chunk)).to_vec());
                let problem = inputs.compress().in_steps(&ends.collect::<Vec<_>>());
                let what = format!("{}: chunks of {chunk}", machine.name);
                assert_same_bits(&run(&problem, &machine), &whole, &what);
            }
        }
        let mut few = inputs(Precision::Bf16, 64, 64, &[150, 140]);
        few.batch = few.batch.cached(0);
        let tokens: Vec<Vec<usize>> = (1..=150).map(|length| vec![length, length.min(140)]).collect();
        let by_token = run(&few.compress().in_steps(&tokens), &machine);
        assert_same_bits(&by_token, &run(&few.compress(), &machine), "token by token");
    }
}
