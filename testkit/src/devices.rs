//! The devices that tests run on.

use sala_kernels::{Copies, Device, Error, HostOptions, Kernels, Result, Schedule, Stream};

/// A device with what is needed to launch on it.
pub struct Machine {
    /// What messages call it.
    pub name: String,
    /// The device.
    pub device: Device,
    /// Its kernels.
    pub kernels: Kernels,
    /// A stream of it.
    pub stream: Stream,
}

impl Machine {
    /// Loads the kernels of a device.
    pub fn open(name: impl Into<String>, device: Device) -> Result<Machine> {
        let kernels = Kernels::load(&device)?;
        let stream = Stream::new(&device)?;
        Ok(Machine {
            name: name.into(),
            device,
            kernels,
            stream,
        })
    }
}

/// The CPU as it comes.
pub fn host() -> Machine {
    open_host("host", HostOptions::default())
}

/// The CPU, with the threads of a block in random order and copies at random moments.
pub fn shuffled_host(seed: u64) -> Machine {
    let options = HostOptions {
        seed,
        schedule: Schedule::Random,
        copies: Copies::Random,
        ..HostOptions::default()
    };
    open_host("host, shuffled", options)
}

/// The CPU, with the threads of a block from last to first and copies at once.
pub fn reversed_host() -> Machine {
    let options = HostOptions {
        schedule: Schedule::Reverse,
        copies: Copies::Eager,
        ..HostOptions::default()
    };
    open_host("host, reversed", options)
}

/// The CPU, looking for data races; slow.
pub fn race_detecting_host(seed: u64) -> Machine {
    let options = HostOptions {
        seed,
        schedule: Schedule::Random,
        detect_races: true,
        preempt: 8,
        ..HostOptions::default()
    };
    open_host("host, detecting races", options)
}

fn open_host(name: &str, options: HostOptions) -> Machine {
    Machine::open(name, Device::host_with(options)).expect("the tests are built with the executor")
}

/// The first GPU. Without one, or without kernels for it, says so and gives nothing.
pub fn cuda() -> Option<Machine> {
    match Device::cuda(0).and_then(|device| Machine::open("cuda", device)) {
        Ok(machine) => Some(machine),
        Err(error @ (Error::NoDriver { .. } | Error::NoKernels | Error::NoImage { .. } | Error::Driver { .. })) => {
            println!("skipped on CUDA: {error}");
            None
        }
        Err(error) => panic!("the CUDA device cannot be used: {error}"),
    }
}

/// The CPU and, where there is one, a GPU.
pub fn all() -> Vec<Machine> {
    [host()].into_iter().chain(cuda()).collect()
}

/// [`all`], and the CPU in two more orders of execution.
pub fn all_orders(seed: u64) -> Vec<Machine> {
    [host(), shuffled_host(seed), reversed_host()]
        .into_iter()
        .chain(cuda())
        .collect()
}
