//! Replayed calls: a batch of which a sequence is attended densely has neither lists nor scores for it, whatever the file says; and keys in pages
//! give what packed ones do.

use half::bf16;
use sala_testkit::batch::Storing;
use sala_testkit::devices::host;
use sala_testkit::memory::Packing;
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::linear_attention::Phase;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, Magnitude, StateCase};
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
        for problem in [case.problem(), case.problem().decode()] {
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
            dim_k: 64,
            dim_v: 128,
            lengths: vec![40, 0, 7],
            decay: DecayCase::PerToken,
            state_is_vk,
            packing: Packing::Fused,
            magnitude: Magnitude::Normal,
            states: StateCase::InPlace,
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
