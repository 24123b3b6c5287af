//! What calls cost at least, which counts are compared with.
//!
//! A [`Floor`] holds the FLOPs of the matrix products that define the result, at the kernel's chunk or block size, without padding, masked pairs
//! and work done twice; and the bytes of every input that the result depends on, read once, and of every output, written once. Lengths, slots,
//! decays, factors and logarithms are left out. What the tiles of a kernel make of the products is `…_issues`: exact, too.

use crate::operations::append_keys::AppendProblem;
use crate::operations::choose_blocks::ChooseProblem;
use crate::operations::choose_tokens::TokensProblem;
use crate::operations::commit_keys::CommitProblem;
use crate::operations::compress_keys::CompressProblem;
use crate::operations::gather_rows::KeptTokens;
use crate::operations::linear_attention::{LinearProblem, Phase};
use crate::operations::linear_drafts::{DraftsProblem, Step};
use crate::operations::linear_ranks::{self, RanksProblem};
use crate::operations::merge::MergeProblem;
use crate::operations::norms::{Follows, NormProblem};
use crate::operations::score_keys::ScoreProblem;
use crate::operations::select_blocks::SelectProblem;
use crate::operations::sparse_attention::AttentionProblem;
use sala_kernels::Lse;
use sala_kernels::reference::compress_keys::Window;
use sala_kernels::reference::{linear_attention, select_blocks};
use std::collections::{BTreeMap, BTreeSet};

/// The least work of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    pub flops: u64,
    /// Bytes.
    pub read: u64,
    /// Bytes.
    pub written: u64,
}

impl Floor {
    fn new(flops: usize, read: usize, written: usize) -> Floor {
        let [flops, read, written] = [flops, read, written].map(|count| count as u64);
        Floor { flops, read, written }
    }

    pub fn bytes(&self) -> u64 {
        self.read + self.written
    }
}

/// Bytes of an element of q, k, v and out, and of a number in f32.
const ELEMENT: usize = 2;
const FLOAT: usize = 4;

/// Tokens of a step of the linear-attention scan.
const SCAN_STEP: usize = 32;

/// Two FLOPs per multiply-add. A step of c tokens needs the causal half of Q Kᵀ and of P V, c(c + 1)/2 · (dim_k + dim_v); the state's update,
/// c · dim_k · dim_v; and, unless it starts from zero, Q S, the same again. A decode step needs the update and Q S.
pub fn linear(problem: &LinearProblem) -> Floor {
    let linear_attention::Config {
        heads_q,
        heads_kv,
        dim_k,
        dim_v,
        ..
    } = problem.config;
    let named = |slots: Option<&[i32]>, sequence: usize| slots.is_some_and(|slots| slots[sequence] >= 0);
    let lengths = problem.cu_seqlens.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
    let (mut multiplications, mut tokens, mut read, mut stored) = (0, 0, 0, 0);
    for (sequence, length) in lengths.enumerate() {
        let starts_from_state = named(problem.state_in.as_deref(), sequence);
        for start in (0..length).step_by(SCAN_STEP) {
            let count = SCAN_STEP.min(length - start);
            let states = 1 + usize::from(start > 0 || starts_from_state);
            multiplications += count * states * dim_k * dim_v;
            if problem.phase == Phase::Prefill {
                multiplications += count * (count + 1) / 2 * (dim_k + dim_v);
            }
        }
        tokens += length;
        read += usize::from(starts_from_state);
        stored += usize::from(named(problem.stored_to(), sequence));
    }
    let state = dim_k * dim_v * FLOAT;
    Floor::new(
        heads_q * 2 * multiplications,
        tokens * (heads_q * dim_k + heads_kv * (dim_k + dim_v)) * ELEMENT + heads_q * read * state,
        heads_q * (tokens * dim_v * ELEMENT + stored * state),
    )
}

/// Each state is read once, and written once but by a verification; drafts are read once, those that a commitment accepts. No products are
/// counted: none are on tensor cores.
pub fn drafts(problem: &DraftsProblem) -> Floor {
    let linear_attention::Config {
        heads_q,
        heads_kv,
        dim_k,
        dim_v,
        ..
    } = problem.config;
    let states = problem.batch() * problem.config.slot_len() * FLOAT;
    let tokens = problem.batch() * problem.drafts;
    let (queries, keys) = (tokens * heads_q * ELEMENT, tokens * heads_kv * ELEMENT);
    match &problem.step {
        Step::Verify { .. } => Floor::new(0, states + queries * dim_k + keys * (dim_k + dim_v), queries * dim_v),
        Step::Commit { accepted, .. } => {
            let accepted: usize = accepted.iter().map(|&count| count.max(0) as usize).sum();
            Floor::new(0, states + accepted * heads_kv * (dim_k + dim_v) * ELEMENT, states)
        }
        Step::Copy => Floor::new(0, states, states),
    }
}

/// The parts of sequences: every decay, state and output once. A correction multiplies queries by states where the decay has left of them what is
/// not 0 in f32, and moves nothing for the other tokens.
pub fn ranks(problem: &RanksProblem) -> Floor {
    let linear_attention::Config {
        heads_q, dim_k, dim_v, ..
    } = problem.config;
    let states = |count: usize| count * problem.config.slot_len() * FLOAT;
    match &problem.step {
        linear_ranks::Step::Sum { .. } => {
            let sums = problem.tokens * heads_q * FLOAT;
            Floor::new(0, sums, sums)
        }
        linear_ranks::Step::Merge { total, state_out, .. } => {
            let given = problem.state_in.iter().filter(|&&slot| slot >= 0).count();
            let stored = state_out.iter().filter(|&&slot| slot >= 0).count();
            Floor::new(0, states(total.len() / heads_q + given), states(stored))
        }
        linear_ranks::Step::Correct { cumulative, .. } => {
            let rows = cumulative.iter().filter(|sum| sum.exp() >= f32::MIN_POSITIVE).count();
            let out = rows * dim_v * ELEMENT;
            let read = states(problem.batch()) + rows * dim_k * ELEMENT + out;
            Floor::new(2 * rows * dim_k * dim_v, read, out)
        }
    }
}

/// FLOPs that the scan issues where a block has `tile` value channels: per step and block the pieces of 16 × 16 of Q Kᵀ and
/// of P V that touch the causal triangle, and Q S and the update of S in full.
pub fn scan_issues(problem: &LinearProblem, tile: usize) -> u64 {
    let linear_attention::Config {
        heads_q: heads,
        dim_k,
        dim_v,
        ..
    } = problem.config;
    let scores = 3 * 16 * 16 * dim_k;
    let from_scores = 3 * 16 * 16 * tile;
    let states = 2 * SCAN_STEP * dim_k * tile;
    let lengths = problem.cu_seqlens.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
    let steps: usize = lengths.map(|length| length.div_ceil(SCAN_STEP)).sum();
    (2 * (scores + from_scores + states) * steps * (dim_v / tile) * heads) as u64
}

/// Every new row is read once and written once, with its key and its value. No products.
pub fn append(problem: &AppendProblem) -> Floor {
    let bytes = (problem.k_new.len() + problem.v_new.len()) * ELEMENT;
    Floor::new(0, bytes, bytes)
}

/// Every row that moves is read once and written once, with its key and its value. No products.
pub fn commit(problem: &CommitProblem) -> Floor {
    let row = 2 * problem.heads * problem.dim * ELEMENT;
    let bytes = problem
        .commitment()
        .moved
        .iter()
        .filter(|moved| moved.from != moved.to)
        .count()
        * row;
    Floor::new(0, bytes, bytes)
}

/// Every query and key is read once, every score written once. No products: a sum of queries and a product of each key are no work of tensor cores.
pub fn key_scores(problem: &ScoreProblem) -> Floor {
    let scores = problem.batch.sequences() * problem.config.heads_kv * problem.tokens;
    Floor::new(0, (problem.q.len() + problem.k.len()) * ELEMENT, scores * FLOAT)
}

/// Every score is read once, every entry of a list written once. No products.
pub fn tokens(problem: &TokensProblem) -> Floor {
    let entries = problem.batch.sequences() * problem.config.heads_kv * problem.config.chosen;
    Floor::new(0, problem.scores.len() * FLOAT, entries * FLOAT)
}

/// Every row of a list is read once and written once, with its key, its value and its score, and the list is read. No products.
pub fn kept(problem: &KeptTokens) -> Floor {
    let score = usize::from(problem.scores.is_some()) * FLOAT;
    let rows = problem.indices.iter().filter(|&&token| token >= 0).count() * (2 * problem.dim * ELEMENT + score);
    Floor::new(0, rows + problem.indices.len() * FLOAT, rows)
}

/// Every row of either side is read once but those that saw no key, and every row written once. No products.
pub fn merge(problem: &MergeProblem) -> Floor {
    let row = problem.dim * ELEMENT;
    let sides = problem.sides.iter().flat_map(|side| &side.lse);
    let read = sides.filter(|&&lse| lse != f32::NEG_INFINITY).count();
    Floor::new(0, read * row, problem.rows() * row)
}

/// Every row and gate, every weight and every row of the table that a token stands at is read once; every row or sum is written once. No products.
pub fn norm(problem: &NormProblem) -> Floor {
    let x = problem.x.len() * ELEMENT;
    let weight = problem.weight.len() * ELEMENT;
    match &problem.follows {
        Follows::Rope {
            dim,
            with_weight,
            positions,
        } => {
            let distinct = |positions: &[i32]| positions.iter().collect::<BTreeSet<_>>().len();
            let rows = positions.as_ref().map_or(0, |(positions, _)| distinct(positions));
            Floor::new(0, x + usize::from(*with_weight) * weight + rows * dim * FLOAT, x)
        }
        Follows::Gate { .. } => Floor::new(0, 2 * x + weight, x),
        Follows::Sums => Floor::new(0, x, problem.tokens * FLOAT),
    }
}

/// Every key is read once, every row of K1 and K2 written once. No products.
pub fn compression(problem: &CompressProblem) -> Floor {
    let select_blocks::Config {
        heads_kv,
        dim,
        block_size,
        ..
    } = problem.config;
    let windows = [Window::fine(block_size), Window::coarse(block_size)];
    let lengths = problem.cu_seqlens_k.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
    let rows = lengths
        .clone()
        .flat_map(|length| windows.map(|window| window.rows(length)));
    let row = heads_kv * dim * ELEMENT;
    Floor::new(0, lengths.sum::<usize>() * row, rows.sum::<usize>() * row)
}

/// Of every token that has a choice the scores of the blocks that it may choose from are read; lists are written. No products.
pub fn choice(problem: &ChooseProblem) -> Floor {
    let config = &problem.config;
    let positions = problem.batch.choosing(problem.total_q()).into_iter().flatten();
    let candidates = positions.map(|position| {
        let own = position.position / config.block_size;
        match own < config.list_len() {
            true => 0,
            false => own + 1 - config.init_blocks - config.local_blocks,
        }
    });
    let lists = problem.total_q() * config.heads_kv * config.list_len();
    Floor::new(0, candidates.sum::<usize>() * config.heads_kv * FLOAT, lists * FLOAT)
}

/// Rows of K1 that can decide which blocks a token at `position` chooses: the windows that touch a block that is not always chosen. None where
/// all blocks fit its list.
fn deciding_rows(config: &select_blocks::Config, position: usize) -> usize {
    let own = position / config.block_size;
    if own < config.list_len() {
        return 0;
    }
    let first = (4 * config.init_blocks).saturating_sub(1);
    let end = 4 * (own - config.local_blocks);
    end.saturating_sub(first)
}

/// Rows that normalise the scores of a token at `position`: of K2, or of K1.
fn normalising_rows(config: &select_blocks::Config, position: usize) -> usize {
    let window = match config.lse {
        Lse::Coarse => Window::coarse(config.block_size),
        Lse::Exact => Window::fine(config.block_size),
    };
    window.rows(position + 1)
}

/// A query head that has a choice needs a product with every row that normalises its scores and every row that can decide. Of each sequence both
/// are read once, up to what the last token needs, and so are the queries that have a choice; lists are written.
pub fn selection(problem: &SelectProblem) -> Floor {
    let config = &problem.config;
    let select_blocks::Config {
        heads_q, heads_kv, dim, ..
    } = *config;
    let total_q = problem.total_q();
    let (mut products, mut queries, mut last) = (0, 0, BTreeMap::new());
    for position in problem.batch.choosing(total_q).into_iter().flatten() {
        let deciding = deciding_rows(config, position.position);
        if deciding > 0 {
            let more = match config.lse {
                Lse::Coarse => deciding,
                // They are among those that normalise.
                Lse::Exact => 0,
            };
            let rows = normalising_rows(config, position.position) + more;
            (products, queries) = (products + rows, queries + 1);
            last.insert(position.sequence, rows);
        }
    }
    let keys: usize = last.into_values().sum();
    Floor::new(
        products * heads_q * 2 * dim,
        (keys * heads_kv + queries * heads_q) * dim * ELEMENT,
        total_q * heads_kv * config.list_len() * size_of::<i32>(),
    )
}

/// FLOPs that selection issues for the tokens of one block: each of `warps` warps scores 32 columns, 32 rows at a time, of the rows that normalise
/// and of K1 from the first free block to the last.
pub fn selection_issues(problem: &SelectProblem, warps: usize) -> u64 {
    const TURN: usize = 32;
    const COLUMNS: usize = 32;
    let last = problem
        .batch
        .choosing(problem.total_q())
        .into_iter()
        .flatten()
        .next_back();
    let last = last.map_or(0, |position| position.position);
    let rows = match deciding_rows(&problem.config, last) {
        0 => return 0,
        deciding => [normalising_rows(&problem.config, last), deciding],
    };
    let turns: usize = rows.iter().map(|rows| rows.div_ceil(TURN)).sum();
    (turns * warps * TURN * COLUMNS * problem.config.dim * 2) as u64
}

/// Each pair of a query head and a key that it attends to takes a product with q and one with v: the keys up to a token of the blocks in its list,
/// or of all blocks from its first key on. A block that any token attends to is read once, and so are queries and lists; out is written.
pub fn attention(problem: &AttentionProblem) -> Floor {
    let sala_kernels::reference::sparse_attention::Config {
        heads_q,
        heads_kv,
        dim,
        dim_v,
        block_size,
        ..
    } = problem.config;
    let (total_q, total_k) = (problem.total_q(), problem.total_k());
    let dense = problem.batch.dense();
    let keys = problem.batch.key_lengths();
    let (mut pairs, mut blocks_read) = (0, BTreeSet::new());
    for (token, position) in problem.batch.positions(total_q, total_k).into_iter().enumerate() {
        let Some(position) = position else { continue };
        for head in 0..heads_kv {
            let list = problem
                .lists
                .as_ref()
                .filter(|_| !dense[position.sequence])
                .map(|lists| {
                    let row = (token * heads_kv + head) * lists.list_len;
                    &lists.indices[row..row + lists.list_len]
                });
            let is_listed = |block: &usize| list.is_none_or(|list| list.contains(&(*block as i32)));
            let first = problem.first_key.as_ref().filter(|_| problem.lists.is_none());
            let first = first.map_or(0, |first| usize::try_from(first[token]).unwrap_or(0));
            for block in (first / block_size..=position.position / block_size).filter(is_listed) {
                let keys = first.max(block * block_size)..(position.position + 1).min((block + 1) * block_size);
                if !keys.is_empty() {
                    pairs += keys.len();
                    blocks_read.insert((position.sequence, head, block));
                }
            }
        }
    }
    let rows =
        |(sequence, _, block): &(usize, usize, usize)| block_size.min(keys[*sequence] as usize - block * block_size);
    let keys: usize = blocks_read.iter().map(rows).sum();
    let lists = problem
        .lists
        .as_ref()
        .map_or(0, |lists| size_of_val(lists.indices.as_slice()));
    Floor::new(
        pairs * heads_q / heads_kv * 2 * (dim + dim_v),
        (keys * (dim + dim_v) + total_q * heads_q * dim) * ELEMENT + lists,
        total_q * heads_q * dim_v * ELEMENT,
    )
}
