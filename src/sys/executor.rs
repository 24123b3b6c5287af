//! Made from `cuda/host/executor.h` by `cargo xtask bindgen`; change it there.

pub const SALA_HOST_ROUND_ROBIN: u32 = 0;
pub const SALA_HOST_RANDOM: u32 = 1;
pub const SALA_HOST_REVERSE: u32 = 2;
pub const SALA_HOST_LAZY: u32 = 0;
pub const SALA_HOST_EAGER: u32 = 1;
pub const SALA_HOST_EITHER: u32 = 2;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_host_options {
    pub seed: u64,
    pub schedule: u32,
    pub copies: u32,
    pub threads: u32,
    pub detect_races: u32,
    pub preempt: u32,
    pub count: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_host_options"][::core::mem::size_of::<sala_host_options>() - 32usize];
    ["Alignment of sala_host_options"][::core::mem::align_of::<sala_host_options>() - 8usize];
    ["Offset of field: sala_host_options::seed"][::core::mem::offset_of!(sala_host_options, seed) - 0usize];
    ["Offset of field: sala_host_options::schedule"][::core::mem::offset_of!(sala_host_options, schedule) - 8usize];
    ["Offset of field: sala_host_options::copies"][::core::mem::offset_of!(sala_host_options, copies) - 12usize];
    ["Offset of field: sala_host_options::threads"][::core::mem::offset_of!(sala_host_options, threads) - 16usize];
    ["Offset of field: sala_host_options::detect_races"]
        [::core::mem::offset_of!(sala_host_options, detect_races) - 20usize];
    ["Offset of field: sala_host_options::preempt"][::core::mem::offset_of!(sala_host_options, preempt) - 24usize];
    ["Offset of field: sala_host_options::count"][::core::mem::offset_of!(sala_host_options, count) - 28usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck :: Pod, bytemuck :: Zeroable)]
pub struct sala_host_counters {
    pub tensor_flops: u64,
    pub exponentials: u64,
    pub global_bytes_read: u64,
    pub global_bytes_written: u64,
    pub global_bytes_distinct: u64,
    pub shared_wavefronts: u64,
    pub shared_wavefronts_ideal: u64,
    pub collectives: u64,
    pub switches: u64,
    pub blocks: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of sala_host_counters"][::core::mem::size_of::<sala_host_counters>() - 80usize];
    ["Alignment of sala_host_counters"][::core::mem::align_of::<sala_host_counters>() - 8usize];
    ["Offset of field: sala_host_counters::tensor_flops"]
        [::core::mem::offset_of!(sala_host_counters, tensor_flops) - 0usize];
    ["Offset of field: sala_host_counters::exponentials"]
        [::core::mem::offset_of!(sala_host_counters, exponentials) - 8usize];
    ["Offset of field: sala_host_counters::global_bytes_read"]
        [::core::mem::offset_of!(sala_host_counters, global_bytes_read) - 16usize];
    ["Offset of field: sala_host_counters::global_bytes_written"]
        [::core::mem::offset_of!(sala_host_counters, global_bytes_written) - 24usize];
    ["Offset of field: sala_host_counters::global_bytes_distinct"]
        [::core::mem::offset_of!(sala_host_counters, global_bytes_distinct) - 32usize];
    ["Offset of field: sala_host_counters::shared_wavefronts"]
        [::core::mem::offset_of!(sala_host_counters, shared_wavefronts) - 40usize];
    ["Offset of field: sala_host_counters::shared_wavefronts_ideal"]
        [::core::mem::offset_of!(sala_host_counters, shared_wavefronts_ideal) - 48usize];
    ["Offset of field: sala_host_counters::collectives"]
        [::core::mem::offset_of!(sala_host_counters, collectives) - 56usize];
    ["Offset of field: sala_host_counters::switches"][::core::mem::offset_of!(sala_host_counters, switches) - 64usize];
    ["Offset of field: sala_host_counters::blocks"][::core::mem::offset_of!(sala_host_counters, blocks) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sala_host_kernel {
    _unused: [u8; 0],
}
unsafe extern "C" {
    pub fn sala_host_find(name: *const ::core::ffi::c_char) -> *const sala_host_kernel;
}
unsafe extern "C" {
    pub fn sala_host_kernel_count() -> u32;
}
unsafe extern "C" {
    pub fn sala_host_kernel_name(index: u32) -> *const ::core::ffi::c_char;
}
unsafe extern "C" {
    pub fn sala_host_params_size(kernel: *const sala_host_kernel) -> u64;
}
unsafe extern "C" {
    pub fn sala_host_threads(kernel: *const sala_host_kernel) -> u32;
}
unsafe extern "C" {
    pub fn sala_host_launch(
        kernel: *const sala_host_kernel,
        grid: *const u32,
        threads: u32,
        dynamic_shared: u32,
        params: *const ::core::ffi::c_void,
        params_size: u64,
        options: *const sala_host_options,
        counters: *mut sala_host_counters,
        report: *mut ::core::ffi::c_char,
        report_size: u64,
    ) -> ::core::ffi::c_int;
}
