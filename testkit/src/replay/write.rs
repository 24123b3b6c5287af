//! Calls as the bytes of replay files, as far as the format can say them: packing, and how keys are cached, is left out.

use crate::batch::Trees;
use crate::operations::linear_attention::{DecayValues, LinearProblem, Phase};
use crate::operations::linear_drafts::{DraftsProblem, Step};
use crate::operations::merge::MergeProblem;
use crate::operations::norms::{Follows, NormProblem};
use crate::operations::sparse_attention::AttentionProblem;
use crate::storage::{Content, KeyRows, Storage};
use crate::tolerance::Precision;
use crate::values::Values;
use bytemuck::NoUninit;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use sala_kernels::Entry;
use sala_kernels::reference::linear_attention::Config;
use std::collections::HashMap;

/// A file that is being made.
#[derive(Default)]
struct Writer {
    constants: HashMap<String, String>,
    tensors: Vec<(&'static str, Dtype, Vec<usize>, Vec<u8>)>,
}

impl Writer {
    fn constant(&mut self, name: &str, value: impl ToString) {
        self.constants.insert(name.to_owned(), value.to_string());
    }

    fn tensor<T: NoUninit>(&mut self, name: &'static str, dtype: Dtype, shape: &[usize], values: &[T]) {
        let bytes = bytemuck::cast_slice(values).to_vec();
        self.tensors.push((name, dtype, shape.to_vec(), bytes));
    }

    fn values(&mut self, name: &'static str, shape: &[usize], values: &Values) {
        let dtype = match values.precision() {
            Precision::Bf16 => Dtype::BF16,
            Precision::F16 => Dtype::F16,
        };
        self.tensor(name, dtype, shape, &values.to_bits());
    }

    fn list(&mut self, name: &'static str, list: &[i32]) {
        self.tensor(name, Dtype::I32, &[list.len()], list);
    }

    fn log_decay(&mut self, decay: &DecayValues, heads: usize, tokens: usize) {
        let mut floats = |shape: &[usize], values: &[f32]| self.tensor("log_decay", Dtype::F32, shape, values);
        match decay {
            DecayValues::None => floats(&[heads], &vec![0.0; heads]),
            DecayValues::PerHead(values) => floats(&[heads], values),
            DecayValues::PerToken(values) => floats(&[tokens, heads], values),
        }
    }

    /// What the slots hold, zero for those below the first; `None` if one is beyond the last.
    fn initial_state(&mut self, config: &Config, pool: &[f32], slots: &[i32]) -> Option<()> {
        let pool: Vec<&[f32]> = pool.chunks(config.slot_len()).collect();
        let states = slots.iter().map(|&slot| match usize::try_from(slot) {
            Ok(slot) => pool.get(slot).map(|state| by_key(config, state)),
            Err(_) => Some(vec![0.0; config.slot_len()]),
        });
        let states = states.collect::<Option<Vec<_>>>()?.concat();
        let shape = [slots.len(), config.heads_q, config.dim_k, config.dim_v];
        self.tensor("initial_state", Dtype::F32, &shape, &states);
        Some(())
    }

    fn finish(self) -> Option<Vec<u8>> {
        let views = self.tensors.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).ok()?;
            Some((*name, view))
        });
        let views: Vec<_> = views.collect::<Option<_>>()?;
        safetensors::serialize(views, Some(self.constants)).ok()
    }
}

/// A call of linear attention over whole sequences, with a slot of its own for each. A file knows no checkpoints.
pub fn linear_bytes(problem: &LinearProblem) -> Option<Vec<u8>> {
    let config = problem.config;
    let (tokens, heads, heads_kv) = (problem.tokens(), config.heads_q, config.heads_kv);
    if problem.phase != Phase::Prefill || problem.checkpoints.is_some() {
        return None;
    }
    let mut file = Writer::default();
    file.constant("op", "linear_attention");
    file.constant("scale", config.scale);
    file.values("q", &[tokens, heads, config.dim_k], &problem.q);
    file.values("k", &[tokens, heads_kv, config.dim_k], &problem.k);
    file.values("v", &[tokens, heads_kv, config.dim_v], &problem.v);
    file.list("cu_seqlens", &problem.cu_seqlens);
    file.log_decay(&problem.decay, heads, tokens);
    if let Some(slots) = &problem.state_in {
        file.initial_state(&config, &problem.pool, slots)?;
    }
    file.finish()
}

/// A verification or a commitment of drafts.
pub fn drafts_bytes(problem: &DraftsProblem) -> Option<Vec<u8>> {
    let (config, batch, drafts) = (problem.config, problem.batch(), problem.drafts);
    let rows = batch * drafts;
    let mut file = Writer::default();
    match &problem.step {
        Step::Verify { parent } => {
            file.constant("op", "linear_verify");
            file.constant("scale", config.scale);
            file.values("q", &[rows, config.heads_q, config.dim_k], &problem.q);
            if let Some(parent) = parent {
                file.tensor("parent", Dtype::I32, &[batch, drafts], parent);
            }
        }
        Step::Commit { accepted, path } => {
            file.constant("op", "linear_commit");
            file.list("accepted", accepted);
            if let Some(path) = path {
                file.tensor("path", Dtype::I32, &[batch, drafts], path);
            }
        }
        Step::Copy => return None,
    }
    file.values("k", &[rows, config.heads_kv, config.dim_k], &problem.k);
    file.values("v", &[rows, config.heads_kv, config.dim_v], &problem.v);
    file.log_decay(&problem.decay, config.heads_q, rows);
    file.initial_state(&config, &problem.pool, &problem.state_in)?;
    file.finish()
}

/// A merge.
pub fn merge_bytes(problem: &MergeProblem) -> Option<Vec<u8>> {
    let MergeProblem { tokens, heads, dim, .. } = *problem;
    let [first, second] = &problem.sides;
    let mut file = Writer::default();
    file.constant("op", "merge");
    file.values("o1", &[tokens, heads, dim], &first.out);
    file.tensor("lse1", Dtype::F32, &[tokens, heads], &first.lse);
    file.values("o2", &[tokens, heads, dim], &second.out);
    file.tensor("lse2", Dtype::F32, &[tokens, heads], &second.lse);
    file.finish()
}

/// A norm with what follows it.
pub fn norm_bytes(problem: &NormProblem) -> Option<Vec<u8>> {
    let (tokens, channels) = (problem.tokens, problem.channels);
    let mut file = Writer::default();
    file.constant("eps", problem.eps);
    match &problem.follows {
        Follows::Rope {
            dim,
            with_weight,
            positions,
        } => {
            file.constant("op", "norm_rope");
            file.values("x", &[tokens, channels / dim, *dim], &problem.x);
            if *with_weight {
                file.values("weight", &[*dim], &problem.weight);
            }
            if let Some((positions, cos_sin)) = positions {
                file.tensor("cos_sin", Dtype::F32, &[cos_sin.len() / dim, *dim], cos_sin);
                file.list("positions", positions);
            }
        }
        Follows::Gate { gate, sums: None } => {
            file.constant("op", "norm_gate");
            file.values("x", &[tokens, channels], &problem.x);
            file.values("weight", &[channels], &problem.weight);
            file.values("gate", &[tokens, channels], gate);
        }
        Follows::Gate { .. } | Follows::Sums => return None,
    }
    file.finish()
}

/// The states of a slot, `[heads, dim_k, dim_v]`.
fn by_key(config: &Config, states: &[f32]) -> Vec<f32> {
    if !config.state_is_vk {
        return states.to_vec();
    }
    let (dim_k, dim_v) = (config.dim_k, config.dim_v);
    let element = |index: usize| {
        let (head, key, value) = (index / (dim_k * dim_v), index / dim_v % dim_k, index % dim_v);
        states[(head * dim_v + value) * dim_k + key]
    };
    (0..states.len()).map(element).collect()
}

/// A call of attention with lists, or over all keys.
pub fn sparse_bytes(problem: &AttentionProblem) -> Option<Vec<u8>> {
    let (config, batch) = (problem.config, &problem.batch);
    let has_options = problem.gate.is_some() || problem.scale_factor.is_some() || problem.first_key.is_some();
    let switches = batch.dense_len > 0 && batch.switch_len.is_some();
    if has_options || switches || config.dim_v != config.dim {
        return None;
    }
    let (total_q, total_k, heads_kv, dim) = (problem.total_q(), problem.total_k(), config.heads_kv, config.dim);
    let mut file = Writer::default();
    file.constant("op", "sparse_attention");
    file.constant("scale", config.scale);
    file.constant("block_size", config.block_size);
    file.constant("kernel_size", config.block_size / 2);
    file.constant("kernel_stride", config.block_size / 4);
    file.constant("lse", "coarse");
    for (name, value) in [("topk", 1), ("init_blocks", 0), ("local_blocks", 0)] {
        file.constant(name, value);
    }
    let entry = match problem.entry {
        Entry::Decode => "decode",
        _ => "prefill",
    };
    file.constant("entry", entry);
    file.values("q", &[total_q, config.heads_q, dim], &problem.q);
    file.list("cu_seqlens_q", &batch.cu_seqlens_q);
    if let Some(Trees { parent, columns }) = &batch.trees {
        file.tensor("parent", Dtype::I32, &[batch.sequences(), *columns], parent);
    }
    match &problem.lists {
        Some(lists) => {
            let shape = [total_q, heads_kv, lists.list_len];
            file.tensor("block_indices", Dtype::I32, &shape, &lists.indices);
            file.constant("dense_len", batch.dense_len);
        }
        None => file.constant("dense_len", u32::MAX),
    }
    match (&batch.storage, batch.storage.table(&batch.cu_seqlens_k)) {
        (Storage::Paged(pages), Some(table)) => {
            let shape = [table.stores, pages.page_size, heads_kv, dim];
            for (name, values) in [("k", &problem.k), ("v", &problem.v)] {
                let places = batch.places(Content::Keys);
                let stored = KeyRows::store(places, values, &batch.cu_seqlens_k, heads_kv, dim);
                file.values(name, &shape, &Values::from_bits(values.precision(), stored.bits));
            }
            file.tensor(
                "page_table",
                Dtype::I32,
                &[batch.sequences(), table.width],
                &table.entries,
            );
            file.list("seqlens_k", &batch.key_lengths());
        }
        _ => {
            file.values("k", &[total_k, heads_kv, dim], &problem.k);
            file.values("v", &[total_k, heads_kv, dim], &problem.v);
            file.list("cu_seqlens_k", &batch.cu_seqlens_k);
        }
    }
    file.finish()
}
