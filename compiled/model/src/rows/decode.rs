//! A decode step of a sparse layer, one sequence.

use super::select::{SCORED, SUMMED};
use super::{BLOCK, DIM, ELEMENT, HEADS, HEADS_KV, K, LISTED, M, Table, Unit, Work};
use crate::{Kernels, Problem};

/// What a GPU's first blocks load, a piece of 128 rows on each of about a hundred multiprocessors.
const FIRST_BYTES: f64 = 100.0 * 128.0 * DIM * ELEMENT;

pub(super) fn add_rows(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    let gpu = table.gpu;
    // Three launches. Of the first two the blocks are many: what one takes, and the bytes of all of them.
    let clocks = |name: &str| kernels.unit(name, gpu.arch)?.on(gpu)?.clocks();
    let sums = clocks("decode_sums")?;
    for (name, tokens) in [("128k", 128.0 * K), ("1m", M)] {
        let bytes = |rows: f64| rows * HEADS_KV * DIM * ELEMENT;
        let rows = tokens / SCORED + tokens / SUMMED;
        let work = Work {
            flop: 2.0 * DIM * HEADS * rows,
            bytes: bytes(rows),
        };
        let scores = clocks(&format!("decode_block_scores_{name}"))?;
        let lists = clocks(&format!("decode_lists_{name}"))?;
        // Beyond what its first blocks take, a launch waits for memory.
        let more = |rows: f64| (gpu.memory_microseconds(bytes(rows)) - gpu.memory_microseconds(FIRST_BYTES)).max(0.0);
        let microseconds = gpu.microseconds(sums + scores + lists) + more(tokens / SUMMED) + more(tokens / SCORED);
        let name = format!("decode_select_us_{name}");
        table.add_time(name, Unit::Microseconds, 3, work, microseconds);
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
