//! What calls cost, counted by the executor: facts of the source, the same on any machine.

use sala_kernels::Counters;
use sala_kernels::reference::{choose_tokens, score_keys};
use sala_testkit::batch::{Batch, Storing};
use sala_testkit::devices::counting_host;
use sala_testkit::floors::{self, Floor};
use sala_testkit::operations::choose_tokens::TokensProblem;
use sala_testkit::operations::compact_keys::CompactProblem;
use sala_testkit::operations::gather_rows::{GatherProblem, KeptTokens};
use sala_testkit::operations::score_keys::ScoreProblem;
use sala_testkit::problem::{Problem, run};
use sala_testkit::tolerance::Precision;

fn count<P: Problem>(problem: &P) -> Counters {
    let machine = counting_host(1);
    run(problem, &machine);
    machine.stream.take_counters()
}

/// Bytes asked for in parts of the least.
#[track_caller]
fn assert_within(counted: &Counters, floor: &Floor, most: f64) {
    let share = counted.global_bytes_read as f64 / floor.read as f64;
    assert!((0.99..most).contains(&share), "{share} of the bytes that need be read");
}

/// Each key once, and four of 512 twice; each query once. What the number of queries is makes no difference to the keys.
#[test]
fn scores_read_keys_once() {
    let config = score_keys::Config {
        heads_q: 4,
        heads_kv: 2,
        dim: 128,
        pool: 5,
    };
    let problem = |queries| ScoreProblem::normal(Precision::Bf16, config, Batch::new(&[queries], &[4064]), 1);
    let [few, many] = [64, 320].map(|queries| (count(&problem(queries)), floors::key_scores(&problem(queries))));
    assert_within(&few.0, &few.1, 1.1);
    assert_within(&many.0, &many.1, 1.1);
    assert_eq!(
        few.0.shared_wavefronts, few.0.shared_wavefronts_ideal,
        "no bank conflicts"
    );
}

#[test]
fn chosen_rows_move_once() {
    let kept = |storing| KeptTokens::random(Precision::Bf16, [2, 128], &[3072], 2048, storing, 1);
    for storing in [Storing::Packed, Storing::Cached, Storing::Paged(16)] {
        let kept = kept(storing);
        let floor = floors::kept(&kept);
        let gathered = count(&GatherProblem(kept.clone()));
        assert_within(&gathered, &floor, 1.5);
        assert_eq!(gathered.global_bytes_written, floor.written);
        let compacted = count(&CompactProblem(kept));
        assert_within(&compacted, &floor, 1.5);
        assert!(
            compacted.global_bytes_written <= floor.written,
            "rows that are where they belong stay"
        );
    }
}

/// A row of one block reads its scores four times but for the first 2048; one in pieces five times.
#[test]
fn choices_read_scores_a_few_times() {
    let config = choose_tokens::Config {
        heads_kv: 1,
        chosen: 1000,
        init_tokens: 0,
        local_tokens: 0,
    };
    let count = |tokens: usize| {
        let problem = TokensProblem::new(config, &[tokens], 0, 1);
        (count(&problem), floors::tokens(&problem))
    };
    let (short, floor) = count(2048);
    assert_within(&short, &floor, 1.5);
    let (whole, floor) = count(16_384);
    assert_within(&whole, &floor, 4.0);
    let (pieces, floor) = count(131_072);
    assert_within(&pieces, &floor, 6.0);
}
