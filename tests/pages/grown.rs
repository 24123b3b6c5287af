//! A sequence that is fed in chunks and token by token into a store gives the bits of one that lies packed as a whole.

use crate::{PAGE_SIZES, config, seed};
use sala_kernels::{
    AppendKeysArgs, AttentionShape, CompressKeysArgs, DType, SelectBlocksArgs, Sequences, SparseAttentionArgs,
    SparseLayer,
};
use sala_testkit::devices::{Machine, all};
use sala_testkit::memory::{Memory, Packing};
use sala_testkit::numbers::normals;
use sala_testkit::problem::launch;
use sala_testkit::storage::{Content, KeyRows, Storage, keys};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

const TOKENS: usize = 720;
const PRECISION: Precision = Precision::Bf16;

/// Lists, outputs and logarithms of all tokens.
type Results = (Vec<i32>, Vec<u16>, Vec<f32>);

/// q, k and v of the sequence.
fn prompt(seed: u64) -> [Values; 3] {
    let config = config();
    let tensor = |heads: usize, seed| normals(PRECISION, TOKENS * heads * config.dim, seed);
    [
        tensor(config.heads_q, seed),
        tensor(config.heads_kv, seed + 1),
        tensor(config.heads_kv, seed + 2),
    ]
}

fn layer() -> SparseLayer {
    let config = config();
    let shape = AttentionShape {
        heads_q: config.heads_q,
        heads_kv: config.heads_kv,
        dim: config.dim,
    };
    SparseLayer::builder(DType::Bf16, shape, 0)
        .topk(config.topk)
        .local_blocks(config.local_blocks)
        .build()
        .unwrap()
}

/// Feeds the sequence in steps that end at `ends`.
fn feed(
    machine: &Machine,
    prompt: &[Values; 3],
    storage: &Storage,
    packing: Packing,
    ends: impl Iterator<Item = usize>,
) -> Results {
    let (config, layer, [q, k, v]) = (config(), layer(), prompt);
    let (heads_q, heads_kv, dim, block_size) = (config.heads_q, config.heads_kv, config.dim, config.block_size);
    let bounds = [0, TOKENS as i32];
    let mut stores = Memory::new(&machine.device);
    let empty = |content| KeyRows::empty(storage.places(&bounds, content), heads_kv, dim);
    let store = empty(Content::Keys);
    let [k1, k2] = [16, 64].map(|stride| empty(Content::Compressed { stride, block_size }));
    stores
        .add_keys(PRECISION, packing, &[("k", &store), ("v", &store)])
        .unwrap();
    stores.add_keys(PRECISION, packing, &[("k1", &k1)]).unwrap();
    stores.add_keys(PRECISION, packing, &[("k2", &k2)]).unwrap();
    let mut results = Results::default();
    let mut start = 0;
    for end in ends {
        let tokens = end - start;
        let mut call = Memory::new(&machine.device);
        let part = |values: &Values| values.rows(TOKENS, start..end);
        let [q, k, v] = [q, k, v].map(part);
        call.add_rows(
            PRECISION,
            Packing::Separate,
            [tokens, heads_q],
            &[("q", dim, Some(&q)), ("out", dim, None)],
        )
        .unwrap();
        let new = [("k_new", dim, Some(&k)), ("v_new", dim, Some(&v))];
        call.add_rows(PRECISION, Packing::Separate, [tokens, heads_kv], &new)
            .unwrap();
        let list_len = layer.list_len();
        call.add::<i32>("block_indices", &[tokens, heads_kv, list_len], 0, None)
            .unwrap();
        call.add::<f32>("lse", &[tokens, heads_q], 0, None).unwrap();
        call.add("cu_seqlens_q", &[2], 0, Some(&[0, tokens as i32])).unwrap();
        match storage {
            Storage::Packed => call.add("cu_seqlens_k", &[2], 0, Some(&[0, end as i32])).unwrap(),
            _ => call.add("seqlens_k", &[1], 0, Some(&[end as i32])).unwrap(),
        }
        call.add("seqlens_old", &[1], 0, Some(&[start as i32])).unwrap();
        storage.add_to(&mut call, &bounds, block_size).unwrap();

        stores.take_back();
        let sequences = || Sequences::new(call.tensor("cu_seqlens_q"), keys(&call));
        let [k_new, v_new] = ["k_new", "v_new"].map(|name| call.tensor(name));
        let [to_k, to_v, to_k1, to_k2] = ["k", "v", "k1", "k2"].map(|name| stores.tensor_mut(name));
        launch(
            machine,
            &layer,
            AppendKeysArgs::new(k_new, v_new, to_k, to_v, sequences()),
        )
        .unwrap();
        let [k, v, k1, k2] = ["k", "v", "k1", "k2"].map(|name| stores.tensor(name));
        let mut compress = CompressKeysArgs::new(k, keys(&call), to_k1, to_k2);
        compress.compressed = storage.compressed(&call, block_size);
        compress.seqlens_old = call.get("seqlens_old");
        launch(machine, &layer, compress).unwrap();
        let lists = call.tensor_mut("block_indices");
        let mut select = SelectBlocksArgs::new(call.tensor("q"), k1, Some(k2), sequences(), None, lists);
        select.compressed = storage.compressed(&call, block_size);
        launch(machine, &layer, select).unwrap();
        let (lists, out) = (call.tensor("block_indices"), call.tensor_mut("out"));
        let mut attend = SparseAttentionArgs::new(call.tensor("q"), k, v, sequences(), None, lists, out);
        attend.lse = call.get_mut("lse");
        launch(machine, &layer, attend).unwrap();
        results.0.extend(call.read::<i32>("block_indices").unwrap());
        results.1.extend(call.bits("out").unwrap());
        results.2.extend(call.read::<f32>("lse").unwrap());
        start = end;
    }
    results
}

#[test]
fn a_sequence_grows_in_any_store_to_the_same_bits() {
    let prompt = prompt(seed());
    for machine in all() {
        let whole = feed(
            &machine,
            &prompt,
            &Storage::Packed,
            Packing::Separate,
            [TOKENS].into_iter(),
        );
        // A chunk, a chunk that ends within a page, single tokens across the edges of pages and blocks, and the rest.
        let ends = || [560, 637].into_iter().chain(638..=705).chain([TOKENS]);
        let stores = PAGE_SIZES
            .map(Storage::paged)
            .into_iter()
            .chain([Storage::Indexed(TOKENS)]);
        let packings = [Packing::Separate, Packing::Fused, Packing::HeadMajor];
        for (storage, packing) in stores.zip(packings.into_iter().cycle()) {
            let grown = feed(&machine, &prompt, &storage, packing, ends());
            let what = format!("{}: {storage:?}, {packing:?}", machine.name);
            let first = grown.0.iter().zip(&whole.0).position(|(grown, whole)| grown != whole);
            let token = first.map(|entry| entry / (config().heads_kv * config().list_len()));
            assert_eq!(token, None, "{what}: the first token with another list");
            assert!(grown.1 == whole.1 && grown.2 == whole.2, "{what}: outputs");
        }
    }
}
