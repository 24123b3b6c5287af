//! An engine in small, on the public interface of sala-kernels without default features: raw addresses and a stream, one decode step of a
//! sparse and of a linear layer.
#![deny(warnings)]

use std::ffi::c_void;

use sala_kernels::{
    AppendKeysArgs, AttentionShape, CompressKeysArgs, DType, Decay, Device, Entry, Kernels, Keys, LinearAttention,
    LinearDecodeArgs, LinearShape, Result, SelectBlocksArgs, Sequences, SparseAttentionArgs, SparseLayer, Status,
    Stream, Tensor, TensorMut,
};

/// Heads of keys and values; query and linear heads are four.
pub const HEADS: usize = 4;
/// Channels of a head.
pub const DIM: usize = 64;
/// Tokens of a page.
pub const PAGE: usize = 64;

/// The kernels on one stream, and the layers of a model.
pub struct Engine {
    kernels: Kernels,
    stream: Stream,
    sparse: SparseLayer,
    linear: LinearAttention,
}

/// Addresses of what a step reads and writes, in memory of the engine's device.
pub struct Memory {
    /// bf16 `[batch, 4, 64]`, and a kv head of it.
    pub q: u64,
    /// bf16 `[batch, 1, 64]` each.
    pub kv_new: [u64; 2],
    /// bf16 pages `[pages, 64, 1, 64]` of keys and values.
    pub kv: [u64; 2],
    /// bf16 pages `[pages, 4, 1, 64]` and `[pages, 1, 1, 64]`.
    pub compressed: [u64; 2],
    /// u32 `[batch + 1]`: 0, 1, 2, …
    pub cu_seqlens: u64,
    /// u32 `[batch]`: keys of each sequence without and with this step's.
    pub seqlens: [u64; 2],
    /// u32 `[batch, pages_each]`.
    pub page_table: u64,
    /// f32 `[4]`.
    pub log_decay: u64,
    /// f32 `[batch, 4, 64, 64]`, and u32 `[batch]`.
    pub states: u64,
    /// The slot of each sequence.
    pub slots: u64,
    /// i32 `[batch, 1, list_len]`.
    pub lists: u64,
    /// bf16 `[batch, 4, 64]` each: of the sparse and of the linear layer.
    pub outs: [u64; 2],
    /// u32 `[4]`.
    pub status: u64,
    /// Of [`Engine::workspace_size`] bytes.
    pub workspace: u64,
}

/// How large a step is.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Sequences.
    pub batch: usize,
    /// Pages in all.
    pub pages: usize,
    /// Pages that each sequence may have.
    pub pages_each: usize,
}

impl Engine {
    /// Kernels on a stream of a device.
    ///
    /// # Safety
    /// `stream` must be a live stream of the device, or null, for as long as the engine.
    pub unsafe fn new(device: &Device, stream: *mut c_void) -> Result<Self> {
        let shape = AttentionShape {
            heads_q: HEADS,
            heads_kv: 1,
            dim: DIM,
        };
        let linear = LinearShape {
            heads_q: HEADS,
            heads_kv: HEADS,
            dim_k: DIM,
            dim_v: DIM,
        };
        Ok(Self {
            kernels: Kernels::load(device)?,
            // SAFETY: the caller's promise.
            stream: unsafe { Stream::from_raw(device, stream)? },
            sparse: SparseLayer::builder(DType::Bf16, shape, 0)
                .topk(8)
                .local_blocks(2)
                .build()?,
            linear: LinearAttention::builder(DType::Bf16, linear, Decay::PerHead).build()?,
        })
    }

    /// Entries of a token's list.
    pub fn list_len(&self) -> usize {
        self.sparse.list_len()
    }

    /// Bytes of workspace.
    pub fn workspace_size(&self, sizes: Sizes) -> usize {
        let keys = sizes.pages_each * PAGE;
        self.sparse.workspace_size(Entry::Decode, sizes.batch, 1, keys, None)
    }

    /// One token of every sequence through both layers: five launches.
    ///
    /// # Safety
    /// The addresses must be of memory as [`Memory`] says, which nothing else touches until the stream has run the step.
    pub unsafe fn step(&self, memory: &Memory, sizes: Sizes) -> Result<()> {
        let Sizes {
            batch,
            pages,
            pages_each,
        } = sizes;
        let device = self.kernels.device();
        // SAFETY: the caller's promise.
        let read = |address, dtype, shape: &[usize]| unsafe {
            Tensor::from_raw(device, address, dtype, shape, &contiguous(shape)[..shape.len()])
        };
        // SAFETY: the caller's promise.
        let write = |address, dtype, shape: &[usize]| unsafe {
            TensorMut::from_raw(device, address, dtype, shape, &contiguous(shape)[..shape.len()])
        };
        let (bf16, u32) = (DType::Bf16, DType::U32);
        let rows = [batch, HEADS, DIM];
        let store = [pages, PAGE, 1, DIM];
        let [k1, k2] = [[pages, PAGE / 16, 1, DIM], [pages, PAGE / 64, 1, DIM]];
        let table = read(memory.page_table, u32, &[batch, pages_each])?;
        let keys = Keys::paged(read(memory.seqlens[1], u32, &[batch])?, table);
        let mut sequences = Sequences::new(read(memory.cu_seqlens, u32, &[batch + 1])?, keys);
        sequences.max_seqlen_q = Some(1);
        let status = || write(memory.status, u32, &[4]).map(Some);
        let workspace = || {
            let words = self.workspace_size(sizes).div_ceil(4);
            (words > 0).then(|| write(memory.workspace, u32, &[words])).transpose()
        };

        let [k_new, v_new] = memory.kv_new;
        let new = [batch, 1, DIM];
        let mut args = AppendKeysArgs::new(
            read(k_new, bf16, &new)?,
            read(v_new, bf16, &new)?,
            write(memory.kv[0], bf16, &store)?,
            write(memory.kv[1], bf16, &store)?,
            sequences,
        );
        args.status = status()?;
        // SAFETY: the caller's promise, here and below.
        unsafe { self.kernels.launch(&self.stream, &self.sparse, args)? };

        let (k, v) = (read(memory.kv[0], bf16, &store)?, read(memory.kv[1], bf16, &store)?);
        let [k1_at, k2_at] = memory.compressed;
        let mut args = CompressKeysArgs::new(k, keys, write(k1_at, bf16, &k1)?, write(k2_at, bf16, &k2)?);
        args.seqlens_old = Some(read(memory.seqlens[0], u32, &[batch])?);
        args.status = status()?;
        // SAFETY: as above.
        unsafe { self.kernels.launch(&self.stream, &self.sparse, args)? };

        let q = read(memory.q, bf16, &rows)?;
        let list = [batch, 1, self.list_len()];
        let (k1, k2) = (read(k1_at, bf16, &k1)?, Some(read(k2_at, bf16, &k2)?));
        let mut args = SelectBlocksArgs::new(q, k1, k2, sequences, None, write(memory.lists, DType::I32, &list)?);
        args.entry = Entry::Decode;
        (args.workspace, args.status) = (workspace()?, status()?);
        // SAFETY: as above.
        unsafe { self.kernels.launch(&self.stream, &self.sparse, args)? };

        let lists = read(memory.lists, DType::I32, &list)?;
        let out = write(memory.outs[0], bf16, &rows)?;
        let mut args = SparseAttentionArgs::new(q, k, v, sequences, None, lists, out);
        args.entry = Entry::Decode;
        (args.workspace, args.status) = (workspace()?, status()?);
        // SAFETY: as above.
        unsafe { self.kernels.launch(&self.stream, &self.sparse, args)? };

        let states = write(memory.states, DType::F32, &[batch, HEADS, DIM, DIM])?;
        let log_decay = Some(read(memory.log_decay, DType::F32, &[HEADS])?);
        let slots = read(memory.slots, u32, &[batch])?;
        let out = write(memory.outs[1], bf16, &rows)?;
        let mut args = LinearDecodeArgs::new(q, q, q, log_decay, states, slots, out);
        args.status = status()?;
        // SAFETY: as above.
        unsafe { self.kernels.launch(&self.stream, &self.linear, args) }
    }

    /// What the device has refused, from the four counts that the engine copied back.
    pub fn check(counts: [u32; 4]) -> Result<()> {
        Status::from(counts).check()
    }
}

/// The strides of a dense tensor of up to four axes.
fn contiguous(shape: &[usize]) -> [usize; 4] {
    let mut strides = [1; 4];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}
