//! What the kernels cost, counted by the executor: tensor-core work, bytes and bank conflicts are facts of the source, the same on any machine.

use half::bf16;
use sala_kernels::{
    CompressKeys, CompressKeysArgs, Counters, DType, Decay, DecodeArgs, Device, HostOptions, Kernels, KeyLengths,
    LinearAttention, Lse, PrefillArgs, SelectBlocks, SelectBlocksArgs, Sequences, StateLayout, Stream, Tensor,
    TensorMut,
};

const HEADS: usize = 2;

fn counting_device(multiprocessors: u32) -> Device {
    Device::host_with(HostOptions {
        count: true,
        multiprocessors,
        ..HostOptions::default()
    })
}

/// The counters of one prefill of a single sequence with states in and out.
fn prefill(tokens: usize, dim_k: usize, dim_v: usize, multiprocessors: u32) -> Counters {
    let device = counting_device(multiprocessors);
    let kernels = Kernels::load(&device).unwrap();
    let stream = Stream::new(&device).unwrap();
    let op = LinearAttention::builder(DType::Bf16, HEADS, dim_k, dim_v)
        .decay(Decay::PerHead)
        .build()
        .unwrap();
    let keys = vec![bf16::ONE; tokens * HEADS * dim_k];
    let values = vec![bf16::ONE; tokens * HEADS * dim_v];
    let mut out = vec![bf16::ZERO; tokens * HEADS * dim_v];
    let mut state = vec![0f32; HEADS * dim_k * dim_v];
    let cu_seqlens = [0, tokens as i32];
    let args = PrefillArgs {
        q: Tensor::from_slice(&keys, &[tokens, HEADS, dim_k]).unwrap(),
        k: Tensor::from_slice(&keys, &[tokens, HEADS, dim_k]).unwrap(),
        v: Tensor::from_slice(&values, &[tokens, HEADS, dim_v]).unwrap(),
        cu_seqlens: Tensor::from_slice(&cu_seqlens, &[2]).unwrap(),
        log_decay: Some(Tensor::from_slice(&[-0.1, -0.2], &[HEADS]).unwrap()),
        state: Some(TensorMut::from_slice(&mut state, &[1, HEADS, dim_k, dim_v]).unwrap()),
        state_in: Some(Tensor::from_slice(&[0], &[1]).unwrap()),
        state_out: Some(Tensor::from_slice(&[0], &[1]).unwrap()),
        out: TensorMut::from_slice(&mut out, &[tokens, HEADS, dim_v]).unwrap(),
        status: None,
    };
    // SAFETY: a host launch has finished when it returns, and the slices outlive it.
    unsafe { op.prefill(&kernels, &stream, args) }.unwrap();
    stream.take_counters()
}

/// The scan does the tensor-core work of its formula and no more: the causal half of P and of P V in blocks, Q S and the update of S in full.
#[test]
fn scan_issues_the_products_of_its_formula() {
    const CHUNK: usize = 64;
    for (tokens, dim_k, dim_v, multiprocessors, tile) in [
        (64usize, 128, 128, 1, 128),
        (130, 128, 128, 4, 64),
        (64, 64, 64, 1000, 32),
        (65, 64, 128, 1, 64),
        (1, 128, 64, 1, 64),
    ] {
        let scores = 6 * 16 * 32 * dim_k; // pieces of 16 × 32 that touch the causal triangle
        let from_scores = 10 * 16 * 16 * tile; // blocks of 16 × 16 in it
        let from_state = CHUNK * dim_k * tile;
        let state = CHUNK * dim_k * tile;
        let products = scores + from_scores + from_state + state;
        let chunks = tokens.div_ceil(CHUNK) * (dim_v / tile) * HEADS;
        let counted = prefill(tokens, dim_k, dim_v, multiprocessors);
        assert_eq!(
            counted.tensor_flops as usize,
            2 * products * chunks,
            "{tokens} tokens, {dim_k} × {dim_v} in tiles of {tile}"
        );
        assert_eq!(counted.blocks as usize, dim_v / tile * HEADS);
    }
}

/// Every byte of q, k, v, out and the state moves once, if one block has all value channels of a head.
#[test]
fn scan_moves_every_byte_once() {
    let (tokens, dim) = (200, 128);
    let counted = prefill(tokens, dim, dim, 1);
    let rows = (tokens * HEADS * dim * 2) as u64;
    let state = (HEADS * dim * dim * 4) as u64;
    assert_eq!(counted.global_bytes_written, rows + state);
    let indices = counted.global_bytes_read - (3 * rows + state);
    assert!(indices < rows / 10, "{indices} bytes of lengths, slots and decays");
    // Sectors of 32 bytes at the edges of slices that are not aligned to them.
    assert!(counted.global_bytes_distinct <= 4 * rows + state + 1024, "{counted:?}");
}

#[test]
fn scan_has_no_bank_conflicts() {
    for (dim_k, dim_v, multiprocessors) in [
        (128, 128, 1),
        (128, 128, 4),
        (128, 128, 1000),
        (64, 64, 1),
        (64, 64, 1000),
    ] {
        let counted = prefill(100, dim_k, dim_v, multiprocessors);
        assert!(counted.shared_wavefronts_ideal > 0);
        assert_eq!(
            counted.shared_wavefronts, counted.shared_wavefronts_ideal,
            "{dim_k} × {dim_v}, {multiprocessors}"
        );
    }
}

#[test]
fn decode_moves_every_byte_of_the_state_twice() {
    let (batch, dim) = (3, 128);
    let device = counting_device(1);
    let kernels = Kernels::load(&device).unwrap();
    let stream = Stream::new(&device).unwrap();
    for layout in [StateLayout::Kv, StateLayout::Vk] {
        let op = LinearAttention::builder(DType::Bf16, HEADS, dim, dim)
            .state_layout(layout)
            .build()
            .unwrap();
        let rows = vec![bf16::ONE; batch * HEADS * dim];
        let mut out = vec![bf16::ZERO; batch * HEADS * dim];
        let mut state = vec![0f32; batch * HEADS * dim * dim];
        let args = DecodeArgs {
            q: Tensor::from_slice(&rows, &[batch, HEADS, dim]).unwrap(),
            k: Tensor::from_slice(&rows, &[batch, HEADS, dim]).unwrap(),
            v: Tensor::from_slice(&rows, &[batch, HEADS, dim]).unwrap(),
            log_decay: Some(Tensor::from_slice(&[-0.1, -0.2], &[HEADS]).unwrap()),
            state: TensorMut::from_slice(&mut state, &[batch, HEADS, dim, dim]).unwrap(),
            state_in: Some(Tensor::from_slice(&[2, 1, 0], &[batch]).unwrap()),
            state_out: Some(Tensor::from_slice(&[2, 1, 0], &[batch]).unwrap()),
            out: TensorMut::from_slice(&mut out, &[batch, HEADS, dim]).unwrap(),
            status: None,
        };
        // SAFETY: a host launch has finished when it returns, and the slices outlive it.
        unsafe { op.decode(&kernels, &stream, args) }.unwrap();
        let counted = stream.take_counters();
        let states = (batch * HEADS * dim * dim * 4) as u64;
        let outputs = (batch * HEADS * dim * 2) as u64;
        assert_eq!(counted.global_bytes_written, states + outputs);
        assert!(counted.global_bytes_read >= states, "{counted:?}");
        // Lengths, slots and decays are asked for by every thread, but they are the same few sectors.
        assert!(
            counted.global_bytes_distinct <= states + 4 * outputs + 512,
            "{counted:?}"
        );
    }
}

/// The counters of compressing one sequence.
fn compress(tokens: usize, dim: usize) -> Counters {
    let device = counting_device(1);
    let kernels = Kernels::load(&device).unwrap();
    let stream = Stream::new(&device).unwrap();
    let op = CompressKeys::builder(DType::Bf16, HEADS, dim).build().unwrap();
    let keys = vec![bf16::ONE; tokens * HEADS * dim];
    let mut k1 = vec![bf16::ZERO; op.k1_rows(tokens) * HEADS * dim];
    let mut k2 = vec![bf16::ZERO; op.k2_rows(tokens) * HEADS * dim];
    let cu_seqlens = [0, tokens as i32];
    let args = CompressKeysArgs {
        k: Tensor::from_slice(&keys, &[tokens, HEADS, dim]).unwrap(),
        keys: KeyLengths::Packed {
            cu_seqlens_k: Tensor::from_slice(&cu_seqlens, &[2]).unwrap(),
        },
        seqlens_old: None,
        max_seqlen_k: None,
        max_new: None,
        k1: TensorMut::from_slice(&mut k1, &[op.k1_rows(tokens), HEADS, dim]).unwrap(),
        k2: TensorMut::from_slice(&mut k2, &[op.k2_rows(tokens), HEADS, dim]).unwrap(),
        status: None,
    };
    // SAFETY: a host launch has finished when it returns, and the slices outlive it.
    unsafe { op.launch(&kernels, &stream, args) }.unwrap();
    stream.take_counters()
}

/// Keys are read once and four groups of 16 again past each tile of 64, rows are written once, and no bank is asked twice.
#[test]
fn compression_reads_keys_once() {
    for dim in [64, 128] {
        let tokens = 4096;
        let counted = compress(tokens, dim);
        let row = HEADS * dim * 2;
        let rows = (tokens / 16 - 1) + (tokens / 64 - 1);
        assert_eq!(counted.global_bytes_written as usize, rows * row);
        let tiles = tokens / 1024;
        let keys = (tokens + (tiles - 1) * 64) * row;
        let indices = counted.global_bytes_read as usize - keys;
        assert!(indices < keys / 10, "{indices} bytes of lengths");
        assert_eq!(counted.shared_wavefronts, counted.shared_wavefronts_ideal);
    }
}

/// The counters of selecting for the last `queries` tokens of one sequence, with SALA's lists of 96 blocks.
fn select(queries: usize, keys: usize, group: usize, dim: usize, lse: Lse) -> Counters {
    let device = counting_device(1);
    let kernels = Kernels::load(&device).unwrap();
    let stream = Stream::new(&device).unwrap();
    let op = SelectBlocks::builder(DType::Bf16, group, 1, dim)
        .lse(lse)
        .build()
        .unwrap();
    let number = |i: usize| bf16::from_f32(((i * 7919) % 1009) as f32 / 504.0 - 1.0);
    let q: Vec<_> = (0..queries * group * dim).map(number).collect();
    let k1: Vec<_> = (0..keys / 16 * dim).map(number).collect();
    let mut indices = vec![0i32; queries * op.list_len()];
    let (cu_seqlens_q, cu_seqlens_k) = ([0, queries as i32], [0, keys as i32]);
    let args = SelectBlocksArgs {
        q: Tensor::from_slice(&q, &[queries, group, dim]).unwrap(),
        k1: Tensor::from_slice(&k1, &[keys / 16, 1, dim]).unwrap(),
        k2: Some(Tensor::from_slice(&k1[..keys / 64 * dim], &[keys / 64, 1, dim]).unwrap()),
        sequences: Sequences {
            cu_seqlens_q: Tensor::from_slice(&cu_seqlens_q, &[2]).unwrap(),
            keys: KeyLengths::Packed {
                cu_seqlens_k: Tensor::from_slice(&cu_seqlens_k, &[2]).unwrap(),
            },
            switch_len: None,
            max_seqlen_q: None,
            max_seqlen_k: None,
        },
        scale_factor: None,
        block_indices: TensorMut::from_slice(&mut indices, &[queries, 1, op.list_len()]).unwrap(),
        scores: None,
        status: None,
    };
    // SAFETY: a host launch has finished when it returns, and the slices outlive it.
    unsafe { op.launch(&kernels, &stream, args) }.unwrap();
    stream.take_counters()
}

/// Scoring takes 32 columns a warp and 32 rows at a time, of K2 up to the last token and of K1 from the first free block to the last; one
/// exponential an element of either, and a few for new maxima. Warps without tokens do nothing.
#[test]
fn selection_scores_free_blocks_alone() {
    const TURN: usize = 32;
    for (queries, group, dim, lse, warps) in [
        (16, 16, 128, Lse::Coarse, 8),
        (16, 16, 64, Lse::Exact, 8),
        (1, 16, 128, Lse::Coarse, 1),
        (5, 4, 64, Lse::Coarse, 2),
    ] {
        let keys: usize = 64 * 160;
        let sum_rows = if lse == Lse::Coarse {
            keys / 64 - 1
        } else {
            keys / 16 - 1
        };
        let score_rows: usize = 4 * (159 - 32);
        let turns = (sum_rows.div_ceil(TURN) + score_rows.div_ceil(TURN)) * warps;
        let counted = select(queries, keys, group, dim, lse);
        assert_eq!(
            counted.tensor_flops as usize,
            turns * TURN * 32 * dim * 2,
            "{queries} queries, group {group}"
        );
        let exponentials = counted.exponentials as usize;
        let elements = turns * TURN * 32;
        assert!(
            exponentials >= elements && exponentials < elements * 5 / 4,
            "{exponentials} for {elements} elements"
        );
        assert_eq!(counted.shared_wavefronts, counted.shared_wavefronts_ideal);
    }
}

/// While a list has room for every block, nothing is read but lengths.
#[test]
fn selection_without_a_choice_only_writes_lists() {
    let queries = 64;
    let counted = select(queries, 64 * 96, 16, 128, Lse::Coarse);
    assert_eq!((counted.tensor_flops, counted.exponentials), (0, 0));
    assert_eq!(counted.global_bytes_written as usize, queries * 96 * 4);
    assert!(
        counted.global_bytes_distinct as usize <= queries * 96 * 4 + 1024,
        "{counted:?}"
    );
}
