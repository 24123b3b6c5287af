//! What bits do not depend on.

use sala_kernels::reference::score_keys::Config;
use sala_testkit::batch::{Batch, Storing};
use sala_testkit::devices::all;
use sala_testkit::memory::Packing;
use sala_testkit::operations::score_keys::ScoreProblem;
use sala_testkit::problem::{assert_same_bits, run};
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;

const CONFIG: Config = Config {
    heads_q: 6,
    heads_kv: 2,
    dim: 128,
    pool: 5,
};

#[test]
fn every_store_gives_the_same_scores() {
    let problem = ScoreProblem::normal(
        Precision::Bf16,
        CONFIG,
        Batch::new(&[9, 300, 1], &[530, 1100, 7]),
        seed(),
    );
    for machine in all() {
        let expected = run(&problem, &machine);
        for (storing, packing) in [
            (Storing::Packed, Packing::HeadMajor),
            (Storing::Cached, Packing::Separate),
            (Storing::Indexed, Packing::Fused),
            (Storing::Paged(1), Packing::Separate),
            (Storing::Paged(256), Packing::HeadMajor),
        ] {
            let mut other = problem.clone();
            other.batch = other.batch.stored(storing).bounded();
            other.packing = packing;
            assert_same_bits(
                &expected,
                &run(&other, &machine),
                &format!("{}: {storing:?}", machine.name),
            );
        }
    }
}

/// A sequence has the scores that it has alone, whatever room there is for those of others.
#[test]
fn a_batch_gives_the_scores_of_each_sequence() {
    let (queries, keys) = ([70usize, 3000, 5], [600usize, 90, 1030]);
    let batch = ScoreProblem::normal(Precision::F16, CONFIG, Batch::new(&queries, &keys), seed());
    for machine in all() {
        let together = run(&batch, &machine);
        for sequence in 0..3 {
            let rows = |bounds: &[i32]| bounds[sequence] as usize..bounds[sequence + 1] as usize;
            let (total_q, total_k) = (queries.iter().sum(), keys.iter().sum());
            let alone = ScoreProblem {
                q: batch.q.rows(total_q, rows(&batch.batch.cu_seqlens_q)),
                k: batch.k.rows(total_k, rows(&batch.batch.cu_seqlens_k)),
                batch: Batch::new(&[queries[sequence]], &[keys[sequence]]),
                tokens: keys[sequence],
                ..batch.clone()
            };
            let alone = run(&alone, &machine);
            for head in 0..CONFIG.heads_kv {
                let first = (sequence * CONFIG.heads_kv + head) * batch.tokens;
                let expected = &alone.scores[head * keys[sequence]..(head + 1) * keys[sequence]];
                let got = &together.scores[first..first + keys[sequence]];
                let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(got), bits(expected), "{}: sequence {sequence}", machine.name);
            }
        }
    }
}
