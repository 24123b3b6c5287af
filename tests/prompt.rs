//! A prompt of 16K tokens through a sparse layer of SALA, from keys to output, on the CPU. It takes minutes: `cargo xtask full` runs it.

use sala_kernels::reference::compress_keys::{CompressedKeys, Window};
use sala_kernels::reference::select_blocks::{Config, Position, block_scores, positions, select_blocks};
use sala_kernels::reference::sparse_attention::{self as attention, Blocks};
use sala_kernels::{Entry, Lse};
use sala_testkit::devices::host;
use sala_testkit::memory::Packing;
use sala_testkit::numbers::{Numbers, normals};
use sala_testkit::operations::compress_keys::rows_by_sequence;
use sala_testkit::operations::select_blocks::cases::SelectionInputs;
use sala_testkit::operations::sparse_attention::{AttentionProblem, Lists};
use sala_testkit::problem::{Problem, compare_with, run};
use sala_testkit::property::seed;
use sala_testkit::storage::KeyRows;
use sala_testkit::tolerance::{Precision, SelectionCase, attention_out, selection};
use sala_testkit::values::Values;

const TOKENS: usize = 16 * 1024;
/// Tokens whose lists and outputs are compared with the definition.
const SAMPLED: usize = 256;
const PRECISION: Precision = Precision::Bf16;
/// One kv head of SALA's two.
const CONFIG: Config = Config {
    heads_q: 16,
    heads_kv: 1,
    dim: 128,
    scale: 0.088_388_35,
    block_size: 64,
    topk: 64,
    init_blocks: 1,
    local_blocks: 32,
    lse: Lse::Coarse,
};

/// The first and the last token, those about the first one with more blocks than a list has entries, and any others, in order.
fn sampled_tokens(numbers: &mut Numbers) -> Vec<usize> {
    let full = CONFIG.list_len() * CONFIG.block_size;
    let mut tokens = vec![0, full - 1, full, full + 1, TOKENS - 1];
    while tokens.len() < SAMPLED {
        tokens.push(numbers.below(TOKENS));
        tokens.sort_unstable();
        tokens.dedup();
    }
    tokens
}

#[test]
#[ignore = "takes minutes: `cargo xtask full` runs it"]
fn a_prompt_of_16k_tokens_agrees() {
    println!("SALA_TEST_SEED={}", seed());
    let machine = host();
    let inputs = SelectionInputs::normal(PRECISION, CONFIG, &[TOKENS], &[TOKENS], seed());
    let v = normals(PRECISION, TOKENS * CONFIG.dim, seed() + 1);

    let compression = inputs.compress();
    let keys = compare_with(&compression, &compression.reference(), &machine).keys;
    let lists = run(&inputs.select(&keys, None), &machine).indices;
    let sparse = AttentionProblem {
        config: attention::Config {
            heads_q: CONFIG.heads_q,
            heads_kv: CONFIG.heads_kv,
            dim: CONFIG.dim,
            dim_v: CONFIG.dim,
            scale: CONFIG.scale,
            block_size: CONFIG.block_size,
        },
        q: inputs.q.clone(),
        k: inputs.k.clone(),
        v: v.clone(),
        batch: inputs.batch.clone(),
        lists: Some(Lists {
            indices: lists.clone(),
            list_len: CONFIG.list_len(),
        }),
        first_key: None,
        scale_factor: None,
        gate: None,
        packing: Packing::Separate,
        with_lse: false,
        entry: Entry::Prefill,
        workspace: None,
    };
    let out = run(&sparse, &machine).out;

    let tokens = sampled_tokens(&mut Numbers::new(seed() + 2));
    let bounds = &inputs.batch.cu_seqlens_k;
    let all = positions(&inputs.batch.cu_seqlens_q, bounds, TOKENS, TOKENS);
    let positions: Vec<Option<Position>> = tokens.iter().map(|&token| all[token]).collect();
    let q = inputs.q.pick(TOKENS, &tokens).to_f64();
    let compressed = |rows: &KeyRows, window: Window| {
        let rows = rows_by_sequence(rows, window, bounds).into_iter();
        let sequences = rows.map(|bits| Values::from_bits(PRECISION, bits).to_f64()).collect();
        CompressedKeys { sequences }
    };
    let scores = block_scores(
        &CONFIG,
        &q,
        &compressed(&keys.k1, Window::fine(CONFIG.block_size)),
        &compressed(&keys.k2, Window::coarse(CONFIG.block_size)),
        &positions,
        None,
    );
    let got: Vec<i32> = tokens
        .iter()
        .flat_map(|token| &lists[token * CONFIG.list_len()..][..CONFIG.list_len()])
        .copied()
        .collect();
    let case = SelectionCase {
        config: &CONFIG,
        positions: &positions,
        scores: &scores,
        margin: None,
        own: None,
    };
    let judgement = selection(case, &got, &select_blocks(&CONFIG, &scores, &positions));
    assert_eq!(judgement.failure, None);
    let (same, of) = judgement.count();
    println!("{same} of {of} lists are those of the definition; others differ by near ties");

    let blocks = Blocks::Listed {
        indices: &got,
        list_len: CONFIG.list_len(),
        dense: &[false],
    };
    let expected = attention::sparse_attention(
        &sparse.config,
        &q,
        &inputs.k.to_f64(),
        &v.to_f64(),
        bounds,
        &positions,
        blocks,
        None,
        None,
    );
    let got = out.pick(TOKENS, &tokens).to_f64();
    attention_out(PRECISION, CONFIG.dim, &got, &expected.out, &expected.magnitude).assert("16K tokens");
}
