//! What a kernel cannot do without: the floors that counts are compared with.
//!
//! `flops` are those of the matrix products that define the result, at the kernel's chunk or block size, without padding, masked pairs and
//! work done twice. `bytes` reads every input that the result depends on once and writes every output once; index tensors are left out.

use sala_kernels::reference::compress_keys::Window;
use std::collections::BTreeSet;

/// The least work of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    pub flops: u64,
    pub bytes: u64,
}

/// Bytes of an element of q, k, v and out, and of a number in f32.
const ELEMENT: usize = 2;
const FLOAT: usize = 4;

/// Tokens of a chunk of the linear-attention scan.
const CHUNK: usize = 64;

/// Linear attention over whole sequences that start from zero and store their state.
///
/// A chunk of c tokens needs, with two FLOPs a multiply-add: the causal half of Q Kᵀ and of P V, c(c + 1)/2 · (dim_k + dim_v); the state's
/// update, c · dim_k · dim_v; and, but for the first, Q S, the same again.
pub fn linear_prefill(lengths: &[usize], heads: usize, dim_k: usize, dim_v: usize) -> Floor {
    let chunk_flops = |first: bool, tokens: usize| {
        let within = tokens * (tokens + 1) / 2 * (dim_k + dim_v);
        let states = if first { 1 } else { 2 } * tokens * dim_k * dim_v;
        2 * (within + states)
    };
    let sequence_flops = |length: usize| -> usize {
        let chunks = (0..length)
            .step_by(CHUNK)
            .map(|start| chunk_flops(start == 0, CHUNK.min(length - start)));
        chunks.sum()
    };
    let tokens: usize = lengths.iter().sum();
    let rows = tokens * heads * 2 * (dim_k + dim_v) * ELEMENT;
    let states = lengths.len() * heads * dim_k * dim_v * FLOAT;
    Floor {
        flops: (heads * lengths.iter().map(|&length| sequence_flops(length)).sum::<usize>()) as u64,
        bytes: (rows + states) as u64,
    }
}

/// One token a sequence: k vᵀ and Sᵀ q are 2 · dim_k · dim_v multiply-adds; the state is read and written.
pub fn linear_decode(batch: usize, heads: usize, dim_k: usize, dim_v: usize) -> Floor {
    let rows = batch * heads;
    Floor {
        flops: (rows * 4 * dim_k * dim_v) as u64,
        bytes: (rows * (2 * dim_k * dim_v * FLOAT + 2 * (dim_k + dim_v) * ELEMENT)) as u64,
    }
}

/// Means over windows: every key is read once, every row of K1 and K2 written once. No products.
pub fn compress_keys(lengths: &[usize], heads_kv: usize, dim: usize) -> Floor {
    let rows = |length: usize| length + fine_rows(length) + coarse_rows(length);
    let total: usize = lengths.iter().map(|&length| rows(length)).sum();
    Floor {
        flops: 0,
        bytes: (total * heads_kv * dim * ELEMENT) as u64,
    }
}

/// The shapes of selection and sparse attention: the last `queries` tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    pub queries: usize,
    pub keys: usize,
    pub heads_q: usize,
    pub heads_kv: usize,
    pub dim: usize,
    /// Blocks of 64 tokens that a token attends to, and of them those it need not choose: at the start, and before its own.
    pub list_len: usize,
    pub init_blocks: usize,
    pub local_blocks: usize,
}

/// Tokens of a block.
pub const BLOCK: usize = 64;

impl Attention {
    /// The positions of the queries.
    fn positions(&self) -> std::ops::Range<usize> {
        self.keys - self.queries..self.keys
    }

    /// Rows of K1 that decide which free blocks a token at `position` chooses: the windows that touch one of them. None where all fit.
    fn deciding_rows(&self, position: usize) -> usize {
        let own = position / BLOCK;
        if own < self.list_len {
            return 0;
        }
        let first = (4 * self.init_blocks).saturating_sub(1);
        let end = 4 * (own - self.local_blocks);
        end.saturating_sub(first)
    }

    /// Bytes of a row of keys.
    fn key_row(&self) -> usize {
        self.heads_kv * self.dim * ELEMENT
    }
}

/// Selection with the coarse log-sum-exp. Each query head needs a product with every visible row of K2 and with the rows of K1 that can
/// decide. Both are read once up to what the last token needs, and so are the queries that have a choice; lists are written.
pub fn select_blocks(shape: &Attention) -> Floor {
    let choosing = || shape.positions().filter(|&position| shape.deciding_rows(position) > 0);
    let rows: usize = choosing()
        .map(|position| shape.deciding_rows(position) + coarse_rows(position + 1))
        .sum();
    let last = choosing()
        .next_back()
        .map_or(0, |position| shape.deciding_rows(position) + coarse_rows(position + 1));
    let queries = choosing().count() * shape.heads_q * shape.dim * ELEMENT;
    let lists = shape.queries * shape.heads_kv * shape.list_len * size_of::<i32>();
    Floor {
        flops: (rows * shape.heads_q * 2 * shape.dim) as u64,
        bytes: (last * shape.key_row() + queries + lists) as u64,
    }
}

/// Attention over the keys up to each token of the blocks in its list (`lists`, `[queries, heads_kv, list_len]`), or of all blocks. Each of
/// them takes a product with q and one with v. A block that any token lists is read once, and so are queries and lists; out is written.
pub fn sparse_attention(shape: &Attention, lists: Option<&[i32]>) -> Floor {
    let mut pairs = 0;
    let mut blocks_read = BTreeSet::new();
    for (query, position) in shape.positions().enumerate() {
        for head in 0..shape.heads_kv {
            let row = (query * shape.heads_kv + head) * shape.list_len;
            let list = lists.map(|lists| &lists[row..row + shape.list_len]);
            let is_listed = |block: &usize| list.is_none_or(|list| list.contains(&(*block as i32)));
            for block in (0..=position / BLOCK).filter(is_listed) {
                pairs += BLOCK.min(position + 1 - block * BLOCK);
                blocks_read.insert((head, block));
            }
        }
    }
    let keys: usize = blocks_read
        .iter()
        .map(|(_, block)| BLOCK.min(shape.keys - block * BLOCK))
        .sum();
    let rows = shape.queries * shape.heads_q * shape.dim * ELEMENT;
    Floor {
        flops: (pairs * shape.heads_q / shape.heads_kv * 4 * shape.dim) as u64,
        bytes: (2 * keys * shape.dim * ELEMENT + 2 * rows + lists.map_or(0, size_of_val)) as u64,
    }
}

/// Rows of K1 and of K2 that `length` tokens have.
fn fine_rows(length: usize) -> usize {
    Window::fine(BLOCK).rows(length)
}

fn coarse_rows(length: usize) -> usize {
    Window::coarse(BLOCK).rows(length)
}
