//! Made from `include/kernel_params.h` by `cargo xtask bindgen`; change it there.

pub const SALA_DECAY_NONE: sala_decay = 0;
pub const SALA_DECAY_PER_HEAD: sala_decay = 1;
pub const SALA_DECAY_PER_TOKEN: sala_decay = 2;
pub type sala_decay = ::core::ffi::c_uint;
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
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_sequences {
    pub cu_seqlens_q: u64,
    pub cu_seqlens_k: u64,
    pub seqlens_k: u64,
    pub switch_len: u64,
    pub total_q: i64,
    pub capacity_k: i64,
    pub batch: i32,
    pub max_seqlen_q: i32,
    pub max_seqlen_k: i32,
    pub dense_len: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sequences"][::core::mem::size_of::<sala_sequences>() - 64usize];
    ["Alignment of sala_sequences"][::core::mem::align_of::<sala_sequences>() - 8usize];
    ["Offset of field: sala_sequences::cu_seqlens_q"][::core::mem::offset_of!(sala_sequences, cu_seqlens_q) - 0usize];
    ["Offset of field: sala_sequences::cu_seqlens_k"][::core::mem::offset_of!(sala_sequences, cu_seqlens_k) - 8usize];
    ["Offset of field: sala_sequences::seqlens_k"][::core::mem::offset_of!(sala_sequences, seqlens_k) - 16usize];
    ["Offset of field: sala_sequences::switch_len"][::core::mem::offset_of!(sala_sequences, switch_len) - 24usize];
    ["Offset of field: sala_sequences::total_q"][::core::mem::offset_of!(sala_sequences, total_q) - 32usize];
    ["Offset of field: sala_sequences::capacity_k"][::core::mem::offset_of!(sala_sequences, capacity_k) - 40usize];
    ["Offset of field: sala_sequences::batch"][::core::mem::offset_of!(sala_sequences, batch) - 48usize];
    ["Offset of field: sala_sequences::max_seqlen_q"][::core::mem::offset_of!(sala_sequences, max_seqlen_q) - 52usize];
    ["Offset of field: sala_sequences::max_seqlen_k"][::core::mem::offset_of!(sala_sequences, max_seqlen_k) - 56usize];
    ["Offset of field: sala_sequences::dense_len"][::core::mem::offset_of!(sala_sequences, dense_len) - 60usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_linear_attention_params {
    pub q: u64,
    pub k: u64,
    pub v: u64,
    pub out: u64,
    pub cu_seqlens: u64,
    pub log_decay: u64,
    pub state: u64,
    pub state_in: u64,
    pub state_out: u64,
    pub status: u64,
    pub q_token_stride: i64,
    pub q_head_stride: i64,
    pub k_token_stride: i64,
    pub k_head_stride: i64,
    pub v_token_stride: i64,
    pub v_head_stride: i64,
    pub out_token_stride: i64,
    pub out_head_stride: i64,
    pub decay_token_stride: i64,
    pub decay_head_stride: i64,
    pub state_slot_stride: i64,
    pub state_head_stride: i64,
    pub state_row_stride: i64,
    pub tokens: i64,
    pub slots: i64,
    pub batch: i32,
    pub heads: i32,
    pub decay: i32,
    pub state_is_vk: i32,
    pub scale: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_linear_attention_params"][::core::mem::size_of::<sala_linear_attention_params>() - 224usize];
    ["Alignment of sala_linear_attention_params"][::core::mem::align_of::<sala_linear_attention_params>() - 8usize];
    ["Offset of field: sala_linear_attention_params::q"]
        [::core::mem::offset_of!(sala_linear_attention_params, q) - 0usize];
    ["Offset of field: sala_linear_attention_params::k"]
        [::core::mem::offset_of!(sala_linear_attention_params, k) - 8usize];
    ["Offset of field: sala_linear_attention_params::v"]
        [::core::mem::offset_of!(sala_linear_attention_params, v) - 16usize];
    ["Offset of field: sala_linear_attention_params::out"]
        [::core::mem::offset_of!(sala_linear_attention_params, out) - 24usize];
    ["Offset of field: sala_linear_attention_params::cu_seqlens"]
        [::core::mem::offset_of!(sala_linear_attention_params, cu_seqlens) - 32usize];
    ["Offset of field: sala_linear_attention_params::log_decay"]
        [::core::mem::offset_of!(sala_linear_attention_params, log_decay) - 40usize];
    ["Offset of field: sala_linear_attention_params::state"]
        [::core::mem::offset_of!(sala_linear_attention_params, state) - 48usize];
    ["Offset of field: sala_linear_attention_params::state_in"]
        [::core::mem::offset_of!(sala_linear_attention_params, state_in) - 56usize];
    ["Offset of field: sala_linear_attention_params::state_out"]
        [::core::mem::offset_of!(sala_linear_attention_params, state_out) - 64usize];
    ["Offset of field: sala_linear_attention_params::status"]
        [::core::mem::offset_of!(sala_linear_attention_params, status) - 72usize];
    ["Offset of field: sala_linear_attention_params::q_token_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, q_token_stride) - 80usize];
    ["Offset of field: sala_linear_attention_params::q_head_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, q_head_stride) - 88usize];
    ["Offset of field: sala_linear_attention_params::k_token_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, k_token_stride) - 96usize];
    ["Offset of field: sala_linear_attention_params::k_head_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, k_head_stride) - 104usize];
    ["Offset of field: sala_linear_attention_params::v_token_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, v_token_stride) - 112usize];
    ["Offset of field: sala_linear_attention_params::v_head_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, v_head_stride) - 120usize];
    ["Offset of field: sala_linear_attention_params::out_token_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, out_token_stride) - 128usize];
    ["Offset of field: sala_linear_attention_params::out_head_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, out_head_stride) - 136usize];
    ["Offset of field: sala_linear_attention_params::decay_token_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, decay_token_stride) - 144usize];
    ["Offset of field: sala_linear_attention_params::decay_head_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, decay_head_stride) - 152usize];
    ["Offset of field: sala_linear_attention_params::state_slot_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, state_slot_stride) - 160usize];
    ["Offset of field: sala_linear_attention_params::state_head_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, state_head_stride) - 168usize];
    ["Offset of field: sala_linear_attention_params::state_row_stride"]
        [::core::mem::offset_of!(sala_linear_attention_params, state_row_stride) - 176usize];
    ["Offset of field: sala_linear_attention_params::tokens"]
        [::core::mem::offset_of!(sala_linear_attention_params, tokens) - 184usize];
    ["Offset of field: sala_linear_attention_params::slots"]
        [::core::mem::offset_of!(sala_linear_attention_params, slots) - 192usize];
    ["Offset of field: sala_linear_attention_params::batch"]
        [::core::mem::offset_of!(sala_linear_attention_params, batch) - 200usize];
    ["Offset of field: sala_linear_attention_params::heads"]
        [::core::mem::offset_of!(sala_linear_attention_params, heads) - 204usize];
    ["Offset of field: sala_linear_attention_params::decay"]
        [::core::mem::offset_of!(sala_linear_attention_params, decay) - 208usize];
    ["Offset of field: sala_linear_attention_params::state_is_vk"]
        [::core::mem::offset_of!(sala_linear_attention_params, state_is_vk) - 212usize];
    ["Offset of field: sala_linear_attention_params::scale"]
        [::core::mem::offset_of!(sala_linear_attention_params, scale) - 216usize];
    ["Offset of field: sala_linear_attention_params::reserved"]
        [::core::mem::offset_of!(sala_linear_attention_params, reserved) - 220usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_sparse_attention_params {
    pub sequences: sala_sequences,
    pub q: u64,
    pub k: u64,
    pub v: u64,
    pub out: u64,
    pub lse: u64,
    pub block_indices: u64,
    pub scale_factor: u64,
    pub gate: u64,
    pub status: u64,
    pub q_token_stride: i64,
    pub q_head_stride: i64,
    pub k_batch_stride: i64,
    pub k_token_stride: i64,
    pub k_head_stride: i64,
    pub v_batch_stride: i64,
    pub v_token_stride: i64,
    pub v_head_stride: i64,
    pub out_token_stride: i64,
    pub out_head_stride: i64,
    pub lse_token_stride: i64,
    pub list_token_stride: i64,
    pub list_head_stride: i64,
    pub gate_token_stride: i64,
    pub gate_head_stride: i64,
    pub list_len: i32,
    pub block_size: i32,
    pub group: i32,
    pub tokens_a_warp: i32,
    pub warps_a_token: i32,
    pub tile_tokens: i32,
    pub scale: f32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sparse_attention_params"][::core::mem::size_of::<sala_sparse_attention_params>() - 288usize];
    ["Alignment of sala_sparse_attention_params"][::core::mem::align_of::<sala_sparse_attention_params>() - 8usize];
    ["Offset of field: sala_sparse_attention_params::sequences"]
        [::core::mem::offset_of!(sala_sparse_attention_params, sequences) - 0usize];
    ["Offset of field: sala_sparse_attention_params::q"]
        [::core::mem::offset_of!(sala_sparse_attention_params, q) - 64usize];
    ["Offset of field: sala_sparse_attention_params::k"]
        [::core::mem::offset_of!(sala_sparse_attention_params, k) - 72usize];
    ["Offset of field: sala_sparse_attention_params::v"]
        [::core::mem::offset_of!(sala_sparse_attention_params, v) - 80usize];
    ["Offset of field: sala_sparse_attention_params::out"]
        [::core::mem::offset_of!(sala_sparse_attention_params, out) - 88usize];
    ["Offset of field: sala_sparse_attention_params::lse"]
        [::core::mem::offset_of!(sala_sparse_attention_params, lse) - 96usize];
    ["Offset of field: sala_sparse_attention_params::block_indices"]
        [::core::mem::offset_of!(sala_sparse_attention_params, block_indices) - 104usize];
    ["Offset of field: sala_sparse_attention_params::scale_factor"]
        [::core::mem::offset_of!(sala_sparse_attention_params, scale_factor) - 112usize];
    ["Offset of field: sala_sparse_attention_params::gate"]
        [::core::mem::offset_of!(sala_sparse_attention_params, gate) - 120usize];
    ["Offset of field: sala_sparse_attention_params::status"]
        [::core::mem::offset_of!(sala_sparse_attention_params, status) - 128usize];
    ["Offset of field: sala_sparse_attention_params::q_token_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, q_token_stride) - 136usize];
    ["Offset of field: sala_sparse_attention_params::q_head_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, q_head_stride) - 144usize];
    ["Offset of field: sala_sparse_attention_params::k_batch_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, k_batch_stride) - 152usize];
    ["Offset of field: sala_sparse_attention_params::k_token_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, k_token_stride) - 160usize];
    ["Offset of field: sala_sparse_attention_params::k_head_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, k_head_stride) - 168usize];
    ["Offset of field: sala_sparse_attention_params::v_batch_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, v_batch_stride) - 176usize];
    ["Offset of field: sala_sparse_attention_params::v_token_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, v_token_stride) - 184usize];
    ["Offset of field: sala_sparse_attention_params::v_head_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, v_head_stride) - 192usize];
    ["Offset of field: sala_sparse_attention_params::out_token_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, out_token_stride) - 200usize];
    ["Offset of field: sala_sparse_attention_params::out_head_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, out_head_stride) - 208usize];
    ["Offset of field: sala_sparse_attention_params::lse_token_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, lse_token_stride) - 216usize];
    ["Offset of field: sala_sparse_attention_params::list_token_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, list_token_stride) - 224usize];
    ["Offset of field: sala_sparse_attention_params::list_head_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, list_head_stride) - 232usize];
    ["Offset of field: sala_sparse_attention_params::gate_token_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, gate_token_stride) - 240usize];
    ["Offset of field: sala_sparse_attention_params::gate_head_stride"]
        [::core::mem::offset_of!(sala_sparse_attention_params, gate_head_stride) - 248usize];
    ["Offset of field: sala_sparse_attention_params::list_len"]
        [::core::mem::offset_of!(sala_sparse_attention_params, list_len) - 256usize];
    ["Offset of field: sala_sparse_attention_params::block_size"]
        [::core::mem::offset_of!(sala_sparse_attention_params, block_size) - 260usize];
    ["Offset of field: sala_sparse_attention_params::group"]
        [::core::mem::offset_of!(sala_sparse_attention_params, group) - 264usize];
    ["Offset of field: sala_sparse_attention_params::tokens_a_warp"]
        [::core::mem::offset_of!(sala_sparse_attention_params, tokens_a_warp) - 268usize];
    ["Offset of field: sala_sparse_attention_params::warps_a_token"]
        [::core::mem::offset_of!(sala_sparse_attention_params, warps_a_token) - 272usize];
    ["Offset of field: sala_sparse_attention_params::tile_tokens"]
        [::core::mem::offset_of!(sala_sparse_attention_params, tile_tokens) - 276usize];
    ["Offset of field: sala_sparse_attention_params::scale"]
        [::core::mem::offset_of!(sala_sparse_attention_params, scale) - 280usize];
    ["Offset of field: sala_sparse_attention_params::reserved"]
        [::core::mem::offset_of!(sala_sparse_attention_params, reserved) - 284usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_sparse_attention_split_params {
    pub attention: sala_sparse_attention_params,
    pub scores: u64,
    pub maxima: u64,
    pub steps: u64,
    pub groups: i32,
    pub places: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_sparse_attention_split_params"]
        [::core::mem::size_of::<sala_sparse_attention_split_params>() - 320usize];
    ["Alignment of sala_sparse_attention_split_params"]
        [::core::mem::align_of::<sala_sparse_attention_split_params>() - 8usize];
    ["Offset of field: sala_sparse_attention_split_params::attention"]
        [::core::mem::offset_of!(sala_sparse_attention_split_params, attention) - 0usize];
    ["Offset of field: sala_sparse_attention_split_params::scores"]
        [::core::mem::offset_of!(sala_sparse_attention_split_params, scores) - 288usize];
    ["Offset of field: sala_sparse_attention_split_params::maxima"]
        [::core::mem::offset_of!(sala_sparse_attention_split_params, maxima) - 296usize];
    ["Offset of field: sala_sparse_attention_split_params::steps"]
        [::core::mem::offset_of!(sala_sparse_attention_split_params, steps) - 304usize];
    ["Offset of field: sala_sparse_attention_split_params::groups"]
        [::core::mem::offset_of!(sala_sparse_attention_split_params, groups) - 312usize];
    ["Offset of field: sala_sparse_attention_split_params::places"]
        [::core::mem::offset_of!(sala_sparse_attention_split_params, places) - 316usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_compress_keys_params {
    pub k: u64,
    pub k1: u64,
    pub k2: u64,
    pub cu_seqlens_k: u64,
    pub seqlens_k: u64,
    pub seqlens_old: u64,
    pub status: u64,
    pub k_batch_stride: i64,
    pub k_token_stride: i64,
    pub k_head_stride: i64,
    pub k1_batch_stride: i64,
    pub k1_row_stride: i64,
    pub k1_head_stride: i64,
    pub k2_batch_stride: i64,
    pub k2_row_stride: i64,
    pub k2_head_stride: i64,
    pub capacity_k: i64,
    pub max_seqlen_k: i32,
    pub max_new: i32,
    pub stride: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_compress_keys_params"][::core::mem::size_of::<sala_compress_keys_params>() - 152usize];
    ["Alignment of sala_compress_keys_params"][::core::mem::align_of::<sala_compress_keys_params>() - 8usize];
    ["Offset of field: sala_compress_keys_params::k"][::core::mem::offset_of!(sala_compress_keys_params, k) - 0usize];
    ["Offset of field: sala_compress_keys_params::k1"][::core::mem::offset_of!(sala_compress_keys_params, k1) - 8usize];
    ["Offset of field: sala_compress_keys_params::k2"]
        [::core::mem::offset_of!(sala_compress_keys_params, k2) - 16usize];
    ["Offset of field: sala_compress_keys_params::cu_seqlens_k"]
        [::core::mem::offset_of!(sala_compress_keys_params, cu_seqlens_k) - 24usize];
    ["Offset of field: sala_compress_keys_params::seqlens_k"]
        [::core::mem::offset_of!(sala_compress_keys_params, seqlens_k) - 32usize];
    ["Offset of field: sala_compress_keys_params::seqlens_old"]
        [::core::mem::offset_of!(sala_compress_keys_params, seqlens_old) - 40usize];
    ["Offset of field: sala_compress_keys_params::status"]
        [::core::mem::offset_of!(sala_compress_keys_params, status) - 48usize];
    ["Offset of field: sala_compress_keys_params::k_batch_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k_batch_stride) - 56usize];
    ["Offset of field: sala_compress_keys_params::k_token_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k_token_stride) - 64usize];
    ["Offset of field: sala_compress_keys_params::k_head_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k_head_stride) - 72usize];
    ["Offset of field: sala_compress_keys_params::k1_batch_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k1_batch_stride) - 80usize];
    ["Offset of field: sala_compress_keys_params::k1_row_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k1_row_stride) - 88usize];
    ["Offset of field: sala_compress_keys_params::k1_head_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k1_head_stride) - 96usize];
    ["Offset of field: sala_compress_keys_params::k2_batch_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k2_batch_stride) - 104usize];
    ["Offset of field: sala_compress_keys_params::k2_row_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k2_row_stride) - 112usize];
    ["Offset of field: sala_compress_keys_params::k2_head_stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, k2_head_stride) - 120usize];
    ["Offset of field: sala_compress_keys_params::capacity_k"]
        [::core::mem::offset_of!(sala_compress_keys_params, capacity_k) - 128usize];
    ["Offset of field: sala_compress_keys_params::max_seqlen_k"]
        [::core::mem::offset_of!(sala_compress_keys_params, max_seqlen_k) - 136usize];
    ["Offset of field: sala_compress_keys_params::max_new"]
        [::core::mem::offset_of!(sala_compress_keys_params, max_new) - 140usize];
    ["Offset of field: sala_compress_keys_params::stride"]
        [::core::mem::offset_of!(sala_compress_keys_params, stride) - 144usize];
    ["Offset of field: sala_compress_keys_params::reserved"]
        [::core::mem::offset_of!(sala_compress_keys_params, reserved) - 148usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_select_blocks_params {
    pub sequences: sala_sequences,
    pub q: u64,
    pub k1: u64,
    pub k2: u64,
    pub scale_factor: u64,
    pub scores: u64,
    pub block_indices: u64,
    pub status: u64,
    pub q_token_stride: i64,
    pub q_head_stride: i64,
    pub k1_batch_stride: i64,
    pub k1_row_stride: i64,
    pub k1_head_stride: i64,
    pub k2_batch_stride: i64,
    pub k2_row_stride: i64,
    pub k2_head_stride: i64,
    pub scores_token_stride: i64,
    pub scores_head_stride: i64,
    pub list_token_stride: i64,
    pub list_head_stride: i64,
    pub scale: f32,
    pub group: i32,
    pub block_size: i32,
    pub init_blocks: i32,
    pub local_blocks: i32,
    pub list_len: i32,
    pub queue_capacity: i32,
    pub score_blocks: i32,
    pub exact_lse: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_select_blocks_params"][::core::mem::size_of::<sala_select_blocks_params>() - 256usize];
    ["Alignment of sala_select_blocks_params"][::core::mem::align_of::<sala_select_blocks_params>() - 8usize];
    ["Offset of field: sala_select_blocks_params::sequences"]
        [::core::mem::offset_of!(sala_select_blocks_params, sequences) - 0usize];
    ["Offset of field: sala_select_blocks_params::q"][::core::mem::offset_of!(sala_select_blocks_params, q) - 64usize];
    ["Offset of field: sala_select_blocks_params::k1"]
        [::core::mem::offset_of!(sala_select_blocks_params, k1) - 72usize];
    ["Offset of field: sala_select_blocks_params::k2"]
        [::core::mem::offset_of!(sala_select_blocks_params, k2) - 80usize];
    ["Offset of field: sala_select_blocks_params::scale_factor"]
        [::core::mem::offset_of!(sala_select_blocks_params, scale_factor) - 88usize];
    ["Offset of field: sala_select_blocks_params::scores"]
        [::core::mem::offset_of!(sala_select_blocks_params, scores) - 96usize];
    ["Offset of field: sala_select_blocks_params::block_indices"]
        [::core::mem::offset_of!(sala_select_blocks_params, block_indices) - 104usize];
    ["Offset of field: sala_select_blocks_params::status"]
        [::core::mem::offset_of!(sala_select_blocks_params, status) - 112usize];
    ["Offset of field: sala_select_blocks_params::q_token_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, q_token_stride) - 120usize];
    ["Offset of field: sala_select_blocks_params::q_head_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, q_head_stride) - 128usize];
    ["Offset of field: sala_select_blocks_params::k1_batch_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, k1_batch_stride) - 136usize];
    ["Offset of field: sala_select_blocks_params::k1_row_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, k1_row_stride) - 144usize];
    ["Offset of field: sala_select_blocks_params::k1_head_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, k1_head_stride) - 152usize];
    ["Offset of field: sala_select_blocks_params::k2_batch_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, k2_batch_stride) - 160usize];
    ["Offset of field: sala_select_blocks_params::k2_row_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, k2_row_stride) - 168usize];
    ["Offset of field: sala_select_blocks_params::k2_head_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, k2_head_stride) - 176usize];
    ["Offset of field: sala_select_blocks_params::scores_token_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, scores_token_stride) - 184usize];
    ["Offset of field: sala_select_blocks_params::scores_head_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, scores_head_stride) - 192usize];
    ["Offset of field: sala_select_blocks_params::list_token_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, list_token_stride) - 200usize];
    ["Offset of field: sala_select_blocks_params::list_head_stride"]
        [::core::mem::offset_of!(sala_select_blocks_params, list_head_stride) - 208usize];
    ["Offset of field: sala_select_blocks_params::scale"]
        [::core::mem::offset_of!(sala_select_blocks_params, scale) - 216usize];
    ["Offset of field: sala_select_blocks_params::group"]
        [::core::mem::offset_of!(sala_select_blocks_params, group) - 220usize];
    ["Offset of field: sala_select_blocks_params::block_size"]
        [::core::mem::offset_of!(sala_select_blocks_params, block_size) - 224usize];
    ["Offset of field: sala_select_blocks_params::init_blocks"]
        [::core::mem::offset_of!(sala_select_blocks_params, init_blocks) - 228usize];
    ["Offset of field: sala_select_blocks_params::local_blocks"]
        [::core::mem::offset_of!(sala_select_blocks_params, local_blocks) - 232usize];
    ["Offset of field: sala_select_blocks_params::list_len"]
        [::core::mem::offset_of!(sala_select_blocks_params, list_len) - 236usize];
    ["Offset of field: sala_select_blocks_params::queue_capacity"]
        [::core::mem::offset_of!(sala_select_blocks_params, queue_capacity) - 240usize];
    ["Offset of field: sala_select_blocks_params::score_blocks"]
        [::core::mem::offset_of!(sala_select_blocks_params, score_blocks) - 244usize];
    ["Offset of field: sala_select_blocks_params::exact_lse"]
        [::core::mem::offset_of!(sala_select_blocks_params, exact_lse) - 248usize];
    ["Offset of field: sala_select_blocks_params::reserved"]
        [::core::mem::offset_of!(sala_select_blocks_params, reserved) - 252usize];
};
