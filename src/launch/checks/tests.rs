use super::*;

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

/// A view that nobody reads through.
fn view(address: u64, dtype: DType, shape: &[usize], strides: &[usize]) -> Tensor<'static> {
    Tensor::new(MemorySpace::Host, address, dtype, shape, strides).unwrap()
}

fn dense(address: u64, shape: &[usize]) -> Tensor<'static> {
    Tensor::contiguous(MemorySpace::Host, address, DType::Bf16, shape).unwrap()
}

#[test]
fn each_rule_names_the_argument_and_both_sides() {
    let q = dense(0x1000, &[2, 4, 64]);
    assert_eq!(
        message(dtype("q", &q, DType::F16)),
        "q: expected f16 elements, got bf16"
    );
    assert_eq!(
        message(shape("q", &q, &[2, 4, 128])),
        "q: expected shape [2, 4, 128], got [2, 4, 64]"
    );
    assert_eq!(message(rank("q", &q, 2)), "q: expected 2 axes, got shape [2, 4, 64]");
    assert_eq!(
        message(fits_i32("batch", 1 << 31)),
        "batch: expected fewer than 2^31, got 2147483648"
    );
    let cuda = MemorySpace::of_context(std::ptr::null_mut());
    assert_eq!(
        message(memory_space("q", &q, cuda)),
        "q: expected CUDA context 0x0, got host memory"
    );
}

#[test]
fn kept_rules_pass() {
    let q = dense(0x1000, &[2, 4, 64]);
    dtype("q", &q, DType::Bf16).unwrap();
    shape("q", &q, &[2, 4, 64]).unwrap();
    rank("q", &q, 3).unwrap();
    memory_space("q", &q, MemorySpace::Host).unwrap();
    last_axis_contiguous("q", &q).unwrap();
    rows_aligned("q", &q).unwrap();
    assert_eq!(fits_i32("batch", 7).unwrap(), 7);
}

#[test]
fn the_last_axis_is_contiguous() {
    let strided = view(0, DType::Bf16, &[4, 64], &[128, 2]);
    let error = message(last_axis_contiguous("k", &strided));
    assert_eq!(
        error,
        "k: expected a contiguous last axis (stride 1), got strides [128, 2]"
    );
    last_axis_contiguous("k", &view(0, DType::Bf16, &[4, 1], &[8, 5])).unwrap();
    last_axis_contiguous("k", &view(0, DType::Bf16, &[0, 4], &[8, 5])).unwrap();
}

#[test]
fn rows_start_at_multiples_of_16_bytes() {
    let error = message(rows_aligned("v", &dense(0x1008, &[2, 64])));
    assert_eq!(error, "v: expected an address that is a multiple of 16, got 0x1008");
    let error = message(rows_aligned("v", &view(0, DType::Bf16, &[4, 64], &[68, 1])));
    let expected =
        "v: expected strides that are multiples of 16 bytes (8 elements) but for the last axis, got strides [68, 1]";
    assert_eq!(error, expected);
    rows_aligned("v", &view(0, DType::F32, &[4, 64], &[68, 1])).unwrap();
    rows_aligned("v", &view(0, DType::Bf16, &[1, 64], &[3, 1])).unwrap();
    rows_aligned("v", &view(0x1008, DType::Bf16, &[0, 64], &[3, 1])).unwrap();
}

#[test]
fn written_memory_is_apart() {
    let out = dense(0x1000, &[2, 64]);
    let error = message(disjoint("out", &out, "q", &dense(0x10f0, &[2, 64])));
    assert_eq!(
        error,
        "out: expected memory apart from q at 0x10f0..0x11f0, got 0x1000..0x1100"
    );
    disjoint("out", &out, "q", &dense(0x1100, &[2, 64])).unwrap();
    disjoint("out", &out, "q", &dense(0x0f00, &[2, 64])).unwrap();
    disjoint("out", &out, "q", &dense(0x1010, &[0, 64])).unwrap();
    assert!(disjoint("out", &out, "out", &out).is_err());
}

#[test]
fn parts_of_a_packed_tensor_are_apart() {
    let part = |address, width| view(address, DType::Bf16, &[100, width], &[256, 1]);
    disjoint("out", &part(0x1000, 64), "q", &part(0x1080, 64)).unwrap();
    disjoint("out", &part(0x1080, 64), "q", &part(0x1000, 64)).unwrap();
    disjoint("out", &part(0x1180, 64), "q", &part(0x1200, 64)).unwrap();
    assert!(disjoint("out", &part(0x1000, 65), "q", &part(0x1080, 64)).is_err());
    assert!(disjoint("out", &part(0x1080, 64), "q", &part(0x1000, 65)).is_err());
    let other_step = view(0x1080, DType::Bf16, &[100, 64], &[264, 1]);
    assert!(disjoint("out", &part(0x1000, 64), "q", &other_step).is_err());
}

#[test]
fn one_row_with_any_stride_crosses_what_it_crosses() {
    let one = |address, stride| view(address, DType::Bf16, &[1, 64], &[stride, 1]);
    for stride in [0, 1, 3, 64, 4096, i64::MAX as usize] {
        assert!(
            disjoint("out", &one(0x1000, stride), "q", &one(0x1040, stride)).is_err(),
            "{stride}"
        );
        assert!(
            disjoint("out", &one(0x1040, stride), "q", &one(0x1000, stride)).is_err(),
            "{stride}"
        );
        disjoint("out", &one(0x1000, stride), "q", &one(0x1080, stride)).unwrap();
    }
}

/// Byte ranges of every row, the definition of what `disjoint` decides.
fn bytes(tensor: &Tensor<'_>) -> std::collections::BTreeSet<u64> {
    let size = tensor.dtype().size() as u64;
    let index = |axis: usize| (0..tensor.shape()[axis] as u64).map(move |i| i * tensor.stride(axis) as u64 * size);
    let elements = index(0).flat_map(|row| index(1).map(move |column| tensor.address() + row + column));
    elements.flat_map(|start| start..start + size).collect()
}

proptest::proptest! {
    #[test]
    fn views_that_pass_share_nothing(
        addresses in (0u64..32, 0u64..32),
        shapes in ((1usize..5, 1usize..5), (1usize..5, 1usize..5)),
        strides in ((0usize..12, 1usize..3), (0usize..12, 1usize..3)),
    ) {
        let make = |address: u64, (rows, columns), (step, next)| view(address * 2, DType::Bf16, &[rows, columns], &[step, next]);
        let (left, right) = (make(addresses.0, shapes.0, strides.0), make(addresses.1, shapes.1, strides.1));
        if disjoint("out", &left, "q", &right).is_ok() {
            proptest::prop_assert!(bytes(&left).is_disjoint(&bytes(&right)));
        }
    }
}
