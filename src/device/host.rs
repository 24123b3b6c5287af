//! The CPU as a device: options and counters of the executor, and kernels that it runs.
//!
//! The executor (`cuda/host`) runs the very source of the GPU kernels, one block at a time on every core, and checks what the
//! machine would not: bounds, alignment, divergence, races. It is for tests, for counting costs and for machines without a
//! GPU; it is not fast.

/// The most shared memory of a block, by compute capability (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"). The
/// least of them, which every base kernel has a variant for, also stands for GPUs that are not named here.
const fn shared_memory((major, minor): (u32, u32)) -> u32 {
    match (major, minor) {
        (8, 0 | 7) => 163 * 1024,
        (9 | 10, _) => 227 * 1024,
        _ => 99 * 1024,
    }
}

/// In what order blocks begin, and in what order the threads of a block run between two points where they meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Schedule {
    /// Ascending.
    #[default]
    RoundRobin,
    /// Shuffled by [`HostOptions::seed`].
    Random,
    /// Descending.
    Reverse,
}

/// When an asynchronous copy really copies: any moment from its issue to its wait is legal on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Copies {
    /// At the wait, so that a missing wait shows.
    #[default]
    Lazy,
    /// At once, so that overwriting a buffer too early shows.
    Eager,
    /// Either, by [`HostOptions::seed`].
    Random,
}

/// How kernels are executed on the CPU. No option changes the results of a correct kernel.
///
/// ```
/// use sala_kernels::{Device, HostOptions, Schedule};
/// let mut options = HostOptions::default();
/// options.schedule = Schedule::Reverse;
/// let device = Device::host_with(options);
/// # assert!(device.is_host());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostOptions {
    /// Seed of every random choice.
    pub seed: u64,
    /// Order of the threads of a block.
    pub schedule: Schedule,
    /// When asynchronous copies happen.
    pub copies: Copies,
    /// CPU threads that share the blocks of a grid; 0 for all cores.
    pub threads: u32,
    /// Run the race-instrumented build of every kernel, many times slower; needs feature `race`.
    pub detect_races: bool,
    /// Switch threads at one in this many accesses to shared memory; 0 for never. Without [`Self::detect_races`] only the
    /// load and store primitives are seen.
    pub preempt: u32,
    /// Also count what is costly to count: distinct bytes and the wavefronts of vector accesses to shared memory.
    pub count: bool,
    /// How many multiprocessors the device claims to have, for kernels whose grid depends on it; 0 counts as 1.
    pub multiprocessors: u32,
    /// The compute capability of the GPU that the device pretends to be: a block has its shared memory, and operations choose kernels as they do
    /// there, with (9, 0) also those that are written for Hopper alone.
    pub compute_capability: (u32, u32),
}

impl HostOptions {
    /// The most shared memory of a block.
    pub(super) fn max_shared_memory(&self) -> u32 {
        shared_memory(self.compute_capability)
    }
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            schedule: Schedule::default(),
            copies: Copies::default(),
            threads: 0,
            detect_races: false,
            preempt: 0,
            count: false,
            multiprocessors: 1,
            compute_capability: (8, 6),
        }
    }
}

/// What launches on the CPU have cost, exactly and on every machine alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Floating-point operations of matrix instructions: two for each multiply-add.
    pub tensor_flops: u64,
    /// Exponentials.
    pub exponentials: u64,
    /// Bytes that threads asked of global memory.
    pub global_bytes_read: u64,
    /// Bytes that threads wrote to global memory.
    pub global_bytes_written: u64,
    /// Different bytes of global memory touched, with [`HostOptions::count`].
    pub global_bytes_distinct: u64,
    /// Passes over shared memory that warps needed.
    pub shared_wavefronts: u64,
    /// Passes that they would need without bank conflicts.
    pub shared_wavefronts_ideal: u64,
    /// Warp-wide operations.
    pub collectives: u64,
    /// Switches from one thread of a block to another.
    pub switches: u64,
    /// Blocks run.
    pub blocks: u64,
    /// Kernels launched.
    pub kernels: u64,
}

#[cfg(not(feature = "host"))]
pub(crate) use absent::HostKernels;
#[cfg(feature = "host")]
pub(crate) use executor::HostKernels;

#[cfg(feature = "host")]
mod executor {
    use std::ffi::{CStr, CString, c_char};

    use super::super::Launch;
    use super::{Copies, Counters, HostOptions, Schedule};
    use crate::shapes::{self, Machine};
    use crate::sys::executor as sys;
    use crate::{Error, Result};

    /// The compute capability of Hopper, which has kernels of its own.
    const HOPPER: (u32, u32) = (9, 0);

    /// Longest report of a failed launch, in bytes.
    const REPORT_BYTES: usize = 2048;

    /// The executor's entry for each kernel instance, in the order of identifiers, or why there is none.
    #[derive(Debug)]
    pub(crate) struct HostKernels {
        options: sys::sala_host_options,
        functions: Vec<Result<Function>>,
    }

    /// A registered kernel: static data of the executor.
    #[derive(Debug, Clone, Copy)]
    struct Function(*const sys::sala_host_kernel);

    // SAFETY: the pointee is a constant that the executor registers before `main` and never changes.
    unsafe impl Send for Function {}
    // SAFETY: as above.
    unsafe impl Sync for Function {}

    /// Whether this CPU has what the build script compiled the kernels for.
    fn cpu_runs_the_build() -> bool {
        #[cfg(sala_host_x86_64_v3)]
        return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("fma");
        #[cfg(not(sala_host_x86_64_v3))]
        true
    }

    impl HostKernels {
        /// Looks up every instance.
        pub(crate) fn load(options: &HostOptions) -> Result<Self> {
            if options.detect_races && !cfg!(feature = "race") {
                return Err(Error::unsupported(
                    "HostOptions::detect_races",
                    "the crate was built without feature `race`",
                ));
            }
            if !cpu_runs_the_build() {
                return Err(Error::unsupported(
                    "the host device",
                    "its kernels were compiled for x86-64-v3 (AVX2 and FMA), which this CPU lacks",
                ));
            }
            Ok(Self {
                options: options.to_c(),
                functions: functions(options).collect(),
            })
        }

        /// Whether there is CPU code of a kernel, or why not.
        pub(crate) fn state(&self, index: usize) -> std::result::Result<(), Option<&Error>> {
            match self.functions.get(index) {
                Some(function) => function.as_ref().map(drop).map_err(Some),
                None => Err(None),
            }
        }

        /// Runs a grid to its end and returns what it has cost.
        ///
        /// # Safety
        /// The parameters must be the parameter struct of the launch's kernel, and the memory that they name must be the kernel's to use.
        pub(crate) unsafe fn launch(&self, launch: &Launch<'_>) -> Result<Counters> {
            let (name, params) = (launch.name, launch.params);
            let function = match self.functions.get(launch.index) {
                Some(function) => function.as_ref().map_err(Error::clone)?,
                None => return Err(not_built(name)),
            };
            // SAFETY: `function` came from `sala_host_find`.
            let size = unsafe { sys::sala_host_params_size(function.0) };
            if size != params.len() as u64 {
                let report = format!("its parameters are {size} bytes, the launch passed {}", params.len());
                return Err(Error::Execution {
                    kernel: name.to_owned(),
                    report,
                });
            }
            let mut counters = sys::sala_host_counters::default();
            let mut report = [0; REPORT_BYTES];
            // SAFETY: every pointer is to a live object of the size that the function documents, and the caller answers for what the
            // parameters name.
            let status = unsafe {
                sys::sala_host_launch(
                    function.0,
                    launch.grid.as_ptr(),
                    launch.threads,
                    launch.shared,
                    params.as_ptr().cast(),
                    size,
                    &self.options,
                    &mut counters,
                    report.as_mut_ptr(),
                    report.len() as u64,
                )
            };
            if status == 0 {
                return Ok(Counters::from_c(&counters));
            }
            Err(Error::Execution {
                kernel: name.to_owned(),
                report: text(&report),
            })
        }
    }

    /// Each instance, if it is for the GPU that the options name.
    fn functions(options: &HostOptions) -> impl Iterator<Item = Result<Function>> {
        let capability = options.compute_capability;
        let lacks = move |machine| machine == Machine::Sm90a && capability != HOPPER;
        shapes::compiled_files().flat_map(move |file| {
            let of_file = |name: &str| match lacks(file.machine) {
                true => Err(Error::unsupported(
                    name,
                    "it is for GPUs of compute capability 9.0, which HostOptions::compute_capability is not",
                )),
                false => find(name),
            };
            let instances = file.instances();
            let found: Vec<_> = instances.iter().map(|instance| of_file(&instance.name)).collect();
            found
        })
    }

    fn find(name: &str) -> Result<Function> {
        let symbol = CString::new(name).map_err(|_| not_built(name))?;
        // SAFETY: a string that ends in NUL; the executor keeps no reference to it.
        let kernel = unsafe { sys::sala_host_find(symbol.as_ptr()) };
        if kernel.is_null() {
            Err(not_built(name))
        } else {
            Ok(Function(kernel))
        }
    }

    #[cold]
    fn not_built(name: &str) -> Error {
        Error::unsupported(name, "this build has no CPU code of it")
    }

    /// The report up to its NUL.
    fn text(report: &[c_char]) -> String {
        let bytes: Vec<u8> = report.iter().map(|&byte| byte as u8).collect();
        match CStr::from_bytes_until_nul(&bytes) {
            Ok(text) => text.to_string_lossy().into_owned(),
            Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    impl HostOptions {
        fn to_c(self) -> sys::sala_host_options {
            sys::sala_host_options {
                seed: self.seed,
                schedule: match self.schedule {
                    Schedule::RoundRobin => sys::SALA_HOST_ROUND_ROBIN,
                    Schedule::Random => sys::SALA_HOST_RANDOM,
                    Schedule::Reverse => sys::SALA_HOST_REVERSE,
                },
                copies: match self.copies {
                    Copies::Lazy => sys::SALA_HOST_LAZY,
                    Copies::Eager => sys::SALA_HOST_EAGER,
                    Copies::Random => sys::SALA_HOST_EITHER,
                },
                threads: self.threads,
                detect_races: u32::from(self.detect_races),
                preempt: self.preempt,
                count: u32::from(self.count),
            }
        }
    }

    impl Counters {
        fn from_c(counters: &sys::sala_host_counters) -> Self {
            Self {
                tensor_flops: counters.tensor_flops,
                exponentials: counters.exponentials,
                global_bytes_read: counters.global_bytes_read,
                global_bytes_written: counters.global_bytes_written,
                global_bytes_distinct: counters.global_bytes_distinct,
                shared_wavefronts: counters.shared_wavefronts,
                shared_wavefronts_ideal: counters.shared_wavefronts_ideal,
                collectives: counters.collectives,
                switches: counters.switches,
                blocks: counters.blocks,
                kernels: 1,
            }
        }
    }
}

#[cfg(not(feature = "host"))]
mod absent {
    use super::super::Launch;
    use super::{Counters, HostOptions};
    use crate::{Error, Result};

    /// No kernels: the build has no executor, so that this type has no value.
    #[derive(Debug)]
    pub(crate) enum HostKernels {}

    impl HostKernels {
        pub(crate) fn load(_: &HostOptions) -> Result<Self> {
            Err(Error::unsupported(
                "the host device",
                "the crate was built without feature `host`",
            ))
        }

        pub(crate) fn state(&self, _: usize) -> std::result::Result<(), Option<&Error>> {
            match *self {}
        }

        /// # Safety
        /// Never called.
        pub(crate) unsafe fn launch(&self, _: &Launch<'_>) -> Result<Counters> {
            match *self {}
        }
    }
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.tensor_flops += other.tensor_flops;
        self.exponentials += other.exponentials;
        self.global_bytes_read += other.global_bytes_read;
        self.global_bytes_written += other.global_bytes_written;
        self.global_bytes_distinct += other.global_bytes_distinct;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_wavefronts_ideal += other.shared_wavefronts_ideal;
        self.collectives += other.collectives;
        self.switches += other.switches;
        self.blocks += other.blocks;
        self.kernels += other.kernels;
    }
}
