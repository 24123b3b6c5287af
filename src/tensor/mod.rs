//! Checked views of memory that the caller owns.
//!
//! A [`Tensor`] is an address with a shape and strides: small, copyable, and known to lie in memory that lives for `'a`. A
//! [`TensorMut`] is the same for memory that a kernel writes, so there is only one of it at a time. Views are made from host
//! slices, from a [`Buffer`](crate::Buffer), or, unsafely, from a raw device address. What every view upholds: up to
//! [`MAX_RANK`] axes, an address aligned to its element, an extent that fits the memory it was made from, and, in a
//! `TensorMut`, no element that two indices share.

use std::marker::PhantomData;
use std::ops::Range;

mod memory_space;

pub(crate) use memory_space::MemorySpace;

use crate::{DType, Device, Element, Error, Result};

/// The most axes a view has.
pub const MAX_RANK: usize = 4;

/// A read-only view: address, element type, shape, and strides in elements.
///
/// The strides are free, as far as the view goes; operations ask for what their kernels need (mostly a contiguous last axis
/// and rows that start at multiples of 16 bytes) and say so in their errors.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    space: MemorySpace,
    address: u64,
    dtype: DType,
    rank: usize,
    shape: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
    memory: PhantomData<&'a [u8]>,
}

/// A unique view of memory that a kernel writes; otherwise a [`Tensor`].
#[derive(Debug)]
pub struct TensorMut<'a> {
    /// Never handed out for longer than a borrow of `self`.
    view: Tensor<'a>,
    unique: PhantomData<&'a mut [u8]>,
}

impl<'a> Tensor<'a> {
    /// A contiguous view of host memory. `shape` must name exactly the elements of `slice`.
    pub fn from_slice<T: Element>(slice: &'a [T], shape: &[usize]) -> Result<Self> {
        let view = Self::contiguous(MemorySpace::Host, host_address(slice.as_ptr()), T::DTYPE, shape)?;
        view.covers_exactly(slice.len())?;
        Ok(view)
    }

    /// A view of host memory with strides in elements. `slice` must hold every element that the view reaches.
    pub fn with_strides<T: Element>(slice: &'a [T], shape: &[usize], strides: &[usize]) -> Result<Self> {
        let view = Self::new(
            MemorySpace::Host,
            host_address(slice.as_ptr()),
            T::DTYPE,
            shape,
            strides,
        )?;
        view.fits(size_of_val(slice) as u64)?;
        Ok(view)
    }

    /// A view of memory of `device` at `address`, with strides in elements.
    ///
    /// # Safety
    /// For as long as `'a`, every element that the view reaches must lie in one allocation that is accessible from `device`
    /// (for a host device: initialised memory of this process), and nothing may write it while a launch that was given the view runs.
    pub unsafe fn from_raw(
        device: &Device,
        address: u64,
        dtype: DType,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self> {
        Self::new(device.memory_space(), address, dtype, shape, strides)
    }

    /// A contiguous view; checks all but that the memory is there.
    pub(crate) fn contiguous(space: MemorySpace, address: u64, dtype: DType, shape: &[usize]) -> Result<Self> {
        let (strides, rank) = contiguous_strides(shape)?;
        Self::new(space, address, dtype, shape, strides.get(..rank).unwrap_or_default())
    }

    /// Any view; checks all but that the memory is there.
    pub(crate) fn new(
        space: MemorySpace,
        address: u64,
        dtype: DType,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self> {
        let (shape, rank) = axes("shape", shape)?;
        let (strides, stride_rank) = axes("strides", strides)?;
        if stride_rank != rank {
            return Err(Error::argument(
                "strides",
                format_args!("{rank} of them, one per axis"),
                stride_rank,
            ));
        }
        let view = Self {
            space,
            address,
            dtype,
            rank,
            shape,
            strides,
            memory: PhantomData,
        };
        view.check_extent()?;
        view.check_alignment()?;
        Ok(view)
    }

    /// The number of elements along each axis.
    pub fn shape(&self) -> &[usize] {
        self.shape.get(..self.rank).unwrap_or_default()
    }

    /// The distance between neighbours along each axis, in elements. Every stride fits an `i64`.
    pub fn strides(&self) -> &[usize] {
        self.strides.get(..self.rank).unwrap_or_default()
    }

    /// The stride of one axis, in elements; 0 for an axis that the view does not have.
    pub fn stride(&self, axis: usize) -> usize {
        self.strides().get(axis).copied().unwrap_or(0)
    }

    /// The number of axes, 1 to [`MAX_RANK`].
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The address of the first element: of this process for host memory, of the device otherwise.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether some axis is empty, so that the view has no element.
    pub fn is_empty(&self) -> bool {
        self.shape().contains(&0)
    }

    /// Bytes from the first element to the end of the last one. 0 if the view is empty.
    pub fn extent(&self) -> u64 {
        // The constructor checked that this fits.
        self.extent_wide() as u64
    }

    /// The part of the view whose index along `axis` lies in `range`.
    pub fn narrow(&self, axis: usize, range: Range<usize>) -> Result<Self> {
        let length = self
            .shape()
            .get(axis)
            .copied()
            .ok_or_else(|| no_such_axis(axis, self.rank))?;
        if range.start > range.end || range.end > length {
            let expected = format!("a range within 0..{length}");
            return Err(Error::argument(
                "range",
                expected,
                format_args!("{}..{}", range.start, range.end),
            ));
        }
        let mut part = *self;
        if let Some(size) = part.shape.get_mut(axis) {
            *size = range.len();
        }
        if !part.is_empty() {
            part.address += (range.start * self.stride(axis) * self.dtype.size()) as u64;
        }
        Ok(part)
    }

    /// Whose memory it is.
    pub(crate) fn memory_space(&self) -> MemorySpace {
        self.space
    }

    /// Refuses a view that reaches beyond `bytes`.
    pub(crate) fn fits(&self, bytes: u64) -> Result<()> {
        let extent = self.extent();
        if extent <= bytes {
            return Ok(());
        }
        Err(Error::argument(
            "shape",
            format_args!("a view of at most {bytes} bytes"),
            format_args!("{extent} bytes: {self}"),
        ))
    }

    /// Refuses a contiguous view that has not exactly `elements` elements.
    fn covers_exactly(&self, elements: usize) -> Result<()> {
        if self.shape().iter().product::<usize>() == elements {
            return Ok(());
        }
        Err(Error::argument(
            "shape",
            format_args!("{elements} elements in all"),
            self,
        ))
    }

    /// [`Self::extent`] before it is known to fit 64 bits. Saturates far above that.
    fn extent_wide(&self) -> u128 {
        if self.is_empty() {
            return 0;
        }
        let reach = |(&size, &stride): (&usize, &usize)| (size as u128 - 1).saturating_mul(stride as u128);
        let last = self
            .shape()
            .iter()
            .zip(self.strides())
            .map(reach)
            .fold(0, u128::saturating_add);
        last.saturating_add(1).saturating_mul(self.dtype.size() as u128)
    }

    fn check_extent(&self) -> Result<()> {
        let end = self.extent_wide().saturating_add(u128::from(self.address));
        if end > u128::from(u64::MAX) {
            return Err(Error::argument("shape", "a view that ends below 2^64 bytes", self));
        }
        Ok(())
    }

    fn check_alignment(&self) -> Result<()> {
        let size = self.dtype.size();
        if self.is_empty() || self.address.is_multiple_of(size as u64) {
            return Ok(());
        }
        let expected = format!("a multiple of {size}, the size of {}", self.dtype);
        Err(Error::argument(
            "address",
            expected,
            format_args!("{:#x}", self.address),
        ))
    }

    /// Refuses a view in which two indices may name one element.
    ///
    /// The rule is sufficient, not necessary: sorted by stride, every axis must step over all that the narrower axes reach.
    /// Any slice, transposition or padding of a dense tensor passes.
    fn check_distinct(&self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut axes = [(0u128, 0u128); MAX_RANK];
        for (axis, (&size, &stride)) in axes.iter_mut().zip(self.shape().iter().zip(self.strides())) {
            // An axis of one element never steps; as (0, 0) it stays out of the way.
            let steps = size as u128 - 1;
            *axis = (if steps > 0 { stride as u128 } else { 0 }, steps);
        }
        axes.sort_unstable();
        let mut reach = 0;
        for (stride, steps) in axes {
            if steps > 0 && stride <= reach {
                return Err(Error::argument(
                    "strides",
                    "a distinct place for every element that is written",
                    self,
                ));
            }
            reach += steps * stride;
        }
        Ok(())
    }
}

impl<'a> TensorMut<'a> {
    /// A contiguous view of host memory. `shape` must name exactly the elements of `slice`.
    pub fn from_slice<T: Element>(slice: &'a mut [T], shape: &[usize]) -> Result<Self> {
        let view = Tensor::contiguous(MemorySpace::Host, host_address_mut(slice.as_mut_ptr()), T::DTYPE, shape)?;
        view.covers_exactly(slice.len())?;
        Self::unique(view)
    }

    /// A view of host memory with strides in elements. `slice` must hold every element that the view reaches, and no two
    /// indices may name one element.
    pub fn with_strides<T: Element>(slice: &'a mut [T], shape: &[usize], strides: &[usize]) -> Result<Self> {
        let bytes = size_of_val(slice) as u64;
        let view = Tensor::new(
            MemorySpace::Host,
            host_address_mut(slice.as_mut_ptr()),
            T::DTYPE,
            shape,
            strides,
        )?;
        view.fits(bytes)?;
        Self::unique(view)
    }

    /// A view of memory of `device` at `address`, with strides in elements.
    ///
    /// # Safety
    /// For as long as `'a`, every element that the view reaches must lie in one allocation that is accessible from `device`
    /// (for a host device: initialised memory of this process), and nothing but a launch that was given the view may read or
    /// write it while that launch runs.
    pub unsafe fn from_raw(
        device: &Device,
        address: u64,
        dtype: DType,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self> {
        Self::unique(Tensor::new(device.memory_space(), address, dtype, shape, strides)?)
    }

    /// Makes `view` unique; the code that made it answers for the memory being its own.
    pub(crate) fn unique(view: Tensor<'a>) -> Result<Self> {
        view.check_distinct()?;
        Ok(Self {
            view,
            unique: PhantomData,
        })
    }

    /// The same view for a shorter time, so that it can be used again afterwards.
    pub fn reborrow(&mut self) -> TensorMut<'_> {
        TensorMut {
            view: self.view,
            unique: PhantomData,
        }
    }

    /// The view for reading, while this one is borrowed.
    pub fn as_tensor(&self) -> Tensor<'_> {
        self.view
    }

    /// The part of the view whose index along `axis` lies in `range`.
    pub fn narrow(self, axis: usize, range: Range<usize>) -> Result<Self> {
        Ok(Self {
            view: self.view.narrow(axis, range)?,
            unique: PhantomData,
        })
    }

    /// The number of elements along each axis.
    pub fn shape(&self) -> &[usize] {
        self.view.shape()
    }

    /// The distance between neighbours along each axis, in elements. Every stride fits an `i64`.
    pub fn strides(&self) -> &[usize] {
        self.view.strides()
    }

    /// The stride of one axis, in elements; 0 for an axis that the view does not have.
    pub fn stride(&self, axis: usize) -> usize {
        self.view.stride(axis)
    }

    /// The address of the first element: of this process for host memory, of the device otherwise.
    pub fn address(&self) -> u64 {
        self.view.address()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.view.dtype()
    }
}

impl std::fmt::Display for Tensor<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} {:?} with strides {:?}",
            self.dtype,
            self.shape(),
            self.strides()
        )
    }
}

/// Kernels take a host address as a number, so the pointer's provenance is exposed for the executor to pick up again.
fn host_address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn host_address_mut<T>(pointer: *mut T) -> u64 {
    pointer.expose_provenance() as u64
}

/// Copies up to [`MAX_RANK`] sizes or strides, each at most `i64::MAX`, and counts them.
fn axes(argument: &'static str, values: &[usize]) -> Result<([usize; MAX_RANK], usize)> {
    if values.is_empty() || values.len() > MAX_RANK {
        return Err(Error::argument(
            argument,
            format_args!("1 to {MAX_RANK} axes"),
            format_args!("{values:?}"),
        ));
    }
    if values.iter().any(|&value| i64::try_from(value).is_err()) {
        return Err(Error::argument(
            argument,
            "numbers below 2^63",
            format_args!("{values:?}"),
        ));
    }
    let mut copy = [0; MAX_RANK];
    for (to, from) in copy.iter_mut().zip(values) {
        *to = *from;
    }
    Ok((copy, values.len()))
}

/// The strides of a dense tensor, last axis fastest. An empty axis counts as one, so that the other strides stay meaningful.
fn contiguous_strides(shape: &[usize]) -> Result<([usize; MAX_RANK], usize)> {
    let (shape, rank) = axes("shape", shape)?;
    let mut strides = [0; MAX_RANK];
    let mut step = 1usize;
    for (stride, &size) in strides.iter_mut().zip(&shape).take(rank).rev() {
        *stride = step;
        step = step.checked_mul(size.max(1)).ok_or_else(|| {
            Error::argument(
                "shape",
                "fewer than 2^64 elements",
                format_args!("{:?}", shape.get(..rank).unwrap_or_default()),
            )
        })?;
    }
    Ok((strides, rank))
}

fn no_such_axis(axis: usize, rank: usize) -> Error {
    Error::argument("axis", format_args!("an axis of {rank}, counted from 0"), axis)
}

#[cfg(test)]
mod tests;
