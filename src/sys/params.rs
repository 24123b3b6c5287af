//! Made from `include/params` by `cargo xtask bindgen`; change it there.

pub const SALA_MAP_MARK: u64 = 8097873861412675955;
pub const SALA_BLOCK_ROWS: u32 = 4;
pub const SALA_ONE_PAGE: u32 = 31;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_keys {
    pub cu_seqlens: u64,
    pub seqlens: u64,
    pub cache_index: u64,
    pub capacity: i64,
    pub max_seqlen: i32,
    pub caches: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_keys"][::core::mem::size_of::<sala_keys>() - 40usize];
    ["Alignment of sala_keys"][::core::mem::align_of::<sala_keys>() - 8usize];
    ["Offset of field: sala_keys::cu_seqlens"][::core::mem::offset_of!(sala_keys, cu_seqlens) - 0usize];
    ["Offset of field: sala_keys::seqlens"][::core::mem::offset_of!(sala_keys, seqlens) - 8usize];
    ["Offset of field: sala_keys::cache_index"][::core::mem::offset_of!(sala_keys, cache_index) - 16usize];
    ["Offset of field: sala_keys::capacity"][::core::mem::offset_of!(sala_keys, capacity) - 24usize];
    ["Offset of field: sala_keys::max_seqlen"][::core::mem::offset_of!(sala_keys, max_seqlen) - 32usize];
    ["Offset of field: sala_keys::caches"][::core::mem::offset_of!(sala_keys, caches) - 36usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_key_rows {
    pub address: u64,
    pub page_table: u64,
    pub table_stride: i64,
    pub store_stride: i64,
    pub row_stride: i64,
    pub head_stride: i64,
    pub pages: i32,
    pub page_shift: i32,
    pub first_row: i32,
    pub by_sequence: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_key_rows"][::core::mem::size_of::<sala_key_rows>() - 64usize];
    ["Alignment of sala_key_rows"][::core::mem::align_of::<sala_key_rows>() - 8usize];
    ["Offset of field: sala_key_rows::address"][::core::mem::offset_of!(sala_key_rows, address) - 0usize];
    ["Offset of field: sala_key_rows::page_table"][::core::mem::offset_of!(sala_key_rows, page_table) - 8usize];
    ["Offset of field: sala_key_rows::table_stride"][::core::mem::offset_of!(sala_key_rows, table_stride) - 16usize];
    ["Offset of field: sala_key_rows::store_stride"][::core::mem::offset_of!(sala_key_rows, store_stride) - 24usize];
    ["Offset of field: sala_key_rows::row_stride"][::core::mem::offset_of!(sala_key_rows, row_stride) - 32usize];
    ["Offset of field: sala_key_rows::head_stride"][::core::mem::offset_of!(sala_key_rows, head_stride) - 40usize];
    ["Offset of field: sala_key_rows::pages"][::core::mem::offset_of!(sala_key_rows, pages) - 48usize];
    ["Offset of field: sala_key_rows::page_shift"][::core::mem::offset_of!(sala_key_rows, page_shift) - 52usize];
    ["Offset of field: sala_key_rows::first_row"][::core::mem::offset_of!(sala_key_rows, first_row) - 56usize];
    ["Offset of field: sala_key_rows::by_sequence"][::core::mem::offset_of!(sala_key_rows, by_sequence) - 60usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_rows {
    pub address: u64,
    pub token_stride: i64,
    pub head_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_rows"][::core::mem::size_of::<sala_rows>() - 24usize];
    ["Alignment of sala_rows"][::core::mem::align_of::<sala_rows>() - 8usize];
    ["Offset of field: sala_rows::address"][::core::mem::offset_of!(sala_rows, address) - 0usize];
    ["Offset of field: sala_rows::token_stride"][::core::mem::offset_of!(sala_rows, token_stride) - 8usize];
    ["Offset of field: sala_rows::head_stride"][::core::mem::offset_of!(sala_rows, head_stride) - 16usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_sequences {
    pub keys: sala_keys,
    pub cu_seqlens_q: u64,
    pub switch_len: u64,
    pub total_q: i64,
    pub batch: i32,
    pub max_seqlen_q: i32,
    pub dense_len: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sequences"][::core::mem::size_of::<sala_sequences>() - 80usize];
    ["Alignment of sala_sequences"][::core::mem::align_of::<sala_sequences>() - 8usize];
    ["Offset of field: sala_sequences::keys"][::core::mem::offset_of!(sala_sequences, keys) - 0usize];
    ["Offset of field: sala_sequences::cu_seqlens_q"][::core::mem::offset_of!(sala_sequences, cu_seqlens_q) - 40usize];
    ["Offset of field: sala_sequences::switch_len"][::core::mem::offset_of!(sala_sequences, switch_len) - 48usize];
    ["Offset of field: sala_sequences::total_q"][::core::mem::offset_of!(sala_sequences, total_q) - 56usize];
    ["Offset of field: sala_sequences::batch"][::core::mem::offset_of!(sala_sequences, batch) - 64usize];
    ["Offset of field: sala_sequences::max_seqlen_q"][::core::mem::offset_of!(sala_sequences, max_seqlen_q) - 68usize];
    ["Offset of field: sala_sequences::dense_len"][::core::mem::offset_of!(sala_sequences, dense_len) - 72usize];
    ["Offset of field: sala_sequences::reserved"][::core::mem::offset_of!(sala_sequences, reserved) - 76usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_trees {
    pub parent: u64,
    pub stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_trees"][::core::mem::size_of::<sala_trees>() - 16usize];
    ["Alignment of sala_trees"][::core::mem::align_of::<sala_trees>() - 8usize];
    ["Offset of field: sala_trees::parent"][::core::mem::offset_of!(sala_trees, parent) - 0usize];
    ["Offset of field: sala_trees::stride"][::core::mem::offset_of!(sala_trees, stride) - 8usize];
};
pub const SALA_APPEND_THREADS: u32 = 256;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_append_keys_params {
    pub sequences: sala_sequences,
    pub k_new: sala_rows,
    pub v_new: sala_rows,
    pub k: sala_key_rows,
    pub v: sala_key_rows,
    pub status: u64,
    pub room: i32,
    pub heads_kv: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_append_keys_params"][::core::mem::size_of::<sala_append_keys_params>() - 272usize];
    ["Alignment of sala_append_keys_params"][::core::mem::align_of::<sala_append_keys_params>() - 8usize];
    ["Offset of field: sala_append_keys_params::sequences"]
        [::core::mem::offset_of!(sala_append_keys_params, sequences) - 0usize];
    ["Offset of field: sala_append_keys_params::k_new"]
        [::core::mem::offset_of!(sala_append_keys_params, k_new) - 80usize];
    ["Offset of field: sala_append_keys_params::v_new"]
        [::core::mem::offset_of!(sala_append_keys_params, v_new) - 104usize];
    ["Offset of field: sala_append_keys_params::k"][::core::mem::offset_of!(sala_append_keys_params, k) - 128usize];
    ["Offset of field: sala_append_keys_params::v"][::core::mem::offset_of!(sala_append_keys_params, v) - 192usize];
    ["Offset of field: sala_append_keys_params::status"]
        [::core::mem::offset_of!(sala_append_keys_params, status) - 256usize];
    ["Offset of field: sala_append_keys_params::room"]
        [::core::mem::offset_of!(sala_append_keys_params, room) - 264usize];
    ["Offset of field: sala_append_keys_params::heads_kv"]
        [::core::mem::offset_of!(sala_append_keys_params, heads_kv) - 268usize];
};
pub const SALA_QUEUE_BATCH: u32 = 32;
pub const SALA_QUEUE_ENTRY: u32 = 8;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_block_lists {
    pub indices: sala_rows,
    pub list_len: i32,
    pub block_size: i32,
    pub init_blocks: i32,
    pub local_blocks: i32,
    pub queue_capacity: i32,
    pub block_shift: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_block_lists"][::core::mem::size_of::<sala_block_lists>() - 48usize];
    ["Alignment of sala_block_lists"][::core::mem::align_of::<sala_block_lists>() - 8usize];
    ["Offset of field: sala_block_lists::indices"][::core::mem::offset_of!(sala_block_lists, indices) - 0usize];
    ["Offset of field: sala_block_lists::list_len"][::core::mem::offset_of!(sala_block_lists, list_len) - 24usize];
    ["Offset of field: sala_block_lists::block_size"][::core::mem::offset_of!(sala_block_lists, block_size) - 28usize];
    ["Offset of field: sala_block_lists::init_blocks"]
        [::core::mem::offset_of!(sala_block_lists, init_blocks) - 32usize];
    ["Offset of field: sala_block_lists::local_blocks"]
        [::core::mem::offset_of!(sala_block_lists, local_blocks) - 36usize];
    ["Offset of field: sala_block_lists::queue_capacity"]
        [::core::mem::offset_of!(sala_block_lists, queue_capacity) - 40usize];
    ["Offset of field: sala_block_lists::block_shift"]
        [::core::mem::offset_of!(sala_block_lists, block_shift) - 44usize];
};
pub const SALA_CHOOSE_WARPS: u32 = 8;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_choose_blocks_params {
    pub sequences: sala_sequences,
    pub lists: sala_block_lists,
    pub scores: sala_rows,
    pub status: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_choose_blocks_params"][::core::mem::size_of::<sala_choose_blocks_params>() - 160usize];
    ["Alignment of sala_choose_blocks_params"][::core::mem::align_of::<sala_choose_blocks_params>() - 8usize];
    ["Offset of field: sala_choose_blocks_params::sequences"]
        [::core::mem::offset_of!(sala_choose_blocks_params, sequences) - 0usize];
    ["Offset of field: sala_choose_blocks_params::lists"]
        [::core::mem::offset_of!(sala_choose_blocks_params, lists) - 80usize];
    ["Offset of field: sala_choose_blocks_params::scores"]
        [::core::mem::offset_of!(sala_choose_blocks_params, scores) - 128usize];
    ["Offset of field: sala_choose_blocks_params::status"]
        [::core::mem::offset_of!(sala_choose_blocks_params, status) - 152usize];
};
pub const SALA_TOKENS_PIECE: u32 = 16384;
pub const SALA_TOKENS_MAX_PIECES: u32 = 64;
pub const SALA_TOKENS_DIGITS: u32 = 4;
pub const SALA_TOKENS_BINS: u32 = 256;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_choose_tokens_params {
    pub keys: sala_keys,
    pub scores: sala_rows,
    pub indices: sala_rows,
    pub status: u64,
    pub bins: u64,
    pub better: u64,
    pub cuts: u64,
    pub pieces: i32,
    pub piece: i32,
    pub chosen: i32,
    pub init_tokens: i32,
    pub local_tokens: i32,
    pub round: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_choose_tokens_params"][::core::mem::size_of::<sala_choose_tokens_params>() - 144usize];
    ["Alignment of sala_choose_tokens_params"][::core::mem::align_of::<sala_choose_tokens_params>() - 8usize];
    ["Offset of field: sala_choose_tokens_params::keys"]
        [::core::mem::offset_of!(sala_choose_tokens_params, keys) - 0usize];
    ["Offset of field: sala_choose_tokens_params::scores"]
        [::core::mem::offset_of!(sala_choose_tokens_params, scores) - 40usize];
    ["Offset of field: sala_choose_tokens_params::indices"]
        [::core::mem::offset_of!(sala_choose_tokens_params, indices) - 64usize];
    ["Offset of field: sala_choose_tokens_params::status"]
        [::core::mem::offset_of!(sala_choose_tokens_params, status) - 88usize];
    ["Offset of field: sala_choose_tokens_params::bins"]
        [::core::mem::offset_of!(sala_choose_tokens_params, bins) - 96usize];
    ["Offset of field: sala_choose_tokens_params::better"]
        [::core::mem::offset_of!(sala_choose_tokens_params, better) - 104usize];
    ["Offset of field: sala_choose_tokens_params::cuts"]
        [::core::mem::offset_of!(sala_choose_tokens_params, cuts) - 112usize];
    ["Offset of field: sala_choose_tokens_params::pieces"]
        [::core::mem::offset_of!(sala_choose_tokens_params, pieces) - 120usize];
    ["Offset of field: sala_choose_tokens_params::piece"]
        [::core::mem::offset_of!(sala_choose_tokens_params, piece) - 124usize];
    ["Offset of field: sala_choose_tokens_params::chosen"]
        [::core::mem::offset_of!(sala_choose_tokens_params, chosen) - 128usize];
    ["Offset of field: sala_choose_tokens_params::init_tokens"]
        [::core::mem::offset_of!(sala_choose_tokens_params, init_tokens) - 132usize];
    ["Offset of field: sala_choose_tokens_params::local_tokens"]
        [::core::mem::offset_of!(sala_choose_tokens_params, local_tokens) - 136usize];
    ["Offset of field: sala_choose_tokens_params::round"]
        [::core::mem::offset_of!(sala_choose_tokens_params, round) - 140usize];
};
pub const SALA_COMMIT_THREADS: u32 = 128;
pub const SALA_COMMIT_MAX_DRAFTS: u32 = 16;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_commit_keys_params {
    pub keys: sala_keys,
    pub k: sala_key_rows,
    pub v: sala_key_rows,
    pub base: u64,
    pub accepted: u64,
    pub path: u64,
    pub path_stride: i64,
    pub status: u64,
    pub drafts: i32,
    pub heads_kv: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_commit_keys_params"][::core::mem::size_of::<sala_commit_keys_params>() - 216usize];
    ["Alignment of sala_commit_keys_params"][::core::mem::align_of::<sala_commit_keys_params>() - 8usize];
    ["Offset of field: sala_commit_keys_params::keys"][::core::mem::offset_of!(sala_commit_keys_params, keys) - 0usize];
    ["Offset of field: sala_commit_keys_params::k"][::core::mem::offset_of!(sala_commit_keys_params, k) - 40usize];
    ["Offset of field: sala_commit_keys_params::v"][::core::mem::offset_of!(sala_commit_keys_params, v) - 104usize];
    ["Offset of field: sala_commit_keys_params::base"]
        [::core::mem::offset_of!(sala_commit_keys_params, base) - 168usize];
    ["Offset of field: sala_commit_keys_params::accepted"]
        [::core::mem::offset_of!(sala_commit_keys_params, accepted) - 176usize];
    ["Offset of field: sala_commit_keys_params::path"]
        [::core::mem::offset_of!(sala_commit_keys_params, path) - 184usize];
    ["Offset of field: sala_commit_keys_params::path_stride"]
        [::core::mem::offset_of!(sala_commit_keys_params, path_stride) - 192usize];
    ["Offset of field: sala_commit_keys_params::status"]
        [::core::mem::offset_of!(sala_commit_keys_params, status) - 200usize];
    ["Offset of field: sala_commit_keys_params::drafts"]
        [::core::mem::offset_of!(sala_commit_keys_params, drafts) - 208usize];
    ["Offset of field: sala_commit_keys_params::heads_kv"]
        [::core::mem::offset_of!(sala_commit_keys_params, heads_kv) - 212usize];
};
pub const SALA_COMPACT_THREADS: u32 = 512;
pub const SALA_COMPACT_ROWS: u32 = 4;
pub const SALA_COMPACT_SLICE: u32 = 32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_compact_keys_params {
    pub keys: sala_keys,
    pub k: sala_key_rows,
    pub v: sala_key_rows,
    pub indices: sala_rows,
    pub scores: sala_rows,
    pub status: u64,
    pub kept: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_compact_keys_params"][::core::mem::size_of::<sala_compact_keys_params>() - 232usize];
    ["Alignment of sala_compact_keys_params"][::core::mem::align_of::<sala_compact_keys_params>() - 8usize];
    ["Offset of field: sala_compact_keys_params::keys"]
        [::core::mem::offset_of!(sala_compact_keys_params, keys) - 0usize];
    ["Offset of field: sala_compact_keys_params::k"][::core::mem::offset_of!(sala_compact_keys_params, k) - 40usize];
    ["Offset of field: sala_compact_keys_params::v"][::core::mem::offset_of!(sala_compact_keys_params, v) - 104usize];
    ["Offset of field: sala_compact_keys_params::indices"]
        [::core::mem::offset_of!(sala_compact_keys_params, indices) - 168usize];
    ["Offset of field: sala_compact_keys_params::scores"]
        [::core::mem::offset_of!(sala_compact_keys_params, scores) - 192usize];
    ["Offset of field: sala_compact_keys_params::status"]
        [::core::mem::offset_of!(sala_compact_keys_params, status) - 216usize];
    ["Offset of field: sala_compact_keys_params::kept"]
        [::core::mem::offset_of!(sala_compact_keys_params, kept) - 224usize];
    ["Offset of field: sala_compact_keys_params::reserved"]
        [::core::mem::offset_of!(sala_compact_keys_params, reserved) - 228usize];
};
pub const SALA_COMPRESS_THREADS: u32 = 256;
pub const SALA_COMPRESS_TILE_SPANS: u32 = 64;
pub const SALA_COMPRESS_HALO_SPANS: u32 = 4;
pub const SALA_COMPRESS_OPEN_SPANS: u32 = 7;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_compress_keys_params {
    pub keys: sala_keys,
    pub k: sala_key_rows,
    pub k1: sala_key_rows,
    pub k2: sala_key_rows,
    pub seqlens_old: u64,
    pub status: u64,
    pub max_new: i32,
    pub stride: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_compress_keys_params"][::core::mem::size_of::<sala_compress_keys_params>() - 256usize];
    ["Alignment of sala_compress_keys_params"][::core::mem::align_of::<sala_compress_keys_params>() - 8usize];
    ["Offset of field: sala_compress_keys_params::keys"]
        [::core::mem::offset_of!(sala_compress_keys_params, keys) - 0usize];
    ["Offset of field: sala_compress_keys_params::k"][::core::mem::offset_of!(sala_compress_keys_params, k) - 40usize];
    ["Offset of field: sala_compress_keys_params::k1"]
        [::core::mem::offset_of!(sala_compress_keys_params, k1) - 104usize];
    ["Offset of field: sala_compress_keys_params::k2"]
        [::core::mem::offset_of!(sala_compress_keys_params, k2) - 168usize];
    ["Offset of field: sala_compress_keys_params::seqlens_old"]
        [::core::mem::offset_of!(sala_compress_keys_params, seqlens_old) - 232usize];
    ["Offset of field: sala_compress_keys_params::status"]
        [::core::mem::offset_of!(sala_compress_keys_params, status) - 240usize];
    ["Offset of field: sala_compress_keys_params::max_new"]
        [::core::mem::offset_of!(sala_compress_keys_params, max_new) - 248usize];
    ["Offset of field: sala_compress_keys_params::stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, stride) - 252usize];
};
pub const SALA_GATHER_THREADS: u32 = 256;
pub const SALA_GATHER_ROWS: u32 = 4;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_gather_rows_params {
    pub keys: sala_keys,
    pub k: sala_key_rows,
    pub v: sala_key_rows,
    pub indices: sala_rows,
    pub k_out: sala_key_rows,
    pub v_out: sala_key_rows,
    pub scores: sala_rows,
    pub scores_out: sala_rows,
    pub status: u64,
    pub chosen: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_gather_rows_params"][::core::mem::size_of::<sala_gather_rows_params>() - 384usize];
    ["Alignment of sala_gather_rows_params"][::core::mem::align_of::<sala_gather_rows_params>() - 8usize];
    ["Offset of field: sala_gather_rows_params::keys"][::core::mem::offset_of!(sala_gather_rows_params, keys) - 0usize];
    ["Offset of field: sala_gather_rows_params::k"][::core::mem::offset_of!(sala_gather_rows_params, k) - 40usize];
    ["Offset of field: sala_gather_rows_params::v"][::core::mem::offset_of!(sala_gather_rows_params, v) - 104usize];
    ["Offset of field: sala_gather_rows_params::indices"]
        [::core::mem::offset_of!(sala_gather_rows_params, indices) - 168usize];
    ["Offset of field: sala_gather_rows_params::k_out"]
        [::core::mem::offset_of!(sala_gather_rows_params, k_out) - 192usize];
    ["Offset of field: sala_gather_rows_params::v_out"]
        [::core::mem::offset_of!(sala_gather_rows_params, v_out) - 256usize];
    ["Offset of field: sala_gather_rows_params::scores"]
        [::core::mem::offset_of!(sala_gather_rows_params, scores) - 320usize];
    ["Offset of field: sala_gather_rows_params::scores_out"]
        [::core::mem::offset_of!(sala_gather_rows_params, scores_out) - 344usize];
    ["Offset of field: sala_gather_rows_params::status"]
        [::core::mem::offset_of!(sala_gather_rows_params, status) - 368usize];
    ["Offset of field: sala_gather_rows_params::chosen"]
        [::core::mem::offset_of!(sala_gather_rows_params, chosen) - 376usize];
    ["Offset of field: sala_gather_rows_params::reserved"]
        [::core::mem::offset_of!(sala_gather_rows_params, reserved) - 380usize];
};
pub const SALA_LINEAR_STEP: u32 = 32;
pub const SALA_LINEAR_STAGES: u32 = 3;
pub const SALA_LINEAR_ALIGNMENT: u32 = 64;
pub const SALA_LINEAR_SEGMENT: u32 = 4096;
pub const SALA_LINEAR_SEGMENTS: u32 = 8;
pub const SALA_LINEAR_LONGEST_WARM_UP: u32 = 8192;
pub const SALA_LINEAR_DECODE_THREADS: u32 = 128;
pub const SALA_LINEAR_DECODE_CHANNELS: u32 = 32;
pub const SALA_LINEAR_MAX_DRAFTS: u32 = 16;
pub const SALA_COPY_STATES_THREADS: u32 = 256;
pub const SALA_COPY_STATES_VECTORS: u32 = 4;
pub const SALA_SUM_DECAY_THREADS: u32 = 512;
pub const SALA_SUM_DECAY_SPAN: u32 = 4096;
pub const SALA_MERGE_STATES_THREADS: u32 = 256;
pub const SALA_LINEAR_CORRECT_THREADS: u32 = 128;
pub const SALA_LINEAR_CORRECT_CHANNELS: u32 = 64;
pub const SALA_LINEAR_CORRECT_SPAN: u32 = 1024;
pub const SALA_DECAY_NONE: sala_decay = 0;
pub const SALA_DECAY_PER_HEAD: sala_decay = 1;
pub const SALA_DECAY_PER_TOKEN: sala_decay = 2;
pub type sala_decay = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_states {
    pub pool: u64,
    pub state_in: u64,
    pub state_out: u64,
    pub slot_stride: i64,
    pub head_stride: i64,
    pub row_stride: i64,
    pub slots: i64,
    pub batch: i32,
    pub is_vk: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_states"][::core::mem::size_of::<sala_states>() - 64usize];
    ["Alignment of sala_states"][::core::mem::align_of::<sala_states>() - 8usize];
    ["Offset of field: sala_states::pool"][::core::mem::offset_of!(sala_states, pool) - 0usize];
    ["Offset of field: sala_states::state_in"][::core::mem::offset_of!(sala_states, state_in) - 8usize];
    ["Offset of field: sala_states::state_out"][::core::mem::offset_of!(sala_states, state_out) - 16usize];
    ["Offset of field: sala_states::slot_stride"][::core::mem::offset_of!(sala_states, slot_stride) - 24usize];
    ["Offset of field: sala_states::head_stride"][::core::mem::offset_of!(sala_states, head_stride) - 32usize];
    ["Offset of field: sala_states::row_stride"][::core::mem::offset_of!(sala_states, row_stride) - 40usize];
    ["Offset of field: sala_states::slots"][::core::mem::offset_of!(sala_states, slots) - 48usize];
    ["Offset of field: sala_states::batch"][::core::mem::offset_of!(sala_states, batch) - 56usize];
    ["Offset of field: sala_states::is_vk"][::core::mem::offset_of!(sala_states, is_vk) - 60usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_linear_attention_params {
    pub q: sala_rows,
    pub k: sala_rows,
    pub v: sala_rows,
    pub out: sala_rows,
    pub log_decay: sala_rows,
    pub states: sala_states,
    pub cu_seqlens: u64,
    pub status: u64,
    pub tokens: i64,
    pub decay: i32,
    pub scale: f32,
    pub group: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_attention_params"][::core::mem::size_of::<sala_linear_attention_params>() - 224usize];
    ["Alignment of sala_linear_attention_params"][::core::mem::align_of::<sala_linear_attention_params>() - 8usize];
    ["Offset of field: sala_linear_attention_params::q"]
        [::core::mem::offset_of!(sala_linear_attention_params, q) - 0usize];
    ["Offset of field: sala_linear_attention_params::k"]
        [::core::mem::offset_of!(sala_linear_attention_params, k) - 24usize];
    ["Offset of field: sala_linear_attention_params::v"]
        [::core::mem::offset_of!(sala_linear_attention_params, v) - 48usize];
    ["Offset of field: sala_linear_attention_params::out"]
        [::core::mem::offset_of!(sala_linear_attention_params, out) - 72usize];
    ["Offset of field: sala_linear_attention_params::log_decay"]
        [::core::mem::offset_of!(sala_linear_attention_params, log_decay) - 96usize];
    ["Offset of field: sala_linear_attention_params::states"]
        [::core::mem::offset_of!(sala_linear_attention_params, states) - 120usize];
    ["Offset of field: sala_linear_attention_params::cu_seqlens"]
        [::core::mem::offset_of!(sala_linear_attention_params, cu_seqlens) - 184usize];
    ["Offset of field: sala_linear_attention_params::status"]
        [::core::mem::offset_of!(sala_linear_attention_params, status) - 192usize];
    ["Offset of field: sala_linear_attention_params::tokens"]
        [::core::mem::offset_of!(sala_linear_attention_params, tokens) - 200usize];
    ["Offset of field: sala_linear_attention_params::decay"]
        [::core::mem::offset_of!(sala_linear_attention_params, decay) - 208usize];
    ["Offset of field: sala_linear_attention_params::scale"]
        [::core::mem::offset_of!(sala_linear_attention_params, scale) - 212usize];
    ["Offset of field: sala_linear_attention_params::group"]
        [::core::mem::offset_of!(sala_linear_attention_params, group) - 216usize];
    ["Offset of field: sala_linear_attention_params::reserved"]
        [::core::mem::offset_of!(sala_linear_attention_params, reserved) - 220usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_linear_prefill_params {
    pub attention: sala_linear_attention_params,
    pub segment_states: sala_states,
    pub segment_decays: u64,
    pub arrivals: u64,
    pub checkpoint_slots: u64,
    pub checkpoint_every: i64,
    pub max_seqlen: i64,
    pub max_checkpoints: i32,
    pub segments: i32,
    pub segments_alone: i32,
    pub dim_v: i32,
    pub places_by_batch: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_prefill_params"][::core::mem::size_of::<sala_linear_prefill_params>() - 352usize];
    ["Alignment of sala_linear_prefill_params"][::core::mem::align_of::<sala_linear_prefill_params>() - 8usize];
    ["Offset of field: sala_linear_prefill_params::attention"]
        [::core::mem::offset_of!(sala_linear_prefill_params, attention) - 0usize];
    ["Offset of field: sala_linear_prefill_params::segment_states"]
        [::core::mem::offset_of!(sala_linear_prefill_params, segment_states) - 224usize];
    ["Offset of field: sala_linear_prefill_params::segment_decays"]
        [::core::mem::offset_of!(sala_linear_prefill_params, segment_decays) - 288usize];
    ["Offset of field: sala_linear_prefill_params::arrivals"]
        [::core::mem::offset_of!(sala_linear_prefill_params, arrivals) - 296usize];
    ["Offset of field: sala_linear_prefill_params::checkpoint_slots"]
        [::core::mem::offset_of!(sala_linear_prefill_params, checkpoint_slots) - 304usize];
    ["Offset of field: sala_linear_prefill_params::checkpoint_every"]
        [::core::mem::offset_of!(sala_linear_prefill_params, checkpoint_every) - 312usize];
    ["Offset of field: sala_linear_prefill_params::max_seqlen"]
        [::core::mem::offset_of!(sala_linear_prefill_params, max_seqlen) - 320usize];
    ["Offset of field: sala_linear_prefill_params::max_checkpoints"]
        [::core::mem::offset_of!(sala_linear_prefill_params, max_checkpoints) - 328usize];
    ["Offset of field: sala_linear_prefill_params::segments"]
        [::core::mem::offset_of!(sala_linear_prefill_params, segments) - 332usize];
    ["Offset of field: sala_linear_prefill_params::segments_alone"]
        [::core::mem::offset_of!(sala_linear_prefill_params, segments_alone) - 336usize];
    ["Offset of field: sala_linear_prefill_params::dim_v"]
        [::core::mem::offset_of!(sala_linear_prefill_params, dim_v) - 340usize];
    ["Offset of field: sala_linear_prefill_params::places_by_batch"]
        [::core::mem::offset_of!(sala_linear_prefill_params, places_by_batch) - 344usize];
    ["Offset of field: sala_linear_prefill_params::reserved"]
        [::core::mem::offset_of!(sala_linear_prefill_params, reserved) - 348usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_linear_drafts_params {
    pub attention: sala_linear_attention_params,
    pub q_stride: i64,
    pub k_stride: i64,
    pub v_stride: i64,
    pub out_stride: i64,
    pub log_decay_stride: i64,
    pub parent: u64,
    pub accepted: u64,
    pub path: u64,
    pub drafts: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_drafts_params"][::core::mem::size_of::<sala_linear_drafts_params>() - 296usize];
    ["Alignment of sala_linear_drafts_params"][::core::mem::align_of::<sala_linear_drafts_params>() - 8usize];
    ["Offset of field: sala_linear_drafts_params::attention"]
        [::core::mem::offset_of!(sala_linear_drafts_params, attention) - 0usize];
    ["Offset of field: sala_linear_drafts_params::q_stride"]
        [::core::mem::offset_of!(sala_linear_drafts_params, q_stride) - 224usize];
    ["Offset of field: sala_linear_drafts_params::k_stride"]
        [::core::mem::offset_of!(sala_linear_drafts_params, k_stride) - 232usize];
    ["Offset of field: sala_linear_drafts_params::v_stride"]
        [::core::mem::offset_of!(sala_linear_drafts_params, v_stride) - 240usize];
    ["Offset of field: sala_linear_drafts_params::out_stride"]
        [::core::mem::offset_of!(sala_linear_drafts_params, out_stride) - 248usize];
    ["Offset of field: sala_linear_drafts_params::log_decay_stride"]
        [::core::mem::offset_of!(sala_linear_drafts_params, log_decay_stride) - 256usize];
    ["Offset of field: sala_linear_drafts_params::parent"]
        [::core::mem::offset_of!(sala_linear_drafts_params, parent) - 264usize];
    ["Offset of field: sala_linear_drafts_params::accepted"]
        [::core::mem::offset_of!(sala_linear_drafts_params, accepted) - 272usize];
    ["Offset of field: sala_linear_drafts_params::path"]
        [::core::mem::offset_of!(sala_linear_drafts_params, path) - 280usize];
    ["Offset of field: sala_linear_drafts_params::drafts"]
        [::core::mem::offset_of!(sala_linear_drafts_params, drafts) - 288usize];
    ["Offset of field: sala_linear_drafts_params::reserved"]
        [::core::mem::offset_of!(sala_linear_drafts_params, reserved) - 292usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_copy_states_params {
    pub states: sala_states,
    pub status: u64,
    pub rows: i32,
    pub columns: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_copy_states_params"][::core::mem::size_of::<sala_copy_states_params>() - 80usize];
    ["Alignment of sala_copy_states_params"][::core::mem::align_of::<sala_copy_states_params>() - 8usize];
    ["Offset of field: sala_copy_states_params::states"]
        [::core::mem::offset_of!(sala_copy_states_params, states) - 0usize];
    ["Offset of field: sala_copy_states_params::status"]
        [::core::mem::offset_of!(sala_copy_states_params, status) - 64usize];
    ["Offset of field: sala_copy_states_params::rows"]
        [::core::mem::offset_of!(sala_copy_states_params, rows) - 72usize];
    ["Offset of field: sala_copy_states_params::columns"]
        [::core::mem::offset_of!(sala_copy_states_params, columns) - 76usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_sum_decay_params {
    pub attention: sala_linear_attention_params,
    pub cumulative: sala_rows,
    pub total: sala_rows,
    pub max_seqlen: i64,
    pub heads: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sum_decay_params"][::core::mem::size_of::<sala_sum_decay_params>() - 288usize];
    ["Alignment of sala_sum_decay_params"][::core::mem::align_of::<sala_sum_decay_params>() - 8usize];
    ["Offset of field: sala_sum_decay_params::attention"]
        [::core::mem::offset_of!(sala_sum_decay_params, attention) - 0usize];
    ["Offset of field: sala_sum_decay_params::cumulative"]
        [::core::mem::offset_of!(sala_sum_decay_params, cumulative) - 224usize];
    ["Offset of field: sala_sum_decay_params::total"][::core::mem::offset_of!(sala_sum_decay_params, total) - 248usize];
    ["Offset of field: sala_sum_decay_params::max_seqlen"]
        [::core::mem::offset_of!(sala_sum_decay_params, max_seqlen) - 272usize];
    ["Offset of field: sala_sum_decay_params::heads"][::core::mem::offset_of!(sala_sum_decay_params, heads) - 280usize];
    ["Offset of field: sala_sum_decay_params::reserved"]
        [::core::mem::offset_of!(sala_sum_decay_params, reserved) - 284usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_merge_states_params {
    pub states: sala_states,
    pub adds: sala_states,
    pub log_decay: sala_rows,
    pub status: u64,
    pub parts: i32,
    pub rows: i32,
    pub columns: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_merge_states_params"][::core::mem::size_of::<sala_merge_states_params>() - 176usize];
    ["Alignment of sala_merge_states_params"][::core::mem::align_of::<sala_merge_states_params>() - 8usize];
    ["Offset of field: sala_merge_states_params::states"]
        [::core::mem::offset_of!(sala_merge_states_params, states) - 0usize];
    ["Offset of field: sala_merge_states_params::adds"]
        [::core::mem::offset_of!(sala_merge_states_params, adds) - 64usize];
    ["Offset of field: sala_merge_states_params::log_decay"]
        [::core::mem::offset_of!(sala_merge_states_params, log_decay) - 128usize];
    ["Offset of field: sala_merge_states_params::status"]
        [::core::mem::offset_of!(sala_merge_states_params, status) - 152usize];
    ["Offset of field: sala_merge_states_params::parts"]
        [::core::mem::offset_of!(sala_merge_states_params, parts) - 160usize];
    ["Offset of field: sala_merge_states_params::rows"]
        [::core::mem::offset_of!(sala_merge_states_params, rows) - 164usize];
    ["Offset of field: sala_merge_states_params::columns"]
        [::core::mem::offset_of!(sala_merge_states_params, columns) - 168usize];
    ["Offset of field: sala_merge_states_params::reserved"]
        [::core::mem::offset_of!(sala_merge_states_params, reserved) - 172usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_linear_correct_params {
    pub attention: sala_linear_attention_params,
    pub max_seqlen: i64,
    pub dim_v: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_correct_params"][::core::mem::size_of::<sala_linear_correct_params>() - 240usize];
    ["Alignment of sala_linear_correct_params"][::core::mem::align_of::<sala_linear_correct_params>() - 8usize];
    ["Offset of field: sala_linear_correct_params::attention"]
        [::core::mem::offset_of!(sala_linear_correct_params, attention) - 0usize];
    ["Offset of field: sala_linear_correct_params::max_seqlen"]
        [::core::mem::offset_of!(sala_linear_correct_params, max_seqlen) - 224usize];
    ["Offset of field: sala_linear_correct_params::dim_v"]
        [::core::mem::offset_of!(sala_linear_correct_params, dim_v) - 232usize];
    ["Offset of field: sala_linear_correct_params::reserved"]
        [::core::mem::offset_of!(sala_linear_correct_params, reserved) - 236usize];
};
pub const SALA_MERGE_THREADS: u32 = 256;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_merge_params {
    pub out1: sala_rows,
    pub out2: sala_rows,
    pub out: sala_rows,
    pub lse1: sala_rows,
    pub lse2: sala_rows,
    pub lse: sala_rows,
    pub heads: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_merge_params"][::core::mem::size_of::<sala_merge_params>() - 152usize];
    ["Alignment of sala_merge_params"][::core::mem::align_of::<sala_merge_params>() - 8usize];
    ["Offset of field: sala_merge_params::out1"][::core::mem::offset_of!(sala_merge_params, out1) - 0usize];
    ["Offset of field: sala_merge_params::out2"][::core::mem::offset_of!(sala_merge_params, out2) - 24usize];
    ["Offset of field: sala_merge_params::out"][::core::mem::offset_of!(sala_merge_params, out) - 48usize];
    ["Offset of field: sala_merge_params::lse1"][::core::mem::offset_of!(sala_merge_params, lse1) - 72usize];
    ["Offset of field: sala_merge_params::lse2"][::core::mem::offset_of!(sala_merge_params, lse2) - 96usize];
    ["Offset of field: sala_merge_params::lse"][::core::mem::offset_of!(sala_merge_params, lse) - 120usize];
    ["Offset of field: sala_merge_params::heads"][::core::mem::offset_of!(sala_merge_params, heads) - 144usize];
    ["Offset of field: sala_merge_params::reserved"][::core::mem::offset_of!(sala_merge_params, reserved) - 148usize];
};
pub const SALA_NORM_THREADS: u32 = 256;
pub const SALA_NORM_ROPE_HEADS: u32 = 4;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_norm_rope_params {
    pub x: sala_rows,
    pub out: sala_rows,
    pub cos_sin: sala_rows,
    pub weight: u64,
    pub positions: u64,
    pub status: u64,
    pub tokens: i64,
    pub heads: i32,
    pub count: i32,
    pub eps: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_norm_rope_params"][::core::mem::size_of::<sala_norm_rope_params>() - 120usize];
    ["Alignment of sala_norm_rope_params"][::core::mem::align_of::<sala_norm_rope_params>() - 8usize];
    ["Offset of field: sala_norm_rope_params::x"][::core::mem::offset_of!(sala_norm_rope_params, x) - 0usize];
    ["Offset of field: sala_norm_rope_params::out"][::core::mem::offset_of!(sala_norm_rope_params, out) - 24usize];
    ["Offset of field: sala_norm_rope_params::cos_sin"]
        [::core::mem::offset_of!(sala_norm_rope_params, cos_sin) - 48usize];
    ["Offset of field: sala_norm_rope_params::weight"]
        [::core::mem::offset_of!(sala_norm_rope_params, weight) - 72usize];
    ["Offset of field: sala_norm_rope_params::positions"]
        [::core::mem::offset_of!(sala_norm_rope_params, positions) - 80usize];
    ["Offset of field: sala_norm_rope_params::status"]
        [::core::mem::offset_of!(sala_norm_rope_params, status) - 88usize];
    ["Offset of field: sala_norm_rope_params::tokens"]
        [::core::mem::offset_of!(sala_norm_rope_params, tokens) - 96usize];
    ["Offset of field: sala_norm_rope_params::heads"][::core::mem::offset_of!(sala_norm_rope_params, heads) - 104usize];
    ["Offset of field: sala_norm_rope_params::count"][::core::mem::offset_of!(sala_norm_rope_params, count) - 108usize];
    ["Offset of field: sala_norm_rope_params::eps"][::core::mem::offset_of!(sala_norm_rope_params, eps) - 112usize];
    ["Offset of field: sala_norm_rope_params::reserved"]
        [::core::mem::offset_of!(sala_norm_rope_params, reserved) - 116usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_norm_gate_params {
    pub x: sala_rows,
    pub gate: sala_rows,
    pub out: sala_rows,
    pub weight: u64,
    pub sum_squares: u64,
    pub channels: i32,
    pub covered: i32,
    pub eps: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_norm_gate_params"][::core::mem::size_of::<sala_norm_gate_params>() - 104usize];
    ["Alignment of sala_norm_gate_params"][::core::mem::align_of::<sala_norm_gate_params>() - 8usize];
    ["Offset of field: sala_norm_gate_params::x"][::core::mem::offset_of!(sala_norm_gate_params, x) - 0usize];
    ["Offset of field: sala_norm_gate_params::gate"][::core::mem::offset_of!(sala_norm_gate_params, gate) - 24usize];
    ["Offset of field: sala_norm_gate_params::out"][::core::mem::offset_of!(sala_norm_gate_params, out) - 48usize];
    ["Offset of field: sala_norm_gate_params::weight"]
        [::core::mem::offset_of!(sala_norm_gate_params, weight) - 72usize];
    ["Offset of field: sala_norm_gate_params::sum_squares"]
        [::core::mem::offset_of!(sala_norm_gate_params, sum_squares) - 80usize];
    ["Offset of field: sala_norm_gate_params::channels"]
        [::core::mem::offset_of!(sala_norm_gate_params, channels) - 88usize];
    ["Offset of field: sala_norm_gate_params::covered"]
        [::core::mem::offset_of!(sala_norm_gate_params, covered) - 92usize];
    ["Offset of field: sala_norm_gate_params::eps"][::core::mem::offset_of!(sala_norm_gate_params, eps) - 96usize];
    ["Offset of field: sala_norm_gate_params::reserved"]
        [::core::mem::offset_of!(sala_norm_gate_params, reserved) - 100usize];
};
pub const SALA_SCORE_THREADS: u32 = 256;
pub const SALA_SCORE_TILE: u32 = 512;
pub const SALA_SCORE_MAX_POOL: u32 = 31;
pub const SALA_SCORE_PIECE: u32 = 64;
pub const SALA_SCORE_MAX_PIECES: u32 = 32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_score_keys_params {
    pub sequences: sala_sequences,
    pub q: sala_rows,
    pub k: sala_key_rows,
    pub scores: sala_rows,
    pub sums: u64,
    pub status: u64,
    pub pieces: i32,
    pub group: i32,
    pub scored: i32,
    pub pool: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_score_keys_params"][::core::mem::size_of::<sala_score_keys_params>() - 224usize];
    ["Alignment of sala_score_keys_params"][::core::mem::align_of::<sala_score_keys_params>() - 8usize];
    ["Offset of field: sala_score_keys_params::sequences"]
        [::core::mem::offset_of!(sala_score_keys_params, sequences) - 0usize];
    ["Offset of field: sala_score_keys_params::q"][::core::mem::offset_of!(sala_score_keys_params, q) - 80usize];
    ["Offset of field: sala_score_keys_params::k"][::core::mem::offset_of!(sala_score_keys_params, k) - 104usize];
    ["Offset of field: sala_score_keys_params::scores"]
        [::core::mem::offset_of!(sala_score_keys_params, scores) - 168usize];
    ["Offset of field: sala_score_keys_params::sums"][::core::mem::offset_of!(sala_score_keys_params, sums) - 192usize];
    ["Offset of field: sala_score_keys_params::status"]
        [::core::mem::offset_of!(sala_score_keys_params, status) - 200usize];
    ["Offset of field: sala_score_keys_params::pieces"]
        [::core::mem::offset_of!(sala_score_keys_params, pieces) - 208usize];
    ["Offset of field: sala_score_keys_params::group"]
        [::core::mem::offset_of!(sala_score_keys_params, group) - 212usize];
    ["Offset of field: sala_score_keys_params::scored"]
        [::core::mem::offset_of!(sala_score_keys_params, scored) - 216usize];
    ["Offset of field: sala_score_keys_params::pool"][::core::mem::offset_of!(sala_score_keys_params, pool) - 220usize];
};
pub const SALA_SELECT_WARPS: u32 = 8;
pub const SALA_SELECT_COLUMNS: u32 = 32;
pub const SALA_SELECT_STEP: u32 = 64;
pub const SALA_SELECT_STAGES: u32 = 3;
pub const SALA_SELECT_PIECE: u32 = 128;
pub const SALA_SELECT_GROUPS: u32 = 2;
pub const SALA_SELECT_GROUP_COLUMNS: u32 = 128;
pub const SALA_SELECT_GROUP_STEP: u32 = 128;
pub const SALA_SELECT_GROUP_STAGES: u32 = 3;
pub const SALA_SELECT_SCORE_STRIDE: u32 = 36;
pub const SALA_SELECT_PIECE_WARPS: u32 = 4;
pub const SALA_SELECT_PIECE_BLOCKS: u32 = 31;
pub const SALA_SELECT_LIST_WARPS: u32 = 8;
pub const SALA_SELECT_BATCH: u32 = 2048;
pub const SALA_SELECT_BINS: u32 = 2048;
pub const SALA_SELECT_MASKS: u32 = 512;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_select_blocks_params {
    pub sequences: sala_sequences,
    pub lists: sala_block_lists,
    pub q: sala_rows,
    pub scores: sala_rows,
    pub k1: sala_key_rows,
    pub k2: sala_key_rows,
    pub scale_factor: u64,
    pub status: u64,
    pub scale: f32,
    pub group: i32,
    pub score_blocks: i32,
    pub exact_lse: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_select_blocks_params"][::core::mem::size_of::<sala_select_blocks_params>() - 336usize];
    ["Alignment of sala_select_blocks_params"][::core::mem::align_of::<sala_select_blocks_params>() - 8usize];
    ["Offset of field: sala_select_blocks_params::sequences"]
        [::core::mem::offset_of!(sala_select_blocks_params, sequences) - 0usize];
    ["Offset of field: sala_select_blocks_params::lists"]
        [::core::mem::offset_of!(sala_select_blocks_params, lists) - 80usize];
    ["Offset of field: sala_select_blocks_params::q"][::core::mem::offset_of!(sala_select_blocks_params, q) - 128usize];
    ["Offset of field: sala_select_blocks_params::scores"]
        [::core::mem::offset_of!(sala_select_blocks_params, scores) - 152usize];
    ["Offset of field: sala_select_blocks_params::k1"]
        [::core::mem::offset_of!(sala_select_blocks_params, k1) - 176usize];
    ["Offset of field: sala_select_blocks_params::k2"]
        [::core::mem::offset_of!(sala_select_blocks_params, k2) - 240usize];
    ["Offset of field: sala_select_blocks_params::scale_factor"]
        [::core::mem::offset_of!(sala_select_blocks_params, scale_factor) - 304usize];
    ["Offset of field: sala_select_blocks_params::status"]
        [::core::mem::offset_of!(sala_select_blocks_params, status) - 312usize];
    ["Offset of field: sala_select_blocks_params::scale"]
        [::core::mem::offset_of!(sala_select_blocks_params, scale) - 320usize];
    ["Offset of field: sala_select_blocks_params::group"]
        [::core::mem::offset_of!(sala_select_blocks_params, group) - 324usize];
    ["Offset of field: sala_select_blocks_params::score_blocks"]
        [::core::mem::offset_of!(sala_select_blocks_params, score_blocks) - 328usize];
    ["Offset of field: sala_select_blocks_params::exact_lse"]
        [::core::mem::offset_of!(sala_select_blocks_params, exact_lse) - 332usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_select_split_params {
    pub select: sala_select_blocks_params,
    pub trees: sala_trees,
    pub sums: u64,
    pub block_scores: u64,
    pub pieces: i32,
    pub blocks: i32,
    pub heads_padded: i32,
    pub heads_kv: i32,
    pub first_sequence: i32,
    pub first_token: i32,
    pub tokens: i32,
    pub product_reciprocal: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_select_split_params"][::core::mem::size_of::<sala_select_split_params>() - 400usize];
    ["Alignment of sala_select_split_params"][::core::mem::align_of::<sala_select_split_params>() - 8usize];
    ["Offset of field: sala_select_split_params::select"]
        [::core::mem::offset_of!(sala_select_split_params, select) - 0usize];
    ["Offset of field: sala_select_split_params::trees"]
        [::core::mem::offset_of!(sala_select_split_params, trees) - 336usize];
    ["Offset of field: sala_select_split_params::sums"]
        [::core::mem::offset_of!(sala_select_split_params, sums) - 352usize];
    ["Offset of field: sala_select_split_params::block_scores"]
        [::core::mem::offset_of!(sala_select_split_params, block_scores) - 360usize];
    ["Offset of field: sala_select_split_params::pieces"]
        [::core::mem::offset_of!(sala_select_split_params, pieces) - 368usize];
    ["Offset of field: sala_select_split_params::blocks"]
        [::core::mem::offset_of!(sala_select_split_params, blocks) - 372usize];
    ["Offset of field: sala_select_split_params::heads_padded"]
        [::core::mem::offset_of!(sala_select_split_params, heads_padded) - 376usize];
    ["Offset of field: sala_select_split_params::heads_kv"]
        [::core::mem::offset_of!(sala_select_split_params, heads_kv) - 380usize];
    ["Offset of field: sala_select_split_params::first_sequence"]
        [::core::mem::offset_of!(sala_select_split_params, first_sequence) - 384usize];
    ["Offset of field: sala_select_split_params::first_token"]
        [::core::mem::offset_of!(sala_select_split_params, first_token) - 388usize];
    ["Offset of field: sala_select_split_params::tokens"]
        [::core::mem::offset_of!(sala_select_split_params, tokens) - 392usize];
    ["Offset of field: sala_select_split_params::product_reciprocal"]
        [::core::mem::offset_of!(sala_select_split_params, product_reciprocal) - 396usize];
};
pub const SALA_MAP_AXES: u32 = 4;
pub const SALA_SWIZZLE_NONE: u32 = 0;
pub const SALA_SWIZZLE_32: u32 = 1;
pub const SALA_SWIZZLE_64: u32 = 2;
pub const SALA_SWIZZLE_128: u32 = 3;
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_tensor_map {
    pub words: [u64; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_tensor_map"][::core::mem::size_of::<sala_tensor_map>() - 128usize];
    ["Alignment of sala_tensor_map"][::core::mem::align_of::<sala_tensor_map>() - 64usize];
    ["Offset of field: sala_tensor_map::words"][::core::mem::offset_of!(sala_tensor_map, words) - 0usize];
};
impl Default for sala_tensor_map {
    fn default() -> Self {
        bytemuck::Zeroable::zeroed()
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_tensor_shape {
    pub mark: u64,
    pub address: u64,
    pub strides: [u64; 3usize],
    pub sizes: [u32; 4usize],
    pub boxes: [u32; 4usize],
    pub axes: u32,
    pub swizzle: u32,
    pub reserved: [u64; 6usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_tensor_shape"][::core::mem::size_of::<sala_tensor_shape>() - 128usize];
    ["Alignment of sala_tensor_shape"][::core::mem::align_of::<sala_tensor_shape>() - 8usize];
    ["Offset of field: sala_tensor_shape::mark"][::core::mem::offset_of!(sala_tensor_shape, mark) - 0usize];
    ["Offset of field: sala_tensor_shape::address"][::core::mem::offset_of!(sala_tensor_shape, address) - 8usize];
    ["Offset of field: sala_tensor_shape::strides"][::core::mem::offset_of!(sala_tensor_shape, strides) - 16usize];
    ["Offset of field: sala_tensor_shape::sizes"][::core::mem::offset_of!(sala_tensor_shape, sizes) - 40usize];
    ["Offset of field: sala_tensor_shape::boxes"][::core::mem::offset_of!(sala_tensor_shape, boxes) - 56usize];
    ["Offset of field: sala_tensor_shape::axes"][::core::mem::offset_of!(sala_tensor_shape, axes) - 72usize];
    ["Offset of field: sala_tensor_shape::swizzle"][::core::mem::offset_of!(sala_tensor_shape, swizzle) - 76usize];
    ["Offset of field: sala_tensor_shape::reserved"][::core::mem::offset_of!(sala_tensor_shape, reserved) - 80usize];
};
pub const SALA_ATTENTION_WARPS: u32 = 8;
pub const SALA_ATTENTION_WARP_ROWS: u32 = 16;
pub const SALA_ATTENTION_STEP: u32 = 64;
pub const SALA_ATTENTION_LIST_BYTES: u32 = 2048;
pub const SALA_ATTENTION_BARRIER_BYTES: u32 = 160;
pub const SALA_ATTENTION_MIN_STAGES: u32 = 3;
pub const SALA_ATTENTION_MAX_STAGES: u32 = 16;
pub const SALA_GROUP_ATTENTION_WARPS: u32 = 12;
pub const SALA_GROUP_ATTENTION_RING_BYTES: u32 = 196608;
pub const SALA_GROUP_ATTENTION_SHARED_BYTES: u32 = 232448;
pub const SALA_GROUP_DENSE_SHARED_BYTES: u32 = 198656;
pub const SALA_DENSE_WARPS: u32 = 8;
pub const SALA_DENSE_ROWS: u32 = 128;
pub const SALA_DENSE_STAGES: u32 = 3;
pub const SALA_DENSE_SCRATCH_BYTES: u32 = 1536;
pub const SALA_WIDE_DENSE_ROWS: u32 = 256;
pub const SALA_WIDE_DENSE_SCRATCH_BYTES: u32 = 2560;
pub const SALA_DECODE_WARPS: u32 = 8;
pub const SALA_DECODE_MAX_QUERIES: u32 = 16;
pub const SALA_DECODE_PIECE_KEYS: u32 = 256;
pub const SALA_DECODE_MAX_PIECES: u32 = 128;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_sparse_attention_params {
    pub sequences: sala_sequences,
    pub q: sala_rows,
    pub out: sala_rows,
    pub gate: sala_rows,
    pub lse: sala_rows,
    pub block_indices: sala_rows,
    pub k: sala_key_rows,
    pub v: sala_key_rows,
    pub scale_factor: u64,
    pub first_key: u64,
    pub status: u64,
    pub all_dense: i32,
    pub list_len: i32,
    pub block_size: i32,
    pub group: i32,
    pub tokens_per_warp: i32,
    pub warps_per_token: i32,
    pub tile_tokens: i32,
    pub ring_stages: i32,
    pub scale: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sparse_attention_params"][::core::mem::size_of::<sala_sparse_attention_params>() - 392usize];
    ["Alignment of sala_sparse_attention_params"][::core::mem::align_of::<sala_sparse_attention_params>() - 8usize];
    ["Offset of field: sala_sparse_attention_params::sequences"]
        [::core::mem::offset_of!(sala_sparse_attention_params, sequences) - 0usize];
    ["Offset of field: sala_sparse_attention_params::q"]
        [::core::mem::offset_of!(sala_sparse_attention_params, q) - 80usize];
    ["Offset of field: sala_sparse_attention_params::out"]
        [::core::mem::offset_of!(sala_sparse_attention_params, out) - 104usize];
    ["Offset of field: sala_sparse_attention_params::gate"]
        [::core::mem::offset_of!(sala_sparse_attention_params, gate) - 128usize];
    ["Offset of field: sala_sparse_attention_params::lse"]
        [::core::mem::offset_of!(sala_sparse_attention_params, lse) - 152usize];
    ["Offset of field: sala_sparse_attention_params::block_indices"]
        [::core::mem::offset_of!(sala_sparse_attention_params, block_indices) - 176usize];
    ["Offset of field: sala_sparse_attention_params::k"]
        [::core::mem::offset_of!(sala_sparse_attention_params, k) - 200usize];
    ["Offset of field: sala_sparse_attention_params::v"]
        [::core::mem::offset_of!(sala_sparse_attention_params, v) - 264usize];
    ["Offset of field: sala_sparse_attention_params::scale_factor"]
        [::core::mem::offset_of!(sala_sparse_attention_params, scale_factor) - 328usize];
    ["Offset of field: sala_sparse_attention_params::first_key"]
        [::core::mem::offset_of!(sala_sparse_attention_params, first_key) - 336usize];
    ["Offset of field: sala_sparse_attention_params::status"]
        [::core::mem::offset_of!(sala_sparse_attention_params, status) - 344usize];
    ["Offset of field: sala_sparse_attention_params::all_dense"]
        [::core::mem::offset_of!(sala_sparse_attention_params, all_dense) - 352usize];
    ["Offset of field: sala_sparse_attention_params::list_len"]
        [::core::mem::offset_of!(sala_sparse_attention_params, list_len) - 356usize];
    ["Offset of field: sala_sparse_attention_params::block_size"]
        [::core::mem::offset_of!(sala_sparse_attention_params, block_size) - 360usize];
    ["Offset of field: sala_sparse_attention_params::group"]
        [::core::mem::offset_of!(sala_sparse_attention_params, group) - 364usize];
    ["Offset of field: sala_sparse_attention_params::tokens_per_warp"]
        [::core::mem::offset_of!(sala_sparse_attention_params, tokens_per_warp) - 368usize];
    ["Offset of field: sala_sparse_attention_params::warps_per_token"]
        [::core::mem::offset_of!(sala_sparse_attention_params, warps_per_token) - 372usize];
    ["Offset of field: sala_sparse_attention_params::tile_tokens"]
        [::core::mem::offset_of!(sala_sparse_attention_params, tile_tokens) - 376usize];
    ["Offset of field: sala_sparse_attention_params::ring_stages"]
        [::core::mem::offset_of!(sala_sparse_attention_params, ring_stages) - 380usize];
    ["Offset of field: sala_sparse_attention_params::scale"]
        [::core::mem::offset_of!(sala_sparse_attention_params, scale) - 384usize];
    ["Offset of field: sala_sparse_attention_params::reserved"]
        [::core::mem::offset_of!(sala_sparse_attention_params, reserved) - 388usize];
};
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_sparse_attention_group_params {
    pub k_map: sala_tensor_map,
    pub v_map: sala_tensor_map,
    pub attention: sala_sparse_attention_params,
    pub is_mapped: i32,
    pub reserved: [i32; 13usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sparse_attention_group_params"]
        [::core::mem::size_of::<sala_sparse_attention_group_params>() - 704usize];
    ["Alignment of sala_sparse_attention_group_params"]
        [::core::mem::align_of::<sala_sparse_attention_group_params>() - 64usize];
    ["Offset of field: sala_sparse_attention_group_params::k_map"]
        [::core::mem::offset_of!(sala_sparse_attention_group_params, k_map) - 0usize];
    ["Offset of field: sala_sparse_attention_group_params::v_map"]
        [::core::mem::offset_of!(sala_sparse_attention_group_params, v_map) - 128usize];
    ["Offset of field: sala_sparse_attention_group_params::attention"]
        [::core::mem::offset_of!(sala_sparse_attention_group_params, attention) - 256usize];
    ["Offset of field: sala_sparse_attention_group_params::is_mapped"]
        [::core::mem::offset_of!(sala_sparse_attention_group_params, is_mapped) - 648usize];
    ["Offset of field: sala_sparse_attention_group_params::reserved"]
        [::core::mem::offset_of!(sala_sparse_attention_group_params, reserved) - 652usize];
};
impl Default for sala_sparse_attention_group_params {
    fn default() -> Self {
        bytemuck::Zeroable::zeroed()
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_sparse_attention_decode_params {
    pub attention: sala_sparse_attention_params,
    pub trees: sala_trees,
    pub partials: u64,
    pub softmaxes: u64,
    pub counts: u64,
    pub pieces: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sparse_attention_decode_params"]
        [::core::mem::size_of::<sala_sparse_attention_decode_params>() - 440usize];
    ["Alignment of sala_sparse_attention_decode_params"]
        [::core::mem::align_of::<sala_sparse_attention_decode_params>() - 8usize];
    ["Offset of field: sala_sparse_attention_decode_params::attention"]
        [::core::mem::offset_of!(sala_sparse_attention_decode_params, attention) - 0usize];
    ["Offset of field: sala_sparse_attention_decode_params::trees"]
        [::core::mem::offset_of!(sala_sparse_attention_decode_params, trees) - 392usize];
    ["Offset of field: sala_sparse_attention_decode_params::partials"]
        [::core::mem::offset_of!(sala_sparse_attention_decode_params, partials) - 408usize];
    ["Offset of field: sala_sparse_attention_decode_params::softmaxes"]
        [::core::mem::offset_of!(sala_sparse_attention_decode_params, softmaxes) - 416usize];
    ["Offset of field: sala_sparse_attention_decode_params::counts"]
        [::core::mem::offset_of!(sala_sparse_attention_decode_params, counts) - 424usize];
    ["Offset of field: sala_sparse_attention_decode_params::pieces"]
        [::core::mem::offset_of!(sala_sparse_attention_decode_params, pieces) - 432usize];
    ["Offset of field: sala_sparse_attention_decode_params::reserved"]
        [::core::mem::offset_of!(sala_sparse_attention_decode_params, reserved) - 436usize];
};
pub const SALA_UNIT_TEST_SHARED: u32 = 32768;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_unit_test_params {
    pub input: u64,
    pub second_input: u64,
    pub output: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_unit_test_params"][::core::mem::size_of::<sala_unit_test_params>() - 24usize];
    ["Alignment of sala_unit_test_params"][::core::mem::align_of::<sala_unit_test_params>() - 8usize];
    ["Offset of field: sala_unit_test_params::input"][::core::mem::offset_of!(sala_unit_test_params, input) - 0usize];
    ["Offset of field: sala_unit_test_params::second_input"]
        [::core::mem::offset_of!(sala_unit_test_params, second_input) - 8usize];
    ["Offset of field: sala_unit_test_params::output"]
        [::core::mem::offset_of!(sala_unit_test_params, output) - 16usize];
};
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_tensor_test_params {
    pub map: sala_tensor_map,
    pub second_map: sala_tensor_map,
    pub input: u64,
    pub output: u64,
    pub first: [i32; 4usize],
    pub bytes: u32,
    pub offset: u32,
    pub reserved: [u64; 3usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_tensor_test_params"][::core::mem::size_of::<sala_tensor_test_params>() - 320usize];
    ["Alignment of sala_tensor_test_params"][::core::mem::align_of::<sala_tensor_test_params>() - 64usize];
    ["Offset of field: sala_tensor_test_params::map"][::core::mem::offset_of!(sala_tensor_test_params, map) - 0usize];
    ["Offset of field: sala_tensor_test_params::second_map"]
        [::core::mem::offset_of!(sala_tensor_test_params, second_map) - 128usize];
    ["Offset of field: sala_tensor_test_params::input"]
        [::core::mem::offset_of!(sala_tensor_test_params, input) - 256usize];
    ["Offset of field: sala_tensor_test_params::output"]
        [::core::mem::offset_of!(sala_tensor_test_params, output) - 264usize];
    ["Offset of field: sala_tensor_test_params::first"]
        [::core::mem::offset_of!(sala_tensor_test_params, first) - 272usize];
    ["Offset of field: sala_tensor_test_params::bytes"]
        [::core::mem::offset_of!(sala_tensor_test_params, bytes) - 288usize];
    ["Offset of field: sala_tensor_test_params::offset"]
        [::core::mem::offset_of!(sala_tensor_test_params, offset) - 292usize];
    ["Offset of field: sala_tensor_test_params::reserved"]
        [::core::mem::offset_of!(sala_tensor_test_params, reserved) - 296usize];
};
impl Default for sala_tensor_test_params {
    fn default() -> Self {
        bytemuck::Zeroable::zeroed()
    }
}
impl crate::launch::Params for sala_append_keys_params {
    const NAME: &'static str = "sala_append_keys_params";
}
impl crate::launch::Params for sala_choose_blocks_params {
    const NAME: &'static str = "sala_choose_blocks_params";
}
impl crate::launch::Params for sala_choose_tokens_params {
    const NAME: &'static str = "sala_choose_tokens_params";
}
impl crate::launch::Params for sala_commit_keys_params {
    const NAME: &'static str = "sala_commit_keys_params";
}
impl crate::launch::Params for sala_compact_keys_params {
    const NAME: &'static str = "sala_compact_keys_params";
}
impl crate::launch::Params for sala_compress_keys_params {
    const NAME: &'static str = "sala_compress_keys_params";
}
impl crate::launch::Params for sala_gather_rows_params {
    const NAME: &'static str = "sala_gather_rows_params";
}
impl crate::launch::Params for sala_linear_attention_params {
    const NAME: &'static str = "sala_linear_attention_params";
}
impl crate::launch::Params for sala_linear_prefill_params {
    const NAME: &'static str = "sala_linear_prefill_params";
}
impl crate::launch::Params for sala_linear_drafts_params {
    const NAME: &'static str = "sala_linear_drafts_params";
}
impl crate::launch::Params for sala_copy_states_params {
    const NAME: &'static str = "sala_copy_states_params";
}
impl crate::launch::Params for sala_sum_decay_params {
    const NAME: &'static str = "sala_sum_decay_params";
}
impl crate::launch::Params for sala_merge_states_params {
    const NAME: &'static str = "sala_merge_states_params";
}
impl crate::launch::Params for sala_linear_correct_params {
    const NAME: &'static str = "sala_linear_correct_params";
}
impl crate::launch::Params for sala_merge_params {
    const NAME: &'static str = "sala_merge_params";
}
impl crate::launch::Params for sala_norm_rope_params {
    const NAME: &'static str = "sala_norm_rope_params";
}
impl crate::launch::Params for sala_norm_gate_params {
    const NAME: &'static str = "sala_norm_gate_params";
}
impl crate::launch::Params for sala_score_keys_params {
    const NAME: &'static str = "sala_score_keys_params";
}
impl crate::launch::Params for sala_select_blocks_params {
    const NAME: &'static str = "sala_select_blocks_params";
}
impl crate::launch::Params for sala_select_split_params {
    const NAME: &'static str = "sala_select_split_params";
}
impl crate::launch::Params for sala_sparse_attention_params {
    const NAME: &'static str = "sala_sparse_attention_params";
}
impl crate::launch::Params for sala_sparse_attention_group_params {
    const NAME: &'static str = "sala_sparse_attention_group_params";
}
impl crate::launch::Params for sala_sparse_attention_decode_params {
    const NAME: &'static str = "sala_sparse_attention_decode_params";
}
impl crate::launch::Params for sala_unit_test_params {
    const NAME: &'static str = "sala_unit_test_params";
}
impl crate::launch::Params for sala_tensor_test_params {
    const NAME: &'static str = "sala_tensor_test_params";
}
const fn size<P: crate::launch::Params>() -> (&'static str, usize) {
    (P::NAME, ::core::mem::size_of::<P>())
}
pub const SIZES: &[(&str, usize)] = &[
    size::<sala_append_keys_params>(),
    size::<sala_choose_blocks_params>(),
    size::<sala_choose_tokens_params>(),
    size::<sala_commit_keys_params>(),
    size::<sala_compact_keys_params>(),
    size::<sala_compress_keys_params>(),
    size::<sala_gather_rows_params>(),
    size::<sala_linear_attention_params>(),
    size::<sala_linear_prefill_params>(),
    size::<sala_linear_drafts_params>(),
    size::<sala_copy_states_params>(),
    size::<sala_sum_decay_params>(),
    size::<sala_merge_states_params>(),
    size::<sala_linear_correct_params>(),
    size::<sala_merge_params>(),
    size::<sala_norm_rope_params>(),
    size::<sala_norm_gate_params>(),
    size::<sala_score_keys_params>(),
    size::<sala_select_blocks_params>(),
    size::<sala_select_split_params>(),
    size::<sala_sparse_attention_params>(),
    size::<sala_sparse_attention_group_params>(),
    size::<sala_sparse_attention_decode_params>(),
    size::<sala_unit_test_params>(),
    size::<sala_tensor_test_params>(),
];
