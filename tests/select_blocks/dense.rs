//! Sequences that are attended densely get empty lists, whatever their blocks score.

use crate::{compress, given_scores, inputs};
use sala_testkit::batch::Batch;
use sala_testkit::devices::{Machine, all_levels, all_levels_and_orders};
use sala_testkit::memory::Packing;
use sala_testkit::operations::choose_blocks::ChooseProblem;
use sala_testkit::operations::select_blocks::Selected;
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::{Problem, compare_with, run};
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;

const DENSE_LEN: usize = 700;
const QUERIES: [usize; 6] = [20, 1, 5, 700, 9, 1];
/// Around the threshold, and far from it. A sequence of 700 tokens has more blocks than a list has entries.
const KEYS: [usize; 6] = [DENSE_LEN - 1, DENSE_LEN, DENSE_LEN + 1, 1000, 640, 1];

/// The batch by the lengths of its keys, and by lengths of their own, with the sequences that are dense.
fn batches() -> [(Batch, [bool; 6]); 2] {
    let by_keys = Batch {
        dense_len: DENSE_LEN,
        ..Batch::new(&QUERIES, &KEYS).bounded()
    };
    let lengths = [DENSE_LEN, DENSE_LEN - 1, DENSE_LEN + 1, 0, DENSE_LEN, DENSE_LEN - 1];
    let by_lengths = Batch {
        switch_len: Some(lengths.map(|length| length as i32).to_vec()),
        ..by_keys.clone()
    };
    [
        (by_keys, [true, false, false, false, true, true]),
        (by_lengths, [false, true, false, true, false, true]),
    ]
}

/// The lists of dense sequences are empty, and those of the others begin with the first block.
fn assert_empty_where_dense(run: &Selected, dense: [bool; 6], rows_per_token: usize, machine: &Machine) {
    let total: usize = QUERIES.iter().sum();
    let mut first = 0;
    for (sequence, queries) in QUERIES.into_iter().enumerate() {
        let lists = run.part(total, first..first + queries).indices;
        let what = format!("{}: sequence {sequence} of {} keys", machine.name, KEYS[sequence]);
        let list_len = lists.len() / queries / rows_per_token;
        if dense[sequence] {
            assert!(lists.iter().all(|&block| block == -1), "{what} is dense");
        } else {
            assert!(lists.chunks(list_len).all(|list| list[0] == 0), "{what} is sparse");
        }
        first += queries;
    }
}

#[test]
fn dense_sequences_select_nothing() {
    for machine in all_levels_and_orders(seed()) {
        for (batch, dense) in batches() {
            let mut inputs = inputs(Precision::Bf16, small_config(8, 2, 64), &QUERIES, &KEYS);
            for cached in [false, true] {
                inputs.batch = if cached { batch.clone().cached(3) } else { batch.clone() };
                let keys = compress(&inputs, &machine);
                let with_scores = inputs.select(&keys, Some(inputs.blocks()));
                let reference = with_scores.reference();
                for problem in [with_scores, inputs.select(&keys, None)] {
                    let run = compare_with(&problem, &reference, &machine);
                    assert_empty_where_dense(&run, dense, 2, &machine);
                }
            }
        }
    }
}

#[test]
fn dense_sequences_choose_nothing() {
    let total: usize = QUERIES.iter().sum();
    let longest = KEYS.into_iter().max().unwrap_or(0);
    for machine in all_levels_and_orders(seed()) {
        for (batch, dense) in batches() {
            let problem = ChooseProblem {
                config: small_config(8, 2, 64),
                scores: given_scores(0, total * 2, longest.div_ceil(64)),
                batch,
                packing: Packing::Separate,
            };
            let run = compare_with(&problem, &problem.reference(), &machine);
            assert_empty_where_dense(&run, dense, 2, &machine);
        }
    }
}

/// A layer that is dense below every length has nothing to choose; one without a threshold chooses for all.
#[test]
fn the_threshold_may_be_anywhere() {
    for machine in all_levels_and_orders(seed()) {
        for (dense_len, dense) in [(0, [false; 6]), (1001, [true; 6]), (usize::MAX, [true; 6])] {
            let mut inputs = inputs(Precision::F16, small_config(4, 1, 64), &QUERIES, &KEYS);
            inputs.batch.dense_len = dense_len;
            let problem = inputs.select(&compress(&inputs, &machine), None);
            let run = compare_with(&problem, &problem.reference(), &machine);
            assert_empty_where_dense(&run, dense, 1, &machine);
        }
    }
}

/// One query token of a sequence of so many keys, before and after it stops being dense.
const GROWN: [usize; 4] = [DENSE_LEN - 2, DENSE_LEN - 1, DENSE_LEN, DENSE_LEN + 1];

#[test]
fn a_sequence_that_grows_selects_from_the_threshold_on() {
    for machine in all_levels() {
        for keys in GROWN {
            let mut inputs = inputs(Precision::F16, small_config(2, 1, 64), &[1], &[keys]);
            inputs.batch.dense_len = DENSE_LEN;
            let run = run(&inputs.select(&compress(&inputs, &machine), Some(1)), &machine);
            let is_dense = keys < DENSE_LEN;
            assert_eq!(run.indices.iter().all(|&block| block == -1), is_dense, "{keys} keys");
            assert_eq!(
                run.indices.last().copied(),
                Some(if is_dense { -1 } else { (keys as i32 - 1) / 64 })
            );
            // Block 0 has a score where blocks are chosen.
            assert_eq!(run.scores.unwrap()[0] == f32::NEG_INFINITY, is_dense, "{keys} keys");
        }
    }
}

#[test]
fn a_sequence_that_grows_chooses_from_the_threshold_on() {
    for machine in all_levels() {
        for keys in GROWN {
            let problem = ChooseProblem {
                config: small_config(1, 1, 64),
                scores: given_scores(2, 1, 11),
                batch: Batch {
                    dense_len: DENSE_LEN,
                    ..Batch::new(&[1], &[keys])
                },
                packing: Packing::Separate,
            };
            let run = run(&problem, &machine);
            let expected = match keys < DENSE_LEN {
                true => [-1; 9],
                // Scores grow with the block: of the seven free ones the last five.
                false => [0, 3, 4, 5, 6, 7, 8, 9, 10],
            };
            assert_eq!(run.indices, expected, "{keys} keys");
        }
    }
}

/// Lengths that are none, and the smallest: the first three are below every threshold.
#[test]
fn lengths_below_zero_are_dense() {
    let keys = [640, 700, 650, 900];
    let batch = Batch {
        dense_len: 1,
        switch_len: Some(vec![-1, i32::MIN, 0, 1]),
        ..Batch::new(&[3; 4], &keys)
    };
    let first_entries = [-1, -1, -1, 0].map(|entry| [entry; 3]).concat();
    for machine in all_levels() {
        let mut inputs = inputs(Precision::Bf16, small_config(2, 1, 64), &[3; 4], &keys);
        inputs.batch = batch.clone();
        let select = inputs.select(&compress(&inputs, &machine), None);
        let choose = ChooseProblem {
            config: inputs.config,
            scores: given_scores(0, 12, 15),
            batch: batch.clone(),
            packing: Packing::Separate,
        };
        for run in [
            compare_with(&select, &select.reference(), &machine),
            compare_with(&choose, &choose.reference(), &machine),
        ] {
            let entries: Vec<i32> = run.indices.chunks(9).map(|list| list[0]).collect();
            assert_eq!(entries, first_entries, "{}", machine.name);
        }
    }
}
