//! A linear layer over two sequences, then a step of a sparse layer, over slices on the CPU: `cargo run --release --example first`

use half::bf16;
use sala_kernels::{
    AttentionShape, CompressKeysArgs, DType, Decay, Device, Kernels, Keys, LinearAttention, LinearPrefillArgs,
    LinearShape, Result, SelectBlocksArgs, Sequences, SparseAttentionArgs, SparseLayer, Tensor, TensorMut,
    lightning_log_decay,
};

fn main() -> Result<()> {
    let kernels = Kernels::load(&Device::host())?;
    linear_layer(&kernels)?;
    sparse_layer(&kernels)
}

fn linear_layer(kernels: &Kernels) -> Result<()> {
    let (heads_q, heads_kv, dim_k, dim_v) = (4, 4, 64, 64);
    let shape = LinearShape {
        heads_q,
        heads_kv,
        dim_k,
        dim_v,
    };
    let layer = LinearAttention::builder(DType::Bf16, shape, Decay::PerHead).build()?;

    // Two sequences, of 100 and 200 tokens. The numbers stand for what projections give.
    let qkv: Vec<_> = (0..300 * 4 * 64).map(|i| bf16::from_f32((i as f32).sin())).collect();
    let log_decay = lightning_log_decay(0, heads_q, heads_q)?;
    let mut out = vec![bf16::ZERO; 300 * 4 * 64];
    let args = LinearPrefillArgs::new(
        Tensor::from_slice(&qkv, &[300, 4, 64])?,
        Tensor::from_slice(&qkv, &[300, 4, 64])?,
        Tensor::from_slice(&qkv, &[300, 4, 64])?,
        Tensor::from_slice(&[0, 100, 300], &[3])?,
        Some(Tensor::from_slice(&log_decay, &[4])?),
        TensorMut::from_slice(&mut out, &[300, 4, 64])?,
    );
    kernels.run(&layer, args)?;
    println!("linear: the last token gives {:.3?} ...", &out[299 * 4 * 64..][..4]);
    Ok(())
}

fn sparse_layer(kernels: &Kernels) -> Result<()> {
    let (heads_q, heads_kv, dim) = (4, 1, 64);
    let shape = AttentionShape { heads_q, heads_kv, dim };
    let builder = SparseLayer::builder(DType::Bf16, shape, 0);
    let layer = builder.topk(4).local_blocks(2).build()?;

    // The newest token of a sequence, whose cache holds 1000 keys and values.
    let kv: Vec<_> = (0..1000 * 64).map(|i| bf16::from_f32((i as f32).sin())).collect();
    let q = Tensor::from_slice(&kv[..4 * 64], &[1, 4, 64])?;
    let kv = Tensor::from_slice(&kv, &[1, 1000, 1, 64])?;
    let keys = Keys::cached(Tensor::from_slice(&[1000], &[1])?);
    let sequences = Sequences::new(Tensor::from_slice(&[0, 1], &[2])?, keys);

    let [k1_shape, k2_shape] = [layer.k1_rows(1000), layer.k2_rows(1000)].map(|rows| [1, rows, 1, 64]);
    let (mut k1, mut k2) = (vec![bf16::ZERO; k1_shape[1] * 64], vec![bf16::ZERO; k2_shape[1] * 64]);
    let k1_out = TensorMut::from_slice(&mut k1, &k1_shape)?;
    let k2_out = TensorMut::from_slice(&mut k2, &k2_shape)?;
    let args = CompressKeysArgs::new(kv, keys, k1_out, k2_out);
    kernels.run(&layer, args)?;

    let (k1, k2) = (Tensor::from_slice(&k1, &k1_shape)?, Tensor::from_slice(&k2, &k2_shape)?);
    let mut list = [-1; 6];
    let list_out = TensorMut::from_slice(&mut list, &[1, 1, layer.list_len()])?;
    let args = SelectBlocksArgs::new(q, k1, Some(k2), sequences, None, list_out);
    kernels.run(&layer, args)?;

    let list_in = Tensor::from_slice(&list, &[1, 1, layer.list_len()])?;
    let mut out = vec![bf16::ZERO; 4 * 64];
    let out_rows = TensorMut::from_slice(&mut out, &[1, 4, 64])?;
    let args = SparseAttentionArgs::new(q, kv, kv, sequences, None, list_in, out_rows);
    kernels.run(&layer, args)?;
    println!("sparse: blocks {list:?} of 16 give {:.3?} ...", &out[..4]);
    Ok(())
}
