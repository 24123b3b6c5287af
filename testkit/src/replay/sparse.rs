//! Replayed block-sparse attention: key compression, block selection, attention.

mod parse;

use super::{ResultShapes, Results};
use crate::devices::Machine;
use crate::memory::Packing;
use crate::operations::select_blocks::Selection;
use crate::operations::select_blocks::cases::SelectionInputs;
use crate::operations::sparse_attention::{AttentionProblem, Lists};
use crate::problem::Problem;
use crate::tolerance::{Judgement, SelectionCase, SelectionJudgement, attention_out, is_near_score, lse, selection};
use crate::values::Values;
use sala_kernels::reference::select_blocks::{self, BlockScores};
use sala_kernels::reference::sequences;
use sala_kernels::reference::sparse_attention::{self, Attention};
use sala_kernels::{Entry, Error, Result as KernelResult};
use std::time::Duration;

/// One call over whole sequences or chunks of them.
#[derive(Clone, Debug)]
pub struct SparseCall {
    /// What blocks are selected by. Heads, scale and batch are attention's too.
    pub inputs: SelectionInputs,
    /// Channels of a value.
    pub dim_v: usize,
    /// `[total_k, heads_kv, dim_v]`.
    pub v: Values,
    /// `[total_q, heads_kv, list_len]`: lists that take the place of the selection.
    pub block_indices: Option<Lists>,
    /// What the call of attention is made for.
    pub entry: Entry,
    /// What should come out.
    pub expected: Expected,
}

/// Expected values of a file, as far as it has them. Tokens that are attended densely have no lists and no scores, whatever the file says.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// `[total_q, heads_q, dim_v]`.
    pub out: Option<Vec<f64>>,
    /// `[total_q, heads_q]`.
    pub lse: Option<Vec<f64>>,
    /// `[total_q, heads_kv, list_len]`.
    pub block_indices: Option<Vec<i32>>,
    /// `[heads_kv, total_q, blocks]`, −1 where there is no score.
    pub block_scores: Option<Vec<f32>>,
    /// `[total_q, heads_kv]`.
    pub margin: Option<Vec<f32>>,
}

impl SparseCall {
    /// Query tokens of the call.
    pub fn total_q(&self) -> usize {
        self.inputs.total_q()
    }

    pub(super) fn shape(&self) -> String {
        let SelectionInputs { config, q, batch, .. } = &self.inputs;
        let select_blocks::Config {
            heads_q, heads_kv, dim, ..
        } = config;
        format!(
            "Tq={} Tk={} B={} H={heads_q}/{heads_kv} D={dim} {}",
            self.total_q(),
            self.inputs.total_k(),
            batch.sequences(),
            q.dtype()
        )
    }

    pub(super) fn result_shapes(&self) -> ResultShapes {
        let select_blocks::Config { heads_q, heads_kv, .. } = self.inputs.config;
        let list_len = self
            .block_indices
            .as_ref()
            .map_or(self.inputs.config.list_len(), |lists| lists.list_len);
        ResultShapes::from([
            ("out", vec![self.total_q(), heads_q, self.dim_v]),
            ("lse", vec![self.total_q(), heads_q]),
            ("block_indices", vec![self.total_q(), heads_kv, list_len]),
        ])
    }

    pub(super) fn run_on_reference(&self) -> Results {
        let lists = match &self.block_indices {
            Some(lists) => lists.clone(),
            None => self.selected(self.selection().lists),
        };
        let attention = self.attention(Some(lists.clone())).reference();
        Results {
            has_out: true,
            out: attention.out,
            lse: Some(attention.lse),
            block_indices: Some(lists.indices),
            ..Results::default()
        }
    }

    /// Runs the call; also gives the time that its launches take.
    pub(super) fn run(&self, machine: &Machine) -> KernelResult<(Results, Duration)> {
        if self.dim_v != self.inputs.config.dim {
            let dim = self.inputs.config.dim;
            return Err(Error::Unsupported {
                what: "sparse attention".into(),
                why: format!("values have {} channels and keys {dim}", self.dim_v),
            });
        }
        let (lists, selecting) = match &self.block_indices {
            Some(lists) => (Some(lists.clone()), Duration::ZERO),
            None if self.is_dense() => (None, Duration::ZERO),
            None => {
                let compressed = self.inputs.compress().run(machine)?;
                let selection = self.inputs.select(&compressed.keys, None);
                let selection = match self.entry {
                    Entry::Prefill => selection,
                    Entry::Decode => selection.decode(),
                };
                let selected = selection.run(machine)?;
                let elapsed = compressed.elapsed + selected.elapsed;
                (Some(self.selected(selected.indices)), elapsed)
            }
        };
        let attention = self.attention(lists.clone());
        let attention = match self.entry {
            Entry::Prefill => attention,
            Entry::Decode => attention.decode(),
        };
        let run = attention.run(machine)?;
        let results = Results {
            has_out: true,
            out: run.out.to_f64(),
            out_precision: Some(run.out.precision()),
            lse: Some(run.lse.iter().map(|&x| f64::from(x)).collect()),
            block_indices: lists.map(|lists| lists.indices),
            final_state: None,
        };
        Ok((results, selecting + run.elapsed))
    }

    /// Whether no sequence needs lists.
    fn is_dense(&self) -> bool {
        self.inputs.batch.dense().into_iter().all(|dense| dense)
    }

    /// Attention of the call over some lists, or over all keys.
    pub fn attention(&self, lists: Option<Lists>) -> AttentionProblem {
        let SelectionInputs {
            config, q, k, batch, ..
        } = &self.inputs;
        AttentionProblem {
            config: sparse_attention::Config {
                heads_q: config.heads_q,
                heads_kv: config.heads_kv,
                dim: config.dim,
                dim_v: self.dim_v,
                scale: config.scale,
                block_size: config.block_size,
            },
            q: q.clone(),
            k: k.clone(),
            v: self.v.clone(),
            batch: batch.clone(),
            lists,
            first_key: None,
            scale_factor: None,
            gate: None,
            packing: Packing::Separate,
            with_lse: true,
            entry: Entry::Prefill,
            workspace: None,
        }
    }

    pub(super) fn judge(&self, results: &Results) -> Judgement {
        let mut judgement = Judgement::default();
        let lists = match (&self.block_indices, &results.block_indices) {
            (Some(lists), _) => lists.clone(),
            // Nothing was to be selected.
            (None, None) if self.is_dense() => Lists {
                indices: Vec::new(),
                list_len: 0,
            },
            (None, None) => return Judgement::failed("block_indices are missing from the results".into()),
            (None, Some(indices)) => {
                judgement = self.judge_selection(indices);
                self.selected(indices.clone())
            }
        };
        judgement.and(self.judge_attention(results, lists))
    }

    /// Judges a selection against the file's lists, or the reference's where it has none.
    fn judge_selection(&self, indices: &[i32]) -> Judgement {
        let reference = self.selection();
        let found = self.judge_lists(indices, &reference);
        Judgement {
            selection: Some(found.count()),
            failure: found.failure.or_else(|| self.wrong_score(&reference.scores)),
            ..Judgement::default()
        }
    }

    /// Judges lists against the file's, or the reference's where it has none. The scores of the reference tell near ties.
    pub fn judge_lists(&self, indices: &[i32], reference: &Selection) -> SelectionJudgement {
        let positions = self.inputs.batch.choosing(self.total_q());
        let case = SelectionCase {
            config: &self.inputs.config,
            positions: &positions,
            scores: &reference.scores,
            margin: self.expected.margin.as_deref(),
            own: None,
        };
        let expected = self.expected.block_indices.as_ref().unwrap_or(&reference.lists);
        selection(case, indices, expected)
    }

    /// The first score, if any, that is not the file's.
    pub fn wrong_score(&self, scores: &BlockScores) -> Option<String> {
        let expected = self
            .expected
            .block_scores
            .as_ref()
            .filter(|scores| !scores.is_empty())?;
        let heads_kv = self.inputs.config.heads_kv;
        let blocks = expected.len() / (heads_kv * self.total_q());
        for (index, &expected) in expected.iter().enumerate() {
            let (row, block) = (index / blocks, index % blocks);
            let (head, token) = (row / self.total_q(), row % self.total_q());
            if expected == -1.0 || block >= scores.blocks {
                continue;
            }
            let score = scores.scores[(token * heads_kv + head) * scores.blocks + block];
            // Other implementations give a block without visible rows a zero.
            let is_empty = score == f32::NEG_INFINITY && expected == 0.0;
            if !is_empty && !is_near_score(score, expected) {
                return Some(format!(
                    "token {token}, head {head}: block {block} scores {score} instead of {expected}"
                ));
            }
        }
        None
    }

    /// Judges out and lse against the file where the set of blocks is the file's, against the reference on the same set elsewhere.
    fn judge_attention(&self, results: &Results, lists: Lists) -> Judgement {
        let mut reference = self.attention(Some(lists.clone())).reference();
        if results.out.len() != reference.out.len() {
            return Judgement::failed(format!(
                "out has {} elements, expected {}",
                results.out.len(),
                reference.out.len()
            ));
        }
        self.prefer_expected(&mut reference, &lists);
        let out = attention_out(
            self.inputs.q.precision(),
            self.dim_v,
            &results.out,
            &reference.out,
            &reference.magnitude,
        );
        match &results.lse {
            Some(got) => {
                let lse = lse(got, &reference.lse);
                Judgement {
                    failure: lse.failure,
                    ..Judgement::default()
                }
                .and(out)
            }
            None => out,
        }
    }

    /// Replaces rows of the reference by the file's expected values where they are for the same set of blocks.
    fn prefer_expected(&self, reference: &mut Attention, lists: &Lists) {
        let heads_q = self.inputs.config.heads_q;
        let group = heads_q / self.inputs.config.heads_kv;
        let dense = self.dense_tokens();
        for row in 0..self.total_q() * heads_q {
            let list = row / group * lists.list_len..(row / group + 1) * lists.list_len;
            let is_same = match &self.expected.block_indices {
                Some(expected) if self.block_indices.is_none() => lists.indices[list.clone()] == expected[list],
                _ => true,
            };
            if !is_same && !dense[row / heads_q] {
                continue;
            }
            let elements = row * self.dim_v..(row + 1) * self.dim_v;
            if let Some(out) = &self.expected.out {
                reference.out[elements.clone()].copy_from_slice(&out[elements]);
            }
            if let Some(lse) = &self.expected.lse {
                reference.lse[row] = lse[row];
            }
        }
    }

    /// For each query token whether its sequence is attended densely.
    fn dense_tokens(&self) -> Vec<bool> {
        let batch = &self.inputs.batch;
        let mut tokens = vec![false; self.total_q()];
        let ranges = sequences(&batch.cu_seqlens_q, self.total_q());
        for (range, dense) in ranges.into_iter().flatten().zip(batch.dense()) {
            tokens[range].fill(dense);
        }
        tokens
    }

    /// Scores and lists of the reference, by keys that the reference has compressed.
    fn selection(&self) -> Selection {
        let compressed = self.inputs.compress().reference();
        self.inputs.select(&compressed, None).reference()
    }

    fn selected(&self, indices: Vec<i32>) -> Lists {
        Lists {
            indices,
            list_len: self.inputs.config.list_len(),
        }
    }
}
