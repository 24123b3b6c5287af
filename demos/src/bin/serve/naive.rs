//! The same decoder, naively: one whole sequence at a time, in `f64`, over the crate's definitions of its operations.

use crate::model::{
    BLOCK, DENSE_LEN, DIM, EPS, HEADS_KV, HEADS_Q, HIDDEN, LINEAR_HEADS, LOCAL_BLOCKS, Layer, Model, Norms, Real,
    TOP_K, VOCABULARY, normed,
};
use crate::sequence::Row;
use half::bf16;
use sala_kernels::Lse;
use sala_kernels::reference::compress_keys::{Window, compress_keys};
use sala_kernels::reference::linear_attention::{self, LogDecay, States};
use sala_kernels::reference::norms::{Rotation, norm_gate, norm_rope};
use sala_kernels::reference::select_blocks::{self, Position, block_scores};
use sala_kernels::reference::sparse_attention::{self, Blocks, sparse_attention};

/// Keys that a row of K1 or K2 begins with, a block, and what is always in a list.
const INIT_BLOCKS: usize = 1;
const LIST: usize = TOP_K + LOCAL_BLOCKS;

/// What the decoder says of a sequence.
pub struct Judged {
    /// `[tokens, VOCABULARY]`
    pub logits: Vec<f64>,
    /// How far the scores of blocks that only one side took lie from the last one that a list takes, relative to that; 0 if all lists are those
    /// of the definition. Infinite if a list is none that selection could give.
    pub lists_differ_by: f64,
    /// Lists that were compared, and those with another block.
    pub lists: usize,
    pub other_lists: usize,
}

/// Feeds `tokens` to the decoder. Sparse layers attend to the lists in `rows`, which are judged by the decoder's own scores.
pub fn judge(model: &Model, tokens: &[u8], rows: &[Row]) -> Judged {
    let tokens = &tokens[..rows.len()];
    let mut x: Vec<f64> = model.embed(tokens);
    let mut judged = Judged {
        logits: Vec::new(),
        lists_differ_by: 0.0,
        lists: 0,
        other_lists: 0,
    };
    let mut sparse = 0;
    for layer in &model.layers {
        let mixed = match &layer.norms {
            Some(norms) => linear(model, layer, norms, &x),
            None => {
                sparse += 1;
                attend(layer, &x, rows, sparse - 1, &mut judged)
            }
        };
        layer.finish(&mut x, &mixed);
    }
    judged.logits = model.logits(&x);
    debug_assert_eq!(judged.logits.len(), x.len() / HIDDEN * VOCABULARY);
    judged
}

fn linear(model: &Model, layer: &Layer, norms: &Norms, x: &[f64]) -> Vec<bf16> {
    let h = normed(x);
    let tokens = x.len() / HIDDEN;
    let positions: Vec<i32> = (0..tokens as i32).collect();
    let rotation = Rotation {
        cos_sin: &model.cos_sin,
        positions: &positions,
    };
    let heads = |rows: Vec<bf16>, weight: &[bf16]| {
        round(&norm_rope(&rows, [LINEAR_HEADS, DIM], Some(weight), Some(rotation), EPS).0)
    };
    let weights = &layer.mixer;
    let (q, k) = (
        heads(weights.q.project(&h), &norms.q),
        heads(weights.k.project(&h), &norms.k),
    );
    let config = linear_attention::Config {
        heads_q: LINEAR_HEADS,
        heads_kv: LINEAR_HEADS,
        dim_k: DIM,
        dim_v: DIM,
        scale: (DIM as f32).powf(-0.5),
        state_is_vk: false,
    };
    let (v, decay) = (weights.v.project(&h), LogDecay::PerHead(&model.log_decay));
    let out = linear_attention::prefill(&config, &q, &k, &v, &[0, tokens as i32], decay, &States::default()).out;
    round(&norm_gate(
        &round(&out),
        &norms.out,
        &weights.gate.project(&h),
        None,
        EPS,
    ))
}

fn attend(layer: &Layer, x: &[f64], rows: &[Row], sparse: usize, judged: &mut Judged) -> Vec<bf16> {
    let h = normed(x);
    let weights = &layer.mixer;
    let (q, k, v) = (weights.q.project(&h), weights.k.project(&h), weights.v.project(&h));
    let all = [0, rows.len() as i32];
    let positions: Vec<_> = rows
        .iter()
        .enumerate()
        .map(|(position, row)| Some(stand(position, row)))
        .collect();
    let config = select_blocks::Config {
        heads_q: HEADS_Q,
        heads_kv: HEADS_KV,
        dim: DIM,
        scale: (DIM as f32).powf(-0.5),
        block_size: BLOCK,
        topk: TOP_K,
        init_blocks: INIT_BLOCKS,
        local_blocks: LOCAL_BLOCKS,
        lse: Lse::default(),
    };
    let compressed = |window| compress_keys(&k, HEADS_KV, DIM, &all, window);
    let (k1, k2) = (compressed(Window::fine(BLOCK)), compressed(Window::coarse(BLOCK)));
    let scores = block_scores(&config, &q, &k1, &k2, &positions, None);
    let own = select_blocks::select_blocks(&config, &scores, &positions);
    let blocks = rows.len().div_ceil(BLOCK);
    let mut indices = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        for head in 0..HEADS_KV {
            let listed = &row.lists[(sparse * HEADS_KV + head) * LIST..][..LIST];
            if position < DENSE_LEN {
                indices.extend(0..blocks as i32);
                continue;
            }
            let place = position * HEADS_KV + head;
            let of_row = &scores.scores[place * scores.blocks..][..scores.blocks];
            let differs = difference(&config, listed, &own[place * LIST..][..LIST], of_row, position);
            judged.lists += 1;
            judged.other_lists += usize::from(differs > 0.0);
            judged.lists_differ_by = judged.lists_differ_by.max(differs);
            indices.extend(listed);
            indices.extend(vec![-1; blocks.saturating_sub(LIST)]);
        }
    }
    let shape = sparse_attention::Config {
        heads_q: HEADS_Q,
        heads_kv: HEADS_KV,
        dim: DIM,
        dim_v: DIM,
        scale: config.scale,
        block_size: BLOCK,
    };
    let lists = Blocks::Listed {
        indices: &indices,
        list_len: indices.len() / (rows.len() * HEADS_KV).max(1),
        dense: &[false],
    };
    let gate = weights.gate.project(&h);
    round(&sparse_attention(&shape, &q, &k, &v, &all, &positions, lists, None, Some(&gate)).out)
}

/// A token of a chain sees the listed keys up to itself; one of a tree those before all drafts, and the drafts that it follows, which now lie there.
fn stand(position: usize, row: &Row) -> Position {
    Position {
        sequence: 0,
        position,
        end: row.end,
        drafts: (1u32 << (position + 1 - row.end)) - 1,
    }
}

/// How far from the definition's list another one is.
fn difference(config: &select_blocks::Config, listed: &[i32], own: &[i32], scores: &[f32], position: usize) -> f64 {
    let query_block = position / config.block_size;
    let taken = |list: &[i32], block: i32| list.contains(&block);
    let entries: Vec<i32> = listed.iter().copied().filter(|&block| block >= 0).collect();
    let ascends = entries.windows(2).all(|pair| pair[0] < pair[1]);
    let forced = (0..=query_block).filter(|&block| config.is_forced(block, query_block));
    let has_forced = forced.into_iter().all(|block| taken(listed, block as i32));
    let count = own.iter().filter(|&&block| block >= 0).count();
    let are_past = entries.iter().all(|&block| block as usize <= query_block);
    if !ascends || !has_forced || entries.len() != count || !are_past {
        return f64::INFINITY;
    }
    let free = own
        .iter()
        .filter(|&&block| block >= 0 && !config.is_forced(block as usize, query_block));
    let last = free.map(|&block| scores[block as usize]).fold(f32::INFINITY, f32::min);
    let others = (0..=query_block as i32).filter(|&block| taken(listed, block) != taken(own, block));
    let distance = |block: i32| f64::from((scores[block as usize] - last).abs() / last);
    others.map(distance).fold(0.0, f64::max)
}

fn round(values: &[f64]) -> Vec<bf16> {
    values.iter().copied().map(Real::round).collect()
}
