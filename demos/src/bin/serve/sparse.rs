//! A sparse layer: its pages, and its part of a step.

use crate::inputs::{Inputs, max_rows};
use crate::launcher::{Launcher, Scratch};
use crate::model::{BLOCK, CAPACITY, DENSE_LEN, DIM, HEADS_KV, HEADS_Q, LOCAL_BLOCKS, TOP_K};
use crate::pool::PAGE;
use crate::scheduler::{PREFILL_ROWS, Settings};
use crate::speculate::Speculation;
use demos::array::Array;
use half::bf16;
use sala_kernels::{
    AppendKeysArgs, AttentionShape, CommitKeysArgs, CompressKeysArgs, DType, Device, Entry, Keys, Result,
    SelectBlocksArgs, Sequences, SparseAttentionArgs, SparseLayer, Tensor,
};
use std::ops::Range;

/// Tokens of the small pages that a page is copied by: two of them are as many rows as a commitment may have drafts.
const PIECE: usize = 8;

/// The layer with all that it owns: pages of every sequence, and what a step has of its rows.
pub struct SparseMixer {
    layer: SparseLayer,
    /// `[pages, PAGE, HEADS_KV, DIM]`
    k: Array,
    v: Array,
    /// Compressed keys, in the same pages: `[pages, PAGE / stride, HEADS_KV, DIM]`.
    k1: Array,
    k2: Array,
    /// `[rows, heads, DIM]`
    pub q: Array,
    pub k_new: Array,
    pub v_new: Array,
    pub gate: Array,
    pub out: Array,
    /// `[rows, HEADS_KV, list]`
    lists: Array,
}

/// What all sparse layers are.
pub fn layer() -> Result<SparseLayer> {
    let shape = AttentionShape {
        heads_q: HEADS_Q,
        heads_kv: HEADS_KV,
        dim: DIM,
    };
    let builder = SparseLayer::builder(DType::Bf16, shape, DENSE_LEN).block_size(BLOCK);
    builder.topk(TOP_K).local_blocks(LOCAL_BLOCKS).build()
}

/// Bytes of workspace for every step.
pub fn workspace_size(settings: &Settings) -> Result<usize> {
    let layer = layer()?;
    let decode = layer.workspace_size(Entry::Decode, settings.batch, settings.speculation.width(), CAPACITY, None);
    let prefill = layer.workspace_size(Entry::Prefill, settings.batch, PREFILL_ROWS, CAPACITY, None);
    Ok(decode.max(prefill))
}

impl SparseMixer {
    pub fn new(device: &Device, settings: &Settings) -> Result<SparseMixer> {
        let layer = layer()?;
        let rows = max_rows(settings);
        let array = |shape: &[usize]| Array::zeros::<bf16>(device, shape);
        let pages = |rows: usize| array(&[settings.pages, rows, HEADS_KV, DIM]);
        Ok(SparseMixer {
            k: pages(PAGE)?,
            v: pages(PAGE)?,
            k1: pages(layer.k1_rows(PAGE))?,
            k2: pages(layer.k2_rows(PAGE))?,
            q: array(&[rows, HEADS_Q, DIM])?,
            k_new: array(&[rows, HEADS_KV, DIM])?,
            v_new: array(&[rows, HEADS_KV, DIM])?,
            gate: array(&[rows, HEADS_Q, DIM])?,
            out: array(&[rows, HEADS_Q, DIM])?,
            lists: Array::zeros::<i32>(device, &[rows, HEADS_KV, layer.list_len()])?,
            layer,
        })
    }

    /// The layer's part of a step, at most seven kernels: keys to their pages, their means, each row's blocks, attention to them.
    pub fn mix(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let shape = inputs.shape;
        self.append(launcher, scratch, inputs)?;
        // Behind a tree nothing is compressed before it is known which drafts stay.
        if inputs.speculation != Speculation::Tree || shape.prefill > 0 {
            let longest = if shape.prefill > 0 { PREFILL_ROWS } else { shape.width };
            let old = inputs.base(0..shape.decode + shape.prefill)?;
            self.compress(launcher, scratch, inputs.sequences()?.keys, old, longest)?;
        }
        self.select(launcher, scratch, inputs)?;
        let rows = 0..shape.rows();
        if shape.decode > 0 {
            let rows = rows.start..shape.decode_rows();
            self.attend(launcher, scratch, inputs, inputs.decoding()?, shape.decoding(), rows, Entry::Decode)?;
        }
        if shape.prefill > 0 {
            let rows = shape.decode_rows()..rows.end;
            self.attend(launcher, scratch, inputs, inputs.prefilling()?, shape.prefilling(), rows, Entry::Prefill)?;
        }
        Ok(())
    }

    fn append(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let rows = 0..inputs.shape.rows();
        let mut args = AppendKeysArgs::new(
            self.k_new.rows(&rows)?,
            self.v_new.rows(&rows)?,
            self.k.view_mut()?,
            self.v.view_mut()?,
            inputs.sequences()?,
        );
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("append_keys", &self.layer, args)
    }

    fn compress(
        &mut self,
        launcher: &mut Launcher,
        scratch: &mut Scratch,
        keys: Keys<'_>,
        old: Tensor<'_>,
        max_new: usize,
    ) -> Result<()> {
        let mut args = CompressKeysArgs::new(self.k.view()?, keys, self.k1.view_mut()?, self.k2.view_mut()?);
        args.seqlens_old = Some(old);
        args.max_seqlen_k = Some(CAPACITY);
        args.max_new = Some(max_new);
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("compress_keys", &self.layer, args)
    }

    /// Lists are the same from either entry: that of decode steps takes three kernels and the whole GPU, the other one for rows of all kinds.
    fn select(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let rows = 0..inputs.shape.rows();
        let places = 0..inputs.shape.decode + inputs.shape.prefill;
        let mut args = SelectBlocksArgs::new(
            self.q.rows(&rows)?,
            self.k1.view()?,
            Some(self.k2.view()?),
            inputs.sequences()?,
            inputs.switch_len(places)?,
            self.lists.rows_mut(&rows)?,
        );
        if inputs.shape.prefill == 0 {
            args.entry = Entry::Decode;
        }
        args.parent = inputs.parent()?;
        args.workspace = Some(scratch.workspace.view_mut()?);
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("select_blocks", &self.layer, args)
    }

    #[allow(clippy::too_many_arguments, reason = "the one call that both entries go through")]
    fn attend(
        &mut self,
        launcher: &mut Launcher,
        scratch: &mut Scratch,
        inputs: &Inputs,
        sequences: Sequences<'_>,
        places: Range<usize>,
        rows: Range<usize>,
        entry: Entry,
    ) -> Result<()> {
        let mut args = SparseAttentionArgs::new(
            self.q.rows(&rows)?,
            self.k.view()?,
            self.v.view()?,
            sequences,
            inputs.switch_len(places)?,
            self.lists.rows(&rows)?,
            self.out.rows_mut(&rows)?,
        );
        args.entry = entry;
        args.gate = Some(self.gate.rows(&rows)?);
        args.status = Some(scratch.status.view_mut()?);
        if entry == Entry::Prefill {
            return launcher.run("sparse_attention", &self.layer, args);
        }
        args.parent = inputs.parent()?;
        args.workspace = Some(scratch.workspace.view_mut()?);
        launcher.run("sparse_attention decode", &self.layer, args)
    }

    /// After a tree: keys of accepted drafts go to where they belong, and are compressed there. Drafts of a chain lie where they belong already, and
    /// the next step's keys and means overwrite those that were not accepted.
    pub fn commit(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        if inputs.speculation != Speculation::Tree {
            return Ok(());
        }
        let base = inputs.base(inputs.shape.decoding())?;
        let (k, v) = (self.k.view_mut()?, self.v.view_mut()?);
        let keys = inputs.decoding()?.keys;
        let mut args = CommitKeysArgs::new(k, v, keys, base, inputs.accepted()?, inputs.path()?);
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("commit_keys", &self.layer, args)?;
        self.compress(launcher, scratch, inputs.committed()?, base, inputs.shape.width)
    }

    /// The lists of all rows of the last step, `[rows, HEADS_KV, list]`.
    pub fn lists(&self) -> Result<Vec<i32>> {
        self.lists.read()
    }

    pub fn list_len(&self) -> usize {
        self.layer.list_len()
    }

    /// Copies pages for forks: `pages` are pairs, from and to, `tables` the page table of each child and `lengths` how many keys it has. What
    /// copies rows in pages is the commitment of drafts, so each pair becomes a few sequences of two small pages, whose second is accepted. The
    /// rows of K1 and K2 in the page are made again, which gives the same bits.
    pub fn copy_pages(
        &mut self,
        launcher: &mut Launcher,
        scratch: &mut Scratch,
        pages: &[(usize, usize)],
        tables: &[Vec<usize>],
        lengths: &[usize],
    ) -> Result<()> {
        let device = launcher.device().clone();
        let list = |values: Vec<i32>, shape: &[usize]| Array::of(&device, &values, shape);
        let pieces = PAGE / PIECE;
        let batch = pages.len() * pieces;
        let piece = |page: usize, index: usize| (page * pieces + index) as i32;
        let pair = |&(from, to): &(usize, usize)| (0..pieces).flat_map(move |i| [piece(to, i), piece(from, i)]);
        let table = list(pages.iter().flat_map(pair).collect(), &[batch, 2])?;
        let second: Vec<i32> = (0..2 * PIECE).map(|i| ((PIECE + i) % (2 * PIECE)) as i32).collect();
        let (seqlens, base) = (list(vec![2 * PIECE as i32; batch], &[batch])?, list(vec![0; batch], &[batch])?);
        let (accepted, path) = (
            list(vec![PIECE as i32; batch], &[batch])?,
            list(second.repeat(batch), &[batch, 2 * PIECE])?,
        );
        let count = self.k.view()?.shape().first().map_or(0, |pages| pages * pieces);
        let small = [count, PIECE, HEADS_KV, DIM];
        let mut args = CommitKeysArgs::new(
            self.k.first_mut(&small)?,
            self.v.first_mut(&small)?,
            Keys::paged(seqlens.view()?, table.view()?),
            base.view()?,
            accepted.view()?,
            path.view()?,
        );
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("commit_keys", &self.layer, args)?;

        let children = tables.len();
        let padded = |table: &Vec<usize>| {
            let pages = table.iter().map(|&page| page as i32);
            pages.chain(std::iter::repeat(-1)).take(CAPACITY / PAGE).collect::<Vec<_>>()
        };
        let table = list(tables.iter().flat_map(padded).collect(), &[children, CAPACITY / PAGE])?;
        let seqlens = list(lengths.iter().map(|&length| length as i32).collect(), &[children])?;
        let shared = lengths.iter().map(|&length| (length / PAGE * PAGE) as i32).collect();
        let shared = list(shared, &[children])?;
        let keys = Keys::paged(seqlens.view()?, table.view()?);
        self.compress(launcher, scratch, keys, shared.view()?, PAGE)
    }
}
