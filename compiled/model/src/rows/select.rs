//! Selection of a prefill.

use super::sparse::LENGTHS;
use super::{BLOCK, DIM, ELEMENT, HEADS, HEADS_KV, LISTED, Table, Unit, Work};
use crate::{Gpu, Kernels, Problem};

/// Query tokens of a tile, and rows of a step.
const TOKENS: f64 = 16.0;
const STEP: f64 = 64.0;
/// Tokens from one row of K1, which is scored, to the next, and from one row of K2, which the normaliser is summed over.
pub(super) const SCORED: f64 = BLOCK / 4.0;
pub(super) const SUMMED: f64 = BLOCK;

/// What selection over a prefill of so many tokens asks for.
pub(super) fn work(tokens: f64) -> Work {
    let rows = tokens / SCORED + tokens / SUMMED;
    Work {
        // A token sees half of the rows on average.
        flop: 2.0 * DIM * HEADS * tokens * rows / 2.0,
        // q, both kinds of compressed keys, lists.
        bytes: (tokens * HEADS + rows * HEADS_KV) * DIM * ELEMENT + tokens * HEADS_KV * LISTED * 4.0,
    }
}

/// Clocks of a tensor pipe for the products of a step: rows × columns of 16 heads for each token.
fn step_floor(gpu: &Gpu) -> f64 {
    2.0 * DIM * STEP * TOKENS * HEADS / HEADS_KV / gpu.warp_product_rate
}

/// Adds the kernel whose products are those of warpgroups, whose steps are twice as long. How many steps have rows that may enter a list, their data
/// decide; a prefill is taken to have half of them.
pub(super) fn add_rows_of_groups(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    let gpu = table.gpu;
    let price = |name| -> Result<f64, Problem> { Ok(kernels.unit(name, gpu.arch)?.on(gpu)?.clocks()? / 2.0) };
    let [score, skip] = [price("select_group_score")?, price("select_group_skip")?];
    // m and Z are taken to cost what they cost the base kernel.
    let sum = kernels.unit("select_sum", gpu.arch)?.on(gpu)?.clocks()?;
    let floor = 2.0 * DIM * STEP * TOKENS * HEADS / HEADS_KV / gpu.warpgroup_product_rate;
    for (name, clocks) in [("step", score), ("skip", skip)] {
        table.add(
            format!("select_prefill_sm90a_{name}_clk"),
            Unit::Clocks,
            1,
            clocks,
            floor,
        );
    }
    for (name, tokens) in LENGTHS {
        let tiles = tokens / TOKENS * HEADS_KV;
        let steps = |stride: f64| tokens / 2.0 / stride / STEP;
        let clocks = tiles * (steps(SCORED) * (score + skip) / 2.0 + steps(SUMMED) * sum);
        let time = gpu.microseconds(clocks / f64::from(gpu.multiprocessors));
        table.add_rate(
            format!("select_prefill_sm90a_useful_tflops_{name}"),
            1,
            work(tokens),
            time,
        );
    }
    Ok(())
}

/// Adds a step and whole prefills. Returns the microseconds of each length.
pub(super) fn add_rows(table: &mut Table, kernels: &Kernels) -> Result<[f64; 3], Problem> {
    let gpu = table.gpu;
    let score = kernels.unit("select_score", gpu.arch)?.on(gpu)?.clocks()?;
    let sum = kernels.unit("select_sum", gpu.arch)?.on(gpu)?.clocks()?;
    table.add(
        "select_prefill_step_clk".to_owned(),
        Unit::Clocks,
        1,
        score,
        step_floor(gpu),
    );
    let mut times = [0.0; 3];
    for ((name, tokens), time) in LENGTHS.into_iter().zip(&mut times) {
        let tiles = tokens / TOKENS * HEADS_KV;
        // A tile sees half of the rows on average.
        let steps = |stride: f64| tokens / 2.0 / stride / STEP;
        let clocks = tiles * (steps(SCORED) * score + steps(SUMMED) * sum);
        *time = gpu.microseconds(clocks / f64::from(gpu.multiprocessors));
        table.add_time(
            format!("select_prefill_ms_{name}"),
            Unit::Milliseconds,
            1,
            work(tokens),
            *time,
        );
    }
    Ok(times)
}
