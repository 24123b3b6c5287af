//! A linear layer: each rank scans its parts from zero, and corrects its outputs by the state that its parts begin with.

use crate::prompt::{DECAY, LINEAR, rows};
use crate::rank::Rank;
use demos::Failure;
use demos::array::Array;
use half::bf16;
use sala_kernels::{
    CopyStates, CopyStatesArgs, DType, LinearAttention, LinearCorrectArgs, LinearPrefillArgs, MergeStates,
    MergeStatesArgs, SumDecayArgs,
};

const STATE: [usize; 3] = [LINEAR.heads_q, LINEAR.dim_k, LINEAR.dim_v];

/// Outputs of the rank's tokens, and the state after the whole prompt, which every rank has then.
pub fn prefill(rank: &mut Rank<'_>) -> Result<(Vec<bf16>, Vec<f32>), Failure> {
    let layer = LinearAttention::builder(DType::Bf16, LINEAR, DECAY).build()?;
    let (layout, ranges, device) = (rank.layout, rank.ranges(), rank.meter.device.clone());
    let parts = layout.parts_of(rank.index());
    let (q, keys) = (rank.queries(&ranges)?, rank.keys(&ranges)?);
    let g = rows(&rank.prompt.log_decay, rank.prompt.tokens, &ranges);
    let tokens = q.shape()[0];
    let log_decay = rank.array(&g, &[tokens, LINEAR.heads_q])?;
    let cut = rank.list((0..=parts.len()).map(|part| part * layout.part_len()))?;

    // What each of its parts adds to a state, what it leaves of one, and outputs as if there were none before it.
    let mut out = Array::zeros::<bf16>(&device, &[tokens, LINEAR.heads_q, LINEAR.dim_v])?;
    let mut adds = Array::zeros::<f32>(&device, &states(parts.len()))?;
    let own_slots = rank.list(0..parts.len())?;
    let [q_rows, k, v, cu_seqlens, decay] = [&q, &keys.k, &keys.v, &cut, &log_decay].map(Array::view);
    let mut args = LinearPrefillArgs::new(q_rows?, k?, v?, cu_seqlens?, Some(decay?), out.view_mut()?);
    args.state = Some(adds.view_mut()?);
    args.state_out = Some(own_slots.view()?);
    args.max_seqlen_q = Some(layout.part_len());
    let bytes = layer.workspace_size(parts.len(), tokens, layout.part_len());
    let mut workspace = Array::zeros::<u32>(&device, &[bytes.div_ceil(4)])?;
    args.workspace = Some(workspace.view_mut()?);
    rank.meter.run("linear_prefill", &layer, args)?;
    let mut cumulative = Array::zeros::<f32>(&device, &[tokens, LINEAR.heads_q])?;
    let mut total = Array::zeros::<f32>(&device, &[parts.len(), LINEAR.heads_q])?;
    let (sums, totals) = (cumulative.view_mut()?, total.view_mut()?);
    let args = SumDecayArgs::new(cut.view()?, Some(log_decay.view()?), sums, totals);
    rank.meter.run("sum_decay", &layer, args)?;

    // All parts, in their order.
    let adds = gather_in_order(rank, &adds, &states(1))?;
    let total = gather_in_order(rank, &total, &[1, 1, 1, LINEAR.heads_q])?;
    let all = layout.parts();
    let ordered = match layout.is_zigzag {
        false => 0..all,
        true => all..2 * all,
    };

    // The states before its parts, and after all of them.
    let mut before = Array::zeros::<f32>(&device, &states(parts.len() + 1))?;
    let slot = |part: usize| parts.iter().position(|&own| own == part).map_or(-1, |slot| slot as i32);
    let destinations: Vec<i32> = (0..all).map(slot).chain([parts.len() as i32]).collect();
    let destinations = rank.array(&destinations, &[all + 1, 1])?;
    let from_zero = rank.array(&[-1], &[1])?;
    let total_rows = total
        .shaped(&[total.shape()[0], LINEAR.heads_q])?
        .narrow(0, ordered.clone())?;
    let (adds, slots) = (adds.rows(&ordered)?, destinations.view()?);
    let args = MergeStatesArgs::new(adds, total_rows, before.view_mut()?, from_zero.view()?, slots);
    rank.meter.run("merge_states", &MergeStates::new()?, args)?;

    let [q_rows, sums, cu_seqlens, state, slots] = [&q, &cumulative, &cut, &before, &own_slots].map(Array::view);
    let args = LinearCorrectArgs::new(q_rows?, sums?, cu_seqlens?, state?, slots?, out.view_mut()?);
    rank.meter.run("linear_correct", &layer, args)?;
    let last = before
        .read::<f32>()?
        .split_off(parts.len() * STATE.iter().product::<usize>());
    Ok((out.read()?, last))
}

fn states(count: usize) -> [usize; 4] {
    [count, STATE[0], STATE[1], STATE[2]]
}

/// What all ranks have, as it is gathered and, where ranks have parts from either end, behind it in the order of parts. `one` is the shape of one part's.
fn gather_in_order(rank: &mut Rank<'_>, piece: &Array, one: &[usize; 4]) -> Result<Array, Failure> {
    let gathered = rank.exchange.gather::<f32>(piece)?;
    let (layout, all) = (rank.layout, rank.layout.parts());
    if !layout.is_zigzag {
        return Ok(gathered);
    }
    let mut pool = Array::zeros::<f32>(&rank.meter.device, &[2 * all, one[1], one[2], one[3]])?;
    pool.write(&gathered.read::<f32>()?)?;
    let (places, parts) = (
        rank.list((0..all).map(|part| layout.place(part)))?,
        rank.list(all..2 * all)?,
    );
    let args = CopyStatesArgs::new(pool.view_mut()?, places.view()?, parts.view()?);
    rank.meter.run("copy_states", &CopyStates::new()?, args)?;
    Ok(pool)
}
