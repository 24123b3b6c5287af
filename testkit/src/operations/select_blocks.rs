//! Block selection by compressed keys as data: run calls on a device, or on the reference.

pub mod cases;
pub mod random;

use self::cases::SelectionInputs;
use crate::batch::{Batch, Trees};
use crate::devices::Machine;
use crate::memory::{Memory, POISON, Packing};
use crate::numbers::Numbers;
use crate::operations::compress_keys::{layer, rows_by_sequence};
use crate::problem::{Problem, Run, same_bits, submit};
use crate::storage::KeyRows;
use crate::tolerance::{Judgement, SelectionCase, is_near_score, score_share, selection};
use crate::values::Values;
use sala_kernels::reference::compress_keys::{CompressedKeys, Window};
use sala_kernels::reference::select_blocks::{BlockScores, Config, Position, block_scores, select_blocks};
use sala_kernels::{Entry, Result, SelectBlocksArgs, SparseLayer, Status};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// What an entry of a list holds that nothing has written: no index that a kernel writes.
pub const UNWRITTEN: i32 = (POISON as i32) << 16 | POISON as i32;

/// A call of block selection.
#[derive(Clone, Debug)]
pub struct SelectProblem {
    pub config: Config,
    /// `[total_q, heads_q, dim]`.
    pub q: Values,
    pub k1: KeyRows,
    pub k2: Option<KeyRows>,
    pub batch: Batch,
    /// `[total_q]`.
    pub scale_factor: Option<Vec<f32>>,
    /// How the tensors lie in memory.
    pub packing: Packing,
    /// Blocks whose scores are asked for, if any are.
    pub score_blocks: Option<usize>,
    pub entry: Entry,
    /// Bytes of workspace, if the call is given one.
    pub workspace: Option<usize>,
}

/// What a selection leaves behind.
#[derive(Clone, Debug)]
pub struct Selected {
    /// `[total_q, heads_kv, list_len]`; [`UNWRITTEN`] where nothing was written.
    pub indices: Vec<i32>,
    /// `[total_q, heads_kv, score_blocks]`, if asked for.
    pub scores: Option<Vec<f32>>,
    pub status: Status,
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

/// What a selection should give.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    pub scores: BlockScores,
    /// `[total_q, heads_kv, list_len]`.
    pub lists: Vec<i32>,
}

impl SelectProblem {
    pub fn total_q(&self) -> usize {
        self.q.len() / (self.config.heads_q * self.config.dim)
    }

    /// The same call as one of few tokens, with the workspace that lets it be split.
    ///
    /// # Panics
    /// Where there is no such layer.
    pub fn decode(&self) -> SelectProblem {
        self.with_workspace(Entry::Decode)
    }

    /// The same call by this entry, with its workspace.
    ///
    /// # Panics
    /// Where there is no such layer.
    pub fn with_workspace(&self, entry: Entry) -> SelectProblem {
        let layer = self.layer().unwrap_or_else(|error| panic!("{error}"));
        let [queries, keys] = self.batch.max_seqlens;
        let queries = queries.unwrap_or(self.total_q()).min(self.total_q());
        let keys = keys.unwrap_or(self.batch.capacity());
        SelectProblem {
            entry,
            workspace: Some(layer.workspace_size(entry, self.batch.sequences(), queries, keys, None)),
            ..self.clone()
        }
    }

    /// The same call as one of trees at random.
    pub fn decode_trees(&self, numbers: &mut Numbers) -> SelectProblem {
        let mut step = self.decode();
        let columns = step.batch.max_seqlens[0].unwrap_or(step.total_q()) + numbers.below(2);
        step.batch.trees = Some(Trees::random(numbers, step.batch.sequences(), columns));
        step
    }

    /// Where the query tokens stand whose sequences choose blocks.
    fn positions(&self) -> Vec<Option<Position>> {
        self.batch.choosing(self.total_q())
    }

    /// The scores that the compressed keys of the call give.
    fn scores(&self) -> BlockScores {
        let block_size = self.config.block_size;
        let numbers = |bits: Vec<u16>| Values::from_bits(self.q.precision(), bits).to_f64();
        let keys = |rows: &KeyRows, window| {
            let sequences = rows_by_sequence(rows, window, &self.batch.cu_seqlens_k).into_iter();
            let sequences = sequences.map(numbers).collect();
            CompressedKeys { sequences }
        };
        let k1 = keys(&self.k1, Window::fine(block_size));
        let absent = CompressedKeys { sequences: Vec::new() };
        let k2 = self
            .k2
            .as_ref()
            .map_or(absent, |k2| keys(k2, Window::coarse(block_size)));
        let factors = self.scale_factor.as_deref();
        block_scores(&self.config, &self.q.to_f64(), &k1, &k2, &self.positions(), factors)
    }
}

impl Problem for SelectProblem {
    type Layer = SparseLayer;
    type Run = Selected;
    type Reference = Selection;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Selection {
        let scores = self.scores();
        let lists = select_blocks(&self.config, &scores, &self.positions());
        Selection { scores, lists }
    }

    fn layer(&self) -> Result<SparseLayer> {
        layer(&self.config, self.q.dtype(), self.batch.dense_len)
    }

    fn upload(&self, machine: &Machine) -> Result<Memory> {
        let Config {
            heads_q, heads_kv, dim, ..
        } = self.config;
        let (total_q, precision, packing) = (self.total_q(), self.q.precision(), self.packing);
        let mut memory = Memory::new(&machine.device);
        memory.add_rows(precision, packing, [total_q, heads_q], &[("q", dim, Some(&self.q))])?;
        memory.add_keys(precision, packing, &[("k1", &self.k1)])?;
        if let Some(k2) = &self.k2 {
            memory.add_keys(precision, packing, &[("k2", k2)])?;
        }
        self.batch.add_to(&mut memory, self.config.block_size)?;
        if let Some(factors) = &self.scale_factor {
            memory.add("scale_factor", &[total_q], 0, Some(factors))?;
        }
        let lists = [total_q, heads_kv, self.config.list_len()];
        memory.add::<i32>("block_indices", &lists, packing.gap(), None)?;
        if let Some(blocks) = self.score_blocks {
            memory.add::<f32>("scores", &[total_q, heads_kv, blocks], packing.gap(), None)?;
        }
        if let Some(bytes) = self.workspace {
            memory.add::<u32>("workspace", &[bytes / 4], 0, None)?;
        }
        memory.add_status()?;
        Ok(memory)
    }

    fn submit(&self, machine: &Machine, layer: &SparseLayer, memory: &mut Memory) -> Result<()> {
        memory.take_back();
        let mut args = SelectBlocksArgs::new(
            memory.tensor("q"),
            memory.tensor("k1"),
            memory.get("k2"),
            self.batch.view(memory),
            self.batch.switch_len(memory),
            memory.tensor_mut("block_indices"),
        );
        args.compressed = self.batch.storage.compressed(memory, self.config.block_size);
        args.scale_factor = memory.get("scale_factor");
        args.entry = self.entry;
        args.parent = memory.get("parent");
        args.scores = memory.get_mut("scores");
        args.workspace = memory.get_mut("workspace");
        args.status = memory.get_mut("status");
        submit(machine, layer, args)
    }

    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<Selected> {
        Selected::read(memory, elapsed)
    }

    fn judge(&self, run: &Selected, reference: &Selection) -> Judgement {
        let case = SelectionCase {
            config: &self.config,
            positions: &self.positions(),
            scores: &reference.scores,
            margin: None,
            own: Some((
                run.scores.as_deref().unwrap_or_default(),
                self.score_blocks.unwrap_or(0),
            )),
        };
        let lists = selection(case, &run.indices, &reference.lists);
        Judgement {
            selection: Some(lists.count()),
            failure: self.wrong_score(run, &reference.scores).or(lists.failure),
            shares: self.worst_score(run, &reference.scores),
            ..Judgement::default()
        }
    }

    fn refused(&self, _: &Selection) -> Status {
        Status::default()
    }
}

impl SelectProblem {
    /// Every score that was asked for, where it is, and what it should be. Blocks that no sequence has score −∞.
    fn compared<'a>(
        &self,
        run: &'a Selected,
        expected: &'a BlockScores,
    ) -> impl Iterator<Item = (usize, usize, [f32; 2])> + 'a {
        let scores = run.scores.as_deref().unwrap_or_default();
        let rows = scores.chunks(self.score_blocks.unwrap_or(0).max(1)).enumerate();
        rows.flat_map(move |(row, scores)| {
            let expected = &expected.scores[row * expected.blocks..(row + 1) * expected.blocks];
            scores.iter().enumerate().map(move |(block, &score)| {
                let expected = expected.get(block).copied().unwrap_or(f32::NEG_INFINITY);
                (row, block, [score, expected])
            })
        })
    }

    /// The first score that is not the expected one.
    fn wrong_score(&self, run: &Selected, expected: &BlockScores) -> Option<String> {
        let mut compared = self.compared(run, expected);
        let (row, block, [score, expected]) =
            compared.find(|(_, _, [got, expected])| !is_near_score(*got, *expected))?;
        let (token, head) = (row / self.config.heads_kv, row % self.config.heads_kv);
        let position = self.positions()[token];
        Some(format!(
            "token {token} (at {position:?}), head {head}: block {block} scores {score} instead of {expected}"
        ))
    }

    /// The share of their bound that errors of scores take.
    fn worst_score(&self, run: &Selected, expected: &BlockScores) -> BTreeMap<&'static str, f64> {
        let shares = self
            .compared(run, expected)
            .map(|(_, _, [got, expected])| score_share(got, expected));
        shares
            .reduce(f64::max)
            .map(|share| ("score", share))
            .into_iter()
            .collect()
    }
}

impl Selected {
    pub(super) fn read(memory: &Memory, elapsed: Duration) -> Result<Selected> {
        let scores = memory.get("scores").map(|_| memory.read("scores"));
        Ok(Selected {
            indices: memory.read("block_indices")?,
            scores: scores.transpose()?,
            status: memory.status()?,
            is_intact: memory.is_intact()?,
            elapsed,
        })
    }

    /// The lists and scores of a range of the `total_q` query tokens of the call.
    pub fn part(&self, total_q: usize, tokens: Range<usize>) -> Selected {
        fn rows<T: Copy>(values: &[T], total: usize, tokens: &Range<usize>) -> Vec<T> {
            let row = values.len() / total;
            values[tokens.start * row..tokens.end * row].to_vec()
        }
        Selected {
            indices: rows(&self.indices, total_q, &tokens),
            scores: self.scores.as_ref().map(|scores| rows(scores, total_q, &tokens)),
            ..self.clone()
        }
    }
}

impl Run for Selected {
    fn status(&self) -> Status {
        self.status
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }

    fn difference(&self, other: &Selected) -> Option<String> {
        if self.indices != other.indices {
            return Some("block_indices".into());
        }
        let [a, b] = [self, other].map(|run| run.scores.as_deref().unwrap_or_default());
        (!same_bits(a, b)).then(|| "scores".into())
    }
}

/// Selections by the compressed keys that the definition gives, with the scores of all blocks and one more, and those of trees of drafts.
pub(super) fn samples(seed: u64) -> Vec<SelectProblem> {
    let mut numbers = Numbers::new(seed);
    let select = |inputs: SelectionInputs| {
        let keys = inputs.compress().reference();
        inputs.select(&keys, Some(inputs.blocks() + 1))
    };
    let whole = cases::inputs(seed).map(select);
    let few = whole.iter().filter(|call| call.batch.max_seqlens[0] <= Some(16));
    let trees: Vec<_> = few.map(|call| call.decode_trees(&mut numbers)).collect();
    whole.into_iter().chain(trees).collect()
}
