//! Sparse attention on every device against the reference, over generated calls.
//!
//! `PROPTEST_CASES` sets how many calls a property sees, `SALA_TEST_SEED` repeats a run.

use half::{bf16, f16};
use sala_kernels::reference::sparse_attention::Attention;
use sala_kernels::{
    Copies, DType, Device, Element, Error, HostOptions, Kernels, KeyLengths, Schedule, Sequences, SparseAttention,
    SparseAttentionArgs, Tensor, TensorMut,
};
use sala_testkit::attention::{AttentionProblem, AttentionRun, KeyStorage, Lists};
use sala_testkit::attention_cases::{AttentionCase, GROUPS, Inputs, ListCase, attention_cases};
use sala_testkit::cases::{LENGTHS, Numbers, check, seed};
use sala_testkit::devices::{Machine, all, all_orders, cuda, race_detecting_host};
use sala_testkit::linear::same_bits;
use sala_testkit::memory::{POISON, Packing};
use sala_testkit::replay::{Call, Replay, Results};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;
use std::ops::Range;

const PRECISIONS: [Precision; 2] = [Precision::Bf16, Precision::F16];

fn run(problem: &AttentionProblem, machine: &Machine) -> AttentionRun {
    let run = problem
        .run(machine)
        .unwrap_or_else(|error| panic!("on {}: {error}", machine.name));
    assert!(run.is_intact, "{}: memory beside the tensors has changed", machine.name);
    run
}

/// Runs a call and compares everything it leaves behind with the reference.
fn compare(problem: &AttentionProblem, reference: &Attention, machine: &Machine) -> AttentionRun {
    let run = run(problem, machine);
    problem.judge(&run, reference).assert(&machine.name);
    assert_eq!(run.status, [0, reference.refused_blocks, 0, 0], "{}", machine.name);
    run
}

fn compare_on(machines: &[Machine], case: &AttentionCase) {
    let problem = case.problem();
    let reference = problem.run_on_reference();
    for machine in machines {
        compare(&problem, &reference, machine);
    }
}

fn assert_same_bits(a: &AttentionRun, b: &AttentionRun, what: &str) {
    assert!(same_bits(&a.lse, &b.lse), "{what}: lse");
    assert_eq!(a.out.to_bits(), b.out.to_bits(), "{what}: out");
}

fn rows(values: &Values, total: usize, range: &Range<usize>) -> Values {
    let row = values.len() / total.max(1);
    values.slice(range.start * row..range.end * row)
}

/// Some queries of one sequence of a call, on its first `keys` keys, as a call of their own.
fn part(problem: &AttentionProblem, sequence: usize, queries: Range<usize>, keys: usize) -> AttentionProblem {
    let first = problem.cu_seqlens_q[sequence] as usize;
    let queries = first + queries.start..first + queries.end;
    let first_key = problem.cu_seqlens_k[sequence] as usize;
    let keys = first_key..first_key + keys;
    let (total_q, total_k) = (problem.total_q(), problem.total_k());
    let list_row = |lists: &Lists| lists.list_len * problem.config.heads_kv;
    AttentionProblem {
        q: rows(&problem.q, total_q, &queries),
        k: rows(&problem.k, total_k, &keys),
        v: rows(&problem.v, total_k, &keys),
        cu_seqlens_q: vec![0, queries.len() as i32],
        cu_seqlens_k: vec![0, keys.len() as i32],
        lists: problem.lists.as_ref().map(|lists| Lists {
            indices: lists.indices[queries.start * list_row(lists)..queries.end * list_row(lists)].to_vec(),
            list_len: lists.list_len,
        }),
        switch_len: problem.switch_len.as_ref().map(|lengths| vec![lengths[sequence]]),
        scale_factor: problem
            .scale_factor
            .as_ref()
            .map(|factors| factors[queries.clone()].to_vec()),
        gate: problem.gate.as_ref().map(|gate| rows(gate, total_q, &queries)),
        ..problem.clone()
    }
}

/// The rows of a run that belong to some queries.
fn part_of_run(problem: &AttentionProblem, run: &AttentionRun, queries: Range<usize>) -> AttentionRun {
    let heads = problem.config.heads_q;
    AttentionRun {
        out: rows(&run.out, problem.total_q(), &queries),
        lse: run.lse[queries.start * heads..queries.end * heads].to_vec(),
        ..run.clone()
    }
}

#[test]
fn agrees_with_the_reference() {
    let machines = all_orders(seed());
    check(60, attention_cases(192), |case| compare_on(&machines, &case));
}

#[test]
fn agrees_for_every_group_type_and_dim() {
    let machines = all();
    for (index, group) in GROUPS.into_iter().chain([5, 9, 17, 48, 64]).enumerate() {
        for (variant, precision) in PRECISIONS.into_iter().enumerate() {
            let case = AttentionCase {
                precision,
                group,
                heads_kv: 1 + index % 2,
                dim: [64, 128][(index + variant) % 2],
                lists: ListCase::Unruly,
                list_len: 4,
                ..AttentionCase::plain(vec![(37, 150), (0, 70), (1, 200)], seed())
            };
            compare_on(&machines, &case);
        }
    }
}

#[test]
fn agrees_at_every_edge() {
    let machines = all();
    for (index, length) in LENGTHS.into_iter().enumerate() {
        let other = LENGTHS[(index * 7 + 3) % LENGTHS.len()];
        let case = AttentionCase {
            precision: PRECISIONS[index % 2],
            group: [16, 4, 7][index % 3],
            dim: [128, 64][index % 2],
            block_size: [64, 32, 128][index % 3],
            lists: [ListCase::None, ListCase::Selected, ListCase::Unruly][index % 3],
            // A whole prompt, one of no queries, a decode step, an empty sequence, a chunk.
            lengths: vec![
                (length, length),
                (0, other),
                (other.min(1), other),
                (0, 0),
                (other.min(17), other),
            ],
            ..AttentionCase::plain(Vec::new(), seed())
        };
        compare_on(&machines, &case);
    }
}

#[test]
fn more_queries_than_keys_see_nothing_at_first() {
    for machine in all() {
        let case = AttentionCase::plain(vec![(20, 9), (5, 0), (3, 40)], seed());
        let problem = case.problem();
        let run = compare(&problem, &problem.run_on_reference(), &machine);
        let heads = problem.config.heads_q;
        for token in (0..11).chain(20..25) {
            let row = part_of_run(&problem, &run, token..token + 1);
            assert!(
                row.lse.iter().all(|&lse| lse == f32::NEG_INFINITY),
                "{}: token {token}",
                machine.name
            );
            assert!(
                row.out.to_f64().iter().all(|&x| x == 0.0),
                "{}: token {token}",
                machine.name
            );
        }
        assert!(run.lse[11 * heads..20 * heads].iter().all(|lse| lse.is_finite()));
    }
}

#[test]
fn empty_lists_see_nothing() {
    for machine in all() {
        for list_len in [0, 4] {
            let mut problem = AttentionCase {
                list_len,
                ..AttentionCase::plain(vec![(9, 70), (1, 130)], seed())
            }
            .problem();
            let entries = problem.total_q() * problem.config.heads_kv * list_len;
            problem.lists = Some(Lists {
                indices: vec![-1; entries],
                list_len,
            });
            let run = compare(&problem, &problem.run_on_reference(), &machine);
            assert!(run.lse.iter().all(|&lse| lse == f32::NEG_INFINITY), "{}", machine.name);
            assert!(
                run.out.to_bits().iter().all(|&bits| bits & 0x7fff == 0),
                "{}",
                machine.name
            );
        }
    }
}

#[test]
fn lists_are_sets() {
    for machine in all() {
        for group in [4, 16] {
            let case = AttentionCase {
                group,
                list_len: 6,
                ..AttentionCase::plain(vec![(40, 300), (1, 500)], seed())
            };
            let tidy = case.problem();
            let mut numbers = Numbers::new(seed());
            let mut untidy = tidy.clone();
            let mut refused = 0;
            let list_len = 11;
            let entries = tidy.lists.as_ref().map(|lists| lists.indices.chunks(lists.list_len));
            let mut indices = Vec::new();
            for list in entries.into_iter().flatten() {
                let mut list = list.to_vec();
                // A repeat, something that is no block, and −1, in any order.
                list.extend([list[0], numbers.pick(&[-7, 8, 1 << 20, i32::MIN]), -1]);
                list.resize(list_len, list[0]);
                for place in (1..list.len()).rev() {
                    list.swap(place, numbers.below(place + 1));
                }
                refused += 1;
                indices.extend(list);
            }
            untidy.lists = Some(Lists { indices, list_len });
            let (tidy, untidy) = (run(&tidy, &machine), run(&untidy, &machine));
            assert_eq!(tidy.status, [0; 4]);
            assert_eq!(untidy.status, [0, refused, 0, 0], "{}", machine.name);
            assert_same_bits(&tidy, &untidy, &machine.name);
        }
    }
}

#[test]
fn dense_is_every_block_listed() {
    for machine in all() {
        for (group, block_size) in [(3, 64), (16, 32), (32, 128)] {
            let lengths = vec![(50, 200), (1, 129), (70, 70)];
            let case = AttentionCase {
                group,
                block_size,
                lists: ListCase::None,
                ..AttentionCase::plain(lengths, seed())
            };
            let dense = case.problem();
            let list_len = 200usize.div_ceil(block_size);
            let blocks_of = |keys: usize| {
                move |block: usize| {
                    if block < keys.div_ceil(block_size) {
                        block as i32
                    } else {
                        -1
                    }
                }
            };
            let list =
                |&(queries, keys): &(usize, usize)| (0..queries).flat_map(move |_| (0..list_len).map(blocks_of(keys)));
            let indices = case.lengths.iter().flat_map(list).collect();
            let listed = AttentionProblem {
                lists: Some(Lists { indices, list_len }),
                ..dense.clone()
            };
            assert_same_bits(&run(&dense, &machine), &run(&listed, &machine), &machine.name);
            // A threshold that no sequence reaches makes the lists meaningless.
            let mut ignored = AttentionProblem {
                dense_len: 201,
                ..listed
            };
            if let Some(lists) = &mut ignored.lists {
                lists.indices.fill(i32::MAX);
            }
            assert_same_bits(
                &compare(&ignored, &dense.run_on_reference(), &machine),
                &run(&dense, &machine),
                &machine.name,
            );
        }
    }
}

#[test]
fn the_threshold_decides_by_sequence() {
    for machine in all() {
        let lengths = [127, 128, 129]
            .into_iter()
            .flat_map(|keys| [(1, keys), (20, keys)])
            .collect();
        let case = AttentionCase {
            dense_len: 128,
            list_len: 1,
            ..AttentionCase::plain(lengths, seed())
        };
        let by_keys = case.problem();
        assert_eq!(by_keys.dense(), [true, true, false, false, false, false]);
        compare(&by_keys, &by_keys.run_on_reference(), &machine);
        // The lengths that decide need not be those of the keys.
        let by_switch = AttentionProblem {
            switch_len: Some(vec![128, 127, 0, 200, 127, 128]),
            ..by_keys
        };
        assert_eq!(by_switch.dense(), [false, true, true, false, true, false]);
        compare(&by_switch, &by_switch.run_on_reference(), &machine);
    }
}

#[test]
fn any_chunking_gives_the_same_bits() {
    for machine in all() {
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
                let whole_run = run(&whole, &machine);
                let mut start = 0;
                for chunk in [1, 15, 63, 16, 64, 1, 1, 100].into_iter().cycle() {
                    let end = (start + chunk).min(keys);
                    let chunk_run = run(&part(&whole, 0, start..end, end), &machine);
                    let what = format!("{}: group {group}, tokens {start}..{end}, {lists:?}", machine.name);
                    assert_same_bits(&part_of_run(&whole, &whole_run, start..end), &chunk_run, &what);
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
fn a_sequence_has_the_same_bits_in_any_batch_and_in_a_cache() {
    let machines = all();
    check(12, attention_cases(192), |case| {
        for machine in &machines {
            let batch = case.problem();
            let batch_run = run(&batch, machine);
            let longest = batch.key_lengths().into_iter().max().unwrap_or(0) as usize;
            for storage in [
                KeyStorage::Packed,
                KeyStorage::Cached(longest),
                KeyStorage::Cached(longest + 100),
            ] {
                let stored = AttentionProblem {
                    storage,
                    ..batch.clone()
                };
                assert_same_bits(
                    &batch_run,
                    &run(&stored, machine),
                    &format!("{}: {storage:?}", machine.name),
                );
            }
            for (sequence, &(queries, keys)) in case.lengths.iter().enumerate() {
                let first = batch.cu_seqlens_q[sequence] as usize;
                let alone = run(&part(&batch, sequence, 0..queries, keys), machine);
                let within = part_of_run(&batch, &batch_run, first..first + queries);
                assert_same_bits(&within, &alone, &format!("{}: sequence {sequence}", machine.name));
            }
        }
    });
}

#[test]
fn hints_change_nothing() {
    for machine in all() {
        let case = AttentionCase::plain(vec![(33, 150), (0, 10), (8, 60)], seed());
        let without = case.problem();
        let with = AttentionProblem {
            max_seqlens: [Some(33), Some(150)],
            ..without.clone()
        };
        let (without, with) = (run(&without, &machine), run(&with, &machine));
        assert_eq!(with.status, [0; 4], "{}", machine.name);
        assert_same_bits(&without, &with, &machine.name);
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused_and_counted() {
    let lengths = vec![(20, 90), (10, 70), (5, 40)];
    let plain = AttentionCase::plain(lengths, seed()).problem();
    let with = |change: &dyn Fn(&mut AttentionProblem)| {
        let mut problem = plain.clone();
        change(&mut problem);
        problem
    };
    // What is wrong, and the sequences that it spoils.
    let cases = [
        (with(&|p| p.max_seqlens[0] = Some(19)), vec![0]),
        (with(&|p| p.max_seqlens[1] = Some(69)), vec![0, 1]),
        (with(&|p| p.cu_seqlens_q[3] = 36), vec![2]),
        (with(&|p| p.cu_seqlens_k[3] = 201), vec![2]),
        (with(&|p| p.cu_seqlens_q[0] = -1), vec![0]),
        (with(&|p| p.cu_seqlens_k[1] = i32::MAX), vec![0, 1]),
        (with(&|p| p.cu_seqlens_q[1] = 31), vec![1]),
        (with(&|p| p.storage = KeyStorage::Cached(75)), vec![0]),
        (with(&|p| p.storage = KeyStorage::Cached(0)), vec![0, 1, 2]),
    ];
    for machine in all() {
        for (index, (problem, spoilt)) in cases.iter().enumerate() {
            let run = run(problem, &machine);
            let what = format!("{}: case {index}", machine.name);
            assert_eq!(run.status, [0, 0, spoilt.len() as u32, 0], "{what}");
            for sequence in 0..3 {
                let tokens = [0..20, 20..30, 30..35][sequence].clone();
                let is_moved =
                    problem.cu_seqlens_q[sequence..sequence + 2] != plain.cu_seqlens_q[sequence..sequence + 2];
                if is_moved {
                    continue;
                }
                let rows = part_of_run(problem, &run, tokens);
                let is_untouched = rows.out.to_bits().iter().all(|&bits| bits == POISON);
                assert_eq!(is_untouched, spoilt.contains(&sequence), "{what}: sequence {sequence}");
            }
        }
    }
}

#[test]
fn rows_of_no_sequence_are_left_alone() {
    for machine in all() {
        let mut problem = AttentionCase::plain(vec![(20, 90), (10, 70)], seed()).problem();
        problem.cu_seqlens_q = vec![3, 20, 27];
        let run = run(&problem, &machine);
        for token in (0..3).chain(27..30) {
            let row = part_of_run(&problem, &run, token..token + 1);
            assert!(
                row.out.to_bits().iter().all(|&bits| bits == POISON),
                "{}: token {token}",
                machine.name
            );
        }
        assert!(part_of_run(&problem, &run, 3..27).lse.iter().all(|lse| lse.is_finite()));
    }
}

/// NaN in other sequences, past the end of caches, and in blocks that nobody chose stays where it is.
#[test]
fn nan_does_not_leak() {
    for machine in all() {
        for group in [1, 8, 16, 64] {
            let lengths = vec![(30, 400), (1, 256), (12, 330)];
            let case = AttentionCase {
                group,
                list_len: 2,
                cached: true,
                dim: 64,
                ..AttentionCase::plain(lengths, seed())
            };
            let mut clean = case.problem();
            if let Some(lists) = &mut clean.lists {
                // Tokens of the first and last sequence choose between two blocks, so that most are chosen by none.
                let choices = |index: usize| if index < 60 { [0, 4] } else { [1, 3] };
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
            let (clean, poisoned) = (run(&clean, &machine), run(&poisoned, &machine));
            assert_same_bits(&clean, &poisoned, &format!("{}: group {group}", machine.name));
            assert!(poisoned.lse.iter().all(|lse| lse.is_finite()), "{}", machine.name);
        }
    }
}

#[test]
fn zero_and_negative_scales_are_factors_like_others() {
    for machine in all() {
        for (scale, inputs) in [
            (0.0, Inputs::Normal),
            (-0.2, Inputs::Normal),
            (-1.0, Inputs::Huge),
            (1e-30, Inputs::Huge),
            (3.0, Inputs::Zero),
        ] {
            let case = AttentionCase {
                inputs,
                group: 7,
                with_factor: true,
                ..AttentionCase::plain(vec![(40, 200), (1, 70)], seed())
            };
            let mut problem = case.problem();
            problem.config.scale = scale;
            if let Some(factors) = &mut problem.scale_factor {
                factors[3] = 0.0;
                factors[4] = -0.0;
                factors[5] = -1.5;
            }
            compare(&problem, &problem.run_on_reference(), &machine);
        }
    }
}

#[test]
fn gates_of_any_size_stay_finite() {
    for machine in all() {
        for precision in PRECISIONS {
            let case = AttentionCase {
                precision,
                with_gate: true,
                ..AttentionCase::plain(vec![(9, 80)], seed())
            };
            let mut problem = case.problem();
            let size = problem.q.len();
            let gates = [-6e4, -200.0, -90.0, 0.0, 90.0, 6e4];
            problem.gate = Some(Values::round(
                precision,
                (0..size).map(|index| gates[index % gates.len()]),
            ));
            compare(&problem, &problem.run_on_reference(), &machine);
        }
    }
}

/// A sequence so long that the sets of a tile describe it in two windows.
#[test]
fn long_sequences_are_walked_window_by_window() {
    let problem = long_problem();
    let reference = problem.run_on_reference();
    for machine in all() {
        compare(&problem, &reference, &machine);
    }
    for machine in machines_that_split() {
        compare_decode(&problem, &reference, &machine);
    }
}

/// Twenty tokens of one head at the end of 90 003 keys: a tile of 128 tokens has sets for 68 608 keys at a time.
fn long_problem() -> AttentionProblem {
    let (tokens, keys, list_len) = (20, 90_003, 6);
    let case = AttentionCase {
        group: 1,
        dim: 64,
        precision: Precision::F16,
        list_len,
        ..AttentionCase::plain(vec![(tokens, keys)], seed())
    };
    let mut problem = case.problem();
    let last = (keys / 64) as i32;
    let edge = 68_608 / 64;
    let lists = [
        [last, 0, edge - 1, edge, 500, -1],
        [edge, edge + 1, edge + 2, last, last + 1, -1],
        [0, 1, 2, 3, 4, 5],
        [edge - 1, last, last - 1, 7, 7, 999_999],
    ];
    let indices = lists.concat().repeat(tokens / lists.len());
    problem.lists = Some(Lists { indices, list_len });
    problem
}

/// A CPU that claims so many multiprocessors that any call is split over them.
fn host_that_splits(options: HostOptions) -> Machine {
    let options = HostOptions {
        multiprocessors: u32::MAX,
        ..options
    };
    Machine::open("host, splitting", Device::host_with(options)).expect("the tests are built with the executor")
}

/// Options for the threads of a block in random order and copies at random moments.
fn shuffled() -> HostOptions {
    HostOptions {
        seed: seed(),
        schedule: Schedule::Random,
        copies: Copies::Random,
        ..HostOptions::default()
    }
}

/// Devices that split calls: the CPU in two orders of execution, and a GPU where calls are small.
fn machines_that_split() -> Vec<Machine> {
    let hosts = [HostOptions::default(), shuffled()].map(host_that_splits);
    hosts.into_iter().chain(cuda()).collect()
}

fn decode(problem: &AttentionProblem, machine: &Machine) -> AttentionRun {
    let run = problem
        .decode(machine)
        .unwrap_or_else(|error| panic!("on {}: {error}", machine.name));
    assert!(run.is_intact, "{}: memory beside the tensors has changed", machine.name);
    run
}

/// Splits a call, and compares everything it leaves behind with the reference and with the whole.
fn compare_decode(problem: &AttentionProblem, reference: &Attention, machine: &Machine) {
    let split = decode(problem, machine);
    problem.judge(&split, reference).assert(&machine.name);
    assert_eq!(split.status, [0, reference.refused_blocks, 0, 0], "{}", machine.name);
    assert_same_bits(&split, &run(problem, machine), &machine.name);
}

#[test]
fn splitting_changes_no_bit() {
    let machines = machines_that_split();
    check(24, attention_cases(192), |case| {
        let problem = case.problem();
        let reference = problem.run_on_reference();
        machines
            .iter()
            .for_each(|machine| compare_decode(&problem, &reference, machine));
    });
}

#[test]
fn decode_steps_are_split_whatever_their_length() {
    let machines = machines_that_split();
    for (index, group) in GROUPS.into_iter().chain([64]).enumerate() {
        let case = AttentionCase {
            precision: PRECISIONS[index % 2],
            group,
            dim: [128, 64][index % 2],
            block_size: [64, 128, 32][index % 3],
            lists: [ListCase::Selected, ListCase::Unruly, ListCase::None][index % 3],
            list_len: 12,
            dense_len: 130,
            with_factor: true,
            with_gate: true,
            cached: true,
            ..AttentionCase::plain(vec![(1, 1), (1, 64), (0, 0), (1, 129), (1, 1500), (4, 900)], seed())
        };
        let mut problem = case.problem();
        // Scores so far apart that maxima rise in the middle of a round.
        problem.config.scale *= [1.0, 8.0][index / 2 % 2];
        let reference = problem.run_on_reference();
        machines
            .iter()
            .for_each(|machine| compare_decode(&problem, &reference, machine));
        let by_switch = AttentionProblem {
            switch_len: Some(vec![0, 0, 0, 1000, 129, 130]),
            ..problem
        };
        let reference = by_switch.run_on_reference();
        compare_decode(&by_switch, &reference, &machines[0]);
    }
}

#[test]
fn a_workspace_is_used_if_it_is_large_enough() {
    let mut problem = AttentionCase::plain(vec![(1, 300), (1, 500)], seed()).problem();
    problem.max_seqlens[0] = Some(1);
    for machine in machines_that_split() {
        let blocks = || machine.stream.take_counters().blocks;
        let enough = problem.workspace().unwrap();
        let whole = run(&problem, &machine);
        let blocks_of_whole = blocks();
        for bytes in [0, 16, enough - 16, enough, enough + 16] {
            let run = problem.launch(&machine, Some(bytes)).unwrap();
            let what = format!("{}: {bytes} of {enough} bytes", machine.name);
            assert!(run.is_intact, "{what}");
            assert_same_bits(&run, &whole, &what);
            // Only the CPU counts: two tiles in all, or for each of two rows a block of four steps and blocks of 32 columns.
            let expected = if bytes < enough {
                blocks_of_whole
            } else {
                blocks_of_whole * (2 + 4)
            };
            assert_eq!(blocks(), expected, "{what}");
        }
    }
}

#[test]
fn refusals_are_counted_once_however_a_call_is_split() {
    let mut problem = AttentionCase {
        group: 48,
        ..AttentionCase::plain(vec![(2, 90), (1, 70), (3, 40)], seed())
    }
    .problem();
    problem.cu_seqlens_k[1] = i32::MAX;
    if let Some(lists) = &mut problem.lists {
        lists.indices.fill(1 << 10);
    }
    for machine in machines_that_split() {
        let (whole, split) = (run(&problem, &machine), decode(&problem, &machine));
        assert_eq!(whole.status, [0, 9, 2, 0], "{}", machine.name);
        assert_eq!(split.status, whole.status, "{}", machine.name);
        assert_same_bits(&whole, &split, &machine.name);
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
    let machines = all_orders(seed());
    for machine in &machines {
        assert_same_bits(&run(&problem, machine), &run(&problem, machine), &machine.name);
    }
    // The order in which the threads of the CPU run changes nothing either.
    for machine in &machines[1..3] {
        assert_same_bits(&run(&problem, &machines[0]), &run(&problem, machine), &machine.name);
    }
}

#[test]
fn split_calls_do_not_race() {
    let machine = host_that_splits(HostOptions {
        detect_races: true,
        preempt: 8,
        ..shuffled()
    });
    check(10, attention_cases(192), |case| {
        let problem = case.problem();
        compare_decode(&problem, &problem.run_on_reference(), &machine);
    });
    for (group, lists) in [(16, ListCase::Selected), (3, ListCase::Unruly), (32, ListCase::None)] {
        let case = AttentionCase {
            group,
            lists,
            list_len: 20,
            ..AttentionCase::plain(vec![(1, 1500), (2, 700)], seed())
        };
        let problem = case.problem();
        compare_decode(&problem, &problem.run_on_reference(), &machine);
    }
}

#[test]
fn nothing_races() {
    let machine = race_detecting_host(seed());
    check(10, attention_cases(192), |case| {
        compare_on(std::slice::from_ref(&machine), &case)
    });
    for (group, lists) in [(16, ListCase::Selected), (3, ListCase::Unruly), (32, ListCase::None)] {
        let case = AttentionCase {
            group,
            lists,
            list_len: 5,
            ..AttentionCase::plain(vec![(20, 400), (1, 600)], seed())
        };
        compare_on(std::slice::from_ref(&machine), &case);
    }
    let problem = long_problem();
    compare(&problem, &problem.run_on_reference(), &machine);
}

/// Memory of a call that arguments are taken from: 4 query tokens, 8 keys, 2 query heads on one kv head of 64 channels.
struct Memory {
    numbers: Vec<bf16>,
    halves: Vec<f16>,
    floats: Vec<f32>,
    bounds: Vec<i32>,
    lists: Vec<i32>,
}

/// The argument that a call is refused for once it has been changed.
fn refused(change: impl for<'a> FnOnce(&mut SparseAttentionArgs<'a>, &'a Memory)) -> &'static str {
    let memory = Memory {
        numbers: vec![bf16::ONE; 2048],
        halves: vec![f16::ONE; 2048],
        floats: vec![1.0; 64],
        bounds: vec![0, 4, 8, 8],
        lists: vec![0; 64],
    };
    let (mut out, mut lse, mut status) = (vec![bf16::ONE; 512], vec![0f32; 8], vec![0u32; 4]);
    let (numbers, bounds) = (&memory.numbers, &memory.bounds);
    let keys = KeyLengths::Packed {
        cu_seqlens_k: Tensor::from_slice(&[0, 8], &[2]).unwrap(),
    };
    let mut args = SparseAttentionArgs {
        q: Tensor::from_slice(&numbers[..512], &[4, 2, 64]).unwrap(),
        k: Tensor::from_slice(&numbers[512..1024], &[8, 1, 64]).unwrap(),
        v: Tensor::from_slice(&numbers[1024..1536], &[8, 1, 64]).unwrap(),
        sequences: Sequences {
            cu_seqlens_q: Tensor::from_slice(&bounds[..2], &[2]).unwrap(),
            keys,
            switch_len: None,
            max_seqlen_q: None,
            max_seqlen_k: None,
        },
        block_indices: Some(Tensor::from_slice(&memory.lists[..8], &[4, 1, 2]).unwrap()),
        scale_factor: Some(Tensor::from_slice(&memory.floats[..4], &[4]).unwrap()),
        gate: Some(Tensor::from_slice(&numbers[1536..], &[4, 2, 64]).unwrap()),
        out: TensorMut::from_slice(&mut out, &[4, 2, 64]).unwrap(),
        lse: Some(TensorMut::from_slice(&mut lse, &[4, 2]).unwrap()),
        status: Some(TensorMut::from_slice(&mut status, &[4]).unwrap()),
    };
    change(&mut args, &memory);
    let kernels = Kernels::load(&Device::host()).unwrap();
    let operation = SparseAttention::builder(DType::Bf16, 2, 1, 64).build().unwrap();
    match operation.launch_host(&kernels, args) {
        Ok(()) => "",
        Err(Error::Argument { argument, .. }) => argument,
        Err(other) => panic!("{other}"),
    }
}

fn view<'a, T: Element>(slice: &'a [T], shape: &[usize]) -> Tensor<'a> {
    let length = shape.iter().product();
    Tensor::from_slice(&slice[..length], shape).unwrap()
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    assert_eq!(refused(|_, _| ()), "");
    let without_options = |args: &mut SparseAttentionArgs<'_>, _: &Memory| {
        (args.block_indices, args.scale_factor, args.gate) = (None, None, None);
        (args.lse, args.status) = (None, None);
    };
    assert_eq!(refused(without_options), "");
    assert_eq!(refused(|args, m| args.q = view(&m.halves, &[4, 2, 64])), "q");
    assert_eq!(refused(|args, m| args.q = view(&m.numbers, &[4, 128])), "q");
    assert_eq!(refused(|args, m| args.q = view(&m.numbers, &[4, 4, 64])), "q");
    assert_eq!(
        refused(|args, m| args.q = Tensor::with_strides(&m.numbers, &[4, 2, 64], &[140, 68, 1]).unwrap()),
        "q"
    );
    assert_eq!(refused(|args, m| args.q = view(&m.numbers, &[3, 2, 64])), "out");
    assert_eq!(refused(|args, m| args.k = view(&m.numbers, &[8, 2, 64])), "k");
    assert_eq!(refused(|args, m| args.k = view(&m.numbers, &[1, 8, 1, 64])), "k");
    assert_eq!(refused(|args, m| args.v = view(&m.numbers, &[7, 1, 64])), "v");
    assert_eq!(
        refused(|args, m| args.v = Tensor::with_strides(&m.numbers, &[8, 1, 64], &[128, 128, 2]).unwrap()),
        "v"
    );
    assert_eq!(
        refused(|args, m| args.gate = Some(view(&m.numbers, &[4, 1, 64]))),
        "gate"
    );
    assert_eq!(
        refused(|args, m| args.scale_factor = Some(view(&m.floats, &[5]))),
        "scale_factor"
    );
    assert_eq!(
        refused(|args, m| args.scale_factor = Some(view(&m.lists, &[4]))),
        "scale_factor"
    );
    assert_eq!(
        refused(|args, m| args.block_indices = Some(view(&m.lists, &[4, 2, 2]))),
        "block_indices"
    );
    assert_eq!(
        refused(|args, m| args.block_indices = Some(view(&m.floats, &[4, 1, 2]))),
        "block_indices"
    );
    assert_eq!(
        refused(|args, m| args.sequences.cu_seqlens_q = view(&m.floats, &[2])),
        "cu_seqlens_q"
    );
    assert_eq!(
        refused(|args, m| args.sequences.cu_seqlens_q = view(&m.bounds, &[0])),
        "cu_seqlens_q"
    );
    assert_eq!(
        refused(|args, m| args.sequences.cu_seqlens_q = view(&m.bounds, &[3])),
        "cu_seqlens_k"
    );
    assert_eq!(
        refused(|args, m| args.sequences.switch_len = Some(view(&m.bounds, &[2]))),
        "switch_len"
    );
    assert_eq!(
        refused(|args, m| {
            let seqlens_k = view(&m.bounds, &[1]);
            args.sequences.keys = KeyLengths::Cached { seqlens_k };
        }),
        "k"
    );
    // Outputs that share memory with another tensor. Nothing is launched, so nothing is written.
    let host = Device::host();
    let over = |tensor: Tensor<'_>, dtype, shape: &[usize], strides: &[usize]| {
        // SAFETY: the launch is refused before it uses the view.
        unsafe { TensorMut::from_raw(&host, tensor.address(), dtype, shape, strides).unwrap() }
    };
    assert_eq!(
        refused(|args, _| args.out = over(args.v, DType::Bf16, &[4, 2, 64], &[128, 64, 1])),
        "out"
    );
    assert_eq!(
        refused(|args, _| args.lse = Some(over(args.k, DType::F32, &[4, 2], &[2, 1]))),
        "lse"
    );
    assert_eq!(
        refused(|args, _| args.status = Some(over(args.out.as_tensor(), DType::U32, &[4], &[1]))),
        "out"
    );
}

/// Calls that other implementations have computed, on their own lists.
#[test]
fn recorded_calls_agree() {
    for name in [
        "dense_t333_h8_kv2",
        "sparse_t450_h8_kv2",
        "sparse_t704_h16_kv1",
        "sparse_chunk_t600_h4_kv2",
    ] {
        let path = format!("{}/tests/data/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let replay = Replay::load(path.as_ref()).unwrap_or_else(|error| panic!("{error}"));
        let Call::Sparse(call) = &replay.call else {
            panic!("{name} is no sparse call")
        };
        let reference = replay.run_on_reference();
        let expected = call.expected.block_indices.clone();
        let given = call.block_indices.as_ref().map(|lists| lists.indices.clone());
        let indices = given.or(expected).or(reference.block_indices).unwrap_or_default();
        let list_len = indices.len() / (call.total_q() * call.selection.heads_kv);
        let selection = call.selection;
        let problem = AttentionProblem {
            config: sala_kernels::reference::sparse_attention::Config {
                heads_q: selection.heads_q,
                heads_kv: selection.heads_kv,
                dim: selection.dim,
                dim_v: call.dim_v,
                scale: selection.scale,
                block_size: selection.block_size,
            },
            q: call.q.clone(),
            k: call.k.clone(),
            v: call.v.clone(),
            cu_seqlens_q: call.cu_seqlens_q.clone(),
            cu_seqlens_k: call.cu_seqlens_k.clone(),
            lists: Some(Lists {
                indices: indices.clone(),
                list_len,
            }),
            dense_len: call.dense_len,
            switch_len: None,
            scale_factor: None,
            gate: None,
            storage: KeyStorage::Packed,
            packing: Packing::Separate,
            max_seqlens: [None, None],
        };
        for machine in all() {
            let run = run(&problem, &machine);
            let results = Results {
                out: run.out.to_f64(),
                out_precision: Some(run.out.precision()),
                lse: Some(run.lse.iter().map(|&x| f64::from(x)).collect()),
                block_indices: Some(indices.clone()),
                ..Results::default()
            };
            replay.judge(&results).assert(&format!("{name} on {}", machine.name));
        }
    }
}
