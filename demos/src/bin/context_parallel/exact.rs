//! Every rank sees all keys before its own: prompts by gathering keys, decode steps by merging outputs.

use crate::prompt::SHAPE;
use crate::rank::Rank;
use demos::Failure;
use demos::array::Array;
use half::bf16;
use sala_kernels::{DType, Entry, Keys, Merge, MergeArgs, Sequences};
use std::slice::from_ref;

/// Outputs of the rank's tokens. Gathered keys stay where they are: parts are runs of pages, and a table says in which order they are a sequence.
/// Each token has the bits that it has on one device, since those do not depend on how a prompt is cut or where keys lie.
pub fn prefill(rank: &mut Rank<'_>) -> Result<Vec<bf16>, Failure> {
    let (layout, ranges) = (rank.layout, rank.ranges());
    let parts = layout.parts_of(rank.index());
    let (q, own) = (rank.queries(&ranges)?, rank.keys(&ranges)?);
    let all = rank.gather(&own)?;

    let page_size = (1 << layout.part_len().trailing_zeros()).min(1024);
    let pages_per_part = layout.part_len() / page_size;
    let pages = layout.parts() * pages_per_part;
    let page = |index: usize| layout.place(index / pages_per_part) * pages_per_part + index % pages_per_part;
    let table: Vec<i32> = (0..parts.len() * pages)
        .map(|index| page(index % pages) as i32)
        .collect();
    let table = rank.array(&table, &[parts.len(), pages])?;
    let seqlens_k = rank.list(parts.iter().map(|&part| layout.range(part).end))?;
    let cut = rank.list((0..=parts.len()).map(|part| part * layout.part_len()))?;
    let sequences = Sequences::new(cut.view()?, Keys::paged(seqlens_k.view()?, table.view()?));
    let store = [pages, page_size, SHAPE.heads_kv, SHAPE.dim];
    let (k, v) = (all.k.shaped(&store)?, all.v.shaped(&store)?);
    let [out, _] = rank.attend_as(&q, k, v, sequences, Entry::Prefill)?;
    Ok(out.read()?)
}

/// The output of the prompt's last token, on every rank: each attends to the keys that it has, and all merge what all have, in the order of ranks.
pub fn decode(rank: &mut Rank<'_>) -> Result<Vec<bf16>, Failure> {
    let (ranges, last) = (rank.ranges(), rank.prompt.tokens - 1..rank.prompt.tokens);
    let (q, own) = (rank.queries(from_ref(&last))?, rank.keys(&ranges)?);
    let (cut, count) = (rank.list([0, 1])?, rank.list([0, own.k.shape()[0]])?);
    let sequences = Sequences::new(cut.view()?, Keys::packed(count.view()?));
    let [out, lse] = rank.attend_as(&q, own.k.view()?, own.v.view()?, sequences, Entry::Decode)?;

    let (outs, lses) = (rank.exchange.gather::<bf16>(&out)?, rank.exchange.gather::<f32>(&lse)?);
    let merge = Merge::new(DType::Bf16)?;
    let side = |index: usize| -> Result<_, Failure> {
        let row = index..index + 1;
        Ok(Some((outs.rows(&row)?, lses.rows(&row)?)))
    };
    let (mut out, mut lse) = (zeros_like::<bf16>(rank, &out)?, zeros_like::<f32>(rank, &lse)?);
    // The first is merged with nothing, which is itself.
    lse.write(&[f32::NEG_INFINITY; SHAPE.heads_q])?;
    for index in 0..rank.layout.ranks {
        let args = MergeArgs::new(None, side(index)?, out.view_mut()?, lse.view_mut()?);
        rank.meter.run("merge", &merge, args)?;
    }
    Ok(out.read()?)
}

fn zeros_like<T: sala_kernels::Element>(rank: &Rank<'_>, array: &Array) -> sala_kernels::Result<Array> {
    Array::zeros::<T>(&rank.meter.device, array.shape())
}
