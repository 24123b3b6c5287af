//! Commitment of the keys of accepted drafts as data.

use super::linear_drafts::random_paths;
use crate::batch::{Batch, Storing, add_key_lengths, storings};
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::Numbers;
use crate::operations::append_keys::AppendRun;
use crate::problem::{Described, Problem, submit};
use crate::property::{packings, precisions, seeds, spoils};
use crate::storage::{Content, KeyRows, keys};
use crate::tolerance::{Judgement, Precision};
use crate::values::Values;
use proptest::prelude::*;
use sala_kernels::reference::commit_keys::{Commitment, Moved, commit_keys};
use sala_kernels::{AttentionShape, CommitKeysArgs, Result, SparseLayer, Status};
use std::time::Duration;

/// Drafts that are accepted, of sequences whose last keys they are.
#[derive(Clone, Debug)]
pub struct CommitProblem {
    pub heads: usize,
    pub dim: usize,
    /// `[total_k, heads, dim]`, however they are stored.
    pub k: Values,
    /// Likewise.
    pub v: Values,
    /// There are no queries.
    pub batch: Batch,
    /// `[batch]`: keys before the drafts.
    pub base: Vec<i32>,
    /// `[batch]`.
    pub accepted: Vec<i32>,
    /// `[batch, drafts]`.
    pub path: Vec<i32>,
    pub drafts: usize,
    /// How stores lie in memory.
    pub packing: Packing,
}

impl CommitProblem {
    /// Drafts of trees at random behind so many keys, some of them accepted. Rows are of any bits.
    pub fn random(
        precision: Precision,
        [heads, dim]: [usize; 2],
        past: &[usize],
        drafts: usize,
        storing: Storing,
        seed: u64,
    ) -> CommitProblem {
        let mut numbers = Numbers::new(seed);
        let lengths: Vec<usize> = past.iter().map(|past| past + drafts).collect();
        let batch = Batch::new(&vec![0; past.len()], &lengths).stored(storing);
        let rows = lengths.iter().sum::<usize>() * heads;
        let mut any = || Values::from_bits(precision, (0..rows * dim).map(|_| numbers.bits() as u16));
        let (k, v) = (any(), any());
        let (accepted, path) = random_paths(&mut numbers, past.len(), drafts);
        CommitProblem {
            heads,
            dim,
            k,
            v,
            batch,
            base: past.iter().map(|&past| past as i32).collect(),
            accepted,
            path,
            drafts,
            packing: Packing::Separate,
        }
    }

    fn stored(&self, values: &Values) -> KeyRows {
        let places = self.batch.places(Content::Keys);
        KeyRows::store(places, values, &self.batch.cu_seqlens_k, self.heads, self.dim)
    }

    /// What moves, and what is refused.
    pub fn commitment(&self) -> Commitment {
        let lengths = self.batch.key_lengths();
        commit_keys(&lengths, &self.base, &self.accepted, &self.path, self.drafts)
    }
}

impl Problem for CommitProblem {
    type Layer = SparseLayer;
    type Run = AppendRun;
    type Reference = [KeyRows; 2];

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> [KeyRows; 2] {
        let moved = self.commitment().moved;
        [&self.k, &self.v].map(|values| {
            let before = self.stored(values);
            let mut after = before.clone();
            for Moved { sequence, from, to } in &moved {
                let [from, to] = [from, to].map(|&row| before.row(*sequence, row));
                if let (Some(from), Some(to)) = (from, to) {
                    after.bits[to].copy_from_slice(&before.bits[from]);
                }
            }
            after
        })
    }

    fn layer(&self) -> Result<SparseLayer> {
        let shape = AttentionShape {
            heads_q: self.heads,
            heads_kv: self.heads,
            dim: self.dim,
        };
        SparseLayer::builder(self.k.dtype(), shape, 0).build()
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let mut memory = Memory::new(&machine.device);
        let (k, v) = (self.stored(&self.k), self.stored(&self.v));
        memory.add_keys(self.k.precision(), self.packing, &[("k", &k), ("v", &v)])?;
        let Batch {
            storage, cu_seqlens_k, ..
        } = &self.batch;
        storage.add_to(&mut memory, cu_seqlens_k, self.layer()?.block_size())?;
        add_key_lengths(&mut memory, storage, &self.batch.lengths_of_keys())?;
        let batch = self.base.len();
        memory.add("base", &[batch], 0, Some(&self.base))?;
        memory.add("accepted", &[batch], 0, Some(&self.accepted))?;
        memory.add("path", &[batch, self.drafts], 0, Some(&self.path))?;
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let [k, v] = ["k", "v"].map(|name| memory.tensor_mut(name));
        let [base, accepted, path] = ["base", "accepted", "path"].map(|name| memory.tensor(name));
        let mut args = CommitKeysArgs::new(k, v, keys(memory), base, accepted, path);
        args.status = memory.get_mut("status");
        submit(machine, layer, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<AppendRun> {
        let places = self.batch.places(Content::Keys);
        AppendRun::read(memory, &places, elapsed)
    }

    fn judge(&self, run: &AppendRun, [k, v]: &[KeyRows; 2]) -> Judgement {
        run.judge([k, v])
    }

    fn refused(&self, _: &[KeyRows; 2]) -> Status {
        let Commitment { moved, refused } = self.commitment();
        let stored = self.stored(&self.k);
        let is_bad = |sequence, row| stored.row(sequence, row).is_none();
        let bad = moved.iter().filter(|moved| {
            moved.from != moved.to && (is_bad(moved.sequence, moved.from) || is_bad(moved.sequence, moved.to))
        });
        Status::from([bad.count() as u32, 0, refused.len() as u32, 0])
    }
}

/// Drafts behind ragged pasts, in stores of every kind.
pub(super) fn samples(seed: u64) -> Vec<CommitProblem> {
    [
        (Precision::Bf16, [2, 128], 16, Storing::Packed),
        (Precision::F16, [3, 64], 5, Storing::Indexed),
        (Precision::Bf16, [1, 64], 16, Storing::Paged(1)),
        (Precision::F16, [2, 128], 9, Storing::Paged(16)),
    ]
    .map(|(precision, shape, drafts, storing)| {
        CommitProblem::random(precision, shape, &[31, 0, 1, 15], drafts, storing, seed)
    })
    .into()
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct CommitCase {
    pub precision: Precision,
    pub heads: usize,
    pub dim: usize,
    pub past: Vec<usize>,
    pub drafts: usize,
    pub storing: Storing,
    pub packing: Packing,
    /// Whether numbers and paths are others than such that can be, here and there.
    pub is_wrong: bool,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl Described for CommitCase {
    type Problem = CommitProblem;

    fn problem(&self) -> CommitProblem {
        let shape = [self.heads, self.dim];
        let mut problem =
            CommitProblem::random(self.precision, shape, &self.past, self.drafts, self.storing, self.seed);
        problem.packing = self.packing;
        let mut numbers = Numbers::new(self.seed ^ 1);
        if self.is_wrong {
            for list in [&mut problem.base, &mut problem.accepted, &mut problem.path] {
                for entry in list.iter_mut() {
                    let near = [entry.wrapping_add(1), entry.wrapping_sub(1)];
                    if numbers.below(4) == 0 {
                        *entry = numbers.pick(&[-1, 0, near[0], near[1], 16, i32::MIN, i32::MAX]);
                    }
                }
            }
        }
        problem
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

/// Drafts of trees of every size, behind pasts of any length and none.
pub(super) fn random() -> BoxedStrategy<CommitCase> {
    let dims = prop::sample::select(vec![64usize, 128]);
    let past = prop::collection::vec(prop_oneof![1 => Just(0usize), 3 => 0usize..200], 1..=4);
    let shape = (precisions(), 1usize..=20, dims, past, 1usize..=16, storings());
    let rest = (packings(), prop::bool::weighted(0.3), seeds(), spoils());
    let case = |((precision, heads, dim, past, drafts, storing), (packing, is_wrong, seed, spoiled))| CommitCase {
        precision,
        heads,
        dim,
        past,
        drafts,
        storing,
        packing,
        is_wrong,
        seed,
        spoiled,
    };
    (shape, rest).prop_map(case).boxed()
}
