//! The decoder: its shape, random weights, and the part of it that is no kernel of this crate.
//!
//! What is here runs on the CPU whatever the device, in `f32` for the engine and in `f64` for the naive decoder: an engine has a library of matrix
//! products for it. Each row of a product is a sum of its own, so that a token has the same bits alone and in any batch.

use half::bf16;
use sala_kernels::{Result, lightning_log_decay, rotary_cos_sin};
use sala_testkit::numbers::Numbers;
use std::ops::{AddAssign, Mul};

/// Channels of the residual stream.
pub const HIDDEN: usize = 128;
/// Tokens are bytes.
pub const VOCABULARY: usize = 256;
/// Channels of every head.
pub const DIM: usize = 64;
/// Heads of a linear layer, queries, keys and values alike.
pub const LINEAR_HEADS: usize = 2;
/// Query and key heads of a sparse layer.
pub const HEADS_Q: usize = 4;
pub const HEADS_KV: usize = 2;
/// Tokens of a block of keys.
pub const BLOCK: usize = 32;
/// A list: the first block, a token's own and the one before, and two by their scores.
pub const TOP_K: usize = 4;
pub const LOCAL_BLOCKS: usize = 1;
/// Tokens at positions before this attend to all keys.
pub const DENSE_LEN: usize = 128;
/// The most tokens of a sequence.
pub const CAPACITY: usize = 512;
/// Added to the mean square by every norm.
pub const EPS: f32 = 1e-6;

/// The kinds of the layers, as in a hybrid model: most are linear.
const IS_SPARSE: [bool; 4] = [false, true, false, false];
/// Channels between the two halves of a feed-forward network.
const INNER: usize = 256;
/// How far the logits of random weights lie apart.
const LOGIT_SIZE: f64 = 3.0;

/// All weights.
pub struct Model {
    embedding: Vec<f32>,
    pub layers: Vec<Layer>,
    head: Matrix,
    /// `[CAPACITY, DIM]`, as norm_rope takes it.
    pub cos_sin: Vec<f32>,
    /// `[LINEAR_HEADS]`
    pub log_decay: Vec<f32>,
}

/// A layer: a mixer and a feed-forward network, each added to what it was given.
pub struct Layer {
    pub mixer: Projections,
    /// Of linear layers: what norms its heads and its output.
    pub norms: Option<Norms>,
    up: Matrix,
    gate: Matrix,
    down: Matrix,
}

/// What leads into a mixer and out of it.
pub struct Projections {
    pub q: Matrix,
    pub k: Matrix,
    pub v: Matrix,
    pub gate: Matrix,
    pub out: Matrix,
}

/// Weights of the norms of a linear layer.
pub struct Norms {
    pub q: Vec<bf16>,
    pub k: Vec<bf16>,
    pub out: Vec<bf16>,
}

/// A matrix `[inputs, outputs]` of numbers that bf16 has.
pub struct Matrix {
    inputs: usize,
    outputs: usize,
    values: Vec<f32>,
}

/// `f32` or `f64`.
pub trait Real: Copy + Default + From<f32> + AddAssign + Mul<Output = Self> {
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    /// Rounded once to bf16.
    fn round(self) -> bf16;
}

impl Real for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn round(self) -> bf16 {
        bf16::from_f32(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> f64 {
        value
    }
    fn wide(self) -> f64 {
        self
    }
    fn round(self) -> bf16 {
        sala_kernels::reference::Value::from_f64(self)
    }
}

impl Matrix {
    fn random(numbers: &mut Numbers, inputs: usize, outputs: usize, gain: f64) -> Matrix {
        let size = gain / (inputs as f64).sqrt();
        Matrix {
            inputs,
            outputs,
            values: random(numbers, inputs * outputs, size),
        }
    }

    /// The products of `rows`, `[rows, inputs]`.
    pub fn apply<F: Real>(&self, rows: &[F]) -> Vec<F> {
        let mut out = vec![F::default(); rows.len() / self.inputs * self.outputs];
        for (row, out) in rows.chunks(self.inputs).zip(out.chunks_mut(self.outputs)) {
            for (&x, weights) in row.iter().zip(self.values.chunks(self.outputs)) {
                for (out, &weight) in out.iter_mut().zip(weights) {
                    *out += x * F::from(weight);
                }
            }
        }
        out
    }

    /// The products as a kernel takes them.
    pub fn project<F: Real>(&self, rows: &[F]) -> Vec<bf16> {
        self.apply(rows).into_iter().map(F::round).collect()
    }
}

impl Model {
    /// Random weights of a seed.
    pub fn new(seed: u64) -> Result<Model> {
        let mut numbers = Numbers::new(seed);
        Ok(Model {
            embedding: random(&mut numbers, VOCABULARY * HIDDEN, 1.0),
            layers: IS_SPARSE.map(|sparse| Layer::new(&mut numbers, sparse)).into(),
            head: Matrix::random(&mut numbers, HIDDEN, VOCABULARY, LOGIT_SIZE),
            cos_sin: rotary_cos_sin(CAPACITY, DIM, 10_000.0)?,
            log_decay: lightning_log_decay(0, LINEAR_HEADS, LINEAR_HEADS)?,
        })
    }

    /// The residual stream that tokens begin with, `[tokens, HIDDEN]`.
    pub fn embed<F: Real>(&self, tokens: &[u8]) -> Vec<F> {
        let row = |&token: &u8| &self.embedding[usize::from(token) * HIDDEN..][..HIDDEN];
        tokens.iter().flat_map(row).map(|&x| F::from(x)).collect()
    }

    /// What the residual stream says of the next token, `[rows, VOCABULARY]`.
    pub fn logits<F: Real>(&self, x: &[F]) -> Vec<F> {
        self.head.apply(&normed(x))
    }
}

impl Layer {
    fn new(numbers: &mut Numbers, is_sparse: bool) -> Layer {
        let (queries, keys) = match is_sparse {
            true => (HEADS_Q * DIM, HEADS_KV * DIM),
            false => (LINEAR_HEADS * DIM, LINEAR_HEADS * DIM),
        };
        let mut matrix = |inputs, outputs, gain| Matrix::random(numbers, inputs, outputs, gain);
        let mixer = Projections {
            q: matrix(HIDDEN, queries, 1.5),
            k: matrix(HIDDEN, keys, 1.0),
            v: matrix(HIDDEN, keys, 1.0),
            gate: matrix(HIDDEN, queries, 1.0),
            out: matrix(queries, HIDDEN, 1.0),
        };
        let (up, gate) = (matrix(HIDDEN, INNER, 1.0), matrix(HIDDEN, INNER, 1.0));
        let down = matrix(INNER, HIDDEN, 0.5);
        let mut norm = |channels| {
            let near_one = |_| bf16::from_f64(1.0 + 0.1 * numbers.normal());
            (0..channels).map(near_one).collect()
        };
        let norms = (!is_sparse).then(|| Norms {
            q: norm(DIM),
            k: norm(DIM),
            out: norm(LINEAR_HEADS * DIM),
        });
        Layer {
            mixer,
            norms,
            up,
            gate,
            down,
        }
    }

    /// Adds what the mixer gave, `[rows, heads · DIM]`, and then the feed-forward network.
    pub fn finish<F: Real>(&self, x: &mut [F], mixed: &[bf16]) {
        let mixed: Vec<F> = mixed.iter().map(|value| F::from(value.to_f32())).collect();
        add(x, &self.mixer.out.apply(&mixed));
        let h = normed(x);
        let inner = self.gate.apply(&h).into_iter().zip(self.up.apply(&h));
        let inner: Vec<F> = inner.map(|(gate, up)| silu(gate) * up).collect();
        add(x, &self.down.apply(&inner));
    }
}

/// Each row over the root of its mean square.
pub fn normed<F: Real>(x: &[F]) -> Vec<F> {
    let norm = |row: &[F]| {
        let squares: f64 = row.iter().map(|x| x.wide() * x.wide()).sum();
        let factor = F::of((squares / HIDDEN as f64 + f64::from(EPS)).sqrt().recip());
        row.iter().map(|&x| x * factor).collect::<Vec<F>>()
    };
    x.chunks(HIDDEN).flat_map(norm).collect()
}

fn silu<F: Real>(x: F) -> F {
    x * F::of(1.0 / (1.0 + (-x.wide()).exp()))
}

fn add<F: Real>(x: &mut [F], more: &[F]) {
    for (x, &more) in x.iter_mut().zip(more) {
        *x += more;
    }
}

fn random(numbers: &mut Numbers, count: usize, size: f64) -> Vec<f32> {
    let number = |value: f64| bf16::from_f64(value).to_f32();
    numbers.normals(count, size).into_iter().map(number).collect()
}
