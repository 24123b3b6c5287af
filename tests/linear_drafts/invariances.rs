//! What the ways to advance a sequence have in common.

use crate::{config, seed};
use sala_kernels::Split;
use sala_testkit::devices::all;
use sala_testkit::operations::linear_attention::cases::DecayCase;
use sala_testkit::operations::linear_attention::{DecayValues, LinearProblem, Phase};
use sala_testkit::operations::linear_drafts::{DraftsProblem, Step};
use sala_testkit::problem::{Problem, assert_same_bits, run};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

const DRAFTS: usize = 9;

fn problems() -> impl Iterator<Item = DraftsProblem> {
    [(Precision::Bf16, 1, 128, false), (Precision::F16, 4, 64, true)]
        .into_iter()
        .flat_map(|(precision, group, dim, vk)| {
            [DecayCase::Lightning, DecayCase::PerToken]
                .map(|decay| DraftsProblem::normal(precision, config(group, dim, dim, vk), [3, DRAFTS], decay, seed()))
        })
}

#[test]
fn a_chain_given_as_a_tree_is_the_chain() {
    for machine in all() {
        for chain in problems() {
            let parent: Vec<i32> = (-1..DRAFTS as i32 - 1).collect();
            let tree = chain.with(Step::Verify {
                parent: Some(parent.repeat(3)),
            });
            assert_same_bits(&run(&chain, &machine), &run(&tree, &machine), &machine.name);
            let first: Vec<i32> = (0..DRAFTS as i32).collect();
            let accepted = vec![2, 0, DRAFTS as i32];
            let with = |path| {
                let accepted = accepted.clone();
                run(&chain.with(Step::Commit { accepted, path }), &machine)
            };
            assert_same_bits(&with(None), &with(Some(first.repeat(3))), &machine.name);
        }
    }
}

/// Draft `draft` of every sequence as a decode step on a pool.
fn decode_step(chain: &DraftsProblem, draft: usize, pool: Vec<f32>) -> LinearProblem {
    let batch = chain.batch();
    let tokens: Vec<usize> = (0..batch).map(|sequence| sequence * DRAFTS + draft).collect();
    let pick = |values: &Values| values.pick(batch * DRAFTS, &tokens);
    let heads = chain.config.heads_q;
    let decay = match &chain.decay {
        DecayValues::PerToken(g) => {
            let rows = tokens.iter().flat_map(|&token| &g[token * heads..(token + 1) * heads]);
            DecayValues::PerToken(rows.copied().collect())
        }
        other => other.clone(),
    };
    LinearProblem {
        phase: Phase::Decode,
        config: chain.config,
        q: pick(&chain.q),
        k: pick(&chain.k),
        v: pick(&chain.v),
        cu_seqlens: (0..=batch as i32).collect(),
        decay,
        pool,
        state_in: Some(chain.state_in.clone()),
        state_out: None,
        checkpoints: None,
        split: Split::Auto,
        packing: chain.packing,
    }
}

#[test]
fn verified_and_committed_drafts_are_decoded_ones() {
    for machine in all() {
        for chain in problems() {
            let reference = chain.reference();
            let mut pool = chain.pool.clone();
            let mut out = vec![0.0; reference.out.len()];
            let row = chain.config.heads_q * chain.config.dim_v;
            for draft in 0..DRAFTS {
                let step = run(&decode_step(&chain, draft, pool), &machine);
                for (sequence, values) in step.out.to_f64().chunks(row).enumerate() {
                    out[(sequence * DRAFTS + draft) * row..][..row].copy_from_slice(values);
                }
                pool = step.pool;
                // What was committed so far has the bits of what was decoded.
                let accepted = vec![draft as i32 + 1; chain.batch()];
                let committed = run(&chain.with(Step::Commit { accepted, path: None }), &machine);
                let equal = committed
                    .pool
                    .iter()
                    .zip(&pool)
                    .all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(equal, "{}: {} drafts", machine.name, draft + 1);
            }
            let mut verified = run(&chain, &machine);
            chain.judge(&verified, &reference).assert(&machine.name);
            verified.out = Some(Values::round(chain.q.precision(), out));
            chain.judge(&verified, &reference).assert(&machine.name);
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone() {
    for machine in all() {
        for chain in problems() {
            let all = run(&chain, &machine);
            let row = DRAFTS * chain.config.heads_q * chain.config.dim_v;
            for sequence in 0..3 {
                let tokens = sequence * DRAFTS..(sequence + 1) * DRAFTS;
                let rows = |values: &Values| values.rows(3 * DRAFTS, tokens.clone());
                let heads = chain.config.heads_q;
                let alone = DraftsProblem {
                    q: rows(&chain.q),
                    k: rows(&chain.k),
                    v: rows(&chain.v),
                    decay: match &chain.decay {
                        DecayValues::PerToken(g) => {
                            DecayValues::PerToken(g[tokens.start * heads..tokens.end * heads].to_vec())
                        }
                        other => other.clone(),
                    },
                    state_in: vec![chain.state_in[sequence]],
                    ..chain.clone()
                };
                let alone = run(&alone, &machine).out.unwrap().to_bits();
                let within = all.out.as_ref().unwrap().to_bits();
                assert!(
                    alone[..] == within[sequence * row..(sequence + 1) * row],
                    "{}",
                    machine.name
                );
            }
        }
    }
}

#[test]
fn nothing_accepted_leaves_the_bits_of_a_state() {
    for machine in all() {
        for chain in problems() {
            let accepted = vec![0; 3];
            let commit = chain.with(Step::Commit { accepted, path: None });
            let same = run(&commit, &machine);
            let bits = |pool: &[f32]| pool.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&same.pool), bits(&chain.pool), "{}", machine.name);
            // To another slot it goes unchanged; slot 3 is nobody's and holds NaN before.
            let moved = DraftsProblem {
                state_out: Some(vec![3, -1, chain.state_in[2]]),
                ..commit
            };
            let moved = run(&moved, &machine);
            let slot = |pool: &[f32], slot: i32| {
                let length = chain.config.slot_len();
                bits(&pool[slot as usize * length..(slot as usize + 1) * length])
            };
            assert_eq!(
                slot(&moved.pool, 3),
                slot(&chain.pool, chain.state_in[0]),
                "{}",
                machine.name
            );
            for sequence in 0..3 {
                let own = chain.state_in[sequence];
                assert_eq!(slot(&moved.pool, own), slot(&chain.pool, own), "{}", machine.name);
            }
        }
    }
}
