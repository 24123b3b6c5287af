//! Runs kernels and keeps a record of what each operation cost.

use sala_kernels::{Arguments, Counters, Device, Kernels, Result, Stream};
use std::time::{Duration, Instant};

/// A device that is ready to launch on, and the costs so far.
pub struct Meter {
    /// The device.
    pub device: Device,
    kernels: Kernels,
    stream: Stream,
    operations: Vec<Operation>,
}

/// The cost of all launches of one operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What the program calls it.
    pub name: &'static str,
    /// How often it was launched.
    pub launches: u32,
    /// Kernels that these launches queued. Counted on the host device only, as are the next three.
    pub kernels: u64,
    /// Floating-point operations of tensor cores.
    pub tensor_flops: u64,
    /// Evaluations of exp2.
    pub exponentials: u64,
    /// Bytes asked of global memory and given to it.
    pub bytes: u64,
    /// Wall time: from before each launch until the device has finished it.
    pub time: Duration,
}

impl Meter {
    /// Loads the kernels of a device.
    pub fn new(device: Device) -> Result<Meter> {
        Ok(Meter {
            kernels: Kernels::load(&device)?,
            stream: Stream::new(&device)?,
            device,
            operations: Vec::new(),
        })
    }

    /// Runs a launch to its end and adds its cost to the operation of that name.
    pub fn run<A: Arguments>(&mut self, name: &'static str, layer: &A::Operation, args: A) -> Result<()> {
        let begin = Instant::now();
        // SAFETY: the views borrow their memory until this function returns, and it waits for the launch even if that has failed.
        let launched = unsafe { self.kernels.launch(&self.stream, layer, args) };
        let finished = self.stream.synchronize();
        launched.and(finished)?;
        let time = begin.elapsed();
        let counters = self.stream.take_counters();
        self.operation(name).add(&counters, time);
        Ok(())
    }

    /// The costs since the last call, in order of first launch.
    pub fn take(&mut self) -> Vec<Operation> {
        std::mem::take(&mut self.operations)
    }

    /// The costs so far, in order of first launch.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Kernels that all launches so far have queued; 0 on a GPU, where none are counted.
    pub fn kernels(&self) -> u64 {
        self.operations.iter().map(|operation| operation.kernels).sum()
    }

    fn operation(&mut self, name: &'static str) -> &mut Operation {
        let index = self.operations.iter().position(|operation| operation.name == name);
        let index = index.unwrap_or_else(|| {
            self.operations.push(Operation::new(name));
            self.operations.len() - 1
        });
        &mut self.operations[index]
    }
}

impl Operation {
    fn new(name: &'static str) -> Operation {
        Operation {
            name,
            launches: 0,
            kernels: 0,
            tensor_flops: 0,
            exponentials: 0,
            bytes: 0,
            time: Duration::ZERO,
        }
    }

    fn add(&mut self, counters: &Counters, time: Duration) {
        self.launches += 1;
        self.kernels += counters.kernels;
        self.tensor_flops += counters.tensor_flops;
        self.exponentials += counters.exponentials;
        self.bytes += counters.global_bytes_read + counters.global_bytes_written;
        self.time += time;
    }
}
