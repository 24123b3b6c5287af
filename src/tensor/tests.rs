use half::bf16;

use super::*;

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

/// A view that nobody reads through.
fn raw(address: u64, shape: &[usize], strides: &[usize]) -> Result<Tensor<'static>> {
    Tensor::new(MemorySpace::Host, address, DType::Bf16, shape, strides)
}

#[test]
fn a_dense_view_covers_its_slice() {
    let values = vec![0f32; 2 * 3 * 4];
    let view = Tensor::from_slice(&values, &[2, 3, 4]).unwrap();
    assert_eq!(
        (view.shape(), view.strides(), view.rank()),
        (&[2, 3, 4][..], &[12, 4, 1][..], 3)
    );
    assert_eq!((view.dtype(), view.extent()), (DType::F32, 24 * 4));
    assert_eq!(view.address(), values.as_ptr() as u64);
    assert_eq!((view.stride(0), view.stride(3)), (12, 0));
}

#[test]
fn a_dense_view_of_another_size_is_refused() {
    let error = message(Tensor::from_slice(&[0i32; 5], &[2, 3]));
    assert_eq!(
        error,
        "shape: expected 5 elements in all, got i32 [2, 3] with strides [3, 1]"
    );
}

#[test]
fn the_number_of_axes_is_bounded() {
    assert_eq!(
        message(Tensor::from_slice(&[0f32; 1], &[])),
        "shape: expected 1 to 4 axes, got []"
    );
    assert_eq!(
        message(Tensor::from_slice(&[0f32; 1], &[1; 5])),
        "shape: expected 1 to 4 axes, got [1, 1, 1, 1, 1]"
    );
    assert_eq!(
        message(raw(0, &[2, 2], &[1])),
        "strides: expected 2 of them, one per axis, got 1"
    );
}

#[test]
fn a_strided_view_stays_within_its_slice() {
    let values = [0u32; 10];
    assert_eq!(Tensor::with_strides(&values, &[3, 2], &[4, 1]).unwrap().extent(), 40);
    let error = message(Tensor::with_strides(&values, &[3, 3], &[4, 1]));
    let expected = "shape: expected a view of at most 40 bytes, got 44 bytes: u32 [3, 3] with strides [4, 1]";
    assert_eq!(error, expected);
}

#[test]
fn extents_do_not_wrap() {
    let huge = 1usize << 62;
    assert!(message(raw(0, &[huge, 2], &[huge, 1])).starts_with("shape: expected a view that ends below 2^64 bytes"));
    assert!(message(raw(0, &[huge; 4], &[huge; 4])).starts_with("shape: expected a view that ends below 2^64 bytes"));
    assert!(message(raw(u64::MAX - 1, &[2], &[1])).starts_with("shape: expected a view that ends below 2^64 bytes"));
    assert_eq!(
        message(raw(0, &[1], &[usize::MAX])),
        "strides: expected numbers below 2^63, got [18446744073709551615]"
    );
    let error = message(Tensor::from_slice(&[0f32; 0], &[huge, 4, 0]));
    assert_eq!(
        error,
        format!("shape: expected fewer than 2^64 elements, got [{huge}, 4, 0]")
    );
}

#[test]
fn a_million_tokens_need_64_bits_and_get_them() {
    let tokens = 1 << 20;
    let view = raw(0x1000, &[tokens, 96, 128], &[96 * 128, 128, 1]).unwrap();
    assert_eq!(view.extent(), 2 * 96 * 128 * (1 << 20));
    let last = view.narrow(0, tokens - 1..tokens).unwrap();
    assert_eq!(last.address(), 0x1000 + 2 * 96 * 128 * ((1 << 20) - 1));
}

#[test]
fn addresses_are_aligned_to_their_elements() {
    assert_eq!(
        message(raw(0x1001, &[1], &[1])),
        "address: expected a multiple of 2, the size of bf16, got 0x1001"
    );
    assert!(raw(0x1001, &[0], &[1]).is_ok());
}

#[test]
fn an_empty_view_reaches_nothing() {
    let view = Tensor::from_slice::<bf16>(&[], &[0, 4, 8]).unwrap();
    assert!(view.is_empty());
    assert_eq!((view.extent(), view.strides()), (0, &[32, 8, 1][..]));
}

#[test]
fn narrowing_keeps_the_strides() {
    let values: Vec<f32> = (0..24).map(|index| index as f32).collect();
    let view = Tensor::from_slice(&values, &[2, 3, 4]).unwrap();
    let part = view.narrow(1, 1..3).unwrap();
    assert_eq!((part.shape(), part.strides()), (&[2, 2, 4][..], &[12, 4, 1][..]));
    assert_eq!(part.address() - view.address(), 4 * 4);
    assert!(view.narrow(1, 3..3).unwrap().is_empty());
    assert_eq!(
        message(view.narrow(1, 2..4)),
        "range: expected a range within 0..3, got 2..4"
    );
    assert_eq!(
        message(view.narrow(3, 0..1)),
        "axis: expected an axis of 3, counted from 0, got 3"
    );
}

#[test]
fn written_elements_are_distinct() {
    let mut values = [0f32; 64];
    let refused = "strides: expected a distinct place for every element that is written, got ";
    for (shape, strides) in [
        (&[4, 4], &[0, 1]),
        (&[4, 4], &[3, 1]),
        (&[4, 4], &[1, 1]),
        (&[2, 2], &[1, 1]),
    ] {
        let error = message(TensorMut::with_strides(&mut values, shape, strides));
        assert_eq!(error, format!("{refused}f32 {shape:?} with strides {strides:?}"));
    }
    for (shape, strides) in [
        (&[4, 4], &[1, 4]),
        (&[4, 4], &[8, 1]),
        (&[1, 4], &[0, 1]),
        (&[0, 4], &[0, 0]),
    ] {
        assert!(
            TensorMut::with_strides(&mut values, shape, strides).is_ok(),
            "{shape:?} {strides:?}"
        );
    }
    assert!(
        Tensor::with_strides(&values, &[4, 4], &[0, 1]).is_ok(),
        "a view for reading may repeat elements"
    );
}

#[test]
fn a_unique_view_can_be_lent() {
    let mut values = [0u32; 8];
    let mut view = TensorMut::from_slice(&mut values, &[8]).unwrap();
    assert_eq!(view.reborrow().shape(), &[8]);
    assert_eq!(view.as_tensor().extent(), 32);
    assert_eq!(view.narrow(0, 4..8).unwrap().shape(), &[4]);
}

#[test]
fn raw_views_are_of_their_device() {
    // SAFETY: nobody reads through the view.
    let view = unsafe { Tensor::from_raw(&Device::host(), 0x40, DType::I32, &[2], &[1]) }.unwrap();
    assert_eq!(view.memory_space(), MemorySpace::Host);
    // SAFETY: nobody writes through the view.
    let view = unsafe { TensorMut::from_raw(&Device::host(), 0x40, DType::I32, &[2], &[0]) };
    assert!(view.is_err());
}

#[test]
fn views_cross_threads() {
    fn sent<T: Send + Sync>() {}
    sent::<Tensor<'_>>();
    sent::<TensorMut<'_>>();
}

/// Element offsets of every index.
fn offsets(tensor: &Tensor<'_>) -> Vec<usize> {
    tensor
        .shape()
        .iter()
        .zip(tensor.strides())
        .fold(vec![0], |heads, (&size, &stride)| {
            heads
                .iter()
                .flat_map(|head| (0..size).map(move |index| head + index * stride))
                .collect()
        })
}

proptest::proptest! {
    #[test]
    fn extents_and_distinctness_are_what_they_say(
        shape in proptest::collection::vec(0usize..4, 1..=MAX_RANK),
        strides in proptest::collection::vec(0usize..20, MAX_RANK),
    ) {
        let view = raw(0x1000, &shape, &strides[..shape.len()]).unwrap();
        let mut offsets = offsets(&view);
        let reach = offsets.iter().max().map_or(0, |last| (last + 1) * 2);
        proptest::prop_assert_eq!(view.extent(), reach as u64);
        let elements = offsets.len();
        offsets.sort_unstable();
        offsets.dedup();
        if TensorMut::unique(view).is_ok() {
            proptest::prop_assert_eq!(offsets.len(), elements);
        }
    }
}
