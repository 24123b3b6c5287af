//! Reads a text with the kernels: compresses its keys, selects blocks and attends to them, for many tokens at once or one by one.

use crate::features::{DIM, Features, GROUP, SCALE};
use demos::meter::{Meter, Operation};
use half::bf16;
use sala_kernels::{
    AttentionShape, CompressKeysArgs, DType, Device, Keys, Result, SelectBlocksArgs, Sequences, SparseAttentionArgs,
    SparseLayer, Status, Tensor, TensorMut,
};

/// What a token reads.
#[derive(Clone, Copy)]
pub struct Selection {
    /// Blocks in all.
    pub blocks: usize,
    /// Tokens of a block.
    pub block_size: usize,
    /// Blocks at the start of the text that every token reads.
    pub init_blocks: usize,
    /// Blocks before its own that a token always reads.
    pub local_blocks: usize,
}

impl Default for Selection {
    fn default() -> Self {
        Selection {
            blocks: 32,
            block_size: 64,
            init_blocks: 1,
            local_blocks: 8,
        }
    }
}

/// What came out for the tokens of one call.
#[derive(Default)]
pub struct Reading {
    /// `[tokens, blocks]`: the blocks each token read, −1 after the last.
    pub lists: Vec<i32>,
    /// `[tokens, GROUP, DIM]`
    pub out: Vec<bf16>,
}

/// The keys and values of the text so far, and the kernels.
pub struct Reader {
    meter: Meter,
    layer: SparseLayer,
    /// Tokens read so far.
    length: usize,
    /// Caches of the one sequence, `[1, capacity, 1, DIM]`, filled up to `length`.
    keys: Vec<bf16>,
    values: Vec<bf16>,
    /// Compressed keys, `[1, rows, 1, DIM]`.
    k1: Vec<bf16>,
    k2: Vec<bf16>,
    /// What the kernels have refused.
    status: [u32; 4],
}

impl Reader {
    /// A reader on the CPU for texts of up to `capacity` tokens.
    pub fn new(selection: &Selection, capacity: usize) -> Result<Reader> {
        let shape = AttentionShape {
            heads_q: GROUP,
            heads_kv: 1,
            dim: DIM,
        };
        let layer = SparseLayer::builder(DType::Bf16, shape, 0)
            .block_size(selection.block_size)
            .topk(selection.blocks - selection.local_blocks)
            .init_blocks(selection.init_blocks)
            .local_blocks(selection.local_blocks)
            .scale(SCALE)
            .build()?;
        let cache = |rows: usize| vec![bf16::ZERO; rows * DIM];
        Ok(Reader {
            meter: Meter::new(Device::host())?,
            length: 0,
            keys: cache(capacity),
            values: cache(capacity),
            k1: cache(layer.k1_rows(capacity)),
            k2: cache(layer.k2_rows(capacity)),
            status: [0; 4],
            layer,
        })
    }

    /// Tokens read so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What the kernels have cost since the last call.
    pub fn take_costs(&mut self) -> Vec<Operation> {
        self.meter.take()
    }

    /// Reads on: appends the tokens to the text, and lets each attend to the text up to itself.
    pub fn read(&mut self, features: &Features) -> Result<Reading> {
        let tokens = features.keys.len() / DIM;
        let old_length = self.length;
        self.length += tokens;
        self.keys[old_length * DIM..self.length * DIM].copy_from_slice(&features.keys);
        self.values[old_length * DIM..self.length * DIM].copy_from_slice(&features.values);

        let (cu_seqlens_q, seqlens_k) = ([0, tokens as i32], [self.length as i32]);
        let keys = Keys::cached(Tensor::from_slice(&seqlens_k, &[1])?);
        let mut sequences = Sequences::new(Tensor::from_slice(&cu_seqlens_q, &[2])?, keys);
        sequences.max_seqlen_k = Some(self.length);

        self.compress(keys, old_length)?;
        let lists = self.select(features, sequences)?;
        let out = self.attend(features, sequences, &lists)?;
        Status::from(self.status).check()?;
        Ok(Reading { lists, out })
    }

    fn compress(&mut self, keys: Keys<'_>, old_length: usize) -> Result<()> {
        let seqlens_old = [old_length as i32];
        let mut args = CompressKeysArgs::new(
            cache(&self.keys)?,
            keys,
            cache_mut(&mut self.k1)?,
            cache_mut(&mut self.k2)?,
        );
        args.seqlens_old = Some(Tensor::from_slice(&seqlens_old, &[1])?);
        args.max_seqlen_k = Some(self.length);
        args.max_new = Some(self.length - old_length);
        args.status = Some(TensorMut::from_slice(&mut self.status, &[4])?);
        self.meter.run("compress_keys", &self.layer, args)
    }

    fn select(&mut self, features: &Features, sequences: Sequences<'_>) -> Result<Vec<i32>> {
        let (q, tokens) = queries(features)?;
        let list_len = self.layer.list_len();
        let mut lists = vec![-1; tokens * list_len];
        let mut args = SelectBlocksArgs::new(
            q,
            cache(&self.k1)?,
            Some(cache(&self.k2)?),
            sequences,
            None,
            TensorMut::from_slice(&mut lists, &[tokens, 1, list_len])?,
        );
        args.status = Some(TensorMut::from_slice(&mut self.status, &[4])?);
        self.meter.run("select_blocks", &self.layer, args)?;
        Ok(lists)
    }

    fn attend(&mut self, features: &Features, sequences: Sequences<'_>, lists: &[i32]) -> Result<Vec<bf16>> {
        let (q, tokens) = queries(features)?;
        let mut out = vec![bf16::ZERO; tokens * GROUP * DIM];
        let mut args = SparseAttentionArgs::new(
            q,
            cache(&self.keys)?,
            cache(&self.values)?,
            sequences,
            None,
            Tensor::from_slice(lists, &[tokens, 1, self.layer.list_len()])?,
            TensorMut::from_slice(&mut out, &[tokens, GROUP, DIM])?,
        );
        args.status = Some(TensorMut::from_slice(&mut self.status, &[4])?);
        self.meter.run("sparse_attention", &self.layer, args)?;
        Ok(out)
    }
}

/// The queries of a call, and how many tokens they belong to.
fn queries(features: &Features) -> Result<(Tensor<'_>, usize)> {
    let tokens = features.queries.len() / (GROUP * DIM);
    Ok((Tensor::from_slice(&features.queries, &[tokens, GROUP, DIM])?, tokens))
}

/// A cache of one sequence and one head.
fn cache(rows: &[bf16]) -> Result<Tensor<'_>> {
    Tensor::from_slice(rows, &[1, rows.len() / DIM, 1, DIM])
}

fn cache_mut(rows: &mut [bf16]) -> Result<TensorMut<'_>> {
    let shape = [1, rows.len() / DIM, 1, DIM];
    TensorMut::from_slice(rows, &shape)
}
