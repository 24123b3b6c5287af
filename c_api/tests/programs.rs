//! A program in C gives what Rust gives, bit for bit.

mod common;

use half::bf16;
use sala::{
    AttentionShape, CompressKeysArgs, DType, Decay, Device, Kernels, Keys, LinearAttention, LinearPrefillArgs,
    LinearShape, Result, SelectBlocksArgs, Sequences, SparseAttentionArgs, SparseLayer, Tensor, TensorMut,
    lightning_log_decay,
};

const KEYS: usize = 1000;
const DIM: usize = 64;
const HEADS: usize = 4;
const LIST: usize = 6;
const TOKENS: usize = 100;

#[test]
fn layers_give_the_bits_of_rust() {
    let expected = expected().expect("Rust's own calls");
    for build in common::BUILDS {
        let said = build.run(&common::repository().join("c_api/tests/layers.c"), &[]);
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{build:?}");
    }
}

/// The lines of the README run as they are printed.
#[test]
fn first_lines_run() {
    let readme = std::fs::read_to_string(common::repository().join("README.md")).expect("the README is there");
    let (_, lines) = readme.split_once("```c\n").expect("the README has lines in C");
    let (lines, _) = lines.split_once("```").expect("they end");
    let source = common::scratch("readme").join("readme.c");
    std::fs::write(&source, lines).expect("write the program");
    for build in common::BUILDS {
        assert_eq!(build.run(&source, &[]), "5\n", "{build:?}");
    }
}

/// What the program prints.
fn expected() -> Result<Vec<String>> {
    let kernels = Kernels::load(&Device::host())?;
    let number = |step: usize| bf16::from_f32((step as f32 % 17.0 - 8.0) / 8.0);
    let numbers: Vec<_> = (0..KEYS * DIM).map(number).collect();
    let (sparse, linear) = (sparse_layer(&kernels, &numbers)?, linear_layer(&kernels, &numbers)?);
    let refused = "refused q: expected a tensor, got NULL".to_owned();
    Ok(vec![line("sparse", &sparse), refused, line("linear", &linear)])
}

fn line(name: &str, numbers: &[bf16]) -> String {
    let bits = numbers.iter().map(|number| format!(" {:04x}", number.to_bits()));
    name.to_owned() + &bits.collect::<String>()
}

fn sparse_layer(kernels: &Kernels, numbers: &[bf16]) -> Result<Vec<bf16>> {
    let shape = AttentionShape {
        heads_q: HEADS,
        heads_kv: 1,
        dim: DIM,
    };
    let layer = SparseLayer::builder(DType::Bf16, shape, 0)
        .topk(4)
        .local_blocks(2)
        .build()?;
    let q = Tensor::from_slice(&numbers[..HEADS * DIM], &[1, HEADS, DIM])?;
    let k = Tensor::from_slice(numbers, &[1, KEYS, 1, DIM])?;
    let keys = Keys::cached(Tensor::from_slice(&[KEYS as i32], &[1])?);
    let sequences = Sequences::new(Tensor::from_slice(&[0, 1], &[2])?, keys);
    let [mut k1, mut k2] = [62, 15].map(|rows| vec![bf16::ZERO; rows * DIM]);
    let (k1_rows, k2_rows) = (
        TensorMut::from_slice(&mut k1, &[1, 62, 1, DIM])?,
        TensorMut::from_slice(&mut k2, &[1, 15, 1, DIM])?,
    );
    kernels.run(&layer, CompressKeysArgs::new(k, keys, k1_rows, k2_rows))?;
    let mut list = [0; LIST];
    let args = SelectBlocksArgs::new(
        q,
        Tensor::from_slice(&k1, &[1, 62, 1, DIM])?,
        Some(Tensor::from_slice(&k2, &[1, 15, 1, DIM])?),
        sequences,
        None,
        TensorMut::from_slice(&mut list, &[1, 1, LIST])?,
    );
    kernels.run(&layer, args)?;
    let mut out = vec![bf16::ZERO; HEADS * DIM];
    let lists = Tensor::from_slice(&list, &[1, 1, LIST])?;
    let rows = TensorMut::from_slice(&mut out, &[1, HEADS, DIM])?;
    kernels.run(&layer, SparseAttentionArgs::new(q, k, k, sequences, None, lists, rows))?;
    Ok(out)
}

fn linear_layer(kernels: &Kernels, numbers: &[bf16]) -> Result<Vec<bf16>> {
    let shape = LinearShape {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim_k: DIM,
        dim_v: DIM,
    };
    let layer = LinearAttention::builder(DType::Bf16, shape, Decay::PerHead).build()?;
    let qkv = Tensor::from_slice(&numbers[..TOKENS * HEADS * DIM], &[TOKENS, HEADS, DIM])?;
    let log_decay = lightning_log_decay(0, HEADS, HEADS)?;
    let mut out = vec![bf16::ZERO; TOKENS * HEADS * DIM];
    let args = LinearPrefillArgs::new(
        qkv,
        qkv,
        qkv,
        Tensor::from_slice(&[0, 30, TOKENS as i32], &[3])?,
        Some(Tensor::from_slice(&log_decay, &[HEADS])?),
        TensorMut::from_slice(&mut out, &[TOKENS, HEADS, DIM])?,
    );
    kernels.run(&layer, args)?;
    Ok(out)
}
