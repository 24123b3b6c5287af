//! Owned memory of a device, for tools, tests and examples. An engine brings its own.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Arc;

use super::cuda::CudaContext;
use super::driver::StreamHandle;
use super::{Device, Kind};
use crate::tensor::MemorySpace;
use crate::{DType, Element, Error, Result, Tensor, TensorMut};

/// Alignment of host buffers; what a CUDA device gives too.
const ALIGNMENT: usize = 256;

/// Owned memory of a device, zeroed and 256-byte aligned.
///
/// Copies are synchronous, but know nothing of streams: before [`Buffer::read`] and before dropping a buffer that launches use,
/// synchronise their stream.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    bytes: usize,
}

#[derive(Debug)]
enum Memory {
    Host(HostMemory),
    Cuda(CudaMemory),
}

impl Buffer {
    /// `bytes` zero bytes on `device`.
    pub fn new(device: &Device, bytes: usize) -> Result<Self> {
        let memory = match &device.kind {
            Kind::Host(_) => Memory::Host(HostMemory::new(bytes)?),
            Kind::Cuda(context) => Memory::Cuda(CudaMemory::new(context, bytes)?),
        };
        let mut buffer = Self { memory, bytes };
        if !device.is_host() {
            buffer.fill(0)?;
        }
        Ok(buffer)
    }

    /// A copy of `values` on `device`.
    pub fn from_slice<T: Element>(device: &Device, values: &[T]) -> Result<Self> {
        let mut buffer = Self::new(device, size_of_val(values))?;
        buffer.write(values)?;
        Ok(buffer)
    }

    /// The size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address of the first byte.
    pub fn address(&self) -> u64 {
        match &self.memory {
            Memory::Host(memory) => memory.pointer.expose_provenance() as u64,
            Memory::Cuda(memory) => memory.address,
        }
    }

    /// Overwrites the first bytes with `values`.
    pub fn write<T: Element>(&mut self, values: &[T]) -> Result<()> {
        let source: &[u8] = bytemuck::cast_slice(values);
        if source.len() > self.bytes {
            let expected = format!("at most the buffer's {} bytes", self.bytes);
            return Err(Error::argument(
                "values",
                expected,
                format_args!("{} bytes", source.len()),
            ));
        }
        match &mut self.memory {
            Memory::Host(memory) => {
                let (head, _) = memory.bytes_mut(self.bytes).split_at_mut(source.len());
                head.copy_from_slice(source);
                Ok(())
            }
            Memory::Cuda(memory) => memory.write(source),
        }
    }

    /// Sets every byte.
    pub fn fill(&mut self, byte: u8) -> Result<()> {
        match &mut self.memory {
            Memory::Host(memory) => {
                memory.bytes_mut(self.bytes).fill(byte);
                Ok(())
            }
            Memory::Cuda(memory) => memory.fill(byte, self.bytes),
        }
    }

    /// A copy of the contents. The size must be a multiple of the element's.
    pub fn read<T: Element>(&self) -> Result<Vec<T>> {
        if !self.bytes.is_multiple_of(size_of::<T>()) {
            let expected = format!("an element whose size divides the buffer's {} bytes", self.bytes);
            return Err(Error::argument("T", expected, T::DTYPE));
        }
        let mut values = vec![T::zeroed(); self.bytes / size_of::<T>()];
        let target: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        match &self.memory {
            Memory::Host(memory) => target.copy_from_slice(memory.bytes(self.bytes)),
            Memory::Cuda(memory) => memory.read(target)?,
        }
        Ok(values)
    }

    /// A contiguous view of the first elements.
    pub fn tensor(&self, dtype: DType, shape: &[usize]) -> Result<Tensor<'_>> {
        let view = Tensor::contiguous(self.memory_space(), self.address(), dtype, shape)?;
        view.fits(self.bytes as u64)?;
        Ok(view)
    }

    /// A contiguous view of the first elements, for writing.
    pub fn tensor_mut(&mut self, dtype: DType, shape: &[usize]) -> Result<TensorMut<'_>> {
        TensorMut::unique(self.tensor(dtype, shape)?)
    }

    /// A view with strides in elements.
    pub fn tensor_with_strides(&self, dtype: DType, shape: &[usize], strides: &[usize]) -> Result<Tensor<'_>> {
        let view = Tensor::new(self.memory_space(), self.address(), dtype, shape, strides)?;
        view.fits(self.bytes as u64)?;
        Ok(view)
    }

    /// A view with strides in elements, for writing. No two indices may name one element.
    pub fn tensor_mut_with_strides(
        &mut self,
        dtype: DType,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<TensorMut<'_>> {
        TensorMut::unique(self.tensor_with_strides(dtype, shape, strides)?)
    }

    fn memory_space(&self) -> MemorySpace {
        match &self.memory {
            Memory::Host(_) => MemorySpace::Host,
            Memory::Cuda(memory) => MemorySpace::of_context(memory.context.handle().0),
        }
    }
}

/// An allocation of this process; a dangling pointer if it has no bytes.
#[derive(Debug)]
struct HostMemory {
    pointer: *mut u8,
    layout: Layout,
}

// SAFETY: the memory is owned, and reached only through `&self` and `&mut self`.
unsafe impl Send for HostMemory {}
// SAFETY: as above.
unsafe impl Sync for HostMemory {}

impl HostMemory {
    fn new(bytes: usize) -> Result<Self> {
        let layout = Layout::from_size_align(bytes, ALIGNMENT)
            .map_err(|_| Error::argument("bytes", "fewer than 2^63 bytes", bytes))?;
        if bytes == 0 {
            return Ok(Self {
                pointer: std::ptr::without_provenance_mut(ALIGNMENT),
                layout,
            });
        }
        // SAFETY: the layout is not empty.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() {
            let device = "host".to_owned();
            return Err(Error::OutOfMemory { bytes, device });
        }
        Ok(Self { pointer, layout })
    }

    fn bytes(&self, bytes: usize) -> &[u8] {
        debug_assert!(bytes <= self.layout.size());
        // SAFETY: the allocation has that many bytes, all initialised, and nobody writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.pointer, bytes) }
    }

    fn bytes_mut(&mut self, bytes: usize) -> &mut [u8] {
        debug_assert!(bytes <= self.layout.size());
        // SAFETY: the allocation has that many bytes, all initialised, and `self` is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, bytes) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated with this layout, and freed once.
            unsafe { dealloc(self.pointer, self.layout) };
        }
    }
}

/// An allocation of a CUDA context; address 0 if it has no bytes.
#[derive(Debug)]
struct CudaMemory {
    context: Arc<CudaContext>,
    address: u64,
}

impl CudaMemory {
    fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        if bytes == 0 {
            return Ok(Self {
                context: Arc::clone(context),
                address: 0,
            });
        }
        context.with_current(|driver| {
            let mut address = 0;
            // SAFETY: `address` is a place for the address.
            unsafe { driver.memory_allocate(&mut address, bytes)? };
            Ok(Self {
                context: Arc::clone(context),
                address,
            })
        })
    }

    /// Copies to the device and waits, because a copy from pageable memory may return before it has arrived.
    fn write(&mut self, source: &[u8]) -> Result<()> {
        if source.is_empty() {
            return Ok(());
        }
        self.context.with_current(|driver| {
            // SAFETY: the allocation holds at least as many bytes, as the caller has checked.
            unsafe { driver.memory_write(self.address, source.as_ptr().cast(), source.len())? };
            // SAFETY: the default stream always lives.
            unsafe { driver.stream_synchronize(StreamHandle::NULL) }
        })
    }

    fn fill(&mut self, byte: u8, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.with_current(|driver| {
            // SAFETY: the allocation holds that many bytes.
            unsafe { driver.memory_fill(self.address, byte, bytes)? };
            // SAFETY: the default stream always lives.
            unsafe { driver.stream_synchronize(StreamHandle::NULL) }
        })
    }

    fn read(&self, target: &mut [u8]) -> Result<()> {
        if target.is_empty() {
            return Ok(());
        }
        // SAFETY: the allocation holds as many bytes as `target`.
        self.context.with_current(|driver| unsafe {
            driver.memory_read(target.as_mut_ptr().cast(), self.address, target.len())
        })
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        if self.address != 0 {
            // SAFETY: allocated by `new`, and freed once. A failure cannot be reported from `drop`.
            let _ = self
                .context
                .with_current(|driver| unsafe { driver.memory_free(self.address) });
        }
    }
}
