//! What the kernels cost, counted by the executor: tensor-core work, bytes and bank conflicts are facts of the source, the same on any machine.

use sala_kernels::reference::{linear_attention, select_blocks};
use sala_kernels::{Counters, Lse};
use sala_testkit::devices::counting_host;
use sala_testkit::floors::{self, Floor};
use sala_testkit::memory::Packing;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, Magnitude, StateCase};
use sala_testkit::operations::linear_attention::{DecayValues, LinearProblem, Phase};
use sala_testkit::operations::linear_drafts::{DraftsProblem, Step};
use sala_testkit::operations::linear_ranks::{RanksProblem, Step as RanksStep};
use sala_testkit::operations::norms::NormProblem;
use sala_testkit::operations::select_blocks::SelectProblem;
use sala_testkit::operations::select_blocks::cases::SelectionInputs;
use sala_testkit::operations::sparse_attention::AttentionProblem;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, ListCase};
use sala_testkit::problem::{Problem, run};
use sala_testkit::storage::Storage;
use sala_testkit::tolerance::Precision;

const HEADS: usize = 2;

/// What a call costs on a device with so many multiprocessors.
fn count<P: Problem>(problem: &P, multiprocessors: u32) -> Counters {
    let machine = counting_host(multiprocessors);
    run(problem, &machine);
    machine.stream.take_counters()
}

#[track_caller]
fn assert_no_bank_conflicts(counted: &Counters) {
    assert!(counted.shared_wavefronts_ideal > 0);
    assert_eq!(counted.shared_wavefronts, counted.shared_wavefronts_ideal);
}

/// A prefill of a single sequence, whose state stays in its slot.
fn prefill(tokens: usize, dim_k: usize, dim_v: usize) -> LinearProblem {
    linear_case(vec![tokens], dim_k, dim_v).problem()
}

fn linear_case(lengths: Vec<usize>, dim_k: usize, dim_v: usize) -> LinearCase {
    LinearCase {
        phase: Phase::Prefill,
        precision: Precision::Bf16,
        heads: HEADS,
        group: 1,
        dim_k,
        dim_v,
        lengths,
        decay: DecayCase::Lightning,
        state_is_vk: false,
        packing: Packing::Separate,
        magnitude: Magnitude::Normal,
        states: StateCase::InPlace,
        checkpoint_every: 0,
        seed: 1,
    }
}

/// Bytes of the states of a linear problem, of which each sequence has one.
fn states(problem: &LinearProblem) -> u64 {
    (problem.batch() * problem.config.slot_len() * 4) as u64
}

/// The scan does the tensor-core work of its formula and no more: the causal half of P and of P V in blocks, Q S and the update of S in full.
#[test]
fn scan_issues_the_products_of_its_formula() {
    for (tokens, dim_k, dim_v, multiprocessors, tile) in [
        (64usize, 128, 128, 1, 128),
        (130, 128, 128, 4, 64),
        (64, 64, 64, 1000, 32),
        (65, 64, 128, 1, 128),
        (1, 128, 64, 1, 64),
    ] {
        let problem = prefill(tokens, dim_k, dim_v);
        let counted = count(&problem, multiprocessors);
        assert_eq!(
            counted.tensor_flops,
            floors::scan_issues(&problem, tile),
            "{tokens} tokens, {dim_k} × {dim_v} in tiles of {tile}"
        );
        assert_eq!(counted.blocks as usize, dim_v / tile * HEADS);
    }
}

/// Every byte of q, k, v, out and the state moves once, if one block has all value channels of a head.
#[test]
fn scan_moves_every_byte_once() {
    let problem = prefill(200, 128, 128);
    let (floor, counted) = (floors::linear(&problem), count(&problem, 1));
    assert_eq!(counted.global_bytes_written, floor.written);
    let indices = counted.global_bytes_read - floor.read;
    let rows = floor.written - states(&problem);
    assert!(indices < rows / 10, "{indices} bytes of lengths, slots and decays");
    // The state is read and written in one place. Sectors of 32 bytes at the edges of slices that are not aligned to them.
    let distinct = floor.bytes() - states(&problem);
    assert!(counted.global_bytes_distinct <= distinct + 1024, "{counted:?}");
}

/// Of a sequence that is split, keys and values of the warm-up are read again: 1.12 times the bytes at most with SALA's slopes.
#[test]
fn a_split_scan_moves_few_bytes_twice() {
    let mut problem = prefill(16_384, 64, 64);
    problem.decay = DecayValues::PerHead(vec![-0.02; HEADS]);
    let (floor, counted) = (floors::linear(&problem), count(&problem, 1));
    let bytes = counted.global_bytes_read + counted.global_bytes_written;
    assert!(bytes as f64 <= 1.12 * floor.bytes() as f64, "{counted:?}");
    assert!(
        counted.global_bytes_written as f64 <= 1.02 * floor.written as f64,
        "{counted:?}"
    );
    assert!(
        counted.global_bytes_distinct as f64 <= 1.05 * floor.bytes() as f64,
        "{counted:?}"
    );
}

#[test]
fn scan_has_no_bank_conflicts() {
    for (dim_k, dim_v, multiprocessors) in [
        (128, 128, 1),
        (128, 128, 4),
        (128, 128, 1000),
        (64, 64, 1),
        (64, 64, 1000),
    ] {
        assert_no_bank_conflicts(&count(&prefill(100, dim_k, dim_v), multiprocessors));
    }
}

#[test]
fn decode_moves_every_byte_of_the_state_twice() {
    for state_is_vk in [false, true] {
        let case = LinearCase {
            state_is_vk,
            ..linear_case(Vec::new(), 128, 128)
        };
        let problem = case.decode(3).problem();
        let (floor, counted) = (floors::linear(&problem), count(&problem, 1));
        assert_eq!(counted.global_bytes_written, floor.written);
        assert!(counted.global_bytes_read >= floor.read, "{counted:?}");
        // Lengths, slots and decays are asked for by every thread, but they are the same few sectors.
        let distinct = floor.bytes() - states(&problem);
        assert!(counted.global_bytes_distinct <= distinct + 512, "{counted:?}");
    }
}

/// The selection of the last `queries` tokens of one sequence, with SALA's lists of 96 blocks.
fn selection_inputs(queries: usize, keys: usize, heads: [usize; 2], dim: usize, lse: Lse) -> SelectionInputs {
    let config = select_blocks::Config {
        heads_q: heads[0],
        heads_kv: heads[1],
        dim,
        scale: (dim as f32).powf(-0.5),
        block_size: 64,
        topk: 64,
        init_blocks: 1,
        local_blocks: 32,
        lse,
    };
    SelectionInputs::normal(Precision::Bf16, config, &[queries], &[keys], 1)
}

/// Keys are read once and four groups of 16 again past each tile of 64, rows are written once, and no bank is asked twice.
#[test]
fn compression_reads_keys_once() {
    for dim in [64, 128] {
        let tokens = 4096;
        let problem = selection_inputs(0, tokens, [HEADS; 2], dim, Lse::Coarse).compress();
        let (floor, counted) = (floors::compression(&problem), count(&problem, 1));
        assert_eq!(counted.global_bytes_written, floor.written);
        let halo = ((tokens / 1024 - 1) * 64 * HEADS * dim * 2) as u64;
        let indices = counted.global_bytes_read - floor.read - halo;
        assert!(indices < (floor.read + halo) / 10, "{indices} bytes of lengths");
        assert_no_bank_conflicts(&counted);
    }
}

fn selection(queries: usize, keys: usize, group: usize, dim: usize, lse: Lse) -> SelectProblem {
    let inputs = selection_inputs(queries, keys, [group, 1], dim, lse);
    inputs.select(&inputs.compress().reference(), None)
}

/// Scoring takes 32 columns per warp and 32 rows at a time, of K2 up to the last token and of K1 from the first free block to the last; one
/// exponential per element of either, and a few for new maxima and for pieces, of which K2 has two here. Warps without tokens do nothing.
#[test]
fn selection_scores_free_blocks_alone() {
    for (queries, group, dim, lse, warps) in [
        (16, 16, 128, Lse::Coarse, 8),
        (16, 16, 64, Lse::Exact, 8),
        (1, 16, 128, Lse::Coarse, 1),
        (5, 8, 64, Lse::Coarse, 2),
        (9, 4, 64, Lse::Coarse, 2),
    ] {
        let problem = selection(queries, 64 * 160, group, dim, lse);
        let (issued, counted) = (floors::selection_issues(&problem, warps), count(&problem, 1));
        assert_eq!(counted.tensor_flops, issued, "{queries} queries, group {group}");
        let (exponentials, elements) = (counted.exponentials, issued / (2 * dim as u64));
        assert!(
            exponentials >= elements && exponentials < elements * 3 / 2,
            "{exponentials} for {elements} elements"
        );
        assert_no_bank_conflicts(&counted);
    }
}

/// What a token can do without is at most a fifth of a prompt's products at 8K, and a tenth at 32K: tokens whose lists have room for every block cost
/// nothing, rows behind the last token of a tile and those of forced blocks are not multiplied, and turns of 32 rows round up.
#[test]
fn selection_multiplies_little_beside_what_decides() {
    const TILE: usize = 16;
    for (tokens, tiles, most) in [(8192, 64, 1.20), (32_768, 16, 1.10)] {
        let (mut issued, mut needed) = (0, 0);
        for tile in 0..tiles {
            // Odd, so that all remainders of blocks occur; the first tiles have no choice.
            let keys = tile * tokens / tiles + (tile * 37) % 64 / TILE * TILE + TILE;
            let problem = selection(TILE, keys.min(tokens), 16, 64, Lse::Coarse);
            issued += floors::selection_issues(&problem, 8);
            needed += floors::selection(&problem).flops;
        }
        let ratio = issued as f64 / needed as f64;
        assert!((1.0..most).contains(&ratio), "{ratio} × the products at {tokens}");
    }
}

/// Steps of 64 rows that belong to blocks at the start of every list are neither loaded nor multiplied.
#[test]
fn selection_skips_steps_of_forced_blocks() {
    let of_forced = |init_blocks: usize| {
        let mut inputs = selection_inputs(16, 64 * 160, [16, 1], 64, Lse::Coarse);
        inputs.config.init_blocks = init_blocks;
        let problem = inputs.select(&inputs.compress().reference(), None);
        count(&problem, 1)
    };
    let [one, seventeen, fifty] = [1, 17, 50].map(of_forced);
    let step = |steps: u64| steps * 64 * 8 * 32 * 2 * 64;
    assert_eq!(
        one.tensor_flops - seventeen.tensor_flops,
        step(1),
        "row 67 is the first"
    );
    assert_eq!(one.tensor_flops - fifty.tensor_flops, step(3), "row 199 is the first");
    let bytes = one.global_bytes_read - fifty.global_bytes_read;
    assert_eq!(bytes / (64 * 2), 199 - 3, "rows that are not read");
}

/// Three heads of a group and more are padded to less than twice as many columns.
#[test]
fn groups_cost_what_the_columns_do_that_they_are_padded_to() {
    for (group, columns) in [(3, 4), (5, 8), (6, 8), (7, 8), (12, 16), (24, 32)] {
        let [flops, most] = [group, columns].map(|heads| {
            let problem = selection(16, 64 * 160, heads, 64, Lse::Coarse);
            count(&problem, 1).tensor_flops
        });
        assert_eq!(flops, most, "{group} heads");
        assert!(columns < 2 * group);
    }
}

/// Selection of few tokens reads K1 and K2 once, and where K1 normalises too twice, whatever the number of tokens. What it reads of queries, lengths
/// and its workspace is told apart: the first grows with the tokens, which all have the same rows here, and none of the others with the channels. Where
/// blocks have to share pieces, they find out less often about their sequence.
#[test]
fn a_decode_step_reads_compressed_keys_once() {
    for (lse, most) in [(Lse::Coarse, 1.05), (Lse::Exact, 2.1)] {
        let problem = |queries, dim| selection(queries, 64 * 260 + 31, 1, dim, lse).decode();
        let read_by =
            |queries, dim, multiprocessors| count(&problem(queries, dim), multiprocessors).global_bytes_read as f64;
        let read = |queries, dim| read_by(queries, dim, 132);
        let [one, two, all] = [1, 2, 16].map(|queries| read(queries, 128));
        let of_token = two - one;
        assert_eq!(all - one, 15.0 * of_token, "{lse:?}: no more keys for more tokens");
        let of_half_as_many_channels = 2.0 * read(1, 64) - read(2, 64);
        let keys = 2.0 * (one - of_token - of_half_as_many_channels);
        let floor = (floors::selection(&problem(1, 128)).read - 128 * 2) as f64;
        assert!(
            keys >= floor && keys <= most * floor,
            "{lse:?}: {keys} bytes of {floor}"
        );
        for (queries, all_read) in [(1, one), (16, all)] {
            let shared = read_by(queries, 128, 1);
            assert!(
                shared < all_read && shared > keys,
                "{lse:?}: {shared} bytes, by blocks of their own {all_read}"
            );
        }
    }
}

/// While a list has room for every block, nothing is read but lengths.
#[test]
fn selection_without_a_choice_only_writes_lists() {
    let problem = selection(64, 64 * 96, 16, 128, Lse::Coarse);
    let (floor, counted) = (floors::selection(&problem), count(&problem, 1));
    let lists = Floor {
        written: 64 * 96 * 4,
        ..Floor::default()
    };
    assert_eq!(floor, lists);
    assert_eq!((counted.tensor_flops, counted.exponentials), (0, 0));
    assert_eq!(counted.global_bytes_written, floor.written);
    assert!(counted.global_bytes_distinct <= floor.bytes() + 1024, "{counted:?}");
}

/// A decode step at SALA's dims reads keys and values of the blocks that are listed, once; what its pieces leave for the merge is a
/// fifteenth of that. Several tokens of a sequence cost what they cost one by one.
#[test]
fn a_decode_step_reads_listed_keys_once() {
    for (queries, heads_kv) in [(1, 2), (3, 1)] {
        let case = AttentionCase {
            heads_kv,
            list_len: 96,
            ..AttentionCase::plain(vec![(queries, 64 * 160)], 1)
        };
        let mut problem = case.problem().decode();
        if let Some(lists) = &mut problem.lists {
            lists.indices = (64..160).collect::<Vec<_>>().repeat(queries * heads_kv);
        }
        let (floor, counted) = (floors::attention(&problem), count(&problem, 1));
        let heads_q = 16 * heads_kv;
        let (row, listed) = (128 * 2, 96 * 64);
        let distinct = (heads_kv * 2 * listed * row) as u64;
        let keys = queries as u64 * distinct;
        let out = (queries * heads_q * row) as u64;
        let pieces = counted.global_bytes_written - out;
        assert!(
            pieces as f64 <= 0.07 * keys as f64,
            "{pieces} bytes of pieces for {keys}"
        );
        // Each of the two launches counts its own: the second one reads what the first has written.
        let others = 3 * out + 2 * pieces;
        assert!(
            counted.global_bytes_distinct <= distinct * 102 / 100 + others,
            "{counted:?}"
        );
        // Queries, lists and lengths are asked for by every warp and thread, and pieces once more.
        assert!(counted.global_bytes_read as f64 <= 1.45 * keys as f64, "{counted:?}");
        // Every row of a fragment is a head, but keys behind the token are multiplied too.
        let blocks = counted.tensor_flops as f64 / floor.flops as f64;
        assert!((1.0..1.02).contains(&blocks), "{blocks} x the products");
        assert_no_bank_conflicts(&counted);
    }
}

/// Dense prefill multiplies no more than the causal pairs and what their steps of 64 keys round them up to, and reads keys and values once for each
/// tile of 256 rows, or of 128 where there are too few of those for the multiprocessors: with one query head per kv head a tile of 128 rows is 128
/// tokens, with 16 it is 8.
#[test]
fn dense_prefill_reads_keys_once_per_tile() {
    let calls = [(1, 4096, 8192), (16, 64, 8192), (5, 75, 4096)];
    let tiles = [(256, 1), (128, 1 << 20)];
    for ((group, queries, keys), (rows, multiprocessors)) in
        calls.into_iter().flat_map(|call| tiles.map(|tile| (call, tile)))
    {
        let problem = dense_problem(group, queries, keys);
        let (floor, counted) = (floors::attention(&problem), count(&problem, multiprocessors));
        let issued = counted.tensor_flops as f64 / floor.flops as f64;
        let tile = rows / group;
        let used = (tile * group) as f64 / rows as f64;
        assert!(
            (1.0..1.05).contains(&(issued * used)),
            "group {group}: {issued} x the products"
        );
        // Tiles count from the first token, and read up to their last.
        let tiles = (0..queries)
            .step_by(tile)
            .map(|first| keys - queries + (first + tile).min(queries));
        let read: usize = tiles.map(|seen| 2 * seen * problem.config.dim * 2).sum();
        let others = counted.global_bytes_read as i64 - read as i64;
        assert!(
            (0..read as i64 / 20).contains(&others),
            "group {group}: {others} bytes beside {read} of keys and values"
        );
        assert_no_bank_conflicts(&counted);
    }
}

/// Steps of keys that no token of a tile sees are neither read nor multiplied, nor are pieces of a decode step.
#[test]
fn first_keys_leave_out_what_no_token_sees() {
    const WINDOW: usize = 200;
    let windowed = |group, queries, keys| {
        let mut problem = dense_problem(group, queries, keys);
        let positions = keys - queries..keys;
        problem.first_key = Some(positions.map(|position| position as i32 + 1 - WINDOW as i32).collect());
        problem
    };
    for (group, queries) in [(1, 1024), (16, 64)] {
        let problem = windowed(group, queries, 8192);
        let counted = count(&problem, 1);
        let tile = 128 / group;
        // A warp has no more tokens than 16, and a window begins and ends within a step.
        let steps = (WINDOW + tile.min(16) - 1).div_ceil(64) + 1;
        let most = queries * group * steps * 64 * 2 * 2 * problem.config.dim;
        assert!(
            counted.tensor_flops <= most as u64,
            "group {group}: {} of {most}",
            counted.tensor_flops
        );
        let keys = queries.div_ceil(tile) * (WINDOW + tile) * 2 * problem.config.dim * 2;
        let others = 2 * queries * group * problem.config.dim * 2;
        assert!(
            counted.global_bytes_read as usize <= keys + others,
            "group {group}: {} bytes of {keys}",
            counted.global_bytes_read
        );
    }
    let [all, some] = [0, 8192 - WINDOW as i32].map(|first| {
        let mut problem = dense_problem(16, 1, 8192);
        problem.first_key = Some(vec![first]);
        count(&problem.decode(), 1)
    });
    assert!(some.tensor_flops * 32 <= all.tensor_flops, "one piece of 32");
    assert!(
        some.global_bytes_read * 10 <= all.global_bytes_read,
        "{some:?} of {all:?}"
    );
}

/// The last tokens of a sequence that attend to all its keys, of 64 channels.
fn dense_problem(group: usize, queries: usize, keys: usize) -> AttentionProblem {
    let case = AttentionCase {
        group,
        dim: 64,
        lists: ListCase::None,
        ..AttentionCase::plain(vec![(queries, keys)], 1)
    };
    case.problem()
}

/// What a call costs with keys in pages, and with keys in a cache that is as long.
fn in_pages_and_cached<P: Problem>(problem: impl Fn(Storage) -> P, page_size: usize, keys: usize) -> [Counters; 2] {
    [Storage::paged(page_size), Storage::Cached(keys)].map(|storage| count(&problem(storage), 1))
}

/// Pages of a block of keys and more cost nothing: one byte in a hundred at most, for the tables, and no other work.
#[test]
fn pages_cost_no_more_than_caches() {
    const KEYS: usize = 64 * 160;
    let selection = |storage| {
        let mut inputs = selection_inputs(16, KEYS, [16 * HEADS, HEADS], 128, Lse::Coarse);
        inputs.batch.storage = storage;
        inputs
    };
    let compression = |storage| selection(storage).compress();
    let select = |storage| {
        let inputs = selection(storage);
        inputs.select(&inputs.compress().reference(), None)
    };
    let attention = |lists, decode: bool| {
        move |storage| {
            let case = AttentionCase {
                lists,
                list_len: 40,
                ..AttentionCase::plain(vec![(if decode { 1 } else { 16 }, 64 * 64)], 1)
            };
            let mut problem = case.problem();
            problem.batch.storage = storage;
            if decode { problem.decode() } else { problem }
        }
    };
    for page_size in [64, 256, 1024] {
        for (what, [paged, cached]) in [
            ("compression", in_pages_and_cached(compression, page_size, KEYS)),
            ("selection", in_pages_and_cached(select, page_size, KEYS)),
            (
                "lists",
                in_pages_and_cached(attention(ListCase::Selected, false), page_size, 64 * 64),
            ),
            (
                "dense",
                in_pages_and_cached(attention(ListCase::None, false), page_size, 64 * 64),
            ),
            (
                "decode",
                in_pages_and_cached(attention(ListCase::Selected, true), page_size, 64 * 64),
            ),
        ] {
            let what = format!("{what} in pages of {page_size}");
            for [paged, cached] in [
                [paged.global_bytes_read, cached.global_bytes_read],
                [paged.global_bytes_distinct, cached.global_bytes_distinct],
            ] {
                assert!(
                    paged as f64 <= 1.01 * cached as f64,
                    "{what}: {paged} bytes instead of {cached}"
                );
            }
            assert_eq!(paged.global_bytes_written, cached.global_bytes_written, "{what}");
            assert_eq!(paged.tensor_flops, cached.tensor_flops, "{what}");
            assert_eq!(paged.exponentials, cached.exponentials, "{what}");
            assert_eq!(paged.shared_wavefronts, cached.shared_wavefronts, "{what}");
        }
    }
}

/// Verification reads each state once, whatever the number of drafts, and writes none; commitment reads and writes it once.
#[test]
fn drafts_move_each_state_once() {
    for state_is_vk in [false, true] {
        let config = linear_attention::Config {
            heads_q: HEADS,
            heads_kv: HEADS,
            dim_k: 128,
            dim_v: 128,
            scale: 0.1,
            state_is_vk,
        };
        let verify = DraftsProblem::normal(Precision::Bf16, config, [3, 4], DecayCase::Lightning, 1);
        let states = (3 * config.slot_len() * 4) as u64;
        let rows = (verify.q.len() + verify.k.len() + verify.v.len()) as u64 * 2;
        let outputs = (3 * 4 * HEADS * 128 * 2) as u64;
        let counted = count(&verify, 1);
        assert_eq!(counted.global_bytes_written, outputs);
        assert!(counted.global_bytes_read >= states + rows, "{counted:?}");
        assert!(
            counted.global_bytes_distinct <= states + rows + outputs + 512,
            "{counted:?}"
        );
        let commit = verify.with(Step::Commit {
            accepted: vec![4; 3],
            path: None,
        });
        let counted = count(&commit, 1);
        assert_eq!(counted.global_bytes_written, states);
        let rows = (verify.k.len() + verify.v.len()) as u64 * 2;
        assert!(counted.global_bytes_distinct <= states + rows + 512, "{counted:?}");
        // The state once, and beside it a few rows by every block of columns.
        assert!(counted.global_bytes_read <= states + 6 * rows, "{counted:?}");
    }
}

/// A correction reads the state once for each block of tokens and channels and moves no row that the state has been forgotten for; a merge reads
/// every state once, whatever is stored of them.
#[test]
fn parts_on_ranks_move_what_is_not_forgotten() {
    let config = linear_attention::Config {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim_k: 64,
        dim_v: 128,
        scale: 0.1,
        state_is_vk: false,
    };
    let mut correct = RanksProblem::correct(Precision::Bf16, config, &[2048], DecayCase::None, 1);
    let state = (config.slot_len() * 4) as u64;
    let RanksStep::Correct { cumulative, .. } = &mut correct.step else {
        unreachable!("it is a correction")
    };
    // 96 tokens of the first head are left, and all of the second.
    for (index, sum) in cumulative.iter_mut().enumerate() {
        *sum = if index % 2 == 0 && index / 2 >= 96 {
            -200.0
        } else {
            -1.0
        };
    }
    let (rows, sums) = (96 + 2048, 2 * 2 * 2048 * 4);
    let counted = count(&correct, 1);
    assert_eq!(counted.global_bytes_written, rows * 256);
    // Bounds by each thread, a slot by each warp, of two spans, two tiles and two heads.
    let lists = 8 * (128 * 8 + 4 * 4);
    let expected = 2 * state + 2 * rows * 128 + rows * 256 + sums + lists;
    assert_eq!(counted.global_bytes_read, expected);
    assert_eq!(counted.tensor_flops, 2 * rows * 64 * 128);
    assert_no_bank_conflicts(&counted);

    let merge = RanksProblem::merge(config, [3, 2], 1);
    let counted = count(&merge, 1);
    assert_eq!(counted.global_bytes_written, 6 * state);
    // One of the two begins from zero.
    assert!(counted.global_bytes_distinct.abs_diff(13 * state) < 4096, "{counted:?}");
    // Beside a state, its decay by each thread.
    assert!(counted.global_bytes_read < 9 * state, "{counted:?}");
}

/// Norms move each byte once; weights, tables and positions are a few sectors that all rows share.
#[test]
fn norms_move_each_byte_once() {
    let rope = NormProblem::rope(Precision::Bf16, [8, 32, 128], 1);
    let gate = NormProblem::gate(Precision::Bf16, [8, 4096], 1);
    let bytes = |problem: &NormProblem| problem.x.len() as u64 * 2;
    let counted = count(&rope, 1);
    assert_eq!(counted.global_bytes_written, bytes(&rope));
    let shared = (8 + 1) * 128 * 4 + 1024;
    assert!(
        counted.global_bytes_distinct <= 2 * bytes(&rope) + shared,
        "{counted:?}"
    );
    assert!(
        counted.global_bytes_read < bytes(&rope) * 5 / 2,
        "heads share the table: {counted:?}"
    );
    let counted = count(&gate, 1);
    assert_eq!(counted.global_bytes_written, bytes(&gate));
    assert_eq!(
        counted.global_bytes_read,
        3 * bytes(&gate),
        "x and gate once, and weights for every token"
    );
    let counted = count(&gate.sums(), 1);
    assert_eq!(counted.global_bytes_read, bytes(&gate));
    assert_eq!(counted.global_bytes_written, 8 * 4);
}
