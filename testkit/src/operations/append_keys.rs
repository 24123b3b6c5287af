//! Appending of keys as data.

use super::sparse_attention::cases::sequences;
use crate::batch::{Batch, Storing, storings};
use crate::devices::Machine;
use crate::memory::{Memory, POISON, Packing};
use crate::numbers::Numbers;
use crate::problem::{Described, Problem, Run, submit};
use crate::property::{packings, precisions, seeds, spoils};
use crate::storage::{Content, KeyRows, Places, Storage};
use crate::tolerance::{Judgement, Precision};
use crate::values::Values;
use proptest::prelude::*;
use sala_kernels::reference::append_keys::{Appended, append_keys};
use sala_kernels::{AppendKeysArgs, AttentionShape, Result, SparseLayer, Status};
use std::time::Duration;

/// Rows that are appended to stores that nothing has filled yet.
#[derive(Clone, Debug)]
pub struct AppendProblem {
    pub heads: usize,
    pub dim: usize,
    /// `[total_q, heads, dim]`.
    pub k_new: Values,
    /// Likewise.
    pub v_new: Values,
    pub batch: Batch,
    /// How new rows and stores lie in memory.
    pub packing: Packing,
}

/// What a call leaves behind.
#[derive(Clone, Debug)]
pub struct AppendRun {
    pub k: KeyRows,
    pub v: KeyRows,
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl AppendProblem {
    /// Normal rows.
    pub fn normal(precision: Precision, heads: usize, dim: usize, batch: Batch, seed: u64) -> AppendProblem {
        let mut numbers = Numbers::new(seed);
        let rows = batch.cu_seqlens_q.last().map_or(0, |&end| end as usize) * heads;
        let mut tensor = || Values::round(precision, numbers.normals(rows * dim, 1.0));
        AppendProblem {
            heads,
            dim,
            k_new: tensor(),
            v_new: tensor(),
            batch,
            packing: Packing::Separate,
        }
    }

    fn total_q(&self) -> usize {
        self.k_new.len() / (self.heads * self.dim)
    }

    fn empty(&self) -> KeyRows {
        KeyRows::empty(self.batch.places(Content::Keys), self.heads, self.dim)
    }

    /// Where rows go, and for how many there is no page.
    fn appended(&self) -> (Vec<Appended>, u32) {
        let Batch { cu_seqlens_q, .. } = &self.batch;
        let rows = append_keys(cu_seqlens_q, &self.batch.key_lengths(), self.batch.capacity());
        let stored = self.empty();
        let (good, bad): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|row| stored.row(row.sequence, row.position).is_some());
        (good, bad.len() as u32)
    }
}

impl AppendRun {
    pub(super) fn read(memory: &Memory, places: &Places, elapsed: Duration) -> Result<AppendRun> {
        Ok(AppendRun {
            k: memory.keys("k", places)?,
            v: memory.keys("v", places)?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    /// Every row there is, to the bit: also those that should be as they were.
    pub(super) fn judge(&self, [k, v]: [&KeyRows; 2]) -> Judgement {
        let wrong = |name: &str, got: &KeyRows, expected: &KeyRows| {
            let mut pairs = got.bits.iter().zip(&expected.bits);
            let at = pairs.position(|(got, expected)| got != expected)?;
            Some(format!(
                "{name}: element {at} is {:#x}, not {:#x}",
                got.bits[at], expected.bits[at]
            ))
        };
        Judgement {
            failure: wrong("k", &self.k, k).or_else(|| wrong("v", &self.v, v)),
            ..Judgement::default()
        }
    }
}

impl Problem for AppendProblem {
    type Layer = SparseLayer;
    type Run = AppendRun;
    type Reference = [KeyRows; 2];

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> [KeyRows; 2] {
        let length = self.heads * self.dim;
        let rows = self.appended().0;
        [&self.k_new, &self.v_new].map(|new| {
            let (new, mut stored) = (new.to_bits(), self.empty());
            for row in &rows {
                let to = stored.row(row.sequence, row.position).expect("rows with a place");
                stored.bits[to].copy_from_slice(&new[row.row * length..(row.row + 1) * length]);
            }
            stored
        })
    }

    fn layer(&self) -> Result<SparseLayer> {
        let shape = AttentionShape {
            heads_q: self.heads,
            heads_kv: self.heads,
            dim: self.dim,
        };
        SparseLayer::builder(self.k_new.dtype(), shape, 0).build()
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let (precision, packing) = (self.k_new.precision(), self.packing);
        let mut memory = Memory::new(&machine.device);
        let new = [
            ("k_new", self.dim, Some(&self.k_new)),
            ("v_new", self.dim, Some(&self.v_new)),
        ];
        memory.add_rows(precision, packing, [self.total_q(), self.heads], &new)?;
        let empty = self.empty();
        memory.add_keys(precision, packing, &[("k", &empty), ("v", &empty)])?;
        self.batch.add_to(&mut memory, self.layer()?.block_size())?;
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let [k_new, v_new] = ["k_new", "v_new"].map(|name| memory.tensor(name));
        let [k, v] = ["k", "v"].map(|name| memory.tensor_mut(name));
        let mut args = AppendKeysArgs::new(k_new, v_new, k, v, self.batch.view(memory));
        args.status = memory.get_mut("status");
        submit(machine, layer, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<AppendRun> {
        let places = self.empty().places;
        AppendRun::read(memory, &places, elapsed)
    }

    fn judge(&self, run: &AppendRun, [k, v]: &[KeyRows; 2]) -> Judgement {
        run.judge([k, v])
    }

    fn refused(&self, _: &[KeyRows; 2]) -> Status {
        let room = self.batch.capacity() as i64;
        let lengths = self.batch.query_lengths().into_iter().zip(self.batch.key_lengths());
        let lengths = lengths.filter(|&(queries, keys)| queries > 0 && (queries > keys || i64::from(keys) > room));
        Status::from([self.appended().1 * self.heads as u32, 0, lengths.count() as u32, 0])
    }
}

impl Run for AppendRun {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &AppendRun) -> Option<String> {
        if self.k != other.k {
            return Some("k".into());
        }
        (self.v != other.v).then(|| "v".into())
    }
}

/// What nothing was appended to.
pub fn is_untouched(rows: &KeyRows) -> bool {
    rows.bits.iter().all(|&bits| bits == POISON)
}

/// Ragged rows into packed tensors, caches and pages, in both types.
pub(super) fn samples(seed: u64) -> Vec<AppendProblem> {
    let batch = || Batch::new(&[9, 0, 1, 70], &[130, 5, 1, 70]);
    let indexed = Batch {
        storage: Storage::Indexed(131),
        ..batch()
    };
    [
        (Precision::Bf16, 2, 128, batch()),
        (Precision::F16, 3, 64, indexed),
        (Precision::Bf16, 1, 64, batch().paged(1)),
        (Precision::F16, 2, 128, batch().paged(16)),
    ]
    .map(|(precision, heads, dim, batch)| AppendProblem::normal(precision, heads, dim, batch, seed))
    .into()
}

/// A call at random.
#[derive(Clone, Debug)]
pub struct AppendCase {
    pub precision: Precision,
    pub heads: usize,
    pub dim: usize,
    /// Queries and keys of each sequence.
    pub lengths: Vec<(usize, usize)>,
    pub storing: Storing,
    /// Whether the upper bounds are given.
    pub is_bounded: bool,
    pub packing: Packing,
    pub seed: u64,
    pub spoiled: Option<u64>,
}

impl Described for AppendCase {
    type Problem = AppendProblem;

    /// Rows of any bits: NaN and infinities too are copied as they are.
    fn problem(&self) -> AppendProblem {
        let (queries, keys): (Vec<_>, Vec<_>) = self.lengths.iter().copied().unzip();
        let batch = Batch::new(&queries, &keys).stored(self.storing);
        let batch = if self.is_bounded { batch.bounded() } else { batch };
        let plain = AppendProblem::normal(self.precision, self.heads, self.dim, batch, self.seed);
        let mut numbers = Numbers::new(self.seed);
        let mut any = || {
            let bits = (0..plain.k_new.len()).map(|_| numbers.bits() as u16);
            Values::from_bits(self.precision, bits)
        };
        AppendProblem {
            k_new: any(),
            v_new: any(),
            packing: self.packing,
            ..plain
        }
    }

    fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }
}

/// Rows for sequences that have more keys than rows, and fewer, which are refused.
pub(super) fn random() -> BoxedStrategy<AppendCase> {
    let dims = prop::sample::select(vec![64usize, 128]);
    let shape = (precisions(), 1usize..=4, dims, sequences(192), storings());
    let rest = (any::<bool>(), packings(), seeds(), spoils());
    let case = |((precision, heads, dim, lengths, storing), (is_bounded, packing, seed, spoiled))| AppendCase {
        precision,
        heads,
        dim,
        lengths,
        storing,
        is_bounded,
        packing,
        seed,
        spoiled,
    };
    (shape, rest).prop_map(case).boxed()
}
