//! The f64 references agree with the vectors, which other people's implementations computed, and with what the definitions imply.

use half::bf16;
use sala_kernels::Lse;
use sala_kernels::reference::compress_keys::{CompressedKeys, Window, compress_keys};
use sala_kernels::reference::linear_attention::{self, LogDecay, States};
use sala_kernels::reference::select_blocks::{self, BlockScores, block_scores, positions, select_blocks};
use sala_kernels::reference::sparse_attention::{self, Attention, Blocks, merge};
use sala_testkit::numbers::Numbers;
use sala_testkit::replay::{Replay, vector_files};

#[test]
fn references_agree_with_the_vectors() {
    let files = vector_files().expect("the vectors are there");
    assert!(files.len() >= 7, "only {} vectors", files.len());
    for path in files {
        let replay = Replay::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let judgement = replay.judge(&replay.run_on_reference());
        println!("{} {} {judgement:?}", path.display(), replay.shape());
        judgement.assert(&path.display().to_string());
    }
}

const SELECTION: select_blocks::Config = select_blocks::Config {
    heads_q: 2,
    heads_kv: 1,
    dim: 8,
    scale: 0.5,
    block_size: 64,
    topk: 3,
    init_blocks: 1,
    local_blocks: 1,
    lse: Lse::Coarse,
};

/// The scores of the last token of `keys`, one key head.
fn scores_of_last(config: &select_blocks::Config, query: &[f64], keys: &[f64]) -> BlockScores {
    let length = (keys.len() / config.dim) as i32;
    let (cu_q, cu_k) = ([0, 1], [0, length]);
    let compress = |window| compress_keys(keys, 1, config.dim, &cu_k, window);
    let (k1, k2) = (
        compress(Window::fine(config.block_size)),
        compress(Window::coarse(config.block_size)),
    );
    block_scores(
        config,
        query,
        &k1,
        &k2,
        &positions(&cu_q, &cu_k, 1, length as usize),
        None,
    )
}

#[test]
fn compressed_keys_are_means_rounded_once() {
    let keys: Vec<bf16> = (0..70).map(|t| bf16::from_f64(f64::from(t) / 3.0)).collect();
    let CompressedKeys { sequences } = compress_keys(&keys, 1, 1, &[0, 31, 31, 70], Window { size: 32, stride: 16 });
    assert_eq!(sequences.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 1]);
    let mean: f64 = keys[31..63].iter().map(|x| x.to_f64()).sum::<f64>() / 32.0;
    assert_eq!(sequences[2], [bf16::from_f64(mean)]);
    assert_eq!(
        [31, 32, 47, 48, 64].map(|length| Window::fine(64).rows(length)),
        [0, 1, 1, 2, 3]
    );
    assert_eq!(
        [127, 128, 191, 192].map(|length| Window::coarse(64).rows(length)),
        [0, 1, 1, 2]
    );
    assert_eq!(Window::coarse(128), Window { size: 256, stride: 128 });
}

#[test]
fn exact_scores_of_one_row_count_the_heads() {
    let mut numbers = Numbers::new(1);
    let config = select_blocks::Config {
        lse: Lse::Exact,
        ..SELECTION
    };
    let scores = scores_of_last(&config, &numbers.normals(16, 1.0), &numbers.normals(40 * 8, 1.0));
    assert_eq!(scores.scores, [2.0]);
    // There is no coarse row yet, so that nothing has weight; and before 32 tokens there is no row at all.
    let keys = numbers.normals(40 * 8, 1.0);
    assert_eq!(
        scores_of_last(&SELECTION, &numbers.normals(16, 1.0), &keys).scores,
        [0.0]
    );
    assert_eq!(
        scores_of_last(&SELECTION, &numbers.normals(16, 1.0), &keys[..31 * 8]).scores,
        [f32::NEG_INFINITY]
    );
}

#[test]
fn a_block_is_scored_by_the_rows_that_touch_it() {
    let keys = Numbers::new(2).normals(400 * 8, 1.0);
    let query = Numbers::new(3).normals(16, 1.0);
    let config = select_blocks::Config {
        lse: Lse::Exact,
        ..SELECTION
    };
    let k1 = compress_keys(&keys, 1, 8, &[0, 400], Window::fine(64))
        .sequences
        .remove(0);
    let row_score = |row: &[f64]| -> Vec<f64> {
        query
            .chunks(8)
            .map(|q| 0.5 * q.iter().zip(row).map(|(a, b)| a * b).sum::<f64>())
            .collect()
    };
    let logits: Vec<Vec<f64>> = k1.chunks(8).map(row_score).collect();
    let total = |head: usize| logits.iter().map(|row| row[head].exp()).sum::<f64>();
    let p: Vec<f64> = logits
        .iter()
        .map(|row| row[0].exp() / total(0) + row[1].exp() / total(1))
        .collect();
    let scores = scores_of_last(&config, &query, &keys);
    assert_eq!((p.len(), scores.blocks), (24, 7));
    for (block, &score) in scores.scores.iter().enumerate() {
        let rows = (4 * block).saturating_sub(1)..(4 * block + 4).min(24);
        let best = p[rows].iter().copied().fold(0.0, f64::max);
        assert!(
            (f64::from(score) - best).abs() < 1e-6 * best,
            "block {block} scores {score}, expected {best}"
        );
    }
}

#[test]
fn nan_logits_are_left_out() {
    let mut numbers = Numbers::new(4);
    let keys = numbers.normals(200 * 8, 1.0);
    let query = numbers.normals(16, 1.0);
    let one_head = select_blocks::Config {
        heads_q: 1,
        ..SELECTION
    };
    let alone = scores_of_last(&one_head, &query[..8], &keys);
    let mut half_nan = query.clone();
    half_nan[8..].fill(f64::NAN);
    assert_eq!(scores_of_last(&SELECTION, &half_nan, &keys), alone);
    half_nan.fill(f64::NAN);
    assert!(
        scores_of_last(&SELECTION, &half_nan, &keys)
            .scores
            .iter()
            .all(|&score| score == f32::NEG_INFINITY)
    );
}

#[test]
fn equal_scores_go_to_the_lower_index() {
    let positions = positions(&[0, 1], &[0, 64 * 9], 1, 64 * 9);
    let select = |scores: [f32; 9]| {
        select_blocks(
            &SELECTION,
            &BlockScores {
                blocks: 9,
                scores: scores.to_vec(),
            },
            &positions,
        )
    };
    // Four entries: block 0, the diagonal 8 and 7 before it are forced, one is free.
    assert_eq!(select([0.0; 9]), [0, 1, 7, 8]);
    assert_eq!(select([0.0, 0.1, 0.5, 0.2, 0.5, 0.5, 0.0, 9.0, 9.0]), [0, 2, 7, 8]);
    assert_eq!(
        select([0.0, -1.0, -2.0, f32::NAN, -0.5, f32::NEG_INFINITY, -0.5, 0.0, 0.0]),
        [0, 4, 7, 8]
    );
    let early = positions_of_block(3);
    assert_eq!(
        select_blocks(
            &SELECTION,
            &BlockScores {
                blocks: 4,
                scores: vec![0.0; 4]
            },
            &early
        ),
        [0, 1, 2, 3]
    );
    let first = positions_of_block(0);
    assert_eq!(
        select_blocks(
            &SELECTION,
            &BlockScores {
                blocks: 1,
                scores: vec![0.0]
            },
            &first
        ),
        [0, -1, -1, -1]
    );
}

fn positions_of_block(block: i32) -> Vec<Option<select_blocks::Position>> {
    positions(&[0, 1], &[0, 64 * block + 5], 1, 64 * block as usize + 5)
}

const ATTENTION: sparse_attention::Config = sparse_attention::Config {
    heads_q: 2,
    heads_kv: 1,
    dim: 8,
    dim_v: 4,
    scale: 0.5,
    block_size: 32,
};

/// Attention of the last three tokens of 150, over listed blocks.
fn attend(indices: &[i32], gate: Option<&[f64]>) -> Attention {
    let mut numbers = Numbers::new(5);
    let (q, k, v) = (
        numbers.normals(48, 1.0),
        numbers.normals(150 * 8, 1.0),
        numbers.normals(150 * 4, 1.0),
    );
    let positions = positions(&[0, 3], &[0, 150], 3, 150);
    let list: Vec<i32> = indices.repeat(3);
    let blocks = Blocks::Listed {
        indices: &list,
        list_len: indices.len(),
        dense: &[false],
    };
    sparse_attention::sparse_attention(&ATTENTION, &q, &k, &v, &[0, 150], &positions, blocks, None, gate)
}

fn assert_near(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!(a == b || (a - b).abs() < 1e-12, "{a} and {b}");
    }
}

#[test]
fn lists_are_sets() {
    let plain = attend(&[0, 2, 3, -1], None);
    let messy = attend(&[3, -1, 0, 0, 2, 3, 5, -7, i32::MAX], None);
    assert_near(&messy.out, &plain.out);
    assert_near(&messy.lse, &plain.lse);
    assert_eq!((plain.refused_blocks, messy.refused_blocks), (0, 9));
    let nothing = attend(&[-1], None);
    assert!(nothing.out.iter().all(|&x| x == 0.0) && nothing.lse.iter().all(|&x| x == f64::NEG_INFINITY));
}

#[test]
fn attention_over_parts_merges_into_the_whole() {
    let (first, second) = (attend(&[0, 2], None), attend(&[1, 3, 4], None));
    let (out, lse) = merge(&first.out, &first.lse, &second.out, &second.lse);
    let whole = attend(&[0, 1, 2, 3, 4], None);
    assert_near(&out, &whole.out);
    assert_near(&lse, &whole.lse);
    let nothing = attend(&[-1], None);
    let (out, lse) = merge(&nothing.out, &nothing.lse, &whole.out, &whole.lse);
    assert_near(&out, &whole.out);
    assert_near(&lse, &whole.lse);
}

#[test]
fn gates_multiply_outputs_alone() {
    let plain = attend(&[0, 4], None);
    let gated = attend(&[0, 4], Some(&[0.0; 24]));
    assert_near(&gated.out, &plain.out.iter().map(|x| x / 2.0).collect::<Vec<_>>());
    assert_near(&gated.lse, &plain.lse);
}

#[test]
fn queries_before_the_first_key_see_nothing() {
    let positions = positions(&[0, 3], &[0, 2], 3, 2);
    assert_eq!(
        positions.iter().map(|p| p.map(|p| p.position)).collect::<Vec<_>>(),
        [None, Some(0), Some(1)]
    );
    let (ones, keys, values) = ([1.0; 48], [1.0; 16], [3.0; 8]);
    let attention = sparse_attention::sparse_attention(
        &ATTENTION,
        &ones,
        &keys,
        &values,
        &[0, 2],
        &positions,
        Blocks::Dense,
        None,
        None,
    );
    assert!(attention.out[..8].iter().all(|&x| x == 0.0));
    assert_near(&attention.out[8..], &[3.0; 16]);
    let second = 4.0 + 2f64.ln();
    assert_near(
        &attention.lse,
        &[f64::NEG_INFINITY, f64::NEG_INFINITY, 4.0, 4.0, second, second],
    );
}

#[test]
fn state_layouts_are_transposes() {
    let mut numbers = Numbers::new(6);
    let (q, k, v) = (
        numbers.normals(30, 1.0),
        numbers.normals(30, 1.0),
        numbers.normals(20, 1.0),
    );
    let config = linear_attention::Config {
        heads_q: 1,
        heads_kv: 1,
        dim_k: 3,
        dim_v: 2,
        scale: 1.0,
        state_is_vk: false,
    };
    let states = States {
        pool: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        state_in: Some(&[0]),
        state_out: Some(&[0]),
        checkpoints: None,
    };
    let kv = linear_attention::prefill(&config, &q, &k, &v, &[0, 10], LogDecay::PerHead(&[-0.1]), &states);
    let config = linear_attention::Config {
        state_is_vk: true,
        ..config
    };
    let states = States {
        pool: &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0],
        ..states
    };
    let vk = linear_attention::prefill(&config, &q, &k, &v, &[0, 10], LogDecay::PerHead(&[-0.1]), &states);
    assert_eq!(kv.out, vk.out);
    assert_eq!([0, 2, 4, 1, 3, 5].map(|i| kv.pool[i]), vk.pool[..]);
}

#[test]
fn decays_below_the_lowest_are_the_lowest_and_resets_forget_numbers() {
    let config = linear_attention::Config {
        heads_q: 1,
        heads_kv: 1,
        dim_k: 1,
        dim_v: 1,
        scale: 1.0,
        state_is_vk: false,
    };
    let run = |state: f32, g: f32| {
        let states = States {
            pool: &[state],
            state_in: Some(&[0]),
            state_out: Some(&[0]),
            checkpoints: None,
        };
        linear_attention::decode(&config, &[1.0], &[0.0], &[0.0], LogDecay::PerHead(&[g]), &states).out[0]
    };
    assert_eq!(run(1.0, -1000.0), (-128f64).exp());
    assert_eq!(run(1.0, f32::NEG_INFINITY), 0.0);
    assert!(run(f32::NAN, f32::NEG_INFINITY).is_nan());
}
