//! What a step tells the kernels: lengths, tables, slots and paths, in tensors that are allocated once and whose places never change.

use crate::lists::{Lists, slot_number, sums};
use crate::model::CAPACITY;
use crate::pool::PAGE;
use crate::scheduler::{PREFILL_ROWS, Scheduler, Settings, Step};
use crate::speculate::{Accepted, Drafter, Speculation};
use demos::array::Array;
use sala_kernels::{Device, Keys, Result, Sequences, SwitchLen, Tensor};
use std::ops::Range;

/// Pages of a sequence.
pub const MAX_PAGES: usize = CAPACITY / PAGE;
/// Pages that a chunk fills.
pub const MAX_CHECKPOINTS: usize = PREFILL_ROWS / PAGE;

/// All that a step's launches depend on but for the contents of tensors. Steps that only decode come in a few sizes, each of which a CUDA graph
/// can be captured of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Rows of a decoding sequence.
    pub width: usize,
    /// Decoding sequences, padding included. Their rows come first.
    pub decode: usize,
    /// Sequences with a chunk of their prompt.
    pub prefill: usize,
    pub prefill_rows: usize,
}

impl Shape {
    pub fn decode_rows(&self) -> usize {
        self.decode * self.width
    }

    pub fn rows(&self) -> usize {
        self.decode_rows() + self.prefill_rows
    }
}

/// Sequences of a step, and what the calls of its layers are told of them.
pub struct Part<'a> {
    pub sequences: Sequences<'a>,
    /// Keys before the step.
    pub base: Tensor<'a>,
    pub switch_len: Option<SwitchLen<'a>>,
    pub state_in: Tensor<'a>,
    pub state_out: Tensor<'a>,
    /// No sequence has more rows.
    pub longest: usize,
    /// Their rows.
    pub rows: Range<usize>,
}

/// The tensors of a step.
pub struct Inputs {
    pub shape: Shape,
    pub speculation: Speculation,
    /// The tokens of all rows.
    pub tokens: Vec<u8>,
    /// Where rows begin: of all sequences, and of those with chunks alone.
    cu_seqlens: Array,
    cu_seqlens_prefill: Array,
    /// Keys before the step, with its rows, and with those of them that were accepted.
    base: Array,
    seqlens_k: Array,
    committed: Array,
    page_table: Array,
    pub positions: Array,
    /// Slots that linear layers start from, and that they leave states in.
    state_in: Array,
    state_out: Array,
    checkpoints: Array,
    parent: Array,
    accepted: Array,
    path: Array,
}

impl Inputs {
    pub fn new(device: &Device, settings: &Settings) -> Result<Inputs> {
        let (batch, width) = (settings.batch, settings.speculation.width());
        let list = |shape: &[usize]| Array::zeros::<i32>(device, shape);
        let mut inputs = Inputs {
            shape: Shape::default(),
            speculation: settings.speculation,
            tokens: Vec::new(),
            cu_seqlens: list(&[batch + 1])?,
            cu_seqlens_prefill: list(&[batch + 1])?,
            base: list(&[batch])?,
            seqlens_k: list(&[batch])?,
            committed: list(&[batch])?,
            page_table: list(&[batch, MAX_PAGES])?,
            positions: list(&[max_rows(settings)])?,
            state_in: list(&[batch])?,
            state_out: list(&[batch])?,
            checkpoints: list(&[batch, MAX_CHECKPOINTS])?,
            parent: list(&[batch, width])?,
            accepted: list(&[batch])?,
            path: list(&[batch, width])?,
        };
        inputs.parent.write(&settings.speculation.parents().repeat(batch))?;
        Ok(inputs)
    }

    /// Describes a step.
    pub fn describe(&mut self, step: &Step, scheduler: &Scheduler, drafter: &Drafter, batch: usize) -> Result<()> {
        let width = self.speculation.width();
        let chunks = || {
            step.prefill
                .iter()
                .map(|chunk| (chunk, &scheduler.running[chunk.sequence]))
        };
        // A step with chunks is as large as they are; one without is padded, so that there are few sizes.
        let decode = match step.prefill.is_empty() {
            true => step.decode.len().next_power_of_two().min(batch),
            false => step.decode.len(),
        };
        self.shape = Shape {
            width,
            decode,
            prefill: step.prefill.len(),
            prefill_rows: step.prefill.iter().map(|chunk| chunk.end - chunk.start).sum(),
        };
        let mut lists = Lists::default();
        for &index in &step.decode {
            let sequence = &scheduler.running[index];
            let (base, slot) = (sequence.computed, slot_number(sequence.slot));
            lists
                .tokens
                .extend(drafter.drafts(self.speculation, sequence.tokens[base]));
            let position = |row| (base + self.speculation.depth(row)) as i32;
            lists.positions.extend((0..width).map(position));
            lists.sequence(base, base + width, &sequence.pages, [slot; 2]);
        }
        for _ in step.decode.len()..decode {
            lists.padding(width);
        }
        for (chunk, sequence) in chunks() {
            lists.tokens.extend(&sequence.tokens[chunk.start..chunk.end]);
            lists.positions.extend(chunk.start as i32..chunk.end as i32);
            let from = sequence.checkpoint.or(sequence.slot.filter(|_| chunk.start > 0));
            let slots = [slot_number(from), slot_number(sequence.slot)];
            lists.sequence(chunk.start, chunk.end, &sequence.pages, slots);
            lists.chunk(&chunk.checkpoints);
        }
        self.write(lists)
    }

    fn write(&mut self, lists: Lists) -> Result<()> {
        self.cu_seqlens.write(&sums(&lists.rows))?;
        self.cu_seqlens_prefill.write(&sums(&lists.rows[self.shape.decode..]))?;
        self.base.write(&lists.base)?;
        self.seqlens_k.write(&lists.seqlens_k)?;
        self.page_table.write(&lists.page_table)?;
        self.positions.write(&lists.positions)?;
        self.state_in.write(&lists.state_in)?;
        self.state_out.write(&lists.state_out)?;
        self.checkpoints.write(&lists.checkpoints)?;
        self.tokens = lists.tokens;
        Ok(())
    }

    /// Tells what was accepted of the drafts of `base` sequences. On a GPU the sampler's kernel would write this: no launch depends on it.
    pub fn write_accepted(&mut self, accepted: &[Accepted], base: &[usize]) -> Result<()> {
        let (width, padding) = (self.shape.width, self.shape.decode - accepted.len());
        let mut counts: Vec<i32> = accepted.iter().map(|accepted| accepted.path.len() as i32).collect();
        let mut committed: Vec<i32> = counts
            .iter()
            .zip(base)
            .map(|(count, &base)| count + base as i32)
            .collect();
        let row = |accepted: &Accepted| {
            let path = accepted.path.iter().map(|&row| row as i32);
            path.chain(std::iter::repeat(-1)).take(width).collect::<Vec<_>>()
        };
        let path: Vec<i32> = accepted.iter().flat_map(row).collect();
        counts.extend(vec![0; padding]);
        committed.extend(vec![0; padding]);
        self.accepted.write(&counts)?;
        self.committed.write(&committed)?;
        self.path.write(&path)
    }

    /// All sequences of the step.
    pub fn all(&self) -> Result<Part<'_>> {
        let longest = if self.shape.prefill > 0 {
            PREFILL_ROWS
        } else {
            self.shape.width
        };
        let places = 0..self.shape.decode + self.shape.prefill;
        self.part(&self.cu_seqlens, places, 0..self.shape.rows(), longest)
    }

    /// Those that decode, whose rows are the first.
    pub fn decoding(&self) -> Result<Part<'_>> {
        let (places, rows) = (0..self.shape.decode, 0..self.shape.decode_rows());
        self.part(&self.cu_seqlens, places, rows, self.shape.width)
    }

    /// Those with chunks, whose rows are the last.
    pub fn prefilling(&self) -> Result<Part<'_>> {
        let places = self.shape.decode..self.shape.decode + self.shape.prefill;
        let rows = self.shape.decode_rows()..self.shape.rows();
        self.part(&self.cu_seqlens_prefill, places, rows, PREFILL_ROWS)
    }

    fn part<'a>(
        &'a self,
        cu_seqlens: &'a Array,
        places: Range<usize>,
        rows: Range<usize>,
        longest: usize,
    ) -> Result<Part<'a>> {
        let keys = Keys::paged(self.seqlens_k.rows(&places)?, self.page_table.rows(&places)?);
        let mut sequences = Sequences::new(cu_seqlens.rows(&(0..places.len() + 1))?, keys);
        sequences.max_seqlen_q = Some(longest);
        sequences.max_seqlen_k = Some(CAPACITY);
        let base = self.base.rows(&places)?;
        Ok(Part {
            sequences,
            base,
            // No step crosses `dense_len`, so that a token's position says alone whether it attends densely.
            switch_len: Some(SwitchLen::Lengths(base)),
            state_in: self.state_in.rows(&places)?,
            state_out: self.state_out.rows(&places)?,
            longest,
            rows,
        })
    }

    /// The keys of decoding sequences with what was accepted.
    pub fn committed(&self) -> Result<Keys<'_>> {
        let places = 0..self.shape.decode;
        Ok(Keys::paged(
            self.committed.rows(&places)?,
            self.page_table.rows(&places)?,
        ))
    }

    /// A slot for each page that the chunks fill.
    pub fn checkpoints(&self) -> Result<Tensor<'_>> {
        self.checkpoints.rows(&(0..self.shape.prefill))
    }

    /// The tree that the rows of a sequence are; none for a chain.
    pub fn parent(&self) -> Result<Option<Tensor<'_>>> {
        let is_tree = self.speculation == Speculation::Tree && self.shape.decode > 0;
        is_tree.then(|| self.parent.rows(&(0..self.shape.decode))).transpose()
    }

    pub fn accepted(&self) -> Result<Tensor<'_>> {
        self.accepted.rows(&(0..self.shape.decode))
    }

    pub fn path(&self) -> Result<Tensor<'_>> {
        self.path.rows(&(0..self.shape.decode))
    }
}

/// Rows that a step has at most.
pub fn max_rows(settings: &Settings) -> usize {
    settings.batch * settings.speculation.width() + PREFILL_ROWS
}
