//! Which sequences are dense is decided by kernels alone, whatever the lengths on the device hold: here lengths below zero meet parameters
//! without a threshold, which no call of the crate has.

use super::driver::Driver;
use super::empty::{Place, list};
use super::{DIM, HEADS, execute};
use sala_kernels::sys::executor::{sala_host_find, sala_host_params_size};
use sala_kernels::sys::params::sala_sequences;
use sala_kernels::{
    AttentionShape, ChooseBlocksArgs, DType, Device, Entry, Keys, Sequences, SparseAttentionArgs, SparseLayer,
    SwitchLen,
};
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;

const KEYS: usize = 64 * 120;

/// Runs a launch with a `dense_len` of 0. All kernels that take sequences have them first.
unsafe extern "C" fn execute_without_threshold(
    name: *const c_char,
    grid: *const u32,
    threads: u32,
    shared: u32,
    params: *const c_void,
) -> c_int {
    // SAFETY: the driver passes on what it was called with; the copy has the size and the alignment of the parameters.
    unsafe {
        let size = sala_host_params_size(sala_host_find(name)) as usize;
        let mut words = vec![0u64; size / 8];
        std::ptr::copy_nonoverlapping(params.cast(), words.as_mut_ptr(), words.len());
        let dense_len = words
            .as_mut_ptr()
            .byte_add(offset_of!(sala_sequences, dense_len))
            .cast::<i32>();
        assert_eq!(dense_len.replace(0), 1);
        execute(name, grid, threads, shared, words.as_ptr().cast())
    }
}

fn layer() -> SparseLayer {
    let shape = AttentionShape {
        heads_q: HEADS,
        heads_kv: 1,
        dim: DIM,
    };
    SparseLayer::builder(DType::Bf16, shape, 1).build().unwrap()
}

/// The first entry of a list that is chosen for a sequence of this switch length.
fn choose(place: &Place, switch_len: i32) -> i32 {
    let layer = layer();
    let [queries, keys, switch] = [&[0, 1][..], &[0, KEYS as i32], &[switch_len]].map(|values| place.buffer(values));
    let scores = place.buffer(&[1f32; KEYS / 64]);
    let mut indices = place.buffer(&vec![7i32; layer.list_len()]);
    let args = ChooseBlocksArgs::new(
        scores.tensor(DType::F32, &[1, 1, KEYS / 64]).unwrap(),
        Sequences::new(list(&queries), Keys::packed(list(&keys))),
        Some(SwitchLen::Lengths(list(&switch))),
        indices.tensor_mut(DType::I32, &[1, 1, layer.list_len()]).unwrap(),
    );
    place.launch(&layer, args);
    indices.read().unwrap()[0]
}

/// The LSE of a token whose list names its own block, which is one key, in a sequence of this switch length.
fn attend(place: &Place, entry: Entry, switch_len: i32) -> Vec<f32> {
    let (layer, rows) = (layer(), KEYS + 1);
    let [queries, keys, switch, lists] =
        [&[0, 1][..], &[0, rows as i32], &[switch_len], &[120]].map(|values| place.buffer(values));
    let (q, k) = (place.numbers(HEADS * DIM), place.numbers(rows * DIM));
    let (mut out, mut lse) = (place.numbers(HEADS * DIM), place.buffer(&[7f32; HEADS]));
    let mut workspace = place.buffer(&vec![0u32; layer.workspace_size(Entry::Decode, 1, 1, rows, None) / 4]);
    let words = workspace.bytes() / 4;
    let query = [1, HEADS, DIM];
    let key = k.tensor(DType::Bf16, &[rows, 1, DIM]).unwrap();
    let mut args = SparseAttentionArgs::new(
        q.tensor(DType::Bf16, &query).unwrap(),
        key,
        key,
        Sequences::new(list(&queries), Keys::packed(list(&keys))),
        Some(SwitchLen::Lengths(list(&switch))),
        lists.tensor(DType::I32, &[1, 1, 1]).unwrap(),
        out.tensor_mut(DType::Bf16, &query).unwrap(),
    );
    args.entry = entry;
    args.lse = Some(lse.tensor_mut(DType::F32, &[1, HEADS]).unwrap());
    args.workspace = Some(workspace.tensor_mut(DType::U32, &[words]).unwrap());
    place.launch(&layer, args);
    lse.read().unwrap()
}

#[test]
fn no_length_is_below_a_threshold_of_nothing() {
    let driver = Driver::get();
    let place = Place::new(Device::cuda(0).unwrap());
    for switch_len in [-5, i32::MIN, 0] {
        driver.on_launch(execute);
        assert_eq!(choose(&place, switch_len), -1, "dense below 1");
        let dense = [Entry::Prefill, Entry::Decode].map(|entry| attend(&place, entry, switch_len));
        let sparse = attend(&place, Entry::Prefill, 1);

        driver.on_launch(execute_without_threshold);
        assert_eq!(choose(&place, switch_len), 0, "{switch_len} is not dense");
        for (entry, dense) in [Entry::Prefill, Entry::Decode].into_iter().zip(dense) {
            let got = attend(&place, entry, switch_len);
            assert_eq!(got, sparse, "{entry:?}, {switch_len}");
            assert_ne!(got, dense, "{entry:?}, {switch_len}");
        }
    }
}
