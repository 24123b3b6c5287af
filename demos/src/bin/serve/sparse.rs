//! A sparse layer: its pages, and its part of a step.

use crate::inputs::{Inputs, MAX_PAGES, Part, max_rows};
use crate::launcher::{Launcher, Scratch};
use crate::lists::table_row;
use crate::model::{BLOCK, CAPACITY, DENSE_LEN, DIM, HEADS_KV, HEADS_Q, LOCAL_BLOCKS, TOP_K};
use crate::pool::PAGE;
use crate::scheduler::{PREFILL_ROWS, Settings};
use demos::array::Array;
use half::bf16;
use sala_kernels::{
    AppendKeysArgs, AttentionShape, CommitKeysArgs, CompressKeysArgs, DType, Device, Entry, Keys, Result,
    SelectBlocksArgs, SparseAttentionArgs, SparseLayer, Tensor,
};

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
    let decode = layer.workspace_size(
        Entry::Decode,
        settings.batch,
        settings.speculation.width(),
        CAPACITY,
        None,
    );
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
        self.append(launcher, scratch, &inputs.all()?)?;
        // Behind a tree nothing is compressed before it is known which drafts stay.
        if inputs.parent()?.is_none() {
            let all = inputs.all()?;
            self.compress(launcher, scratch, all.sequences.keys, all.base, all.longest)?;
        }
        self.select(launcher, scratch, inputs)?;
        if inputs.shape.decode > 0 {
            self.attend(launcher, scratch, &inputs.decoding()?, Entry::Decode, inputs.parent()?)?;
        }
        if inputs.shape.prefill > 0 {
            self.attend(launcher, scratch, &inputs.prefilling()?, Entry::Prefill, None)?;
        }
        Ok(())
    }

    fn append(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, all: &Part<'_>) -> Result<()> {
        let (k_new, v_new) = (self.k_new.rows(&all.rows)?, self.v_new.rows(&all.rows)?);
        let mut args = AppendKeysArgs::new(k_new, v_new, self.k.view_mut()?, self.v.view_mut()?, all.sequences);
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
        let all = inputs.all()?;
        let (q, lists) = (self.q.rows(&all.rows)?, self.lists.rows_mut(&all.rows)?);
        let (k1, k2) = (self.k1.view()?, Some(self.k2.view()?));
        let mut args = SelectBlocksArgs::new(q, k1, k2, all.sequences, all.switch_len, lists);
        if inputs.shape.prefill == 0 {
            args.entry = Entry::Decode;
        }
        args.parent = inputs.parent()?;
        args.workspace = Some(scratch.workspace.view_mut()?);
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("select_blocks", &self.layer, args)
    }

    fn attend(
        &mut self,
        launcher: &mut Launcher,
        scratch: &mut Scratch,
        part: &Part<'_>,
        entry: Entry,
        parent: Option<Tensor<'_>>,
    ) -> Result<()> {
        let mut args = SparseAttentionArgs::new(
            self.q.rows(&part.rows)?,
            self.k.view()?,
            self.v.view()?,
            part.sequences,
            part.switch_len,
            self.lists.rows(&part.rows)?,
            self.out.rows_mut(&part.rows)?,
        );
        args.entry = entry;
        args.parent = parent;
        args.gate = Some(self.gate.rows(&part.rows)?);
        args.workspace = Some(scratch.workspace.view_mut()?);
        args.status = Some(scratch.status.view_mut()?);
        let name = match entry {
            Entry::Prefill => "sparse_attention",
            Entry::Decode => "sparse_attention decode",
        };
        launcher.run(name, &self.layer, args)
    }

    /// After a tree: keys of accepted drafts go to where they belong, and are compressed there. Drafts of a chain lie where they belong already, and
    /// the next step's keys and means overwrite those that were not accepted.
    pub fn commit(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        if inputs.parent()?.is_none() {
            return Ok(());
        }
        let part = inputs.decoding()?;
        let (k, v, keys) = (self.k.view_mut()?, self.v.view_mut()?, part.sequences.keys);
        let mut args = CommitKeysArgs::new(k, v, keys, part.base, inputs.accepted()?, inputs.path()?);
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("commit_keys", &self.layer, args)?;
        self.compress(launcher, scratch, inputs.committed()?, part.base, part.longest)
    }

    /// The lists of all rows of the last step, `[rows, HEADS_KV, list]`.
    pub fn lists(&self) -> Result<Vec<i32>> {
        self.lists.read()
    }

    pub fn list_len(&self) -> usize {
        self.layer.list_len()
    }

    /// Copies pages for forks. What moves rows in pages is the commitment of drafts, so each pair of pages becomes a few sequences of two small
    /// pages, of which the second is accepted. The rows of K1 and K2 in the page are made again, which gives the same bits.
    pub fn copy_pages(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, copies: &[PageCopy]) -> Result<()> {
        self.copy_keys(launcher, scratch, copies)?;
        let device = launcher.device().clone();
        let list = |of: fn(&PageCopy) -> usize| {
            let numbers: Vec<i32> = copies.iter().map(|copy| of(copy) as i32).collect();
            Array::of(&device, &numbers, &[copies.len()])
        };
        let (seqlens, shared) = (list(|copy| copy.keys)?, list(|copy| copy.keys / PAGE * PAGE)?);
        let tables: Vec<i32> = copies.iter().flat_map(|copy| table_row(&copy.table)).collect();
        let tables = Array::of(&device, &tables, &[copies.len(), MAX_PAGES])?;
        let keys = Keys::paged(seqlens.view()?, tables.view()?);
        self.compress(launcher, scratch, keys, shared.view()?, PAGE)
    }

    fn copy_keys(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, copies: &[PageCopy]) -> Result<()> {
        const PIECES: usize = PAGE / PIECE;
        let device = launcher.device().clone();
        let batch = copies.len() * PIECES;
        let list = |row: &[i32]| Array::of(&device, &row.repeat(batch), &[batch, row.len()]);
        let numbers = |number: usize| Array::of(&device, &vec![number as i32; batch], &[batch]);
        let piece = |page: usize, index: usize| (page * PIECES + index) as i32;
        let pair = |copy: &PageCopy| {
            let (from, to) = (copy.from, copy.to);
            (0..PIECES).flat_map(move |index| [piece(to, index), piece(from, index)])
        };
        let tables: Vec<i32> = copies.iter().flat_map(pair).collect();
        let tables = Array::of(&device, &tables, &[batch, 2])?;
        // A column for each row, of which the first half is read.
        let second: Vec<i32> = (PIECE..3 * PIECE).map(|row| (row % (2 * PIECE)) as i32).collect();
        let (seqlens, base, accepted, path) = (numbers(2 * PIECE)?, numbers(0)?, numbers(PIECE)?, list(&second)?);
        let pages = self.k.view()?.shape().first().map_or(0, |pages| pages * PIECES);
        let small = [pages, PIECE, HEADS_KV, DIM];
        let mut args = CommitKeysArgs::new(
            self.k.first_mut(&small)?,
            self.v.first_mut(&small)?,
            Keys::paged(seqlens.view()?, tables.view()?),
            base.view()?,
            accepted.view()?,
            path.view()?,
        );
        args.status = Some(scratch.status.view_mut()?);
        launcher.run("commit_keys", &self.layer, args)
    }
}

/// A page that a fork copies because both sides will write to it, and the keys that the child has then.
pub struct PageCopy {
    pub from: usize,
    pub to: usize,
    pub table: Vec<usize>,
    pub keys: usize,
}
