//! Selection for few query tokens: its lists and scores are those of the prefill entry, bit for bit.

use crate::{compress, inputs, times};
use sala_kernels::reference::select_blocks::Config;
use sala_kernels::{Entry, Lse, Status};
use sala_testkit::batch::{Batch, Trees};
use sala_testkit::devices::{Machine, all_levels, all_levels_and_orders, host, host_with, race_detecting_host};
use sala_testkit::memory::Packing;
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::select_blocks::cases::{SelectionInputs, small_config};
use sala_testkit::operations::select_blocks::{SelectProblem, UNWRITTEN};
use sala_testkit::problem::{Problem, assert_same_bits, compare_on, compare_with, run};
use sala_testkit::property::seed;
use sala_testkit::storage::{Content, KeyRows};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

/// Runs a selection from both entries, with scores and without, and compares decode with the reference.
#[track_caller]
fn check(inputs: &SelectionInputs, machine: &Machine, what: &str) {
    let keys = compress(inputs, machine);
    for blocks in [Some(inputs.blocks() + 1), None] {
        let prefill = inputs.select(&keys, blocks);
        let decode = prefill.decode();
        let got = compare_with(&decode, &decode.reference(), machine);
        let what = format!("{}: {what}, {blocks:?} scores", machine.name);
        assert_same_bits(&run(&prefill, machine), &got, &what);
    }
}

#[test]
fn decode_gives_the_bits_of_prefill() {
    for machine in all_levels() {
        for (heads_q, heads_kv, dim) in [(16, 1, 128), (2, 1, 64), (12, 2, 64), (32, 1, 128), (40, 1, 64)] {
            let config = small_config(heads_q, heads_kv, dim);
            let plain = inputs(Precision::Bf16, config, &[1, 0, 5, 16, 3], &[1000, 65, 2100, 700, 63]);
            check(&plain, &machine, &format!("{config:?}"));
            let exact = SelectionInputs {
                config: Config {
                    lse: Lse::Exact,
                    ..config
                },
                ..plain.clone()
            };
            check(&exact, &machine, &format!("{:?}", exact.config));
        }
    }
}

/// Sums of more pieces than threads merge, and lists around the sizes that the queues of prefill have.
#[test]
fn long_sequences_and_lists_agree() {
    for machine in all_levels() {
        for (topk, init_blocks, local_blocks, lse) in [
            (40, 0, 0, Lse::Exact),
            (200, 3, 0, Lse::Exact),
            (256, 1, 32, Lse::Coarse),
            (1, 0, 4, Lse::Coarse),
        ] {
            let config = Config {
                block_size: 32,
                topk,
                init_blocks,
                local_blocks,
                lse,
                ..small_config(2, 1, 64)
            };
            let plain = inputs(Precision::F16, config, &[2, 1], &[32 * 400 + 7, 32 * 290]);
            check(&plain, &machine, &format!("{config:?}"));
        }
    }
}

#[test]
fn ties_and_extreme_scores_agree() {
    for machine in all_levels() {
        let plain = inputs(Precision::Bf16, small_config(4, 1, 64), &[3, 1], &[2000, 1500]);
        for factor in [0.0, 1e-3, 30.0, 1e4] {
            let sized = SelectionInputs {
                q: times(&plain.q, factor),
                k: times(&plain.k, factor),
                ..plain.clone()
            };
            check(&sized, &machine, &format!("numbers times {factor}"));
        }
        // Every third key row is the first one again.
        let row = plain.k.len() / plain.total_k();
        let numbers = plain.k.to_f64();
        let repeated = (0..numbers.len()).map(|i| {
            numbers[if (i / row / 128).is_multiple_of(3) {
                i % (128 * row)
            } else {
                i
            }]
        });
        let same = SelectionInputs {
            k: Values::round(Precision::Bf16, repeated),
            ..plain.clone()
        };
        check(&same, &machine, "repeated keys");
    }
}

/// Keys that drift along the sequence, as those of neighbouring tokens do, and keys by which every block outranks all before it.
#[test]
fn correlated_and_adversarial_keys_agree() {
    for machine in all_levels() {
        for (lse, local_blocks) in [(Lse::Coarse, 2), (Lse::Exact, 0)] {
            let config = Config {
                lse,
                local_blocks,
                ..small_config(4, 1, 64)
            };
            let plain = inputs(Precision::Bf16, config, &[16, 2], &[64 * 90 + 3, 1500]);
            let row = plain.k.len() / plain.total_k();
            let numbers = plain.k.to_f64();
            let mut drifting = numbers.clone();
            for i in row..drifting.len() {
                drifting[i] = 0.95 * drifting[i - row] + (1.0f64 - 0.95 * 0.95).sqrt() * numbers[i];
            }
            // All queries are alike, and keys point their way, the further the newer they are.
            let direction = |i: usize| if (i % 64).is_multiple_of(3) { 1.0 } else { -0.5 };
            let rising = (0..numbers.len()).map(|i| direction(i) * ((i / row) as f64 / 500.0));
            let alike = (0..plain.q.len()).map(direction);
            let rising = SelectionInputs {
                q: Values::round(Precision::Bf16, alike),
                k: Values::round(Precision::Bf16, rising),
                ..plain.clone()
            };
            let drifting = SelectionInputs {
                k: Values::round(Precision::Bf16, drifting),
                ..plain.clone()
            };
            check(&drifting, &machine, "keys that drift");
            check(&rising, &machine, "keys that rise");
            // Of the free blocks the newest are taken.
            let got = run(&rising.select(&compress(&rising, &machine), None).decode(), &machine);
            let list_len = config.list_len() as i32;
            let newest: Vec<i32> = [0].into_iter().chain(91 - (list_len - 1)..91).collect();
            assert_eq!(got.part(18, 15..16).indices, newest, "{}", machine.name);
        }
    }
}

/// Needles in a haystack of a million tokens: one row of K1 for each speaks for its block.
#[test]
fn planted_blocks_are_found_among_a_million_tokens() {
    const TOKENS: usize = 1 << 20;
    let planted = [3, 777, 8191, 8192, 16_000];
    let config = Config {
        topk: 16,
        local_blocks: 8,
        ..small_config(2, 1, 64)
    };
    let mut numbers = Numbers::new(seed());
    let q: Vec<f64> = numbers.normals(2 * 2 * 64, 1.0);
    let mut rows = |stride: usize| {
        let count = TOKENS / stride;
        (0..count * 64).map(|_| numbers.uniform() - 0.5).collect::<Vec<f64>>()
    };
    let (mut k1, k2) = (rows(16), rows(64));
    for block in planted {
        // The sum of all queries: every head of both tokens finds it.
        for (i, x) in k1[(4 * block + 1) * 64..][..64].iter_mut().enumerate() {
            *x = 2.0 * (0..4).map(|head| q[head * 64 + i]).sum::<f64>();
        }
    }
    let batch = Batch::new(&[2], &[TOKENS]).bounded();
    let keys = |values: Vec<f64>, stride| {
        let places = batch.places(Content::Compressed { stride, block_size: 64 });
        let values = Values::round(Precision::Bf16, values);
        KeyRows::store(places, &values, &[0, values.len() as i32 / 64], 1, 64)
    };
    let problem = SelectProblem {
        config,
        q: Values::round(Precision::Bf16, q),
        k1: keys(k1, 16),
        k2: Some(keys(k2, 64)),
        batch: batch.clone(),
        scale_factor: None,
        packing: Packing::Separate,
        score_blocks: None,
        entry: Entry::Prefill,
        workspace: None,
    };
    for machine in all_levels() {
        let decode = problem.decode();
        let got = compare_with(&decode, &decode.reference(), &machine);
        for list in got.indices.chunks(config.list_len()) {
            let missing = planted.iter().find(|&&block| !list.contains(&(block as i32)));
            assert_eq!(missing, None, "{}: {list:?}", machine.name);
        }
    }
}

#[test]
fn caches_pages_and_dense_sequences_agree() {
    for machine in all_levels() {
        let plain = inputs(Precision::F16, small_config(6, 2, 64), &[4, 1, 2], &[1100, 300, 900]);
        for batch in [
            plain.batch.clone().cached(70),
            plain.batch.clone().paged(64),
            plain.batch.clone().paged(16),
            Batch {
                dense_len: 500,
                ..plain.batch.clone()
            },
        ] {
            let what = format!("{:?}", batch.storage);
            let other = SelectionInputs { batch, ..plain.clone() };
            check(&other, &machine, &what);
        }
    }
}

/// Token by token and all at once: a chain of drafts gets the lists of decoding it, and of the prompt.
#[test]
fn drafts_get_the_lists_of_decoding_them() {
    for machine in all_levels() {
        let whole = inputs(Precision::Bf16, small_config(8, 1, 64), &[16], &[1300]);
        let select =
            |inputs: &SelectionInputs| run(&inputs.select(&compress(inputs, &machine), Some(21)).decode(), &machine);
        let expected = select(&whole);
        for token in 0..16 {
            let one = select(&whole.chunk(&[1300 - 15 + token], &[1]));
            let what = format!("{}: token {token}", machine.name);
            assert_same_bits(&expected.part(16, token..token + 1), &one, &what);
        }
    }
}

/// So many sequences that the workspace has room for some at a time, of which few have query tokens.
#[test]
fn large_batches_agree() {
    const SEQUENCES: usize = 700;
    let lengths = (0..SEQUENCES).map(|index| match index {
        0 | 350 | 699 => (16, 11_000 + index),
        _ => (usize::from(index % 7 == 1), 5 + index % 40),
    });
    let (queries, keys): (Vec<_>, Vec<_>) = lengths.unzip();
    let config = Config {
        lse: Lse::Exact,
        ..small_config(64, 1, 64)
    };
    let mut plain = inputs(Precision::F16, config, &queries, &keys);
    // Any of them may have all keys.
    plain.batch.max_seqlens[1] = None;
    let machine = host();
    let prefill = plain.select(&compress(&plain, &machine), None);
    // What selection takes; attention takes more.
    let decode = SelectProblem {
        workspace: Some(96 << 20),
        ..prefill.decode()
    };
    let reference = decode.reference();
    machine.stream.take_counters();
    let got = compare_with(&decode, &reference, &machine);
    let blocks = machine.stream.take_counters().blocks as usize;
    assert!(blocks > 10 * SEQUENCES, "it was taken as a prefill");
    assert_same_bits(&run(&prefill, &machine), &got, "a large batch");
}

/// One block for each piece of K1, and fewer, which take several pieces one after the other.
#[test]
fn blocks_that_share_pieces_change_no_bit() {
    let machines = [1000, 8, 1].map(|multiprocessors| {
        let name = format!("host, {multiprocessors} multiprocessors");
        host_with(&name, |options| options.multiprocessors = multiprocessors)
    });
    for (heads_q, heads_kv, lse) in [(40, 1, Lse::Coarse), (4, 2, Lse::Exact)] {
        let config = Config {
            block_size: 32,
            lse,
            ..small_config(heads_q, heads_kv, 64)
        };
        let plain = inputs(Precision::F16, config, &[16, 1, 3], &[32 * 400 + 5, 32 * 130, 900]);
        for batch in [plain.batch.clone(), plain.batch.clone().paged(16)] {
            let inputs = SelectionInputs { batch, ..plain.clone() };
            let keys = compress(&inputs, &machines[0]);
            let decode = inputs.select(&keys, Some(inputs.blocks() + 1)).decode();
            let reference = decode.reference();
            let [expected, few, fewest] = machines.each_ref().map(|machine| {
                machine.stream.take_counters();
                let got = compare_with(&decode, &reference, machine);
                (got, machine.stream.take_counters().blocks)
            });
            assert!(expected.1 > few.1 && few.1 > fewest.1, "blocks share nothing");
            assert_same_bits(&expected.0, &few.0, &machines[1].name);
            assert_same_bits(&expected.0, &fewest.0, &machines[2].name);
        }
    }
}

/// So many sequences that no machine has room for a block for each piece, of which two have query tokens.
#[test]
fn blocks_share_pieces_on_every_machine() {
    for machine in all_levels() {
        let sequences = 5 * machine.device.multiprocessors() as usize;
        let lengths = (0..sequences).map(|index| match index {
            0 => (2, 32 * 400 + 5),
            3 => (1, 32 * 130),
            _ => (0, 40),
        });
        let (queries, keys): (Vec<_>, Vec<_>) = lengths.unzip();
        let config = Config {
            block_size: 32,
            ..small_config(40, 1, 64)
        };
        check(&inputs(Precision::Bf16, config, &queries, &keys), &machine, "crowded");
    }
}

#[test]
fn refused_sequences_get_empty_lists() {
    for machine in all_levels() {
        let right = inputs(Precision::Bf16, small_config(2, 1, 64), &[4, 4], &[900, 900]);
        let mut wrong = right.select(&compress(&right, &machine), Some(20));
        // The second sequence claims more keys than K1 has rows for.
        wrong.batch = Batch::new(&[4, 4], &[900, 2000]).bounded();
        let got = run(&wrong.decode(), &machine);
        assert_eq!(got.status, Status::from([0, 0, 1, 0]), "{}", machine.name);
        assert!(got.part(8, 0..4).indices.iter().all(|&block| block != UNWRITTEN));
        let refused = got.part(8, 4..8);
        assert!(refused.indices.iter().all(|&block| block == -1));
        assert!(refused.scores.unwrap().iter().all(|&score| score == f32::NEG_INFINITY));
    }
}

/// With less workspace than the split takes, and with more query tokens, it is prefill.
#[test]
fn what_is_not_split_is_prefill() {
    for machine in all_levels() {
        for (queries, is_short) in [(17, false), (3, true)] {
            let plain = inputs(Precision::Bf16, small_config(2, 1, 64), &[queries], &[900]);
            let prefill = plain.select(&compress(&plain, &machine), None);
            let mut decode = prefill.decode();
            if is_short {
                decode.workspace = Some(16);
            }
            let got = run(&decode, &machine);
            assert_same_bits(&run(&prefill, &machine), &got, &machine.name);
        }
    }
}

#[test]
fn no_split_selection_races() {
    let machine = race_detecting_host(seed());
    let plain = inputs(Precision::Bf16, small_config(16, 1, 128), &[3, 1], &[1000, 600]);
    check(&plain, &machine, "small");
    let shared = Config {
        block_size: 32,
        ..small_config(40, 1, 64)
    };
    let plain = inputs(Precision::Bf16, shared, &[2, 1, 1], &[32 * 220, 32 * 130, 900]);
    check(&plain, &machine, "blocks that take four pieces");
}

/// Trees of any shape; K1 and K2 have nothing but NaN where a window reaches the drafts.
#[test]
fn trees_agree() {
    let machines = all_levels_and_orders(seed());
    let mut numbers = Numbers::new(seed());
    for (local_blocks, lse, block_size) in [
        (2, Lse::Coarse, 64),
        (0, Lse::Exact, 32),
        (0, Lse::Coarse, 64),
        (1, Lse::Exact, 128),
    ] {
        let config = Config {
            local_blocks,
            lse,
            block_size,
            ..small_config(6, 2, 64)
        };
        // Drafts of which some lie in the next block, more than there are keys, and none.
        let plain = inputs(
            Precision::F16,
            config,
            &[16, 3, 16, 0, 9],
            &[64 * 20 + 7, 700, 9, 5, 64 * 30 + 1],
        );
        let mut keys = plain.compress().reference();
        let places = [(&mut keys.k1, block_size / 4), (&mut keys.k2, block_size)];
        let [queries, lengths] = [plain.batch.query_lengths(), plain.batch.key_lengths()];
        for (rows, stride) in places {
            for (sequence, (queries, keys)) in queries.iter().zip(&lengths).enumerate() {
                let base = (keys - queries).max(0) as usize;
                let (first, end) = (
                    (base / stride).saturating_sub(1),
                    (*keys as usize / stride).saturating_sub(1),
                );
                for row in first..end {
                    let place = rows.row(sequence, row).expect("rows with a place");
                    rows.bits[place].fill(0x7fff);
                }
            }
        }
        for scores in [None, Some(plain.blocks() + 1)] {
            let mut trees = plain.select(&keys, scores).decode_trees(&mut numbers);
            compare_on(&machines, &trees);
            // Deep ones, whose last drafts lie in the next block.
            trees.batch.trees = Some(Trees::chains(5, 16));
            compare_on(&machines, &trees);
        }
    }
}

#[test]
fn what_is_no_tree_gets_empty_lists() {
    for machine in all_levels() {
        let plain = inputs(Precision::Bf16, small_config(2, 1, 64), &[3, 4], &[900, 900]);
        let mut step = plain.select(&compress(&plain, &machine), Some(20)).decode();
        let trees = |second: [i32; 4]| {
            let parent = [[-1, 0, 0, 9], second].concat();
            Some(Trees { parent, columns: 4 })
        };
        step.batch.trees = trees([-1, 0, 0, 2]);
        let expected = run(&step, &machine);
        assert_eq!(expected.status, Status::default());
        for second in [[0, 0, 0, 0], [-1, 0, 3, 0], [-1, 0, 0, -2]] {
            step.batch.trees = trees(second);
            let got = run(&step, &machine);
            assert_eq!(got.status, Status::from([0, 0, 1, 0]), "{}", machine.name);
            assert_same_bits(&expected.part(7, 0..3), &got.part(7, 0..3), &machine.name);
            let refused = got.part(7, 3..7);
            assert!(refused.indices.iter().all(|&block| block == -1));
            assert!(refused.scores.unwrap().iter().all(|&score| score == f32::NEG_INFINITY));
        }
    }
}
