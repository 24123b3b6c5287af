//! Prefill of a sparse layer: attention over lists, alone and after selection.

use super::lists::{TOKENS, typical_tiles};
use super::{BLOCK, DIM, ELEMENT, HEADS, HEADS_KV, K, LISTED, Table, Unit, Work};
use crate::machine::Free;
use crate::{Kernels, Problem};

/// How many tiles' lists are simulated for a rate.
const TILES: usize = 4;

/// Names of rows, and how much of its list a token shares with the one before it.
const OVERLAPS: [(&str, f64); 4] = [
    ("overlap_90", 0.9),
    ("overlap_70", 0.7),
    ("overlap_50", 0.5),
    ("random", 0.0),
];

/// Names of rows, and tokens.
pub(super) const LENGTHS: [(&str, f64); 3] = [("128k", 128.0 * K), ("256k", 256.0 * K), ("1m", 1024.0 * K)];

/// What the lists of a prefill of so many tokens ask for.
fn work(tokens: f64) -> Work {
    Work {
        flop: 4.0 * DIM * HEADS * tokens * LISTED * BLOCK,
        // q and out; k and v; lists.
        bytes: tokens * (2.0 * HEADS + 2.0 * HEADS_KV) * DIM * ELEMENT + tokens * HEADS_KV * LISTED * 4.0,
    }
}

/// Adds the rates. Returns the microseconds of a token where the overlap is 90 %.
pub(super) fn add_rates(table: &mut Table, kernels: &Kernels) -> Result<f64, Problem> {
    let unit = kernels.unit("sparse_step", table.gpu.arch)?;
    let step = unit.on(table.gpu)?;
    let mut times = Vec::new();
    for (name, overlap) in OVERLAPS {
        // Whole unions: a warp without work in a step is as a token that did not list the block.
        let mut clocks = 0.0;
        for masks in typical_tiles(overlap, TILES) {
            clocks += step.simulate(&masks, Free::default())?.end();
        }
        let tile = table.gpu.microseconds(clocks / TILES as f64);
        let token = tile * HEADS_KV / TOKENS as f64 / f64::from(table.gpu.multiprocessors);
        let tokens = 128.0 * K;
        table.add_rate(
            format!("sparse_prefill_useful_tflops_{name}"),
            1,
            work(tokens),
            token * tokens,
        );
        times.push(token);
    }
    Ok(times[0])
}

/// Adds the rates of the kernel whose products are those of warpgroups: four tokens, of which one that has not listed a block that another has is taken to
/// work on it all the same.
pub(super) fn add_rates_of_groups(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    const GROUP: usize = TOKENS / 2;
    /// The warp that copies.
    const WARPS: usize = TOKENS + 1;
    let unit = kernels.unit("sparse_group_step", table.gpu.arch)?;
    let step = unit.on(table.gpu)?;
    for (name, overlap) in OVERLAPS {
        let mut clocks = 0.0;
        for masks in typical_tiles(overlap, TILES) {
            let warps = masks.iter().map(|tokens| -> [bool; WARPS] {
                std::array::from_fn(|warp| match tokens.chunks(GROUP).nth(warp / GROUP) {
                    Some(group) => group.contains(&true),
                    None => true,
                })
            });
            let warps: Vec<_> = warps.collect();
            clocks += step.simulate(&warps, Free::default())?.end();
        }
        let tile = table.gpu.microseconds(clocks / TILES as f64);
        let token = tile * HEADS_KV / TOKENS as f64 / f64::from(table.gpu.multiprocessors);
        let tokens = 128.0 * K;
        table.add_rate(
            format!("sparse_prefill_sm90a_useful_tflops_{name}"),
            1,
            work(tokens),
            token * tokens,
        );
    }
    Ok(())
}

/// Adds select and attend, given what a token costs to attend and what selection costs at each of [`LENGTHS`].
pub(super) fn add_layers(table: &mut Table, attend: f64, select: [f64; 3]) {
    for ((name, tokens), select) in LENGTHS.into_iter().zip(select) {
        let work = work(tokens).and(super::select::work(tokens));
        let name = format!("sparse_layer_prefill_ms_{name}");
        table.add_time(name, Unit::Milliseconds, 2, work, select + attend * tokens);
    }
}
