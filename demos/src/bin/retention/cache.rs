//! A cache of a fixed size, and the operations that fill and empty it.

use crate::prompt::{DIM, HEADS, HEADS_Q, Prompt};
use crate::{OfHeads, Schedule, Scorer};
use demos::meter::{Meter, Operation};
use half::bf16;
use sala_kernels::{
    AppendKeysArgs, AttentionShape, ChooseTokensArgs, CompactKeysArgs, DType, DenseAttentionArgs, Device, Keys, Result,
    ScoreKeysArgs, Sequences, SparseLayer, Status, Tensor, TensorMut,
};
use std::ops::Range;

/// The cache of one sequence: `[1, capacity, HEADS, DIM]` and scores `[1, HEADS, capacity]`, filled up to `length`.
pub struct Cache {
    meter: Meter,
    layer: SparseLayer,
    schedule: Schedule,
    pub keys: Vec<bf16>,
    pub values: Vec<bf16>,
    scores: Vec<f32>,
    lists: Vec<i32>,
    workspace: Vec<f32>,
    /// Where in the prompt the rows of each head are from.
    pub positions: OfHeads<Vec<usize>>,
    length: usize,
    status: [u32; 4],
}

/// Neighbours that share the largest of their scores, as the source of those scores has it.
const POOL: usize = 5;

impl Cache {
    pub fn new(schedule: &Schedule) -> Result<Cache> {
        let shape = AttentionShape {
            heads_q: HEADS_Q,
            heads_kv: HEADS,
            dim: DIM,
        };
        let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
        let capacity = schedule.capacity();
        let rows = vec![bf16::ZERO; capacity * HEADS * DIM];
        let bytes = layer.tokens_workspace_size(1, schedule.local, capacity);
        Ok(Cache {
            meter: Meter::new(Device::host())?,
            schedule: *schedule,
            keys: rows.clone(),
            values: rows,
            scores: vec![0.0; HEADS * capacity],
            lists: vec![0; HEADS * schedule.budget],
            workspace: vec![0.0; bytes / 4],
            positions: Default::default(),
            length: 0,
            status: [0; 4],
            layer,
        })
    }

    /// Bytes of all that grows with neither the prompt nor what was read of it.
    pub fn bytes(&self) -> usize {
        2 * (self.keys.len() + self.values.len()) + 4 * (self.scores.len() + self.lists.len() + self.workspace.len())
    }

    /// Tokens of each head.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What the operations have cost.
    pub fn take_costs(&mut self) -> Vec<Operation> {
        self.meter.take()
    }

    /// Appends the tokens of a chunk, scores them, and keeps what the budget allows.
    pub fn read(&mut self, prompt: &Prompt, tokens: Range<usize>) -> Result<()> {
        let end = tokens.end;
        self.append(prompt, tokens.clone())?;
        match self.schedule.by {
            Scorer::Given => self.give_scores(prompt, tokens),
            Scorer::Question => self.score(prompt)?,
        }
        if self.length > self.schedule.budget {
            self.keep(self.schedule.forced(end))?;
        }
        Status::from(self.status).check()
    }

    /// Appends the question, and lets it attend to all that is there: outputs `[local, HEADS_Q, DIM]`.
    pub fn ask(&mut self, prompt: &Prompt) -> Result<Vec<bf16>> {
        let (context, local) = (self.schedule.context(), self.schedule.local);
        self.append(prompt, context..context + local)?;
        let queries = prompt.queries();
        let mut out = vec![bf16::ZERO; queries.len()];
        let (cu_seqlens_q, lengths) = ([0, local as i32], [self.length as i32]);
        let [k, v] = [&self.keys, &self.values].map(|rows| rows_of(rows));
        let args = DenseAttentionArgs::new(
            Tensor::from_slice(&queries, &[local, HEADS_Q, DIM])?,
            k?,
            v?,
            Sequences::new(
                Tensor::from_slice(&cu_seqlens_q, &[2])?,
                Keys::cached(Tensor::from_slice(&lengths, &[1])?),
            ),
            TensorMut::from_slice(&mut out, &[local, HEADS_Q, DIM])?,
        );
        self.meter.run("attend", &self.layer, args)?;
        Ok(out)
    }

    fn append(&mut self, prompt: &Prompt, tokens: Range<usize>) -> Result<()> {
        let count = tokens.len();
        self.length += count;
        let (cu_seqlens_q, lengths) = ([0, count as i32], [self.length as i32]);
        let (k_new, v_new) = (prompt.keys(tokens.clone()), prompt.values(tokens.clone()));
        let [k, v] = [&mut self.keys, &mut self.values].map(|rows| rows_of_mut(rows));
        let mut args = AppendKeysArgs::new(
            Tensor::from_slice(&k_new, &[count, HEADS, DIM])?,
            Tensor::from_slice(&v_new, &[count, HEADS, DIM])?,
            k?,
            v?,
            Sequences::new(
                Tensor::from_slice(&cu_seqlens_q, &[2])?,
                Keys::cached(Tensor::from_slice(&lengths, &[1])?),
            ),
        );
        args.status = Some(TensorMut::from_slice(&mut self.status, &[4])?);
        self.meter.run("append", &self.layer, args)?;
        for positions in &mut self.positions {
            positions.extend(tokens.clone());
        }
        Ok(())
    }

    /// Scores of the newest tokens, as a retaining head has given them.
    fn give_scores(&mut self, prompt: &Prompt, tokens: Range<usize>) {
        let capacity = self.schedule.capacity();
        let first = self.length - tokens.len();
        for head in 0..HEADS {
            let scores = self.scores[head * capacity + first..].iter_mut();
            for (score, given) in scores.zip(prompt.scores(tokens.clone(), head)) {
                *score = given;
            }
        }
    }

    /// Scores of all tokens that are there, by the question.
    fn score(&mut self, prompt: &Prompt) -> Result<()> {
        let (capacity, local) = (self.schedule.capacity(), self.schedule.local);
        let queries = prompt.queries();
        let (cu_seqlens_q, lengths) = ([0, local as i32], [self.length as i32]);
        let mut args = ScoreKeysArgs::new(
            Tensor::from_slice(&queries, &[local, HEADS_Q, DIM])?,
            rows_of(&self.keys)?,
            Sequences::new(
                Tensor::from_slice(&cu_seqlens_q, &[2])?,
                Keys::cached(Tensor::from_slice(&lengths, &[1])?),
            ),
            TensorMut::from_slice(&mut self.scores, &[1, HEADS, capacity])?,
        );
        args.pool = POOL;
        let bytes = self.workspace.len();
        args.workspace = Some(TensorMut::from_slice(&mut self.workspace, &[bytes])?);
        args.status = Some(TensorMut::from_slice(&mut self.status, &[4])?);
        self.meter.run("score", &self.layer, args)
    }

    /// Keeps as many tokens as the budget has room for, and the last `forced` ones whatever their scores.
    fn keep(&mut self, forced: usize) -> Result<()> {
        let (capacity, budget) = (self.schedule.capacity(), self.schedule.budget);
        let lengths = [self.length as i32];
        let keys = Keys::cached(Tensor::from_slice(&lengths, &[1])?);
        let mut args = ChooseTokensArgs::new(
            Tensor::from_slice(&self.scores, &[1, HEADS, capacity])?,
            keys,
            TensorMut::from_slice(&mut self.lists, &[1, HEADS, budget])?,
        );
        args.local_tokens = forced;
        let floats = self.workspace.len();
        args.workspace = Some(TensorMut::from_slice(&mut self.workspace, &[floats])?);
        args.status = Some(TensorMut::from_slice(&mut self.status, &[4])?);
        self.meter.run("choose", &self.layer, args)?;

        let [k, v] = [&mut self.keys, &mut self.values].map(|rows| rows_of_mut(rows));
        let mut args = CompactKeysArgs::new(k?, v?, keys, Tensor::from_slice(&self.lists, &[1, HEADS, budget])?);
        args.scores = Some(TensorMut::from_slice(&mut self.scores, &[1, HEADS, capacity])?);
        args.status = Some(TensorMut::from_slice(&mut self.status, &[4])?);
        self.meter.run("compact", &self.layer, args)?;

        for (positions, list) in self.positions.iter_mut().zip(self.lists.chunks(budget)) {
            *positions = list.iter().map(|&token| positions[token as usize]).collect();
        }
        self.length = budget;
        Ok(())
    }
}

/// Rows of the one cache.
fn rows_of(rows: &[bf16]) -> Result<Tensor<'_>> {
    Tensor::from_slice(rows, &[1, rows.len() / (HEADS * DIM), HEADS, DIM])
}

fn rows_of_mut(rows: &mut [bf16]) -> Result<TensorMut<'_>> {
    let shape = [1, rows.len() / (HEADS * DIM), HEADS, DIM];
    TensorMut::from_slice(rows, &shape)
}
