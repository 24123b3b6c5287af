//! What the tests share.

use candle_core::{DType, Device, Result, Shape, Tensor};
use sala_kernels_candle::Kernels;

/// The kernels on the CPU.
pub fn kernels() -> Kernels {
    Kernels::load(&Device::Cpu).expect("the kernels run on the CPU")
}

/// Numbers between −1 and 1 that follow from the seed: of a linear congruential generator.
pub fn values(seed: u64, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let numbers: Vec<_> = (0..shape.elem_count()).map(|_| next()).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)
}

/// The root of the mean square of the difference is a small share of that of what is expected.
#[allow(dead_code, reason = "not every test compares with a formula")]
pub fn close(name: &str, got: &Tensor, expected: &Tensor, share: f32) -> Result<()> {
    assert_eq!(got.dims(), expected.dims(), "{name}");
    let (got, expected) = (got.to_dtype(DType::F32)?, expected.to_dtype(DType::F32)?);
    let size = |tensor: &Tensor| tensor.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>();
    let (error, size) = (size(&(got - &expected)?)?, size(&expected)?);
    assert!(
        size > 1e-3 && error <= share * size,
        "{name}: an error of {error} beside {size}"
    );
    Ok(())
}

/// Two tensors are one and the same.
#[allow(dead_code, reason = "not every test compares bits")]
pub fn same_bits(one: &Tensor, other: &Tensor) -> Result<()> {
    let numbers = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>();
    assert_eq!(one.dims(), other.dims());
    assert_eq!(numbers(one)?, numbers(other)?);
    Ok(())
}
