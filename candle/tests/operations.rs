//! What the operations give over tensors, by formulas in candle's own operations, in f32.

mod common;

use candle_core::{D, DType, Device, Result, Tensor};
use common::{close, kernels, values};
use sala_kernels::{
    AttentionShape, Decay, Entry, LinearAttention, LinearShape, Merge, Norm, SparseLayer, lightning_log_decay,
    rotary_cos_sin,
};
use sala_kernels_candle::{Keys, Sequences, States};

const HEADS: usize = 4;
const DIM: usize = 64;

fn f32(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(DType::F32)
}

/// `[heads, tokens, dim]`, the kv head of each query head.
fn heads_first(tensor: &Tensor) -> Result<Tensor> {
    let tensor = f32(tensor)?.transpose(0, 1)?;
    let repeats = HEADS / tensor.dim(0)?;
    let (heads, tokens, dim) = tensor.dims3()?;
    let tensor = tensor.unsqueeze(1)?.expand((heads, repeats, tokens, dim))?;
    tensor.reshape((HEADS, tokens, dim))?.contiguous()
}

/// `q kᵀ · scale` of the last queries, `[heads, queries, keys]`.
fn logits(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let scale = 1.0 / (DIM as f64).sqrt();
    heads_first(q)?.matmul(&heads_first(k)?.t()?)? * scale
}

/// A number for each query and key, by their positions, `[1, queries, keys]`.
fn by_position(queries: usize, keys: usize, number: impl Fn(usize, usize) -> f32) -> Result<Tensor> {
    let at = |row: usize| (0..keys).map(move |key| (row + keys - queries, key));
    let numbers: Vec<_> = (0..queries)
        .flat_map(at)
        .map(|(query, key)| number(query, key))
        .collect();
    Tensor::from_vec(numbers, (1, queries, keys), &Device::Cpu)
}

/// Causal softmax attention, and its logarithms of sums, as `[tokens, heads, …]`.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    let (queries, keys) = (q.dim(0)?, k.dim(0)?);
    let mask = by_position(
        queries,
        keys,
        |query, key| if key <= query { 0.0 } else { f32::NEG_INFINITY },
    )?;
    let logits = logits(q, k)?.broadcast_add(&mask)?;
    let lse = logits.log_sum_exp(D::Minus1)?;
    let out = logits
        .broadcast_sub(&lse.unsqueeze(D::Minus1)?)?
        .exp()?
        .matmul(&heads_first(v)?)?;
    Ok((out.transpose(0, 1)?, lse.t()?))
}

#[test]
fn a_linear_layer_scans_and_decodes() -> Result<()> {
    let (kernels, device) = (kernels(), Device::Cpu);
    let shape = LinearShape {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim_k: DIM,
        dim_v: DIM,
    };
    let layer = LinearAttention::builder(sala_kernels::DType::Bf16, shape, Decay::PerHead);
    let layer = layer.build().expect("a layer");
    let decay = lightning_log_decay(0, HEADS, HEADS).expect("decays");
    let log_decay = Tensor::new(decay.as_slice(), &device)?;

    // A prompt and one step, as one tensor of packed q, k and v: views of it are not copied.
    let packed = values(1, (71, 3 * HEADS, DIM), DType::BF16)?;
    let part =
        |from: usize, tokens: usize, index: usize| packed.narrow(0, from, tokens)?.narrow(1, index * HEADS, HEADS);
    let pool = Tensor::zeros((3, HEADS, DIM, DIM), DType::F32, &device)?;
    let slots = Tensor::new(&[2u32], &device)?;
    let states = States {
        pool: &pool,
        state_in: None,
        state_out: Some(&slots),
    };
    let cu_seqlens = Tensor::new(&[0i32, 70], &device)?;
    let [q, k, v] = [0, 1, 2].map(|index| part(0, 70, index));
    let prompt = kernels.linear_prefill(&layer, &q?, &k?, &v?, &cu_seqlens, Some(&log_decay), Some(states))?;
    let [q, k, v] = [0, 1, 2].map(|index| part(70, 1, index));
    let step = kernels.linear_decode(&layer, &q?, &k?, &v?, Some(&log_decay), &pool, &slots)?;
    kernels.check_status()?;

    let [q, k, v] = [0, 1, 2].map(|index| part(0, 71, index));
    let weights: Vec<_> = decay
        .iter()
        .map(|g| {
            by_position(71, 71, |query, key| {
                if key <= query {
                    (g * (query - key) as f32).exp()
                } else {
                    0.0
                }
            })
        })
        .collect::<Result<_>>()?;
    let expected = (logits(&q?, &k?)? * Tensor::cat(&weights, 0)?)?
        .matmul(&heads_first(&v?)?)?
        .transpose(0, 1)?;
    close("out", &Tensor::cat(&[prompt, step], 0)?, &expected, 0.005)?;
    // The slots that nobody named are as they were.
    assert_eq!(pool.narrow(0, 0, 2)?.abs()?.max_all()?.to_scalar::<f32>()?, 0.0);
    Ok(())
}

#[test]
fn a_sparse_layer_decodes_over_pages() -> Result<()> {
    let (kernels, device) = (kernels(), Device::Cpu);
    let shape = AttentionShape {
        heads_q: HEADS,
        heads_kv: 1,
        dim: DIM,
    };
    let layer = SparseLayer::builder(sala_kernels::DType::F16, shape, 0)
        .topk(4)
        .local_blocks(2);
    let layer = layer.build().expect("a layer");
    // 300 keys in five of eight pages of 64, in any order; keys and values are the halves of one tensor.
    let (k_new, v_new) = (
        values(2, (300, 1, DIM), DType::F16)?,
        values(3, (300, 1, DIM), DType::F16)?,
    );
    let pages = Tensor::zeros((8, 2, 64, 1, DIM), DType::F16, &device)?;
    let (k, v) = (pages.narrow(1, 0, 1)?.squeeze(1)?, pages.narrow(1, 1, 1)?.squeeze(1)?);
    let k1 = Tensor::zeros((8, 4, 1, DIM), DType::F16, &device)?;
    let k2 = Tensor::zeros((8, 1, 1, DIM), DType::F16, &device)?;
    let (seqlens_k, page_table) = (
        Tensor::new(&[300u32], &device)?,
        Tensor::new(&[[6u32, 1, 7, 3, 0]], &device)?,
    );
    let keys = Keys::Paged {
        seqlens_k: &seqlens_k,
        page_table: &page_table,
    };
    let cu_seqlens_new = Tensor::new(&[0u32, 300], &device)?;
    kernels.append_keys(&layer, &k_new, &v_new, &k, &v, &Sequences::new(&cu_seqlens_new, keys))?;
    kernels.compress_keys(&layer, &k, &k1, &k2, &keys, None)?;

    // Row 5 of K1 is the mean of keys 80 to 111, and lies with key 111, in the second page of the table.
    let mean = f32(&k_new.narrow(0, 80, 32)?)?.mean(0)?;
    close("k1", &k1.get(1)?.get(2)?, &mean, 0.001)?;

    let cu_seqlens_q = Tensor::new(&[0u32, 1], &device)?;
    let mut sequences = Sequences::new(&cu_seqlens_q, keys);
    sequences.max_seqlen_q = Some(1);
    let q = values(4, (1, HEADS, DIM), DType::F16)?;
    let lists = kernels.select_blocks(&layer, &q, &k1, Some(&k2), &sequences, None, Entry::Decode)?;
    assert_eq!(
        lists.flatten_all()?.to_vec1::<i32>()?[..6],
        [0, 1, 2, 3, 4, -1],
        "there are but five blocks"
    );
    let expected = attention(&q, &k_new, &v_new)?;
    let sparse = kernels.sparse_attention(&layer, &q, &k, &v, &lists, &sequences, None, Entry::Decode)?;
    let dense = kernels.dense_attention(&layer, &q, &k, &v, &sequences, Entry::Decode)?;
    for (out, lse) in [sparse, dense] {
        close("out", &out, &expected.0, 0.002)?;
        close("lse", &lse, &expected.1, 0.0002)?;
    }
    kernels.check_status()
}

#[test]
fn prefill_of_two_sequences_and_the_merge_of_two_halves() -> Result<()> {
    let (kernels, device) = (kernels(), Device::Cpu);
    let shape = AttentionShape {
        heads_q: HEADS,
        heads_kv: 2,
        dim: DIM,
    };
    let layer = SparseLayer::builder(sala_kernels::DType::Bf16, shape, 0)
        .build()
        .expect("a layer");
    let q = values(5, (90, HEADS, DIM), DType::BF16)?;
    let (k, v) = (
        values(6, (90, 2, DIM), DType::BF16)?,
        values(7, (90, 2, DIM), DType::BF16)?,
    );
    let cu_seqlens = Tensor::new(&[0u32, 40, 90], &device)?;
    let keys = Keys::Packed {
        cu_seqlens_k: &cu_seqlens,
    };
    let (out, _) = kernels.dense_attention(&layer, &q, &k, &v, &Sequences::new(&cu_seqlens, keys), Entry::Prefill)?;
    for (from, tokens) in [(0, 40), (40, 50)] {
        let part = |tensor: &Tensor| tensor.narrow(0, from, tokens);
        close(
            "out",
            &part(&out)?,
            &attention(&part(&q)?, &part(&k)?, &part(&v)?)?.0,
            0.006,
        )?;
    }

    // The last token over keys 40 to 89, and over those before.
    let q = q.narrow(0, 89, 1)?;
    let one = Tensor::new(&[0u32, 1], &device)?;
    let over = |from: usize, tokens: usize| {
        let (k, v) = (k.narrow(0, from, tokens)?, v.narrow(0, from, tokens)?);
        let lengths = Tensor::new(&[0, tokens as u32], &device)?;
        let keys = Keys::Packed { cu_seqlens_k: &lengths };
        kernels.dense_attention(&layer, &q, &k, &v, &Sequences::new(&one, keys), Entry::Prefill)
    };
    let ((out, lse), (out2, lse2)) = (over(0, 40)?, over(40, 50)?);
    let merge = Merge::new(sala_kernels::DType::Bf16).expect("a merge");
    kernels.merge_inplace(&merge, (&out, &lse), (&out2, &lse2))?;
    let expected = attention(&q, &k, &v)?;
    close("out", &out, &expected.0, 0.008)?;
    close("lse", &lse, &expected.1, 0.0002)
}

#[test]
fn norms_in_place_and_out_of_place() -> Result<()> {
    let (kernels, device) = (kernels(), Device::Cpu);
    let norm = Norm::new(sala_kernels::DType::Bf16, 1e-6).expect("a norm");
    let (x, weight) = (values(8, (9, HEADS, DIM), DType::BF16)?, values(9, DIM, DType::BF16)?);
    let table = Tensor::from_vec(rotary_cos_sin(20, DIM, 1e4).expect("a table"), (20, DIM), &device)?;
    let positions = Tensor::from_iter(5u32..14, &device)?;
    let out = kernels.norm_rope(&norm, &x, Some(&weight), Some((&table, &positions)))?;

    let scaled = f32(&x)?.broadcast_div(&(f32(&x)?.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?)?;
    let scaled = scaled.broadcast_mul(&f32(&weight)?)?;
    let rows = table.index_select(&positions, 0)?.unsqueeze(1)?;
    let (cos, sin) = (rows.narrow(2, 0, DIM / 2)?, rows.narrow(2, DIM / 2, DIM / 2)?);
    let (a, b) = (scaled.narrow(2, 0, DIM / 2)?, scaled.narrow(2, DIM / 2, DIM / 2)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    close("out", &out, &Tensor::cat(&[first, second], 2)?, 0.005)?;
    kernels.norm_rope_inplace(&norm, &x, Some(&weight), Some((&table, &positions)))?;
    common::same_bits(&x, &out)?;

    let (x, gate) = (values(10, (9, 256), DType::BF16)?, values(11, (9, 256), DType::BF16)?);
    let weight = values(12, 256, DType::BF16)?;
    let out = kernels.norm_gate(&norm, &x, &weight, &gate)?;
    let scaled = f32(&x)?.broadcast_div(&(f32(&x)?.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?)?;
    let sigmoid = (f32(&gate)?.neg()?.exp()? + 1.0)?.recip()?;
    close("out", &out, &(scaled.broadcast_mul(&f32(&weight)?)? * sigmoid)?, 0.005)?;
    kernels.norm_gate_inplace(&norm, &x, &weight, &gate)?;
    common::same_bits(&x, &out)?;
    kernels.check_status()
}
