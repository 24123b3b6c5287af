//! The kernels of this build, loaded on a device and ready to launch.

use std::sync::PoisonError;

use super::{Arguments, Params, Variant};
use crate::device::{CudaKernels, HostKernels, IMAGES, Image, Kind, Launch, Target};
use crate::shapes::Machine;
use crate::sys::params::{sala_tensor_map, sala_tensor_shape};
use crate::{Device, Error, Result, Stream, shapes};

/// Names the best machine whose kernels may be chosen: `base` or `sm90a`. Unset: all that the device runs.
const LEVEL_VARIABLE: &str = "SALA_KERNELS";

/// All kernels, loaded on one device. Operations launch through it.
///
/// Loading is the slow part: it reads the images, looks up every function and lifts every limit on shared memory, so that a launch makes no
/// driver call but the launches of its kernels. One value per context is enough; it can be shared by threads. Dropping it waits for all work of
/// the context, because the code of the kernels goes with it.
///
/// | with | launch | safe |
/// |---|---|---|
/// | host slices | [`Kernels::run`] | yes: it has run when it returns |
/// | cudarc slices | `Launch::run` of the `cudarc` adapter | yes: by cudarc's events |
/// | any memory, on a stream | [`Kernels::launch`] | no: the caller keeps memory alive and in order |
#[derive(Debug)]
pub struct Kernels {
    device: Device,
    /// The name of each instance, in the order of identifiers.
    names: Vec<String>,
    /// The best machine whose kernels are chosen.
    level: Machine,
    loaded: Loaded,
}

#[derive(Debug)]
enum Loaded {
    Host(HostKernels),
    Cuda(CudaKernels),
}

impl Kernels {
    /// Loads the kernels on a device.
    ///
    /// `SALA_KERNELS=base` in the environment keeps operations from choosing kernels that only some GPUs run, so that every level can be
    /// tried on one machine.
    ///
    /// # Errors
    /// On a CUDA device [`Error::NoKernels`] if the crate was built without nvcc, [`Error::NoImage`] if nothing that was built
    /// runs on the device, or the driver's error. On the host [`Error::Unsupported`] without feature `host`, and without
    /// feature `race` if the device is to detect races. [`Error::Argument`] if `SALA_KERNELS` is no level.
    pub fn load(device: &Device) -> Result<Self> {
        Self::from_images(device, IMAGES)
    }

    /// [`Self::load`] with other images than those of the build, for tests.
    #[cfg(feature = "test-kernels")]
    #[doc(hidden)]
    pub fn load_images(device: &Device, images: &'static [Image]) -> Result<Self> {
        Self::from_images(device, images)
    }

    fn from_images(device: &Device, images: &'static [Image]) -> Result<Self> {
        let level = level(std::env::var(LEVEL_VARIABLE).ok().as_deref())?;
        let names: Vec<_> = shapes::instance_names().collect();
        let loaded = match &device.kind {
            Kind::Host(options) => Loaded::Host(HostKernels::load(options)?),
            Kind::Cuda(context) => Loaded::Cuda(CudaKernels::load(context, images)?),
        };
        Ok(Self {
            device: device.clone(),
            names,
            level,
            loaded,
        })
    }

    /// The same kernels, of which operations choose those that every GPU runs, as with `SALA_KERNELS=base`; for tests.
    #[doc(hidden)]
    pub fn lowered_to_base(self) -> Self {
        Self {
            level: Machine::Base,
            ..self
        }
    }

    /// The GPU architectures that this build holds code for, as nvcc's `code=` calls them: machine code for `sm_…`, PTX for `compute_…`. None if
    /// it was made without nvcc.
    ///
    /// ```
    /// let architectures = sala_kernels::Kernels::embedded_architectures();
    /// println!("this build runs on {architectures:?} and the CPU");
    /// ```
    pub fn embedded_architectures() -> Vec<&'static str> {
        let mut architectures: Vec<_> = IMAGES.iter().flat_map(|image| image.archs).copied().collect();
        architectures.sort_unstable();
        architectures.dedup();
        architectures
    }

    /// Refuses a device that lacks a kernel which every GPU runs.
    #[cfg(feature = "c-api")]
    pub(crate) fn check_base(&self) -> Result<()> {
        let files = shapes::compiled_files().flat_map(|file| file.instances().into_iter().map(|_| file.machine));
        for (index, machine) in files.enumerate() {
            if let (Machine::Base, Err(Some(error))) = (machine, self.state(index)) {
                return Err(error.clone());
            }
        }
        Ok(())
    }

    /// The device that the kernels were loaded on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Queues one launch of an operation on `stream`: its arguments say which, and what it reads and writes.
    ///
    /// Checks every view on the CPU first. Allocates nothing, synchronises nothing and reads nothing back, so that it can be captured in a CUDA
    /// graph. On a host device the kernels have run when it returns.
    ///
    /// # Errors
    /// [`Error::Argument`] names the argument that does not fit; nothing is launched then. On a host device also [`Error::Execution`].
    ///
    /// # Safety
    /// Until the launch has finished on `stream`, the memory behind every view must stay alive, inputs must not be written, and outputs,
    /// states, status and workspace not be touched, by anything that `stream` does not order.
    pub unsafe fn launch<A: Arguments>(&self, stream: &Stream, operation: &A::Operation, args: A) -> Result<()> {
        self.check_stream(stream)?;
        args.views().check(self.device.memory_space())?;
        // SAFETY: the caller's promise, for the views that were checked.
        unsafe { args.queue(operation, self, stream) }
    }

    /// [`Self::launch`] on the CPU, over host memory: it has run when it returns.
    ///
    /// # Errors
    /// As [`Self::launch`]; [`Error::Argument`] if the kernels were loaded on another device than the host.
    pub fn run<A: Arguments>(&self, operation: &A::Operation, args: A) -> Result<()> {
        if !self.device.is_host() {
            let expected = "kernels loaded on a host device";
            return Err(Error::argument("kernels", expected, self.device.name()));
        }
        let stream = Stream::new(&self.device)?;
        // SAFETY: a host launch has finished when it returns, and the views borrow their memory until then.
        unsafe { self.launch(&stream, operation, args) }
    }

    /// The first variant, best first, that this device runs, that `SALA_KERNELS` allows and that `suits` the call.
    pub(crate) fn pick<'v, P, T>(
        &self,
        variants: &'v [Variant<P, T>],
        suits: impl Fn(&T) -> bool,
    ) -> Result<&'v Variant<P, T>> {
        let picked = variants
            .iter()
            .find(|variant| self.runs(variant) && suits(&variant.tile));
        picked.ok_or_else(|| self.nothing_to_pick(variants))
    }

    /// Whether this device runs a variant, has the shared memory for it, and `SALA_KERNELS` allows it.
    pub(crate) fn runs<P, T>(&self, variant: &Variant<P, T>) -> bool {
        variant.machine <= self.level
            && variant.shared <= self.device.max_shared_memory()
            && self.state(variant.kernel.index()).is_ok()
    }

    /// Queues a grid of a variant's kernel. An empty grid is nothing to do.
    ///
    /// Allocates nothing, synchronises nothing and makes one driver call.
    ///
    /// # Safety
    /// All memory that `params` names must be the kernel's to use as it does until it has run, on the stream's order.
    pub(crate) unsafe fn queue<P: Params, T>(
        &self,
        stream: &Stream,
        variant: &Variant<P, T>,
        grid: [usize; 3],
        params: &P,
    ) -> Result<()> {
        let grid = grid.map(|blocks| u32::try_from(blocks).unwrap_or(u32::MAX));
        let launch = self.launch_of(
            variant.kernel.index(),
            grid,
            variant.threads,
            variant.shared,
            bytemuck::bytes_of(params),
        );
        // SAFETY: `P` belongs to the kernel, as the table says; the rest is the caller's promise.
        unsafe { self.queue_launch(stream, &launch) }
    }

    /// [`Self::queue`] by name, for tests of kernels that no operation launches.
    ///
    /// # Safety
    /// `params` must be the kernel's parameter struct, and all memory that it names must be the kernel's to use as it does until it has run.
    #[cfg(feature = "test-kernels")]
    #[doc(hidden)]
    pub unsafe fn launch_named(
        &self,
        name: &str,
        stream: &Stream,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        params: &[u8],
    ) -> Result<()> {
        let index = self.names.iter().position(|candidate| candidate == name);
        let index = index.ok_or_else(|| Error::unsupported(name, "no such kernel is compiled"))?;
        self.check_stream(stream)?;
        // SAFETY: the caller's promise.
        unsafe { self.queue_launch(stream, &self.launch_of(index, grid, threads, shared, params)) }
    }

    fn name_of(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    fn launch_of<'a>(
        &'a self,
        index: usize,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        params: &'a [u8],
    ) -> Launch<'a> {
        Launch {
            index,
            name: self.name_of(index),
            grid,
            threads,
            shared,
            params,
        }
    }

    /// # Safety
    /// As for [`Self::queue`]: the parameters are the bytes of the kernel's parameter struct.
    unsafe fn queue_launch(&self, stream: &Stream, launch: &Launch<'_>) -> Result<()> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        if launch.shared > self.device.max_shared_memory() {
            return Err(too_much_shared_memory(
                launch.name,
                launch.shared,
                self.device.max_shared_memory(),
            ));
        }
        match (&self.loaded, stream.target()) {
            (Loaded::Host(kernels), Target::Host(counters)) => {
                // SAFETY: the caller's promise.
                let cost = unsafe { kernels.launch(launch)? };
                *counters.lock().unwrap_or_else(PoisonError::into_inner) += cost;
                Ok(())
            }
            // SAFETY: the caller's promise; the stream belongs to the context, as the callers have checked.
            (Loaded::Cuda(kernels), Target::Cuda(stream)) => unsafe { kernels.launch(stream, launch) },
            _ => Err(self.wrong_stream(stream)),
        }
    }

    /// The map of a tensor as the device's kernels read it.
    pub(super) fn encode(&self, shape: &sala_tensor_shape) -> Result<sala_tensor_map> {
        match &self.loaded {
            Loaded::Host(_) => Ok(bytemuck::cast(*shape)),
            Loaded::Cuda(kernels) => kernels.encode(shape),
        }
    }

    /// Whether the device runs a kernel, or why not.
    fn state(&self, index: usize) -> std::result::Result<(), Option<&Error>> {
        match &self.loaded {
            Loaded::Host(kernels) => kernels.state(index),
            Loaded::Cuda(kernels) => kernels.state(index),
        }
    }

    #[cold]
    fn nothing_to_pick<P, T>(&self, variants: &[Variant<P, T>]) -> Error {
        let refused = variants
            .iter()
            .find_map(|variant| match self.state(variant.kernel.index()) {
                Err(Some(error)) => Some(error.clone()),
                Ok(()) | Err(None) => None,
            });
        let limit = self.device.max_shared_memory();
        let least = variants.iter().min_by_key(|variant| variant.shared);
        let small = least.filter(|variant| variant.shared > limit);
        let small =
            small.map(|variant| too_much_shared_memory(self.name_of(variant.kernel.index()), variant.shared, limit));
        refused.or(small).unwrap_or_else(|| {
            let why = format!("no kernel for it is left: {LEVEL_VARIABLE} allows none");
            Error::unsupported("the operation", why)
        })
    }

    /// Refuses a stream of another device.
    fn check_stream(&self, stream: &Stream) -> Result<()> {
        if stream.device().memory_space() == self.device.memory_space() {
            Ok(())
        } else {
            Err(self.wrong_stream(stream))
        }
    }

    #[cold]
    fn wrong_stream(&self, stream: &Stream) -> Error {
        let expected = format!("a stream of the device of the kernels ({})", self.device.memory_space());
        Error::argument("stream", expected, stream.device().memory_space())
    }
}

/// The level that the environment names.
fn level(named: Option<&str>) -> Result<Machine> {
    match named {
        None | Some("" | "sm90a") => Ok(Machine::Sm90a),
        Some("base") => Ok(Machine::Base),
        Some(other) => Err(Error::argument(LEVEL_VARIABLE, "base or sm90a", other)),
    }
}

#[cold]
fn too_much_shared_memory(kernel: &str, shared: u32, limit: u32) -> Error {
    Error::unsupported(
        kernel,
        format!("it needs {shared} bytes of shared memory, the device has {limit} for a block"),
    )
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;
    use crate::sys::params::sala_choose_blocks_params;

    #[test]
    fn kernels_are_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Kernels>();
        shared::<Stream>();
        shared::<Device>();
        shared::<crate::Buffer>();
    }

    /// A variant for each machine, the best first; all are one kernel.
    fn variants() -> Vec<Variant<sala_choose_blocks_params, u32>> {
        let base = Variant::base("choose_blocks", None, &[], 256, 0, 0).unwrap();
        let variant = |machine, tile| Variant {
            machine,
            tile,
            ..base.clone()
        };
        vec![
            variant(Machine::Sm90a, 2),
            variant(Machine::Base, 1),
            variant(Machine::Base, 0),
        ]
    }

    #[test]
    fn the_best_variant_that_is_allowed_and_suits_is_picked() {
        let mut kernels = Kernels::load(&Device::host()).unwrap();
        let variants = variants();
        let picked = |kernels: &Kernels, most| kernels.pick(&variants, |&tile| tile <= most).map(|v| v.tile);
        assert_eq!([2, 1, 0].map(|most| picked(&kernels, most).unwrap()), [2, 1, 0]);
        kernels.level = Machine::Base;
        assert_eq!([2, 1, 0].map(|most| picked(&kernels, most).unwrap()), [1, 1, 0]);
        let error = kernels.pick(&variants[..1], |_| true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the operation is not supported: no kernel for it is left: SALA_KERNELS allows none"
        );
    }

    #[test]
    fn a_level_is_named_or_refused() {
        assert_eq!(level(None), Ok(Machine::Sm90a));
        assert_eq!(level(Some("base")), Ok(Machine::Base));
        assert_eq!(level(Some("sm90a")), Ok(Machine::Sm90a));
        let error = level(Some("fastest")).unwrap_err().to_string();
        assert_eq!(error, "SALA_KERNELS: expected base or sm90a, got fastest");
    }
}
