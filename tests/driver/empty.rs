//! Tensors without elements. An empty allocation has address 0 on a GPU and some other one on the host, and kernels read address 0 as
//! "absent": what is present and empty must nevertheless mean the same on both.

use super::driver::Driver;
use super::launches::ALL_IMAGES;
use super::{DIM, HEADS, execute};
use DType::{Bf16, F32, I32, U32};
use sala_kernels::{
    Arguments, AttentionShape, Buffer, ChooseBlocksArgs, CompressKeysArgs, DType, Decay, DenseAttentionArgs, Device,
    Element, Entry, Kernels, Keys, LinearAttention, LinearPrefillArgs, LinearShape, SelectBlocksArgs, Sequences,
    SparseAttentionArgs, SparseLayer, Stream, SwitchLen, Tensor, TensorMut,
};

/// A device, the kernels on it, and memory without a byte.
pub struct Place {
    device: Device,
    kernels: Kernels,
    stream: Stream,
    nothing: Buffer,
}

impl Place {
    pub fn new(device: Device) -> Self {
        Self {
            kernels: Kernels::load_images(&device, &ALL_IMAGES).unwrap(),
            stream: Stream::new(&device).unwrap(),
            nothing: Buffer::new(&device, 0).unwrap(),
            device,
        }
    }

    /// The host, and a GPU on which empty memory has address 0.
    fn all() -> [Self; 2] {
        let places = [Device::host(), Device::cuda(0).unwrap()].map(Self::new);
        assert_eq!(
            places.each_ref().map(|place| place.nothing.address() == 0),
            [false, true]
        );
        places
    }

    pub fn empty(&self, dtype: DType, shape: &[usize]) -> Tensor<'_> {
        assert!(shape.contains(&0));
        self.nothing.tensor(dtype, shape).unwrap()
    }

    fn empty_mut(&self, dtype: DType, shape: &[usize]) -> TensorMut<'_> {
        let (address, strides) = (self.nothing.address(), vec![0; shape.len()]);
        assert!(shape.contains(&0));
        // SAFETY: the view reaches no element.
        unsafe { TensorMut::from_raw(&self.device, address, dtype, shape, &strides) }.unwrap()
    }

    pub fn buffer<T: Element>(&self, values: &[T]) -> Buffer {
        Buffer::from_slice(&self.device, values).unwrap()
    }

    /// Numbers between −1 and 1.
    pub fn numbers(&self, count: usize) -> Buffer {
        let number = |index: usize| half::bf16::from_f32((index * 37 % 101) as f32 / 50.0 - 1.0);
        self.buffer(&(0..count).map(number).collect::<Vec<_>>())
    }

    pub fn launch<A: Arguments>(&self, operation: &A::Operation, args: A) {
        // SAFETY: the driver runs a launch before it returns, and so does the host.
        unsafe { self.kernels.launch(&self.stream, operation, args) }.unwrap();
    }
}

/// One sequence of 300 keys and 2 queries.
const KEYS: usize = 300;
const QUERIES: usize = 2;
const SHAPE: AttentionShape = AttentionShape {
    heads_q: HEADS,
    heads_kv: 1,
    dim: DIM,
};

fn bounds(place: &Place, end: usize) -> Buffer {
    place.buffer(&[0, end as i32])
}

pub fn list(buffer: &Buffer) -> Tensor<'_> {
    buffer.tensor(I32, &[buffer.bytes() / 4]).unwrap()
}

/// What attention gives with lists of no entries, or without lists.
fn attend(place: &Place, entry: Entry, is_sparse: bool, is_dense: bool) -> (Vec<u32>, Vec<f32>) {
    let dense_len = if is_dense { KEYS + 1 } else { 0 };
    let layer = SparseLayer::builder(Bf16, SHAPE, dense_len).build().unwrap();
    let (query, row) = ([QUERIES, HEADS, DIM], [KEYS, 1, DIM]);
    let [q, k, v] = [HEADS * QUERIES, KEYS, KEYS].map(|rows| place.numbers(rows * DIM));
    let mut out = place.buffer(&vec![7u32; QUERIES * HEADS * DIM / 2]);
    let mut lse = place.buffer(&[7f32; QUERIES * HEADS]);
    let bytes = layer.workspace_size(entry, 1, QUERIES, KEYS, None);
    let mut workspace = Buffer::new(&place.device, bytes).unwrap();
    let (queries, keys) = (bounds(place, QUERIES), bounds(place, KEYS));
    let sequences = Sequences::new(list(&queries), Keys::packed(list(&keys)));
    let [q, k, v] = [(&q, &query), (&k, &row), (&v, &row)].map(|(buffer, shape)| buffer.tensor(Bf16, shape).unwrap());
    let lse_view = Some(lse.tensor_mut(F32, &[QUERIES, HEADS]).unwrap());
    let workspace = Some(workspace.tensor_mut(U32, &[bytes / 4]).unwrap());
    let out_view = out.tensor_mut(Bf16, &query).unwrap();
    if is_sparse {
        let lists = place.empty(I32, &[QUERIES, 1, 0]);
        let switch_len = is_dense.then_some(SwitchLen::Keys);
        let mut args = SparseAttentionArgs::new(q, k, v, sequences, switch_len, lists, out_view);
        (args.entry, args.workspace, args.lse) = (entry, workspace, lse_view);
        place.launch(&layer, args);
    } else {
        let mut args = DenseAttentionArgs::new(q, k, v, sequences, out_view);
        (args.entry, args.workspace, args.lse) = (entry, workspace, lse_view);
        place.launch(&layer, args);
    }
    (out.read().unwrap(), lse.read().unwrap())
}

#[test]
fn lists_of_no_entries_are_lists() {
    let driver = Driver::get();
    driver.on_launch(execute);
    for place in Place::all() {
        for entry in [Entry::Prefill, Entry::Decode] {
            let (out, lse) = attend(&place, entry, true, false);
            assert!(out.iter().all(|&pair| pair == 0), "{entry:?}: keys were attended");
            assert!(lse.iter().all(|&lse| lse == f32::NEG_INFINITY), "{entry:?}: {lse:?}");
            // Sequences below `dense_len` need none.
            let dense = attend(&place, entry, true, true);
            assert_eq!(dense, attend(&place, entry, false, false), "{entry:?}");
            assert!(dense.1.iter().all(|lse| lse.is_finite()), "{entry:?}");
        }
    }
}

/// The lists of a selection whose keys are too few for a row of K2, or of K1 as well.
fn select(place: &Place, keys: usize, scores: bool) -> Vec<i32> {
    let layer = SparseLayer::builder(Bf16, SHAPE, 0).build().unwrap();
    let [rows1, rows2] = [layer.k1_rows(keys), layer.k2_rows(keys)];
    let (q, k1) = (place.numbers(QUERIES * HEADS * DIM), place.numbers(rows1 * DIM));
    let mut indices = place.buffer(&vec![7i32; QUERIES * layer.list_len()]);
    let (queries, lengths) = (bounds(place, QUERIES), bounds(place, keys));
    let sequences = Sequences::new(list(&queries), Keys::packed(list(&lengths)));
    let mut args = SelectBlocksArgs::new(
        q.tensor(Bf16, &[QUERIES, HEADS, DIM]).unwrap(),
        k1.tensor(Bf16, &[rows1, 1, DIM]).unwrap(),
        Some(match rows2 {
            0 => place.empty(Bf16, &[0, 1, DIM]),
            _ => k1.tensor(Bf16, &[rows2, 1, DIM]).unwrap(),
        }),
        sequences,
        None,
        indices.tensor_mut(I32, &[QUERIES, 1, layer.list_len()]).unwrap(),
    );
    args.scores = scores.then(|| place.empty_mut(F32, &[QUERIES, 1, 0]));
    place.launch(&layer, args);
    indices.read().unwrap()
}

#[test]
fn selection_takes_scores_of_no_blocks_and_keys_without_rows() {
    let driver = Driver::get();
    driver.on_launch(execute);
    let [host, gpu] = Place::all();
    // The last keys have more blocks than a list has entries.
    for keys in [QUERIES, 50, 64 * 120] {
        let expected = select(&host, keys, false);
        assert_eq!(expected[0], 0);
        for place in [&host, &gpu] {
            for scores in [false, true] {
                assert_eq!(
                    select(place, keys, scores),
                    expected,
                    "{keys} keys, scores of no blocks: {scores}"
                );
            }
        }
    }
}

#[test]
fn a_choice_by_scores_of_no_blocks_is_refused_and_counted() {
    let driver = Driver::get();
    driver.on_launch(execute);
    let layer = SparseLayer::builder(Bf16, SHAPE, 0).build().unwrap();
    for place in Place::all() {
        let (queries, keys) = (bounds(&place, QUERIES), bounds(&place, KEYS));
        let mut indices = place.buffer(&vec![7i32; QUERIES * layer.list_len()]);
        let mut status = place.buffer(&[0u32; 4]);
        let mut args = ChooseBlocksArgs::new(
            place.empty(F32, &[QUERIES, 1, 0]),
            Sequences::new(list(&queries), Keys::packed(list(&keys))),
            None,
            indices.tensor_mut(I32, &[QUERIES, 1, layer.list_len()]).unwrap(),
        );
        args.status = Some(status.tensor_mut(U32, &[4]).unwrap());
        place.launch(&layer, args);
        assert_eq!(status.read::<u32>().unwrap(), [0, 0, 1, 0]);
    }
}

/// Sequences without a token leave their states where they are told to, though no tensor of tokens has an element; and a pool without a slot
/// has none to start from.
#[test]
fn linear_attention_takes_no_tokens_and_no_slots() {
    let driver = Driver::get();
    driver.on_launch(execute);
    let shape = LinearShape {
        heads_q: 1,
        heads_kv: 1,
        dim_k: DIM,
        dim_v: DIM,
    };
    let layer = LinearAttention::builder(Bf16, shape, Decay::PerToken).build().unwrap();
    let size = DIM * DIM;
    let values: Vec<f32> = (0..4 * size).map(|index| index as f32).collect();
    for place in Place::all() {
        for slots in [4, 0] {
            let mut pool = place.buffer(&values[..slots * size]);
            let mut status = place.buffer(&[0u32; 4]);
            let [bounds, state_in, state_out] = [&[0, 0, 0][..], &[1, 0], &[2, 3]].map(|values| place.buffer(values));
            let tokens = || place.empty(Bf16, &[0, 1, DIM]);
            let mut args = LinearPrefillArgs::new(
                tokens(),
                tokens(),
                tokens(),
                list(&bounds),
                Some(place.empty(F32, &[0, 1])),
                place.empty_mut(Bf16, &[0, 1, DIM]),
            );
            args.state = Some(pool.tensor_mut(F32, &[slots, 1, DIM, DIM]).unwrap());
            args.state_in = Some(list(&state_in));
            args.state_out = Some(list(&state_out));
            args.status = Some(status.tensor_mut(U32, &[4]).unwrap());
            place.launch(&layer, args);
            let moved = [&values[..2 * size], &values[size..2 * size], &values[..size]].concat();
            assert!(slots == 0 || pool.read::<f32>().unwrap() == moved);
            // Both sequences, by what they start from and where they end.
            let refused = if slots == 0 { 4 } else { 0 };
            assert_eq!(status.read::<u32>().unwrap(), [0, 0, 0, refused], "{slots} slots");
        }
    }
}

/// A call without sequences, whose tensors of one entry per sequence are all empty, launches nothing.
#[test]
fn a_call_without_sequences_launches_nothing() {
    let driver = Driver::get();
    let layer = SparseLayer::builder(Bf16, SHAPE, 1).build().unwrap();
    let place = Place::new(Device::cuda(0).unwrap());
    let queries = place.buffer(&[0i32]);
    let nothing = || place.empty(I32, &[0]);
    let caches = || place.empty(Bf16, &[0, KEYS, 1, DIM]);
    let rows = || place.empty(Bf16, &[0, HEADS, DIM]);
    let mut args = SparseAttentionArgs::new(
        rows(),
        caches(),
        caches(),
        Sequences::new(list(&queries), Keys::cached(nothing())),
        Some(SwitchLen::Lengths(nothing())),
        place.empty(I32, &[0, 1, 5]),
        place.empty_mut(Bf16, &[0, HEADS, DIM]),
    );
    args.scale_factor = Some(place.empty(F32, &[0]));
    args.gate = Some(rows());
    args.lse = Some(place.empty_mut(F32, &[0, HEADS]));
    place.launch(&layer, args);
    let [k1, k2] = [layer.k1_rows(KEYS), layer.k2_rows(KEYS)].map(|rows| place.empty_mut(Bf16, &[0, rows, 1, DIM]));
    let mut args = CompressKeysArgs::new(caches(), Keys::cached(nothing()), k1, k2);
    args.seqlens_old = Some(nothing());
    place.launch(&layer, args);
    assert!(!driver.calls().contains_key("cuLaunchKernel"));
}
