//! The judges accept what is within tolerance and nothing else.

use sala_kernels::Lse;
use sala_kernels::reference::select_blocks::{BlockScores, Config, positions};
use sala_testkit::memory::POISON;
use sala_testkit::tolerance::{
    LinearShape, Precision, SelectionCase, attention_out, compressed, is_near_score, linear_out, linear_state, lse,
    selection,
};

/// 20 rows of 64 numbers of size one, each off by `error`.
fn rows(error: f64) -> (Vec<f64>, Vec<f64>) {
    let expected: Vec<f64> = (0..20 * 64).map(|i| if i % 3 == 0 { 1.0 } else { -1.0 }).collect();
    (expected.iter().map(|x| x * (1.0 + error)).collect(), expected)
}

fn with(mut values: Vec<f64>, index: usize, value: f64) -> Vec<f64> {
    values[index] = value;
    values
}

#[test]
fn attention_is_judged_by_row_and_as_a_whole() {
    let judge = |got: &[f64], expected: &[f64]| attention_out(Precision::Bf16, 64, got, expected, &[1.0; 20 * 64]);
    let (got, expected) = rows(2.9e-3);
    assert!(judge(&got, &expected).is_pass());
    let (got, _) = rows(3.1e-3);
    assert!(!judge(&got, &expected).is_pass(), "the whole is off by too much");
    // One element of a row: its norm is 8, and 6e-3·(8 + 8/4) = 0.06 are allowed.
    assert!(judge(&with(expected.clone(), 70, expected[70] + 0.059), &expected).is_pass());
    let off = judge(&with(expected.clone(), 70, expected[70] + 0.061), &expected);
    assert!(off.failure.is_some_and(|failure| failure.contains("row 1 ")));
    assert!(!judge(&with(expected.clone(), 1279, f64::NAN), &expected).is_pass());
    assert!(!judge(&with(expected.clone(), 0, f64::INFINITY), &expected).is_pass());
    assert!(!judge(&expected[1..], &expected).is_pass(), "an element is missing");
}

#[test]
fn logarithms_are_judged_absolutely() {
    let none = f64::NEG_INFINITY;
    assert!(lse(&[10.0001, none], &[10.0, none]).is_pass());
    assert!(!lse(&[10.0003], &[10.0]).is_pass());
    assert!(!lse(&[none], &[10.0]).is_pass());
    assert!(!lse(&[10.0], &[none]).is_pass());
    assert!(!lse(&[f64::NAN], &[10.0]).is_pass());
    assert!(!lse(&[f64::NAN], &[none]).is_pass());
}

#[test]
fn linear_attention_is_judged_by_sequence_and_head() {
    let shape = LinearShape {
        precision: Precision::F16,
        heads: 1,
        dim_v: 64,
        cu_seqlens: &[0, 4, 20],
    };
    let judge = |got: &[f64], expected: &[f64]| linear_out(shape, got, expected);
    let (got, expected) = rows(5.9e-4);
    assert!(judge(&got, &expected).is_pass());
    let (got, _) = rows(6.1e-4);
    let failure = judge(&got, &expected).failure.expect("the long sequence is off");
    assert!(failure.contains("sequence 1"), "{failure}");
    // The short sequence may be off by half as much again.
    let short = |error: f64| [&rows(error).0[..256], &expected[256..]].concat();
    assert!(judge(&short(8.9e-4), &expected).is_pass());
    assert!(!judge(&short(9.1e-4), &expected).is_pass());
    assert!(!judge(&with(expected.clone(), 5, f64::NAN), &expected).is_pass());
    // Beyond the type, its infinity and its largest number are the same.
    let huge = with(expected.clone(), 5, 1e6);
    assert!(judge(&with(huge.clone(), 5, f64::INFINITY), &huge).is_pass());
    assert!(!judge(&with(huge.clone(), 5, f64::NEG_INFINITY), &huge).is_pass());
    // Nothing can be near zeros but zeros.
    assert!(judge(&[0.0; 1280], &[0.0; 1280]).is_pass());
    assert!(!judge(&with(vec![0.0; 1280], 3, 1e-9), &[0.0; 1280]).is_pass());
}

#[test]
fn states_are_judged_by_slot_and_head() {
    let judge = |got: &[f64], expected: &[f64]| linear_state(Precision::Bf16, 2, 320, got, expected);
    let (got, expected) = rows(2.4e-3);
    assert!(judge(&got, &expected).is_pass());
    let bad = [&expected[..960], &rows(2.6e-3).0[960..]].concat();
    let failure = judge(&bad, &expected).failure.expect("the last head is off");
    assert!(failure.contains("slot 1, head 1"), "{failure}");
    assert!(!judge(&with(expected.clone(), 0, f64::NAN), &expected).is_pass());
}

/// Judges the list of one token in block 9, of which 0, 8 and 9 are forced and two are free.
fn judge_list(got: &[i32], scores: [f32; 10], margin: Option<f32>) -> Option<String> {
    let config = Config {
        heads_q: 1,
        heads_kv: 1,
        dim: 64,
        scale: 1.0,
        block_size: 64,
        topk: 4,
        init_blocks: 1,
        local_blocks: 1,
        lse: Lse::Coarse,
    };
    let positions = positions(&[0, 1], &[0, 640], 1, 640);
    let scores = BlockScores {
        blocks: 10,
        scores: scores.to_vec(),
    };
    let expected = sala_kernels::reference::select_blocks::select_blocks(&config, &scores, &positions);
    let margin = margin.map(|margin| [margin]);
    let case = SelectionCase {
        config: &config,
        positions: &positions,
        scores: &scores,
        margin: margin.as_ref().map(|margin| &margin[..]),
        own: None,
    };
    selection(case, got, &expected).failure
}

#[test]
fn selections_may_differ_in_near_ties_alone() {
    let clear = [0.0, 0.9, 0.8, 0.5, 0.1, 0.1, 0.1, 0.1, 0.0, 0.0];
    assert_eq!(judge_list(&[0, 1, 2, 8, 9], clear, None), None);
    assert!(
        judge_list(&[0, 1, 3, 8, 9], clear, None).is_some(),
        "block 3 scores far less than block 2"
    );
    assert!(judge_list(&[0, 1, 2, 3, 9], clear, None).is_some(), "block 8 is forced");
    assert!(
        judge_list(&[0, 1, 8, 9, -1], clear, None).is_some(),
        "there is room for another one"
    );
    assert!(judge_list(&[0, 2, 1, 8, 9], clear, None).is_some(), "lists ascend");
    assert!(
        judge_list(&[0, 1, 8, 9, 10], clear, None).is_some(),
        "block 10 is in the future"
    );
    assert!(
        judge_list(&[0, 1, 1, 8, 9], clear, None).is_some(),
        "lists repeat nothing"
    );
    assert!(
        judge_list(&[0, 1, 3, 8, 9], clear, Some(0.1)).is_some(),
        "the margin is wide"
    );
    assert_eq!(
        judge_list(&[0, 1, 3, 8, 9], clear, Some(1e-3)),
        None,
        "the margin says that it is close"
    );

    let near = [0.0, 0.9, 0.5002, 0.5, 0.1, 0.1, 0.1, 0.1, 0.0, 0.0];
    assert_eq!(judge_list(&[0, 1, 3, 8, 9], near, None), None);
    let tie = [0.0, 0.9, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.0, 0.0];
    assert!(
        judge_list(&[0, 1, 3, 8, 9], tie, None).is_some(),
        "of equal scores the lower index is chosen"
    );
}

#[test]
fn compressed_keys_are_judged_by_steps_of_their_type() {
    let judge = |got: &[u16], expected: &[u16]| compressed(Precision::Bf16, 0.0, got, expected);
    // 1.0 and its neighbours, the smallest numbers around zero, and a row that there is not.
    let expected = [0x3f80, 0x0000, POISON];
    assert!(judge(&[0x3f81, 0x8001, POISON], &expected).is_pass());
    assert!(judge(&[0x3f7f, 0x8000, POISON], &expected).is_pass());
    assert!(!judge(&[0x3f82, 0x0000, POISON], &expected).is_pass());
    assert!(!judge(&[0xbf80, 0x0000, POISON], &expected).is_pass());
    assert!(
        !judge(&[0x3f80, POISON, POISON], &expected).is_pass(),
        "a row is missing"
    );
    assert!(
        !judge(&[0x3f80, 0x0000, 0x7ffe], &expected).is_pass(),
        "something was written"
    );
    assert!(!judge(&expected[..2], &expected).is_pass());
    // What is left of large numbers that cancel: 2⁻¹² of 1024.
    let cancelled = |got| compressed(Precision::Bf16, 1024.0, &[got], &[0x3980]);
    assert!(cancelled(0x3990).is_pass());
    assert!(!cancelled(0x3a80).is_pass());
}

#[test]
fn scores_are_judged_relatively() {
    assert!(is_near_score(1.0, 1.0 + 1.0 / 1024.0) && !is_near_score(1.0, 1.002));
    assert!(is_near_score(f32::NEG_INFINITY, f32::NEG_INFINITY) && is_near_score(f32::INFINITY, f32::INFINITY));
    assert!(!is_near_score(0.0, f32::NEG_INFINITY) && !is_near_score(f32::MAX, f32::INFINITY));
    assert!(!is_near_score(f32::NAN, 1.0) && !is_near_score(f32::NAN, f32::NAN));
}
