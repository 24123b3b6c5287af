//! Compaction of kept keys as data.

use super::append_keys::AppendRun;
use super::gather_rows::{Kept, KeptCase, KeptRun, KeptTokens, kept_cases, kept_tokens};
use crate::batch::Storing;
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::problem::{Described, Problem, submit};
use crate::storage::{Content, keys};
use crate::tolerance::{Judgement, Precision};
use proptest::prelude::*;
use sala_kernels::reference::compact_keys::{Compaction, Moved, compact_keys};
use sala_kernels::{CompactKeysArgs, Result, SparseLayer, Status};
use std::time::Duration;

/// A compaction.
#[derive(Clone, Debug)]
pub struct CompactProblem(pub KeptTokens);

impl Problem for CompactProblem {
    type Layer = SparseLayer;
    type Run = KeptRun;
    type Reference = Kept;

    fn packed(mut self, packing: Packing) -> Self {
        self.0.packing = packing;
        self
    }

    fn reference(&self) -> Kept {
        let KeptTokens { heads, dim, .. } = self.0;
        let Compaction { moved, wrong } = compact_keys(&self.0.indices, &self.0.lengths(), heads);
        let mut bad = 0;
        let [k, v] = [&self.0.k, &self.0.v].map(|values| {
            let before = self.0.stored(values);
            let mut after = before.clone();
            bad = 0;
            for Moved {
                sequence,
                head,
                from,
                to,
            } in moved.iter().filter(|moved| moved.from != moved.to)
            {
                let rows = [from, to].map(|&row| before.row(*sequence, row));
                let [Some(from), Some(to)] = rows else {
                    bad += 1;
                    continue;
                };
                let of_head = head * dim..(head + 1) * dim;
                after.bits[to][of_head.clone()].copy_from_slice(&before.bits[from][of_head]);
            }
            after
        });
        let scores = self.0.scores.as_ref().map_or(Vec::new(), |(scores, tokens)| {
            let mut after = scores.clone();
            for &Moved {
                sequence,
                head,
                from,
                to,
            } in &moved
            {
                let first = (sequence * heads + head) * tokens;
                after[first + to] = scores[first + from];
            }
            after
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
        self.0.upload(machine)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let [k, v] = ["k", "v"].map(|name| memory.tensor_mut(name));
        let mut args = CompactKeysArgs::new(k, v, keys(memory), memory.tensor("token_indices"));
        args.scores = memory.get_mut("scores");
        args.status = memory.get_mut("status");
        submit(machine, layer, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<KeptRun> {
        let rows = AppendRun::read(memory, &self.0.batch.places(Content::Keys), elapsed)?;
        let scores = self.0.read_scores(memory, "scores")?;
        Ok(KeptRun { rows, scores })
    }

    fn judge(&self, run: &KeptRun, kept: &Kept) -> Judgement {
        run.judge(kept)
    }

    fn refused(&self, kept: &Kept) -> Status {
        kept.status
    }
}

pub(super) fn samples(seed: u64) -> Vec<CompactProblem> {
    // One of more rows than a block moves at a time, twice over.
    let many = KeptTokens::random(Precision::Bf16, [1, 64], &[2600], 2100, Storing::Cached, seed);
    let calls = kept_tokens(seed).into_iter().chain([many]);
    calls.map(CompactProblem).collect()
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct CompactCase(pub KeptCase);

impl Described for CompactCase {
    type Problem = CompactProblem;

    fn problem(&self) -> CompactProblem {
        CompactProblem(self.0.tokens())
    }

    fn spoiled(&self) -> Option<u64> {
        self.0.spoiled
    }
}

pub(super) fn random() -> BoxedStrategy<CompactCase> {
    kept_cases().prop_map(CompactCase).boxed()
}
