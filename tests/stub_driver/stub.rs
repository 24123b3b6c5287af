//! The stub of the CUDA driver (`libcuda.c`): compiled when the tests run, and loaded by the crate in the place of the real one.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libloading::Library;

/// `CUDA_ERROR_OUT_OF_MEMORY`, for faults.
pub const OUT_OF_MEMORY: u32 = 2;

/// Names the stub that a test process is to load; otherwise it compiles one.
pub const CHOSEN_STUB: &str = "SALA_STUB_DRIVER";

/// Receives a launch: kernel, grid, threads, dynamic shared memory, parameters.
pub type LaunchHook = unsafe extern "C" fn(*const c_char, *const u32, u32, u32, *const c_void) -> c_int;

/// The stub, reset, for one test at a time: its state is the process's.
pub struct Stub {
    _one_at_a_time: MutexGuard<'static, ()>,
    functions: Functions,
}

/// Compiles the stub, with the given preprocessor definitions, into a folder of its own and returns the library.
pub fn compile(folder: &str, definitions: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    // Test processes may run side by side: compile aside and rename, so that nobody loads half a file.
    let partial = folder.join(format!("partial.{}", std::process::id()));
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub_driver/libcuda.c");
    let status = Command::new(compiler)
        .args(["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"])
        .args(definitions.iter().map(|name| format!("-D{name}")))
        .arg("-o")
        .args([&partial, &source])
        .status()
        .unwrap();
    assert!(status.success());
    let library = folder.join("libcuda.so");
    std::fs::rename(partial, &library).unwrap();
    library
}

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        /// What `libcuda.c` exports for the tests.
        struct Functions {
            $($name: unsafe extern "C" fn($($type),*) -> $result,)*
        }

        impl Functions {
            fn load(library: &'static Library) -> Self {
                // SAFETY: the types are those of `libcuda.c`.
                Self { $($name: *unsafe { library.get(stringify!($name).as_bytes()) }.unwrap(),)* }
            }

            $(fn $name(&self, $($argument: $type),*) -> $result {
                // SAFETY: strings end in NUL and pointers are to places, at every call below.
                unsafe { (self.$name)($($argument),*) }
            })*
        }
    };
}

functions! {
    stub_reset() -> ();
    stub_set_device(major: c_int, minor: c_int, multiprocessors: c_int, shared: c_int) -> ();
    stub_set_static_shared(bytes: c_int) -> ();
    stub_fail(call: *const c_char, nth: u64, code: c_int) -> ();
    stub_called(index: u32, calls: *mut u64) -> *const c_char;
    stub_on_launch(hook: LaunchHook) -> ();
    stub_live() -> i64;
    stub_dynamic_shared(kernel: *const c_char) -> c_int;
    stub_context() -> *mut c_void;
    stub_current() -> *mut c_void;
}

impl Stub {
    pub fn get() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let library = LIBRARY.get_or_init(|| {
            let path = std::env::var_os(CHOSEN_STUB).map_or_else(|| compile("stub_driver", &[]), PathBuf::from);
            // SAFETY: only code under this lock reads the environment while the tests run.
            unsafe { std::env::set_var("SALA_CUDA_DRIVER", &path) };
            // SAFETY: the stub has no initialisers.
            unsafe { Library::new(path) }.unwrap()
        });
        let stub = Self {
            _one_at_a_time: guard,
            functions: Functions::load(library),
        };
        stub.reset();
        stub
    }

    pub fn reset(&self) {
        self.functions.stub_reset();
    }

    /// Pretends to be another GPU.
    pub fn set_device(&self, major: i32, minor: i32, multiprocessors: i32, shared: i32) {
        self.functions.stub_set_device(major, minor, multiprocessors, shared);
    }

    /// Shared memory that every function claims to have declared.
    pub fn set_static_shared(&self, bytes: i32) {
        self.functions.stub_set_static_shared(bytes);
    }

    /// Makes the `nth` call of a function fail, counted from 1 since the reset.
    pub fn fail(&self, call: &str, nth: u64, code: u32) {
        let call = CString::new(call).unwrap();
        self.functions.stub_fail(call.as_ptr(), nth, code as c_int);
    }

    /// How often each function was called since the reset.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let call = |index| {
            let mut calls = 0;
            let name = self.functions.stub_called(index, &mut calls);
            // SAFETY: a string of the stub, which stays until the reset.
            (!name.is_null()).then(|| (unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned(), calls))
        };
        (0..).map_while(call).filter(|(_, calls)| *calls > 0).collect()
    }

    pub fn on_launch(&self, hook: LaunchHook) {
        self.functions.stub_on_launch(hook);
    }

    /// Objects of the driver that were made and not yet released.
    pub fn live(&self) -> i64 {
        self.functions.stub_live()
    }

    /// The dynamic shared memory that launches of a kernel may ask for.
    pub fn dynamic_shared(&self, kernel: &str) -> i32 {
        let kernel = CString::new(kernel).unwrap();
        self.functions.stub_dynamic_shared(kernel.as_ptr())
    }

    /// A context that is nobody's primary one.
    pub fn other_context(&self) -> *mut c_void {
        self.functions.stub_context()
    }

    /// The context that is current on this thread.
    pub fn current(&self) -> *mut c_void {
        self.functions.stub_current()
    }
}
