//! A replayed batch of which a sequence is attended densely: it has neither lists nor scores, whatever the file says.

use half::bf16;
use sala_testkit::devices::host;
use sala_testkit::numbers::Numbers;
use sala_testkit::replay::{Call, Replay};
use sala_testkit::safetensors::serialize;
use sala_testkit::safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;

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
    ];
    let constants: HashMap<String, String> = constants.map(|(name, value)| (name.into(), value.into())).into();
    let mut drafts = vec![
        normals("q", [TOTAL_Q, 4, DIM], 1),
        normals("k", [TOTAL_K, 1, DIM], 2),
        normals("v", [TOTAL_K, 1, DIM], 3),
        integers("cu_seqlens_q", &[3], &[0, QUERIES[0] as i32, TOTAL_Q as i32]),
        integers("cu_seqlens_k", &[3], &[0, KEYS[0] as i32, TOTAL_K as i32]),
    ];
    drafts.extend(expected);
    let views = drafts.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (*name, view.expect("the bytes are those of the shape"))
    });
    let bytes = serialize(views, Some(constants)).expect("it can be written");
    Replay::from_bytes("mixed".as_ref(), &bytes).unwrap_or_else(|error| panic!("{error}"))
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
