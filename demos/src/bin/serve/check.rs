//! `--check`: the engine against a naive decoder, and against itself.

use crate::model::{Model, VOCABULARY};
use crate::naive::{Judged, judge};
use crate::runs::{Line, Run, run};
use crate::scheduler::Settings;
use crate::sequence::{Request, Row};
use crate::speculate::Speculation;
use demos::progress::Progress;
use sala_kernels::{Device, Result};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How far logits may be from the naive decoder's, which are about three apart, and how much less than its best an emitted token's may be.
const EPSILON: f64 = 0.15;
/// How far scores of blocks may be off that only one side took. Kernels and definition on the same numbers agree to 2⁻¹⁰; here their inputs come
/// from layers below, each rounded to bf16, and a score is an exponential of them.
const SCORES: f64 = 0.05;
/// The most kernels of a sparse layer in a step.
const KERNELS: u64 = 8;

/// What was found, in words, and whether all is well.
pub struct Report {
    pub text: String,
    pub failures: usize,
}

/// One by one, each alone and without speculation; then everything at once; then both with drafts.
pub fn check(device: &Device, model: &Model, requests: &[Request], small: Settings) -> Result<Report> {
    let alone = Settings {
        batch: 1,
        shares: false,
        pages: crate::model::CAPACITY / crate::pool::PAGE,
        slots: 1,
        ..small
    };
    let plans = [
        ("plain", alone, Speculation::Off),
        ("all at once", small, Speculation::Off),
        ("chain", alone, Speculation::Chain),
        ("chain, all at once", small, Speculation::Chain),
        ("tree", alone, Speculation::Tree),
        ("tree, all at once", small, Speculation::Tree),
    ];
    let progress = Progress::patient(plans.len() + 1, "{bar:30} {pos}/{len} runs, {elapsed}");
    let mut runs = Vec::new();
    for (name, settings, speculation) in plans {
        runs.push(run(
            device,
            model,
            requests,
            name,
            Settings {
                speculation,
                ..settings
            },
        )?);
        progress.advance(1);
    }
    let mut judge = Judge::new(model, requests);
    for run in &runs {
        judge.run(run);
    }
    // Everything that a sequence goes through but its drafts leaves its bits as they are.
    for pair in runs.chunks(2) {
        judge.same_bits(&pair[0], &pair[1]);
        judge.met_everything(&pair[1]);
    }
    judge.same_tokens(&runs[0], &runs[2]);
    judge.same_tokens(&runs[0], &runs[4]);
    progress.finish();
    Ok(judge.report)
}

/// Judges runs and writes down what it finds.
struct Judge<'a> {
    model: &'a Model,
    requests: &'a [Request],
    /// Sequences that have been judged: runs that agree are judged once.
    known: BTreeMap<(Vec<u8>, Vec<Row>), Judged>,
    report: Report,
}

impl<'a> Judge<'a> {
    fn new(model: &'a Model, requests: &'a [Request]) -> Judge<'a> {
        Judge {
            model,
            requests,
            known: BTreeMap::new(),
            report: Report {
                text: String::new(),
                failures: 0,
            },
        }
    }

    fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.say(&format!("FAILED: {}", otherwise()));
            self.report.failures += 1;
        }
    }

    fn say(&mut self, line: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.report.text, "{line}");
    }

    /// Every token that a run has emitted, against the naive decoder that was fed the same tokens.
    fn run(&mut self, run: &Run) {
        let (mut worst, mut best, mut emitted, mut error) = (0.0, 0, 0, 0.0);
        let (mut lists, mut other_lists, mut scores) = (0, 0, 0.0);
        for sequence in &run.sequences {
            let key = (sequence.tokens.clone(), sequence.rows.clone());
            let model = self.model;
            let judged = self
                .known
                .entry(key)
                .or_insert_with_key(|(tokens, rows)| judge(model, tokens, rows));
            for place in sequence.prompt..sequence.tokens.len() {
                let logits = &judged.logits[(place - 1) * VOCABULARY..][..VOCABULARY];
                let short = shortfall(logits, sequence.tokens[place], sequence.rank_at(place));
                worst = f64::max(worst, short);
                error = f64::max(error, distance(logits, &sequence.logits[place - sequence.prompt]));
                best += usize::from(short == 0.0);
                emitted += 1;
            }
            lists += judged.lists;
            other_lists += judged.other_lists;
            scores = f64::max(scores, judged.lists_differ_by);
        }
        let answers: usize = self.requests.iter().map(|request| request.ranks.len()).sum();
        let complete = run
            .sequences
            .iter()
            .filter(|sequence| sequence.tokens.len() == sequence.total);
        let complete = complete.count();
        self.say(&format!("{}", Line(run, best, emitted, worst)));
        self.say(&format!("    logits at most {error:.4} away"));
        self.say(&format!(
            "    {other_lists} of {lists} lists with another block, {scores:.4} of its score away"
        ));
        self.require(complete == answers && run.sequences.len() == answers, || {
            format!("{}: {complete} of {answers} answers are complete", run.name)
        });
        self.require(worst <= EPSILON, || {
            format!(
                "{}: a token's logit is {worst:.3} below the best, more than {EPSILON}",
                run.name
            )
        });
        self.require(error <= EPSILON, || {
            format!(
                "{}: logits are up to {error:.3} from the naive decoder's, more than {EPSILON}",
                run.name
            )
        });
        self.require(scores <= SCORES, || {
            format!(
                "{}: a list took a block whose score is {scores:.3} off, more than {SCORES}",
                run.name
            )
        });
        let record = &run.record;
        self.require(record.sparse_kernels <= KERNELS, || {
            format!(
                "{}: {} kernels in a sparse layer, more than {KERNELS}",
                run.name, record.sparse_kernels
            )
        });
        self.require(record.differing == 0, || {
            format!(
                "{}: {} steps were launched otherwise than one of their shape",
                run.name, record.differing
            )
        });
        let changed = run.sequences.iter().filter(|sequence| sequence.has_changed).count();
        self.require(changed == 0, || {
            format!(
                "{}: {changed} answers have other bits after they left and came back",
                run.name
            )
        });
        self.require(run.is_idle, || {
            format!("{}: pages or slots are left that nobody has", run.name)
        });
    }

    /// A run that is to be judged with everything on has had everything on.
    fn met_everything(&mut self, run: &Run) {
        let record = &run.record;
        let is_speculating = run.speculation != Speculation::Off;
        // Prompts and trees take turns.
        let is_mixed = record.mixed > 0 || run.speculation == Speculation::Tree;
        for (has_met, what) in [
            (is_mixed, "no step had rows of prompts and of decoding sequences"),
            (run.found > 0, "no prompt began as another"),
            (run.forked > 0, "no sequence was forked"),
            (run.preempted > 0, "no sequence had to leave"),
            (
                record.decoded > record.turns || !is_speculating,
                "no draft was accepted",
            ),
            (
                record.decoded < record.turns * run.speculation.depths() || !is_speculating,
                "every draft was accepted",
            ),
            (record.replayed > 0, "no step had the shape of an earlier one"),
        ] {
            self.require(has_met, || format!("{}: {what}", run.name));
        }
    }

    fn same_bits(&mut self, alone: &Run, together: &Run) {
        for (one, other) in alone.sequences.iter().zip(&together.sequences) {
            let (request, rank) = (one.request, one.rank);
            self.require(one.tokens == other.tokens, || {
                let place = one.tokens.iter().zip(&other.tokens).take_while(|(a, b)| a == b).count();
                let emitted = place.saturating_sub(one.prompt);
                format!(
                    "{}: answer {rank} to request {request} differs at token {emitted}",
                    together.name
                )
            });
            self.require(one.rows == other.rows, || {
                format!("{}: lists of answer {rank} to request {request} differ", together.name)
            });
            self.require(one.logits == other.logits, || {
                format!(
                    "{}: logits of answer {rank} to request {request} have other bits",
                    together.name
                )
            });
        }
    }

    /// Drafts are verified by other kernels than single tokens are decoded by, so that runs may part where two tokens are as good as equal. That they are
    /// has been judged already.
    fn same_tokens(&mut self, plain: &Run, drafted: &Run) {
        let pairs = plain.sequences.iter().zip(&drafted.sequences);
        let same = pairs.filter(|(one, other)| one.tokens == other.tokens).count();
        self.say(&format!(
            "{same} of {} answers of {} are the plain ones",
            plain.sequences.len(),
            drafted.name
        ));
    }
}

/// How much the naive decoder prefers the token that it would have emitted.
fn shortfall(logits: &[f64], token: u8, rank: usize) -> f64 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let own = logits[usize::from(token)];
    match rank {
        0 => sorted[0] - own,
        rank => (sorted[rank] - own).abs(),
    }
}

/// The largest difference of two rows of logits. NaN is infinitely far from anything.
fn distance(naive: &[f64], logits: &[f32]) -> f64 {
    let differences = naive.iter().zip(logits).map(|(a, &b)| (a - f64::from(b)).abs());
    differences.fold(0.0, |most, difference| {
        if difference.is_nan() {
            f64::INFINITY
        } else {
            most.max(difference)
        }
    })
}
