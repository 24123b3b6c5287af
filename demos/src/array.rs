//! Memory of a device that knows its shape.

use sala_kernels::{Buffer, DType, Device, Element, Result, Status, Tensor, TensorMut};
use std::ops::Range;

/// A contiguous tensor and its memory.
pub struct Array {
    device: Device,
    buffer: Buffer,
    dtype: DType,
    shape: Vec<usize>,
}

impl Array {
    /// Zeros.
    pub fn zeros<T: Element>(device: &Device, shape: &[usize]) -> Result<Array> {
        let elements = shape.iter().product::<usize>();
        Ok(Array {
            device: device.clone(),
            buffer: Buffer::new(device, elements * size_of::<T>())?,
            dtype: T::DTYPE,
            shape: shape.to_vec(),
        })
    }

    /// A copy of `values`.
    pub fn of<T: Element>(device: &Device, values: &[T], shape: &[usize]) -> Result<Array> {
        let mut array = Array::zeros::<T>(device, shape)?;
        array.buffer.write(values)?;
        Ok(array)
    }

    /// All of it.
    pub fn view(&self) -> Result<Tensor<'_>> {
        self.buffer.tensor(self.dtype, &self.shape)
    }

    /// All of it, in another shape of as many elements.
    pub fn shaped(&self, shape: &[usize]) -> Result<Tensor<'_>> {
        self.buffer.tensor(self.dtype, shape)
    }

    /// The same for writing.
    pub fn shaped_mut(&mut self, shape: &[usize]) -> Result<TensorMut<'_>> {
        self.buffer.tensor_mut(self.dtype, shape)
    }

    /// All of it, for writing.
    pub fn view_mut(&mut self) -> Result<TensorMut<'_>> {
        self.buffer.tensor_mut(self.dtype, &self.shape)
    }

    /// The rows of some tokens.
    pub fn rows(&self, tokens: &Range<usize>) -> Result<Tensor<'_>> {
        self.view()?.narrow(0, tokens.clone())
    }

    /// The rows of some tokens, for writing.
    pub fn rows_mut(&mut self, tokens: &Range<usize>) -> Result<TensorMut<'_>> {
        self.view_mut()?.narrow(0, tokens.clone())
    }

    /// The rows of some tokens, whatever lies in one as one axis.
    pub fn flat_rows(&self, tokens: &Range<usize>) -> Result<Tensor<'_>> {
        self.buffer
            .tensor(self.dtype, &self.flat_shape())?
            .narrow(0, tokens.clone())
    }

    /// The same for writing.
    pub fn flat_rows_mut(&mut self, tokens: &Range<usize>) -> Result<TensorMut<'_>> {
        let shape = self.flat_shape();
        self.buffer.tensor_mut(self.dtype, &shape)?.narrow(0, tokens.clone())
    }

    /// Its first elements, in any shape.
    pub fn first(&self, shape: &[usize]) -> Result<Tensor<'_>> {
        self.buffer.tensor(self.dtype, shape)
    }

    /// Its first elements, in any shape, for writing.
    pub fn first_mut(&mut self, shape: &[usize]) -> Result<TensorMut<'_>> {
        self.buffer.tensor_mut(self.dtype, shape)
    }

    fn flat_shape(&self) -> [usize; 2] {
        let (tokens, row) = self.shape.split_first().unwrap_or((&0, &[]));
        [*tokens, row.iter().product()]
    }

    /// Where it lies.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Of all axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.buffer.bytes()
    }

    /// The address of the first element.
    pub fn address(&self) -> u64 {
        self.buffer.address()
    }

    /// Replaces the first elements.
    pub fn write<T: Element>(&mut self, values: &[T]) -> Result<()> {
        self.buffer.write(values)
    }

    /// What it holds.
    pub fn read<T: Element>(&self) -> Result<Vec<T>> {
        self.buffer.read()
    }

    /// Reports what kernels have counted in it, if it is a status word.
    pub fn check_status(&self) -> Result<()> {
        let counts = self.read::<u32>()?;
        Status::from(std::array::from_fn(|index| counts[index])).check()
    }
}
