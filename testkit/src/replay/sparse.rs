//! Replayed block-sparse attention: key compression, block selection, attention.

use super::file::ReplayFile;
use super::{ResultShapes, Results};
use crate::attention::{AttentionProblem, KeyStorage, Lists};
use crate::devices::Machine;
use crate::memory::Packing;
use crate::selection::{Order, SelectionProblem, Storage};
use crate::tolerance::{Judgement, SelectionCase, attention_out, exceeds, lse, selection};
use crate::values::Values;
use sala_kernels::reference::compress_keys::{CompressedKeys, Window, compress_keys};
use sala_kernels::reference::select_blocks::{self, BlockScores, Position, ScoreLse, block_scores, positions};
use sala_kernels::reference::sparse_attention::{self, Attention, Blocks};
use sala_kernels::reference::{Value, sequences};
use sala_kernels::{Error, Result as KernelResult};
use std::time::{Duration, Instant};

/// One call over whole sequences or chunks of them.
#[derive(Clone, Debug)]
pub struct SparseCall {
    /// Shapes and constants; heads and scale are attention's too.
    pub selection: select_blocks::Config,
    /// Channels of a value.
    pub dim_v: usize,
    /// Sequences with fewer keys are attended densely.
    pub dense_len: usize,
    /// `[total_q, heads_q, dim]`.
    pub q: Values,
    /// `[total_k, heads_kv, dim]`.
    pub k: Values,
    /// `[total_k, heads_kv, dim_v]`.
    pub v: Values,
    /// `[batch + 1]`.
    pub cu_seqlens_q: Vec<i32>,
    /// `[batch + 1]`.
    pub cu_seqlens_k: Vec<i32>,
    /// `[total_q, heads_kv, list_len]`: lists that take the place of the selection.
    pub block_indices: Option<Lists>,
    /// What should come out.
    pub expected: Expected,
}

/// Expected values of a file, as far as it has them.
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

const TENSORS: [&str; 11] = [
    "q",
    "k",
    "v",
    "cu_seqlens_q",
    "cu_seqlens_k",
    "block_indices",
    "expected.out",
    "expected.lse",
    "expected.block_indices",
    "expected.block_scores",
    "expected.margin",
];

/// More blocks than any list is asked to hold.
const MAX_BLOCKS: u32 = 4096;

impl SparseCall {
    pub(super) fn parse(file: &ReplayFile<'_>) -> Result<Self, String> {
        file.expect_only(&TENSORS)?;
        let [total_q, heads_q, dim] = file.shape_3("q")?;
        let [total_k, heads_kv, _] = file.shape_3("k")?;
        let dim_v = file.shape_3("v")?[2];
        if heads_q % heads_kv != 0 {
            return Err(format!(
                "tensor `q` has {heads_q} heads, expected a multiple of the {heads_kv} of `k`"
            ));
        }
        let shapes = (
            [total_q, heads_q, dim],
            [total_k, heads_kv, dim],
            [total_k, heads_kv, dim_v],
        );
        let (q, k, v) = file.query_key_value(&shapes.0, &shapes.1, &shapes.2)?;
        let cu_seqlens_q = file.bounds("cu_seqlens_q", total_q)?;
        let cu_seqlens_k = file.bounds("cu_seqlens_k", total_k)?;
        check_lengths(&cu_seqlens_q, &cu_seqlens_k)?;
        let selection = parse_selection(file, heads_q, heads_kv, dim)?;
        let block_indices = parse_lists(file, total_q, heads_kv)?;
        let expected = parse_expected(file, total_q, &selection, dim_v)?;
        let dense_len = file.count("dense_len")?;
        Ok(SparseCall {
            selection,
            dim_v,
            dense_len,
            q,
            k,
            v,
            cu_seqlens_q,
            cu_seqlens_k,
            block_indices,
            expected,
        })
    }

    /// Query tokens of the call.
    pub fn total_q(&self) -> usize {
        self.cu_seqlens_q.last().map_or(0, |&total| total as usize)
    }

    /// Key tokens of the call.
    pub fn total_k(&self) -> usize {
        self.cu_seqlens_k.last().map_or(0, |&total| total as usize)
    }

    /// For each sequence whether it is attended densely.
    pub fn dense(&self) -> Vec<bool> {
        self.cu_seqlens_k
            .windows(2)
            .map(|pair| ((pair[1] - pair[0]) as usize) < self.dense_len)
            .collect()
    }

    pub(super) fn shape(&self) -> String {
        let select_blocks::Config {
            heads_q, heads_kv, dim, ..
        } = self.selection;
        let batch = self.cu_seqlens_q.len() - 1;
        let (total_q, total_k) = (self.total_q(), self.total_k());
        format!(
            "Tq={total_q} Tk={total_k} B={batch} H={heads_q}/{heads_kv} D={dim} {}",
            self.q.dtype()
        )
    }

    pub(super) fn result_shapes(&self) -> ResultShapes {
        let select_blocks::Config { heads_q, heads_kv, .. } = self.selection;
        let list_len = self
            .block_indices
            .as_ref()
            .map_or(self.selection.list_len(), |lists| lists.list_len);
        ResultShapes::from([
            ("out", vec![self.total_q(), heads_q, self.dim_v]),
            ("lse", vec![self.total_q(), heads_q]),
            ("block_indices", vec![self.total_q(), heads_kv, list_len]),
        ])
    }

    pub(super) fn run_on_reference(&self) -> Results {
        let lists = match &self.block_indices {
            Some(lists) => lists.clone(),
            None => self.select(&self.scores()),
        };
        let attention = self.attend(&lists);
        Results {
            out: attention.out,
            lse: Some(attention.lse),
            block_indices: Some(lists.indices),
            ..Results::default()
        }
    }

    /// Runs the call; the time that it takes includes copies where blocks are selected.
    pub(super) fn run(&self, machine: &Machine) -> KernelResult<(Results, Duration)> {
        if self.dim_v != self.selection.dim {
            let why = format!("values have {} channels and keys {}", self.dim_v, self.selection.dim);
            return Err(Error::Unsupported {
                what: "sparse attention".into(),
                why,
            });
        }
        let started = Instant::now();
        let lists = match &self.block_indices {
            Some(lists) => Some(lists.clone()),
            None if self.is_dense() => None,
            None => Some(self.select_on(machine)?),
        };
        let selecting = started.elapsed();
        let run = self.attention_problem(lists.clone()).run(machine)?;
        let results = Results {
            out: run.out.to_f64(),
            out_precision: Some(run.out.precision()),
            lse: Some(run.lse.iter().map(|&x| f64::from(x)).collect()),
            block_indices: lists.map(|lists| lists.indices),
            final_state: None,
        };
        let is_selected = self.block_indices.is_none() && results.block_indices.is_some();
        Ok((
            results,
            if is_selected {
                selecting + run.elapsed
            } else {
                run.elapsed
            },
        ))
    }

    /// Compresses the keys and selects blocks on a device.
    fn select_on(&self, machine: &Machine) -> KernelResult<Lists> {
        let lengths = |bounds: &[i32]| bounds.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect();
        let problem = SelectionProblem {
            config: self.selection,
            q: self.q.clone(),
            k: self.k.clone(),
            queries: lengths(&self.cu_seqlens_q),
            keys: lengths(&self.cu_seqlens_k),
            scale_factor: None,
            storage: Storage::Packed,
            order: Order::RowMajor,
        };
        let compressed = problem.compress(machine)?;
        let indices = problem.select(machine, &compressed, None)?.indices;
        Ok(Lists {
            indices,
            list_len: self.selection.list_len(),
        })
    }

    /// Whether no sequence needs lists.
    fn is_dense(&self) -> bool {
        self.dense().into_iter().all(|dense| dense)
    }

    fn attention_problem(&self, lists: Option<Lists>) -> AttentionProblem {
        AttentionProblem {
            config: self.attention(),
            q: self.q.clone(),
            k: self.k.clone(),
            v: self.v.clone(),
            cu_seqlens_q: self.cu_seqlens_q.clone(),
            cu_seqlens_k: self.cu_seqlens_k.clone(),
            lists,
            dense_len: self.dense_len,
            switch_len: None,
            scale_factor: None,
            gate: None,
            storage: KeyStorage::Packed,
            packing: Packing::Separate,
            max_seqlens: [None, None],
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
            (None, None) => return failed("block_indices are missing from the results".into()),
            (None, Some(indices)) => {
                judgement = self.judge_selection(indices);
                Lists {
                    indices: indices.clone(),
                    list_len: self.selection.list_len(),
                }
            }
        };
        judgement.and(self.judge_attention(results, &lists))
    }

    /// Judges a selection against the file's lists, or the reference's where it has none.
    fn judge_selection(&self, indices: &[i32]) -> Judgement {
        let scores = self.scores();
        let reference = self.select(&scores);
        let case = SelectionCase {
            config: &self.selection,
            positions: &self.positions(),
            scores: &scores,
            margin: self.expected.margin.as_deref(),
        };
        let expected = self.expected.block_indices.as_ref().unwrap_or(&reference.indices);
        let found = selection(case, indices, expected);
        let same = found.same.iter().filter(|same| **same).count();
        Judgement {
            selection: Some((same, found.same.len())),
            failure: found.failure.or_else(|| self.score_failure(&scores)),
            ..Judgement::default()
        }
    }

    /// Where the file's scores and the reference's, which judge a selection, are not the same.
    fn score_failure(&self, scores: &BlockScores) -> Option<String> {
        let expected = self
            .expected
            .block_scores
            .as_ref()
            .filter(|scores| !scores.is_empty())?;
        let blocks = expected.len() / (self.selection.heads_kv * self.total_q());
        for (index, &expected) in expected.iter().enumerate() {
            let (row, block) = (index / blocks, index % blocks);
            let (head, token) = (row / self.total_q(), row % self.total_q());
            if expected == -1.0 || block >= scores.blocks {
                continue;
            }
            let score = scores.scores[(token * self.selection.heads_kv + head) * scores.blocks + block];
            // Other implementations give a block without visible rows a zero.
            let is_empty = score == f32::NEG_INFINITY && expected == 0.0;
            let error = f64::from((score - expected).abs());
            if !is_empty && exceeds(error, f64::from(expected.abs()) / 1024.0) {
                return Some(format!(
                    "token {token}, head {head}: block {block} scores {score} instead of {expected}"
                ));
            }
        }
        None
    }

    /// Judges out and lse against the file where the set of blocks is the file's, against the reference on the same set elsewhere.
    fn judge_attention(&self, results: &Results, lists: &Lists) -> Judgement {
        let mut reference = self.attend(lists);
        if results.out.len() != reference.out.len() {
            return failed(format!(
                "out has {} elements, expected {}",
                results.out.len(),
                reference.out.len()
            ));
        }
        self.prefer_expected(&mut reference, lists);
        let out = attention_out(
            self.q.precision(),
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
        let heads_q = self.selection.heads_q;
        let group = heads_q / self.selection.heads_kv;
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
        let mut tokens = vec![false; self.total_q()];
        let ranges = sequences(&self.cu_seqlens_q, self.total_q());
        for (range, dense) in ranges.into_iter().flatten().zip(self.dense()) {
            tokens[range].fill(dense);
        }
        tokens
    }

    fn positions(&self) -> Vec<Option<Position>> {
        positions(&self.cu_seqlens_q, &self.cu_seqlens_k, self.total_q(), self.total_k())
    }

    fn scores(&self) -> BlockScores {
        let block_size = self.selection.block_size;
        let [k1, k2] = [Window::fine(block_size), Window::coarse(block_size)].map(|window| self.compress(window));
        block_scores(&self.selection, &self.q.to_f64(), &k1, &k2, &self.positions(), None)
    }

    /// Compressed keys, rounded to the type of the keys and exact in f64.
    fn compress(&self, window: Window) -> CompressedKeys<f64> {
        let select_blocks::Config { heads_kv, dim, .. } = self.selection;
        match &self.k {
            Values::Bf16(k) => widen(&compress_keys(k, heads_kv, dim, &self.cu_seqlens_k, window)),
            Values::F16(k) => widen(&compress_keys(k, heads_kv, dim, &self.cu_seqlens_k, window)),
        }
    }

    fn select(&self, scores: &BlockScores) -> Lists {
        let indices = select_blocks::select_blocks(&self.selection, scores, &self.positions());
        Lists {
            indices,
            list_len: self.selection.list_len(),
        }
    }

    fn attention(&self) -> sparse_attention::Config {
        let select_blocks::Config {
            heads_q,
            heads_kv,
            dim,
            scale,
            block_size,
            ..
        } = self.selection;
        sparse_attention::Config {
            heads_q,
            heads_kv,
            dim,
            dim_v: self.dim_v,
            scale,
            block_size,
        }
    }

    fn attend(&self, lists: &Lists) -> Attention {
        let dense = self.dense();
        let blocks = Blocks::Listed {
            indices: &lists.indices,
            list_len: lists.list_len,
            dense: &dense,
        };
        let (q, k, v) = (self.q.to_f64(), self.k.to_f64(), self.v.to_f64());
        let (config, cu_seqlens_k, positions) = (self.attention(), &self.cu_seqlens_k, self.positions());
        sparse_attention::sparse_attention(&config, &q, &k, &v, cu_seqlens_k, &positions, blocks, None, None)
    }
}

fn failed(failure: String) -> Judgement {
    Judgement {
        max_abs: f64::NAN,
        relative: f64::NAN,
        selection: None,
        failure: Some(failure),
    }
}

fn widen<T: Value>(keys: &CompressedKeys<T>) -> CompressedKeys<f64> {
    let widen_rows = |rows: &Vec<T>| rows.iter().map(|x| x.to_f64()).collect();
    CompressedKeys {
        sequences: keys.sequences.iter().map(widen_rows).collect(),
    }
}

fn check_lengths(cu_seqlens_q: &[i32], cu_seqlens_k: &[i32]) -> Result<(), String> {
    if cu_seqlens_q.len() != cu_seqlens_k.len() {
        let (q, k) = (cu_seqlens_q.len(), cu_seqlens_k.len());
        return Err(format!(
            "tensor `cu_seqlens_k` has {k} entries, expected {q} as `cu_seqlens_q` has"
        ));
    }
    for (sequence, (q, k)) in cu_seqlens_q.windows(2).zip(cu_seqlens_k.windows(2)).enumerate() {
        let (queries, keys) = (q[1] - q[0], k[1] - k[0]);
        if queries > keys {
            return Err(format!(
                "tensor `cu_seqlens_q` gives sequence {sequence} {queries} queries, expected at most its {keys} keys"
            ));
        }
    }
    Ok(())
}

fn parse_selection(
    file: &ReplayFile<'_>,
    heads_q: usize,
    heads_kv: usize,
    dim: usize,
) -> Result<select_blocks::Config, String> {
    let block_size = file.count("block_size")?;
    if ![32, 64, 128].contains(&block_size) {
        return Err(format!("`block_size` is `{block_size}`, expected 32, 64 or 128"));
    }
    for (name, expected) in [("kernel_size", block_size / 2), ("kernel_stride", block_size / 4)] {
        let got = file.count(name)?;
        if got != expected {
            return Err(format!(
                "`{name}` is `{got}`, expected {expected} for blocks of {block_size} tokens"
            ));
        }
    }
    if let Some(causal) = file.optional_text("causal").filter(|&causal| causal != "true") {
        return Err(format!("`causal` is `{causal}`, expected `true`"));
    }
    let lse = match file.text("lse")? {
        "coarse" => ScoreLse::Coarse,
        "exact" => ScoreLse::Exact,
        other => return Err(format!("`lse` is `{other}`, expected `coarse` or `exact`")),
    };
    let [topk, init_blocks, local_blocks] =
        ["topk", "init_blocks", "local_blocks"].map(|name| file.count_up_to(name, MAX_BLOCKS));
    let (topk, init_blocks, local_blocks) = (topk?, init_blocks?, local_blocks?);
    if init_blocks + 1 > topk {
        return Err(format!(
            "`init_blocks` is `{init_blocks}`, expected less than `topk`, which is `{topk}`"
        ));
    }
    let scale = file.scale()?;
    Ok(select_blocks::Config {
        heads_q,
        heads_kv,
        dim,
        scale,
        block_size,
        topk,
        init_blocks,
        local_blocks,
        lse,
    })
}

fn parse_lists(file: &ReplayFile<'_>, total_q: usize, heads_kv: usize) -> Result<Option<Lists>, String> {
    if !file.has("block_indices") {
        return Ok(None);
    }
    match file.shape("block_indices")?.as_slice() {
        shape @ [tokens, heads, list_len] if *tokens == total_q && *heads == heads_kv && *list_len > 0 => {
            let indices = file.indices("block_indices", Some(shape))?;
            Ok(Some(Lists {
                indices,
                list_len: *list_len,
            }))
        }
        other => Err(format!(
            "tensor `block_indices` has shape {other:?}, expected [{total_q}, {heads_kv}, entries of a list]"
        )),
    }
}

fn parse_expected(
    file: &ReplayFile<'_>,
    total_q: usize,
    selection: &select_blocks::Config,
    dim_v: usize,
) -> Result<Expected, String> {
    let select_blocks::Config { heads_q, heads_kv, .. } = *selection;
    let list_shape = [total_q, heads_kv, selection.list_len()];
    let block_indices = if file.has("expected.block_indices") {
        Some(file.indices("expected.block_indices", Some(&list_shape))?)
    } else {
        None
    };
    Ok(Expected {
        out: file.optional_numbers("expected.out", &[total_q, heads_q, dim_v])?,
        lse: file.optional_numbers("expected.lse", &[total_q, heads_q])?,
        block_indices,
        block_scores: parse_scores(file, total_q, heads_kv)?,
        margin: file.optional_floats("expected.margin", &[total_q, heads_kv])?,
    })
}

fn parse_scores(file: &ReplayFile<'_>, total_q: usize, heads_kv: usize) -> Result<Option<Vec<f32>>, String> {
    const NAME: &str = "expected.block_scores";
    if !file.has(NAME) {
        return Ok(None);
    }
    match file.shape(NAME)?.as_slice() {
        shape @ [heads, tokens, blocks] if *heads == heads_kv && *tokens == total_q && *blocks > 0 => {
            file.floats(NAME, shape).map(Some)
        }
        other => Err(format!(
            "tensor `{NAME}` has shape {other:?}, expected [{heads_kv}, {total_q}, number of blocks]"
        )),
    }
}
