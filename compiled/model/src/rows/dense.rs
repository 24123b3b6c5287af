//! Causal attention over all keys.

use super::{DIM, ELEMENT, HEADS, HEADS_KV, K, Table, Work};
use crate::machine::Free;
use crate::{Kernels, Problem};

const TOKENS: f64 = 8.0 * K;
/// Query tokens of a tile, and keys of a step.
const TILE: f64 = 8.0;
const STEP: f64 = 64.0;

pub(super) fn add_rows(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    add_rate(table, kernels, "dense_step", "dense_prefill_tflops_8k")
}

/// Adds the kernel whose products are those of warpgroups.
pub(super) fn add_rows_of_groups(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    add_rate(table, kernels, "dense_group_step", "dense_prefill_sm90a_tflops_8k")
}

fn add_rate(table: &mut Table, kernels: &Kernels, step: &str, row: &str) -> Result<(), Problem> {
    let gpu = table.gpu;
    let unit = kernels.unit(step, gpu.arch)?;
    let description = unit.description();
    let registers = kernels.resources(&description.kernel, gpu.arch)?.registers;
    let shared = description.shared_memory.unwrap_or(0);
    let resident = gpu.resident_blocks(registers, description.warp_count(), shared);
    if resident == 0 {
        return Err(Problem::misfit(format!(
            "{step} does not fit a multiprocessor of {}",
            gpu.name
        )));
    }
    // Of a step of each of them.
    let clocks = unit.on(gpu)?.clocks_with(usize::MAX, resident, Free::default())?;
    let work = Work {
        flop: 4.0 * DIM * HEADS * TOKENS * (TOKENS + 1.0) / 2.0,
        bytes: TOKENS * (2.0 * HEADS + 2.0 * HEADS_KV) * DIM * ELEMENT,
    };
    // A tile takes every step up to that of its last token: 1, 1, …, 2, 2, ….
    let steps = TOKENS / TILE * (TOKENS / STEP + 1.0) / 2.0 * HEADS_KV;
    let time = gpu.microseconds(steps * clocks / (f64::from(gpu.multiprocessors) * resident as f64));
    table.add_rate(row.to_owned(), 1, work, time);
    Ok(())
}
