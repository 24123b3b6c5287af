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

/// The CPU with some options.
pub fn host_with(name: &str, change: impl FnOnce(&mut HostOptions)) -> Machine {
    let mut options = HostOptions::default();
    change(&mut options);
    Machine::open(name, Device::host_with(options)).expect("the tests are built with the executor")
}

/// The CPU as it comes.
pub fn host() -> Machine {
    host_with("host", |_| {})
}

/// Pretends to be a GPU that runs kernels which are written for it alone.
pub fn hopper(options: &mut HostOptions) {
    options.compute_capability = (9, 0);
}

/// The CPU, with the kernels that are written for Hopper alone where an operation has such.
pub fn hopper_host() -> Machine {
    host_with("host as Hopper", hopper)
}

/// Pretends to be a GPU whose blocks may have more shared memory than others have.
pub fn ampere(options: &mut HostOptions) {
    options.compute_capability = (8, 0);
}

/// The CPU, with the kernels that take much shared memory where an operation has such.
pub fn ampere_host() -> Machine {
    host_with("host as A100", ampere)
}

/// Threads of a block in random order, and copies at random moments.
pub fn shuffle(options: &mut HostOptions, seed: u64) {
    options.seed = seed;
    options.schedule = Schedule::Random;
    options.copies = Copies::Random;
}

/// The CPU, with the threads of a block in random order and copies at random moments.
pub fn shuffled_host(seed: u64) -> Machine {
    host_with("host, shuffled", |options| shuffle(options, seed))
}

/// The CPU, with the threads of a block from last to first and copies at once.
pub fn reversed_host() -> Machine {
    host_with("host, reversed", reverse)
}

/// Threads of a block from last to first, and copies at once.
fn reverse(options: &mut HostOptions) {
    options.schedule = Schedule::Reverse;
    options.copies = Copies::Eager;
}

/// Whether this build of the kernels can detect races: they are not instrumented for races and for addresses at once.
pub fn can_detect_races() -> bool {
    std::env::var_os("SALA_HOST_SANITIZER").is_none()
}

/// Looks for data races; slow.
pub fn detect_races(options: &mut HostOptions, seed: u64) {
    options.seed = seed;
    options.schedule = Schedule::Random;
    options.detect_races = true;
    options.preempt = 8;
}

/// The CPU, looking for data races; slow.
pub fn race_detecting_host(seed: u64) -> Machine {
    host_with("host, detecting races", |options| detect_races(options, seed))
}

/// The CPU, counting everything, with a number of multiprocessors that grids may depend on.
pub fn counting_host(multiprocessors: u32) -> Machine {
    host_with("host, counting", |options| {
        options.count = true;
        options.multiprocessors = multiprocessors;
    })
}

/// The first GPU. Without one, or without kernels for it, says so and gives nothing, unless `SALA_CUDA_DRIVER` names a driver to test with.
pub fn cuda() -> Option<Machine> {
    match Device::cuda(0).and_then(|device| Machine::open("cuda", device)) {
        Ok(machine) => {
            // `cargo xtask test` counts the tests that say so.
            println!("on CUDA: {}", machine.device.name());
            Some(machine)
        }
        Err(error @ (Error::NoDriver { .. } | Error::NoKernels | Error::NoImage { .. } | Error::Driver { .. }))
            if std::env::var_os("SALA_CUDA_DRIVER").is_none() =>
        {
            println!("skipped on CUDA: {error}");
            None
        }
        Err(error) => panic!("the CUDA device cannot be used: {error}"),
    }
}

/// The first GPU with base kernels alone, if it would choose others.
pub fn cuda_at_base() -> Option<Machine> {
    let machine = cuda().filter(|machine| machine.device.compute_capability() == Some((9, 0)))?;
    let kernels = machine.kernels.lowered_to_base();
    let name = "cuda, base kernels".to_owned();
    Some(Machine {
        name,
        kernels,
        ..machine
    })
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

/// A GPU that the CPU pretends to be: its name, and how.
type Pretended = (&'static str, fn(&mut HostOptions));

/// GPUs with kernels of their own, for operations that have several levels.
const LEVELS: [Pretended; 1] = [("Hopper", hopper)];

/// Those, and one with much shared memory, for operations with kernels that take it.
const VARIANTS: [Pretended; 2] = [("A100", ampere), ("Hopper", hopper)];

/// The CPU as each of these GPUs, with further options.
fn pretending(gpus: &[Pretended], what: &str, change: impl Fn(&mut HostOptions)) -> Vec<Machine> {
    let machine = |&(gpu, pretend): &Pretended| {
        host_with(&format!("host as {gpu}{what}"), |options| {
            pretend(options);
            change(options);
        })
    };
    gpus.iter().map(machine).collect()
}

fn all_of(gpus: &[Pretended]) -> Vec<Machine> {
    [host()]
        .into_iter()
        .chain(pretending(gpus, "", |_| {}))
        .chain(cuda())
        .chain(cuda_at_base())
        .collect()
}

fn all_orders_of(gpus: &[Pretended], seed: u64) -> Vec<Machine> {
    [shuffled_host(seed), reversed_host()]
        .into_iter()
        .chain(pretending(gpus, ", shuffled", |options| shuffle(options, seed)))
        .chain(pretending(gpus, ", reversed", reverse))
        .chain(all_of(gpus))
        .collect()
}

fn race_detecting(gpus: &[Pretended], seed: u64) -> Vec<Machine> {
    let pretending = pretending(gpus, ", detecting races", |options| detect_races(options, seed));
    [race_detecting_host(seed)].into_iter().chain(pretending).collect()
}

/// [`all`] with the kernels of every level, for operations that have several.
pub fn all_levels() -> Vec<Machine> {
    all_of(&LEVELS)
}

/// [`all_levels`], and the CPU in two more orders of execution.
pub fn all_levels_and_orders(seed: u64) -> Vec<Machine> {
    all_orders_of(&LEVELS, seed)
}

/// The CPU with the kernels of every level, looking for data races; slow.
pub fn race_detecting_levels(seed: u64) -> Vec<Machine> {
    race_detecting(&LEVELS, seed)
}

/// [`all_levels`], and the base kernels that need much shared memory.
pub fn all_variants() -> Vec<Machine> {
    all_of(&VARIANTS)
}

/// [`all_variants`], and the CPU in two more orders of execution.
pub fn all_variants_and_orders(seed: u64) -> Vec<Machine> {
    all_orders_of(&VARIANTS, seed)
}

/// The CPU with the kernels of [`all_variants`], looking for data races; slow.
pub fn race_detecting_variants(seed: u64) -> Vec<Machine> {
    race_detecting(&VARIANTS, seed)
}
