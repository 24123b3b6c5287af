//! A linear layer: prefill and decode.

use super::{DIM, ELEMENT, HEADS, K, M, Table, Unit, Work};
use crate::machine::Free;
use crate::{Gpu, Kernels, Problem};

/// Tokens of a step.
const STEP: f64 = 32.0;
/// Tokens that a segment has at least, and segments that a sequence has at most.
const SEGMENT: f64 = 4096.0;
const SEGMENTS: f64 = 8.0;
/// Tokens that a segment warms up for, with SALA's slopes: on average, and in the head that forgets slowest.
const WARM_UP: [f64; 2] = [834.0, 4260.0];
/// The kernels by the value channels of a block, the widest first, as the planner tries them.
const SCANS: [(&str, usize); 3] = [("scan_128", 128), ("scan_64", 64), ("scan_32", 32)];

pub(super) fn add_rows(table: &mut Table, kernels: &Kernels) -> Result<(), Problem> {
    for (name, batch, tokens) in [("b1_64k", 1.0, 64.0 * K), ("b1_1m", 1.0, M), ("b4_64k", 4.0, 64.0 * K)] {
        let heads = batch * HEADS;
        let work = Work {
            // The state's update and its product with q; q, k, v and out.
            flop: heads * tokens * 4.0 * DIM * DIM,
            bytes: heads * tokens * 4.0 * DIM * ELEMENT,
        };
        let clocks = scan_clocks(kernels, table.gpu, heads, tokens)?;
        let name = format!("linear_prefill_ms_{name}");
        table.add_time(name, Unit::Milliseconds, 2, work, table.gpu.microseconds(clocks));
    }

    let gpu = table.gpu;
    let chain = gpu.microseconds(kernels.unit("linear_decode", gpu.arch)?.on(gpu)?.clocks()?);
    let work = |batch: f64| Work {
        flop: batch * HEADS * 4.0 * DIM * DIM,
        // The state, read and written in f32; q, k, v and out.
        bytes: batch * HEADS * (2.0 * 4.0 * DIM * DIM + 4.0 * DIM * ELEMENT),
    };
    table.add_time(
        "linear_decode_us_b1".to_owned(),
        Unit::Microseconds,
        1,
        work(1.0),
        chain,
    );
    // At least: the chain of loads of one block, then the bytes of all.
    let all = chain + gpu.memory_microseconds(work(64.0).bytes);
    table.add_time(
        "linear_decode_us_b64".to_owned(),
        Unit::Microseconds,
        1,
        work(64.0),
        all,
    );
    Ok(())
}

/// Clocks of a grid in which every block walks a segment of one head.
fn scan_clocks(kernels: &Kernels, gpu: &'static Gpu, heads: f64, tokens: f64) -> Result<f64, Problem> {
    let multiprocessors = gpu.multiprocessors as usize;
    let segments = (tokens / SEGMENT).floor().clamp(1.0, SEGMENTS);
    let blocks = |channels: usize| (heads * segments) as usize * (DIM as usize / channels);
    // The widest blocks while there is one for every multiprocessor.
    let chosen = SCANS.iter().find(|(_, channels)| blocks(*channels) >= multiprocessors);
    let (name, channels) = *chosen.unwrap_or(&SCANS[SCANS.len() - 1]);
    let unit = kernels.unit(name, gpu.arch)?;
    let resident = gpu.resident_blocks(
        kernels.resources(&unit.description().kernel, gpu.arch)?.registers,
        unit.description().warp_count(),
        unit.description().shared_memory.unwrap_or(0),
    );
    if resident == 0 {
        return Err(Problem::misfit(format!(
            "{name} does not fit a multiprocessor of {}",
            gpu.name
        )));
    }
    let scan = unit.on(gpu)?;
    let clocks = |blocks: usize| match blocks {
        0 => Ok(0.0),
        blocks => scan.clocks_with(usize::MAX, blocks, Free::default()),
    };
    // As many at a time as fit, then the rest.
    let at_once = multiprocessors * resident;
    let waves = (blocks(channels) / at_once) as f64;
    let rest = (blocks(channels) % at_once).div_ceil(multiprocessors);
    let whole = if waves > 0.0 { waves * clocks(resident)? } else { 0.0 };
    // The first segment of a sequence does not warm up.
    let warm_up = kernels.unit("scan_warm_up", gpu.arch)?.on(gpu)?.clocks()?;
    let share = warm_up / kernels.unit("scan_128", gpu.arch)?.on(gpu)?.clocks()?;
    let [mean, longest] = WARM_UP.map(|warm_up| match segments {
        1.0 => tokens / STEP,
        _ => (tokens / segments + share * warm_up * (segments - 1.0) / segments) / STEP,
    });
    Ok((mean * (whole + clocks(rest)?)).max(longest * clocks(1)?))
}
