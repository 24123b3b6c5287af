//! Linear attention on every device against the recurrence, over generated calls.
//!
//! `PROPTEST_CASES` sets how many calls a property sees, `SALA_TEST_SEED` repeats a run.

mod agrees;
mod garbage;
mod invariances;
mod long;
mod races;
mod recorded;
mod refusals;

use sala_kernels::Status;
use sala_testkit::devices::Machine;
use sala_testkit::memory::Packing;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, Magnitude, StateCase};
use sala_testkit::operations::linear_attention::{DecayValues, LinearProblem, LinearRun, Phase};
use sala_testkit::problem::{Problem, compare_with};
use sala_testkit::property::seed;
use sala_testkit::tolerance::{Judgement, Precision};
use sala_testkit::values::Values;
use std::ops::Range;
use std::time::Duration;

const PRECISIONS: [Precision; 2] = [Precision::Bf16, Precision::F16];

/// A plain call; tests change what they are about.
fn plain_case() -> LinearCase {
    LinearCase {
        phase: Phase::Prefill,
        precision: Precision::Bf16,
        heads: 2,
        group: 1,
        dim_k: 128,
        dim_v: 128,
        lengths: vec![100],
        decay: DecayCase::Lightning,
        state_is_vk: false,
        packing: Packing::Separate,
        magnitude: Magnitude::Normal,
        states: StateCase::InPlace,
        checkpoint_every: 0,
        seed: seed(),
    }
}

/// Runs a good call on every machine and compares everything that it leaves behind with the reference.
#[track_caller]
fn agree(machines: &[Machine], problem: &LinearProblem) {
    let reference = problem.reference();
    assert_eq!(
        problem.refused(&reference),
        Status::default(),
        "nothing is to be refused"
    );
    for machine in machines {
        compare_with(problem, &reference, machine);
    }
}

/// The values of some tokens of a call.
fn rows(problem: &LinearProblem, values: &Values, tokens: Range<usize>) -> Values {
    let row = values.len() / problem.tokens().max(1);
    values.slice(tokens.start * row..tokens.end * row)
}

/// The tokens of a sequence.
fn tokens(problem: &LinearProblem, sequence: usize) -> Range<usize> {
    problem.cu_seqlens[sequence] as usize..problem.cu_seqlens[sequence + 1] as usize
}

/// The slot that a list names for a sequence.
fn slot(list: &Option<Vec<i32>>, sequence: usize) -> i32 {
    list.as_ref().map_or(-1, |list| list[sequence])
}

/// Some tokens of a call as one sequence of their own, on the given pool, from one slot to another.
fn part(problem: &LinearProblem, tokens: Range<usize>, pool: Vec<f32>, slots: [i32; 2]) -> LinearProblem {
    let heads = problem.config.heads_q;
    let decay = match &problem.decay {
        DecayValues::PerToken(g) => DecayValues::PerToken(g[tokens.start * heads..tokens.end * heads].to_vec()),
        other => other.clone(),
    };
    LinearProblem {
        q: rows(problem, &problem.q, tokens.clone()),
        k: rows(problem, &problem.k, tokens.clone()),
        v: rows(problem, &problem.v, tokens.clone()),
        cu_seqlens: vec![0, tokens.len() as i32],
        decay,
        pool,
        state_in: Some(vec![slots[0]]),
        state_out: Some(vec![slots[1]]),
        checkpoints: None,
        ..problem.clone()
    }
}

/// Judges what several calls have made of a whole one: the outputs of all tokens, and the pool in the end.
fn judge_whole(problem: &LinearProblem, out: Values, pool: Vec<f32>) -> Judgement {
    let run = LinearRun {
        out,
        pool,
        status: Status::default(),
        is_intact: true,
        elapsed: Duration::ZERO,
    };
    problem.judge(&run, &problem.reference())
}

/// Runs one sequence in place in parts that carry its state on, as `phase` says; gives the output and the pool.
fn run_in_parts(problem: &LinearProblem, phase: Phase, lengths: &[usize], machine: &Machine) -> (Values, Vec<f32>) {
    let slot = slot(&problem.state_in, 0);
    let mut pool = problem.pool.clone();
    let mut bits = Vec::new();
    let mut start = 0;
    for &length in lengths {
        let part = part(problem, start..start + length, pool, [slot, slot]);
        let run = sala_testkit::problem::run(&LinearProblem { phase, ..part }, machine);
        bits.extend(run.out.to_bits());
        pool = run.pool;
        start += length;
    }
    assert_eq!(start, problem.tokens(), "the parts make up the whole");
    (Values::from_bits(problem.q.precision(), bits), pool)
}

/// Cuts `total` tokens into chunks of random multiples of `unit`; the last is what remains.
fn random_chunks(total: usize, unit: usize, mut pick: impl FnMut(usize) -> usize) -> Vec<usize> {
    let mut chunks = Vec::new();
    let mut left = total;
    while left > 0 {
        let chunk = (unit * (1 + pick(3))).min(left);
        chunks.push(chunk);
        left -= chunk;
    }
    chunks
}
