//! The CUDA half of the crate on the interpreter's driver: no GPU, but every call, every failure of a call, and launches that the executor
//! carries out from the very parameters that a GPU would get.
//!
//! Most tests share one process, in which the crate has loaded the driver. What concerns the loading itself runs in a process of its own.

mod driver;
mod empty;
mod launches;
#[cfg(feature = "cudarc")]
#[path = "cudarc.rs"]
mod over_cudarc;
mod threshold;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::process::Command;

use driver::{Driver, OUT_OF_MEMORY};
use sala_kernels::sys::executor::{
    sala_host_counters, sala_host_find, sala_host_launch, sala_host_options, sala_host_params_size,
};
use sala_kernels::{
    Buffer, DType, Decay, Device, Error, Image, Kernels, LinearAttention, LinearDecodeArgs, LinearShape, Result,
    Stream, lightning_log_decay,
};
use sala_ptx::client::{self, Devices};

/// Counts the allocations of each thread, to show that launches make none.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const ARCHS: &[&str] = &["sm_80", "sm_90", "sm_120", "compute_80"];
/// All that the driver wants of an image: the alignment and the first bytes of a fatbin.
static FATBIN: &Aligned = &Aligned([0x50, 0xed, 0x55, 0xba]);

#[repr(align(64))]
struct Aligned([u8; 4]);

impl Aligned {
    const fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

static IMAGES: &[Image] = &[
    Image {
        name: "linear_attention_scan",
        archs: ARCHS,
        bytes: FATBIN.as_slice(),
    },
    Image {
        name: "linear_attention_decode",
        archs: ARCHS,
        bytes: FATBIN.as_slice(),
    },
];

const HEADS: usize = 2;
const DIM: usize = 64;
const BATCH: usize = 3;

fn layer(decay: Decay) -> Result<LinearAttention> {
    let shape = LinearShape {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim_k: DIM,
        dim_v: DIM,
    };
    LinearAttention::builder(DType::Bf16, shape, decay).build()
}

/// One decode step on some device: everything that a launch needs.
struct Step {
    stream: Stream,
    kernels: Kernels,
    layer: LinearAttention,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    log_decay: Buffer,
    slots: Buffer,
    state: Buffer,
    out: Buffer,
}

impl Step {
    fn new(device: &Device) -> Result<Self> {
        let values = |seed: usize| -> Vec<half::bf16> {
            let value = |index: usize| ((index * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5;
            (0..BATCH * HEADS * DIM)
                .map(|index| half::bf16::from_f32(value(index)))
                .collect()
        };
        let state: Vec<f32> = (0..BATCH * HEADS * DIM * DIM)
            .map(|index| (index % 13) as f32 / 13.0)
            .collect();
        Ok(Self {
            stream: Stream::new(device)?,
            kernels: Kernels::load_images(device, IMAGES)?,
            layer: layer(Decay::PerHead)?,
            q: Buffer::from_slice(device, &values(0))?,
            k: Buffer::from_slice(device, &values(1))?,
            v: Buffer::from_slice(device, &values(2))?,
            log_decay: Buffer::from_slice(device, &lightning_log_decay(0, HEADS, HEADS)?)?,
            slots: Buffer::from_slice(device, &[2i32, 0, 1])?,
            state: Buffer::from_slice(device, &state)?,
            out: Buffer::new(device, BATCH * HEADS * DIM * 2)?,
        })
    }

    fn launch(&mut self) -> Result<()> {
        self.launch_on(None)
    }

    /// On another stream than the step's own.
    fn launch_on(&mut self, stream: Option<&Stream>) -> Result<()> {
        let (rows, states) = ([BATCH, HEADS, DIM], [BATCH, HEADS, DIM, DIM]);
        let args = LinearDecodeArgs::new(
            self.q.tensor(DType::Bf16, &rows)?,
            self.k.tensor(DType::Bf16, &rows)?,
            self.v.tensor(DType::Bf16, &rows)?,
            Some(self.log_decay.tensor(DType::F32, &[HEADS])?),
            self.state.tensor_mut(DType::F32, &states)?,
            self.slots.tensor(DType::I32, &[BATCH])?,
            self.out.tensor_mut(DType::Bf16, &rows)?,
        );
        let stream = stream.unwrap_or(&self.stream);
        // SAFETY: the driver runs a launch before it returns.
        unsafe { self.kernels.launch(stream, &self.layer, args) }
    }

    /// Outputs and states, after the launches have run.
    fn results(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        self.stream.synchronize()?;
        Ok((self.out.read()?, self.state.read()?))
    }
}

/// Runs a launch on the CPU, from the bytes that the driver was given.
unsafe extern "C" fn execute(
    name: *const c_char,
    grid: *const u32,
    threads: u32,
    shared: u32,
    params: *const c_void,
) -> c_int {
    let mut counters = sala_host_counters::default();
    let mut report = [0; 1024];
    // SAFETY: the driver passes on what it was called with.
    unsafe {
        let kernel = sala_host_find(name);
        assert!(!kernel.is_null(), "{:?}", CStr::from_ptr(name));
        let size = sala_host_params_size(kernel);
        let options = sala_host_options::default();
        sala_host_launch(
            kernel,
            grid,
            threads,
            shared,
            params,
            size,
            &options,
            &mut counters,
            report.as_mut_ptr(),
            report.len() as u64,
        )
    }
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_device_is_described() {
    let driver = Driver::get();
    let before = driver.live();
    driver.set_devices(Devices {
        count: 3,
        capability: (12, 0),
        multiprocessors: 36,
        shared: 65_536,
    });
    assert_eq!(Device::cuda_count(), Ok(3));
    let device = Device::cuda(2).unwrap();
    assert_eq!(
        (device.name(), device.compute_capability()),
        ("Interpreted sm_120 2", Some((12, 0)))
    );
    assert_eq!((device.multiprocessors(), device.max_shared_memory()), (36, 65_536));
    assert!(!device.is_host());
    drop(device);
    assert_eq!(driver.live(), before);
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let _driver = Driver::get();
    assert_eq!(
        message(Device::cuda(2)),
        "ordinal: expected one of 2 CUDA devices, counted from 0, got 2"
    );
    assert_eq!(
        message(Device::cuda(usize::MAX)),
        "ordinal: expected one of 2 CUDA devices, counted from 0, got 18446744073709551615"
    );
}

#[test]
fn a_borrowed_context_is_not_released() {
    let driver = Driver::get();
    // SAFETY: the driver's context lives for ever.
    let device = unsafe { Device::from_cuda_context(driver.other_context()) }.unwrap();
    assert_eq!(device.name(), "Interpreted sm_80 0");
    assert!(driver.current().is_null(), "the caller's context stays as it was");
    drop(device);
    assert!(!driver.calls().contains_key("cuDevicePrimaryCtxRelease_v2"));
    // SAFETY: null is refused.
    let null = unsafe { Device::from_cuda_context(std::ptr::null_mut()) };
    assert_eq!(message(null), "context: expected a CUcontext, got a null pointer");
}

#[test]
fn results_are_those_of_the_host() {
    let driver = Driver::get();
    driver.on_launch(execute);
    let mut on_host = Step::new(&Device::host()).unwrap();
    let mut on_driver = Step::new(&Device::cuda(0).unwrap()).unwrap();
    on_host.launch().unwrap();
    on_driver.launch().unwrap();
    assert_eq!(on_driver.results(), on_host.results());
    assert_ne!(on_host.results().unwrap().0, vec![0; BATCH * HEADS * DIM / 2]);
}

#[test]
fn threads_without_the_context_launch_too() {
    let driver = Driver::get();
    let mut step = Step::new(&Device::cuda(0).unwrap()).unwrap();
    std::thread::scope(|scope| {
        let launch = scope.spawn(|| {
            step.launch().unwrap();
            assert!(
                driver.calls()["cuLaunchKernel"] == 2,
                "one refused, one with the context pushed"
            );
            // With another device's context current.
            Device::cuda(1).unwrap().make_current().unwrap();
            step.launch().unwrap();
            step.kernels.device().make_current().unwrap();
            let before = driver.calls()["cuLaunchKernel"];
            step.launch().unwrap();
            assert_eq!(driver.calls()["cuLaunchKernel"] - before, 1);
        });
        launch.join().unwrap();
    });
}

#[test]
fn streams_of_other_contexts_are_refused() {
    let driver = Driver::get();
    let (device, other) = (Device::cuda(0).unwrap(), Device::cuda(1).unwrap());
    let mut step = Step::new(&device).unwrap();
    let foreign = Stream::new(&other).unwrap();
    let host = Stream::new(&Device::host()).unwrap();
    for stream in [&foreign, &host] {
        let error = message(step.launch_on(Some(stream)));
        assert!(
            error.starts_with("stream: expected a stream of the device of the kernels (CUDA context 0x"),
            "{error}"
        );
    }
    assert!(!driver.calls().contains_key("cuLaunchKernel"));
    // SAFETY: the stream is live.
    let error = message(unsafe { Stream::from_raw(&device, foreign.as_raw()) });
    assert!(
        error.starts_with("stream: expected a stream of CUDA context 0x"),
        "{error}"
    );
    // A second handle of the same device is the same device.
    let same = Stream::new(&Device::cuda(0).unwrap()).unwrap();
    step.launch_on(Some(&same)).unwrap();
}

#[test]
fn raw_streams_are_borrowed() {
    let driver = Driver::get();
    let device = Device::cuda(0).unwrap();
    let mut step = Step::new(&device).unwrap();
    let owner = Stream::new(&device).unwrap();
    // SAFETY: `owner` outlives it.
    let borrowed = unsafe { Stream::from_raw(&device, owner.as_raw()) }.unwrap();
    // SAFETY: the default stream always lives.
    let default = unsafe { Stream::from_raw(&device, std::ptr::null_mut()) }.unwrap();
    step.launch_on(Some(&borrowed)).unwrap();
    step.launch_on(Some(&default)).unwrap();
    let streams: Vec<usize> = driver.launches().iter().map(|launch| launch.stream).collect();
    assert_eq!(streams, [owner.as_raw() as usize, 0]);
    drop((borrowed, default));
    assert!(!driver.calls().contains_key("cuStreamDestroy_v2"));
}

/// A launch makes no call that a capture forbids to any thread, and is no launch before its graph is one.
#[test]
fn a_launch_can_be_captured() {
    let driver = Driver::get();
    driver.on_launch(execute);
    let mut step = Step::new(&Device::cuda(0).unwrap()).unwrap();
    let before = step.results().unwrap();
    step.kernels.device().make_current().unwrap();
    let stream = step.stream.as_raw();
    let mut graph = std::ptr::null_mut();
    // SAFETY: the types are those of CUDA's header; the stream lives, and `graph` is a place for a graph.
    unsafe {
        let begin = driver.symbols().get::<Begin>(b"cuStreamBeginCapture_v2\0").unwrap();
        let end = driver.symbols().get::<End>(b"cuStreamEndCapture\0").unwrap();
        assert_eq!(begin(stream, 0), 0);
        step.launch().unwrap();
        assert_eq!((end(stream, &mut graph), graph.is_null()), (0, false));
    }
    assert_eq!(driver.launches().len(), 1);
    assert_eq!(step.results().unwrap(), before);
}

type Pop = unsafe extern "C" fn(*mut *mut c_void) -> u32;
type Begin = unsafe extern "C" fn(*mut c_void, c_int) -> u32;
type End = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> u32;

#[test]
fn views_of_other_devices_are_refused() {
    let driver = Driver::get();
    let mut step = Step::new(&Device::cuda(0).unwrap()).unwrap();
    step.k = Buffer::new(&Device::host(), step.k.bytes()).unwrap();
    let error = message(step.launch());
    assert!(
        error.starts_with("k: expected CUDA context 0x") && error.ends_with("got host memory"),
        "{error}"
    );
    assert!(!driver.calls().contains_key("cuLaunchKernel"));
}

#[test]
fn functions_may_ask_for_all_shared_memory() {
    let driver = Driver::get();
    driver.pretend(9, 0);
    driver.set_hollow(1024);
    let _kernels = Kernels::load_images(&Device::cuda(0).unwrap(), IMAGES).unwrap();
    let dynamic = driver.dynamic_shared("linear_attention_decode_bf16_64");
    assert_eq!(dynamic, Some(232_448 - 1024));
}

#[test]
fn kernels_wait_for_their_launches_when_dropped() {
    let driver = Driver::get();
    let kernels = Kernels::load_images(&Device::cuda(0).unwrap(), IMAGES).unwrap();
    assert!(!driver.calls().contains_key("cuCtxSynchronize"));
    drop(kernels);
    let calls = driver.calls();
    assert_eq!(
        (calls["cuCtxSynchronize"], calls["cuModuleUnload"]),
        (1, IMAGES.len() as u64)
    );
}

#[test]
fn a_device_finds_its_image() {
    let driver = Driver::get();
    static HOPPER: &[Image] = &[Image {
        name: "linear_attention_scan",
        archs: &["sm_90a"],
        bytes: FATBIN.as_slice(),
    }];
    let load = |major, minor, images| {
        driver.pretend(major, minor);
        Kernels::load_images(&Device::cuda(0).unwrap(), images)
    };
    for (major, minor) in [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0), (12, 1)] {
        assert!(load(major, minor, IMAGES).is_ok(), "sm_{major}{minor}");
    }
    assert_eq!(
        message(load(7, 5, IMAGES)),
        "linear_attention_scan: no image for sm_75; this build embeds sm_80, sm_90, sm_120, compute_80"
    );
    assert!(load(9, 0, HOPPER).is_ok());
    assert_eq!(
        message(load(12, 0, HOPPER)),
        "linear_attention_scan: no image for sm_120; this build embeds sm_90a"
    );
    assert!(matches!(load(8, 0, &[]), Err(Error::NoKernels)));
}

#[test]
fn the_images_of_the_build_are_loaded() {
    let driver = Driver::get();
    match Kernels::load(&Device::cuda(0).unwrap()) {
        // The driver refuses what is not an aligned fatbin.
        Ok(_) => assert!(driver.calls()["cuModuleLoadData"] > 0),
        Err(Error::NoKernels | Error::NoImage { .. }) => assert!(!driver.calls().contains_key("cuModuleLoadData")),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_images_of_the_build_are_named() {
    let driver = Driver::get();
    // A GPU that nothing serves: the error says what there is.
    driver.pretend(7, 5);
    let architectures = Kernels::embedded_architectures();
    let mut in_order = architectures.clone();
    in_order.sort_unstable();
    in_order.dedup();
    assert_eq!(architectures, in_order);
    match Kernels::load(&Device::cuda(0).unwrap()) {
        Err(Error::NoKernels) => assert!(architectures.is_empty(), "{architectures:?}"),
        Err(error @ Error::NoImage { .. }) => {
            let error = error.to_string();
            let (_, named) = error.split_once("this build embeds ").unwrap();
            // Of one kernel; others may have more.
            assert!(named.split(", ").all(|arch| architectures.contains(&arch)), "{error}");
        }
        other => panic!("{}", message(other)),
    }
}

#[test]
fn a_kernel_without_an_image_says_so_at_its_launch() {
    let driver = Driver::get();
    static SCAN: &[Image] = &[Image {
        name: "linear_attention_scan",
        archs: ARCHS,
        bytes: FATBIN.as_slice(),
    }];
    let device = Device::cuda(0).unwrap();
    let mut step = Step::new(&device).unwrap();
    step.kernels = Kernels::load_images(&device, SCAN).unwrap();
    assert_eq!(
        message(step.launch()),
        "linear_attention_decode: no image for sm_80; this build embeds nothing for it"
    );
    assert!(!driver.calls().contains_key("cuLaunchKernel"));
}

#[test]
fn an_image_that_the_driver_refuses_is_no_image() {
    let driver = Driver::get();
    driver.fail("cuModuleLoadData", 1, 209);
    let error = message(Kernels::load_images(&Device::cuda(0).unwrap(), IMAGES));
    assert!(
        error.starts_with("linear_attention_scan: no image for sm_80; "),
        "{error}"
    );
}

#[test]
fn a_failed_launch_reports_the_driver() {
    let driver = Driver::get();
    let mut step = Step::new(&Device::cuda(0).unwrap()).unwrap();
    driver.fail("cuLaunchKernel", 1, OUT_OF_MEMORY);
    assert_eq!(
        message(step.launch()),
        "cuLaunchKernel failed: CUDA_ERROR_OUT_OF_MEMORY (2)"
    );
    driver.fail("cuLaunchKernel", 2, 12345);
    assert_eq!(message(step.launch()), "cuLaunchKernel failed: unknown error (12345)");
    step.launch().unwrap();
}

#[test]
fn counters_stay_zero_on_a_device() {
    let driver = Driver::get();
    driver.on_launch(execute);
    let mut step = Step::new(&Device::cuda(0).unwrap()).unwrap();
    step.launch().unwrap();
    assert_eq!(step.stream.take_counters(), sala_kernels::Counters::default());
}

/// From nothing to a result and back, on a thread of its own, so that a failed pop leaves no context behind; and whether what was pushed on the
/// thread's stack of contexts was popped.
fn whole_life(driver: &Driver) -> (Result<()>, bool) {
    let life = || {
        let device = Device::cuda(0)?;
        let mut step = Step::new(&device)?;
        step.out.fill(7)?;
        // SAFETY: the step's stream outlives it.
        let borrowed = unsafe { Stream::from_raw(&device, step.stream.as_raw())? };
        step.launch_on(Some(&borrowed))?;
        step.results().map(drop)
    };
    let is_balanced = || {
        let mut context = std::ptr::null_mut();
        // SAFETY: the types are those of CUDA's header, and `context` is a place for a context.
        unsafe { driver.symbols().get::<Pop>(b"cuCtxPopCurrent_v2").unwrap()(&mut context) };
        // The one context was that of the device, which making it has made current.
        driver.current().is_null()
    };
    std::thread::scope(|scope| scope.spawn(|| (life(), is_balanced())).join().unwrap())
}

/// Calls that only dropping makes: their failure concerns nobody.
const RELEASES: [&str; 5] = [
    "cuDevicePrimaryCtxRelease_v2",
    "cuModuleUnload",
    "cuStreamDestroy_v2",
    "cuMemFree_v2",
    "cuCtxSynchronize",
];

#[test]
fn every_failing_call_surfaces_and_leaks_nothing() {
    let driver = Driver::get();
    // The context lives on, or its release would take with it what leaks.
    let _held = Device::cuda(0).unwrap();
    let fail = |call: &str, nth| {
        driver.reset();
        driver.fail(call, nth, OUT_OF_MEMORY);
        (driver.live(), whole_life(&driver))
    };
    let (before, (lived, balanced)) = fail("no call", 1);
    lived.unwrap();
    assert!(balanced);
    assert_eq!(driver.live(), before);
    for (call, times) in driver.calls() {
        for nth in 1..=times {
            let (before, (lived, balanced)) = fail(&call, nth);
            assert!(
                balanced || call == "cuCtxPopCurrent_v2",
                "{call} {nth} leaves a context"
            );
            match lived {
                Err(Error::Driver {
                    call: reported,
                    code: OUT_OF_MEMORY,
                    name,
                }) => {
                    assert_eq!((reported, name.as_str()), (call.as_str(), "CUDA_ERROR_OUT_OF_MEMORY"));
                    assert_eq!(driver.live(), before, "{call} {nth} leaks");
                }
                // Dropping pushes and pops contexts, too.
                Ok(()) => assert!(
                    RELEASES.contains(&call.as_str()) || call.starts_with("cuCtxP"),
                    "{call} {nth} is ignored"
                ),
                Err(error) => panic!("{call} {nth}: {error:?}"),
            }
            let before = driver.live();
            let next = (whole_life(&driver), driver.live());
            assert_eq!(next, ((Ok(()), true), before), "after {call} {nth}");
        }
    }
}

/// Runs an ignored test of this file in a process of its own and returns what it wrote.
fn in_own_process(test: &str, driver: &std::path::Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env("SALA_CUDA_DRIVER", driver)
        .env("LD_LIBRARY_PATH", driver.parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 passed"), "{test} was not run: {said}");
    said
}

#[test]
#[ignore = "run by other tests with a driver of their choice"]
fn say_why_there_is_no_device() {
    println!("{}", message(Device::cuda(0)));
    assert_eq!(Device::cuda_count().unwrap_err(), Device::cuda(0).unwrap_err());
}

#[test]
fn a_machine_without_the_driver_gets_an_error() {
    let said = in_own_process("say_why_there_is_no_device", "/nonexistent/libcuda.so".as_ref());
    assert!(said.contains("no CUDA driver: "), "{said}");
    assert!(said.contains("(tried /nonexistent/libcuda.so)"), "{said}");
}

#[test]
fn a_driver_without_a_function_gets_an_error() {
    let folder = driver::folder("driver_without_launch");
    let library = client::install_without(&driver::library(), &folder, "cuLaunchKernel").unwrap();
    let said = in_own_process("say_why_there_is_no_device", &library);
    let expected = format!("the CUDA driver {} has no function cuLaunchKernel", library.display());
    assert!(said.contains(&expected), "{said}");
}
