//! What a kernel cannot do without: the floors that counts are compared with.
//!
//! `flops` are those of the matrix products that define the result, at the kernel's chunk or block size, without padding, masked pairs and
//! work done twice. `bytes` reads every input that the result depends on once and writes every output once; index tensors are left out.

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
