//! A decode step of a sparse layer, one sequence.

use super::select::{SCORED, SUMMED};
use super::{BLOCK, DIM, ELEMENT, HEADS, HEADS_KV, K, LISTED, M, Table, Unit, Work};
use crate::machine::Free;
use crate::{Kernels, Problem};

/// Rows of a step of selection.
const STEP: f64 = 64.0;

pub(super) fn add_rows(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    let gpu = table.gpu;
    // One warp of one block for each kv head works, the others help to load.
    let one_warp = |name: &str| {
        kernels
            .unit(name, gpu.arch)?
            .on(gpu)?
            .clocks_with(1, 1, Free::default())
    };
    let (sum, score) = (one_warp("select_sum")?, one_warp("select_score")?);
    for (name, tokens) in [("128k", 128.0 * K), ("1m", M)] {
        let rows = tokens / SCORED + tokens / SUMMED;
        let work = Work {
            flop: 2.0 * DIM * HEADS * rows,
            bytes: rows * HEADS_KV * DIM * ELEMENT,
        };
        let clocks = tokens / SUMMED / STEP * sum + tokens / SCORED / STEP * score;
        let name = format!("decode_select_us_{name}");
        table.add_time(name, Unit::Microseconds, 1, work, gpu.microseconds(clocks));
    }
    // A list of 96 blocks has 24 pieces for each kv head, and 32 heads are merged: every block has a multiprocessor to itself.
    let pieces = kernels.unit("decode_pieces", gpu.arch)?.on(gpu)?.clocks()?;
    let merge = kernels.unit("decode_merge", gpu.arch)?.on(gpu)?.clocks()?;
    // Copies are priced as if L2 had the keys, which come from memory: first K, with half of V, then the other half.
    let from_memory = 2.0 * (gpu.memory_latency - gpu.l2_latency);
    let work = Work {
        flop: 4.0 * DIM * HEADS * LISTED * BLOCK,
        bytes: 2.0 * HEADS_KV * LISTED * BLOCK * DIM * ELEMENT,
    };
    let clocks = pieces + from_memory + merge;
    let name = "decode_attend_us".to_owned();
    table.add_time(name, Unit::Microseconds, 2, work, gpu.microseconds(clocks));
    Ok(())
}
