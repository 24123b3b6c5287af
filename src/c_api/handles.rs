//! Kernels and layers, made and destroyed.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::errors::guard;
use super::structs::{self, Versioned, count, one_of, place, there};
use super::tensors::{Place, dtype};
use crate::sys::c_api::{
    SALA_DECAY_OF_HEADS, SALA_DECAY_OF_TOKENS, SALA_DECODE, SALA_HOST, SALA_LSE_COARSE, SALA_LSE_EXACT, SALA_NO_DECAY,
    SALA_PREFILL, SALA_SPLIT_AUTO, SALA_SPLIT_NEVER, SALA_STATE_KV, SALA_STATE_VK, sala_linear_attention_config,
    sala_sparse_layer_config,
};
use crate::{
    AttentionShape, CopyStates, DType, Decay, Device, Entry, Error, Kernels, LinearAttention, LinearShape, Lse, Merge,
    MergeStates, Norm, Result, SparseLayer, Split, StateLayout, lightning_log_decay, rotary_cos_sin,
};

/// Kernels on a device, with the operations that need no layer.
#[derive(Debug)]
pub struct KernelsHandle {
    pub(super) kernels: Kernels,
    /// [`SALA_HOST`], or the device's.
    ordinal: i32,
    /// For bf16 and f16.
    merge: [Merge; 2],
    norm: [Norm; 2],
    pub(super) copy_states: CopyStates,
    pub(super) merge_states: MergeStates,
}

/// A layer of block-sparse attention.
#[derive(Debug)]
pub struct SparseLayerHandle(pub(super) SparseLayer);

/// A layer of linear attention.
#[derive(Debug)]
pub struct LinearAttentionHandle(pub(super) LinearAttention);

impl KernelsHandle {
    pub(super) fn load(device: &Device) -> Result<Self> {
        let both = [DType::Bf16, DType::F16];
        let [bf16, f16] = both;
        Ok(Self {
            kernels: Kernels::load(device)?,
            ordinal: device.ordinal().unwrap_or(SALA_HOST),
            merge: [Merge::new(bf16)?, Merge::new(f16)?],
            norm: [Norm::new(bf16, 0.0)?, Norm::new(f16, 0.0)?],
            copy_states: CopyStates::new()?,
            merge_states: MergeStates::new()?,
        })
    }

    /// Where tensors of its launches lie.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            device: self.kernels.device(),
            ordinal: self.ordinal,
        }
    }

    /// The merging of results of a type.
    pub(super) fn merge(&self, dtype: DType) -> Result<&Merge> {
        let [bf16, f16] = &self.merge;
        of_type("out", dtype, bf16, f16)
    }

    /// The norms of a type, that of the argument named.
    pub(super) fn norm(&self, argument: &'static str, dtype: DType) -> Result<&Norm> {
        let [bf16, f16] = &self.norm;
        of_type(argument, dtype, bf16, f16)
    }
}

fn of_type<'a, T>(argument: &'static str, dtype: DType, bf16: &'a T, f16: &'a T) -> Result<&'a T> {
    match dtype {
        DType::Bf16 => Ok(bf16),
        DType::F16 => Ok(f16),
        _ => Err(Error::argument(argument, "bf16 or f16 elements", dtype)),
    }
}

/// Loads the kernels on a CUDA device, or on the CPU.
///
/// # Safety
/// `kernels` is null or a place for the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_kernels_load(ordinal: i32, kernels: *mut *mut KernelsHandle) -> i32 {
    // SAFETY: the caller's promise.
    let make = || match (ordinal, usize::try_from(ordinal)) {
        (SALA_HOST, _) => KernelsHandle::load(&Device::host()),
        (_, Ok(ordinal)) => KernelsHandle::load(&Device::cuda(ordinal)?),
        (_, Err(_)) => Err(Error::argument(
            "ordinal",
            "SALA_HOST (-1) or an ordinal from 0 on",
            ordinal,
        )),
    };
    // SAFETY: the caller's promise.
    unsafe { create("kernels", kernels, make) }
}

/// Loads the kernels on a CUDA device, through a context of the caller's.
///
/// # Safety
/// `context` is null or a live `CUcontext` that outlives the kernels; `kernels` is null or a place for the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_kernels_load_context(context: *mut c_void, kernels: *mut *mut KernelsHandle) -> i32 {
    let make = || {
        if context.is_null() {
            return Err(Error::argument("cu_context", "a CUcontext", "NULL"));
        }
        // SAFETY: the caller's promise.
        KernelsHandle::load(&unsafe { Device::from_cuda_context(context)? })
    };
    // SAFETY: the caller's promise.
    unsafe { create("kernels", kernels, make) }
}

/// Describes a layer of block-sparse attention.
///
/// # Safety
/// Pointers are null or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_create(
    config: *const sala_sparse_layer_config,
    layer: *mut *mut SparseLayerHandle,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { create("layer", layer, || Ok(SparseLayerHandle(sparse_layer(config)?))) }
}

/// Describes a layer of linear attention.
///
/// # Safety
/// Pointers are null or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_linear_attention_create(
    config: *const sala_linear_attention_config,
    layer: *mut *mut LinearAttentionHandle,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { create("layer", layer, || Ok(LinearAttentionHandle(linear_attention(config)?))) }
}

/// Whether the kernels run every operation of such a layer.
///
/// # Safety
/// Pointers are null or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_supported(
    kernels: *const KernelsHandle,
    config: *const sala_sparse_layer_config,
) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        sparse_layer(config)?;
        there("kernels", kernels)?.kernels.check_base()
    })
}

/// Whether the kernels run every operation of such a layer.
///
/// # Safety
/// Pointers are null or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_linear_attention_supported(
    kernels: *const KernelsHandle,
    config: *const sala_linear_attention_config,
) -> i32 {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        linear_attention(config)?;
        there("kernels", kernels)?.kernels.check_base()
    })
}

/// Destroys kernels.
///
/// # Safety
/// `kernels` is null, or was loaded and not yet destroyed, and no call uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_kernels_destroy(kernels: *mut KernelsHandle) {
    // SAFETY: the caller's promise.
    unsafe { destroy(kernels) }
}

/// Destroys a layer.
///
/// # Safety
/// `layer` is null, or was created and not yet destroyed, and no call uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_destroy(layer: *mut SparseLayerHandle) {
    // SAFETY: the caller's promise.
    unsafe { destroy(layer) }
}

/// Destroys a layer.
///
/// # Safety
/// `layer` is null, or was created and not yet destroyed, and no call uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_linear_attention_destroy(layer: *mut LinearAttentionHandle) {
    // SAFETY: the caller's promise.
    unsafe { destroy(layer) }
}

/// Fills a config with what SALA has.
///
/// # Safety
/// `config` is null or a place for a config.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_config_init(config: *mut sala_sparse_layer_config) {
    let sala = sala_sparse_layer_config {
        size: size_of::<sala_sparse_layer_config>(),
        dense_len: -1,
        block_size: 64,
        topk: 64,
        init_blocks: 1,
        local_blocks: 32,
        ..sala_sparse_layer_config::zeroed()
    };
    guard(|| {
        // SAFETY: the caller's promise.
        *unsafe { place("config", config)? } = sala;
        Ok(())
    });
}

/// Entries of a layer's lists.
///
/// # Safety
/// `layer` is null or a live layer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_list_len(layer: *const SparseLayerHandle) -> i64 {
    // SAFETY: the caller's promise.
    number(|| Ok(unsafe { there("layer", layer)? }.0.list_len()))
}

/// Rows of K1 for so many keys.
///
/// # Safety
/// `layer` is null or a live layer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_k1_rows(layer: *const SparseLayerHandle, tokens: i64) -> i64 {
    // SAFETY: the caller's promise.
    number(|| Ok(unsafe { there("layer", layer)? }.0.k1_rows(count("tokens", tokens)?)))
}

/// Rows of K2 for so many keys.
///
/// # Safety
/// `layer` is null or a live layer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_k2_rows(layer: *const SparseLayerHandle, tokens: i64) -> i64 {
    // SAFETY: the caller's promise.
    number(|| Ok(unsafe { there("layer", layer)? }.0.k2_rows(count("tokens", tokens)?)))
}

/// Bytes of workspace of selection and attention.
///
/// # Safety
/// Pointers are null or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_workspace_size(
    layer: *const SparseLayerHandle,
    entry: i32,
    batch: i64,
    max_seqlen_q: i64,
    max_seqlen_k: i64,
    list_len: i64,
    bytes: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let (layer, bytes) = unsafe { (&there("layer", layer)?.0, place("bytes", bytes)?) };
        let entry = self::entry(entry)?;
        let batch = count("batch", batch)?;
        let (queries, keys) = (
            count("max_seqlen_q", max_seqlen_q)?,
            count("max_seqlen_k", max_seqlen_k)?,
        );
        *bytes = layer.workspace_size(entry, batch, queries, keys, structs::bound("list_len", list_len)?);
        Ok(())
    })
}

/// Bytes of workspace of scores of keys and of the choice of tokens.
///
/// # Safety
/// Pointers are null or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_sparse_layer_tokens_workspace_size(
    layer: *const SparseLayerHandle,
    batch: i64,
    max_seqlen_q: i64,
    tokens: i64,
    bytes: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let (layer, bytes) = unsafe { (&there("layer", layer)?.0, place("bytes", bytes)?) };
        let (batch, tokens) = (count("batch", batch)?, count("tokens", tokens)?);
        *bytes = layer.tokens_workspace_size(batch, count("max_seqlen_q", max_seqlen_q)?, tokens);
        Ok(())
    })
}

/// Bytes of workspace of a prefill.
///
/// # Safety
/// Pointers are null or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_linear_attention_workspace_size(
    layer: *const LinearAttentionHandle,
    batch: i64,
    total_q: i64,
    max_seqlen_q: i64,
    bytes: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let (layer, bytes) = unsafe { (&there("layer", layer)?.0, place("bytes", bytes)?) };
        let (batch, tokens) = (count("batch", batch)?, count("total_q", total_q)?);
        *bytes = layer.workspace_size(batch, tokens, count("max_seqlen_q", max_seqlen_q)?);
        Ok(())
    })
}

/// The log decays of Lightning attention.
///
/// # Safety
/// `out` is null or has room for as many numbers as there are heads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_lightning_log_decay(first_head: i64, heads: i64, total_heads: i64, out: *mut f32) -> i32 {
    guard(|| {
        let (first, heads) = (count("first_head", first_head)?, count("heads", heads)?);
        let numbers = lightning_log_decay(first, heads, count("total_heads", total_heads)?)?;
        // SAFETY: the caller's promise.
        unsafe { give(&numbers, out) }
    })
}

/// The cosines and sines of rotary embedding.
///
/// # Safety
/// `out` is null or has room for `count · dim` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sala_rotary_cos_sin(count: i64, dim: i64, theta: f64, out: *mut f32) -> i32 {
    guard(|| {
        let (count, dim) = (structs::count("count", count)?, structs::count("dim", dim)?);
        // SAFETY: the caller's promise.
        unsafe { give(&rotary_cos_sin(count, dim, theta)?, out) }
    })
}

/// How the work of attention is spread.
pub(super) fn entry(number: i32) -> Result<Entry> {
    let entries = [
        (SALA_PREFILL, "SALA_PREFILL", Entry::Prefill),
        (SALA_DECODE, "SALA_DECODE", Entry::Decode),
    ];
    one_of("entry", number, &entries)
}

/// # Safety
/// As of [`sala_sparse_layer_create`].
pub(super) unsafe fn sparse_layer(config: *const sala_sparse_layer_config) -> Result<SparseLayer> {
    // SAFETY: the caller's promise.
    let config = unsafe { structs::read("config", config)? };
    let shape = AttentionShape {
        heads_q: count("heads_q", config.heads_q)?,
        heads_kv: count("heads_kv", config.heads_kv)?,
        dim: count("dim", config.dim)?,
    };
    let lse = [
        (SALA_LSE_COARSE, "SALA_LSE_COARSE", Lse::Coarse),
        (SALA_LSE_EXACT, "SALA_LSE_EXACT", Lse::Exact),
    ];
    let builder = SparseLayer::builder(
        dtype("dtype", config.dtype)?,
        shape,
        count("dense_len", config.dense_len)?,
    )
    .block_size(count("block_size", config.block_size)?)
    .topk(count("topk", config.topk)?)
    .init_blocks(count("init_blocks", config.init_blocks)?)
    .local_blocks(count("local_blocks", config.local_blocks)?)
    .lse(one_of("lse", config.lse, &lse)?);
    match config.scale.is_null() {
        true => builder.build(),
        // SAFETY: the caller's promise.
        false => builder.scale(*unsafe { there("scale", config.scale)? }).build(),
    }
}

/// # Safety
/// As of [`sala_linear_attention_create`].
pub(super) unsafe fn linear_attention(config: *const sala_linear_attention_config) -> Result<LinearAttention> {
    // SAFETY: the caller's promise.
    let config = unsafe { structs::read("config", config)? };
    let shape = LinearShape {
        heads_q: count("heads_q", config.heads_q)?,
        heads_kv: count("heads_kv", config.heads_kv)?,
        dim_k: count("dim_k", config.dim_k)?,
        dim_v: count("dim_v", config.dim_v)?,
    };
    let decays = [
        (SALA_NO_DECAY, "SALA_NO_DECAY", Decay::None),
        (SALA_DECAY_OF_HEADS, "SALA_DECAY_OF_HEADS", Decay::PerHead),
        (SALA_DECAY_OF_TOKENS, "SALA_DECAY_OF_TOKENS", Decay::PerToken),
    ];
    let layouts = [
        (SALA_STATE_KV, "SALA_STATE_KV", StateLayout::Kv),
        (SALA_STATE_VK, "SALA_STATE_VK", StateLayout::Vk),
    ];
    let splits = [
        (SALA_SPLIT_AUTO, "SALA_SPLIT_AUTO", Split::Auto),
        (SALA_SPLIT_NEVER, "SALA_SPLIT_NEVER", Split::Never),
    ];
    let decay = one_of("decay", config.decay, &decays)?;
    let builder = LinearAttention::builder(dtype("dtype", config.dtype)?, shape, decay)
        .state_layout(one_of("state_layout", config.state_layout, &layouts)?)
        .split(one_of("split", config.split, &splits)?);
    match config.scale.is_null() {
        true => builder.build(),
        // SAFETY: the caller's promise.
        false => builder.scale(*unsafe { there("scale", config.scale)? }).build(),
    }
}

/// Gives what `make` makes to `handle`; null there if it fails.
///
/// # Safety
/// `handle` is null or a place for the handle.
unsafe fn create<T>(argument: &'static str, handle: *mut *mut T, make: impl FnOnce() -> Result<T>) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { place(argument, handle)? };
        *handle = std::ptr::null_mut();
        *handle = Box::into_raw(Box::new(make()?));
        Ok(())
    })
}

/// # Safety
/// `handle` is null, or from [`create`] and used no more.
unsafe fn destroy<T>(handle: *mut T) {
    if !handle.is_null() {
        // There is nobody to tell of a panic. SAFETY: made by `Box::into_raw`, and the caller's promise.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(handle) })));
    }
}

/// A number that is 0 where it cannot be told.
fn number(work: impl FnOnce() -> Result<usize>) -> i64 {
    let mut number = 0;
    guard(|| {
        number = i64::try_from(work()?).unwrap_or(i64::MAX);
        Ok(())
    });
    number
}

/// # Safety
/// `out` is null or has room for the numbers.
unsafe fn give(numbers: &[f32], out: *mut f32) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    // SAFETY: the caller's promise.
    let out: *mut f32 = unsafe { place("out", out)? };
    // SAFETY: the caller's promise.
    unsafe { out.copy_from_nonoverlapping(numbers.as_ptr(), numbers.len()) };
    Ok(())
}
