//! A decode step of a sparse layer, one sequence.

use super::select::{SCORED, SUMMED};
use super::{BLOCK, DIM, ELEMENT, HEADS, HEADS_KV, K, LISTED, M, Table, Unit, Work};
use crate::machine::Free;
use crate::{Kernels, Problem};

/// Rows of a step of selection.
const STEP: f64 = 64.0;
/// Steps that a round of `sparse_attention_values` takes.
const ROUND: f64 = 8.0;

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
    let scores = kernels.unit("decode_scores", gpu.arch)?.on(gpu)?.clocks()?;
    let values = kernels.unit("decode_values", gpu.arch)?.on(gpu)?.clocks()?;
    let work = Work {
        flop: 4.0 * DIM * HEADS * LISTED * BLOCK,
        bytes: 2.0 * HEADS_KV * LISTED * BLOCK * DIM * ELEMENT,
    };
    let clocks = scores + LISTED / ROUND * values;
    let name = "decode_attend_us".to_owned();
    table.add_time(name, Unit::Microseconds, 2, work, gpu.microseconds(clocks));
    Ok(())
}
