//! The choice of tokens as data.

use super::choose_blocks::{KINDS, given_scores};
use crate::batch::{Batch, Storing, add_key_lengths, storings};
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::problem::{Described, Problem, Run, submit};
use crate::property::{packings, seeds, spoils};
use crate::storage::keys;
use crate::tolerance::Judgement;
use proptest::prelude::*;
use sala_kernels::reference::choose_tokens::{Config, choose_tokens};
use sala_kernels::{AttentionShape, ChooseTokensArgs, DType, Result, SparseLayer, Status};
use std::time::Duration;

/// A choice of tokens by given scores.
#[derive(Clone, Debug)]
pub struct TokensProblem {
    pub config: Config,
    /// `[batch, heads_kv, tokens]`.
    pub scores: Vec<f32>,
    pub tokens: usize,
    /// There are no queries, and of keys the lengths alone.
    pub batch: Batch,
    /// Whether the call is given a workspace.
    pub with_workspace: bool,
    /// How scores and lists lie in memory.
    pub packing: Packing,
}

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct TokensRun {
    /// `[batch, heads_kv, chosen]`.
    pub indices: Vec<i32>,
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl TokensProblem {
    /// Sequences of so many tokens with scores of one of the [`KINDS`], and no room to spare.
    pub fn new(config: Config, lengths: &[usize], kind: usize, seed: u64) -> TokensProblem {
        let tokens = lengths.iter().copied().max().unwrap_or(0);
        let rows = lengths.len() * config.heads_kv;
        TokensProblem {
            config,
            scores: given_scores(kind, rows, tokens, seed).scores,
            tokens,
            batch: Batch::new(&vec![0; lengths.len()], lengths).cached(0),
            with_workspace: true,
            packing: Packing::Separate,
        }
    }
}

impl Problem for TokensProblem {
    type Layer = SparseLayer;
    type Run = TokensRun;
    type Reference = Vec<i32>;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Vec<i32> {
        choose_tokens(&self.config, &self.scores, &self.batch.key_lengths(), self.tokens)
    }

    fn layer(&self) -> Result<SparseLayer> {
        let shape = AttentionShape {
            heads_q: self.config.heads_kv,
            heads_kv: self.config.heads_kv,
            dim: 64,
        };
        SparseLayer::builder(DType::Bf16, shape, 0).build()
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let (gap, layer) = (self.packing.gap(), self.layer()?);
        let Batch {
            storage, cu_seqlens_k, ..
        } = &self.batch;
        let sequences = self.batch.sequences();
        let Config { heads_kv, chosen, .. } = self.config;
        let mut memory = Memory::new(&machine.device);
        memory.add("scores", &[sequences, heads_kv, self.tokens], gap, Some(&self.scores))?;
        storage.add_to(&mut memory, cu_seqlens_k, layer.block_size())?;
        add_key_lengths(&mut memory, storage, &self.batch.lengths_of_keys())?;
        memory.add::<i32>("token_indices", &[sequences, heads_kv, chosen], gap, None)?;
        if self.with_workspace {
            let bytes = layer.tokens_workspace_size(sequences, 0, self.tokens);
            memory.add::<u32>("workspace", &[bytes / 4], 0, None)?;
        }
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let scores = memory.tensor("scores");
        let mut args = ChooseTokensArgs::new(scores, keys(memory), memory.tensor_mut("token_indices"));
        (args.init_tokens, args.local_tokens) = (self.config.init_tokens, self.config.local_tokens);
        args.workspace = memory.get_mut("workspace");
        args.status = memory.get_mut("status");
        submit(machine, layer, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<TokensRun> {
        Ok(TokensRun {
            indices: memory.read("token_indices")?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    fn judge(&self, run: &TokensRun, reference: &Vec<i32>) -> Judgement {
        let mut pairs = run.indices.iter().zip(reference);
        let failure = pairs.position(|(got, expected)| got != expected).map(|at| {
            let (row, entry) = (at / self.config.chosen, at % self.config.chosen);
            format!(
                "entry {entry} of list {row} is {} instead of {}",
                run.indices[at], reference[at]
            )
        });
        Judgement {
            failure,
            ..Judgement::default()
        }
    }

    fn refused(&self, _: &Vec<i32>) -> Status {
        let lengths = self.batch.key_lengths().into_iter();
        let refused = lengths.filter(|&length| length as usize > self.tokens).count();
        Status::from([0, 0, refused as u32, 0])
    }
}

impl Run for TokensRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &TokensRun) -> Option<String> {
        (self.indices != other.indices).then(|| "token_indices".into())
    }
}

/// Ragged rows, some of which are shorter than a list, and rows that are cut into pieces.
pub(super) fn samples(seed: u64) -> Vec<TokensProblem> {
    let config = |heads_kv, chosen, init_tokens, local_tokens| Config {
        heads_kv,
        chosen,
        init_tokens,
        local_tokens,
    };
    let short = TokensProblem::new(config(2, 100, 3, 7), &[2500, 0, 100, 101, 1], 1, seed);
    let forced = TokensProblem::new(config(1, 8, 2, 6), &[300, 7], 0, seed);
    let (ties, normal) = ([40_000, 2_000], [33_000]);
    vec![
        TokensProblem {
            batch: short.batch.clone().paged(16),
            ..short
        },
        forced,
        TokensProblem::new(config(1, 16_384, 5, 1000), &ties, 1, seed),
        TokensProblem::new(config(2, 40, 0, 0), &normal, 0, seed),
    ]
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct TokensCase {
    pub config: Config,
    pub lengths: Vec<usize>,
    /// Which of the [`KINDS`].
    pub scores: usize,
    /// Tokens that have scores beside those that sequences have, less two: sometimes there are too few.
    pub spare: usize,
    pub storing: Storing,
    pub with_workspace: bool,
    pub packing: Packing,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl Described for TokensCase {
    type Problem = TokensProblem;

    fn problem(&self) -> TokensProblem {
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let tokens = (longest + self.spare).saturating_sub(2);
        let rows = self.lengths.len() * self.config.heads_kv;
        TokensProblem {
            config: self.config,
            scores: given_scores(self.scores, rows, tokens, self.seed).scores,
            tokens,
            batch: Batch::new(&vec![0; self.lengths.len()], &self.lengths).stored(self.storing),
            with_workspace: self.with_workspace,
            packing: self.packing,
        }
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

/// Rows of any length, and scores of every kind.
pub(super) fn random() -> BoxedStrategy<TokensCase> {
    let length = prop_oneof![1 => Just(0usize), 5 => 1usize..3000, 1 => 16_000usize..40_000];
    let lengths = prop::collection::vec(length, 1..=3);
    let chosen = prop_oneof![3 => 1usize..300, 1 => 300usize..20_000];
    let config = (1usize..=2, chosen, 0usize..=8, 0usize..=8).prop_map(|(heads_kv, chosen, init, local)| Config {
        heads_kv,
        chosen,
        init_tokens: chosen * init / 16,
        local_tokens: chosen * local / 16,
    });
    let rest = (any::<bool>(), packings(), seeds(), spoils());
    let case = |(config, lengths, scores, spare, storing, (with_workspace, packing, seed, spoiled))| TokensCase {
        config,
        lengths,
        scores,
        spare,
        storing,
        with_workspace,
        packing,
        seed,
        spoiled,
    };
    (config, lengths, 0..KINDS, 1usize..6, storings(), rest)
        .prop_map(case)
        .boxed()
}
