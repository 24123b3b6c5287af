//! For tests: the driver of this crate as a loaded library, and what it can be asked.
//!
//! The program under test loads the driver by itself (`SALA_CUDA_DRIVER`, or as `libcuda.so`). A test that opens the same file here reaches
//! the same state: it can pretend other devices, make calls fail, count calls, and read what went wrong. All of it is the process's, so tests
//! that change it take turns.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use libloading::Library;

/// Receives the launches of hollow modules: kernel, grid, threads of a block, dynamic shared memory, the first parameter. What it returns is
/// the status of the launch.
pub type LaunchHook = unsafe extern "C" fn(*const c_char, *const u32, u32, u32, *const c_void) -> c_int;

macro_rules! functions {
    ($($field:ident = $symbol:literal ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        #[derive(Debug)]
        struct Functions {
            $($field: unsafe extern "C" fn($($type),*) -> $result,)*
        }

        impl Functions {
            fn find(library: &Library) -> Result<Self, libloading::Error> {
                // SAFETY: the types are those of `driver::control`.
                Ok(Self { $($field: *unsafe { library.get(concat!($symbol, "\0").as_bytes()) }?,)* })
            }
        }
    };
}

functions! {
    reset = "sala_ptx_reset"() -> ();
    set_devices = "sala_ptx_set_devices"(count: c_int, major: u32, minor: u32, multiprocessors: c_int, shared: c_int) -> ();
    set_option = "sala_ptx_set_option"(name: *const c_char, value: *const c_char) -> c_int;
    set_hollow = "sala_ptx_set_hollow"(hollow: c_int, static_shared: c_int) -> ();
    on_launch = "sala_ptx_on_launch"(hook: Option<LaunchHook>) -> ();
    fail = "sala_ptx_fail"(call: *const c_char, nth: u64, status: c_uint) -> ();
    fail_execution = "sala_ptx_fail_execution"(nth: u64, status: c_uint) -> ();
    called = "sala_ptx_called"(index: usize, calls: *mut u64, name: *mut u8, room: usize) -> usize;
    executed = "sala_ptx_executed"(index: usize, cost: *mut [u64; 2], name: *mut u8, room: usize) -> usize;
    launched = "sala_ptx_launched"(index: usize, numbers: *mut [u64; 8], name: *mut u8, room: usize) -> usize;
    report = "sala_ptx_report"(index: usize, text: *mut u8, room: usize) -> usize;
    live = "sala_ptx_live"(numbers: *mut [u64; 6]) -> ();
    dynamic_shared = "sala_ptx_dynamic_shared"(kernel: *const c_char) -> c_int;
    context = "sala_ptx_context"() -> *mut c_void;
    current = "sala_ptx_current"() -> *mut c_void;
    add_images = "sala_ptx_add_images"(folder: *const c_char) -> ();
}

/// The driver, loaded.
#[derive(Debug)]
pub struct Driver {
    functions: Functions,
    symbols: Library,
}

/// Devices that are pretended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Devices {
    /// How many.
    pub count: i32,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Multiprocessors; 0: as many as the largest GPU of the capability has.
    pub multiprocessors: i32,
    /// The most shared memory of a block; 0: what GPUs of the capability have.
    pub shared: i32,
}

impl Devices {
    /// Two devices of a compute capability.
    pub fn of_capability(major: u32, minor: u32) -> Self {
        Self {
            count: 2,
            capability: (major, minor),
            multiprocessors: 0,
            shared: 0,
        }
    }
}

/// A launch that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// The kernel.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// The stream's handle.
    pub stream: usize,
}

/// Objects that were made and not released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Live {
    pub contexts: u64,
    pub streams: u64,
    pub events: u64,
    pub modules: u64,
    pub graphs: u64,
    pub allocations: u64,
}

/// What executions of a kernel were, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Instructions of a warp.
    pub instructions: u64,
    /// Matrix products among them.
    pub products: u64,
}

/// Texts are fetched into so much room.
const ROOM: usize = 1 << 14;

impl Driver {
    /// Opens the library that a program has loaded, or will.
    pub fn open(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: the library's only initialisers are those of Rust's standard library.
        let library = unsafe { Library::new(path)? };
        Ok(Self {
            functions: Functions::find(&library)?,
            symbols: library,
        })
    }

    /// The loaded library, to look up the functions of the driver in.
    pub fn symbols(&self) -> &Library {
        &self.symbols
    }

    /// Forgets calls, faults, launches and reports; devices and options are as the environment says again.
    pub fn reset(&self) {
        // SAFETY: takes nothing.
        unsafe { (self.functions.reset)() }
    }

    /// Pretends devices.
    pub fn set_devices(&self, devices: Devices) {
        let (major, minor) = devices.capability;
        // SAFETY: takes numbers.
        unsafe { (self.functions.set_devices)(devices.count, major, minor, devices.multiprocessors, devices.shared) }
    }

    /// Sets an option of [`crate::options::Options`] by its name.
    ///
    /// # Panics
    /// If there is no such option or value.
    pub fn set_option(&self, name: &str, value: &str) {
        let (name, value) = (string(name), string(value));
        // SAFETY: strings that end in NUL.
        let failed = unsafe { (self.functions.set_option)(name.as_ptr(), value.as_ptr()) };
        assert_eq!(failed, 0, "{name:?} = {value:?}");
    }

    /// From now on modules need no code: any image is one, any function is in it and claims so much static shared memory, and launches go to
    /// the hook, if there is one.
    pub fn set_hollow(&self, static_shared: i32) {
        // SAFETY: takes numbers.
        unsafe { (self.functions.set_hollow)(1, static_shared) }
    }

    /// Who gets the launches of hollow modules.
    pub fn on_launch(&self, hook: LaunchHook) {
        // SAFETY: takes a function of the right type.
        unsafe { (self.functions.on_launch)(Some(hook)) }
    }

    /// Makes the `nth` call of a function fail, counted from 1 since the reset.
    pub fn fail(&self, call: &str, nth: u64, status: u32) {
        let call = string(call);
        // SAFETY: a string that ends in NUL.
        unsafe { (self.functions.fail)(call.as_ptr(), nth, status) }
    }

    /// Makes the `nth` execution of a kernel fail, counted from 1 since the reset. Who waits for it is told.
    pub fn fail_execution(&self, nth: u64, status: u32) {
        // SAFETY: takes numbers.
        unsafe { (self.functions.fail_execution)(nth, status) }
    }

    /// How often each function was called since the reset.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let call = |index| {
            let mut calls = 0;
            // SAFETY: places for a number and a text of so much room.
            let name = text(|to, room| unsafe { (self.functions.called)(index, &mut calls, to, room) })?;
            Some((name, calls))
        };
        (0..).map_while(call).collect()
    }

    /// What was executed since the reset, by kernel.
    pub fn executed(&self) -> BTreeMap<String, Executed> {
        let kernel = |index| {
            let mut cost = [0; 2];
            // SAFETY: places for two numbers and a text of so much room.
            let name = text(|to, room| unsafe { (self.functions.executed)(index, &mut cost, to, room) })?;
            let [instructions, products] = cost;
            Some((name, Executed { instructions, products }))
        };
        (0..).map_while(kernel).collect()
    }

    /// The launches since the reset.
    pub fn launches(&self) -> Vec<Launched> {
        let launch = |index| {
            let mut numbers = [0; 8];
            // SAFETY: places for eight numbers and a text of so much room.
            let kernel = text(|to, room| unsafe { (self.functions.launched)(index, &mut numbers, to, room) })?;
            let [x, y, z, columns, rows, layers, shared, stream] = numbers;
            Some(Launched {
                kernel,
                grid: [x, y, z].map(|blocks| blocks as u32),
                threads: [columns, rows, layers].map(|threads| threads as u32),
                shared: shared as u32,
                stream: stream as usize,
            })
        };
        (0..).map_while(launch).collect()
    }

    /// What went wrong since the reset.
    pub fn reports(&self) -> Vec<String> {
        // SAFETY: room for a text.
        let report = |index| text(|to, room| unsafe { (self.functions.report)(index, to, room) });
        (0..).map_while(report).collect()
    }

    /// Objects that were made and not released.
    pub fn live(&self) -> Live {
        let mut numbers = [0; 6];
        // SAFETY: a place for six numbers.
        unsafe { (self.functions.live)(&mut numbers) };
        let [contexts, streams, events, modules, graphs, allocations] = numbers;
        Live {
            contexts,
            streams,
            events,
            modules,
            graphs,
            allocations,
        }
    }

    /// The dynamic shared memory that launches of a kernel may ask for; none if nobody has looked it up.
    pub fn dynamic_shared(&self, kernel: &str) -> Option<u32> {
        let kernel = string(kernel);
        // SAFETY: a string that ends in NUL.
        u32::try_from(unsafe { (self.functions.dynamic_shared)(kernel.as_ptr()) }).ok()
    }

    /// A context that is nobody's primary one.
    pub fn other_context(&self) -> *mut c_void {
        // SAFETY: takes nothing.
        unsafe { (self.functions.context)() }
    }

    /// The context that is current on this thread.
    pub fn current(&self) -> *mut c_void {
        // SAFETY: takes nothing.
        unsafe { (self.functions.current)() }
    }

    /// Looks for images in another folder, too.
    ///
    /// # Panics
    /// If the path is not valid Unicode.
    pub fn add_images(&self, folder: &Path) {
        let folder = string(folder.to_str().expect("a path in Unicode"));
        // SAFETY: a string that ends in NUL.
        unsafe { (self.functions.add_images)(folder.as_ptr()) }
    }
}

fn string(text: &str) -> CString {
    CString::new(text).expect("no NUL in it")
}

/// Fetches a text; none if its size is 0.
fn text(fetch: impl FnOnce(*mut u8, usize) -> usize) -> Option<String> {
    let mut bytes = vec![0; ROOM];
    let size = fetch(bytes.as_mut_ptr(), ROOM);
    bytes.truncate(size);
    (size > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The driver that cargo has built for the running test.
pub fn built() -> Option<PathBuf> {
    let test = env::current_exe().ok()?;
    let folders = test.ancestors().skip(1).take(2);
    folders
        .map(|folder| folder.join("libsala_ptx.so"))
        .find(|path| path.is_file())
}

/// Puts the driver into a folder as `libcuda.so`, for programs that look for one in the loader's path.
pub fn install(driver: &Path, folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let partial = folder.join(format!("partial.{}", process::id()));
    let installed = folder.join("libcuda.so");
    // A link, so that whoever opens either file gets the same library.
    std::os::unix::fs::symlink(driver, &partial)?;
    fs::rename(partial, &installed)?;
    Ok(installed)
}

/// Puts a copy of the driver that lacks a function into a folder, as a driver too old for it would.
pub fn install_without(driver: &Path, folder: &Path, symbol: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let mut bytes = fs::read(driver)?;
    let name: Vec<u8> = [b"\0", symbol.as_bytes(), b"\0"].concat();
    let mut found = false;
    for at in 0..bytes.len().saturating_sub(name.len()) {
        if bytes[at..].starts_with(&name) {
            // The symbol of another name, which no table of hashes knows.
            bytes[at + 1] = b'_';
            found = true;
        }
    }
    if !found {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} has no {symbol}", driver.display()),
        ));
    }
    let partial = folder.join(format!("partial.{}", process::id()));
    let installed = folder.join("libcuda.so");
    fs::write(&partial, bytes)?;
    fs::rename(partial, &installed)?;
    Ok(installed)
}
