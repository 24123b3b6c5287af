//! Causal attention over all keys.

use super::{DIM, ELEMENT, HEADS, HEADS_KV, K, Table, Work};
use crate::{Kernels, Problem};

const TOKENS: f64 = 8.0 * K;
/// Query tokens of a tile, and keys of a step.
const TILE: f64 = 8.0;
const STEP: f64 = 64.0;

pub(super) fn add_rows(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    let gpu = table.gpu;
    let clocks = kernels.unit("dense_step", gpu.arch)?.on(gpu)?.clocks()?;
    let work = Work {
        flop: 4.0 * DIM * HEADS * TOKENS * (TOKENS + 1.0) / 2.0,
        bytes: TOKENS * (2.0 * HEADS + 2.0 * HEADS_KV) * DIM * ELEMENT,
    };
    // A tile takes every step up to that of its last token: 1, 1, …, 2, 2, ….
    let steps = TOKENS / TILE * (TOKENS / STEP + 1.0) / 2.0 * HEADS_KV;
    let time = gpu.microseconds(steps * clocks / f64::from(gpu.multiprocessors));
    table.add_rate("dense_prefill_tflops_8k".to_owned(), 1, work, time);
    Ok(())
}
