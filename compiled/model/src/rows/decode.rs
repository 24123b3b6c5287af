//! A decode step of a sparse layer: one sequence, and many.

use super::select::{SCORED, SUMMED};
use super::{BLOCK, DIM, ELEMENT, HEADS, HEADS_KV, K, LISTED, M, Table, Unit, Work};
use crate::{Gpu, Kernels, Problem};

/// Sequences of a batch.
const BATCH: f64 = 64.0;
/// Rows of a piece, blocks of keys that a piece of K1 scores, and keys of a piece of a list.
const PIECE: f64 = 128.0;
const PIECE_BLOCKS: f64 = 31.0;
const PIECE_KEYS: f64 = 256.0;

/// What a GPU's first blocks load, a piece of 128 rows on each of about a hundred multiprocessors.
const FIRST_BYTES: f64 = 100.0 * PIECE * DIM * ELEMENT;

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
    add_batch(table, kernels, work)
}

/// The same for a batch: launches whose blocks take turns. `one`: what one sequence attends to.
fn add_batch(table: &mut Table, kernels: &Kernels, one: Work) -> Result<(), Problem> {
    let gpu = table.gpu;
    let heads = BATCH * HEADS_KV;
    let launch = |name: &str, blocks: f64, bytes: f64| launch_microseconds(kernels, gpu, name, blocks, bytes);

    let [scored, summed] = [SCORED, SUMMED].map(|stride| 128.0 * K / stride);
    let bytes = |rows: f64| heads * rows * DIM * ELEMENT;
    let select = launch("decode_sums", heads * (summed / PIECE).ceil(), bytes(summed))?
        + launch(
            "decode_block_scores_128k",
            heads * (scored / 4.0 / PIECE_BLOCKS).ceil(),
            bytes(scored),
        )?
        + launch("decode_lists_128k", heads, 0.0)?;
    let work = Work {
        flop: 2.0 * DIM * HEADS * BATCH * (scored + summed),
        bytes: bytes(scored) + bytes(summed),
    };
    table.add_time("decode_select_us_b64".to_owned(), Unit::Microseconds, 3, work, select);

    let work = Work {
        flop: BATCH * one.flop,
        bytes: BATCH * one.bytes,
    };
    let pieces = LISTED * BLOCK / PIECE_KEYS;
    let partial = BATCH * HEADS * pieces * (DIM + 2.0) * 4.0;
    let attend = launch("decode_pieces", heads * pieces, work.bytes + partial)?
        + launch("decode_merge", BATCH * HEADS, partial)?;
    table.add_time("decode_attend_us_b64".to_owned(), Unit::Microseconds, 2, work, attend);
    Ok(())
}

/// A launch of blocks that follow each other on all multiprocessors: the first ones from end to end, the others as they come or as memory has their
/// bytes.
fn launch_microseconds(
    kernels: &Kernels,
    gpu: &'static Gpu,
    name: &str,
    blocks: f64,
    bytes: f64,
) -> Result<f64, Problem> {
    let unit = kernels.unit(name, gpu.arch)?;
    let description = unit.description();
    let registers = kernels.resources(&description.kernel, gpu.arch)?.registers;
    let shared = description.shared_memory.unwrap_or(0);
    let resident = gpu.resident_blocks(registers, description.warp_count(), shared);
    if resident == 0 {
        let what = format!("{name} does not fit a multiprocessor of {}", gpu.name);
        return Err(Problem::misfit(what));
    }
    let of_each = blocks / f64::from(gpu.multiprocessors);
    let resident = resident.min(of_each.ceil() as usize);
    let priced = unit.on(gpu)?;
    let followers = gpu.microseconds((of_each - 1.0).max(0.0) * priced.turnover(resident)?);
    Ok(gpu.microseconds(priced.clocks()?) + followers.max(gpu.memory_microseconds(bytes)))
}
