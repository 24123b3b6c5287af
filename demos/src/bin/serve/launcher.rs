//! Launches, and what is noted of each.

use demos::array::Array;
use demos::meter::{Meter, Operation};
use sala_kernels::{Arguments, Device, Result};
use std::fmt::Debug;

/// A device that counts what is launched on it.
pub struct Launcher {
    meter: Meter,
    /// The arguments of all launches since the last look, if they are wanted.
    noted: Option<Vec<String>>,
}

impl Launcher {
    pub fn new(device: &Device, notes: bool) -> Result<Launcher> {
        Ok(Launcher {
            meter: Meter::new(device.clone())?,
            noted: notes.then(Vec::new),
        })
    }

    pub fn device(&self) -> &Device {
        &self.meter.device
    }

    /// Launches, waits, and notes what it cost.
    pub fn run<A: Arguments + Debug>(&mut self, name: &'static str, operation: &A::Operation, args: A) -> Result<()> {
        self.note(&args);
        self.meter.run(name, operation, args)
    }

    fn note(&mut self, args: &impl Debug) {
        if let Some(noted) = &mut self.noted {
            noted.push(format!("{args:?}"));
        }
    }

    /// The arguments of all launches since the last call: addresses, shapes, strides and hints. A CUDA graph would replay just these.
    pub fn take_notes(&mut self) -> Vec<String> {
        self.noted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Kernels so far: counted by the executor, so there are none on a GPU.
    pub fn kernels(&self) -> u64 {
        self.meter.kernels()
    }

    /// What each operation has cost.
    pub fn costs(&self) -> &[Operation] {
        self.meter.operations()
    }
}

/// Memory that launches of all layers share, allocated once.
pub struct Scratch {
    /// It belongs to the stream.
    pub workspace: Array,
    /// What kernels refused. An engine looks at it now and then; here it must stay zero.
    pub status: Array,
}

impl Scratch {
    pub fn new(device: &Device, workspace: usize) -> Result<Scratch> {
        Ok(Scratch {
            workspace: Array::zeros::<u32>(device, &[workspace.div_ceil(size_of::<u32>())])?,
            status: Array::zeros::<u32>(device, &[4])?,
        })
    }
}
