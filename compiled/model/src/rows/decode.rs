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
/// Blocks that score on each multiprocessor, and pieces of K1 that each takes at most.
const BLOCKS_EACH: f64 = 4.0;
const MOST_ROUNDS: f64 = 4.0;

/// What a GPU's first blocks load, a piece of 128 rows on each of about a hundred multiprocessors.
const FIRST_BYTES: f64 = 100.0 * PIECE * DIM * ELEMENT;

pub(super) fn add_rows(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    let gpu = table.gpu;
    // Three launches, of which the first two may have more blocks than multiprocessors.
    for (name, tokens) in [("128k", 128.0 * K), ("1m", M)] {
        let bytes = |rows: f64| rows * HEADS_KV * DIM * ELEMENT;
        let [scored, summed] = [SCORED, SUMMED].map(|stride| tokens / stride);
        let work = Work {
            flop: 2.0 * DIM * HEADS * (scored + summed),
            bytes: bytes(scored + summed),
        };
        // Beyond what its first blocks take, a launch waits for memory.
        let more = |rows: f64| (bytes(rows) - FIRST_BYTES).max(0.0);
        let scores = format!("decode_block_scores_{name}");
        let microseconds = Launch::of_sums(HEADS_KV, summed, more(summed)).price(kernels, gpu)?
            + Launch::of_scores(&scores, HEADS_KV, scored, more(scored), gpu).price(kernels, gpu)?
            + Launch::of(&format!("decode_lists_{name}"), HEADS_KV, 0.0).price(kernels, gpu)?;
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
    let [scored, summed] = [SCORED, SUMMED].map(|stride| 128.0 * K / stride);
    let bytes = |rows: f64| heads * rows * DIM * ELEMENT;
    let select = Launch::of_sums(heads, summed, bytes(summed)).price(kernels, gpu)?
        + Launch::of_scores("decode_block_scores_128k", heads, scored, bytes(scored), gpu).price(kernels, gpu)?
        + Launch::of("decode_lists_128k", heads, 0.0).price(kernels, gpu)?;
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
    let attend = Launch::of("decode_pieces", heads * pieces, work.bytes + partial).price(kernels, gpu)?
        + Launch::of("decode_merge", BATCH * HEADS, partial).price(kernels, gpu)?;
    table.add_time("decode_attend_us_b64".to_owned(), Unit::Microseconds, 2, work, attend);
    Ok(())
}

/// A launch whose pieces follow each other on all multiprocessors: the first ones from end to end, the others as they come or as memory has their bytes.
struct Launch<'n> {
    /// The unit of a block of one piece.
    unit: &'n str,
    pieces: f64,
    /// Blocks, which may share the pieces.
    blocks: f64,
    /// What the pieces wait for.
    bytes: f64,
}

impl<'n> Launch<'n> {
    /// One whose blocks have a piece each.
    fn of(unit: &'n str, pieces: f64, bytes: f64) -> Self {
        Self {
            unit,
            pieces,
            blocks: pieces,
            bytes,
        }
    }

    /// m and Z of so many rows for each head.
    fn of_sums(heads: f64, rows: f64, bytes: f64) -> Self {
        Self::of("decode_sums", heads * (rows / PIECE).ceil(), bytes)
    }

    /// Scores of so many rows for each head: as many blocks as `score_blocks` of src/operations/select_blocks/split.rs says.
    fn of_scores(unit: &'n str, heads: f64, rows: f64, bytes: f64, gpu: &Gpu) -> Self {
        let pieces = (rows / 4.0 / PIECE_BLOCKS).ceil();
        let room = (BLOCKS_EACH * f64::from(gpu.multiprocessors) / heads).floor();
        Self {
            blocks: heads * room.clamp((pieces / MOST_ROUNDS).ceil(), pieces),
            ..Self::of(unit, heads * pieces, bytes)
        }
    }

    /// Microseconds.
    fn price(&self, kernels: &Kernels, gpu: &'static Gpu) -> Result<f64, Problem> {
        let [pieces, blocks] = [self.pieces, self.blocks].map(|count| count / f64::from(gpu.multiprocessors));
        let turnover = |unit| turnover(kernels, gpu, unit, blocks);
        let rounds = pieces / blocks;
        let mut of_block = turnover(self.unit)?;
        if rounds > 1.0 {
            let further = turnover("decode_block_scores_rounds")? - turnover("decode_block_scores_128k")?;
            of_block += (rounds - 1.0) * further / (MOST_ROUNDS - 1.0);
        }
        let followers = gpu.microseconds((pieces - 1.0).max(0.0) / rounds * of_block);
        let first = kernels.unit(self.unit, gpu.arch)?.on(gpu)?.clocks()?;
        Ok(gpu.microseconds(first) + followers.max(gpu.memory_microseconds(self.bytes)))
    }
}

/// Clocks from the end of one block to that of the next on a multiprocessor that takes so many in all.
fn turnover(kernels: &Kernels, gpu: &'static Gpu, name: &str, blocks: f64) -> Result<f64, Problem> {
    let unit = kernels.unit(name, gpu.arch)?;
    let description = unit.description();
    let registers = kernels.resources(&description.kernel, gpu.arch)?.registers;
    let shared = description.shared_memory.unwrap_or(0);
    let resident = gpu.resident_blocks(registers, description.warp_count(), shared);
    if resident == 0 {
        let what = format!("{name} does not fit a multiprocessor of {}", gpu.name);
        return Err(Problem::misfit(what));
    }
    unit.on(gpu)?.turnover(resident.min(blocks.ceil() as usize))
}
