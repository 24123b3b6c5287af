//! The sparse call of a file.

use super::{Expected, SparseCall};
use crate::batch::{Batch, Trees};
use crate::memory::Packing;
use crate::numbers::cumulative;
use crate::operations::select_blocks::cases::SelectionInputs;
use crate::operations::sparse_attention::Lists;
use crate::replay::file::{ReplayFile, check_heads};
use crate::storage::{Content, Pages, Storage, Table};
use crate::values::Values;
use sala_kernels::reference::select_blocks;
use sala_kernels::{Entry, Lse};
use std::sync::Arc;

const TENSORS: [&str; 14] = [
    "q",
    "k",
    "v",
    "cu_seqlens_q",
    "cu_seqlens_k",
    "page_table",
    "seqlens_k",
    "block_indices",
    "parent",
    "expected.out",
    "expected.lse",
    "expected.block_indices",
    "expected.block_scores",
    "expected.margin",
];

/// More blocks than any list is asked to hold.
const MAX_BLOCKS: u32 = 4096;

impl SparseCall {
    pub(in crate::replay) fn parse(file: &ReplayFile<'_>) -> Result<Self, String> {
        file.expect_only(&TENSORS)?;
        let [total_q, heads_q, dim] = file.shape_3("q")?;
        let Stored {
            heads_kv,
            dim_v,
            q,
            k,
            v,
            cu_seqlens_k,
            storage,
        } = parse_stored(file, [total_q, heads_q, dim])?;
        let cu_seqlens_q = file.bounds("cu_seqlens_q", total_q)?;
        check_lengths(&cu_seqlens_q, &cu_seqlens_k)?;
        let config = parse_selection(file, heads_q, heads_kv, dim)?;
        let block_indices = parse_lists(file, total_q, heads_kv)?;
        let expected = parse_expected(file, total_q, &config, dim_v)?;
        let entry = parse_entry(file)?;
        let trees = parse_trees(file, entry, &cu_seqlens_q)?;
        let batch = Batch {
            cu_seqlens_q,
            cu_seqlens_k,
            storage,
            trees,
            dense_len: file.count("dense_len")?,
            ..Batch::new(&[], &[])
        };
        let inputs = SelectionInputs {
            config,
            q,
            k,
            batch: batch.bounded(),
            scale_factor: None,
            packing: Packing::Separate,
        };
        let call = SparseCall {
            inputs,
            dim_v,
            v,
            block_indices,
            entry,
            expected,
        };
        Ok(call.without_dense_choices())
    }

    /// The same without expected lists and scores of tokens that are attended densely.
    fn without_dense_choices(mut self) -> Self {
        let (list_len, heads_kv) = (self.inputs.config.list_len(), self.inputs.config.heads_kv);
        let dense = self.dense_tokens();
        if let Some(lists) = &mut self.expected.block_indices {
            let tokens = lists.chunks_mut(heads_kv * list_len).zip(&dense);
            tokens
                .filter(|(_, dense)| **dense)
                .for_each(|(lists, _)| lists.fill(-1));
        }
        if let Some(scores) = &mut self.expected.block_scores {
            let blocks = scores.len() / (heads_kv * dense.len()).max(1);
            let rows = scores.chunks_mut(blocks.max(1)).zip(dense.iter().cycle());
            rows.filter(|(_, dense)| **dense)
                .for_each(|(scores, _)| scores.fill(-1.0));
        }
        self
    }
}

/// Queries, and keys and values as packed sequences, however the file stores them.
struct Stored {
    heads_kv: usize,
    dim_v: usize,
    q: Values,
    k: Values,
    v: Values,
    cu_seqlens_k: Vec<i32>,
    storage: Storage,
}

fn parse_stored(file: &ReplayFile<'_>, q_shape: [usize; 3]) -> Result<Stored, String> {
    if file.has("page_table") {
        return parse_pages(file, q_shape);
    }
    let [total_k, heads_kv, _] = file.shape_3("k")?;
    check_heads(q_shape[1], heads_kv)?;
    let dim_v = file.shape_3("v")?[2];
    let (k_shape, v_shape) = ([total_k, heads_kv, q_shape[2]], [total_k, heads_kv, dim_v]);
    let (q, k, v) = file.query_key_value(&q_shape, &k_shape, &v_shape)?;
    Ok(Stored {
        heads_kv,
        dim_v,
        q,
        k,
        v,
        cu_seqlens_k: file.bounds("cu_seqlens_k", total_k)?,
        storage: Storage::Packed,
    })
}

/// Keys and values in pages `[pages, page_size, heads, channels]`, `page_table` `[batch, max_pages]` and `seqlens_k` `[batch]`.
fn parse_pages(file: &ReplayFile<'_>, q_shape: [usize; 3]) -> Result<Stored, String> {
    let pages = |name| {
        let shape: Result<[usize; 4], _> = file.shape(name)?.try_into();
        shape.map_err(|shape| {
            format!("tensor `{name}` has shape {shape:?}, expected [pages, page size, heads, channels]")
        })
    };
    let [stores, page_size, heads_kv, _] = pages("k")?;
    check_heads(q_shape[1], heads_kv)?;
    let dim_v = pages("v")?[3];
    if !page_size.is_power_of_two() || page_size > 1024 {
        return Err(format!(
            "tensor `k` has pages of {page_size} tokens, expected a power of two up to 1024"
        ));
    }
    let (k_shape, v_shape) = (
        [stores, page_size, heads_kv, q_shape[2]],
        [stores, page_size, heads_kv, dim_v],
    );
    let (q, k, v) = file.query_key_value(&q_shape, &k_shape, &v_shape)?;
    let lengths = file.indices("seqlens_k", None)?;
    let &[batch, width] = file.shape("page_table")?.as_slice() else {
        return Err("tensor `page_table` has another shape than [batch, pages of a sequence]".into());
    };
    if lengths.len() != batch {
        return Err(format!(
            "tensor `seqlens_k` has {} entries, expected {batch} as `page_table` has",
            lengths.len()
        ));
    }
    let room = width * page_size;
    if let Some(length) = lengths
        .iter()
        .find(|&&length| usize::try_from(length).map_or(true, |length| length > room))
    {
        return Err(format!(
            "tensor `seqlens_k` has a length of {length}, expected 0 to {room}, which `page_table` has room for"
        ));
    }
    let table = Table {
        entries: file.indices("page_table", None)?,
        width,
        stores,
    };
    let storage = Storage::Paged(Pages {
        given: Some(Arc::new(table)),
        ..Pages::new(page_size)
    });
    let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
    let cu_seqlens_k = cumulative(&lengths);
    let rows = storage.places(&cu_seqlens_k, Content::Keys).rows_of.concat();
    let rows: Option<Vec<usize>> = rows.into_iter().collect();
    let rows = rows.ok_or_else(|| {
        format!("tensor `page_table` names a page of none, expected one of {stores} where there are keys")
    })?;
    let packed = |values: &Values| values.pick(stores * page_size, &rows);
    Ok(Stored {
        heads_kv,
        dim_v,
        q,
        k: packed(&k),
        v: packed(&v),
        cu_seqlens_k,
        storage,
    })
}

fn parse_entry(file: &ReplayFile<'_>) -> Result<Entry, String> {
    match file.optional_text("entry") {
        None | Some("prefill") => Ok(Entry::Prefill),
        Some("decode") => Ok(Entry::Decode),
        Some(other) => Err(format!("`entry` is `{other}`, expected `prefill` or `decode`")),
    }
}

/// The trees of a decode step, `parent` `[batch, at least the longest sequence's queries]`.
fn parse_trees(file: &ReplayFile<'_>, entry: Entry, cu_seqlens_q: &[i32]) -> Result<Option<Trees>, String> {
    if !file.has("parent") {
        return Ok(None);
    }
    if entry != Entry::Decode {
        return Err("tensor `parent` is of decode steps, expected `entry` to be `decode`".into());
    }
    let sequences = cu_seqlens_q.len() - 1;
    let longest = cu_seqlens_q.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as usize;
    match file.shape("parent")?.as_slice() {
        shape @ &[batch, columns] if batch == sequences && columns >= longest => Ok(Some(Trees {
            parent: file.indices("parent", Some(shape))?,
            columns,
        })),
        other => Err(format!(
            "tensor `parent` has shape {other:?}, expected [{sequences}, at least {longest}]"
        )),
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
        "coarse" => Lse::Coarse,
        "exact" => Lse::Exact,
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
