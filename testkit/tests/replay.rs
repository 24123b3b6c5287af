//! Replayed calls: a batch of which a sequence is attended densely has neither lists nor scores for it, whatever the file says; and keys in pages
//! give what packed ones do.

use half::bf16;
use sala_kernels::reference::linear_attention::Config;
use sala_testkit::batch::Storing;
use sala_testkit::devices::host;
use sala_testkit::memory::Packing;
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::linear_attention::Phase;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, Magnitude, StateCase};
use sala_testkit::operations::linear_drafts::{DraftsProblem, Step};
use sala_testkit::operations::merge::{MergeProblem, Place};
use sala_testkit::operations::norms::NormProblem;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, ListCase};
use sala_testkit::problem::Problem;
use sala_testkit::replay::{Call, Replay, Unusable};
use sala_testkit::safetensors::serialize;
use sala_testkit::safetensors::tensor::{Dtype, TensorView};
use sala_testkit::tolerance::Precision;
use std::collections::HashMap;
use std::path::Path;

const QUERIES: [usize; 2] = [6, 4];
const KEYS: [usize; 2] = [500, 200];
const TOTAL_Q: usize = QUERIES[0] + QUERIES[1];
const TOTAL_K: usize = KEYS[0] + KEYS[1];
const DIM: usize = 64;
const LIST: usize = 4;
const BLOCKS: usize = 8;

/// The bytes of a tensor of the file.
type Draft = (&'static str, Dtype, Vec<usize>, Vec<u8>);

fn normals(name: &'static str, shape: [usize; 3], seed: u64) -> Draft {
    let numbers = Numbers::new(seed).normals(shape.iter().product(), 1.0).into_iter();
    let bytes = numbers.flat_map(|x| bf16::from_f64(x).to_le_bytes()).collect();
    (name, Dtype::BF16, shape.to_vec(), bytes)
}

fn integers(name: &'static str, shape: &[usize], values: &[i32]) -> Draft {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    (name, Dtype::I32, shape.to_vec(), bytes)
}

fn replay(expected: Vec<Draft>) -> Replay {
    let mut drafts = packed();
    drafts.extend(expected);
    read(drafts, "prefill").unwrap_or_else(|error| panic!("{error}"))
}

fn packed() -> Vec<Draft> {
    vec![
        normals("q", [TOTAL_Q, 4, DIM], 1),
        normals("k", [TOTAL_K, 1, DIM], 2),
        normals("v", [TOTAL_K, 1, DIM], 3),
        integers("cu_seqlens_q", &[3], &[0, QUERIES[0] as i32, TOTAL_Q as i32]),
        integers("cu_seqlens_k", &[3], &[0, KEYS[0] as i32, TOTAL_K as i32]),
    ]
}

/// The same keys in pages, which lie from the last to the first; one page more is NaN, and what nobody needs of the table is no page.
fn paged(page_size: usize) -> Vec<Draft> {
    let mut drafts = packed();
    let needed = KEYS.map(|keys| keys.div_ceil(page_size));
    let (stores, width) = (needed[0] + needed[1] + 1, needed[0] + 1);
    let mut table = vec![-7; 2 * width];
    let (first, second) = table.split_at_mut(width);
    first[..needed[0]].copy_from_slice(&Vec::from_iter((0..stores as i32).rev().take(needed[0])));
    second[..needed[1]].copy_from_slice(&Vec::from_iter((1..=needed[1] as i32).rev()));
    for (_, _, shape, bytes) in &mut drafts[1..3] {
        let row = DIM * 2;
        let mut pages = vec![0xff; stores * page_size * row];
        for (sequence, first) in [0, KEYS[0]].into_iter().enumerate() {
            for key in 0..KEYS[sequence] {
                let page = table[sequence * width + key / page_size] as usize;
                let to = (page * page_size + key % page_size) * row;
                pages[to..to + row].copy_from_slice(&bytes[(first + key) * row..(first + key + 1) * row]);
            }
        }
        (*shape, *bytes) = (vec![stores, page_size, 1, DIM], pages);
    }
    drafts.pop();
    drafts.push(integers("page_table", &[2, width], &table));
    drafts.push(integers("seqlens_k", &[2], &KEYS.map(|keys| keys as i32)));
    drafts
}

fn read(drafts: Vec<Draft>, entry: &str) -> Result<Replay, Unusable> {
    let constants = [
        ("op", "sparse_attention"),
        ("scale", "0.125"),
        ("block_size", "64"),
        ("kernel_size", "32"),
        ("kernel_stride", "16"),
        ("topk", "3"),
        ("init_blocks", "1"),
        ("local_blocks", "1"),
        ("dense_len", "256"),
        ("lse", "coarse"),
        ("entry", entry),
    ];
    let constants: HashMap<String, String> = constants.map(|(name, value)| (name.into(), value.into())).into();
    let views = drafts.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (*name, view.expect("the bytes are those of the shape"))
    });
    let bytes = serialize(views, Some(constants)).expect("it can be written");
    Replay::from_bytes("mixed".as_ref(), &bytes)
}

#[test]
fn lists_of_dense_sequences_are_empty_whatever_the_file_says() {
    let lists = replay(Vec::new()).run_on_reference().block_indices.expect("it selects");
    let (sparse, dense) = lists.split_at(QUERIES[0] * LIST);
    assert!(sparse.chunks(LIST).all(|list| list[0] == 0) && dense.iter().all(|&block| block == -1));

    // Other implementations select for dense sequences too.
    let mut recorded = lists.clone();
    recorded[QUERIES[0] * LIST..].fill(2);
    let mut scores = vec![-1.0f32; TOTAL_Q * BLOCKS];
    scores[QUERIES[0] * BLOCKS..].fill(0.7);
    let scores = scores.iter().flat_map(|x| x.to_le_bytes()).collect();
    let replay = replay(vec![
        integers("expected.block_indices", &[TOTAL_Q, 1, LIST], &recorded),
        ("expected.block_scores", Dtype::F32, vec![1, TOTAL_Q, BLOCKS], scores),
    ]);
    let Call::Sparse(call) = &replay.call else {
        panic!("it is sparse")
    };
    assert_eq!(call.expected.block_indices, Some(lists.clone()));
    let (results, _) = replay.run(&host()).expect("it runs");
    assert_eq!(results.block_indices.as_ref(), Some(&lists));
    for results in [results, replay.run_on_reference()] {
        let judgement = replay.judge(&results);
        judgement.assert("mixed");
        assert_eq!(judgement.selection, Some((TOTAL_Q, TOTAL_Q)));
    }
    let mut wrong = replay.run_on_reference();
    wrong.block_indices = Some(recorded);
    assert!(!replay.judge(&wrong).is_pass(), "a dense sequence has a list");
}

#[test]
fn a_file_may_hold_keys_in_pages() {
    let (expected, _) = replay(Vec::new()).run(&host()).expect("it runs");
    for page_size in [1, 16, 64, 1024] {
        let replay = read(paged(page_size), "prefill").unwrap_or_else(|error| panic!("{error}"));
        let (results, _) = replay.run(&host()).expect("it runs");
        assert_eq!(results.out, expected.out, "pages of {page_size}");
        assert_eq!(results.block_indices, expected.block_indices, "pages of {page_size}");
        let decode = read(paged(page_size), "decode").unwrap_or_else(|error| panic!("{error}"));
        let (results, _) = decode.run(&host()).expect("it runs");
        decode.judge(&results).assert("decode");
    }
}

/// Drafts that select and attend as trees, one of them refused.
#[test]
fn a_file_may_hold_trees() {
    let trees = |parent: [i32; 12]| {
        let mut drafts = packed();
        drafts.push(integers("parent", &[2, 6], &parent));
        drafts
    };
    for parent in [
        [-1, 0, 0, 2, 2, 3, -1, 0, 0, 1, 9, 9],
        [-1, 0, 0, 3, 2, 3, -1, 0, 0, 1, 9, 9],
    ] {
        let replay = read(trees(parent), "decode").unwrap_or_else(|error| panic!("{error}"));
        let (results, _) = replay.run(&host()).expect("it runs");
        replay.judge(&results).assert("trees");
        let (chain, _) = read(packed(), "decode")
            .expect("a chain")
            .run(&host())
            .expect("it runs");
        assert_ne!(results.out, chain.out, "the parents are taken in");
    }
    let refused = |drafts, entry| read(drafts, entry).map(|_| ()).unwrap_err().problem;
    let parent = [-1; 12];
    let prefill = refused(trees(parent), "prefill");
    assert!(prefill.contains("`parent` is of decode steps"), "{prefill}");
    let mut narrow = packed();
    narrow.push(integers("parent", &[2, 5], &parent[..10]));
    let narrow = refused(narrow, "decode");
    assert!(narrow.contains("expected [2, at least 6]"), "{narrow}");
}

#[test]
fn a_table_that_names_no_page_is_refused() {
    let with = |name: &str, draft: Draft| {
        let mut drafts = paged(16);
        *drafts.iter_mut().find(|draft| draft.0 == name).expect("there is one") = draft;
        read(drafts, "prefill").map(|_| ()).unwrap_err().problem
    };
    let width = KEYS[0].div_ceil(16) + 1;
    let nowhere = with("page_table", integers("page_table", &[2, width], &vec![99; 2 * width]));
    assert!(nowhere.contains("`page_table`"), "{nowhere}");
    let short = with("seqlens_k", integers("seqlens_k", &[2], &[500, 5000]));
    assert!(short.contains("`seqlens_k` has a length of 5000"), "{short}");
    let odd = with("k", normals_of_shape("k", vec![11, 24, 1, DIM]));
    assert!(odd.contains("pages of 24 tokens"), "{odd}");
    let entry = read(paged(16), "verify").map(|_| ()).unwrap_err().problem;
    assert!(entry.contains("`entry` is `verify`"), "{entry}");
}

fn normals_of_shape(name: &'static str, shape: Vec<usize>) -> Draft {
    let bytes = vec![0; 2 * shape.iter().product::<usize>()];
    (name, Dtype::BF16, shape, bytes)
}

/// Drafts of two sequences, in files that hold what they should give, and that hold nothing.
#[test]
fn drafts_are_verified_and_committed() {
    const HEADS: usize = 2;
    let rows = [6, 1, DIM];
    let inputs = || {
        vec![
            normals("k", rows, 2),
            normals("v", rows, 3),
            floats("log_decay", &[HEADS], &[-0.1, -2.0]),
            floats(
                "initial_state",
                &[2, HEADS, DIM, DIM],
                &vec![0.5; 2 * HEADS * DIM * DIM],
            ),
        ]
    };
    let mut verify = inputs();
    verify.push(normals("q", [6, HEADS, DIM], 1));
    verify.push(integers("parent", &[2, 3], &[-1, 0, 0, -1, 0, 1]));
    let mut commit = inputs();
    commit.push(integers("accepted", &[2], &[0, 2]));
    commit.push(integers("path", &[2, 3], &[0, 0, 0, 0, 2, -1]));
    for (op, drafts) in [("linear_verify", verify), ("linear_commit", commit)] {
        let replay = read_op(op, &drafts).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(replay.operation(), op);
        let (results, _) = replay.run(&host()).expect("it runs");
        for results in [results, replay.run_on_reference()] {
            replay.judge(&results).assert(op);
        }
        let name = if op == "linear_verify" {
            "expected.out"
        } else {
            "expected.final_state"
        };
        let shape = if op == "linear_verify" {
            vec![6, HEADS, DIM]
        } else {
            vec![2, HEADS, DIM, DIM]
        };
        let zeros = vec![0.0; shape.iter().product()];
        let mut wrong = drafts;
        wrong.push(floats(name, &shape, &zeros));
        let replay = read_op(op, &wrong).unwrap_or_else(|error| panic!("{error}"));
        let (results, _) = replay.run(&host()).expect("it runs");
        assert!(!replay.judge(&results).is_pass(), "{op}: zeros are expected");
    }
}

fn floats(name: &'static str, shape: &[usize], values: &[f32]) -> Draft {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    (name, Dtype::F32, shape.to_vec(), bytes)
}

fn read_op(op: &str, drafts: &[Draft]) -> Result<Replay, Unusable> {
    let constants = HashMap::from([
        ("op".to_owned(), op.to_owned()),
        ("scale".to_owned(), "0.125".to_owned()),
        ("eps".to_owned(), "1e-6".to_owned()),
    ]);
    let views = drafts.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (*name, view.expect("the bytes are those of the shape"))
    });
    let bytes = serialize(views, Some(constants)).expect("it can be written");
    Replay::from_bytes(op.as_ref(), &bytes)
}

#[test]
fn norms_are_replayed() {
    let rope = vec![
        normals("x", [3, 2, DIM], 1),
        normals_1("weight", DIM, 2),
        floats(
            "cos_sin",
            &[5, DIM],
            &sala_kernels::rotary_cos_sin(5, DIM, 1e4).unwrap(),
        ),
        integers("positions", &[3], &[4, 0, 2]),
    ];
    let row = 4 * DIM;
    let (_, dtype, _, x) = normals("x", [1, 3, row], 1);
    let (_, _, _, gate) = normals("gate", [1, 3, row], 2);
    let gate = vec![
        ("x", dtype, vec![3, row], x),
        ("gate", dtype, vec![3, row], gate),
        normals_1("weight", row, 3),
    ];
    for (op, drafts, shape) in [("norm_rope", rope, vec![3, 2, DIM]), ("norm_gate", gate, vec![3, row])] {
        let replay = read_op(op, &drafts).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(replay.operation(), op);
        let (results, _) = replay.run(&host()).expect("it runs");
        for results in [results, replay.run_on_reference()] {
            replay.judge(&results).assert(op);
        }
        let mut wrong = drafts;
        wrong.push(floats("expected.out", &shape, &vec![3.0; shape.iter().product()]));
        let replay = read_op(op, &wrong).unwrap_or_else(|error| panic!("{error}"));
        let (results, _) = replay.run(&host()).expect("it runs");
        assert!(!replay.judge(&results).is_pass(), "{op}: threes are expected");
    }
}

#[test]
fn merges_are_replayed() {
    let (shape, rows) = ([3, 2, DIM], [3, 2]);
    let merge = vec![
        normals("o1", shape, 1),
        floats("lse1", &rows, &[0.0, 1.0, f32::NEG_INFINITY, 3.0, -2.0, 0.5]),
        normals("o2", shape, 2),
        floats(
            "lse2",
            &rows,
            &[0.0, 1e4, f32::NEG_INFINITY, 2.0, -1.0, f32::NEG_INFINITY],
        ),
    ];
    let replay = read_op("merge", &merge).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(replay.operation(), "merge");
    let (results, _) = replay.run(&host()).expect("it runs");
    for results in [results, replay.run_on_reference()] {
        assert!(results.lse.is_some());
        replay.judge(&results).assert("merge");
    }
    for wrong in [
        floats("expected.out", &shape, &vec![3.0; 6 * DIM]),
        floats("expected.lse", &rows, &[3.0; 6]),
    ] {
        let replay = read_op("merge", &[&merge[..], &[wrong]].concat()).unwrap_or_else(|error| panic!("{error}"));
        let (results, _) = replay.run(&host()).expect("it runs");
        assert!(!replay.judge(&results).is_pass(), "threes are expected");
    }
    let error = read_op("merge", &merge[..3]).unwrap_err().to_string();
    assert!(error.contains("lse2"), "{error}");
}

#[test]
fn weights_and_turns_may_be_left_out() {
    let parts = [
        normals_1("weight", DIM, 2),
        integers("positions", &[3], &[4, 0, -1]),
        floats(
            "cos_sin",
            &[5, DIM],
            &sala_kernels::rotary_cos_sin(5, DIM, 1e4).unwrap(),
        ),
    ];
    let outs = [1, 2, 3, 7].map(|mask: usize| {
        let mut drafts = vec![normals("x", [3, 2, DIM], 1)];
        let chosen = parts.iter().enumerate().filter(|(part, _)| mask >> part & 1 == 1);
        drafts.extend(chosen.map(|(_, part)| part.clone()));
        let replay = read_op("norm_rope", &drafts).unwrap_or_else(|error| panic!("{error}"));
        let (results, _) = replay.run(&host()).expect("it runs");
        replay.judge(&results).assert("norm_rope");
        results.out
    });
    // Positions turn nothing without a table.
    assert!(outs[0] == outs[2] && outs[0] != outs[1] && outs[0] != outs[3]);
    let without_positions = [vec![normals("x", [3, 2, DIM], 1)], parts[2..].to_vec()].concat();
    let error = read_op("norm_rope", &without_positions).unwrap_err().to_string();
    assert!(error.contains("positions"), "{error}");
}

fn normals_1(name: &'static str, length: usize, seed: u64) -> Draft {
    let (_, dtype, _, bytes) = normals(name, [1, 1, length], seed);
    (name, dtype, vec![length], bytes)
}
#[test]
fn written_calls_are_read_as_they_were() {
    let read = |bytes: Option<Vec<u8>>| {
        let bytes = bytes.expect("the format can say it");
        Replay::from_bytes(Path::new("written"), &bytes).unwrap_or_else(|error| panic!("{error}"))
    };
    let lists = AttentionCase {
        dense_len: 100,
        ..AttentionCase::plain(vec![(9, 300), (0, 0), (1, 70)], 1)
    };
    let dense = AttentionCase {
        lists: ListCase::None,
        storage: Storing::Cached,
        ..lists.clone()
    };
    let paged = AttentionCase {
        storage: Storing::Paged(16),
        ..lists.clone()
    };
    for case in [lists.clone(), dense, paged] {
        let (whole, mut numbers) = (case.problem(), Numbers::new(case.seed));
        for problem in [whole.clone(), whole.decode(), whole.decode_trees(&mut numbers)] {
            let replay = read(problem.replay());
            let (got, expected) = (replay.run_on_reference(), problem.reference());
            assert!(got.out == expected.out && got.lse == Some(expected.lse), "{case:?}");
            let (results, _) = replay.run(&host()).unwrap_or_else(|error| panic!("{error}"));
            replay.judge(&results).assert("host");
        }
    }
    let gated = AttentionCase {
        with_gate: true,
        ..lists
    };
    assert_eq!(gated.problem().replay(), None, "files have no gates");

    for state_is_vk in [false, true] {
        let case = LinearCase {
            phase: Phase::Prefill,
            precision: Precision::F16,
            heads: 2,
            group: 1,
            dim_k: 64,
            dim_v: 128,
            lengths: vec![40, 0, 7],
            decay: DecayCase::PerToken,
            state_is_vk,
            packing: Packing::Fused,
            magnitude: Magnitude::Normal,
            states: StateCase::InPlace,
            checkpoint_every: 0,
            seed: 2,
        };
        let replay = read(case.problem().replay());
        assert!(
            replay.run_on_reference().out == case.problem().reference().out,
            "{case:?}"
        );
        assert_eq!(case.decode(3).problem().replay(), None, "files have no steps");
    }
}

#[test]
fn written_drafts_merges_and_norms_are_read_as_they_were() {
    let config = Config {
        heads_q: 4,
        heads_kv: 2,
        dim_k: 64,
        dim_v: 128,
        scale: 0.5,
        state_is_vk: true,
    };
    let verification = DraftsProblem::normal(Precision::F16, config, [2, 3], DecayCase::PerToken, 3);
    let commitment = Step::Commit {
        accepted: vec![2, 0],
        path: Some(vec![0, 2, -1, 7, 7, 7]),
    };
    let tree = Step::Verify {
        parent: Some(vec![-1, 0, 0, -1, -1, 1]),
    };
    // The files' layout.
    let by_key = Config {
        state_is_vk: false,
        ..config
    };
    let by_key = DraftsProblem::normal(Precision::F16, by_key, [2, 3], DecayCase::PerToken, 3);
    for problem in [verification.with(tree), verification, by_key.with(commitment)] {
        let bytes = problem.replay().expect("the format can say it");
        let replay = Replay::from_bytes(Path::new("written"), &bytes).unwrap_or_else(|error| panic!("{error}"));
        let (got, expected) = (replay.run_on_reference(), problem.reference());
        assert!(got.out == expected.out, "{:?}", problem.step);
        if let Some(state) = got.final_state {
            // Sequences have the slots in descending order, and files in ascending order.
            let slot = by_key.config.slot_len();
            assert!(state[..slot] == expected.pool[slot..2 * slot] && state[slot..] == expected.pool[..slot]);
        }
    }
    let merge = MergeProblem {
        place: Place::Over(1),
        ..MergeProblem::normal(Precision::F16, [3, 2, 64], 4.0, 5)
    };
    let bytes = merge.replay().expect("the format can say it");
    let replay = Replay::from_bytes(Path::new("written"), &bytes).unwrap_or_else(|error| panic!("{error}"));
    let (got, expected) = (replay.run_on_reference(), merge.reference());
    assert!(got.out == expected.out && got.lse == Some(expected.lse));
    let rope = NormProblem::rope(Precision::Bf16, [3, 2, 64], 4);
    let gate = NormProblem::gate(Precision::F16, [3, 136], 5);
    assert_eq!(gate.sums().replay(), None, "files have no sums");
    for problem in [rope, gate] {
        let bytes = problem.replay().expect("the format can say it");
        let replay = Replay::from_bytes(Path::new("written"), &bytes).unwrap_or_else(|error| panic!("{error}"));
        assert!(replay.run_on_reference().out == problem.reference().out);
    }
}
