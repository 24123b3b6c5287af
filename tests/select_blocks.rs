//! Block selection on every device against the scores and lists that define it.

use sala_kernels::reference::select_blocks::{BlockScores, Config, ScoreLse};
use sala_kernels::{Buffer, DType, Error, KeyLengths, SelectBlocks, SelectBlocksArgs, Sequences};
use sala_testkit::cases::{Numbers, seed};
use sala_testkit::devices::{Machine, all, all_orders, host, race_detecting_host};
use sala_testkit::replay::{Call, Replay, vector_files};
use sala_testkit::selection::{Compressed, Order, Selected, SelectionProblem, Storage, UNWRITTEN};
use sala_testkit::tolerance::{Precision, SelectionCase, selection};
use sala_testkit::values::Values;

/// A small selection: lists of nine blocks, five of them by score.
fn config(heads_q: usize, heads_kv: usize, dim: usize) -> Config {
    Config {
        heads_q,
        heads_kv,
        dim,
        scale: (dim as f32).powf(-0.5),
        block_size: 64,
        topk: 7,
        init_blocks: 1,
        local_blocks: 2,
        lse: ScoreLse::Coarse,
    }
}

/// Standard normal queries and keys.
fn problem(precision: Precision, config: Config, queries: &[usize], keys: &[usize]) -> SelectionProblem {
    let mut numbers = Numbers::new(seed());
    let (total_q, total_k): (usize, usize) = (queries.iter().sum(), keys.iter().sum());
    SelectionProblem {
        config,
        q: Values::round(precision, numbers.normals(total_q * config.heads_q * config.dim, 2.0)),
        k: Values::round(precision, numbers.normals(total_k * config.heads_kv * config.dim, 2.0)),
        queries: queries.to_vec(),
        keys: keys.to_vec(),
        scale_factor: None,
        storage: Storage::Packed,
        order: Order::RowMajor,
    }
}

/// Whether a score is the expected one: the same infinity, or close.
fn close(got: f32, expected: f32) -> bool {
    got == expected || (got - expected).abs() <= expected.abs() / 1024.0
}

fn check_scores(problem: &SelectionProblem, got: &[f32], blocks: usize, expected: &BlockScores, context: &str) {
    for (row, got) in got.chunks(blocks).enumerate() {
        for (block, &got) in got.iter().enumerate() {
            let row_scores = &expected.scores[row * expected.blocks..(row + 1) * expected.blocks];
            let expected = row_scores.get(block).copied().unwrap_or(f32::NEG_INFINITY);
            let token = row / problem.config.heads_kv;
            assert!(
                close(got, expected),
                "{context}: token {token} (at {:?}), head {}, block {block}: {got} instead of {expected}",
                problem.positions()[token],
                row % problem.config.heads_kv
            );
        }
    }
}

fn check_lists(problem: &SelectionProblem, scores: &BlockScores, got: &Selected, context: &str) {
    let expected = problem.reference_lists(scores);
    let positions = problem.positions();
    let case = SelectionCase {
        config: &problem.config,
        positions: &positions,
        scores,
        margin: None,
    };
    let judgement = selection(case, &got.indices, &expected);
    assert_eq!(judgement.failure, None, "{context}");
    assert_eq!(got.status, [0; 4], "{context}");
}

/// Runs a problem with and without the score output and judges both.
fn check(problem: &SelectionProblem, machine: &Machine) -> (Compressed, Selected) {
    let context = format!(
        "{}, {:?}, {:?} of {:?}",
        machine.name, problem.config, problem.queries, problem.keys
    );
    let keys = problem.compress(machine).unwrap();
    let scores = problem.reference_scores(&keys);
    let blocks = problem.blocks() + 1;
    let with_scores = problem.select(machine, &keys, Some(blocks)).unwrap();
    check_scores(
        problem,
        with_scores.scores.as_deref().unwrap(),
        blocks,
        &scores,
        &context,
    );
    check_lists(problem, &scores, &with_scores, &context);
    let lists_alone = problem.select(machine, &keys, None).unwrap();
    assert_eq!(
        lists_alone.indices, with_scores.indices,
        "{context}: the lists depend on whether scores are stored"
    );
    (keys, with_scores)
}

#[test]
fn every_group_size_scores_and_selects() {
    for machine in all() {
        for group in [1, 2, 3, 4, 6, 7, 8, 16, 32, 64] {
            let config = config(2 * group, 2, if group % 2 == 0 { 64 } else { 128 });
            check(&problem(Precision::Bf16, config, &[30, 3], &[900, 1030]), &machine);
        }
    }
}

#[test]
fn every_mode_scores_and_selects() {
    for machine in all_orders(seed()) {
        for lse in [ScoreLse::Coarse, ScoreLse::Exact] {
            for (precision, block_size) in [(Precision::Bf16, 32), (Precision::F16, 64), (Precision::F16, 128)] {
                for (init_blocks, local_blocks, topk) in [(1, 2, 7), (0, 0, 3), (3, 1, 4)] {
                    let config = Config {
                        lse,
                        block_size,
                        init_blocks,
                        local_blocks,
                        topk,
                        ..config(8, 1, 64)
                    };
                    check(&problem(precision, config, &[17], &[14 * block_size + 37]), &machine);
                }
            }
        }
    }
}

#[test]
fn ragged_batches_of_prompts_chunks_and_single_tokens() {
    let queries = [65, 1, 0, 33, 1, 64, 5, 0, 31];
    let keys = [65, 700, 0, 650, 1, 128, 3, 640, 608];
    for machine in all() {
        for storage in [Storage::Packed, Storage::Cached { spare: 70 }] {
            let plain = problem(Precision::Bf16, config(4, 2, 64), &queries, &keys);
            check(
                &SelectionProblem {
                    storage,
                    order: Order::HeadMajor,
                    ..plain
                },
                &machine,
            );
        }
    }
}

#[test]
fn whole_prompts_from_the_first_token_on() {
    for machine in all() {
        check(&problem(Precision::F16, config(16, 1, 128), &[1090], &[1090]), &machine);
    }
}

#[test]
fn factors_and_negative_scales() {
    for machine in all() {
        let mut numbers = Numbers::new(seed());
        let mut problem = problem(Precision::Bf16, config(4, 1, 64), &[40], &[800]);
        problem.scale_factor = Some((0..40).map(|_| (numbers.uniform() * 2.0 - 0.7) as f32).collect());
        check(&problem, &machine);
        problem.config.scale = -problem.config.scale;
        check(&problem, &machine);
        problem.config.scale = 0.0;
        check(&problem, &machine);
    }
}

#[test]
fn bits_depend_on_neither_the_batch_nor_the_chunks() {
    for machine in all() {
        for heads_q in [2, 12] {
            let whole = problem(Precision::Bf16, config(heads_q, 1, 64), &[300, 600], &[700, 600]);
            let blocks = whole.blocks();
            let expected = whole
                .select(&machine, &whole.compress(&machine).unwrap(), Some(blocks))
                .unwrap();
            let row = |token: usize, part: &Selected, width: usize, list: usize| {
                let scores = part.scores.as_ref().unwrap()[token * width..(token + 1) * width].to_vec();
                (
                    scores.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                    part.indices[token * list..(token + 1) * list].to_vec(),
                )
            };
            let list = whole.config.list_len();
            // The last of 13 queries of each sequence, cut at several places.
            for (first_keys, second_keys) in [(700, 600), (699, 1), (513, 577), (413, 64)] {
                let queries = [13.min(first_keys), 13.min(second_keys)];
                let chunk = whole.chunk(&[first_keys, second_keys], &queries);
                let got = chunk
                    .select(&machine, &chunk.compress(&machine).unwrap(), Some(blocks))
                    .unwrap();
                for i in 0..queries[0] {
                    let token = 300 - (700 - first_keys) - queries[0] + i;
                    assert!(
                        row(i, &got, blocks, list) == row(token, &expected, blocks, list),
                        "token {token}"
                    );
                }
                for i in 0..queries[1] {
                    let token = 300 + 600 - (600 - second_keys) - queries[1] + i;
                    assert!(
                        row(queries[0] + i, &got, blocks, list) == row(token, &expected, blocks, list),
                        "token {token}"
                    );
                }
            }
        }
    }
}

#[test]
fn equal_scores_go_to_the_lower_block() {
    for machine in all() {
        // All keys the same: every row of a token scores the same.
        let mut same = problem(Precision::Bf16, config(4, 1, 64), &[20], &[1500]);
        let key = same.k.slice(0..64).to_f64();
        same.k = Values::round(Precision::Bf16, (0..1500).flat_map(|_| key.clone()));
        let (_, got) = check(&same, &machine);
        let last = got.indices.chunks(same.config.list_len()).next_back().unwrap();
        assert_eq!(last, [0, 1, 2, 3, 4, 5, 21, 22, 23]);
    }
}

#[test]
fn neighbours_of_a_shared_row_get_the_same_bits() {
    for machine in all() {
        let problem = problem(Precision::F16, config(16, 1, 64), &[8], &[2100]);
        let (_, got) = check(&problem, &machine);
        let blocks = problem.blocks() + 1;
        let scores = got.scores.unwrap();
        let ties = scores
            .chunks(blocks)
            .flat_map(|row| row.windows(2))
            .filter(|pair| pair[0] == pair[1] && pair[0] > 0.0);
        assert!(
            ties.count() > 8,
            "with windows of five rows that share one, ties are common"
        );
    }
}

#[test]
fn nan_keys_score_nothing() {
    for machine in all() {
        let mut problem = problem(Precision::Bf16, config(8, 2, 64), &[6, 6], &[900, 900]);
        // A NaN token spoils two rows of K1 and two of K2; a NaN channel of one query head spoils that head alone.
        problem.k.poison((200 * 2) * 64..(200 * 2) * 64 + 1);
        problem.k.poison((320 * 2) * 64..(384 * 2) * 64);
        problem.q.poison(3 * 64..3 * 64 + 1);
        check(&problem, &machine);
        // All of the other sequence.
        let mut other = problem.clone();
        other.k.poison(900 * 2 * 64..1800 * 2 * 64);
        other.q.poison(6 * 8 * 64..12 * 8 * 64);
        let keys = problem.compress(&machine).unwrap();
        let expected = problem.select(&machine, &keys, Some(15)).unwrap();
        let spoilt = other
            .select(&machine, &other.compress(&machine).unwrap(), Some(15))
            .unwrap();
        let list = problem.config.list_len();
        assert_eq!(spoilt.indices[..6 * 2 * list], expected.indices[..6 * 2 * list]);
        assert_eq!(
            spoilt.scores.unwrap()[..6 * 2 * 15],
            expected.scores.unwrap()[..6 * 2 * 15]
        );
    }
}

#[test]
fn scores_overflow_to_infinity_and_underflow_to_zero() {
    for machine in all() {
        for (size, heads_q) in [(6.0, 8), (12.0, 16), (20.0, 40)] {
            let mut problem = problem(Precision::Bf16, config(heads_q, 1, 64), &[10], &[1000]);
            let scaled =
                |values: &Values| Values::round(Precision::Bf16, values.to_f64().into_iter().map(|x| x * size));
            (problem.q, problem.k) = (scaled(&problem.q), scaled(&problem.k));
            // One row of K1 that the rows of K2 hide: alternating keys that cancel, but for 32 tokens.
            let k = problem.k.to_f64();
            let cancel = |(i, x): (usize, f64)| {
                let token = i / 64;
                if token < 600 && !(304..336).contains(&token) {
                    if token % 2 == 0 { k[i % 64] } else { -k[i % 64] }
                } else {
                    x
                }
            };
            problem.k = Values::round(Precision::Bf16, k.iter().copied().enumerate().map(cancel));
            let keys = problem.compress(&machine).unwrap();
            let scores = problem.reference_scores(&keys);
            let got = problem.select(&machine, &keys, Some(problem.blocks())).unwrap();
            for (&got, &expected) in got.scores.as_ref().unwrap().iter().zip(&scores.scores) {
                // Logits of hundreds carry the rounding of f32 into the exponent.
                let error = (got.log2() - expected.log2()).abs();
                assert!(
                    got == expected || error < 0.01,
                    "{got} instead of {expected} at size {size}"
                );
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
    for machine in all() {
        for nan_head in [None, Some(3)] {
            let mut problem = problem(Precision::Bf16, config(GROUP, 1, 64), &[TOKENS], &[1500]);
            let channel = |i: usize, value: f64| if i.is_multiple_of(64) { value } else { 0.0 };
            problem.q = Values::round(Precision::Bf16, (0..TOKENS * GROUP * 64).map(|i| channel(i, 1.0)));
            let key = |i: usize| channel(i, if (192..448).contains(&(i / 64)) { 8.0 } else { 0.0 });
            problem.k = Values::round(Precision::Bf16, (0..1500 * 64).map(key));
            problem.config.scale = 1.0;
            // A row without the eights has the share e^(−8·factor) / Z, with Z a little above 3.
            problem.scale_factor = Some((0..TOKENS).map(|i| 10.0 + i as f32 * 0.03).collect());
            if let Some(head) = nan_head {
                for token in 0..TOKENS {
                    problem
                        .q
                        .poison((token * GROUP + head) * 64..(token * GROUP + head) * 64 + 1);
                }
            }
            let keys = problem.compress(&machine).unwrap();
            let expected = problem.reference_scores(&keys).scores;
            let got = problem
                .select(&machine, &keys, Some(problem.blocks()))
                .unwrap()
                .scores
                .unwrap();
            let is_small = |&&score: &&f32| score > 0.0 && score < 1e-36;
            assert!(expected.iter().filter(is_small).count() > 100 && expected.contains(&0.0));
            for (&got, &expected) in got.iter().zip(&expected) {
                let is_edge = got.max(expected) < f32::MIN_POSITIVE * 1.01;
                assert!(
                    is_edge || got == expected || (got.log2() - expected.log2()).abs() < 0.01,
                    "{got:e} instead of {expected:e}"
                );
                assert!(got <= 0.0 || got.is_normal(), "{got:e}");
            }
        }
    }
}

#[test]
fn huge_and_zero_inputs_give_lists() {
    for machine in all() {
        for size in [0.0, 1e4] {
            let mut problem = problem(Precision::Bf16, config(4, 1, 64), &[10], &[1000]);
            let scaled =
                |values: &Values| Values::round(Precision::Bf16, values.to_f64().into_iter().map(|x| x * size));
            (problem.q, problem.k) = (scaled(&problem.q), scaled(&problem.k));
            let got = problem
                .select(&machine, &problem.compress(&machine).unwrap(), Some(problem.blocks()))
                .unwrap();
            assert!(got.scores.unwrap().iter().all(|score| !score.is_nan()));
            for (row, list) in got.indices.chunks(9).enumerate() {
                let query_block = ((990 + row) / 64) as i32;
                assert!(
                    list.windows(2).all(|pair| pair[0] < pair[1]) && list[0] == 0 && list[8] == query_block,
                    "{list:?}"
                );
            }
        }
    }
}

#[test]
fn tokens_without_keys_get_empty_lists() {
    for machine in all() {
        let mut problem = problem(Precision::Bf16, config(2, 1, 64), &[40], &[40]);
        problem.keys = vec![30];
        problem.k = problem.k.slice(0..30 * 64);
        let got = problem
            .select(&machine, &problem.compress(&machine).unwrap(), Some(1))
            .unwrap();
        assert!(got.indices[..10 * 9].iter().all(|&block| block == -1));
        assert!(
            got.indices[10 * 9..]
                .chunks(9)
                .all(|list| list == [0, -1, -1, -1, -1, -1, -1, -1, -1])
        );
        assert!(
            got.scores.unwrap()[..10]
                .iter()
                .all(|&score| score == f32::NEG_INFINITY)
        );
    }
}

#[test]
fn long_lists_and_many_tokens_a_warp() {
    for machine in all() {
        for (heads_q, topk) in [(1, 40), (1, 150), (16, 140)] {
            let config = Config {
                topk,
                block_size: 32,
                ..config(heads_q, 1, 64)
            };
            check(&problem(Precision::Bf16, config, &[9], &[32 * 240]), &machine);
        }
    }
}

#[test]
fn the_race_detector_finds_nothing() {
    let machine = race_detecting_host(seed());
    check(&problem(Precision::Bf16, config(4, 1, 64), &[9], &[1000]), &machine);
    check(
        &problem(Precision::Bf16, config(16, 1, 128), &[17, 1], &[1000, 300]),
        &machine,
    );
    let long = Config {
        block_size: 32,
        topk: 34,
        lse: ScoreLse::Exact,
        ..config(40, 1, 64)
    };
    check(&problem(Precision::Bf16, long, &[2], &[32 * 160]), &machine);
}

// ---- given scores

/// Scores of kinds that make ties, or fill and refill the queues.
fn given_scores(kind: usize, rows: usize, blocks: usize) -> Vec<f32> {
    let mut numbers = Numbers::new(seed() + kind as u64);
    (0..rows * blocks)
        .map(|i| match kind {
            0 => numbers.normal() as f32,
            1 => numbers.below(7) as f32,
            2 => (i % blocks) as f32,
            3 => -((i % blocks) as f32),
            4 => numbers.pick(&[
                f32::NAN,
                f32::NEG_INFINITY,
                f32::INFINITY,
                0.0,
                -0.0,
                1e-40,
                -1.0,
                f32::MAX,
            ]),
            5 => numbers.pick(&[0.0, -0.0]),
            _ => numbers.uniform() as f32 * 1e-30,
        })
        .collect()
}

#[test]
fn given_scores_select_exactly_the_reference_lists() {
    for machine in all_orders(seed()) {
        for kind in 0..7 {
            for (topk, init_blocks, local_blocks, blocks) in
                [(7, 1, 2, 500), (64, 1, 32, 2000), (2, 1, 0, 300), (3, 2, 4, 300)]
            {
                let config = Config {
                    topk,
                    init_blocks,
                    local_blocks,
                    block_size: 32,
                    ..config(2, 2, 64)
                };
                let keys = blocks * 32 - 5;
                let mut problem = problem(Precision::Bf16, config, &[3, 20], &[100, 0]);
                problem.keys = vec![keys, 20];
                let blocks = problem.blocks();
                let scores = BlockScores {
                    blocks,
                    scores: given_scores(kind, 23 * 2, blocks),
                };
                let got = problem.select_scored(&machine, &scores).unwrap();
                assert_eq!(
                    got.indices,
                    problem.reference_lists(&scores),
                    "{}: kind {kind}, {config:?}",
                    machine.name
                );
                assert_eq!(got.status, [0; 4]);
            }
        }
    }
}

#[test]
fn a_million_tokens_of_given_scores() {
    for machine in all() {
        for kind in [0, 2] {
            let config = Config {
                topk: 64,
                local_blocks: 32,
                ..config(1, 1, 64)
            };
            let mut problem = problem(Precision::Bf16, config, &[2], &[0]);
            problem.keys = vec![1 << 20];
            let scores = BlockScores {
                blocks: 16384,
                scores: given_scores(kind, 2, 16384),
            };
            let got = problem.select_scored(&machine, &scores).unwrap();
            assert_eq!(got.indices, problem.reference_lists(&scores));
        }
    }
}

#[test]
fn given_scores_race_free() {
    let machine = race_detecting_host(seed());
    let mut problem = problem(Precision::Bf16, config(1, 1, 64), &[9], &[0]);
    problem.keys = vec![64 * 700];
    for kind in [1, 2] {
        let scores = BlockScores {
            blocks: 700,
            scores: given_scores(kind, 9, 700),
        };
        assert_eq!(
            problem.select_scored(&machine, &scores).unwrap().indices,
            problem.reference_lists(&scores)
        );
    }
}

// ---- other people's numbers

#[test]
fn vectors_are_selected_as_expected() {
    for machine in all() {
        let mut checked = 0;
        for path in vector_files().unwrap() {
            let Call::Sparse(call) = Replay::load(&path).unwrap().call else {
                continue;
            };
            let lengths = |bounds: &[i32]| bounds.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect();
            let problem = SelectionProblem {
                config: call.selection,
                q: call.q.clone(),
                k: call.k.clone(),
                queries: lengths(&call.cu_seqlens_q),
                keys: lengths(&call.cu_seqlens_k),
                scale_factor: None,
                storage: Storage::Packed,
                order: Order::RowMajor,
            };
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let keys = problem.compress(&machine).unwrap();
            let blocks = problem.blocks();
            let got = problem.select(&machine, &keys, Some(blocks)).unwrap();
            let (total_q, heads_kv) = (problem.total_q(), problem.config.heads_kv);
            if let Some(expected) = &call.expected.block_scores {
                let width = expected.len() / (total_q * heads_kv);
                let scores = got.scores.as_ref().unwrap();
                for (index, &expected) in expected.iter().enumerate() {
                    let (head, token, block) = (index / width / total_q, index / width % total_q, index % width);
                    if expected == -1.0 || block >= blocks {
                        continue;
                    }
                    let score = scores[(token * heads_kv + head) * blocks + block];
                    let is_empty = score == f32::NEG_INFINITY && expected == 0.0;
                    assert!(
                        is_empty || close(score, expected),
                        "{name}: token {token}, head {head}, block {block}: {score} for {expected}"
                    );
                    checked += 1;
                }
            }
            if let Some(expected) = &call.expected.block_indices {
                let scores = problem.reference_scores(&keys);
                let positions = problem.positions();
                let case = SelectionCase {
                    config: &problem.config,
                    positions: &positions,
                    scores: &scores,
                    margin: call.expected.margin.as_deref(),
                };
                let judgement = selection(case, &got.indices, expected);
                let same = judgement.same.iter().filter(|&&same| same).count();
                println!(
                    "{name} on {}: {same} of {} lists the same",
                    machine.name,
                    judgement.same.len()
                );
                assert_eq!(judgement.failure, None, "{name}");
                checked += 1;
            }
        }
        assert!(checked > 0, "no vector has scores or lists");
    }
}

// ---- refusals

#[test]
fn lengths_that_do_not_fit_are_refused_and_counted() {
    for machine in all() {
        let problem = problem(Precision::Bf16, config(2, 1, 64), &[4, 4], &[200, 200]);
        let keys = problem.compress(&machine).unwrap();
        // The second sequence claims more keys than K1 has rows for.
        let mut wrong = problem.clone();
        wrong.keys = vec![200, 500];
        let got = wrong.select(&machine, &keys, None).unwrap();
        assert_eq!(got.status, [0, 0, 1, 0]);
        assert!(got.indices[..4 * 9].iter().all(|&block| block != UNWRITTEN));
        assert!(got.indices[4 * 9..].iter().all(|&block| block == UNWRITTEN));
    }
}

#[test]
fn views_that_do_not_fit_are_refused() {
    let machine = host();
    let operation = SelectBlocks::builder(DType::Bf16, 2, 1, 64).build().unwrap();
    let numbers = Buffer::from_slice(&machine.device, &vec![half::bf16::ONE; 64 * 64]).unwrap();
    let bounds = Buffer::from_slice(&machine.device, &[0, 8]).unwrap();
    let launch = |q: &[usize], k1: &[usize], with_k2: bool, list: usize, factors: usize| {
        let mut indices = Buffer::from_slice(&machine.device, &vec![0i32; 8 * 200]).unwrap();
        let factor = Buffer::from_slice(&machine.device, &[1.0f32; 16]).unwrap();
        let args = SelectBlocksArgs {
            q: numbers.tensor(DType::Bf16, q).unwrap(),
            k1: numbers.tensor(DType::Bf16, k1).unwrap(),
            k2: with_k2.then(|| numbers.tensor(DType::Bf16, &[1, 1, 64]).unwrap()),
            sequences: Sequences {
                cu_seqlens_q: bounds.tensor(DType::I32, &[2]).unwrap(),
                keys: KeyLengths::Packed {
                    cu_seqlens_k: bounds.tensor(DType::I32, &[2]).unwrap(),
                },
                switch_len: None,
                max_seqlen_q: None,
                max_seqlen_k: None,
            },
            scale_factor: Some(factor.tensor(DType::F32, &[factors]).unwrap()),
            block_indices: indices.tensor_mut(DType::I32, &[8, 1, list]).unwrap(),
            scores: None,
            status: None,
        };
        match operation.launch_host(&machine.kernels, args) {
            Ok(()) => "",
            Err(Error::Argument { argument, .. }) => argument,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(launch(&[8, 2, 64], &[4, 1, 64], true, 96, 8), "");
    assert_eq!(launch(&[8, 1, 64], &[4, 1, 64], true, 96, 8), "q");
    assert_eq!(launch(&[8, 2, 64], &[2, 2, 64], true, 96, 8), "k1");
    assert_eq!(launch(&[8, 2, 64], &[4, 1, 64], false, 96, 8), "k2");
    assert_eq!(launch(&[8, 2, 64], &[4, 1, 64], true, 95, 8), "block_indices");
    assert_eq!(launch(&[8, 2, 64], &[4, 1, 64], true, 96, 9), "scale_factor");
}
