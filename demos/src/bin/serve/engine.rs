//! The engine: a step is planned, goes through the layers, and what it gave is sampled, accepted and forked.

use crate::inputs::{Inputs, Shape};
use crate::launcher::{Launcher, Scratch};
use crate::layers::{self, Mixer, Running};
use crate::model::{HIDDEN, Model, VOCABULARY};
use crate::sampler::pick;
use crate::scheduler::{Chunk, Fork, Scheduler, Settings, Step};
use crate::sequence::{Request, Row, Sequence};
use crate::sparse::{self, PageCopy};
use crate::speculate::{Accepted, Drafter, Speculation, accept};
use sala_kernels::{Device, Result, Status};
use std::collections::BTreeMap;

/// What an engine has done.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub steps: usize,
    /// Steps with rows of prompts and of decoding sequences.
    pub mixed: usize,
    pub prompt_tokens: usize,
    /// Tokens that decoding sequences got, and the steps of a sequence that gave them.
    pub decoded: usize,
    pub turns: usize,
    /// The most kernels that a step had in a sparse and in a linear layer.
    pub sparse_kernels: u64,
    pub linear_kernels: u64,
    /// Steps that were launched just as an earlier one of their shape, and shapes of steps that only decode.
    pub replayed: usize,
    pub shapes: usize,
    /// Steps that were launched otherwise than an earlier one of their shape: what a captured graph would get wrong.
    pub differing: usize,
}

/// A device with a model, and the sequences that go through it.
pub struct Engine<'m> {
    model: &'m Model,
    settings: Settings,
    drafter: Drafter,
    pub launcher: Launcher,
    scratch: Scratch,
    layers: Vec<Running<'m>>,
    inputs: Inputs,
    pub scheduler: Scheduler,
    pub record: Record,
    /// The arguments of each launch of a step, by its shape.
    graphs: BTreeMap<Shape, Vec<String>>,
    /// Whether notes are taken for [`crate::check`].
    is_checked: bool,
}

impl<'m> Engine<'m> {
    /// All memory is allocated here.
    pub fn new(
        device: &Device,
        model: &'m Model,
        settings: Settings,
        requests: &[Request],
        is_checked: bool,
    ) -> Result<Engine<'m>> {
        Ok(Engine {
            model,
            settings,
            drafter: Drafter::new(model),
            launcher: Launcher::new(device, is_checked)?,
            scratch: Scratch::new(device, sparse::workspace_size(&settings)?)?,
            layers: layers::all(device, &settings, model)?,
            inputs: Inputs::new(device, &settings)?,
            scheduler: Scheduler::new(settings, requests),
            record: Record::default(),
            graphs: BTreeMap::new(),
            is_checked,
        })
    }

    /// One step of all sequences that have something to compute; there may be none yet.
    pub fn step(&mut self) -> Result<()> {
        let step = self.scheduler.next();
        self.record.steps += 1;
        if step.decode.is_empty() && step.prefill.is_empty() {
            return Ok(());
        }
        self.inputs
            .describe(&step, &self.scheduler, &self.drafter, self.settings.batch)?;
        let mut x = self.model.embed(&self.inputs.tokens);
        for layer in &mut self.layers {
            layer.step(&mut x, &mut self.launcher, &mut self.scratch, &self.inputs)?;
        }
        let logits = self.logits(&x, &step);
        let (of_chunks, of_rows) = logits.split_at(step.prefill.len());
        let accepted = self.accept(&step, of_rows);
        if self.settings.speculation != Speculation::Off && !step.decode.is_empty() {
            let base: Vec<usize> = step
                .decode
                .iter()
                .map(|&index| self.scheduler.running[index].computed)
                .collect();
            self.inputs.write_accepted(&accepted, &base)?;
            for layer in &mut self.layers {
                layer.commit(&mut self.launcher, &mut self.scratch, &self.inputs)?;
            }
        }
        self.count(&step, &accepted);
        let mut forks = self.finish_chunks(&step, of_chunks)?;
        forks.extend(self.finish_rows(&step, &accepted, of_rows)?);
        self.fork(&forks)?;
        self.scheduler.retire();
        self.check_status()
    }

    /// Logits behind the last row of each chunk, and behind all rows of each decoding sequence.
    fn logits(&self, x: &[f32], step: &Step) -> Vec<Vec<f32>> {
        let shape = self.inputs.shape;
        let row_of = |rows: std::ops::Range<usize>| self.model.logits(&x[rows.start * HIDDEN..rows.end * HIDDEN]);
        let mut end = shape.decode_rows();
        let mut logits: Vec<Vec<f32>> = Vec::new();
        for chunk in &step.prefill {
            end += chunk.end - chunk.start;
            logits.push(row_of(end - 1..end));
        }
        let rows = |place: usize| row_of(place * shape.width..(place + 1) * shape.width);
        logits.extend((0..step.decode.len()).map(rows));
        logits
    }

    fn accept(&self, step: &Step, logits: &[Vec<f32>]) -> Vec<Accepted> {
        let width = self.inputs.shape.width;
        let sequences = step.decode.iter().zip(logits).enumerate();
        let accepted = sequences.map(|(place, (&index, logits))| {
            let sequence = &self.scheduler.running[index];
            let rows = &self.inputs.tokens[place * width..(place + 1) * width];
            let emit = |row: usize, before: usize| {
                let place = sequence.computed + before + 1;
                // Whoever has left and come back emits what it has emitted.
                let known = sequence.tokens.get(place).copied();
                known.unwrap_or_else(|| pick(&logits[row * VOCABULARY..][..VOCABULARY], sequence.rank_at(place)))
            };
            accept(self.settings.speculation, rows, self.scheduler.limit(index), emit)
        });
        accepted.collect()
    }

    fn finish_chunks(&mut self, step: &Step, logits: &[Vec<f32>]) -> Result<Vec<Fork>> {
        let lists = self.lists(!step.prefill.is_empty())?;
        let mut first = self.inputs.shape.decode_rows();
        let mut forks = Vec::new();
        for (chunk, logits) in step.prefill.iter().zip(logits) {
            let Chunk {
                sequence, start, end, ..
            } = *chunk;
            for position in start..end {
                let note = lists.row(first + position - start, position + 1);
                self.scheduler.running[sequence].note(position, note);
            }
            first += end - start;
            self.scheduler.finish_chunk(chunk);
            let sequence = &mut self.scheduler.running[sequence];
            if end < sequence.prompt {
                continue;
            }
            sequence.note_logits(end, logits);
            if sequence.tokens.len() == end {
                let token = pick(logits, sequence.rank_at(end));
                forks.extend(self.emit(chunk.sequence, token, logits));
            }
        }
        Ok(forks)
    }

    fn finish_rows(&mut self, step: &Step, accepted: &[Accepted], logits: &[Vec<f32>]) -> Result<Vec<Fork>> {
        let lists = self.lists(!step.decode.is_empty())?;
        let is_tree = self.settings.speculation == Speculation::Tree;
        let mut forks = Vec::new();
        for (place, ((&index, accepted), logits)) in step.decode.iter().zip(accepted).zip(logits).enumerate() {
            let base = self.scheduler.running[index].computed;
            for (depth, (&row, &token)) in accepted.path.iter().zip(&accepted.tokens).enumerate() {
                let position = base + depth;
                // The rows of a tree select blocks before all of them, those of a chain up to their own.
                let end = if is_tree { base } else { position + 1 };
                let note = lists.row(place * self.inputs.shape.width + row, end);
                let logits = &logits[row * VOCABULARY..][..VOCABULARY];
                let sequence = &mut self.scheduler.running[index];
                sequence.note(position, note);
                sequence.note_logits(position + 1, logits);
                sequence.computed = position + 1;
                if sequence.tokens.len() == position + 1 {
                    forks.extend(self.emit(index, token, logits));
                }
            }
        }
        Ok(forks)
    }

    /// A sequence gets its next token, and parts from its forks if this is where.
    fn emit(&mut self, index: usize, token: u8, logits: &[f32]) -> Vec<Fork> {
        let sequence = &mut self.scheduler.running[index];
        let mut forks = Vec::new();
        if sequence.tokens.len() == sequence.fork_at {
            for rank in std::mem::take(&mut sequence.forks) {
                let other = pick(logits, rank);
                forks.extend(self.scheduler.fork(index, rank, other));
            }
        }
        self.scheduler.running[index].tokens.push(token);
        forks
    }

    /// Copies what forks do not share.
    fn fork(&mut self, forks: &[Fork]) -> Result<()> {
        if forks.is_empty() {
            return Ok(());
        }
        let slots: Vec<_> = forks.iter().map(|fork| fork.slot).collect();
        let copy = |fork: &Fork| {
            let (child, (from, to)) = (&self.scheduler.running[fork.child], fork.page?);
            let (table, keys) = (child.pages.clone(), child.computed);
            Some(PageCopy { from, to, table, keys })
        };
        let pages: Vec<_> = forks.iter().filter_map(copy).collect();
        for layer in &mut self.layers {
            match &mut layer.mixer {
                Mixer::Sparse(_) if pages.is_empty() => {}
                Mixer::Sparse(mixer) => mixer.copy_pages(&mut self.launcher, &mut self.scratch, &pages)?,
                Mixer::Linear(mixer) => mixer.copy_states(&mut self.launcher, &mut self.scratch, &slots)?,
            }
        }
        self.launcher.take_notes();
        Ok(())
    }

    /// Notes what the step has cost, and whether it was launched as an earlier one of its shape.
    fn count(&mut self, step: &Step, accepted: &[Accepted]) {
        let record = &mut self.record;
        record.mixed += usize::from(!step.decode.is_empty() && !step.prefill.is_empty());
        record.prompt_tokens += self.inputs.shape.prefill_rows;
        record.turns += accepted.len();
        record.decoded += accepted.iter().map(|accepted| accepted.path.len()).sum::<usize>();
        for layer in &self.layers {
            let most = match layer.is_sparse() {
                true => &mut record.sparse_kernels,
                false => &mut record.linear_kernels,
            };
            *most = layer.kernels.max(*most);
        }
        let notes = self.launcher.take_notes();
        if self.is_checked && step.prefill.is_empty() {
            match self.graphs.get(&self.inputs.shape) {
                Some(earlier) if *earlier == notes => record.replayed += 1,
                Some(_) => record.differing += 1,
                None => {
                    self.graphs.insert(self.inputs.shape, notes);
                }
            }
            record.shapes = self.graphs.len();
        }
    }

    /// The lists of the last step, if anybody wants them.
    fn lists(&self, is_wanted: bool) -> Result<Lists> {
        let mut lists = Lists(Vec::new());
        for layer in &self.layers {
            if let (Mixer::Sparse(mixer), true) = (&layer.mixer, is_wanted && self.is_checked) {
                lists
                    .0
                    .push((mixer.lists()?, mixer.list_len() * crate::model::HEADS_KV));
            }
        }
        Ok(lists)
    }

    fn check_status(&self) -> Result<()> {
        let counts = self.scratch.status.read::<u32>()?;
        Status::from(std::array::from_fn(|index| counts[index])).check()
    }

    /// Runs all requests to their ends.
    pub fn run(&mut self, mut each: impl FnMut(&Engine<'m>)) -> Result<Vec<Sequence>> {
        while !self.scheduler.is_done() {
            self.step()?;
            each(self);
        }
        let mut finished = std::mem::take(&mut self.scheduler.finished);
        finished.sort_by_key(|sequence| (sequence.request, sequence.rank));
        Ok(finished)
    }
}

/// The lists of all sparse layers, and how many numbers a row of each has.
struct Lists(Vec<(Vec<i32>, usize)>);

impl Lists {
    fn row(&self, row: usize, end: usize) -> Row {
        let of_layer = |(lists, length): &(Vec<i32>, usize)| lists[row * length..(row + 1) * length].to_vec();
        Row {
            end,
            lists: self.0.iter().flat_map(of_layer).collect(),
        }
    }
}
