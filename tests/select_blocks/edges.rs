//! Ties, NaN, overflow, underflow, and tokens that see nothing.

use crate::{check, compress, inputs, times};
use sala_kernels::Lse;
use sala_kernels::reference::select_blocks::Config;
use sala_testkit::devices::all_levels;
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::{Problem, assert_same_bits, run};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

#[test]
fn equal_scores_go_to_the_lower_block() {
    for machine in all_levels() {
        // All keys the same: every row of a token scores the same.
        let mut same = inputs(Precision::Bf16, small_config(4, 1, 64), &[20], &[1500]);
        let key = same.k.slice(0..64).to_f64();
        same.k = Values::round(Precision::Bf16, key.into_iter().cycle().take(1500 * 64));
        let got = check(&same, &machine);
        let last = got.indices.chunks(same.config.list_len()).next_back().unwrap();
        assert_eq!(last, [0, 1, 2, 3, 4, 5, 21, 22, 23]);
    }
}

#[test]
fn neighbours_of_a_shared_row_get_the_same_bits() {
    for machine in all_levels() {
        let inputs = inputs(Precision::F16, small_config(16, 1, 64), &[8], &[2100]);
        let scores = check(&inputs, &machine).scores.unwrap();
        let rows = scores.chunks(inputs.blocks() + 1);
        let ties = rows
            .flat_map(|row| row.windows(2))
            .filter(|pair| pair[0] == pair[1] && pair[0] > 0.0);
        let common = "with windows of five rows that share one, ties are common";
        assert!(ties.count() > 8, "{common}");
    }
}

/// Two neighbouring blocks share a row, here the one that counts: of the free blocks the first is selected for the end of the initial one.
#[test]
fn the_row_before_the_first_free_block_counts() {
    for machine in all_levels() {
        for (init_blocks, block_size) in [(1, 64), (15, 64), (16, 64), (16, 32), (32, 128), (33, 32)] {
            let config = Config {
                init_blocks,
                block_size,
                topk: init_blocks + 2,
                local_blocks: 1,
                ..small_config(2, 1, 64)
            };
            let keys = block_size * (init_blocks + 12);
            let mut inputs = inputs(Precision::Bf16, config, &[3], &[keys]);
            let end = block_size * init_blocks;
            let channel = |i: usize, value: f64| if i.is_multiple_of(64) { value } else { 0.0 };
            // The end of the last initial block, and less of a later one, which is the best of the others.
            let (stride, later) = (block_size / 4, end + 4 * block_size);
            let key = |i: usize| match i / 64 {
                token if (end - stride..end).contains(&token) => channel(i, 8.0),
                token if (later..later + stride).contains(&token) => channel(i, 4.0),
                _ => 0.0,
            };
            inputs.q = Values::round(Precision::Bf16, (0..3 * 2 * 64).map(|i| channel(i, 4.0)));
            inputs.k = Values::round(Precision::Bf16, (0..keys * 64).map(key));
            let got = run(&inputs.select(&compress(&inputs, &machine), None), &machine).indices;
            let last = (keys / block_size - 1) as i32;
            let list: Vec<i32> = (0..=init_blocks as i32).chain([last - 1, last]).collect();
            assert!(
                got.chunks(list.len()).all(|got| got == list),
                "{init_blocks} initial blocks of {block_size}"
            );
        }
    }
}

/// With keys that are all the same every head deals its attention evenly over the rows that count for its sums.
#[test]
fn rows_count_from_the_token_that_ends_their_window() {
    // At the last token the rows that are seen fill a turn of the kernel, and one more block has a score.
    const TOKENS: usize = 530;
    const GROUP: usize = 3;
    let windows = |keys: usize, size: usize| (2 * keys / size).saturating_sub(1);
    for machine in all_levels() {
        for lse in [Lse::Coarse, Lse::Exact] {
            let config = Config {
                lse,
                ..small_config(GROUP, 1, 64)
            };
            let mut inputs = inputs(Precision::Bf16, config, &[TOKENS], &[TOKENS]);
            let key = inputs.k.slice(0..64).to_f64();
            inputs.k = Values::round(Precision::Bf16, key.into_iter().cycle().take(TOKENS * 64));
            let problem = inputs.select(&compress(&inputs, &machine), Some(inputs.blocks()));
            let scores = run(&problem, &machine).scores.unwrap();
            for (position, scores) in scores.chunks(inputs.blocks()).enumerate() {
                let keys = position + 1;
                let summed = windows(keys, if lse == Lse::Exact { 32 } else { 128 });
                let share = if summed == 0 { 0.0 } else { GROUP as f32 / summed as f32 };
                for (block, &score) in scores.iter().enumerate() {
                    // The first row of a block is the one that it shares with the block before it, if there is one.
                    let is_seen = (4 * block).saturating_sub(1) < windows(keys, 32);
                    let expected = if is_seen { share } else { f32::NEG_INFINITY };
                    let is_near = score == expected || (score - expected).abs() < 1e-5 * expected;
                    assert!(
                        is_near,
                        "{lse:?}, block {block} at {position}: {score} instead of {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn nan_keys_score_nothing() {
    for machine in all_levels() {
        let mut sick = inputs(Precision::Bf16, small_config(8, 2, 64), &[6, 6], &[900, 900]);
        // A NaN token spoils two rows of K1 and two of K2; a NaN channel of one query head spoils that head alone.
        sick.k.poison((200 * 2) * 64..(200 * 2) * 64 + 1);
        sick.k.poison((320 * 2) * 64..(384 * 2) * 64);
        sick.q.poison(3 * 64..3 * 64 + 1);
        check(&sick, &machine);
        // All of the other sequence.
        let mut other = sick.clone();
        other.k.poison(900 * 2 * 64..1800 * 2 * 64);
        other.q.poison(6 * 8 * 64..12 * 8 * 64);
        let first_sequence = |inputs: &sala_testkit::operations::select_blocks::cases::SelectionInputs| {
            let keys = compress(inputs, &machine);
            run(&inputs.select(&keys, Some(15)), &machine).part(12, 0..6)
        };
        assert_same_bits(&first_sequence(&sick), &first_sequence(&other), &machine.name);
    }
}

#[test]
fn scores_overflow_to_infinity_and_underflow_to_zero() {
    for machine in all_levels() {
        for (size, heads_q) in [(6.0, 8), (12.0, 16), (20.0, 40)] {
            let mut inputs = inputs(Precision::Bf16, small_config(heads_q, 1, 64), &[10], &[1000]);
            (inputs.q, inputs.k) = (times(&inputs.q, size), times(&inputs.k, size));
            // One row of K1 that the rows of K2 hide: alternating keys that cancel, but for 32 tokens.
            let k = inputs.k.to_f64();
            let cancel = |(i, x): (usize, f64)| {
                let token = i / 64;
                if token < 600 && !(304..336).contains(&token) {
                    if token % 2 == 0 { k[i % 64] } else { -k[i % 64] }
                } else {
                    x
                }
            };
            inputs.k = Values::round(Precision::Bf16, k.iter().copied().enumerate().map(cancel));
            let problem = inputs.select(&compress(&inputs, &machine), Some(inputs.blocks()));
            let got = run(&problem, &machine).scores.unwrap();
            for (&got, &expected) in got.iter().zip(&problem.reference().scores.scores) {
                // Logits of hundreds carry the rounding of f32 into the exponent.
                let error = (got.log2() - expected.log2()).abs();
                let is_near = got == expected || error < 0.01;
                assert!(is_near, "{got} instead of {expected} at size {size}");
            }
        }
    }
}

/// Every head of a token is the same, so that P is the group times one head's share; the tokens' factors take that share through the smallest
/// normal number, and with it P.
#[test]
fn heads_too_small_for_f32_still_add_up() {
    const GROUP: usize = 16;
    const TOKENS: usize = 64;
    for machine in all_levels() {
        for nan_head in [None, Some(3)] {
            let mut inputs = inputs(Precision::Bf16, small_config(GROUP, 1, 64), &[TOKENS], &[1500]);
            let channel = |i: usize, value: f64| if i.is_multiple_of(64) { value } else { 0.0 };
            inputs.q = Values::round(Precision::Bf16, (0..TOKENS * GROUP * 64).map(|i| channel(i, 1.0)));
            let key = |i: usize| channel(i, if (192..448).contains(&(i / 64)) { 8.0 } else { 0.0 });
            inputs.k = Values::round(Precision::Bf16, (0..1500 * 64).map(key));
            inputs.config.scale = 1.0;
            // A row without the eights has the share e^(−8·factor) / Z, with Z a little above 3.
            inputs.scale_factor = Some((0..TOKENS).map(|i| 10.0 + i as f32 * 0.03).collect());
            if let Some(head) = nan_head {
                let rows = (0..TOKENS).map(|token| token * GROUP + head);
                rows.for_each(|row| inputs.q.poison(row * 64..row * 64 + 1));
            }
            let problem = inputs.select(&compress(&inputs, &machine), Some(inputs.blocks()));
            let expected = problem.reference().scores.scores;
            let got = run(&problem, &machine).scores.unwrap();
            let is_small = |&&score: &&f32| score > 0.0 && score < 1e-36;
            assert!(expected.iter().filter(is_small).count() > 100 && expected.contains(&0.0));
            for (&got, &expected) in got.iter().zip(&expected) {
                let is_edge = got.max(expected) < f32::MIN_POSITIVE * 1.01;
                let is_near = got == expected || (got.log2() - expected.log2()).abs() < 0.01;
                assert!(is_edge || is_near, "{got:e} instead of {expected:e}");
                assert!(got <= 0.0 || got.is_normal(), "{got:e}");
            }
        }
    }
}

#[test]
fn huge_and_zero_inputs_give_lists() {
    for machine in all_levels() {
        for size in [0.0, 1e4] {
            let mut inputs = inputs(Precision::Bf16, small_config(4, 1, 64), &[10], &[1000]);
            (inputs.q, inputs.k) = (times(&inputs.q, size), times(&inputs.k, size));
            let keys = compress(&inputs, &machine);
            let got = run(&inputs.select(&keys, Some(inputs.blocks())), &machine);
            assert!(got.scores.unwrap().iter().all(|score| !score.is_nan()));
            for (row, list) in got.indices.chunks(9).enumerate() {
                let query_block = ((990 + row) / 64) as i32;
                let is_ascending = list.windows(2).all(|pair| pair[0] < pair[1]);
                assert!(is_ascending && list[0] == 0 && list[8] == query_block, "{list:?}");
            }
        }
    }
}

#[test]
fn tokens_without_keys_get_empty_lists() {
    for machine in all_levels() {
        let inputs = inputs(Precision::Bf16, small_config(2, 1, 64), &[40], &[30]);
        let got = check(&inputs, &machine);
        assert!(got.indices[..10 * 9].iter().all(|&block| block == -1));
        let first_block_alone = [0, -1, -1, -1, -1, -1, -1, -1, -1];
        assert!(got.indices[10 * 9..].chunks(9).all(|list| list == first_block_alone));
        let without_keys = &got.scores.unwrap()[..10 * 2];
        assert!(without_keys.iter().all(|&score| score == f32::NEG_INFINITY));
    }
}
