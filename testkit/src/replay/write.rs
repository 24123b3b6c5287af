//! Calls as the bytes of replay files, as far as the format can say them: packing, and how keys are cached, is left out.

use crate::operations::linear_attention::{DecayValues, LinearProblem, Phase};
use crate::operations::sparse_attention::AttentionProblem;
use crate::storage::{Content, KeyRows, Storage};
use crate::tolerance::Precision;
use crate::values::Values;
use bytemuck::NoUninit;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use sala_kernels::Entry;
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

    fn finish(self) -> Option<Vec<u8>> {
        let views = self.tensors.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).ok()?;
            Some((*name, view))
        });
        let views: Vec<_> = views.collect::<Option<_>>()?;
        safetensors::serialize(views, Some(self.constants)).ok()
    }
}

/// A call of linear attention over whole sequences, with a slot of its own for each.
pub fn linear_bytes(problem: &LinearProblem) -> Option<Vec<u8>> {
    let config = problem.config;
    let (tokens, heads, batch) = (problem.tokens(), config.heads, problem.batch());
    if problem.phase != Phase::Prefill {
        return None;
    }
    let mut file = Writer::default();
    file.constant("op", "linear_attention");
    file.constant("scale", config.scale);
    file.values("q", &[tokens, heads, config.dim_k], &problem.q);
    file.values("k", &[tokens, heads, config.dim_k], &problem.k);
    file.values("v", &[tokens, heads, config.dim_v], &problem.v);
    file.list("cu_seqlens", &problem.cu_seqlens);
    match &problem.decay {
        DecayValues::None => file.tensor("log_decay", Dtype::F32, &[heads], &vec![0f32; heads]),
        DecayValues::PerHead(values) => file.tensor("log_decay", Dtype::F32, &[heads], values),
        DecayValues::PerToken(values) => file.tensor("log_decay", Dtype::F32, &[tokens, heads], values),
    }
    if let Some(slots) = &problem.state_in {
        let states = slots.iter().map(|&slot| match usize::try_from(slot) {
            Ok(slot) if slot < problem.slots() => Some(by_key(problem, slot)),
            Ok(_) => None,
            Err(_) => Some(vec![0.0; config.slot_len()]),
        });
        let states = states.collect::<Option<Vec<_>>>()?.concat();
        let shape = [batch, heads, config.dim_k, config.dim_v];
        file.tensor("initial_state", Dtype::F32, &shape, &states);
    }
    file.finish()
}

/// The states of a slot, `[heads, dim_k, dim_v]`.
fn by_key(problem: &LinearProblem, slot: usize) -> Vec<f32> {
    let (config, states) = (problem.config, &problem.pool[problem.slot(slot)]);
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
    let has_options = problem.gate.is_some() || problem.scale_factor.is_some();
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
