//! An engine's loop, on the CPU (`cargo run --release --example decode_loop`): a prompt, then token after token, go through two layers.

use half::bf16;
use sala_kernels::{
    AttentionShape, CompressKeysArgs, DType, Decay, Device, Entry, HostOptions, Kernels, Keys, LinearAttention,
    LinearDecodeArgs, LinearPrefillArgs, LinearShape, Result, SelectBlocksArgs, Sequences, SparseAttentionArgs,
    SparseLayer, Status, SwitchLen, Tensor, TensorMut, lightning_log_decay,
};

fn main() -> Result<()> {
    let mut options = HostOptions::default();
    options.multiprocessors = 132; // As on a GPU with so many, decode steps split the keys.
    let kernels = Kernels::load(&Device::host_with(options))?;
    let (heads, heads_q, heads_kv, dim, dim_k, dim_v) = (4, 4, 1, 64, 64, 64);
    let shape = AttentionShape { heads_q, heads_kv, dim };
    let sparse = SparseLayer::builder(DType::Bf16, shape, 512).local_blocks(4).build()?;
    let shape = LinearShape {
        heads_q: heads,
        heads_kv: heads,
        dim_k,
        dim_v,
    };
    let linear = LinearAttention::builder(DType::Bf16, shape, Decay::PerHead).build()?;

    // Projections of 1024 tokens. The caches of keys and values hold them all from the start; lengths say how many count.
    let x: Vec<_> = (0..1024 * 256).map(|i| bf16::from_f32((i as f32).sin())).collect();
    let kv = Tensor::from_slice(&x[..1024 * 64], &[1, 1024, heads_kv, dim])?;
    let x = Tensor::from_slice(&x, &[1024, heads, dim])?;
    // What a sequence keeps: compressed keys, and the state of the linear layer, in slot 0 of a pool.
    let [k1_shape, k2_shape] = [sparse.k1_rows(1024), sparse.k2_rows(1024)].map(|rows| [1, rows, heads_kv, dim]);
    let (mut k1, mut k2) = (vec![bf16::ZERO; k1_shape[1] * dim], vec![bf16::ZERO; k2_shape[1] * dim]);
    let mut k1 = TensorMut::from_slice(&mut k1, &k1_shape)?;
    let mut k2 = TensorMut::from_slice(&mut k2, &k2_shape)?;
    let (mut pool, log_decay) = (vec![0f32; heads * 64 * 64], lightning_log_decay(0, heads, heads)?);
    let mut pool = TensorMut::from_slice(&mut pool, &[1, heads, dim_k, dim_v])?;
    let slot = Tensor::from_slice(&[0], &[1])?;
    let log_decay = Some(Tensor::from_slice(&log_decay, &[heads])?);
    // What all launches share.
    let words = sparse.workspace_size(Entry::Decode, 1, 1, 1024, None) / 4;
    let (mut workspace, mut counts) = (vec![0u32; words], [0; 4]);
    let mut workspace = TensorMut::from_slice(&mut workspace, &[words])?;
    let mut status = TensorMut::from_slice(&mut counts, &[4])?;

    for tokens in [0..1000, 1000..1001, 1001..1002, 1002..1003, 1003..1004] {
        let new = tokens.len();
        let (old_len, new_len, starts) = ([tokens.start as i32], [tokens.end as i32], [0, new as i32]);
        let keys = Keys::cached(Tensor::from_slice(&new_len, &[1])?);
        let sequences = Sequences::new(Tensor::from_slice(&starts, &[2])?, keys);
        let q = x.narrow(0, tokens.clone())?;

        let mut args = CompressKeysArgs::new(kv, keys, k1.reborrow(), k2.reborrow());
        args.seqlens_old = Some(Tensor::from_slice(&old_len, &[1])?);
        args.status = Some(status.reborrow());
        kernels.run(&sparse, args)?;

        let mut lists = vec![-1; new * sparse.list_len()];
        let mut lists = TensorMut::from_slice(&mut lists, &[new, heads_kv, sparse.list_len()])?;
        let (k1, k2, switch_len) = (k1.as_tensor(), Some(k2.as_tensor()), Some(SwitchLen::Keys));
        let mut args = SelectBlocksArgs::new(q, k1, k2, sequences, switch_len, lists.reborrow());
        args.status = Some(status.reborrow());
        kernels.run(&sparse, args)?;

        let [mut sparse_out, mut linear_out] = [0, 1].map(|_| vec![bf16::ZERO; new * 256]);
        let out = TensorMut::from_slice(&mut sparse_out, &[new, heads_q, dim])?;
        let mut args = SparseAttentionArgs::new(q, kv, kv, sequences, switch_len, lists.as_tensor(), out);
        args.entry = if new == 1 { Entry::Decode } else { Entry::Prefill };
        (args.workspace, args.status) = (Some(workspace.reborrow()), Some(status.reborrow()));
        kernels.run(&sparse, args)?;

        let out = TensorMut::from_slice(&mut linear_out, &[new, heads, dim_v])?;
        if new == 1 {
            let mut args = LinearDecodeArgs::new(q, q, q, log_decay, pool.reborrow(), slot, out);
            args.status = Some(status.reborrow());
            kernels.run(&linear, args)?;
        } else {
            let mut args = LinearPrefillArgs::new(q, q, q, sequences.cu_seqlens_q, log_decay, out);
            (args.state, args.state_out) = (Some(pool.reborrow()), Some(slot));
            args.status = Some(status.reborrow());
            kernels.run(&linear, args)?;
        }
        println!("{tokens:?}: sparse {:.3}, linear {:.3}", sparse_out[1], linear_out[1]);
    }
    Status::from(counts).check()
}
