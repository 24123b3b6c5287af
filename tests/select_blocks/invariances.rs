//! What a token's scores and list do not depend on.

use crate::{compress, inputs};
use sala_testkit::devices::all;
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::{assert_same_bits, run};
use sala_testkit::tolerance::Precision;

#[test]
fn bits_depend_on_neither_the_batch_nor_the_chunks() {
    for machine in all() {
        for heads_q in [2, 12] {
            let whole = inputs(Precision::Bf16, small_config(heads_q, 1, 64), &[300, 600], &[700, 600]);
            let blocks = Some(whole.blocks());
            let expected = run(&whole.select(&compress(&whole, &machine), blocks), &machine);
            // The last of 13 queries of each sequence, cut at several places.
            for keys in [[700, 600], [699, 1], [513, 577], [413, 64]] {
                let queries = keys.map(|keys| keys.min(13));
                let chunk = whole.chunk(&keys, &queries);
                let got = run(&chunk.select(&compress(&chunk, &machine), blocks), &machine);
                let total = queries[0] + queries[1];
                // The chunk ends so many tokens before the sequence does.
                let ends = [300 - (700 - keys[0]), 300 + 600 - (600 - keys[1])];
                for (part, end, queries) in [
                    (0..queries[0], ends[0], queries[0]),
                    (queries[0]..total, ends[1], queries[1]),
                ] {
                    let what = format!("{}: the chunk of {keys:?} keys, {part:?}", machine.name);
                    let expected = expected.part(900, end - queries..end);
                    assert_same_bits(&expected, &got.part(total, part), &what);
                }
            }
        }
    }
}
