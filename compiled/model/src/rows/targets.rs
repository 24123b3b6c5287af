//! What the project wants of the rows. Each comes from the issue that asks for the kernel; a card that no issue names has no target.

use crate::Gpu;

/// What a target is given as.
enum Target {
    /// The value itself.
    Value(f64),
    /// So many times the floor; a rate is divided by it.
    OfFloor(f64),
}

use Target::{OfFloor, Value};

/// H100 and H200 have the same multiprocessors: what binds there is the same.
const HOPPER: &[&str] = &["H100", "H200"];

/// Row, GPUs, target. An empty list means all GPUs.
const TARGETS: &[(&str, &[&str], Target)] = &[
    // Prefill without block barriers: prices of mma.sync kernels.
    ("sparse_prefill_useful_tflops_overlap_90", HOPPER, Value(290.0)),
    ("sparse_prefill_useful_tflops_overlap_90", &["RTX5090"], Value(185.0)),
    ("sparse_prefill_useful_tflops_overlap_90", &["PRO6000"], Value(360.0)),
    ("sparse_prefill_useful_tflops_overlap_90", &["A100"], Value(170.0)),
    ("sparse_prefill_useful_tflops_overlap_70", HOPPER, Value(250.0)),
    ("sparse_prefill_useful_tflops_overlap_70", &["RTX5090"], Value(160.0)),
    ("sparse_prefill_useful_tflops_overlap_70", &["PRO6000"], Value(300.0)),
    ("sparse_prefill_useful_tflops_overlap_70", &["A100"], Value(140.0)),
    // With products of warpgroups; ours, compared with nothing.
    ("sparse_prefill_sm90a_useful_tflops_overlap_90", HOPPER, Value(430.0)),
    ("sparse_prefill_sm90a_useful_tflops_overlap_70", HOPPER, Value(330.0)),
    ("select_prefill_sm90a_useful_tflops_128k", HOPPER, Value(390.0)),
    ("dense_prefill_sm90a_tflops_8k", HOPPER, Value(499.5)),
    ("select_prefill_step_clk", HOPPER, Value(3400.0)),
    ("select_prefill_step_clk", &["RTX5090"], Value(9600.0)),
    ("dense_prefill_tflops_8k", &[], OfFloor(1.15)),
    // The first round's, for the best kernels that such a card could run, wgmma included.
    ("sparse_prefill_useful_tflops_random", HOPPER, Value(180.0)),
    ("sparse_layer_prefill_ms_128k", HOPPER, Value(40.0)),
    ("sparse_layer_prefill_ms_256k", HOPPER, Value(105.0)),
    ("sparse_layer_prefill_ms_1m", HOPPER, Value(950.0)),
    // Decode at batch 1. These were set with a microsecond for each launch in mind.
    ("decode_select_us_128k", &["H200"], Value(9.0)),
    ("decode_select_us_1m", &["H200"], Value(21.0)),
    ("decode_attend_us", &["H200"], Value(9.0)),
    ("decode_attend_us", &["RTX5090"], Value(12.0)),
    ("decode_select_us_b64", &["H200"], OfFloor(1.3)),
    ("decode_attend_us_b64", &["H200"], OfFloor(1.3)),
    ("linear_prefill_ms_b1_64k", &["H200"], Value(0.75)),
    ("linear_prefill_ms_b1_64k", &["RTX5090"], Value(1.7)),
    ("linear_prefill_ms_b1_1m", &["H200"], Value(11.0)),
    ("linear_prefill_ms_b4_64k", &[], OfFloor(1.25)),
    ("linear_decode_us_b1", &["H200"], Value(3.8)),
    ("linear_decode_us_b64", &["H200"], OfFloor(1.12)),
];

/// The target of a row, which has this floor, on a GPU.
pub(super) fn find(row: &str, gpu: &Gpu, floor: f64) -> Option<f64> {
    let is_meant = |gpus: &[&str]| gpus.is_empty() || gpus.contains(&gpu.name);
    let found = TARGETS.iter().find(|(name, gpus, _)| *name == row && is_meant(gpus));
    found.map(|(name, _, target)| match target {
        Value(value) => *value,
        OfFloor(times) if name.contains("tflops") => floor / times,
        OfFloor(times) => floor * times,
    })
}
