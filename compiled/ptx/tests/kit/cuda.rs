//! The driver's functions, as a program finds them.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sala_ptx::client::{self, Driver};

pub const INVALID_VALUE: u32 = 1;
pub const OUT_OF_MEMORY: u32 = 2;
pub const INVALID_CONTEXT: u32 = 201;
pub const INVALID_HANDLE: u32 = 400;
pub const NOT_FOUND: u32 = 500;
pub const NOT_READY: u32 = 600;
pub const ILLEGAL_ADDRESS: u32 = 700;
pub const CONTEXT_IS_DESTROYED: u32 = 709;
pub const LAUNCH_FAILED: u32 = 719;
pub const CAPTURE_UNSUPPORTED: u32 = 900;
pub const CAPTURE_INVALIDATED: u32 = 901;
pub const CAPTURE_UNJOINED: u32 = 904;
pub const CAPTURE_ISOLATION: u32 = 905;
pub const CAPTURE_IMPLICIT: u32 = 906;
pub const CAPTURED_EVENT: u32 = 907;

/// `CU_STREAM_NON_BLOCKING`
pub const NON_BLOCKING: c_uint = 1;

pub type Handle = usize;
pub type Result<T = ()> = std::result::Result<T, u32>;

/// The loaded driver, reset, with a primary context made current on this thread; one test at a time.
pub struct Cuda {
    pub driver: &'static Driver,
    pub context: Handle,
    _one_at_a_time: MutexGuard<'static, ()>,
}

macro_rules! calls {
    ($($method:ident = $symbol:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[allow(clippy::too_many_arguments, reason = "the driver's own signatures")]
        pub fn $method(&self, $($argument: $type),*) -> Result {
            type Function = unsafe extern "C" fn($($type),*) -> c_uint;
            let name = concat!(stringify!($symbol), "\0");
            // SAFETY: the types are those of CUDA's header.
            let function = unsafe { self.driver.symbols().get::<Function>(name.as_bytes()) }.unwrap();
            // SAFETY: tests give valid places and texts.
            match unsafe { function($($argument),*) } {
                0 => Ok(()),
                status => Err(status),
            }
        }
    )*};
}

/// The same for functions whose first argument is a place for the result.
macro_rules! results {
    ($($method:ident = $symbol:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        pub fn $method(&self, $($argument: $type),*) -> Result<$result> {
            type Function = unsafe extern "C" fn(*mut $result, $($type),*) -> c_uint;
            let name = concat!(stringify!($symbol), "\0");
            // SAFETY: the types are those of CUDA's header.
            let function = unsafe { self.driver.symbols().get::<Function>(name.as_bytes()) }.unwrap();
            let mut result = <$result>::default();
            // SAFETY: tests give valid texts.
            match unsafe { function(&mut result, $($argument),*) } {
                0 => Ok(result),
                status => Err(status),
            }
        }
    )*};
}

impl Cuda {
    pub fn get() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let driver = DRIVER.get_or_init(|| Driver::open(&client::built().expect("cargo builds the library")).unwrap());
        driver.reset();
        let mut cuda = Self {
            driver,
            context: 0,
            _one_at_a_time: guard,
        };
        cuda.context = cuda.retain(0).unwrap();
        cuda.set_current(cuda.context).unwrap();
        cuda
    }

    calls! {
        release = cuDevicePrimaryCtxRelease_v2(device: c_int);
        push = cuCtxPushCurrent_v2(context: Handle);
        set_current = cuCtxSetCurrent(context: Handle);
        synchronize = cuCtxSynchronize();
        destroy_stream = cuStreamDestroy_v2(stream: Handle);
        synchronize_stream = cuStreamSynchronize(stream: Handle);
        query_stream = cuStreamQuery(stream: Handle);
        record = cuEventRecord(event: Handle, stream: Handle);
        wait = cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint);
        query_event = cuEventQuery(event: Handle);
        synchronize_event = cuEventSynchronize(event: Handle);
        destroy_event = cuEventDestroy_v2(event: Handle);
        unload = cuModuleUnload(module: Handle);
        set_attribute = cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int);
        free = cuMemFree_v2(address: u64);
        write_raw = cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize);
        write_async = cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle);
        read_raw = cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize);
        fill = cuMemsetD8_v2(to: u64, byte: u8, bytes: usize);
        fill_async = cuMemsetD8Async(to: u64, byte: u8, bytes: usize, stream: Handle);
        begin_capture = cuStreamBeginCapture_v2(stream: Handle, mode: c_int);
        encode_map = cuTensorMapEncodeTiled(
            map: *mut c_void, element: c_uint, axes: c_uint, address: *mut c_void, sizes: *const u64, strides: *const u64,
            boxes: *const c_uint, steps: *const c_uint, interleave: c_uint, swizzle: c_uint, promotion: c_uint, fill: c_uint
        );
        launch_graph = cuGraphLaunch(graph: Handle, stream: Handle);
        destroy_graph = cuGraphDestroy(graph: Handle);
        destroy_executable = cuGraphExecDestroy(executable: Handle);
        launch_raw = cuLaunchKernel(
            function: Handle, x: c_uint, y: c_uint, z: c_uint, columns: c_uint, rows: c_uint, layers: c_uint, shared: c_uint,
            stream: Handle, parameters: *mut *mut c_void, extra: *mut *mut c_void
        );
    }

    results! {
        retain = cuDevicePrimaryCtxRetain(device: c_int) -> Handle;
        pop = cuCtxPopCurrent_v2() -> Handle;
        current = cuCtxGetCurrent() -> Handle;
        device_count = cuDeviceGetCount() -> c_int;
        new_stream = cuStreamCreate(flags: c_uint) -> Handle;
        new_event = cuEventCreate(flags: c_uint) -> Handle;
        allocate = cuMemAlloc_v2(bytes: usize) -> u64;
        load_raw = cuModuleLoadData(image: *const c_void) -> Handle;
        function_raw = cuModuleGetFunction(module: Handle, name: *const c_char) -> Handle;
        device_attribute = cuDeviceGetAttribute(attribute: c_int, device: c_int) -> c_int;
        attribute = cuFuncGetAttribute(attribute: c_int, function: Handle) -> c_int;
        instantiate = cuGraphInstantiateWithFlags(graph: Handle, flags: u64) -> Handle;
    }

    /// Loads PTX text.
    pub fn load(&self, ptx: &str) -> Result<Handle> {
        let text = CString::new(ptx).unwrap();
        self.load_raw(text.as_ptr().cast())
    }

    pub fn function(&self, module: Handle, name: &str) -> Result<Handle> {
        let name = CString::new(name).unwrap();
        self.function_raw(module, name.as_ptr())
    }

    /// The kernel of a body, as the kit's texts have it.
    pub fn kernel(&self, body: &str) -> Handle {
        let module = self.load(&super::kit::text(body)).unwrap();
        self.function(module, "k").unwrap()
    }

    /// Launches a block of 32 threads of a kernel of the kit.
    pub fn launch(&self, kernel: Handle, output: u64, number: u32, stream: Handle) -> Result {
        self.launch_of(kernel, [1, 1, 1], 32, 0, output, number, stream)
    }

    #[allow(clippy::too_many_arguments, reason = "what a launch has")]
    pub fn launch_of(
        &self,
        kernel: Handle,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        output: u64,
        number: u32,
        stream: Handle,
    ) -> Result {
        let (mut output, mut number) = (output, number);
        let mut parameters: [*mut c_void; 2] = [(&raw mut output).cast(), (&raw mut number).cast()];
        let [x, y, z] = grid;
        let parameters = parameters.as_mut_ptr();
        self.launch_raw(
            kernel,
            x,
            y,
            z,
            threads,
            1,
            1,
            shared,
            stream,
            parameters,
            std::ptr::null_mut(),
        )
    }

    /// A word of device memory, zero.
    pub fn word(&self) -> u64 {
        let address = self.allocate(4).unwrap();
        self.fill(address, 0, 4).unwrap();
        address
    }

    /// Reads a word, waiting for the default stream only.
    pub fn read(&self, address: u64) -> Result<u32> {
        let mut word = 0_u32;
        self.read_raw((&raw mut word).cast(), address, 4)?;
        Ok(word)
    }

    pub fn end_capture(&self, stream: Handle) -> Result<Handle> {
        type Function = unsafe extern "C" fn(Handle, *mut Handle) -> c_uint;
        // SAFETY: the type is that of CUDA's header.
        let function = unsafe { self.driver.symbols().get::<Function>(b"cuStreamEndCapture\0") }.unwrap();
        let mut graph = 0;
        // SAFETY: a place for the handle.
        match unsafe { function(stream, &mut graph) } {
            0 => Ok(graph),
            status => Err(status),
        }
    }

    /// The only report since the reset.
    pub fn report(&self) -> String {
        let reports = self.driver.reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports[0].clone()
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Leave nothing behind, whatever the test has done.
        let _ = self.set_current(self.context);
        let _ = self.synchronize();
        let _ = self.set_current(0);
        while self.release(0).is_ok() {}
        while self.release(1).is_ok() {}
    }
}
