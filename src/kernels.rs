//! The kernels of this build, loaded on a device and ready to launch.

use std::sync::PoisonError;

use crate::device::{CudaKernels, HostKernels, IMAGES, Image, Kind, Launch, Target};
use crate::{Device, Error, Result, Stream, shapes};

/// All kernels, loaded on one device. Operations launch through it.
///
/// Loading is the slow part: it reads the images, looks up every function and lifts every limit on shared memory, so that a
/// launch makes no driver call but the launch itself. One value per context is enough; it can be shared by threads. Dropping it waits for
/// all work of the context, because the code of the kernels goes with it.
#[derive(Debug)]
pub struct Kernels {
    device: Device,
    /// The name of each instance, in the order of identifiers.
    names: Vec<String>,
    loaded: Loaded,
}

#[derive(Debug)]
enum Loaded {
    Host(HostKernels),
    Cuda(CudaKernels),
}

/// Which kernel instance: its place in [`shapes::instance_names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelId(u16);

impl KernelId {
    /// The instance of a kernel file with these axis values; refused if the table does not have it.
    pub(crate) fn find(file: &str, values: &[&str]) -> Result<Self> {
        let mut index = 0;
        for candidate in shapes::compiled_files() {
            for instance in candidate.instances() {
                if candidate.name == file && instance == values {
                    return Ok(Self(index));
                }
                index += 1;
            }
        }
        Err(Error::unsupported(
            format!("{file} for {}", values.join(", ")),
            "no kernel of that shape is compiled",
        ))
    }
}

impl Kernels {
    /// Loads the kernels on a device.
    ///
    /// # Errors
    /// On a CUDA device [`Error::NoKernels`] if the crate was built without nvcc, [`Error::NoImage`] if nothing that was built
    /// runs on the device, or the driver's error. On the host [`Error::Unsupported`] without feature `host`, and without
    /// feature `race` if the device is to detect races.
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
        let names: Vec<_> = shapes::instance_names().collect();
        let loaded = match &device.kind {
            Kind::Host(options) => Loaded::Host(HostKernels::load(options, &names)?),
            Kind::Cuda(context) => Loaded::Cuda(CudaKernels::load(context, images)?),
        };
        Ok(Self {
            device: device.clone(),
            names,
            loaded,
        })
    }

    /// The device that the kernels were loaded on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A stream for launches that have run when they return, as only those on the host have.
    pub(crate) fn host_stream(&self) -> Result<Stream> {
        if !self.device.is_host() {
            return Err(Error::argument(
                "kernels",
                "kernels loaded on a host device",
                self.device.name(),
            ));
        }
        Stream::new(&self.device)
    }

    /// Queues a grid of a kernel. An empty grid is nothing to do.
    ///
    /// Allocates nothing, synchronises nothing and makes one driver call.
    ///
    /// # Safety
    /// `P` must be the kernel's parameter struct, and all memory that `params` names must be the kernel's to use as it does
    /// until it has run, on the stream's order.
    pub(crate) unsafe fn launch<P: bytemuck::Pod>(
        &self,
        kernel: KernelId,
        stream: &Stream,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        params: &P,
    ) -> Result<()> {
        let index = usize::from(kernel.0);
        // SAFETY: the caller's promise.
        unsafe { self.launch_bytes(index, stream, grid, threads, shared, bytemuck::bytes_of(params)) }
    }

    /// [`Self::launch`] by name, for tests of kernels that no operation launches.
    ///
    /// # Safety
    /// As for the launches of operations: `params` must be the kernel's parameter struct, and all memory that it names must be
    /// the kernel's to use as it does until it has run.
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
        // SAFETY: the caller's promise.
        unsafe { self.launch_bytes(index, stream, grid, threads, shared, params) }
    }

    /// # Safety
    /// As for [`Self::launch`]: `params` are the bytes of the kernel's parameter struct.
    unsafe fn launch_bytes(
        &self,
        index: usize,
        stream: &Stream,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        params: &[u8],
    ) -> Result<()> {
        self.check_stream(stream)?;
        if grid.contains(&0) {
            return Ok(());
        }
        let name = self.names.get(index).map_or("", String::as_str);
        if shared > self.device.max_shared_memory() {
            return Err(too_much_shared_memory(name, shared, self.device.max_shared_memory()));
        }
        let launch = Launch {
            index,
            name,
            grid,
            threads,
            shared,
            params,
        };
        match (&self.loaded, stream.target()) {
            (Loaded::Host(kernels), Target::Host(counters)) => {
                // SAFETY: the caller's promise.
                let cost = unsafe { kernels.launch(&launch)? };
                *counters.lock().unwrap_or_else(PoisonError::into_inner) += cost;
                Ok(())
            }
            // SAFETY: the caller's promise; the stream belongs to the context, as checked above.
            (Loaded::Cuda(kernels), Target::Cuda(stream)) => unsafe { kernels.launch(stream, &launch) },
            _ => Err(self.wrong_stream(stream)),
        }
    }

    /// Refuses a stream of another device.
    fn check_stream(&self, stream: &Stream) -> Result<()> {
        if stream.device().place() == self.device.place() {
            Ok(())
        } else {
            Err(self.wrong_stream(stream))
        }
    }

    #[cold]
    fn wrong_stream(&self, stream: &Stream) -> Error {
        let expected = format!("a stream of the device of the kernels ({})", self.device.place());
        Error::argument("stream", expected, stream.device().place())
    }
}

#[cold]
fn too_much_shared_memory(kernel: &str, shared: u32, limit: u32) -> Error {
    Error::unsupported(
        kernel,
        format!("it needs {shared} bytes of shared memory, the device has {limit} for a block"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Kernels>();
        shared::<Stream>();
        shared::<Device>();
        shared::<crate::Buffer>();
    }

    #[test]
    fn identifiers_are_places_in_the_list_of_names() {
        for (index, name) in shapes::instance_names().enumerate() {
            let found = shapes::compiled_files().find_map(|file| {
                let values = file
                    .instances()
                    .into_iter()
                    .find(|values| file.instance_name(values) == name)?;
                Some(KernelId::find(file.name, &values).unwrap())
            });
            assert_eq!(found, Some(KernelId(index as u16)), "{name}");
        }
    }

    #[test]
    fn an_unknown_shape_is_refused() {
        let error = KernelId::find("linear_attention_scan", &["bf16", "64", "128"]).unwrap_err();
        let expected = "linear_attention_scan for bf16, 64, 128 is not supported: no kernel of that shape is compiled";
        assert_eq!(error.to_string(), expected);
    }
}
