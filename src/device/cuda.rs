//! A CUDA context, and the embedded kernels loaded into it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Arc;

use super::driver::{self, ContextHandle, Driver, FunctionHandle, ModuleHandle, StreamHandle};
use super::image::{Capability, Image, no_image};
use super::{Launch, Owner};
use crate::shapes::{self, KernelFile};
use crate::sys::params::{SALA_MAP_AXES, sala_tensor_map, sala_tensor_shape};
use crate::{Error, Result};

/// Room for a device's name.
const NAME_BYTES: usize = 256;

/// A context of a device, and what the crate wants to know of the device.
#[derive(Debug)]
pub(crate) struct CudaContext {
    driver: &'static Driver,
    handle: ContextHandle,
    device: driver::DeviceHandle,
    /// Us: the context is the device's primary one, and was retained.
    owner: Owner,
    name: String,
    compute_capability: Capability,
    multiprocessors: u32,
    max_shared_memory: u32,
}

/// The number of devices.
pub(super) fn device_count() -> Result<usize> {
    let driver = initialised_driver()?;
    let mut count = 0;
    // SAFETY: `count` is a place for the number.
    unsafe { driver.device_count(&mut count)? };
    Ok(usize::try_from(count).unwrap_or(0))
}

fn initialised_driver() -> Result<&'static Driver> {
    let driver = Driver::get()?;
    // SAFETY: may be called at any time and any number of times.
    unsafe { driver.init(0)? };
    Ok(driver)
}

impl CudaContext {
    /// Retains the primary context of a device.
    pub(super) fn primary(ordinal: usize) -> Result<Self> {
        let driver = initialised_driver()?;
        let count = device_count()?;
        let in_range = c_int::try_from(ordinal).ok().filter(|_| ordinal < count);
        let Some(index) = in_range else {
            return Err(Error::argument(
                "ordinal",
                format_args!("one of {count} CUDA devices, counted from 0"),
                ordinal,
            ));
        };
        let mut device = 0;
        // SAFETY: `device` is a place for the handle.
        unsafe { driver.device_get(&mut device, index)? };
        let mut context = Self::describe(driver, device)?;
        // SAFETY: a place for the handle, and a device of the driver.
        unsafe { driver.primary_context_retain(&mut context.handle, device)? };
        context.owner = Owner::Us;
        Ok(context)
    }

    /// Describes a context that the caller has made.
    ///
    /// # Safety
    /// `context` must be a live `CUcontext`, and stay so until the result is dropped.
    pub(super) unsafe fn foreign(context: *mut c_void, owner: Owner) -> Result<Self> {
        if context.is_null() {
            return Err(Error::argument("context", "a CUcontext", "a null pointer"));
        }
        let driver = initialised_driver()?;
        let handle = ContextHandle(context);
        let mut device = 0;
        with_current(driver, handle, || {
            // SAFETY: a place for the handle; the context is current.
            unsafe { driver.context_device(&mut device) }
        })?;
        let mut context = Self::describe(driver, device)?;
        context.handle = handle;
        context.owner = owner;
        Ok(context)
    }

    /// All but the handle and its owner.
    fn describe(driver: &'static Driver, device: driver::DeviceHandle) -> Result<Self> {
        use driver::device_attribute as attribute;
        let query = |attribute| device_attribute(driver, device, attribute);
        Ok(Self {
            driver,
            handle: ContextHandle::NULL,
            device,
            owner: Owner::Caller,
            name: device_name(driver, device)?,
            compute_capability: (
                query(attribute::COMPUTE_CAPABILITY_MAJOR)?,
                query(attribute::COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: query(attribute::MULTIPROCESSOR_COUNT)?.max(1),
            max_shared_memory: query(attribute::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        })
    }

    pub(super) fn make_current(&self) -> Result<()> {
        // SAFETY: the context is live.
        unsafe { self.driver.context_set_current(self.handle) }
    }

    /// Does `work` with the context current on this thread, then puts back what was current before.
    pub(super) fn with_current<T>(&self, work: impl FnOnce(&'static Driver) -> Result<T>) -> Result<T> {
        with_current(self.driver, self.handle, || work(self.driver))
    }

    pub(super) fn driver(&self) -> &'static Driver {
        self.driver
    }

    pub(super) fn handle(&self) -> ContextHandle {
        self.handle
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A device's handle is its ordinal.
    #[cfg(feature = "c-api")]
    pub(super) fn ordinal(&self) -> c_int {
        self.device
    }

    pub(super) fn compute_capability(&self) -> Capability {
        self.compute_capability
    }

    pub(super) fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    pub(super) fn max_shared_memory(&self) -> u32 {
        self.max_shared_memory
    }
}

impl Drop for CudaContext {
    fn drop(&mut self) {
        if matches!(self.owner, Owner::Us) {
            // SAFETY: balances the retaining one; everything made from the context held a reference to `self`. A failure cannot be
            // reported from `drop`.
            let _ = unsafe { self.driver.primary_context_release(self.device) };
        }
    }
}

fn with_current<T>(driver: &Driver, context: ContextHandle, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: the context is live.
    unsafe { driver.context_push(context)? };
    let result = work();
    let mut popped = ContextHandle::NULL;
    // SAFETY: a place for the handle; pops what was pushed above.
    let restored = unsafe { driver.context_pop(&mut popped) };
    let value = result?;
    restored?;
    Ok(value)
}

fn device_attribute(driver: &Driver, device: driver::DeviceHandle, attribute: c_int) -> Result<u32> {
    let mut value = 0;
    // SAFETY: `value` is a place for the number.
    unsafe { driver.device_attribute(&mut value, attribute, device)? };
    Ok(u32::try_from(value).unwrap_or(0))
}

fn device_name(driver: &Driver, device: driver::DeviceHandle) -> Result<String> {
    let mut name = [0u8; NAME_BYTES];
    // SAFETY: room for `NAME_BYTES` characters.
    unsafe { driver.device_name(name.as_mut_ptr().cast::<c_char>(), NAME_BYTES as c_int, device)? };
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    Ok(name.to_string_lossy().into_owned())
}

/// The embedded kernels in a context.
#[derive(Debug)]
pub(crate) struct CudaKernels {
    /// The function of each instance, in the order of identifiers, or why this device has none.
    functions: Vec<Result<FunctionHandle>>,
    /// Hold the functions' code.
    _modules: Vec<Module>,
    context: Arc<CudaContext>,
}

impl CudaKernels {
    /// Loads the images that the device can run and prepares every function for launches: loaded in full, and allowed the
    /// most shared memory that the device has, so that no launch has to.
    pub(crate) fn load(context: &Arc<CudaContext>, images: &'static [Image]) -> Result<Self> {
        if images.is_empty() {
            return Err(Error::NoKernels);
        }
        let mut kernels = Self {
            functions: Vec::new(),
            _modules: Vec::new(),
            context: Arc::clone(context),
        };
        for file in shapes::compiled_files() {
            kernels.load_file(file, images)?;
        }
        // A device that can run nothing is an error now; for one that lacks a kernel, `Kernels::pick` finds another variant.
        match kernels.functions.first() {
            Some(Err(error)) if kernels.functions.iter().all(Result::is_err) => Err(error.clone()),
            _ => Ok(kernels),
        }
    }

    /// Appends the functions of one file.
    fn load_file(&mut self, file: &KernelFile, images: &'static [Image]) -> Result<()> {
        let (instances, stem) = (file.instances(), file.stem());
        let capability = self.context.compute_capability();
        let bytes = match images.iter().find(|image| image.name == stem) {
            Some(image) => image.for_device(capability),
            None => Err(no_image(&stem, capability, &[])),
        };
        match bytes {
            Ok(bytes) => {
                let module = Module::load(&self.context, &stem, bytes)?;
                for instance in &instances {
                    self.functions.push(Ok(module.function(&instance.name)?));
                }
                self._modules.push(module);
            }
            Err(error) => self.functions.extend(instances.iter().map(|_| Err(error.clone()))),
        }
        Ok(())
    }

    /// Whether the device runs a kernel, or why not.
    pub(crate) fn state(&self, index: usize) -> std::result::Result<(), Option<&Error>> {
        match self.functions.get(index) {
            Some(function) => function.as_ref().map(drop).map_err(Some),
            None => Err(None),
        }
    }

    /// The map of a tensor that a description fits.
    pub(crate) fn encode(&self, shape: &sala_tensor_shape) -> Result<sala_tensor_map> {
        use driver::tensor_map::{ELEMENT_OF_16_BITS, FILL_ZEROS, NO_INTERLEAVE, PROMOTION_256};
        let (mut map, steps) = (sala_tensor_map::default(), [1; SALA_MAP_AXES as usize]);
        let sizes = shape.sizes.map(u64::from);
        let mut encode = || {
            let address = shape.address as *mut c_void;
            // SAFETY: a place for a map, aligned as its type is, and arrays of as many numbers as there are axes; the driver only computes
            // with the address.
            unsafe {
                self.context.driver().tensor_map_encode(
                    std::ptr::from_mut(&mut map).cast(),
                    ELEMENT_OF_16_BITS,
                    shape.axes,
                    address,
                    sizes.as_ptr(),
                    shape.strides.as_ptr(),
                    shape.boxes.as_ptr(),
                    steps.as_ptr(),
                    NO_INTERLEAVE,
                    shape.swizzle,
                    PROMOTION_256,
                    FILL_ZEROS,
                )
            }
        };
        match encode() {
            Err(Error::Driver { code, .. }) if wants_context(code) => self.context.with_current(|_| encode())?,
            result => result?,
        }
        Ok(map)
    }

    /// Queues a grid: one driver call, unless the context is not current on this thread.
    ///
    /// # Safety
    /// The parameters must be the parameter struct of the launch's kernel, the memory that they name must be the kernel's to use until
    /// it has run, and `stream` must be a live stream of the context.
    pub(crate) unsafe fn launch(&self, stream: StreamHandle, launch: &Launch<'_>) -> Result<()> {
        let function = match self.functions.get(launch.index) {
            Some(function) => *function.as_ref().map_err(Error::clone)?,
            None => return Err(no_image(launch.name, self.context.compute_capability(), &[])),
        };
        let mut params = [launch.params.as_ptr().cast_mut().cast::<c_void>()];
        let ([x, y, z], threads) = (launch.grid, launch.threads);
        let mut queue = || {
            let (driver, params) = (self.context.driver(), params.as_mut_ptr());
            // SAFETY: the function takes one parameter, which the caller vouches for; the driver copies it before it returns.
            unsafe {
                driver.launch(
                    function,
                    x,
                    y,
                    z,
                    threads,
                    1,
                    1,
                    launch.shared,
                    stream,
                    params,
                    std::ptr::null_mut(),
                )
            }
        };
        match queue() {
            Err(Error::Driver { code, .. }) if wants_context(code) => self.context.with_current(|_| queue()),
            result => result,
        }
    }
}

impl Drop for CudaKernels {
    /// Waits for the launches: the driver does not say that unloading a module does.
    fn drop(&mut self) {
        // SAFETY: the context is current. A failure cannot be reported from `drop`.
        let _ = self
            .context
            .with_current(|driver| unsafe { driver.context_synchronize() });
    }
}

/// Whether a launch failed because no context, or that of another device, is current on the thread.
fn wants_context(code: driver::Status) -> bool {
    matches!(
        code,
        driver::ERROR_INVALID_CONTEXT | driver::ERROR_CONTEXT_IS_DESTROYED | driver::ERROR_INVALID_HANDLE
    )
}

/// A loaded image.
#[derive(Debug)]
struct Module {
    handle: ModuleHandle,
    context: Arc<CudaContext>,
}

impl Module {
    fn load(context: &Arc<CudaContext>, name: &str, image: &'static [u8]) -> Result<Self> {
        let load = |driver: &Driver| {
            let mut handle = ModuleHandle::NULL;
            // SAFETY: a place for the handle, and a fatbin, which says itself how long it is.
            unsafe { driver.module_load(&mut handle, image.as_ptr().cast())? };
            Ok(Self {
                handle,
                context: Arc::clone(context),
            })
        };
        context.with_current(load).map_err(|error| match error {
            Error::Driver {
                code: driver::ERROR_NO_BINARY_FOR_GPU,
                ..
            } => no_image(name, context.compute_capability(), &["nothing that the driver accepts"]),
            error => error,
        })
    }

    /// Looks up a function and prepares it.
    fn function(&self, name: &str) -> Result<FunctionHandle> {
        let symbol = CString::new(name).map_err(|_| Error::argument("kernel", "a name without NUL", name))?;
        self.context.with_current(|driver| {
            let mut function = FunctionHandle::NULL;
            // SAFETY: a place for the handle, a live module and a string that ends in NUL.
            unsafe { driver.module_function(&mut function, self.handle, symbol.as_ptr())? };
            // SAFETY: a live function. Without it a driver that loads lazily would allocate at the first launch.
            unsafe { driver.function_load(function)? };
            self.allow_shared_memory(driver, function)?;
            Ok(function)
        })
    }

    /// Lets launches ask for all the shared memory that the function's static variables leave.
    fn allow_shared_memory(&self, driver: &Driver, function: FunctionHandle) -> Result<()> {
        use driver::function_attribute as attribute;
        let mut fixed = 0;
        // SAFETY: a place for the number, and a live function.
        unsafe { driver.function_attribute(&mut fixed, attribute::SHARED_SIZE_BYTES, function)? };
        let dynamic = i64::from(self.context.max_shared_memory()) - i64::from(fixed);
        let dynamic = c_int::try_from(dynamic.max(0)).unwrap_or(c_int::MAX);
        // SAFETY: a live function.
        unsafe { driver.function_set_attribute(function, attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES, dynamic) }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: nothing launches the module's functions any more. A failure cannot be reported from `drop`.
        let _ = self
            .context
            .with_current(|driver| unsafe { driver.module_unload(self.handle) });
    }
}
