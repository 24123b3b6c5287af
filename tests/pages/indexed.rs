//! Caches that an index names: padding has none, and an index of no cache refuses its sequence.

use crate::seed;
use sala_kernels::Status;
use sala_kernels::{AppendKeysArgs, AttentionShape, DType, DenseAttentionArgs, Keys, Sequences, SparseLayer};
use sala_testkit::devices::all;
use sala_testkit::memory::{Memory, POISON, Packing};
use sala_testkit::numbers::normals;
use sala_testkit::problem::launch;
use sala_testkit::tolerance::Precision;

#[test]
fn padding_has_no_cache_and_a_bad_index_is_counted() {
    const DIM: usize = 64;
    let shape = AttentionShape {
        heads_q: 2,
        heads_kv: 1,
        dim: DIM,
    };
    let layer = SparseLayer::builder(DType::Bf16, shape, 0).build().unwrap();
    for machine in all() {
        let mut memory = Memory::new(&machine.device);
        let row = |heads: usize, tokens: usize| normals(Precision::Bf16, tokens * heads * DIM, seed());
        let (q, new, caches) = (row(2, 4), row(1, 4), row(1, 3 * 8));
        let add = |memory: &mut Memory, shape: [usize; 2], tensors: &[_]| {
            memory
                .add_rows(Precision::Bf16, Packing::Separate, shape, tensors)
                .unwrap();
        };
        add(&mut memory, [4, 2], &[("q", DIM, Some(&q)), ("out", DIM, None)]);
        add(&mut memory, [4, 1], &[("new", DIM, Some(&new))]);
        add(
            &mut memory,
            [24, 1],
            &[("k", DIM, Some(&caches)), ("v", DIM, Some(&caches))],
        );
        memory.add::<f32>("lse", &[4, 2], 0, None).unwrap();
        memory.add("cu_seqlens_q", &[5], 0, Some(&[0, 1, 2, 3, 4])).unwrap();
        memory.add("seqlens_k", &[4], 0, Some(&[5, 0, 8, 3])).unwrap();
        memory.add("cache_index", &[4], 0, Some(&[2, -1, 3, i32::MIN])).unwrap();
        memory.add_status().unwrap();
        let view = |name: &str| {
            let rows = memory.tensor(name);
            // SAFETY: the same elements as caches.
            let view = unsafe {
                let strides = [8 * rows.stride(0), rows.stride(0), DIM, 1];
                sala_kernels::TensorMut::from_raw(
                    &machine.device,
                    rows.address(),
                    DType::Bf16,
                    &[3, 8, 1, DIM],
                    &strides,
                )
            };
            view.unwrap()
        };
        let before = memory.bits("k").unwrap();
        let keys = Keys::cached_at(memory.tensor("seqlens_k"), memory.tensor("cache_index"));
        let sequences = Sequences::new(memory.tensor("cu_seqlens_q"), keys);
        let new = memory.tensor("new");
        let mut append = AppendKeysArgs::new(new, new, view("k"), view("v"), sequences);
        append.status = memory.get_mut("status");
        launch(&machine, &layer, append).unwrap();
        assert_eq!(memory.status().unwrap(), Status::from([0, 0, 0, 2]), "{}", machine.name);
        let (after, new_bits) = (memory.bits("k").unwrap(), memory.bits("new").unwrap());
        let changed = (2 * 8 + 4) * DIM..(2 * 8 + 5) * DIM;
        assert_eq!(after[changed.clone()], new_bits[..DIM], "{}", machine.name);
        assert_eq!(after[..changed.start], before[..changed.start], "{}", machine.name);
        assert_eq!(after[changed.end..], before[changed.end..], "{}", machine.name);

        let (k, v) = (view("k"), view("v"));
        let (out, q) = (memory.tensor_mut("out"), memory.tensor("q"));
        let mut attend = DenseAttentionArgs::new(q, k.as_tensor(), v.as_tensor(), sequences, out);
        attend.lse = memory.get_mut("lse");
        launch(&machine, &layer, attend).unwrap();
        let (out, lse) = (memory.bits("out").unwrap(), memory.read::<f32>("lse").unwrap());
        assert!(lse[..2].iter().all(|lse| lse.is_finite()), "{}", machine.name);
        assert!(
            lse[2..].iter().all(|&lse| lse == f32::NEG_INFINITY),
            "{}: {lse:?}",
            machine.name
        );
        assert!(out[..2 * DIM].iter().all(|&bits| bits != POISON), "{}", machine.name);
        assert!(out[2 * DIM..].iter().all(|&bits| bits == 0), "{}", machine.name);
    }
}
