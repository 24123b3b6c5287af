//! Made from `include/sala_kernels.h` by `cargo xtask bindgen`; change it there.

pub const SALA_OK: sala_status = 0;
pub const SALA_ERROR_ARGUMENT: sala_status = 1;
pub const SALA_ERROR_UNSUPPORTED: sala_status = 2;
pub const SALA_ERROR_NO_KERNELS: sala_status = 3;
pub const SALA_ERROR_DRIVER: sala_status = 4;
pub const SALA_ERROR_OUT_OF_MEMORY: sala_status = 5;
pub const SALA_ERROR_REFUSED: sala_status = 6;
pub const SALA_ERROR_EXECUTION: sala_status = 7;
pub const SALA_ERROR_INTERNAL: sala_status = 8;
pub type sala_status = u32;
pub const SALA_BF16: sala_dtype = 1;
pub const SALA_F16: sala_dtype = 2;
pub const SALA_F32: sala_dtype = 3;
pub const SALA_I32: sala_dtype = 4;
pub const SALA_U32: sala_dtype = 5;
pub type sala_dtype = u32;
pub const SALA_HOST: i32 = -1;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_tensor {
    pub data: *mut ::core::ffi::c_void,
    pub dtype: i32,
    pub ndim: i32,
    pub device: i32,
    pub reserved: i32,
    pub shape: *const i64,
    pub strides: *const i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_tensor"][::core::mem::size_of::<sala_tensor>() - 40usize];
    ["Alignment of sala_tensor"][::core::mem::align_of::<sala_tensor>() - 8usize];
    ["Offset of field: sala_tensor::data"][::core::mem::offset_of!(sala_tensor, data) - 0usize];
    ["Offset of field: sala_tensor::dtype"][::core::mem::offset_of!(sala_tensor, dtype) - 8usize];
    ["Offset of field: sala_tensor::ndim"][::core::mem::offset_of!(sala_tensor, ndim) - 12usize];
    ["Offset of field: sala_tensor::device"][::core::mem::offset_of!(sala_tensor, device) - 16usize];
    ["Offset of field: sala_tensor::reserved"][::core::mem::offset_of!(sala_tensor, reserved) - 20usize];
    ["Offset of field: sala_tensor::shape"][::core::mem::offset_of!(sala_tensor, shape) - 24usize];
    ["Offset of field: sala_tensor::strides"][::core::mem::offset_of!(sala_tensor, strides) - 32usize];
};
pub const SALA_PACKED: sala_store = 1;
pub const SALA_CACHED: sala_store = 2;
pub const SALA_PAGED: sala_store = 3;
pub type sala_store = u32;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_key_store {
    pub size: usize,
    pub store: i32,
    pub reserved: i32,
    pub cu_seqlens_k: *const sala_tensor,
    pub seqlens_k: *const sala_tensor,
    pub cache_index: *const sala_tensor,
    pub page_table: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_key_store"][::core::mem::size_of::<sala_key_store>() - 48usize];
    ["Alignment of sala_key_store"][::core::mem::align_of::<sala_key_store>() - 8usize];
    ["Offset of field: sala_key_store::size"][::core::mem::offset_of!(sala_key_store, size) - 0usize];
    ["Offset of field: sala_key_store::store"][::core::mem::offset_of!(sala_key_store, store) - 8usize];
    ["Offset of field: sala_key_store::reserved"][::core::mem::offset_of!(sala_key_store, reserved) - 12usize];
    ["Offset of field: sala_key_store::cu_seqlens_k"][::core::mem::offset_of!(sala_key_store, cu_seqlens_k) - 16usize];
    ["Offset of field: sala_key_store::seqlens_k"][::core::mem::offset_of!(sala_key_store, seqlens_k) - 24usize];
    ["Offset of field: sala_key_store::cache_index"][::core::mem::offset_of!(sala_key_store, cache_index) - 32usize];
    ["Offset of field: sala_key_store::page_table"][::core::mem::offset_of!(sala_key_store, page_table) - 40usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_compressed_store {
    pub size: usize,
    pub store: i32,
    pub reserved: i32,
    pub cache_index: *const sala_tensor,
    pub page_table: *const sala_tensor,
    pub rows_per_page: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_compressed_store"][::core::mem::size_of::<sala_compressed_store>() - 40usize];
    ["Alignment of sala_compressed_store"][::core::mem::align_of::<sala_compressed_store>() - 8usize];
    ["Offset of field: sala_compressed_store::size"][::core::mem::offset_of!(sala_compressed_store, size) - 0usize];
    ["Offset of field: sala_compressed_store::store"][::core::mem::offset_of!(sala_compressed_store, store) - 8usize];
    ["Offset of field: sala_compressed_store::reserved"]
        [::core::mem::offset_of!(sala_compressed_store, reserved) - 12usize];
    ["Offset of field: sala_compressed_store::cache_index"]
        [::core::mem::offset_of!(sala_compressed_store, cache_index) - 16usize];
    ["Offset of field: sala_compressed_store::page_table"]
        [::core::mem::offset_of!(sala_compressed_store, page_table) - 24usize];
    ["Offset of field: sala_compressed_store::rows_per_page"]
        [::core::mem::offset_of!(sala_compressed_store, rows_per_page) - 32usize];
};
pub const SALA_PREFILL: sala_entry = 0;
pub const SALA_DECODE: sala_entry = 1;
pub type sala_entry = u32;
pub const SALA_SWITCH_NONE: sala_switch = 0;
pub const SALA_SWITCH_KEYS: sala_switch = 1;
pub const SALA_SWITCH_LENGTHS: sala_switch = 2;
pub type sala_switch = u32;
pub const SALA_LSE_COARSE: sala_lse = 0;
pub const SALA_LSE_EXACT: sala_lse = 1;
pub type sala_lse = u32;
pub const SALA_NO_DECAY: sala_decay_kind = 1;
pub const SALA_DECAY_OF_HEADS: sala_decay_kind = 2;
pub const SALA_DECAY_OF_TOKENS: sala_decay_kind = 3;
pub type sala_decay_kind = u32;
pub const SALA_STATE_KV: sala_state_layout = 0;
pub const SALA_STATE_VK: sala_state_layout = 1;
pub type sala_state_layout = u32;
pub const SALA_SPLIT_AUTO: sala_split = 0;
pub const SALA_SPLIT_NEVER: sala_split = 1;
pub type sala_split = u32;
pub const SALA_ABI_VERSION: u32 = 1;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_sparse_layer_config {
    pub size: usize,
    pub dtype: i32,
    pub lse: i32,
    pub heads_q: i64,
    pub heads_kv: i64,
    pub dim: i64,
    pub dense_len: i64,
    pub block_size: i64,
    pub topk: i64,
    pub init_blocks: i64,
    pub local_blocks: i64,
    pub scale: *const f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sparse_layer_config"][::core::mem::size_of::<sala_sparse_layer_config>() - 88usize];
    ["Alignment of sala_sparse_layer_config"][::core::mem::align_of::<sala_sparse_layer_config>() - 8usize];
    ["Offset of field: sala_sparse_layer_config::size"]
        [::core::mem::offset_of!(sala_sparse_layer_config, size) - 0usize];
    ["Offset of field: sala_sparse_layer_config::dtype"]
        [::core::mem::offset_of!(sala_sparse_layer_config, dtype) - 8usize];
    ["Offset of field: sala_sparse_layer_config::lse"]
        [::core::mem::offset_of!(sala_sparse_layer_config, lse) - 12usize];
    ["Offset of field: sala_sparse_layer_config::heads_q"]
        [::core::mem::offset_of!(sala_sparse_layer_config, heads_q) - 16usize];
    ["Offset of field: sala_sparse_layer_config::heads_kv"]
        [::core::mem::offset_of!(sala_sparse_layer_config, heads_kv) - 24usize];
    ["Offset of field: sala_sparse_layer_config::dim"]
        [::core::mem::offset_of!(sala_sparse_layer_config, dim) - 32usize];
    ["Offset of field: sala_sparse_layer_config::dense_len"]
        [::core::mem::offset_of!(sala_sparse_layer_config, dense_len) - 40usize];
    ["Offset of field: sala_sparse_layer_config::block_size"]
        [::core::mem::offset_of!(sala_sparse_layer_config, block_size) - 48usize];
    ["Offset of field: sala_sparse_layer_config::topk"]
        [::core::mem::offset_of!(sala_sparse_layer_config, topk) - 56usize];
    ["Offset of field: sala_sparse_layer_config::init_blocks"]
        [::core::mem::offset_of!(sala_sparse_layer_config, init_blocks) - 64usize];
    ["Offset of field: sala_sparse_layer_config::local_blocks"]
        [::core::mem::offset_of!(sala_sparse_layer_config, local_blocks) - 72usize];
    ["Offset of field: sala_sparse_layer_config::scale"]
        [::core::mem::offset_of!(sala_sparse_layer_config, scale) - 80usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_append_keys_args {
    pub size: usize,
    pub k_new: *const sala_tensor,
    pub v_new: *const sala_tensor,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub cu_seqlens_q: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub max_seqlen_q: i64,
    pub max_seqlen_k: i64,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_append_keys_args"][::core::mem::size_of::<sala_append_keys_args>() - 80usize];
    ["Alignment of sala_append_keys_args"][::core::mem::align_of::<sala_append_keys_args>() - 8usize];
    ["Offset of field: sala_append_keys_args::size"][::core::mem::offset_of!(sala_append_keys_args, size) - 0usize];
    ["Offset of field: sala_append_keys_args::k_new"][::core::mem::offset_of!(sala_append_keys_args, k_new) - 8usize];
    ["Offset of field: sala_append_keys_args::v_new"][::core::mem::offset_of!(sala_append_keys_args, v_new) - 16usize];
    ["Offset of field: sala_append_keys_args::k"][::core::mem::offset_of!(sala_append_keys_args, k) - 24usize];
    ["Offset of field: sala_append_keys_args::v"][::core::mem::offset_of!(sala_append_keys_args, v) - 32usize];
    ["Offset of field: sala_append_keys_args::cu_seqlens_q"]
        [::core::mem::offset_of!(sala_append_keys_args, cu_seqlens_q) - 40usize];
    ["Offset of field: sala_append_keys_args::keys"][::core::mem::offset_of!(sala_append_keys_args, keys) - 48usize];
    ["Offset of field: sala_append_keys_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_append_keys_args, max_seqlen_q) - 56usize];
    ["Offset of field: sala_append_keys_args::max_seqlen_k"]
        [::core::mem::offset_of!(sala_append_keys_args, max_seqlen_k) - 64usize];
    ["Offset of field: sala_append_keys_args::status"]
        [::core::mem::offset_of!(sala_append_keys_args, status) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_compress_keys_args {
    pub size: usize,
    pub k: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub k1: *const sala_tensor,
    pub k2: *const sala_tensor,
    pub compressed: *const sala_compressed_store,
    pub seqlens_old: *const sala_tensor,
    pub max_seqlen_k: i64,
    pub max_new: i64,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_compress_keys_args"][::core::mem::size_of::<sala_compress_keys_args>() - 80usize];
    ["Alignment of sala_compress_keys_args"][::core::mem::align_of::<sala_compress_keys_args>() - 8usize];
    ["Offset of field: sala_compress_keys_args::size"][::core::mem::offset_of!(sala_compress_keys_args, size) - 0usize];
    ["Offset of field: sala_compress_keys_args::k"][::core::mem::offset_of!(sala_compress_keys_args, k) - 8usize];
    ["Offset of field: sala_compress_keys_args::keys"]
        [::core::mem::offset_of!(sala_compress_keys_args, keys) - 16usize];
    ["Offset of field: sala_compress_keys_args::k1"][::core::mem::offset_of!(sala_compress_keys_args, k1) - 24usize];
    ["Offset of field: sala_compress_keys_args::k2"][::core::mem::offset_of!(sala_compress_keys_args, k2) - 32usize];
    ["Offset of field: sala_compress_keys_args::compressed"]
        [::core::mem::offset_of!(sala_compress_keys_args, compressed) - 40usize];
    ["Offset of field: sala_compress_keys_args::seqlens_old"]
        [::core::mem::offset_of!(sala_compress_keys_args, seqlens_old) - 48usize];
    ["Offset of field: sala_compress_keys_args::max_seqlen_k"]
        [::core::mem::offset_of!(sala_compress_keys_args, max_seqlen_k) - 56usize];
    ["Offset of field: sala_compress_keys_args::max_new"]
        [::core::mem::offset_of!(sala_compress_keys_args, max_new) - 64usize];
    ["Offset of field: sala_compress_keys_args::status"]
        [::core::mem::offset_of!(sala_compress_keys_args, status) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_select_blocks_args {
    pub size: usize,
    pub q: *const sala_tensor,
    pub k1: *const sala_tensor,
    pub k2: *const sala_tensor,
    pub compressed: *const sala_compressed_store,
    pub cu_seqlens_q: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub max_seqlen_q: i64,
    pub max_seqlen_k: i64,
    pub switch_by: i32,
    pub entry: i32,
    pub switch_len: *const sala_tensor,
    pub parent: *const sala_tensor,
    pub scale_factor: *const sala_tensor,
    pub scores: *const sala_tensor,
    pub block_indices: *const sala_tensor,
    pub workspace: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_select_blocks_args"][::core::mem::size_of::<sala_select_blocks_args>() - 136usize];
    ["Alignment of sala_select_blocks_args"][::core::mem::align_of::<sala_select_blocks_args>() - 8usize];
    ["Offset of field: sala_select_blocks_args::size"][::core::mem::offset_of!(sala_select_blocks_args, size) - 0usize];
    ["Offset of field: sala_select_blocks_args::q"][::core::mem::offset_of!(sala_select_blocks_args, q) - 8usize];
    ["Offset of field: sala_select_blocks_args::k1"][::core::mem::offset_of!(sala_select_blocks_args, k1) - 16usize];
    ["Offset of field: sala_select_blocks_args::k2"][::core::mem::offset_of!(sala_select_blocks_args, k2) - 24usize];
    ["Offset of field: sala_select_blocks_args::compressed"]
        [::core::mem::offset_of!(sala_select_blocks_args, compressed) - 32usize];
    ["Offset of field: sala_select_blocks_args::cu_seqlens_q"]
        [::core::mem::offset_of!(sala_select_blocks_args, cu_seqlens_q) - 40usize];
    ["Offset of field: sala_select_blocks_args::keys"]
        [::core::mem::offset_of!(sala_select_blocks_args, keys) - 48usize];
    ["Offset of field: sala_select_blocks_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_select_blocks_args, max_seqlen_q) - 56usize];
    ["Offset of field: sala_select_blocks_args::max_seqlen_k"]
        [::core::mem::offset_of!(sala_select_blocks_args, max_seqlen_k) - 64usize];
    ["Offset of field: sala_select_blocks_args::switch_by"]
        [::core::mem::offset_of!(sala_select_blocks_args, switch_by) - 72usize];
    ["Offset of field: sala_select_blocks_args::entry"]
        [::core::mem::offset_of!(sala_select_blocks_args, entry) - 76usize];
    ["Offset of field: sala_select_blocks_args::switch_len"]
        [::core::mem::offset_of!(sala_select_blocks_args, switch_len) - 80usize];
    ["Offset of field: sala_select_blocks_args::parent"]
        [::core::mem::offset_of!(sala_select_blocks_args, parent) - 88usize];
    ["Offset of field: sala_select_blocks_args::scale_factor"]
        [::core::mem::offset_of!(sala_select_blocks_args, scale_factor) - 96usize];
    ["Offset of field: sala_select_blocks_args::scores"]
        [::core::mem::offset_of!(sala_select_blocks_args, scores) - 104usize];
    ["Offset of field: sala_select_blocks_args::block_indices"]
        [::core::mem::offset_of!(sala_select_blocks_args, block_indices) - 112usize];
    ["Offset of field: sala_select_blocks_args::workspace"]
        [::core::mem::offset_of!(sala_select_blocks_args, workspace) - 120usize];
    ["Offset of field: sala_select_blocks_args::status"]
        [::core::mem::offset_of!(sala_select_blocks_args, status) - 128usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_choose_blocks_args {
    pub size: usize,
    pub scores: *const sala_tensor,
    pub cu_seqlens_q: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub max_seqlen_q: i64,
    pub max_seqlen_k: i64,
    pub switch_by: i32,
    pub reserved: i32,
    pub switch_len: *const sala_tensor,
    pub block_indices: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_choose_blocks_args"][::core::mem::size_of::<sala_choose_blocks_args>() - 80usize];
    ["Alignment of sala_choose_blocks_args"][::core::mem::align_of::<sala_choose_blocks_args>() - 8usize];
    ["Offset of field: sala_choose_blocks_args::size"][::core::mem::offset_of!(sala_choose_blocks_args, size) - 0usize];
    ["Offset of field: sala_choose_blocks_args::scores"]
        [::core::mem::offset_of!(sala_choose_blocks_args, scores) - 8usize];
    ["Offset of field: sala_choose_blocks_args::cu_seqlens_q"]
        [::core::mem::offset_of!(sala_choose_blocks_args, cu_seqlens_q) - 16usize];
    ["Offset of field: sala_choose_blocks_args::keys"]
        [::core::mem::offset_of!(sala_choose_blocks_args, keys) - 24usize];
    ["Offset of field: sala_choose_blocks_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_choose_blocks_args, max_seqlen_q) - 32usize];
    ["Offset of field: sala_choose_blocks_args::max_seqlen_k"]
        [::core::mem::offset_of!(sala_choose_blocks_args, max_seqlen_k) - 40usize];
    ["Offset of field: sala_choose_blocks_args::switch_by"]
        [::core::mem::offset_of!(sala_choose_blocks_args, switch_by) - 48usize];
    ["Offset of field: sala_choose_blocks_args::reserved"]
        [::core::mem::offset_of!(sala_choose_blocks_args, reserved) - 52usize];
    ["Offset of field: sala_choose_blocks_args::switch_len"]
        [::core::mem::offset_of!(sala_choose_blocks_args, switch_len) - 56usize];
    ["Offset of field: sala_choose_blocks_args::block_indices"]
        [::core::mem::offset_of!(sala_choose_blocks_args, block_indices) - 64usize];
    ["Offset of field: sala_choose_blocks_args::status"]
        [::core::mem::offset_of!(sala_choose_blocks_args, status) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_sparse_attention_args {
    pub size: usize,
    pub q: *const sala_tensor,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub block_indices: *const sala_tensor,
    pub cu_seqlens_q: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub max_seqlen_q: i64,
    pub max_seqlen_k: i64,
    pub switch_by: i32,
    pub entry: i32,
    pub switch_len: *const sala_tensor,
    pub parent: *const sala_tensor,
    pub scale_factor: *const sala_tensor,
    pub gate: *const sala_tensor,
    pub out: *const sala_tensor,
    pub lse: *const sala_tensor,
    pub workspace: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sparse_attention_args"][::core::mem::size_of::<sala_sparse_attention_args>() - 144usize];
    ["Alignment of sala_sparse_attention_args"][::core::mem::align_of::<sala_sparse_attention_args>() - 8usize];
    ["Offset of field: sala_sparse_attention_args::size"]
        [::core::mem::offset_of!(sala_sparse_attention_args, size) - 0usize];
    ["Offset of field: sala_sparse_attention_args::q"][::core::mem::offset_of!(sala_sparse_attention_args, q) - 8usize];
    ["Offset of field: sala_sparse_attention_args::k"]
        [::core::mem::offset_of!(sala_sparse_attention_args, k) - 16usize];
    ["Offset of field: sala_sparse_attention_args::v"]
        [::core::mem::offset_of!(sala_sparse_attention_args, v) - 24usize];
    ["Offset of field: sala_sparse_attention_args::block_indices"]
        [::core::mem::offset_of!(sala_sparse_attention_args, block_indices) - 32usize];
    ["Offset of field: sala_sparse_attention_args::cu_seqlens_q"]
        [::core::mem::offset_of!(sala_sparse_attention_args, cu_seqlens_q) - 40usize];
    ["Offset of field: sala_sparse_attention_args::keys"]
        [::core::mem::offset_of!(sala_sparse_attention_args, keys) - 48usize];
    ["Offset of field: sala_sparse_attention_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_sparse_attention_args, max_seqlen_q) - 56usize];
    ["Offset of field: sala_sparse_attention_args::max_seqlen_k"]
        [::core::mem::offset_of!(sala_sparse_attention_args, max_seqlen_k) - 64usize];
    ["Offset of field: sala_sparse_attention_args::switch_by"]
        [::core::mem::offset_of!(sala_sparse_attention_args, switch_by) - 72usize];
    ["Offset of field: sala_sparse_attention_args::entry"]
        [::core::mem::offset_of!(sala_sparse_attention_args, entry) - 76usize];
    ["Offset of field: sala_sparse_attention_args::switch_len"]
        [::core::mem::offset_of!(sala_sparse_attention_args, switch_len) - 80usize];
    ["Offset of field: sala_sparse_attention_args::parent"]
        [::core::mem::offset_of!(sala_sparse_attention_args, parent) - 88usize];
    ["Offset of field: sala_sparse_attention_args::scale_factor"]
        [::core::mem::offset_of!(sala_sparse_attention_args, scale_factor) - 96usize];
    ["Offset of field: sala_sparse_attention_args::gate"]
        [::core::mem::offset_of!(sala_sparse_attention_args, gate) - 104usize];
    ["Offset of field: sala_sparse_attention_args::out"]
        [::core::mem::offset_of!(sala_sparse_attention_args, out) - 112usize];
    ["Offset of field: sala_sparse_attention_args::lse"]
        [::core::mem::offset_of!(sala_sparse_attention_args, lse) - 120usize];
    ["Offset of field: sala_sparse_attention_args::workspace"]
        [::core::mem::offset_of!(sala_sparse_attention_args, workspace) - 128usize];
    ["Offset of field: sala_sparse_attention_args::status"]
        [::core::mem::offset_of!(sala_sparse_attention_args, status) - 136usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_dense_attention_args {
    pub size: usize,
    pub q: *const sala_tensor,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub cu_seqlens_q: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub max_seqlen_q: i64,
    pub max_seqlen_k: i64,
    pub entry: i32,
    pub reserved: i32,
    pub parent: *const sala_tensor,
    pub scale_factor: *const sala_tensor,
    pub gate: *const sala_tensor,
    pub out: *const sala_tensor,
    pub lse: *const sala_tensor,
    pub workspace: *const sala_tensor,
    pub status: *const sala_tensor,
    pub first_key: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_dense_attention_args"][::core::mem::size_of::<sala_dense_attention_args>() - 136usize];
    ["Alignment of sala_dense_attention_args"][::core::mem::align_of::<sala_dense_attention_args>() - 8usize];
    ["Offset of field: sala_dense_attention_args::size"]
        [::core::mem::offset_of!(sala_dense_attention_args, size) - 0usize];
    ["Offset of field: sala_dense_attention_args::q"][::core::mem::offset_of!(sala_dense_attention_args, q) - 8usize];
    ["Offset of field: sala_dense_attention_args::k"][::core::mem::offset_of!(sala_dense_attention_args, k) - 16usize];
    ["Offset of field: sala_dense_attention_args::v"][::core::mem::offset_of!(sala_dense_attention_args, v) - 24usize];
    ["Offset of field: sala_dense_attention_args::cu_seqlens_q"]
        [::core::mem::offset_of!(sala_dense_attention_args, cu_seqlens_q) - 32usize];
    ["Offset of field: sala_dense_attention_args::keys"]
        [::core::mem::offset_of!(sala_dense_attention_args, keys) - 40usize];
    ["Offset of field: sala_dense_attention_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_dense_attention_args, max_seqlen_q) - 48usize];
    ["Offset of field: sala_dense_attention_args::max_seqlen_k"]
        [::core::mem::offset_of!(sala_dense_attention_args, max_seqlen_k) - 56usize];
    ["Offset of field: sala_dense_attention_args::entry"]
        [::core::mem::offset_of!(sala_dense_attention_args, entry) - 64usize];
    ["Offset of field: sala_dense_attention_args::reserved"]
        [::core::mem::offset_of!(sala_dense_attention_args, reserved) - 68usize];
    ["Offset of field: sala_dense_attention_args::parent"]
        [::core::mem::offset_of!(sala_dense_attention_args, parent) - 72usize];
    ["Offset of field: sala_dense_attention_args::scale_factor"]
        [::core::mem::offset_of!(sala_dense_attention_args, scale_factor) - 80usize];
    ["Offset of field: sala_dense_attention_args::gate"]
        [::core::mem::offset_of!(sala_dense_attention_args, gate) - 88usize];
    ["Offset of field: sala_dense_attention_args::out"]
        [::core::mem::offset_of!(sala_dense_attention_args, out) - 96usize];
    ["Offset of field: sala_dense_attention_args::lse"]
        [::core::mem::offset_of!(sala_dense_attention_args, lse) - 104usize];
    ["Offset of field: sala_dense_attention_args::workspace"]
        [::core::mem::offset_of!(sala_dense_attention_args, workspace) - 112usize];
    ["Offset of field: sala_dense_attention_args::status"]
        [::core::mem::offset_of!(sala_dense_attention_args, status) - 120usize];
    ["Offset of field: sala_dense_attention_args::first_key"]
        [::core::mem::offset_of!(sala_dense_attention_args, first_key) - 128usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_commit_keys_args {
    pub size: usize,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub base: *const sala_tensor,
    pub accepted: *const sala_tensor,
    pub path: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_commit_keys_args"][::core::mem::size_of::<sala_commit_keys_args>() - 64usize];
    ["Alignment of sala_commit_keys_args"][::core::mem::align_of::<sala_commit_keys_args>() - 8usize];
    ["Offset of field: sala_commit_keys_args::size"][::core::mem::offset_of!(sala_commit_keys_args, size) - 0usize];
    ["Offset of field: sala_commit_keys_args::k"][::core::mem::offset_of!(sala_commit_keys_args, k) - 8usize];
    ["Offset of field: sala_commit_keys_args::v"][::core::mem::offset_of!(sala_commit_keys_args, v) - 16usize];
    ["Offset of field: sala_commit_keys_args::keys"][::core::mem::offset_of!(sala_commit_keys_args, keys) - 24usize];
    ["Offset of field: sala_commit_keys_args::base"][::core::mem::offset_of!(sala_commit_keys_args, base) - 32usize];
    ["Offset of field: sala_commit_keys_args::accepted"]
        [::core::mem::offset_of!(sala_commit_keys_args, accepted) - 40usize];
    ["Offset of field: sala_commit_keys_args::path"][::core::mem::offset_of!(sala_commit_keys_args, path) - 48usize];
    ["Offset of field: sala_commit_keys_args::status"]
        [::core::mem::offset_of!(sala_commit_keys_args, status) - 56usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_score_keys_args {
    pub size: usize,
    pub q: *const sala_tensor,
    pub k: *const sala_tensor,
    pub cu_seqlens_q: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub max_seqlen_q: i64,
    pub max_seqlen_k: i64,
    pub pool: i64,
    pub scores: *const sala_tensor,
    pub workspace: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_score_keys_args"][::core::mem::size_of::<sala_score_keys_args>() - 88usize];
    ["Alignment of sala_score_keys_args"][::core::mem::align_of::<sala_score_keys_args>() - 8usize];
    ["Offset of field: sala_score_keys_args::size"][::core::mem::offset_of!(sala_score_keys_args, size) - 0usize];
    ["Offset of field: sala_score_keys_args::q"][::core::mem::offset_of!(sala_score_keys_args, q) - 8usize];
    ["Offset of field: sala_score_keys_args::k"][::core::mem::offset_of!(sala_score_keys_args, k) - 16usize];
    ["Offset of field: sala_score_keys_args::cu_seqlens_q"]
        [::core::mem::offset_of!(sala_score_keys_args, cu_seqlens_q) - 24usize];
    ["Offset of field: sala_score_keys_args::keys"][::core::mem::offset_of!(sala_score_keys_args, keys) - 32usize];
    ["Offset of field: sala_score_keys_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_score_keys_args, max_seqlen_q) - 40usize];
    ["Offset of field: sala_score_keys_args::max_seqlen_k"]
        [::core::mem::offset_of!(sala_score_keys_args, max_seqlen_k) - 48usize];
    ["Offset of field: sala_score_keys_args::pool"][::core::mem::offset_of!(sala_score_keys_args, pool) - 56usize];
    ["Offset of field: sala_score_keys_args::scores"][::core::mem::offset_of!(sala_score_keys_args, scores) - 64usize];
    ["Offset of field: sala_score_keys_args::workspace"]
        [::core::mem::offset_of!(sala_score_keys_args, workspace) - 72usize];
    ["Offset of field: sala_score_keys_args::status"][::core::mem::offset_of!(sala_score_keys_args, status) - 80usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_choose_tokens_args {
    pub size: usize,
    pub scores: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub init_tokens: i64,
    pub local_tokens: i64,
    pub token_indices: *const sala_tensor,
    pub workspace: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_choose_tokens_args"][::core::mem::size_of::<sala_choose_tokens_args>() - 64usize];
    ["Alignment of sala_choose_tokens_args"][::core::mem::align_of::<sala_choose_tokens_args>() - 8usize];
    ["Offset of field: sala_choose_tokens_args::size"][::core::mem::offset_of!(sala_choose_tokens_args, size) - 0usize];
    ["Offset of field: sala_choose_tokens_args::scores"]
        [::core::mem::offset_of!(sala_choose_tokens_args, scores) - 8usize];
    ["Offset of field: sala_choose_tokens_args::keys"]
        [::core::mem::offset_of!(sala_choose_tokens_args, keys) - 16usize];
    ["Offset of field: sala_choose_tokens_args::init_tokens"]
        [::core::mem::offset_of!(sala_choose_tokens_args, init_tokens) - 24usize];
    ["Offset of field: sala_choose_tokens_args::local_tokens"]
        [::core::mem::offset_of!(sala_choose_tokens_args, local_tokens) - 32usize];
    ["Offset of field: sala_choose_tokens_args::token_indices"]
        [::core::mem::offset_of!(sala_choose_tokens_args, token_indices) - 40usize];
    ["Offset of field: sala_choose_tokens_args::workspace"]
        [::core::mem::offset_of!(sala_choose_tokens_args, workspace) - 48usize];
    ["Offset of field: sala_choose_tokens_args::status"]
        [::core::mem::offset_of!(sala_choose_tokens_args, status) - 56usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_gather_rows_args {
    pub size: usize,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub token_indices: *const sala_tensor,
    pub k_out: *const sala_tensor,
    pub v_out: *const sala_tensor,
    pub scores: *const sala_tensor,
    pub scores_out: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_gather_rows_args"][::core::mem::size_of::<sala_gather_rows_args>() - 80usize];
    ["Alignment of sala_gather_rows_args"][::core::mem::align_of::<sala_gather_rows_args>() - 8usize];
    ["Offset of field: sala_gather_rows_args::size"][::core::mem::offset_of!(sala_gather_rows_args, size) - 0usize];
    ["Offset of field: sala_gather_rows_args::k"][::core::mem::offset_of!(sala_gather_rows_args, k) - 8usize];
    ["Offset of field: sala_gather_rows_args::v"][::core::mem::offset_of!(sala_gather_rows_args, v) - 16usize];
    ["Offset of field: sala_gather_rows_args::keys"][::core::mem::offset_of!(sala_gather_rows_args, keys) - 24usize];
    ["Offset of field: sala_gather_rows_args::token_indices"]
        [::core::mem::offset_of!(sala_gather_rows_args, token_indices) - 32usize];
    ["Offset of field: sala_gather_rows_args::k_out"][::core::mem::offset_of!(sala_gather_rows_args, k_out) - 40usize];
    ["Offset of field: sala_gather_rows_args::v_out"][::core::mem::offset_of!(sala_gather_rows_args, v_out) - 48usize];
    ["Offset of field: sala_gather_rows_args::scores"]
        [::core::mem::offset_of!(sala_gather_rows_args, scores) - 56usize];
    ["Offset of field: sala_gather_rows_args::scores_out"]
        [::core::mem::offset_of!(sala_gather_rows_args, scores_out) - 64usize];
    ["Offset of field: sala_gather_rows_args::status"]
        [::core::mem::offset_of!(sala_gather_rows_args, status) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_compact_keys_args {
    pub size: usize,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub keys: *const sala_key_store,
    pub token_indices: *const sala_tensor,
    pub scores: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_compact_keys_args"][::core::mem::size_of::<sala_compact_keys_args>() - 56usize];
    ["Alignment of sala_compact_keys_args"][::core::mem::align_of::<sala_compact_keys_args>() - 8usize];
    ["Offset of field: sala_compact_keys_args::size"][::core::mem::offset_of!(sala_compact_keys_args, size) - 0usize];
    ["Offset of field: sala_compact_keys_args::k"][::core::mem::offset_of!(sala_compact_keys_args, k) - 8usize];
    ["Offset of field: sala_compact_keys_args::v"][::core::mem::offset_of!(sala_compact_keys_args, v) - 16usize];
    ["Offset of field: sala_compact_keys_args::keys"][::core::mem::offset_of!(sala_compact_keys_args, keys) - 24usize];
    ["Offset of field: sala_compact_keys_args::token_indices"]
        [::core::mem::offset_of!(sala_compact_keys_args, token_indices) - 32usize];
    ["Offset of field: sala_compact_keys_args::scores"]
        [::core::mem::offset_of!(sala_compact_keys_args, scores) - 40usize];
    ["Offset of field: sala_compact_keys_args::status"]
        [::core::mem::offset_of!(sala_compact_keys_args, status) - 48usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_merge_args {
    pub size: usize,
    pub out1: *const sala_tensor,
    pub lse1: *const sala_tensor,
    pub out2: *const sala_tensor,
    pub lse2: *const sala_tensor,
    pub out: *const sala_tensor,
    pub lse: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_merge_args"][::core::mem::size_of::<sala_merge_args>() - 56usize];
    ["Alignment of sala_merge_args"][::core::mem::align_of::<sala_merge_args>() - 8usize];
    ["Offset of field: sala_merge_args::size"][::core::mem::offset_of!(sala_merge_args, size) - 0usize];
    ["Offset of field: sala_merge_args::out1"][::core::mem::offset_of!(sala_merge_args, out1) - 8usize];
    ["Offset of field: sala_merge_args::lse1"][::core::mem::offset_of!(sala_merge_args, lse1) - 16usize];
    ["Offset of field: sala_merge_args::out2"][::core::mem::offset_of!(sala_merge_args, out2) - 24usize];
    ["Offset of field: sala_merge_args::lse2"][::core::mem::offset_of!(sala_merge_args, lse2) - 32usize];
    ["Offset of field: sala_merge_args::out"][::core::mem::offset_of!(sala_merge_args, out) - 40usize];
    ["Offset of field: sala_merge_args::lse"][::core::mem::offset_of!(sala_merge_args, lse) - 48usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_linear_attention_config {
    pub size: usize,
    pub dtype: i32,
    pub decay: i32,
    pub heads_q: i64,
    pub heads_kv: i64,
    pub dim_k: i64,
    pub dim_v: i64,
    pub state_layout: i32,
    pub split: i32,
    pub scale: *const f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_attention_config"][::core::mem::size_of::<sala_linear_attention_config>() - 64usize];
    ["Alignment of sala_linear_attention_config"][::core::mem::align_of::<sala_linear_attention_config>() - 8usize];
    ["Offset of field: sala_linear_attention_config::size"]
        [::core::mem::offset_of!(sala_linear_attention_config, size) - 0usize];
    ["Offset of field: sala_linear_attention_config::dtype"]
        [::core::mem::offset_of!(sala_linear_attention_config, dtype) - 8usize];
    ["Offset of field: sala_linear_attention_config::decay"]
        [::core::mem::offset_of!(sala_linear_attention_config, decay) - 12usize];
    ["Offset of field: sala_linear_attention_config::heads_q"]
        [::core::mem::offset_of!(sala_linear_attention_config, heads_q) - 16usize];
    ["Offset of field: sala_linear_attention_config::heads_kv"]
        [::core::mem::offset_of!(sala_linear_attention_config, heads_kv) - 24usize];
    ["Offset of field: sala_linear_attention_config::dim_k"]
        [::core::mem::offset_of!(sala_linear_attention_config, dim_k) - 32usize];
    ["Offset of field: sala_linear_attention_config::dim_v"]
        [::core::mem::offset_of!(sala_linear_attention_config, dim_v) - 40usize];
    ["Offset of field: sala_linear_attention_config::state_layout"]
        [::core::mem::offset_of!(sala_linear_attention_config, state_layout) - 48usize];
    ["Offset of field: sala_linear_attention_config::split"]
        [::core::mem::offset_of!(sala_linear_attention_config, split) - 52usize];
    ["Offset of field: sala_linear_attention_config::scale"]
        [::core::mem::offset_of!(sala_linear_attention_config, scale) - 56usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_linear_prefill_args {
    pub size: usize,
    pub q: *const sala_tensor,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub cu_seqlens: *const sala_tensor,
    pub log_decay: *const sala_tensor,
    pub out: *const sala_tensor,
    pub state: *const sala_tensor,
    pub state_in: *const sala_tensor,
    pub state_out: *const sala_tensor,
    pub checkpoint_every: i64,
    pub checkpoint_slots: *const sala_tensor,
    pub workspace: *const sala_tensor,
    pub max_seqlen_q: i64,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_prefill_args"][::core::mem::size_of::<sala_linear_prefill_args>() - 120usize];
    ["Alignment of sala_linear_prefill_args"][::core::mem::align_of::<sala_linear_prefill_args>() - 8usize];
    ["Offset of field: sala_linear_prefill_args::size"]
        [::core::mem::offset_of!(sala_linear_prefill_args, size) - 0usize];
    ["Offset of field: sala_linear_prefill_args::q"][::core::mem::offset_of!(sala_linear_prefill_args, q) - 8usize];
    ["Offset of field: sala_linear_prefill_args::k"][::core::mem::offset_of!(sala_linear_prefill_args, k) - 16usize];
    ["Offset of field: sala_linear_prefill_args::v"][::core::mem::offset_of!(sala_linear_prefill_args, v) - 24usize];
    ["Offset of field: sala_linear_prefill_args::cu_seqlens"]
        [::core::mem::offset_of!(sala_linear_prefill_args, cu_seqlens) - 32usize];
    ["Offset of field: sala_linear_prefill_args::log_decay"]
        [::core::mem::offset_of!(sala_linear_prefill_args, log_decay) - 40usize];
    ["Offset of field: sala_linear_prefill_args::out"]
        [::core::mem::offset_of!(sala_linear_prefill_args, out) - 48usize];
    ["Offset of field: sala_linear_prefill_args::state"]
        [::core::mem::offset_of!(sala_linear_prefill_args, state) - 56usize];
    ["Offset of field: sala_linear_prefill_args::state_in"]
        [::core::mem::offset_of!(sala_linear_prefill_args, state_in) - 64usize];
    ["Offset of field: sala_linear_prefill_args::state_out"]
        [::core::mem::offset_of!(sala_linear_prefill_args, state_out) - 72usize];
    ["Offset of field: sala_linear_prefill_args::checkpoint_every"]
        [::core::mem::offset_of!(sala_linear_prefill_args, checkpoint_every) - 80usize];
    ["Offset of field: sala_linear_prefill_args::checkpoint_slots"]
        [::core::mem::offset_of!(sala_linear_prefill_args, checkpoint_slots) - 88usize];
    ["Offset of field: sala_linear_prefill_args::workspace"]
        [::core::mem::offset_of!(sala_linear_prefill_args, workspace) - 96usize];
    ["Offset of field: sala_linear_prefill_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_linear_prefill_args, max_seqlen_q) - 104usize];
    ["Offset of field: sala_linear_prefill_args::status"]
        [::core::mem::offset_of!(sala_linear_prefill_args, status) - 112usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_linear_decode_args {
    pub size: usize,
    pub q: *const sala_tensor,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub log_decay: *const sala_tensor,
    pub state: *const sala_tensor,
    pub state_in: *const sala_tensor,
    pub state_out: *const sala_tensor,
    pub out: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_decode_args"][::core::mem::size_of::<sala_linear_decode_args>() - 80usize];
    ["Alignment of sala_linear_decode_args"][::core::mem::align_of::<sala_linear_decode_args>() - 8usize];
    ["Offset of field: sala_linear_decode_args::size"][::core::mem::offset_of!(sala_linear_decode_args, size) - 0usize];
    ["Offset of field: sala_linear_decode_args::q"][::core::mem::offset_of!(sala_linear_decode_args, q) - 8usize];
    ["Offset of field: sala_linear_decode_args::k"][::core::mem::offset_of!(sala_linear_decode_args, k) - 16usize];
    ["Offset of field: sala_linear_decode_args::v"][::core::mem::offset_of!(sala_linear_decode_args, v) - 24usize];
    ["Offset of field: sala_linear_decode_args::log_decay"]
        [::core::mem::offset_of!(sala_linear_decode_args, log_decay) - 32usize];
    ["Offset of field: sala_linear_decode_args::state"]
        [::core::mem::offset_of!(sala_linear_decode_args, state) - 40usize];
    ["Offset of field: sala_linear_decode_args::state_in"]
        [::core::mem::offset_of!(sala_linear_decode_args, state_in) - 48usize];
    ["Offset of field: sala_linear_decode_args::state_out"]
        [::core::mem::offset_of!(sala_linear_decode_args, state_out) - 56usize];
    ["Offset of field: sala_linear_decode_args::out"][::core::mem::offset_of!(sala_linear_decode_args, out) - 64usize];
    ["Offset of field: sala_linear_decode_args::status"]
        [::core::mem::offset_of!(sala_linear_decode_args, status) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_linear_verify_args {
    pub size: usize,
    pub q: *const sala_tensor,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub log_decay: *const sala_tensor,
    pub state: *const sala_tensor,
    pub state_in: *const sala_tensor,
    pub parent: *const sala_tensor,
    pub out: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_verify_args"][::core::mem::size_of::<sala_linear_verify_args>() - 80usize];
    ["Alignment of sala_linear_verify_args"][::core::mem::align_of::<sala_linear_verify_args>() - 8usize];
    ["Offset of field: sala_linear_verify_args::size"][::core::mem::offset_of!(sala_linear_verify_args, size) - 0usize];
    ["Offset of field: sala_linear_verify_args::q"][::core::mem::offset_of!(sala_linear_verify_args, q) - 8usize];
    ["Offset of field: sala_linear_verify_args::k"][::core::mem::offset_of!(sala_linear_verify_args, k) - 16usize];
    ["Offset of field: sala_linear_verify_args::v"][::core::mem::offset_of!(sala_linear_verify_args, v) - 24usize];
    ["Offset of field: sala_linear_verify_args::log_decay"]
        [::core::mem::offset_of!(sala_linear_verify_args, log_decay) - 32usize];
    ["Offset of field: sala_linear_verify_args::state"]
        [::core::mem::offset_of!(sala_linear_verify_args, state) - 40usize];
    ["Offset of field: sala_linear_verify_args::state_in"]
        [::core::mem::offset_of!(sala_linear_verify_args, state_in) - 48usize];
    ["Offset of field: sala_linear_verify_args::parent"]
        [::core::mem::offset_of!(sala_linear_verify_args, parent) - 56usize];
    ["Offset of field: sala_linear_verify_args::out"][::core::mem::offset_of!(sala_linear_verify_args, out) - 64usize];
    ["Offset of field: sala_linear_verify_args::status"]
        [::core::mem::offset_of!(sala_linear_verify_args, status) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_linear_commit_args {
    pub size: usize,
    pub k: *const sala_tensor,
    pub v: *const sala_tensor,
    pub log_decay: *const sala_tensor,
    pub state: *const sala_tensor,
    pub state_in: *const sala_tensor,
    pub state_out: *const sala_tensor,
    pub accepted: *const sala_tensor,
    pub path: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_commit_args"][::core::mem::size_of::<sala_linear_commit_args>() - 80usize];
    ["Alignment of sala_linear_commit_args"][::core::mem::align_of::<sala_linear_commit_args>() - 8usize];
    ["Offset of field: sala_linear_commit_args::size"][::core::mem::offset_of!(sala_linear_commit_args, size) - 0usize];
    ["Offset of field: sala_linear_commit_args::k"][::core::mem::offset_of!(sala_linear_commit_args, k) - 8usize];
    ["Offset of field: sala_linear_commit_args::v"][::core::mem::offset_of!(sala_linear_commit_args, v) - 16usize];
    ["Offset of field: sala_linear_commit_args::log_decay"]
        [::core::mem::offset_of!(sala_linear_commit_args, log_decay) - 24usize];
    ["Offset of field: sala_linear_commit_args::state"]
        [::core::mem::offset_of!(sala_linear_commit_args, state) - 32usize];
    ["Offset of field: sala_linear_commit_args::state_in"]
        [::core::mem::offset_of!(sala_linear_commit_args, state_in) - 40usize];
    ["Offset of field: sala_linear_commit_args::state_out"]
        [::core::mem::offset_of!(sala_linear_commit_args, state_out) - 48usize];
    ["Offset of field: sala_linear_commit_args::accepted"]
        [::core::mem::offset_of!(sala_linear_commit_args, accepted) - 56usize];
    ["Offset of field: sala_linear_commit_args::path"]
        [::core::mem::offset_of!(sala_linear_commit_args, path) - 64usize];
    ["Offset of field: sala_linear_commit_args::status"]
        [::core::mem::offset_of!(sala_linear_commit_args, status) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_copy_states_args {
    pub size: usize,
    pub state: *const sala_tensor,
    pub sources: *const sala_tensor,
    pub destinations: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_copy_states_args"][::core::mem::size_of::<sala_copy_states_args>() - 40usize];
    ["Alignment of sala_copy_states_args"][::core::mem::align_of::<sala_copy_states_args>() - 8usize];
    ["Offset of field: sala_copy_states_args::size"][::core::mem::offset_of!(sala_copy_states_args, size) - 0usize];
    ["Offset of field: sala_copy_states_args::state"][::core::mem::offset_of!(sala_copy_states_args, state) - 8usize];
    ["Offset of field: sala_copy_states_args::sources"]
        [::core::mem::offset_of!(sala_copy_states_args, sources) - 16usize];
    ["Offset of field: sala_copy_states_args::destinations"]
        [::core::mem::offset_of!(sala_copy_states_args, destinations) - 24usize];
    ["Offset of field: sala_copy_states_args::status"]
        [::core::mem::offset_of!(sala_copy_states_args, status) - 32usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_sum_decay_args {
    pub size: usize,
    pub cu_seqlens: *const sala_tensor,
    pub log_decay: *const sala_tensor,
    pub cumulative: *const sala_tensor,
    pub total: *const sala_tensor,
    pub max_seqlen_q: i64,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sum_decay_args"][::core::mem::size_of::<sala_sum_decay_args>() - 56usize];
    ["Alignment of sala_sum_decay_args"][::core::mem::align_of::<sala_sum_decay_args>() - 8usize];
    ["Offset of field: sala_sum_decay_args::size"][::core::mem::offset_of!(sala_sum_decay_args, size) - 0usize];
    ["Offset of field: sala_sum_decay_args::cu_seqlens"]
        [::core::mem::offset_of!(sala_sum_decay_args, cu_seqlens) - 8usize];
    ["Offset of field: sala_sum_decay_args::log_decay"]
        [::core::mem::offset_of!(sala_sum_decay_args, log_decay) - 16usize];
    ["Offset of field: sala_sum_decay_args::cumulative"]
        [::core::mem::offset_of!(sala_sum_decay_args, cumulative) - 24usize];
    ["Offset of field: sala_sum_decay_args::total"][::core::mem::offset_of!(sala_sum_decay_args, total) - 32usize];
    ["Offset of field: sala_sum_decay_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_sum_decay_args, max_seqlen_q) - 40usize];
    ["Offset of field: sala_sum_decay_args::status"][::core::mem::offset_of!(sala_sum_decay_args, status) - 48usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_merge_states_args {
    pub size: usize,
    pub adds: *const sala_tensor,
    pub total: *const sala_tensor,
    pub state: *const sala_tensor,
    pub state_in: *const sala_tensor,
    pub state_out: *const sala_tensor,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_merge_states_args"][::core::mem::size_of::<sala_merge_states_args>() - 56usize];
    ["Alignment of sala_merge_states_args"][::core::mem::align_of::<sala_merge_states_args>() - 8usize];
    ["Offset of field: sala_merge_states_args::size"][::core::mem::offset_of!(sala_merge_states_args, size) - 0usize];
    ["Offset of field: sala_merge_states_args::adds"][::core::mem::offset_of!(sala_merge_states_args, adds) - 8usize];
    ["Offset of field: sala_merge_states_args::total"]
        [::core::mem::offset_of!(sala_merge_states_args, total) - 16usize];
    ["Offset of field: sala_merge_states_args::state"]
        [::core::mem::offset_of!(sala_merge_states_args, state) - 24usize];
    ["Offset of field: sala_merge_states_args::state_in"]
        [::core::mem::offset_of!(sala_merge_states_args, state_in) - 32usize];
    ["Offset of field: sala_merge_states_args::state_out"]
        [::core::mem::offset_of!(sala_merge_states_args, state_out) - 40usize];
    ["Offset of field: sala_merge_states_args::status"]
        [::core::mem::offset_of!(sala_merge_states_args, status) - 48usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_linear_correct_args {
    pub size: usize,
    pub q: *const sala_tensor,
    pub cumulative: *const sala_tensor,
    pub cu_seqlens: *const sala_tensor,
    pub state: *const sala_tensor,
    pub state_in: *const sala_tensor,
    pub out: *const sala_tensor,
    pub max_seqlen_q: i64,
    pub status: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_correct_args"][::core::mem::size_of::<sala_linear_correct_args>() - 72usize];
    ["Alignment of sala_linear_correct_args"][::core::mem::align_of::<sala_linear_correct_args>() - 8usize];
    ["Offset of field: sala_linear_correct_args::size"]
        [::core::mem::offset_of!(sala_linear_correct_args, size) - 0usize];
    ["Offset of field: sala_linear_correct_args::q"][::core::mem::offset_of!(sala_linear_correct_args, q) - 8usize];
    ["Offset of field: sala_linear_correct_args::cumulative"]
        [::core::mem::offset_of!(sala_linear_correct_args, cumulative) - 16usize];
    ["Offset of field: sala_linear_correct_args::cu_seqlens"]
        [::core::mem::offset_of!(sala_linear_correct_args, cu_seqlens) - 24usize];
    ["Offset of field: sala_linear_correct_args::state"]
        [::core::mem::offset_of!(sala_linear_correct_args, state) - 32usize];
    ["Offset of field: sala_linear_correct_args::state_in"]
        [::core::mem::offset_of!(sala_linear_correct_args, state_in) - 40usize];
    ["Offset of field: sala_linear_correct_args::out"]
        [::core::mem::offset_of!(sala_linear_correct_args, out) - 48usize];
    ["Offset of field: sala_linear_correct_args::max_seqlen_q"]
        [::core::mem::offset_of!(sala_linear_correct_args, max_seqlen_q) - 56usize];
    ["Offset of field: sala_linear_correct_args::status"]
        [::core::mem::offset_of!(sala_linear_correct_args, status) - 64usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_norm_rope_args {
    pub size: usize,
    pub x: *const sala_tensor,
    pub weight: *const sala_tensor,
    pub cos_sin: *const sala_tensor,
    pub positions: *const sala_tensor,
    pub out: *const sala_tensor,
    pub status: *const sala_tensor,
    pub eps: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_norm_rope_args"][::core::mem::size_of::<sala_norm_rope_args>() - 64usize];
    ["Alignment of sala_norm_rope_args"][::core::mem::align_of::<sala_norm_rope_args>() - 8usize];
    ["Offset of field: sala_norm_rope_args::size"][::core::mem::offset_of!(sala_norm_rope_args, size) - 0usize];
    ["Offset of field: sala_norm_rope_args::x"][::core::mem::offset_of!(sala_norm_rope_args, x) - 8usize];
    ["Offset of field: sala_norm_rope_args::weight"][::core::mem::offset_of!(sala_norm_rope_args, weight) - 16usize];
    ["Offset of field: sala_norm_rope_args::cos_sin"][::core::mem::offset_of!(sala_norm_rope_args, cos_sin) - 24usize];
    ["Offset of field: sala_norm_rope_args::positions"]
        [::core::mem::offset_of!(sala_norm_rope_args, positions) - 32usize];
    ["Offset of field: sala_norm_rope_args::out"][::core::mem::offset_of!(sala_norm_rope_args, out) - 40usize];
    ["Offset of field: sala_norm_rope_args::status"][::core::mem::offset_of!(sala_norm_rope_args, status) - 48usize];
    ["Offset of field: sala_norm_rope_args::eps"][::core::mem::offset_of!(sala_norm_rope_args, eps) - 56usize];
    ["Offset of field: sala_norm_rope_args::reserved"]
        [::core::mem::offset_of!(sala_norm_rope_args, reserved) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_norm_gate_args {
    pub size: usize,
    pub x: *const sala_tensor,
    pub weight: *const sala_tensor,
    pub gate: *const sala_tensor,
    pub sum_squares: *const sala_tensor,
    pub out: *const sala_tensor,
    pub channels: i64,
    pub eps: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_norm_gate_args"][::core::mem::size_of::<sala_norm_gate_args>() - 64usize];
    ["Alignment of sala_norm_gate_args"][::core::mem::align_of::<sala_norm_gate_args>() - 8usize];
    ["Offset of field: sala_norm_gate_args::size"][::core::mem::offset_of!(sala_norm_gate_args, size) - 0usize];
    ["Offset of field: sala_norm_gate_args::x"][::core::mem::offset_of!(sala_norm_gate_args, x) - 8usize];
    ["Offset of field: sala_norm_gate_args::weight"][::core::mem::offset_of!(sala_norm_gate_args, weight) - 16usize];
    ["Offset of field: sala_norm_gate_args::gate"][::core::mem::offset_of!(sala_norm_gate_args, gate) - 24usize];
    ["Offset of field: sala_norm_gate_args::sum_squares"]
        [::core::mem::offset_of!(sala_norm_gate_args, sum_squares) - 32usize];
    ["Offset of field: sala_norm_gate_args::out"][::core::mem::offset_of!(sala_norm_gate_args, out) - 40usize];
    ["Offset of field: sala_norm_gate_args::channels"]
        [::core::mem::offset_of!(sala_norm_gate_args, channels) - 48usize];
    ["Offset of field: sala_norm_gate_args::eps"][::core::mem::offset_of!(sala_norm_gate_args, eps) - 56usize];
    ["Offset of field: sala_norm_gate_args::reserved"]
        [::core::mem::offset_of!(sala_norm_gate_args, reserved) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_sum_squares_args {
    pub size: usize,
    pub x: *const sala_tensor,
    pub out: *const sala_tensor,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sum_squares_args"][::core::mem::size_of::<sala_sum_squares_args>() - 24usize];
    ["Alignment of sala_sum_squares_args"][::core::mem::align_of::<sala_sum_squares_args>() - 8usize];
    ["Offset of field: sala_sum_squares_args::size"][::core::mem::offset_of!(sala_sum_squares_args, size) - 0usize];
    ["Offset of field: sala_sum_squares_args::x"][::core::mem::offset_of!(sala_sum_squares_args, x) - 8usize];
    ["Offset of field: sala_sum_squares_args::out"][::core::mem::offset_of!(sala_sum_squares_args, out) - 16usize];
};
