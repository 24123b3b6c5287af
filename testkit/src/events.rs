//! Events of a CUDA stream, between which the GPU itself takes the time. The crate has no need of them: they are looked up in its driver here.

use libloading::Library;
use sala_kernels::Stream;
use std::ffi::{c_int, c_uint, c_void};
use std::time::Duration;

/// Two events of the first GPU, for one measurement after the other.
pub struct Timer {
    functions: Functions,
    start: *mut c_void,
    end: *mut c_void,
    /// Keeps the functions in memory.
    _library: Library,
}

/// What the driver has for events; each returns 0 where all is well.
struct Functions {
    create: unsafe extern "C" fn(*mut *mut c_void, c_uint) -> c_uint,
    record: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_uint,
    synchronize: unsafe extern "C" fn(*mut c_void) -> c_uint,
    elapsed: unsafe extern "C" fn(*mut f32, *mut c_void, *mut c_void) -> c_uint,
    destroy: unsafe extern "C" fn(*mut c_void) -> c_uint,
    retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_uint,
    set_current: unsafe extern "C" fn(*mut c_void) -> c_uint,
}

impl Functions {
    /// # Safety
    /// The library is a CUDA driver.
    unsafe fn load(library: &Library) -> Result<Functions, libloading::Error> {
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the caller's promise; the types are those of the driver.
                *unsafe { library.get($name)? }
            };
        }
        Ok(Functions {
            create: symbol!(b"cuEventCreate\0"),
            record: symbol!(b"cuEventRecord\0"),
            synchronize: symbol!(b"cuEventSynchronize\0"),
            elapsed: symbol!(b"cuEventElapsedTime\0"),
            destroy: symbol!(b"cuEventDestroy_v2\0"),
            retain: symbol!(b"cuDevicePrimaryCtxRetain\0"),
            set_current: symbol!(b"cuCtxSetCurrent\0"),
        })
    }
}

impl Timer {
    /// A timer for streams of `Device::cuda(0)`, on this thread, whose current context it sets; `Err` says why there is none.
    pub fn new() -> Result<Timer, String> {
        let path = std::env::var_os("SALA_CUDA_DRIVER").unwrap_or_else(|| "libcuda.so.1".into());
        // SAFETY: the driver that the crate itself has loaded.
        let library = unsafe { Library::new(&path) }.map_err(|error| error.to_string())?;
        // SAFETY: as above.
        let functions = unsafe { Functions::load(&library) }.map_err(|error| error.to_string())?;
        let (mut context, mut start, mut end) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: places for a context and two events; the context is never given back, so that it lives as long as the process.
        unsafe {
            check("cuDevicePrimaryCtxRetain", (functions.retain)(&mut context, 0))?;
            check("cuCtxSetCurrent", (functions.set_current)(context))?;
            check("cuEventCreate", (functions.create)(&mut start, 0))?;
            check("cuEventCreate", (functions.create)(&mut end, 0))?;
        }
        Ok(Timer {
            functions,
            start,
            end,
            _library: library,
        })
    }

    /// How long the stream takes for what is queued on it meanwhile.
    pub fn time(&self, stream: &Stream, queue: impl FnOnce()) -> Result<Duration, String> {
        let (functions, raw) = (&self.functions, stream.as_raw());
        // SAFETY: a live event and a live stream of one context.
        check("cuEventRecord", unsafe { (functions.record)(self.start, raw) })?;
        queue();
        let mut milliseconds = 0f32;
        // SAFETY: as above, and a place for a number; the later event has happened when it is asked for.
        unsafe {
            check("cuEventRecord", (functions.record)(self.end, raw))?;
            check("cuEventSynchronize", (functions.synchronize)(self.end))?;
            check(
                "cuEventElapsedTime",
                (functions.elapsed)(&mut milliseconds, self.start, self.end),
            )?;
        }
        Ok(Duration::from_secs_f64(f64::from(milliseconds) / 1e3))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        for event in [self.start, self.end] {
            // SAFETY: made by `new`, and destroyed once.
            unsafe { (self.functions.destroy)(event) };
        }
    }
}

fn check(call: &str, code: c_uint) -> Result<(), String> {
    match code {
        0 => Ok(()),
        code => Err(format!("{call}: {code}")),
    }
}
