//! Causal attention over all keys.

use super::{DIM, ELEMENT, HEADS, HEADS_KV, K, Table, Work};
use crate::machine::Free;
use crate::{Gpu, Kernels, Problem};

const TOKENS: f64 = 8.0 * K;
/// Keys of a step.
const STEP: f64 = 64.0;

/// A kernel that attends to all keys.
struct Kernel {
    /// A step of one of its tiles.
    unit: &'static str,
    /// Query tokens of a tile.
    tile: f64,
}

const WIDE: Kernel = Kernel {
    unit: "dense_wide_step",
    tile: 16.0,
};
const NARROW: Kernel = Kernel {
    unit: "dense_step",
    tile: 8.0,
};
const OF_GROUPS: Kernel = Kernel {
    unit: "dense_group_step",
    tile: 8.0,
};

/// Adds the kernel that is launched: that of wide tiles where they fit.
pub(super) fn add_rows(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    let fits = resident(table.gpu, kernels, &WIDE)? > 0;
    add_rate(
        table,
        kernels,
        if fits { WIDE } else { NARROW },
        "dense_prefill_tflops_8k",
    )
}

/// Adds the kernel whose products are those of warpgroups.
pub(super) fn add_rows_of_groups(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    add_rate(table, kernels, OF_GROUPS, "dense_prefill_sm90a_tflops_8k")
}

/// Blocks that a multiprocessor holds.
fn resident(gpu: &Gpu, kernels: &Kernels, kernel: &Kernel) -> Result<usize, Problem> {
    let unit = kernels.unit(kernel.unit, gpu.arch)?;
    let description = unit.description();
    let registers = kernels.resources(&description.kernel, gpu.arch)?.registers;
    let shared = description.shared_memory.unwrap_or(0);
    Ok(gpu.resident_blocks(registers, description.warp_count(), shared))
}

fn add_rate(table: &mut Table, kernels: &Kernels, kernel: Kernel, row: &str) -> Result<(), Problem> {
    let gpu = table.gpu;
    let Kernel { unit: step, tile } = kernel;
    let resident = resident(gpu, kernels, &kernel)?;
    if resident == 0 {
        return Err(Problem::misfit(format!(
            "{step} does not fit a multiprocessor of {}",
            gpu.name
        )));
    }
    let unit = kernels.unit(step, gpu.arch)?;
    // Of a step of each of them.
    let clocks = unit.on(gpu)?.clocks_with(usize::MAX, resident, Free::default())?;
    let work = Work {
        flop: 4.0 * DIM * HEADS * TOKENS * (TOKENS + 1.0) / 2.0,
        bytes: TOKENS * (2.0 * HEADS + 2.0 * HEADS_KV) * DIM * ELEMENT,
    };
    // A tile takes every step up to that of its last token: 1, 1, …, 2, 2, ….
    let steps = TOKENS / tile * (TOKENS / STEP + 1.0) / 2.0 * HEADS_KV;
    let time = gpu.microseconds(steps * clocks / (f64::from(gpu.multiprocessors) * resident as f64));
    table.add_rate(row.to_owned(), 1, work, time);
    Ok(())
}
