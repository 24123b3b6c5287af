//! The CUDA driver, loaded at run time: the only calls into it.
//!
//! No CUDA library is linked, so that a program with GPU kernels starts on a machine without a GPU and learns so from an
//! error. The table holds the few functions that the crate uses; all exist since CUDA 12.0 but for the optional ones.

use std::ffi::{CStr, OsString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::Library;

use crate::{Error, Result};

/// A `CUresult`; 0 is success.
pub(crate) type Status = c_uint;
/// A `CUdevice`.
pub(crate) type DeviceHandle = c_int;
/// A `CUdeviceptr`.
pub(crate) type Address = u64;

pub(crate) const SUCCESS: Status = 0;
pub(crate) const ERROR_INVALID_CONTEXT: Status = 201;
pub(crate) const ERROR_NO_BINARY_FOR_GPU: Status = 209;
pub(crate) const ERROR_INVALID_HANDLE: Status = 400;
pub(crate) const ERROR_CONTEXT_IS_DESTROYED: Status = 709;

/// `CU_STREAM_NON_BLOCKING`: no implicit order with the legacy default stream.
pub(crate) const STREAM_NON_BLOCKING: c_uint = 1;

/// `CUdevice_attribute`.
pub(crate) mod device_attribute {
    pub(crate) const MULTIPROCESSOR_COUNT: i32 = 16;
    pub(crate) const COMPUTE_CAPABILITY_MAJOR: i32 = 75;
    pub(crate) const COMPUTE_CAPABILITY_MINOR: i32 = 76;
    pub(crate) const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: i32 = 97;
}

/// `CUfunction_attribute`.
pub(crate) mod function_attribute {
    pub(crate) const SHARED_SIZE_BYTES: i32 = 1;
    pub(crate) const MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
}

/// Of `cuTensorMapEncodeTiled`. Values of `CUtensorMapSwizzle` are those of `SALA_SWIZZLE_…`.
pub(crate) mod tensor_map {
    use std::ffi::c_uint;

    /// `CU_TENSOR_MAP_DATA_TYPE_UINT16`: as zeros fill what lies outside, only the size of elements matters.
    pub(crate) const ELEMENT_OF_16_BITS: c_uint = 1;
    pub(crate) const NO_INTERLEAVE: c_uint = 0;
    /// `CU_TENSOR_MAP_L2_PROMOTION_L2_256B`: rows are read whole, a box for each of their panels.
    pub(crate) const PROMOTION_256: c_uint = 3;
    pub(crate) const FILL_ZEROS: c_uint = 0;
}

/// Opaque handles of the driver.
macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) *mut c_void);

        impl $name {
            pub(crate) const NULL: Self = Self(std::ptr::null_mut());
        }

        // SAFETY: a name for an object of the driver, which may be used from any thread; it is never dereferenced here.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}
    )*};
}

handles! {
    /// A `CUcontext`.
    ContextHandle;
    /// A `CUmodule`.
    ModuleHandle;
    /// A `CUfunction`.
    FunctionHandle;
    /// A `CUstream`.
    StreamHandle;
}

/// Makes the table, its loader, and a method for every function that turns a failure into an error: all but the unchecked ones, which
/// have none.
macro_rules! functions {
    (
        required {
            $($name:ident = $symbol:literal ($($argument:ident: $type:ty),* $(,)?);)*
        }
        unchecked {
            $($plain:ident = $plain_symbol:literal ($($plain_argument:ident: $plain_type:ty),* $(,)?);)*
        }
        optional {
            $($maybe:ident = $maybe_symbol:literal ($($maybe_argument:ident: $maybe_type:ty),* $(,)?);)*
        }
    ) => {
        struct Table {
            $($name: unsafe extern "C" fn($($type),*) -> Status,)*
            $($plain: unsafe extern "C" fn($($plain_type),*) -> Status,)*
            $($maybe: Option<unsafe extern "C" fn($($maybe_type),*) -> Status>,)*
        }

        impl Table {
            /// # Safety
            /// The library must be a CUDA driver: its functions must have the types given here.
            unsafe fn load(library: &Library, path: &str) -> Result<Self> {
                Ok(Self {
                    // SAFETY: the caller's promise.
                    $($name: unsafe { required(library, path, $symbol, concat!($symbol, "\0"))? },)*
                    // SAFETY: as above.
                    $($plain: unsafe { required(library, path, $plain_symbol, concat!($plain_symbol, "\0"))? },)*
                    // SAFETY: as above.
                    $($maybe: unsafe { symbol(library, concat!($maybe_symbol, "\0")) },)*
                })
            }
        }

        #[allow(clippy::too_many_arguments, reason = "the driver's own signatures")]
        impl Driver {
            $(
                #[doc = concat!("`", $symbol, "`.")]
                ///
                /// # Safety
                /// The driver's documentation says what the arguments must be.
                pub(crate) unsafe fn $name(&self, $($argument: $type),*) -> Result<()> {
                    // SAFETY: the caller's promise.
                    self.check($symbol, unsafe { (self.table.$name)($($argument),*) })
                }
            )*
            $(
                #[doc = concat!("`", $maybe_symbol, "`, where the driver has it.")]
                ///
                /// # Safety
                /// The driver's documentation says what the arguments must be.
                pub(crate) unsafe fn $maybe(&self, $($maybe_argument: $maybe_type),*) -> Result<()> {
                    match self.table.$maybe {
                        // SAFETY: the caller's promise.
                        Some(function) => self.check($maybe_symbol, unsafe { function($($maybe_argument),*) }),
                        None => Ok(()),
                    }
                }
            )*
        }
    };
}

functions! {
    required {
        init = "cuInit"(flags: c_uint);
        device_count = "cuDeviceGetCount"(count: *mut c_int);
        device_get = "cuDeviceGet"(device: *mut DeviceHandle, ordinal: c_int);
        device_name = "cuDeviceGetName"(name: *mut c_char, length: c_int, device: DeviceHandle);
        device_attribute = "cuDeviceGetAttribute"(value: *mut c_int, attribute: c_int, device: DeviceHandle);
        primary_context_retain = "cuDevicePrimaryCtxRetain"(context: *mut ContextHandle, device: DeviceHandle);
        primary_context_release = "cuDevicePrimaryCtxRelease_v2"(device: DeviceHandle);
        context_push = "cuCtxPushCurrent_v2"(context: ContextHandle);
        context_pop = "cuCtxPopCurrent_v2"(context: *mut ContextHandle);
        context_set_current = "cuCtxSetCurrent"(context: ContextHandle);
        context_synchronize = "cuCtxSynchronize"();
        context_device = "cuCtxGetDevice"(device: *mut DeviceHandle);
        stream_create = "cuStreamCreate"(stream: *mut StreamHandle, flags: c_uint);
        stream_destroy = "cuStreamDestroy_v2"(stream: StreamHandle);
        stream_synchronize = "cuStreamSynchronize"(stream: StreamHandle);
        stream_context = "cuStreamGetCtx"(stream: StreamHandle, context: *mut ContextHandle);
        module_load = "cuModuleLoadData"(module: *mut ModuleHandle, image: *const c_void);
        module_unload = "cuModuleUnload"(module: ModuleHandle);
        module_function = "cuModuleGetFunction"(function: *mut FunctionHandle, module: ModuleHandle, name: *const c_char);
        function_attribute = "cuFuncGetAttribute"(value: *mut c_int, attribute: c_int, function: FunctionHandle);
        function_set_attribute = "cuFuncSetAttribute"(function: FunctionHandle, attribute: c_int, value: c_int);
        launch = "cuLaunchKernel"(
            function: FunctionHandle,
            grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
            block_x: c_uint, block_y: c_uint, block_z: c_uint,
            shared: c_uint,
            stream: StreamHandle,
            params: *mut *mut c_void,
            extra: *mut *mut c_void,
        );
        tensor_map_encode = "cuTensorMapEncodeTiled"(
            map: *mut c_void,
            element: c_uint,
            axes: c_uint,
            address: *mut c_void,
            sizes: *const u64, strides: *const u64,
            boxes: *const c_uint, steps: *const c_uint,
            interleave: c_uint, swizzle: c_uint, promotion: c_uint, fill: c_uint,
        );
        memory_allocate = "cuMemAlloc_v2"(address: *mut Address, bytes: usize);
        memory_free = "cuMemFree_v2"(address: Address);
        memory_write = "cuMemcpyHtoD_v2"(to: Address, from: *const c_void, bytes: usize);
        memory_read = "cuMemcpyDtoH_v2"(to: *mut c_void, from: Address, bytes: usize);
        memory_fill = "cuMemsetD8_v2"(to: Address, byte: u8, bytes: usize);
    }
    unchecked {
        error_name = "cuGetErrorName"(code: Status, name: *mut *const c_char);
    }
    optional {
        function_load = "cuFuncLoad"(function: FunctionHandle);
    }
}

/// The loaded driver. Lives until the process ends.
pub(crate) struct Driver {
    table: Table,
    /// Keeps the table's functions in memory.
    _library: Library,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Driver")
    }
}

impl Driver {
    /// The process's driver, loaded at the first call. A failure is final.
    pub(crate) fn get() -> Result<&'static Self> {
        static DRIVER: OnceLock<Result<Driver>> = OnceLock::new();
        DRIVER.get_or_init(Self::load).as_ref().map_err(Error::clone)
    }

    /// Loads the library that `SALA_CUDA_DRIVER` names, or the system's.
    fn load() -> Result<Self> {
        let candidates = match std::env::var_os("SALA_CUDA_DRIVER") {
            Some(path) => vec![path],
            None => vec![OsString::from("libcuda.so.1"), OsString::from("libcuda.so")],
        };
        let mut reason = String::new();
        for candidate in &candidates {
            // SAFETY: loading runs the library's initialisers; NVIDIA's are made for it, and whoever sets the variable answers for
            // another library's.
            match unsafe { Library::new(candidate) } {
                Ok(library) => return Self::from_library(library, &candidate.to_string_lossy()),
                Err(error) => reason = error.to_string(),
            }
        }
        let tried: Vec<_> = candidates.iter().map(|candidate| candidate.to_string_lossy()).collect();
        Err(Error::NoDriver {
            tried: tried.join(", "),
            reason,
        })
    }

    fn from_library(library: Library, path: &str) -> Result<Self> {
        // SAFETY: the library is the CUDA driver, or what the user put in its place.
        let table = unsafe { Table::load(&library, path)? };
        Ok(Self {
            table,
            _library: library,
        })
    }

    /// Turns a failure into an [`Error::Driver`].
    fn check(&self, call: &'static str, code: Status) -> Result<()> {
        if code == SUCCESS {
            Ok(())
        } else {
            Err(self.error(call, code))
        }
    }

    /// The [`Error::Driver`] of a failed call.
    #[cold]
    pub(crate) fn error(&self, call: &'static str, code: Status) -> Error {
        let mut name = std::ptr::null();
        // SAFETY: `name` is a place for a pointer.
        let found = unsafe { (self.table.error_name)(code, &mut name) };
        let name = if found == SUCCESS && !name.is_null() {
            // SAFETY: the driver set `name` to a constant string.
            unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
        } else {
            "unknown error".to_owned()
        };
        Error::Driver { call, code, name }
    }
}

/// A function of the library; none if it has no such symbol.
///
/// # Safety
/// `F` must be the type of the function that `name`, which ends in NUL, stands for.
unsafe fn symbol<F: Copy>(library: &Library, name: &str) -> Option<F> {
    // SAFETY: the caller's promise.
    unsafe { library.get::<F>(name.as_bytes()) }.ok().map(|symbol| *symbol)
}

/// [`symbol`], or [`Error::MissingSymbol`].
///
/// # Safety
/// As for [`symbol`]; `terminated` is `name` and NUL.
unsafe fn required<F: Copy>(library: &Library, path: &str, name: &'static str, terminated: &str) -> Result<F> {
    // SAFETY: the caller's promise.
    let found = unsafe { symbol(library, terminated) };
    found.ok_or_else(|| Error::MissingSymbol {
        symbol: name,
        library: path.to_owned(),
    })
}
