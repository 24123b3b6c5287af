//! Scores of keys as data.

use crate::batch::{Batch, Storing, storings};
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::Numbers;
use crate::problem::{Described, Problem, Run, same_bits, submit};
use crate::property::{packings, precisions, seeds, spoils};
use crate::storage::{Content, KeyRows};
use crate::tolerance::{Judgement, Precision};
use crate::values::Values;
use half::{bf16, f16};
use proptest::prelude::*;
use sala_kernels::reference::score_keys::{Config, KeyScores, score_keys};
use sala_kernels::{AttentionShape, Result, ScoreKeysArgs, SparseLayer, Status};
use std::time::Duration;

/// Keys that queries score.
#[derive(Clone, Debug)]
pub struct ScoreProblem {
    pub config: Config,
    /// `[total_q, heads_q, dim]`.
    pub q: Values,
    /// `[total_k, heads_kv, dim]`, however they are stored.
    pub k: Values,
    pub batch: Batch,
    /// Scores that each sequence has room for.
    pub tokens: usize,
    /// How tensors lie in memory.
    pub packing: Packing,
}

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct ScoreRun {
    /// `[batch, heads_kv, tokens]`.
    pub scores: Vec<f32>,
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl ScoreProblem {
    /// Normal queries and keys; some keys hold a NaN.
    pub fn normal(precision: Precision, config: Config, batch: Batch, seed: u64) -> ScoreProblem {
        let mut numbers = Numbers::new(seed);
        let last = |bounds: &[i32]| bounds.last().map_or(0, |&end| end as usize);
        let (total_q, total_k) = (last(&batch.cu_seqlens_q), last(&batch.cu_seqlens_k));
        let mut tensor = |rows| Values::round(precision, numbers.normals(rows * config.dim, 1.0));
        let (q, mut k) = (tensor(total_q * config.heads_q), tensor(total_k * config.heads_kv));
        for row in 0..total_k * config.heads_kv {
            if numbers.below(50) == 0 {
                let element = row * config.dim + numbers.below(config.dim);
                k.poison(element..element + 1);
            }
        }
        let longest = batch.key_lengths().into_iter().max().unwrap_or(0);
        ScoreProblem {
            config,
            q,
            k,
            tokens: longest as usize + 3,
            batch,
            packing: Packing::Separate,
        }
    }

    fn total_q(&self) -> usize {
        self.q.len() / (self.config.heads_q * self.config.dim)
    }

    /// Keys without a place, by their row in `k`: those in bad pages.
    fn missing_keys(&self) -> Vec<usize> {
        let rows_of = self.batch.places(Content::Keys).rows_of;
        let first = self.batch.cu_seqlens_k.iter().map(|&first| first as usize);
        let rows = first.zip(&rows_of).flat_map(|(first, rows)| {
            let missing = rows.iter().enumerate().filter(|(_, place)| place.is_none());
            missing.map(move |(row, _)| first + row)
        });
        rows.collect()
    }

    /// The keys, NaN where they have no place: either way no score sees them.
    fn present_keys(&self) -> Values {
        let row = self.config.heads_kv * self.config.dim;
        let mut k = self.k.clone();
        for key in self.missing_keys() {
            k.poison(key * row..(key + 1) * row);
        }
        k
    }

    /// Sequences of more keys than there is room for scores of.
    fn refused_sequences(&self) -> usize {
        let lengths = self.batch.key_lengths().into_iter();
        lengths.filter(|&length| length as usize > self.tokens).count()
    }
}

impl Problem for ScoreProblem {
    type Layer = SparseLayer;
    type Run = ScoreRun;
    type Reference = KeyScores;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> KeyScores {
        let Batch {
            cu_seqlens_q,
            cu_seqlens_k,
            ..
        } = &self.batch;
        match (&self.q, &self.present_keys()) {
            (Values::Bf16(q), Values::Bf16(k)) => {
                score_keys::<bf16>(&self.config, q, cu_seqlens_q, k, cu_seqlens_k, self.tokens)
            }
            (Values::F16(q), Values::F16(k)) => {
                score_keys::<f16>(&self.config, q, cu_seqlens_q, k, cu_seqlens_k, self.tokens)
            }
            _ => panic!("queries and keys of one type"),
        }
    }

    fn layer(&self) -> Result<SparseLayer> {
        let Config {
            heads_q, heads_kv, dim, ..
        } = self.config;
        let shape = AttentionShape { heads_q, heads_kv, dim };
        SparseLayer::builder(self.q.dtype(), shape, 0).build()
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let Config {
            heads_q, heads_kv, dim, ..
        } = self.config;
        let (precision, layer) = (self.q.precision(), self.layer()?);
        let mut memory = Memory::new(&machine.device);
        memory.add_rows(
            precision,
            self.packing,
            [self.total_q(), heads_q],
            &[("q", dim, Some(&self.q))],
        )?;
        let places = self.batch.places(Content::Keys);
        let k = KeyRows::store(places, &self.k, &self.batch.cu_seqlens_k, heads_kv, dim);
        memory.add_keys(precision, self.packing, &[("k", &k)])?;
        self.batch.add_to(&mut memory, layer.block_size())?;
        let sequences = self.batch.sequences();
        memory.add::<f32>("scores", &[sequences, heads_kv, self.tokens], self.packing.gap(), None)?;
        let queries = self.batch.max_seqlens[0].unwrap_or(self.total_q()).min(self.total_q());
        let bytes = layer.tokens_workspace_size(sequences, queries, 0);
        memory.add::<u32>("workspace", &[bytes / 4], 0, None)?;
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let [q, k] = ["q", "k"].map(|name| memory.tensor(name));
        let mut args = ScoreKeysArgs::new(q, k, self.batch.view(memory), memory.tensor_mut("scores"));
        args.pool = self.config.pool;
        args.workspace = memory.get_mut("workspace");
        args.status = memory.get_mut("status");
        submit(machine, layer, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<ScoreRun> {
        Ok(ScoreRun {
            scores: memory.read("scores")?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    /// Sums of the queries and products are f32; what is added up decides how far they round.
    fn judge(&self, run: &ScoreRun, reference: &KeyScores) -> Judgement {
        const BOUND: f64 = 1e-5;
        let mut judgement = Judgement::default();
        let scores = run.scores.iter().zip(&reference.scores).zip(&reference.magnitude);
        for (index, ((&got, &expected), &magnitude)) in scores.enumerate() {
            let got = f64::from(got);
            if got == expected {
                continue;
            }
            let error = (got - expected).abs();
            judgement.max_abs = judgement.max_abs.max(error);
            let share = error / (BOUND * magnitude);
            judgement.add_share("score", share);
            if share.is_nan() || share > 1.0 {
                judgement
                    .failure
                    .get_or_insert_with(|| format!("score {index} is {got} instead of {expected}"));
            }
        }
        judgement
    }

    fn refused(&self, _: &KeyScores) -> Status {
        // Each is counted once per head, where its sequence is scored.
        let lengths = self.batch.query_lengths().into_iter().zip(self.batch.key_lengths());
        let scored: Vec<_> = lengths
            .map(|(queries, keys)| queries > 0 && keys as usize <= self.tokens)
            .collect();
        let sequence_of = |key: usize| self.batch.cu_seqlens_k.partition_point(|&first| first as usize <= key) - 1;
        let missing = self.missing_keys().into_iter().filter(|&key| scored[sequence_of(key)]);
        let pages = missing.count() * self.config.heads_kv;
        Status::from([pages as u32, 0, self.refused_sequences() as u32, 0])
    }
}

impl Run for ScoreRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &ScoreRun) -> Option<String> {
        (!same_bits(&self.scores, &other.scores)).then(|| "scores".into())
    }
}

/// Ragged sequences, of which some have no queries or no keys, in stores of every kind.
pub(super) fn samples(seed: u64) -> Vec<ScoreProblem> {
    let config = |heads_q, heads_kv, dim, pool| Config {
        heads_q,
        heads_kv,
        dim,
        pool,
    };
    let ragged = || Batch::new(&[3, 0, 5, 7, 70], &[600, 40, 0, 1, 530]);
    let short = |queries: usize| Batch::new(&[queries], &[33]);
    [
        (Precision::Bf16, config(4, 2, 128, 5), ragged()),
        (Precision::F16, config(2, 2, 64, 5), ragged().paged(16).bounded()),
        (Precision::Bf16, config(16, 1, 64, 1), ragged().indexed(7)),
        (Precision::F16, config(3, 1, 128, 31), short(2050).paged(1)),
    ]
    .map(|(precision, config, batch)| ScoreProblem::normal(precision, config, batch, seed))
    .into()
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct ScoreCase {
    pub precision: Precision,
    pub heads_kv: usize,
    pub group: usize,
    pub dim: usize,
    pub pool: usize,
    /// Of queries and keys.
    pub lengths: Vec<(usize, usize)>,
    pub storing: Storing,
    /// Whether scores have room for fewer keys than the longest sequence has.
    pub is_short: bool,
    pub packing: Packing,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl Described for ScoreCase {
    type Problem = ScoreProblem;

    fn problem(&self) -> ScoreProblem {
        let (queries, keys): (Vec<_>, Vec<_>) = self.lengths.iter().copied().unzip();
        let config = Config {
            heads_q: self.heads_kv * self.group,
            heads_kv: self.heads_kv,
            dim: self.dim,
            pool: self.pool,
        };
        let batch = Batch::new(&queries, &keys).stored(self.storing);
        let mut problem = ScoreProblem::normal(self.precision, config, batch, self.seed);
        problem.packing = self.packing;
        if self.is_short {
            problem.tokens = problem.tokens.saturating_sub(4);
        }
        problem
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

/// Queries and keys of any number and none.
pub(super) fn random() -> BoxedStrategy<ScoreCase> {
    let queries = prop_oneof![1 => Just(0usize), 3 => 1usize..20, 1 => 20usize..300];
    let keys = prop_oneof![1 => Just(0usize), 3 => 1usize..700, 1 => 700usize..1600];
    let lengths = prop::collection::vec((queries, keys), 1..=4);
    let shape = (
        precisions(),
        1usize..=3,
        prop::sample::select(vec![1usize, 2, 3, 16]),
        prop::sample::select(vec![64usize, 128]),
        prop::sample::select(vec![1usize, 3, 5, 31]),
    );
    let rest = (prop::bool::weighted(0.1), packings(), seeds(), spoils());
    let case =
        |((precision, heads_kv, group, dim, pool), lengths, storing, (is_short, packing, seed, spoiled))| ScoreCase {
            precision,
            heads_kv,
            group,
            dim,
            pool,
            lengths,
            storing,
            is_short,
            packing,
            seed,
            spoiled,
        };
    (shape, lengths, storings(), rest).prop_map(case).boxed()
}
