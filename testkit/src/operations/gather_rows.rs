//! Gathering of rows as data.

use super::append_keys::AppendRun;
use super::choose_blocks::given_scores;
use crate::batch::{Batch, Storing, add_key_lengths, storings};
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::Numbers;
use crate::problem::{Described, Problem, Run, same_bits, submit};
use crate::property::{packings, precisions, seeds, spoils};
use crate::storage::{Content, KeyRows, Places, keys};
use crate::tolerance::{Judgement, Precision};
use crate::values::Values;
use proptest::prelude::*;
use sala_kernels::reference::gather_rows::{Gathered, gather_rows};
use sala_kernels::{AttentionShape, GatherRowsArgs, Result, SparseLayer, Status};
use std::time::Duration;

/// Keys, values and scores of sequences, and tokens of them that are kept or passed on.
#[derive(Clone, Debug)]
pub struct KeptTokens {
    pub heads: usize,
    pub dim: usize,
    /// `[total_k, heads, dim]`, however they are stored.
    pub k: Values,
    /// Likewise.
    pub v: Values,
    /// There are no queries.
    pub batch: Batch,
    /// `[batch, heads, chosen]`.
    pub indices: Vec<i32>,
    pub chosen: usize,
    /// `[batch, heads, tokens]`, if there are any, and `tokens`.
    pub scores: Option<(Vec<f32>, usize)>,
    /// How tensors lie in memory.
    pub packing: Packing,
}

impl KeptTokens {
    /// The scores that a call leaves in a tensor; none where it has none.
    pub(super) fn read_scores(&self, memory: &Memory, name: &str) -> Result<Vec<f32>> {
        match &self.scores {
            Some(_) => memory.read(name),
            None => Ok(Vec::new()),
        }
    }

    /// Rows of any bits, and of each sequence and head so many tokens at random, ascending, −1 after the last.
    pub fn random(
        precision: Precision,
        [heads, dim]: [usize; 2],
        lengths: &[usize],
        chosen: usize,
        storing: Storing,
        seed: u64,
    ) -> KeptTokens {
        let mut numbers = Numbers::new(seed);
        let batch = Batch::new(&vec![0; lengths.len()], lengths).stored(storing);
        let rows = lengths.iter().sum::<usize>() * heads;
        let mut any = || Values::from_bits(precision, (0..rows * dim).map(|_| numbers.bits() as u16));
        let (k, v) = (any(), any());
        let mut indices = Vec::new();
        for &length in lengths.iter().flat_map(|length| std::iter::repeat_n(length, heads)) {
            let mut left = chosen.min(length);
            for token in 0..length {
                // Each subset is as likely as any other.
                if left > 0 && numbers.below(length - token) < left {
                    indices.push(token as i32);
                    left -= 1;
                }
            }
            indices.extend(std::iter::repeat_n(-1, chosen - chosen.min(length)));
        }
        let tokens = lengths.iter().copied().max().unwrap_or(0) + 3;
        let scores = given_scores(0, lengths.len() * heads, tokens, seed).scores;
        KeptTokens {
            heads,
            dim,
            k,
            v,
            batch,
            indices,
            chosen,
            scores: Some((scores, tokens)),
            packing: Packing::Separate,
        }
    }

    /// Replaces some entries of lists by others, also by such that cannot be.
    pub fn spoil(&mut self, seed: u64) {
        let mut numbers = Numbers::new(seed);
        let longest = self.batch.key_lengths().into_iter().max().unwrap_or(0);
        for entry in &mut self.indices {
            if numbers.below(8) == 0 {
                let near = [
                    entry.wrapping_sub(1),
                    entry.wrapping_add(1),
                    numbers.below(longest as usize + 1) as i32,
                ];
                *entry = numbers.pick(&[-1, -2, 0, near[0], near[1], near[2], longest, i32::MIN, i32::MAX]);
            }
        }
    }

    /// The lengths of sequences; −1 for those that are refused.
    pub(super) fn lengths(&self) -> Vec<i32> {
        let most = self.scores.as_ref().map_or(i32::MAX, |(_, tokens)| *tokens as i32);
        let lengths = self.batch.key_lengths().into_iter();
        lengths.map(|length| if length > most { -1 } else { length }).collect()
    }

    pub(super) fn refused_sequences(&self) -> u32 {
        self.lengths().into_iter().filter(|&length| length < 0).count() as u32
    }

    /// Keys or values as they are stored.
    pub(super) fn stored(&self, values: &Values) -> KeyRows {
        let places = self.batch.places(Content::Keys);
        KeyRows::store(places, values, &self.batch.cu_seqlens_k, self.heads, self.dim)
    }

    pub(super) fn layer(&self) -> Result<SparseLayer> {
        let shape = AttentionShape {
            heads_q: self.heads,
            heads_kv: self.heads,
            dim: self.dim,
        };
        SparseLayer::builder(self.k.dtype(), shape, 0).build()
    }

    /// Everything but outputs of a gathering.
    pub(super) fn upload(&self, machine: &Machine) -> Result<Memory> {
        let mut memory = Memory::new(&machine.device);
        let (k, v) = (self.stored(&self.k), self.stored(&self.v));
        memory.add_keys(self.k.precision(), self.packing, &[("k", &k), ("v", &v)])?;
        let Batch {
            storage, cu_seqlens_k, ..
        } = &self.batch;
        storage.add_to(&mut memory, cu_seqlens_k, self.layer()?.block_size())?;
        add_key_lengths(&mut memory, storage, &self.batch.lengths_of_keys())?;
        let lists = [self.batch.sequences(), self.heads];
        let gap = self.packing.gap();
        memory.add(
            "token_indices",
            &[lists[0], lists[1], self.chosen],
            gap,
            Some(&self.indices),
        )?;
        if let Some((scores, tokens)) = &self.scores {
            memory.add("scores", &[lists[0], lists[1], *tokens], gap, Some(scores))?;
        }
        memory.add_status()?;
        Ok(memory)
    }
}

/// A gathering.
#[derive(Clone, Debug)]
pub struct GatherProblem(pub KeptTokens);

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct KeptRun {
    /// Keys and values.
    pub rows: AppendRun,
    /// Their scores; none where there are none.
    pub scores: Vec<f32>,
}

/// What it should leave behind.
#[derive(Clone, Debug)]
pub struct Kept {
    pub k: KeyRows,
    pub v: KeyRows,
    pub scores: Vec<f32>,
    pub status: Status,
}

impl KeptRun {
    pub(super) fn judge(&self, kept: &Kept) -> Judgement {
        let mut judgement = self.rows.judge([&kept.k, &kept.v]);
        if !same_bits(&self.scores, &kept.scores) {
            judgement.failure.get_or_insert_with(|| "scores".into());
        }
        judgement
    }
}

impl Run for KeptRun {
    fn status(&self) -> Status {
        self.rows.status
    }

    fn is_intact(&self) -> bool {
        self.rows.is_intact
    }

    fn difference(&self, other: &KeptRun) -> Option<String> {
        let scores = (!same_bits(&self.scores, &other.scores)).then(|| "scores".into());
        self.rows.difference(&other.rows).or(scores)
    }
}

impl GatherProblem {
    /// Where results lie: a cache of each sequence.
    fn places(&self) -> Places {
        let KeptTokens { batch, chosen, .. } = &self.0;
        let (sequences, rows) = (batch.sequences(), *chosen);
        Places {
            stores: Some(sequences),
            rows,
            rows_of: (0..sequences)
                .map(|sequence| (0..rows).map(|row| Some(sequence * rows + row)).collect())
                .collect(),
        }
    }
}

impl Problem for GatherProblem {
    type Layer = SparseLayer;
    type Run = KeptRun;
    type Reference = Kept;

    fn packed(mut self, packing: Packing) -> Self {
        self.0.packing = packing;
        self
    }

    fn reference(&self) -> Kept {
        let KeptTokens { heads, dim, chosen, .. } = self.0;
        let Gathered { tokens, wrong } = gather_rows(&self.0.indices, &self.0.lengths(), heads);
        let stored = [&self.0.k, &self.0.v].map(|values| self.0.stored(values));
        let mut bad = 0;
        let [k, v] = [&stored[0], &stored[1]].map(|stored| {
            let mut out = KeyRows::empty(self.places(), heads, dim);
            out.bits.fill(0);
            bad = 0;
            for (at, token) in tokens.iter().enumerate() {
                let Some(token) = *token else { continue };
                let (row, entry) = (at / chosen, at % chosen);
                let (sequence, head) = (row / heads, row % heads);
                let Some(from) = stored.row(sequence, token) else {
                    bad += 1;
                    continue;
                };
                let to = out.row(sequence, entry).expect("results have places");
                let from = &stored.bits[from][head * dim..(head + 1) * dim];
                out.bits[to][head * dim..(head + 1) * dim].copy_from_slice(from);
            }
            out
        });
        let scores = self.0.scores.as_ref().map_or(Vec::new(), |(scores, count)| {
            let score = |(at, token): (usize, &Option<usize>)| match token {
                Some(token) => scores[at / chosen * count + token],
                None => f32::NEG_INFINITY,
            };
            tokens.iter().enumerate().map(score).collect()
        });
        Kept {
            k,
            v,
            scores,
            status: Status::from([bad, wrong as u32, self.0.refused_sequences(), 0]),
        }
    }

    fn layer(&self) -> Result<SparseLayer> {
        self.0.layer()
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let mut memory = self.0.upload(machine)?;
        let KeptTokens {
            heads, dim, packing, ..
        } = self.0;
        let empty = KeyRows::empty(self.places(), heads, dim);
        memory.add_keys(self.0.k.precision(), packing, &[("k_out", &empty), ("v_out", &empty)])?;
        if self.0.scores.is_some() {
            let shape = [self.0.batch.sequences(), heads, self.0.chosen];
            memory.add::<f32>("scores_out", &shape, packing.gap(), None)?;
        }
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let [k, v, indices] = ["k", "v", "token_indices"].map(|name| memory.tensor(name));
        let [k_out, v_out] = ["k_out", "v_out"].map(|name| memory.tensor_mut(name));
        let mut args = GatherRowsArgs::new(k, v, keys(memory), indices, k_out, v_out);
        args.scores = memory.get("scores").zip(memory.get_mut("scores_out"));
        args.status = memory.get_mut("status");
        submit(machine, layer, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<KeptRun> {
        let places = self.places();
        let rows = AppendRun {
            k: memory.keys("k_out", &places)?,
            v: memory.keys("v_out", &places)?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        };
        let scores = self.0.read_scores(memory, "scores_out")?;
        Ok(KeptRun { rows, scores })
    }

    fn judge(&self, run: &KeptRun, kept: &Kept) -> Judgement {
        run.judge(kept)
    }

    fn refused(&self, kept: &Kept) -> Status {
        kept.status
    }
}

/// Some tokens of ragged sequences, and none, in stores of every kind; lists that are right, and that are not. Few enough for rows 8 GiB apart.
pub(super) fn kept_tokens(seed: u64) -> Vec<KeptTokens> {
    let mut calls: Vec<_> = [
        (Precision::Bf16, [2, 128], 70, Storing::Packed),
        (Precision::F16, [2, 64], 33, Storing::Indexed),
        (Precision::Bf16, [1, 64], 200, Storing::Paged(1)),
        (Precision::F16, [2, 128], 9, Storing::Paged(16)),
    ]
    .map(|(precision, shape, chosen, storing)| {
        KeptTokens::random(precision, shape, &[131, 0, 1, 260], chosen, storing, seed)
    })
    .into();
    calls[1].scores = None;
    calls[3].spoil(seed);
    calls
}

pub(super) fn samples(seed: u64) -> Vec<GatherProblem> {
    kept_tokens(seed).into_iter().map(GatherProblem).collect()
}

/// Tokens that are kept at random.
#[derive(Clone, Debug)]
pub struct KeptCase {
    pub precision: Precision,
    pub heads: usize,
    pub dim: usize,
    pub lengths: Vec<usize>,
    pub chosen: usize,
    pub storing: Storing,
    /// Room for scores beside those of the longest sequence, less two, if there are any.
    pub spare: Option<usize>,
    /// Whether lists are others than such that can be, here and there.
    pub is_wrong: bool,
    pub packing: Packing,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl KeptCase {
    pub(super) fn tokens(&self) -> KeptTokens {
        let shape = [self.heads, self.dim];
        let mut kept = KeptTokens::random(
            self.precision,
            shape,
            &self.lengths,
            self.chosen,
            self.storing,
            self.seed,
        );
        kept.packing = self.packing;
        kept.scores = self.spare.map(|spare| {
            let longest = self.lengths.iter().copied().max().unwrap_or(0);
            let tokens = (longest + spare).saturating_sub(2);
            (
                given_scores(0, self.lengths.len() * self.heads, tokens, self.seed).scores,
                tokens,
            )
        });
        if self.is_wrong {
            kept.spoil(self.seed);
        }
        kept
    }
}

/// Lists of every length, of sequences of any length and none.
pub(super) fn kept_cases() -> impl Strategy<Value = KeptCase> {
    let dims = prop::sample::select(vec![64usize, 128]);
    let lengths = prop::collection::vec(prop_oneof![1 => Just(0usize), 3 => 1usize..1200], 1..=4);
    let chosen = prop_oneof![3 => 1usize..100, 2 => 100usize..1300];
    let shape = (precisions(), 1usize..=5, dims, lengths, chosen, storings());
    let spare = prop::option::of(1usize..6);
    let rest = (spare, prop::bool::weighted(0.3), packings(), seeds(), spoils());
    (shape, rest).prop_map(
        |((precision, heads, dim, lengths, chosen, storing), (spare, is_wrong, packing, seed, spoiled))| KeptCase {
            precision,
            heads,
            dim,
            lengths,
            chosen,
            storing,
            spare,
            is_wrong,
            packing,
            seed,
            spoiled,
        },
    )
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct GatherCase(pub KeptCase);

impl Described for GatherCase {
    type Problem = GatherProblem;

    fn problem(&self) -> GatherProblem {
        GatherProblem(self.0.tokens())
    }

    fn spoiled(&self) -> Option<u64> {
        self.0.spoiled
    }
}

pub(super) fn random() -> BoxedStrategy<GatherCase> {
    kept_cases().prop_map(GatherCase).boxed()
}
