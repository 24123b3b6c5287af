//! What a token's bits do not depend on.

use crate::{PRECISIONS, assert_same_in_any_batch_and_store};
use sala_kernels::Status;
use sala_testkit::batch::Batch;
use sala_testkit::batch::Storing;
use sala_testkit::devices::{
    Machine, all_variants, all_variants_and_orders, ampere_host, cuda, cuda_at_base, host_with,
};
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, ListCase, attention_cases};
use sala_testkit::operations::sparse_attention::{AttentionProblem, Lists};
use sala_testkit::problem::{Problem, assert_same_bits, compare_with, run};
use sala_testkit::property::{check, seed};
use sala_testkit::tolerance::Precision;

#[test]
fn lists_are_sets() {
    for machine in all_variants() {
        for group in [4, 16] {
            let case = AttentionCase {
                group,
                list_len: 6,
                ..AttentionCase::plain(vec![(40, 300), (1, 500)], seed())
            };
            let check = |tidy: &AttentionProblem, untidy: &AttentionProblem, lists| {
                let (tidy, untidy) = (run(tidy, &machine), run(untidy, &machine));
                assert_eq!(tidy.status, Status::default(), "{}", machine.name);
                assert_eq!(untidy.status, Status::from([0, lists, 0, 0]), "{}", machine.name);
                assert_same_bits(&tidy, &untidy, &machine.name);
            };
            let tidy = case.problem();
            let (untidy, lists) = shuffled(&tidy);
            check(&tidy, &untidy, lists);
            let tidy = case.step().problem();
            let (untidy, lists) = shuffled(&tidy);
            check(&tidy.decode(), &untidy.decode(), lists);
        }
    }
}

/// The same call with a repeat, something that is no block and −1 in each list, in any order; also says how many lists there are.
fn shuffled(problem: &AttentionProblem) -> (AttentionProblem, u32) {
    let list_len = 11;
    let mut numbers = Numbers::new(seed());
    let (mut indices, mut count) = (Vec::new(), 0);
    let lists = problem.lists.as_ref().map(|lists| lists.indices.chunks(lists.list_len));
    for list in lists.into_iter().flatten() {
        let mut list = list.to_vec();
        list.extend([list[0], numbers.pick(&[-7, 8, 1 << 20, i32::MIN]), -1]);
        list.resize(list_len, list[0]);
        for place in (1..list.len()).rev() {
            list.swap(place, numbers.below(place + 1));
        }
        indices.extend(list);
        count += 1;
    }
    let lists = Some(Lists { indices, list_len });
    let problem = AttentionProblem {
        lists,
        ..problem.clone()
    };
    (problem, count)
}

#[test]
fn dense_is_every_block_listed() {
    for machine in all_variants() {
        for (group, block_size) in [(3, 64), (16, 32), (32, 128)] {
            let case = AttentionCase {
                group,
                block_size,
                lists: ListCase::None,
                ..AttentionCase::plain(vec![(50, 200), (1, 129), (70, 70)], seed())
            };
            compare_with_every_block(&case, 200, |problem| problem, &machine);
            let step = AttentionCase {
                lengths: vec![(16, 600), (1, 129), (9, 9)],
                ..case
            };
            compare_with_every_block(&step, 600, |problem| problem.decode(), &machine);
        }
    }
}

/// Compares a dense case, whose longest sequence has so many keys, with lists of all blocks.
fn compare_with_every_block(
    case: &AttentionCase,
    longest: usize,
    entry: impl Fn(AttentionProblem) -> AttentionProblem,
    machine: &Machine,
) {
    let block_size = case.block_size;
    let dense = case.problem();
    let list_len = longest.div_ceil(block_size);
    let every_block = |keys: usize| {
        let blocks = keys.div_ceil(block_size);
        (0..list_len).map(move |block| if block < blocks { block as i32 } else { -1 })
    };
    let lists = |&(queries, keys): &(usize, usize)| (0..queries).flat_map(move |_| every_block(keys));
    let indices = case.lengths.iter().flat_map(lists).collect();
    let listed = AttentionProblem {
        lists: Some(Lists { indices, list_len }),
        ..dense.clone()
    };
    let expected = run(&entry(dense.clone()), machine);
    let found = compare_with(&entry(listed.clone()), &dense.reference(), machine);
    assert_same_bits(&expected, &found, &machine.name);
    // A threshold that no sequence reaches makes the lists meaningless.
    let mut ignored = listed;
    ignored.batch.dense_len = longest + 1;
    if let Some(lists) = &mut ignored.lists {
        lists.indices.fill(i32::MAX);
    }
    let ignored = compare_with(&entry(ignored), &dense.reference(), machine);
    assert_same_bits(&found, &ignored, &machine.name);
}

#[test]
fn any_chunking_gives_the_same_bits() {
    for machine in all_variants() {
        for (group, dim, block_size, precision) in [
            (16, 128, 64, Precision::Bf16),
            (2, 64, 32, Precision::F16),
            (6, 64, 128, Precision::Bf16),
            (32, 64, 64, Precision::F16),
        ] {
            for lists in [ListCase::None, ListCase::Selected] {
                let keys = 331;
                let case = AttentionCase {
                    precision,
                    group,
                    dim,
                    block_size,
                    lists,
                    with_factor: true,
                    with_gate: true,
                    ..AttentionCase::plain(vec![(keys, keys)], seed())
                };
                let mut whole = case.problem();
                // Scores so far apart that maxima rise again and again.
                whole.config.scale *= 8.0;
                let expected = run(&whole, &machine);
                let mut start = 0;
                for chunk in [1, 15, 63, 16, 64, 1, 1, 100].into_iter().cycle() {
                    let end = (start + chunk).min(keys);
                    let got = run(&whole.part(0, start..end, end), &machine);
                    let what = format!("{}: group {group}, tokens {start}..{end}, {lists:?}", machine.name);
                    assert_same_bits(&expected.part(keys, start..end), &got, &what);
                    start = end;
                    if start == keys {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_in_any_batch_and_store() {
    let machines = all_variants();
    check(12, attention_cases(192), |case| {
        assert_same_in_any_batch_and_store(&machines, &case, AttentionProblem::clone);
    });
}

#[test]
fn hints_change_nothing() {
    let without = AttentionCase::plain(vec![(33, 150), (0, 10), (8, 60)], seed()).problem();
    let with = AttentionProblem {
        batch: without.batch.clone().bounded(),
        ..without.clone()
    };
    assert_eq!(with.batch.max_seqlens, [Some(33), Some(150)]);
    for machine in all_variants() {
        let (without, with) = (run(&without, &machine), run(&with, &machine));
        assert_eq!(with.status, Status::default(), "{}", machine.name);
        assert_same_bits(&without, &with, &machine.name);
    }
}

/// NaN in other sequences, past the end of caches, and in blocks that nobody chose stays where it is.
#[test]
fn nan_does_not_leak() {
    for machine in all_variants() {
        for group in [1, 8, 16, 64] {
            let case = AttentionCase {
                group,
                list_len: 2,
                storage: Storing::Cached,
                dim: 64,
                ..AttentionCase::plain(vec![(15, 400), (1, 256), (12, 330)], seed())
            };
            let mut clean = case.problem();
            if let Some(lists) = &mut clean.lists {
                // Tokens of the first and last sequence choose between two blocks, so that most are chosen by none.
                let choices = |index: usize| if index < 30 { [0, 4] } else { [1, 3] };
                let entries = lists.indices.iter_mut().enumerate();
                entries.for_each(|(index, entry)| *entry = choices(index)[index % 2]);
            }
            let mut poisoned = clean.clone();
            let row = clean.config.heads_kv * clean.config.dim;
            for (first, unchosen) in [
                (0, [64..256, 320..400]),
                (400, [0..64, 128..192]),
                (656, [0..64, 128..192]),
            ] {
                for tokens in unchosen {
                    let elements = (first + tokens.start) * row..(first + tokens.end) * row;
                    poisoned.k.poison(elements.clone());
                    poisoned.v.poison(elements);
                }
            }
            let check = |clean: &AttentionProblem, poisoned: &AttentionProblem| {
                let (clean, poisoned) = (run(clean, &machine), run(poisoned, &machine));
                assert_same_bits(&clean, &poisoned, &format!("{}: group {group}", machine.name));
                assert!(poisoned.lse.iter().all(|lse| lse.is_finite()), "{}", machine.name);
            };
            check(&clean, &poisoned);
            check(&clean.decode(), &poisoned.decode());
        }
    }
}

/// A block of 32 keys that nobody listed shares a step with one that is read.
#[test]
fn nan_beside_a_small_block_does_not_leak() {
    for precision in PRECISIONS {
        let case = AttentionCase {
            precision,
            block_size: 32,
            list_len: 3,
            group: 4,
            ..AttentionCase::plain(vec![(1, 256), (16, 250)], seed())
        };
        let mut clean = case.problem();
        if let Some(lists) = &mut clean.lists {
            lists.indices = [0, 3, 6].repeat(clean.config.heads_kv * 17);
        }
        let mut poisoned = clean.clone();
        let row = clean.config.heads_kv * clean.config.dim;
        for first in [0, 256] {
            for unlisted in [1, 2, 4, 5] {
                let tokens = first + unlisted * 32;
                poisoned.k.poison(tokens * row..(tokens + 32) * row);
                poisoned.v.poison(tokens * row..(tokens + 32) * row);
            }
        }
        let steps = [clean.decode(), poisoned.decode()];
        for machine in all_variants_and_orders(seed()) {
            let what = format!("{}: {precision:?}", machine.name);
            for [clean, poisoned] in [[&clean, &poisoned], [&steps[0], &steps[1]]] {
                let whole = run(clean, &machine);
                assert!(whole.out.to_f64().iter().all(|x| x.is_finite()), "{what}");
                assert_same_bits(&whole, &run(poisoned, &machine), &what);
            }
        }
    }
}

#[test]
fn the_same_call_twice_gives_the_same_bits() {
    let case = AttentionCase {
        group: 6,
        lists: ListCase::Unruly,
        list_len: 5,
        ..AttentionCase::plain(vec![(60, 300), (1, 90)], seed())
    };
    let problem = case.problem();
    let machines = all_variants_and_orders(seed());
    for machine in &machines {
        assert_same_bits(&run(&problem, machine), &run(&problem, machine), &machine.name);
    }
    // The order in which the threads of the CPU run changes nothing either.
    for machine in &machines[1..3] {
        assert_same_bits(&run(&problem, &machines[0]), &run(&problem, machine), &machine.name);
    }
}

#[test]
fn outputs_are_the_same_without_logarithms() {
    let problem = AttentionCase::plain(vec![(20, 300), (1, 90)], seed()).problem();
    let without = AttentionProblem {
        with_lse: false,
        ..problem.clone()
    };
    for machine in all_variants_and_orders(seed()) {
        let (with, without) = (run(&problem, &machine), run(&without, &machine));
        assert_eq!(with.out.to_bits(), without.out.to_bits(), "{}", machine.name);
    }
}

#[test]
fn switch_lengths_that_are_those_of_the_keys_change_nothing() {
    let case = AttentionCase {
        dense_len: 100,
        ..AttentionCase::plain(vec![(20, 200), (1, 90), (33, 120)], seed())
    };
    let by_keys = case.problem();
    let by_lengths = AttentionProblem {
        batch: Batch {
            switch_len: Some(by_keys.batch.key_lengths()),
            ..by_keys.batch.clone()
        },
        ..by_keys.clone()
    };
    for machine in all_variants() {
        assert_same_bits(&run(&by_keys, &machine), &run(&by_lengths, &machine), &machine.name);
    }
}

/// Where a block has the shared memory for twice the rows, calls large enough take such tiles: that changes no bit.
#[test]
fn wide_tiles_have_the_bits_of_narrow_ones() {
    let wide = ampere_host();
    // Too few tiles for so many.
    let narrow = [(8, 0), (8, 6)].map(|capability| {
        host_with("host of many multiprocessors", |options| {
            options.compute_capability = capability;
            options.multiprocessors = 1 << 20;
        })
    });
    let storages = [
        Storing::Packed,
        Storing::Paged(64),
        Storing::Paged(16),
        Storing::Cached,
        Storing::Paged(256),
    ];
    for (index, group) in [1, 3, 12, 16, 17, 64].into_iter().enumerate() {
        for dim in [64, 128] {
            let case = AttentionCase {
                precision: PRECISIONS[(index + dim / 64) % 2],
                group,
                dim,
                storage: storages[(index + dim / 64) % storages.len()],
                lists: ListCase::None,
                with_first_key: index % 2 == 1,
                with_factor: index % 3 == 1,
                with_gate: index % 3 == 2,
                // A prompt of several tiles, chunks whose tiles end inside warps, no keys, no queries, one token.
                lengths: vec![(530 / group + 70, 700), (37, 420), (9, 9), (5, 0), (0, 30), (1, 129)],
                ..AttentionCase::plain(Vec::new(), seed())
            };
            let mut problem = case.problem();
            // Scores so far apart that maxima rise again and again.
            problem.config.scale *= [1.0, 12.0, -3.0][index % 3];
            let expected = compare_with(&problem, &problem.reference(), &wide);
            for machine in &narrow {
                assert_same_bits(
                    &expected,
                    &run(&problem, machine),
                    &format!("{}: group {group}, dim {dim}", machine.name),
                );
            }
        }
    }
}

/// On a GPU that has the shared memory, this takes wide tiles: one for each of its multiprocessors.
#[test]
fn many_short_prompts_agree_on_a_gpu() {
    for machine in cuda().into_iter().chain(cuda_at_base()) {
        let count = machine.device.multiprocessors() as usize;
        let short = (0..count).map(|index| (1 + index % 3, 3 + 37 * index % 140));
        let case = AttentionCase {
            group: 12,
            lists: ListCase::None,
            storage: Storing::Paged(64),
            lengths: [(50, 300)].into_iter().chain(short).collect(),
            ..AttentionCase::plain(Vec::new(), seed())
        };
        let problem = case.problem();
        compare_with(&problem, &problem.reference(), &machine);
    }
}

/// Tokens late in a tile begin to see keys long before the first ones do, and the other way round.
#[test]
fn tiles_whose_warps_meet_no_step_together_agree() {
    let keys = 1200;
    for descends in [false, true] {
        let case = AttentionCase {
            group: 16,
            lists: ListCase::None,
            ..AttentionCase::plain(vec![(16, keys)], seed())
        };
        let mut problem = case.problem();
        let first = |token: i32| 70 * if descends { 15 - token } else { token };
        problem.first_key = Some((0..16).map(first).collect());
        let reference = problem.reference();
        for machine in all_variants_and_orders(seed()) {
            compare_with(&problem, &reference, &machine);
        }
    }
}

/// A token's bits depend on its own first key alone: not on those of others, nor on how its prompt is cut. Without one, or with one that is 0 or less,
/// they are those of all keys.
#[test]
fn first_keys_are_each_tokens_own() {
    for machine in all_variants() {
        for (group, dim, storage) in [
            (1, 64, Storing::Packed),
            (3, 128, Storing::Paged(16)),
            (16, 64, Storing::Paged(64)),
            (40, 64, Storing::Cached),
        ] {
            let keys = 300;
            let case = AttentionCase {
                group,
                dim,
                storage,
                lists: ListCase::None,
                with_first_key: true,
                ..AttentionCase::plain(vec![(keys, keys)], seed())
            };
            let some = case.problem();
            let mut all_keys = some.clone();
            all_keys.first_key = None;
            let mut none = some.clone();
            none.first_key = Some((0..keys).map(|token| -(token as i32 % 3)).collect());
            let what = format!("{}: group {group}", machine.name);
            let expected = run(&some, &machine);
            assert_same_bits(&run(&all_keys, &machine), &run(&none, &machine), &what);
            for (start, end) in [(0, 1), (1, 16), (16, 140), (140, 141), (141, keys)] {
                let part = run(&some.part(0, start..end, end), &machine);
                assert_same_bits(
                    &expected.part(keys, start..end),
                    &part,
                    &format!("{what}, tokens {start}..{end}"),
                );
            }
            let mut step = some.part(0, keys - 9..keys, keys).decode();
            let first = step.first_key.clone();
            let together = run(&step, &machine);
            step.first_key = Some(vec![i32::MAX; 9]);
            let blind = run(&step, &machine);
            assert!(blind.lse.iter().all(|&lse| lse == f32::NEG_INFINITY), "{what}");
            assert!(blind.out.to_bits().iter().all(|&bits| bits == 0), "{what}");
            for token in 0..9 {
                let mut others = vec![i32::MAX; 9];
                others[token] = first.as_ref().map_or(0, |first| first[token]);
                step.first_key = Some(others);
                let alone = run(&step, &machine).part(9, token..token + 1);
                assert_same_bits(
                    &together.part(9, token..token + 1),
                    &alone,
                    &format!("{what}, step's token {token}"),
                );
            }
        }
    }
}

/// NaN before the first key that a token of a tile sees goes nowhere.
#[test]
fn what_lies_before_first_keys_is_not_read() {
    for machine in all_variants() {
        for (group, storage) in [
            (16, Storing::Packed),
            (2, Storing::Paged(16)),
            (16, Storing::Paged(64)),
            (16, Storing::Paged(128)),
        ] {
            let case = AttentionCase {
                group,
                dim: 64,
                storage,
                lists: ListCase::None,
                ..AttentionCase::plain(vec![(16, 700)], seed())
            };
            let mut clean = case.problem();
            clean.first_key = Some((0..16).map(|token| 400 + 3 * token).collect());
            let mut poisoned = clean.clone();
            let row = clean.config.heads_kv * clean.config.dim;
            poisoned.k.poison(0..400 * row);
            poisoned.v.poison(0..400 * row);
            let check = |clean: &AttentionProblem, poisoned: &AttentionProblem| {
                let (clean, poisoned) = (run(clean, &machine), run(poisoned, &machine));
                assert_eq!(poisoned.status, Status::default());
                assert_same_bits(&clean, &poisoned, &format!("{}: group {group}", machine.name));
                assert!(poisoned.lse.iter().all(|lse| lse.is_finite()), "{}", machine.name);
            };
            check(&clean, &poisoned);
            check(&clean.decode(), &poisoned.decode());
        }
    }
}
