//! One line of the bench: a launch, its floor, and the machine to count it on.

use crate::floors::Floor;
use half::{bf16, f16};
use sala_kernels::{Buffer, Counters, DType, Device, HostOptions, Kernels, Result, Stream};
use sala_testkit::cases::Numbers;

/// A launch that can be counted.
pub struct Case {
    /// The kernel, as its file is called.
    pub kernel: &'static str,
    /// The shape, for a person and for a tool that looks for the same line again.
    pub shape: String,
    pub floor: Floor,
    /// Bytes of workspace that the launch asks for.
    pub workspace: usize,
    /// Makes the tensors, launches and gives the counts of the launch.
    pub run: Box<dyn FnOnce() -> Result<Counters>>,
}

/// The CPU, counting everything, in the guise of a GPU with so many multiprocessors.
pub struct Machine {
    pub device: Device,
    pub kernels: Kernels,
    pub stream: Stream,
}

impl Machine {
    pub fn new(multiprocessors: u32) -> Result<Machine> {
        let device = Device::host_with(HostOptions {
            count: true,
            multiprocessors,
            ..HostOptions::default()
        });
        Ok(Machine {
            kernels: Kernels::load(&device)?,
            stream: Stream::new(&device)?,
            device,
        })
    }

    /// Normally distributed numbers of a 16-bit type.
    pub fn normals(&self, dtype: DType, count: usize, seed: u64) -> Result<Buffer> {
        let numbers = Numbers::new(seed).normals(count, 1.0);
        match dtype {
            DType::F16 => self.buffer(&numbers.into_iter().map(f16::from_f64).collect::<Vec<_>>()),
            _ => self.buffer(&numbers.into_iter().map(bf16::from_f64).collect::<Vec<_>>()),
        }
    }

    /// A copy of `values`.
    pub fn buffer<T: sala_kernels::Element>(&self, values: &[T]) -> Result<Buffer> {
        Buffer::from_slice(&self.device, values)
    }

    /// Memory for `count` elements.
    pub fn space(&self, dtype: DType, count: usize) -> Result<Buffer> {
        Buffer::new(&self.device, count * dtype.size())
    }
}
