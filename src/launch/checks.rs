//! The rules that operations ask of their views, each a small function that names the argument it refuses.
//!
//! None of them allocates unless it fails: they are part of every launch.

use crate::shapes;
use crate::sys::params::sala_rows;
use crate::tensor::MemorySpace;
use crate::{DType, Error, MAX_RANK, Result, Tensor, TensorMut};

/// Rows of 16- and 8-bit tensors and of states start at multiples of this many bytes: the widest load of a thread.
pub(crate) const ROW_ALIGNMENT: u64 = 16;

/// The view lies in the memory of the device that the kernels were loaded on.
pub(crate) fn memory_space(argument: &'static str, tensor: &Tensor<'_>, expected: MemorySpace) -> Result<()> {
    if tensor.memory_space() == expected {
        return Ok(());
    }
    Err(Error::argument(argument, expected, tensor.memory_space()))
}

/// The view has this element type. Indices and lengths of 32 bits may be unsigned too: the bits are the same, −1 is `u32::MAX`.
pub(crate) fn dtype(argument: &'static str, tensor: &Tensor<'_>, expected: DType) -> Result<()> {
    if tensor.dtype() == expected || (expected == DType::I32 && tensor.dtype() == DType::U32) {
        return Ok(());
    }
    Err(Error::argument(
        argument,
        format_args!("{expected} elements"),
        tensor.dtype(),
    ))
}

/// The view has exactly this shape.
pub(crate) fn shape(argument: &'static str, tensor: &Tensor<'_>, expected: &[usize]) -> Result<()> {
    if tensor.shape() == expected {
        return Ok(());
    }
    Err(Error::argument(
        argument,
        format_args!("shape {expected:?}"),
        format_args!("{:?}", tensor.shape()),
    ))
}

/// The view has this many axes.
pub(crate) fn rank(argument: &'static str, tensor: &Tensor<'_>, expected: usize) -> Result<()> {
    if tensor.rank() == expected {
        return Ok(());
    }
    Err(Error::argument(
        argument,
        format_args!("{expected} axes"),
        format_args!("shape {:?}", tensor.shape()),
    ))
}

/// A length that kernels count in 32 bits.
pub(crate) fn fits_i32(argument: &'static str, length: usize) -> Result<i32> {
    i32::try_from(length).map_err(|_| Error::argument(argument, "fewer than 2^31", length))
}

/// Neighbours along the last axis are neighbours in memory.
pub(crate) fn last_axis_contiguous(argument: &'static str, tensor: &Tensor<'_>) -> Result<()> {
    let last = tensor.rank() - 1;
    let trivial = tensor.is_empty() || tensor.shape().last() == Some(&1);
    if trivial || tensor.stride(last) == 1 {
        return Ok(());
    }
    Err(Error::argument(
        argument,
        "a contiguous last axis (stride 1)",
        format_args!("strides {:?}", tensor.strides()),
    ))
}

/// Every row, that is every run along the last axis, starts at a multiple of [`ROW_ALIGNMENT`] bytes.
///
/// The stride of an axis of one element is never taken, so it is free.
pub(crate) fn rows_aligned(argument: &'static str, tensor: &Tensor<'_>) -> Result<()> {
    if tensor.is_empty() {
        return Ok(());
    }
    if !tensor.address().is_multiple_of(ROW_ALIGNMENT) {
        let expected = format!("an address that is a multiple of {ROW_ALIGNMENT}");
        return Err(Error::argument(
            argument,
            expected,
            format_args!("{:#x}", tensor.address()),
        ));
    }
    let last = tensor.rank() - 1;
    let step = ROW_ALIGNMENT as usize / tensor.dtype().size();
    let aligned = |(&size, &stride): (&usize, &usize)| size <= 1 || stride.is_multiple_of(step);
    if tensor.shape().iter().zip(tensor.strides()).take(last).all(aligned) {
        return Ok(());
    }
    let expected =
        format!("strides that are multiples of {ROW_ALIGNMENT} bytes ({step} elements) but for the last axis");
    Err(Error::argument(
        argument,
        expected,
        format_args!("strides {:?}", tensor.strides()),
    ))
}

/// A written view shares no element with another one of the same launch.
///
/// Two views may interleave, as the parts of one packed tensor do, or keys and values in one allocation of pages: axes of the same stride, and
/// parts that lie apart within a step. Other views whose byte ranges cross are refused.
pub(crate) fn disjoint(
    argument: &'static str,
    written: &Tensor<'_>,
    other_name: &str,
    other: &Tensor<'_>,
) -> Result<()> {
    let crossing = !written.is_empty()
        && !other.is_empty()
        && written.memory_space() == other.memory_space()
        && written.address() < other.address() + other.extent()
        && other.address() < written.address() + written.extent();
    if !crossing || interleaved(written, other) {
        return Ok(());
    }
    let range = |tensor: &Tensor<'_>| (tensor.address(), tensor.address() + tensor.extent());
    let ((start, end), (other_start, other_end)) = (range(written), range(other));
    Err(Error::argument(
        argument,
        format_args!("memory apart from {other_name} at {other_start:#x}..{other_end:#x}"),
        format_args!("{start:#x}..{end:#x}"),
    ))
}

/// A tensor that kernels move in rows: its type and shape, a contiguous last axis, and rows at multiples of [`ROW_ALIGNMENT`].
pub(crate) fn rows(
    argument: &'static str,
    tensor: &Tensor<'_>,
    expected_dtype: DType,
    expected_shape: &[usize],
) -> Result<sala_rows> {
    shape(argument, tensor, expected_shape)?;
    aligned_rows(argument, tensor, expected_dtype)?;
    Ok(sala_rows::of(tensor))
}

/// The part of [`rows`] that does not depend on the shape.
pub(crate) fn aligned_rows(argument: &'static str, tensor: &Tensor<'_>, expected_dtype: DType) -> Result<()> {
    dtype(argument, tensor, expected_dtype)?;
    last_axis_contiguous(argument, tensor)?;
    rows_aligned(argument, tensor)
}

/// A tensor whose rows need no alignment but that of their elements: its type and shape, and a contiguous last axis.
pub(crate) fn numbers(
    argument: &'static str,
    tensor: &Tensor<'_>,
    expected_dtype: DType,
    expected_shape: &[usize],
) -> Result<sala_rows> {
    dtype(argument, tensor, expected_dtype)?;
    shape(argument, tensor, expected_shape)?;
    last_axis_contiguous(argument, tensor)?;
    Ok(sala_rows::of(tensor))
}

/// A contiguous list of `length` elements. Gives its address.
pub(crate) fn list(argument: &'static str, tensor: &Tensor<'_>, expected_dtype: DType, length: usize) -> Result<u64> {
    Ok(numbers(argument, tensor, expected_dtype, &[length])?.address)
}

/// The optional status word of a launch.
pub(crate) fn status(status: Option<&TensorMut<'_>>) -> Result<u64> {
    optional(status.map(TensorMut::as_tensor), |status| {
        list("status", status, DType::U32, 4)
    })
}

/// What `check` gives for a tensor, or what kernels are told of an absent one.
pub(crate) fn optional<T: Default>(
    tensor: Option<Tensor<'_>>,
    check: impl FnOnce(&Tensor<'_>) -> Result<T>,
) -> Result<T> {
    match tensor {
        Some(tensor) => check(&tensor),
        None => Ok(T::default()),
    }
}

/// The stride of an axis as kernels are told it: 0 for an axis of one element, whose stride is free and is never taken.
pub(crate) fn stride(tensor: &Tensor<'_>, axis: usize) -> i64 {
    match tensor.shape().get(axis) {
        Some(0 | 1) | None => 0,
        Some(_) => tensor.stride(axis) as i64,
    }
}

impl sala_rows {
    /// A tensor `[tokens, heads, …]`.
    pub(crate) fn of(tensor: &Tensor<'_>) -> Self {
        Self {
            address: tensor.address(),
            token_stride: stride(tensor, 0),
            head_stride: stride(tensor, 1),
        }
    }
}

/// The length of the first axis, such as the tokens of q.
pub(crate) fn first_axis(tensor: &Tensor<'_>) -> usize {
    tensor.shape().first().copied().unwrap_or(0)
}

/// The length of the last axis, such as the entries of a list.
pub(crate) fn last_axis(tensor: &Tensor<'_>) -> usize {
    tensor.shape().last().copied().unwrap_or(0)
}

/// Bounds are counted in 32 bits on the device, so a larger one says nothing more.
pub(crate) fn saturate(bound: usize) -> i32 {
    i32::try_from(bound).unwrap_or(i32::MAX)
}

/// Whether two views interleave without touching: axes of the same stride in both, and within one step of them parts that lie apart.
///
/// Neither is empty. Counted in 128 bits, because strides may be huge.
fn interleaved(left: &Tensor<'_>, right: &Tensor<'_>) -> bool {
    let distance = i128::from(right.address()) - i128::from(left.address());
    apart(&Lattice::of(left), &Lattice::of(right), distance)
}

/// The axes of a view that are stepped along, in bytes, from the longest step to the shortest.
#[derive(Clone, Copy)]
struct Lattice {
    /// `(stride, elements)`; none: `(0, 1)`.
    axes: [(i128, i128); MAX_RANK],
    element: i128,
}

impl Lattice {
    fn of(tensor: &Tensor<'_>) -> Self {
        let element = tensor.dtype().size() as i128;
        let mut axes = [(0, 1); MAX_RANK];
        let steps = tensor.shape().iter().zip(tensor.strides());
        let taken = steps.filter(|(size, _)| **size > 1);
        for (axis, (&size, &stride)) in axes.iter_mut().zip(taken) {
            *axis = (stride as i128 * element, size as i128);
        }
        axes.sort_unstable_by(|a, b| b.cmp(a));
        Self { axes, element }
    }

    /// Bytes from its first to behind its last.
    fn extent(&self) -> i128 {
        self.axes.iter().map(|(stride, size)| stride * (size - 1)).sum::<i128>() + self.element
    }

    /// One step of the longest axis.
    fn inner(mut self) -> Self {
        self.axes.rotate_left(1);
        self.axes[MAX_RANK - 1] = (0, 1);
        self
    }
}

/// Whether no byte of `right`, which begins `distance` bytes after `left`, is one of `left`. May say no where it is hard to tell.
fn apart(left: &Lattice, right: &Lattice, distance: i128) -> bool {
    if distance >= left.extent() || -distance >= right.extent() {
        return true;
    }
    let (period, same) = (left.axes[0].0, left.axes[0].0 == right.axes[0].0);
    let (left, right) = (left.inner(), right.inner());
    if period == 0 || !same || left.extent() > period || right.extent() > period {
        return false;
    }
    // Seen from a step of `left`, a step of `right` begins within it, or in the one before and may reach into it.
    let offset = distance.rem_euclid(period);
    apart(&left, &right, offset) && apart(&left, &right, offset - period)
}

/// Limit of the second and third axis of a grid, along which kernels put heads and sequences.
pub(crate) const MAX_GRID: usize = 65_535;

/// The most query heads that share a kv head.
const MAX_GROUP: usize = 64;

/// The kernels compute on this element type.
pub(crate) fn operand_type(dtype: DType) -> Result<()> {
    match dtype {
        DType::Bf16 | DType::F16 => Ok(()),
        _ => Err(Error::argument("dtype", "bf16 or f16", dtype)),
    }
}

/// A number of heads that a grid can have.
pub(crate) fn heads(argument: &'static str, heads: usize) -> Result<()> {
    if (1..=MAX_GRID).contains(&heads) {
        return Ok(());
    }
    Err(Error::argument(argument, format_args!("1 to {MAX_GRID}"), heads))
}

/// A number of sequences that a grid can have.
pub(crate) fn batch(argument: &'static str, batch: usize) -> Result<()> {
    if batch <= MAX_GRID {
        return Ok(());
    }
    Err(Error::argument(
        argument,
        format_args!("at most {MAX_GRID} sequences"),
        batch,
    ))
}

/// The number of query heads that share a kv head.
pub(crate) fn group(heads_q: usize, heads_kv: usize) -> Result<usize> {
    heads("heads_kv", heads_kv)?;
    let group = heads_q / heads_kv;
    if heads_q.is_multiple_of(heads_kv) && (1..=MAX_GROUP).contains(&group) {
        return Ok(group);
    }
    let expected = format!("1 to {MAX_GROUP} times the {heads_kv} kv heads");
    Err(Error::argument("heads_q", expected, heads_q))
}

/// A number that a kernel file is compiled for, along one of its axes.
pub(crate) fn compiled_for(argument: &'static str, kernel: &str, axis: &str, number: usize) -> Result<u32> {
    let axes = shapes::KERNELS.iter().find(|file| file.name == kernel);
    let axis = axes.and_then(|file| file.axes().iter().find(|candidate| candidate.name == axis));
    let values = axis.map_or(&[][..], |axis| axis.values);
    if let Some(value) = values.iter().find(|&&value| value as usize == number) {
        return Ok(*value);
    }
    let values: Vec<_> = values.iter().map(u32::to_string).collect();
    Err(Error::argument(argument, values.join(" or "), number))
}

/// A size of the blocks that keys are selected in.
pub(crate) fn block_size(tokens: usize) -> Result<()> {
    match tokens {
        32 | 64 | 128 => Ok(()),
        _ => Err(Error::argument("block_size", "32, 64 or 128", tokens)),
    }
}

/// Refuses a scale that is NaN, or whose product with log₂e, which kernels take exponents with, is beyond f32.
pub(crate) fn scale(argument: &'static str, value: f32) -> Result<()> {
    if (value.abs() * std::f32::consts::LOG2_E).is_finite() {
        return Ok(());
    }
    Err(Error::argument(argument, "a number of at most 2.35e38", value))
}

#[cfg(test)]
mod tests;
