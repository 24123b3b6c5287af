//! What a token's scores and list do not depend on.

use crate::{compress, inputs, times};
use half::bf16;
use sala_kernels::reference::select_blocks::Config;
use sala_kernels::{AttentionShape, Buffer, DType, Keys, SelectBlocksArgs, Sequences, SparseLayer, Tensor};
use sala_testkit::devices::{all_levels, hopper_host, host};
use sala_testkit::memory::Packing;
use sala_testkit::operations::select_blocks::cases::{SelectionInputs, small_config};
use sala_testkit::problem::{assert_same_bits, launch, run};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

#[test]
fn bits_depend_on_neither_the_batch_nor_the_chunks() {
    for machine in all_levels() {
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

/// Long enough that queues are cut, and rows left out that cannot count where scores are not asked for.
fn long_config(heads_q: usize, dim: usize) -> Config {
    Config {
        block_size: 32,
        topk: 8,
        ..small_config(heads_q, 1, dim)
    }
}

#[test]
fn kernels_of_all_levels_give_the_same_bits() {
    let [base, hopper] = [host(), hopper_host()];
    for (heads_q, dim, queries) in [(16, 128, 21), (27, 64, 9), (5, 64, 40)] {
        for factor in [1.0, 6.0] {
            let mut inputs = inputs(Precision::Bf16, long_config(heads_q, dim), &[queries], &[32 * 330]);
            inputs.k = times(&inputs.k, factor);
            let keys = compress(&inputs, &base);
            for blocks in [None, Some(inputs.blocks())] {
                let problem = inputs.select(&keys, blocks);
                let what = format!("{heads_q} heads, {dim} channels, keys times {factor}, scores of {blocks:?}");
                assert_same_bits(&run(&problem, &base), &run(&problem, &hopper), &what);
            }
        }
    }
}

/// All heads of all tokens look for the same.
#[test]
fn exponentials_that_cannot_count_are_left_out() {
    let machine = hopper_host();
    let config = long_config(16, 64);
    let mut inputs = inputs(Precision::Bf16, config, &[16], &[32 * 1600]);
    let row = inputs.q.to_f64()[..config.dim].to_vec();
    inputs.q = Values::round(Precision::Bf16, row.iter().copied().cycle().take(16 * 16 * config.dim));
    let keys = compress(&inputs, &machine);
    let count = |blocks| {
        machine.stream.take_counters();
        let got = run(&inputs.select(&keys, blocks), &machine);
        (machine.stream.take_counters().exponentials as f64, got.indices)
    };
    let (all, expected) = count(Some(inputs.blocks()));
    let (some, indices) = count(None);
    assert_eq!(indices, expected);
    // Half of them are for sums, which need all.
    assert!(some < 0.7 * all, "{some} of {all} exponentials");
}

#[test]
fn bits_do_not_depend_on_where_rows_lie() {
    for machine in all_levels() {
        let plain = inputs(
            Precision::F16,
            small_config(6, 3, 64),
            &[9, 0, 1, 4],
            &[800, 65, 1000, 300],
        );
        let select = |inputs: &SelectionInputs| {
            let keys = compress(inputs, &machine);
            run(&inputs.select(&keys, Some(plain.blocks())), &machine)
        };
        let expected = select(&plain);
        for packing in [Packing::Separate, Packing::HeadMajor, Packing::Fused] {
            for spare in [None, Some(0), Some(70)] {
                let mut other = plain.clone();
                other.packing = packing;
                if let Some(spare) = spare {
                    other.batch = other.batch.cached(spare);
                }
                let what = format!("{}: {packing:?}, caches with {spare:?} to spare", machine.name);
                assert_same_bits(&expected, &select(&other), &what);
            }
        }
    }
}

/// The logits are those of q times the scale times the factor, whichever of the three has the sign.
#[test]
fn signs_of_scale_factor_and_query_are_one() {
    const TOKENS: usize = 24;
    for machine in all_levels() {
        let plain = inputs(Precision::Bf16, small_config(6, 1, 64), &[TOKENS], &[1000]);
        let select = |scale: f32, sign: fn(usize) -> f32, q: &Values| {
            let mut inputs = plain.clone();
            inputs.config.scale = scale;
            inputs.scale_factor = Some((0..TOKENS).map(sign).collect());
            inputs.q = q.clone();
            run(
                &inputs.select(&compress(&inputs, &machine), Some(plain.blocks())),
                &machine,
            )
        };
        let scale = plain.config.scale;
        let negated = times(&plain.q, -1.0);
        let alternate = |token: usize| if token.is_multiple_of(2) { 1.0 } else { -1.0 };
        let row = plain.config.heads_q * 64;
        let numbers = plain.q.to_f64().into_iter().enumerate();
        let signed = numbers.map(|(i, x)| x * f64::from(alternate(i / row)));
        let alternating = Values::round(Precision::Bf16, signed);
        let expected = run(
            &plain.select(&compress(&plain, &machine), Some(plain.blocks())),
            &machine,
        );
        for (got, what) in [
            (select(-scale, |_| -1.0, &plain.q), "scale and factor"),
            (select(scale, |_| -1.0, &negated), "factor and query"),
            (select(-scale, |_| 1.0, &negated), "scale and query"),
            (select(scale, alternate, &alternating), "factors and queries"),
        ] {
            assert_same_bits(&expected, &got, &format!("{}: signs of {what}", machine.name));
        }
        let other = select(scale, |_| -1.0, &plain.q);
        assert_ne!(other.indices, expected.indices, "a sign changes lists");
    }
}

/// K1 and K2 are tensors of their own: each is read by its own strides.
#[test]
fn compressed_keys_may_lie_apart_from_one_another() {
    const KEYS: usize = 1200;
    let shape = AttentionShape {
        heads_q: 4,
        heads_kv: 2,
        dim: 64,
    };
    let layer = SparseLayer::builder(DType::Bf16, shape, 0)
        .topk(7)
        .local_blocks(2)
        .build()
        .unwrap();
    let [rows1, rows2] = [layer.k1_rows(KEYS), layer.k2_rows(KEYS)];
    // Strides of rows and heads: rows of all heads, the same with gaps, one head after the other, and that with gaps.
    let layouts = |rows: usize| {
        [
            [128, 64],
            [128 + 72, 64],
            [64, rows * 64 + 8],
            [64 + 16, (rows + 3) * 80],
        ]
    };
    for machine in all_levels() {
        let buffer = |values: &[bf16]| Buffer::from_slice(&machine.device, values).unwrap();
        let number = |seed: usize, i: usize| bf16::from_f32((i * 7919 % 211 + seed * 31) as f32 % 211.0 / 50.0 - 2.0);
        // The rows `[rows, 2, 64]` as a layout has them.
        let keys = |seed: usize, rows: usize, [row_stride, head_stride]: [usize; 2]| {
            let mut values = vec![bf16::NAN; (rows - 1) * row_stride + head_stride + 64];
            for i in 0..rows * 128 {
                let (row, head, channel) = (i / 128, i / 64 % 2, i % 64);
                values[row * row_stride + head * head_stride + channel] = number(seed, i);
            }
            buffer(&values)
        };
        let q = buffer(&(0..3 * 4 * 64).map(|i| number(3, i)).collect::<Vec<_>>());
        let bounds = |end: usize| Buffer::from_slice(&machine.device, &[0, end as i32]).unwrap();
        let (queries, lengths) = (bounds(3), bounds(KEYS));
        let select = |layout1: [usize; 2], layout2: [usize; 2]| {
            let (k1, k2) = (keys(1, rows1, layout1), keys(2, rows2, layout2));
            let view = |buffer: &Buffer, rows: usize, [row_stride, head_stride]: [usize; 2]| {
                let (address, strides) = (buffer.address(), [row_stride, head_stride, 1]);
                // SAFETY: the buffers outlive the launch, which has ended when they are dropped.
                unsafe { Tensor::from_raw(&machine.device, address, DType::Bf16, &[rows, 2, 64], &strides) }.unwrap()
            };
            let mut indices = Buffer::new(&machine.device, 3 * 2 * layer.list_len() * 4).unwrap();
            let mut scores = Buffer::new(&machine.device, 3 * 2 * 19 * 4).unwrap();
            let mut args = SelectBlocksArgs::new(
                q.tensor(DType::Bf16, &[3, 4, 64]).unwrap(),
                view(&k1, rows1, layout1),
                Some(view(&k2, rows2, layout2)),
                Sequences::new(
                    queries.tensor(DType::I32, &[2]).unwrap(),
                    Keys::packed(lengths.tensor(DType::I32, &[2]).unwrap()),
                ),
                None,
                indices.tensor_mut(DType::I32, &[3, 2, layer.list_len()]).unwrap(),
            );
            args.scores = Some(scores.tensor_mut(DType::F32, &[3, 2, 19]).unwrap());
            launch(&machine, &layer, args).unwrap();
            (indices.read::<i32>().unwrap(), scores.read::<u32>().unwrap())
        };
        let expected = select([128, 64], [128, 64]);
        assert!(expected.1.iter().all(|&score| f32::from_bits(score) > 0.0));
        for layout1 in layouts(rows1) {
            for layout2 in layouts(rows2) {
                let what = format!("{}: {layout1:?} and {layout2:?}", machine.name);
                assert!(select(layout1, layout2) == expected, "{what}");
            }
        }
    }
}
