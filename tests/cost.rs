//! What the kernels cost, counted by the executor: tensor-core work, bytes and bank conflicts are facts of the source, the same on any machine.

use half::bf16;
use sala_kernels::{
    Counters, DType, Decay, DecodeArgs, Device, HostOptions, Kernels, LinearAttention, PrefillArgs, StateLayout,
    Stream, Tensor, TensorMut,
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
