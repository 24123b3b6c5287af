//! The memory of a call holds what was put there, and notices what a kernel should not have done.

use half::f16;
use sala_kernels::{Device, Element};
use sala_testkit::memory::{Memory, POISON, Packing};
use sala_testkit::storage::{Content, KeyRows, Pages, Storage};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

const PACKINGS: [Packing; 4] = [Packing::Separate, Packing::Fused, Packing::HeadMajor, Packing::Wide];
const ROWS: usize = 5;
const HEADS: usize = 3;

fn numbers(channels: usize, first: f64) -> Values {
    Values::round(Precision::F16, (0..ROWS * HEADS * channels).map(|i| first + i as f64))
}

/// Two inputs, of which the second is wider, an output, and a list with a gap.
fn memory(packing: Packing) -> Memory {
    let mut memory = Memory::new(&Device::host());
    let (narrow, wide) = (numbers(2, 0.0), numbers(4, 100.0));
    let tensors = [("narrow", 2, Some(&narrow)), ("wide", 4, Some(&wide))];
    memory
        .add_rows(Precision::F16, packing, [ROWS, HEADS], &tensors)
        .unwrap();
    memory
        .add_rows(Precision::F16, packing, [ROWS, HEADS], &[("out", 2, None)])
        .unwrap();
    memory.add("list", &[2, 2], 3, Some(&[1i32, 2, 3, 4])).unwrap();
    memory.add_status().unwrap();
    memory
}

/// Writes an element as a kernel would, `offset` elements from the first of a tensor.
fn write<T: Element>(memory: &Memory, name: &str, offset: isize, value: T) {
    let address = memory.tensor(name).address() as usize;
    let element = std::ptr::with_exposed_provenance_mut::<T>(address).wrapping_offset(offset);
    // SAFETY: there are that many elements before and after every tensor, and nothing else uses them meanwhile.
    unsafe { element.write(value) }
}

#[test]
fn tensors_hold_what_was_put_there() {
    for packing in PACKINGS {
        let memory = memory(packing);
        assert_eq!(memory.values("narrow").unwrap(), numbers(2, 0.0), "{packing:?}");
        assert_eq!(memory.values("wide").unwrap(), numbers(4, 100.0), "{packing:?}");
        assert!(memory.bits("out").unwrap().iter().all(|&bits| bits == POISON));
        assert_eq!(memory.read::<i32>("list").unwrap(), [1, 2, 3, 4]);
        assert_eq!(memory.status().unwrap().check(), Ok(()));
        assert_eq!(memory.tensor("list").stride(0), 5, "with the gap");
        assert!(memory.get("gate").is_none() && memory.get_mut("gate").is_none());
    }
}

#[test]
fn only_outputs_may_change() {
    for packing in PACKINGS {
        let intact = |change: fn(&Memory)| {
            let memory = memory(packing);
            let _out = memory.tensor_mut("out");
            change(&memory);
            memory.is_intact().unwrap()
        };
        assert!(intact(|_| ()), "{packing:?}");
        assert!(
            intact(|memory| write(memory, "out", 1, f16::ONE)),
            "{packing:?}: an output"
        );
        assert!(
            !intact(|memory| write(memory, "out", -1, f16::ONE)),
            "{packing:?}: before it"
        );
        let past = |memory: &Memory| write(memory, "out", memory.tensor("out").extent() as isize / 2, f16::ONE);
        assert!(!intact(past), "{packing:?}: after it");
        assert!(
            !intact(|memory| write(memory, "narrow", 0, f16::ONE)),
            "{packing:?}: an input"
        );
        assert!(!intact(|memory| write(memory, "list", 2, 7i32)), "{packing:?}: a gap");
        assert!(
            !intact(|memory| write(memory, "status", 0, 7u32)),
            "{packing:?}: a status that was not given"
        );
    }
}

#[test]
fn memory_is_given_out_for_writing_once() {
    let mut memory = memory(Packing::Separate);
    for _ in 0..2 {
        let _out = memory.tensor_mut("out");
        let again = std::panic::AssertUnwindSafe(|| memory.tensor_mut("out").address());
        assert!(std::panic::catch_unwind(again).is_err());
        memory.take_back();
    }
}

#[test]
fn keys_lie_where_their_storage_says() {
    let (heads, dim, bounds) = (2, 8, [0, 3, 3, 5]);
    let values = Values::round(Precision::Bf16, (0..5 * heads * dim).map(|i| i as f64));
    let (row, bits) = (heads * dim, values.to_bits());
    let store = |storage: Storage| {
        let places = storage.places(&bounds, Content::Keys);
        KeyRows::store(places, &values, &bounds, heads, dim)
    };
    let packed = store(Storage::Packed);
    assert_eq!(
        (packed.places.stores, packed.places.rows, &packed.bits),
        (None, 5, &bits)
    );
    for (storage, stores, rows) in [
        (Storage::Cached(4), 3, 4),
        (Storage::Indexed(4), 5, 4),
        (Storage::paged(1), 7, 1),
        (Storage::paged(2), 5, 2),
        (Storage::paged(8), 4, 8),
    ] {
        let stored = store(storage.clone());
        assert_eq!(
            (stored.places.stores, stored.places.rows),
            (Some(stores), rows),
            "{storage:?}"
        );
        assert_eq!(stored.rows(0, 3), bits[..3 * row], "{storage:?}");
        assert_eq!(stored.rows(2, 2), bits[3 * row..], "{storage:?}");
        let poison = stored.bits.iter().filter(|&&bits| bits == POISON).count();
        assert_eq!(poison, (stores * rows - 5) * row, "{storage:?}");
    }
    // A cache takes what it has room for.
    let small = store(Storage::Cached(1));
    assert_eq!(small.rows(0, 1), bits[..row]);
    assert_eq!(small.row(0, 1), None);

    let cached = store(Storage::Cached(4));
    for packing in PACKINGS {
        let mut memory = Memory::new(&Device::host());
        let tensors = [("k", &cached), ("v", &cached)];
        memory.add_keys(Precision::Bf16, packing, &tensors).unwrap();
        assert_eq!(memory.tensor("v").shape(), [3, 4, heads, dim], "{packing:?}");
        assert_eq!(memory.bits("v").unwrap(), cached.bits, "{packing:?}");
        let head_stride = match packing {
            Packing::HeadMajor => 4 * dim,
            Packing::Wide => (1 << 32) + dim,
            Packing::Separate | Packing::Fused => dim,
        };
        assert_eq!(memory.tensor("k").stride(2), head_stride, "{packing:?}");
    }
}

#[test]
fn a_table_names_shared_and_bad_pages() {
    let bounds = [0, 100, 180];
    let pages = Pages {
        shared: 40,
        bad: Some((1, 3)),
        ..Pages::new(16)
    };
    let places = Storage::Paged(pages.clone()).places(&bounds, Content::Keys);
    assert_eq!(places.rows_of[0][..32], places.rows_of[1][..32]);
    assert_ne!(places.rows_of[0][32], places.rows_of[1][32]);
    assert!(places.rows_of[1][48..64].iter().all(Option::is_none));
    assert!(places.rows_of[1][64..].iter().all(Option::is_some));
    // A compressed row lies in the page of the last key of its window.
    let (stride, block_size) = (4, 16);
    let compressed = Storage::Paged(pages).places(&bounds, Content::Compressed { stride, block_size });
    for row in 0..23 {
        let last_key = places.rows_of[0][row * stride + 2 * stride - 1].unwrap();
        assert_eq!(compressed.rows_of[0][row], Some(last_key / stride), "row {row}");
    }
}

#[test]
fn axes_of_one_row_have_huge_strides() {
    let mut memory = Memory::new(&Device::host());
    memory.add("row", &[1, 2, 3], 0, Some(&[1i32, 2, 3, 4, 5, 6])).unwrap();
    memory.add("column", &[2, 1], 0, Some(&[7i32, 8])).unwrap();
    assert_eq!(memory.tensor("row").strides(), [1 << 60, 3, 1]);
    assert_eq!(
        memory.tensor("column").strides(),
        [1, 1],
        "the last axis stays contiguous"
    );
    assert_eq!(memory.read::<i32>("row").unwrap(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn rows_far_apart_are_watched_too() {
    let mut memory = Memory::new(&Device::host());
    let values = numbers(2, 0.0);
    let tensors = [("q", 2, Some(&values)), ("out", 2, None)];
    memory
        .add_rows(Precision::F16, Packing::Wide, [ROWS, HEADS], &tensors)
        .unwrap();
    let row = (1 << 32) + 2;
    assert_eq!(memory.tensor("q").strides(), [HEADS * row, row, 1]);
    let _out = memory.tensor_mut("out");
    write(&memory, "q", row as isize, f16::from_f64(2.0));
    assert!(memory.is_intact().unwrap(), "the value that was there");
    write(&memory, "q", row as isize - 1, f16::ONE);
    assert!(!memory.is_intact().unwrap(), "before a row");
}
