//! What tests can ask of the driver.

#[path = "kit/cuda.rs"]
mod cuda;
mod kit;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::Mutex;

use cuda::*;
use sala_ptx::client::{self, Devices, Driver, Live};

const STORE: &str = "st.global.u32 [%rd1], 1;";

#[test]
fn calls_are_counted_and_fail_when_they_are_told_to() {
    let cuda = Cuda::get();
    cuda.driver.reset();
    cuda.driver.fail("cuMemAlloc_v2", 2, OUT_OF_MEMORY);
    assert!(cuda.allocate(4).is_ok());
    assert_eq!(cuda.allocate(4), Err(OUT_OF_MEMORY));
    assert!(cuda.allocate(4).is_ok());
    let calls = cuda.driver.calls();
    assert_eq!((calls.len(), calls["cuMemAlloc_v2"]), (1, 3));
    assert_eq!(cuda.driver.live().allocations, 2);
}

#[test]
fn executions_fail_when_they_are_told_to() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(STORE), cuda.word());
    cuda.driver.fail_execution(2, ILLEGAL_ADDRESS);
    for expected in [Ok(()), Err(ILLEGAL_ADDRESS), Ok(())] {
        cuda.launch(kernel, word, 0, 0).unwrap();
        assert_eq!(cuda.synchronize(), expected);
    }
}

#[test]
fn launches_are_remembered() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(STORE), cuda.word());
    let stream = cuda.new_stream(0).unwrap();
    cuda.launch_of(kernel, [2, 3, 1], 64, 16, word, 0, stream).unwrap();
    let launches = cuda.driver.launches();
    assert_eq!(launches.len(), 1);
    assert_eq!(
        (&*launches[0].kernel, launches[0].grid, launches[0].threads),
        ("k", [2, 3, 1], [64, 1, 1])
    );
    assert_eq!((launches[0].shared, launches[0].stream), (16, stream));
    assert!(cuda.driver.executed().is_empty(), "it has not run");
    cuda.synchronize().unwrap();
    let executed = cuda.driver.executed()["k"];
    assert_eq!((executed.instructions, executed.products), (6 * 2 * 6, 0));
}

#[test]
fn devices_pretend() {
    let cuda = Cuda::get();
    let attribute = |number| cuda.device_attribute(number, 0).unwrap();
    assert_eq!(
        (attribute(75), attribute(76), attribute(16), attribute(97)),
        (8, 0, 108, 166_912)
    );
    for (major, minor, shared) in [
        (8, 6, 101_376),
        (8, 9, 101_376),
        (9, 0, 232_448),
        (10, 0, 232_448),
        (12, 0, 101_376),
    ] {
        cuda.driver.set_devices(Devices::of_capability(major, minor));
        assert_eq!(
            (attribute(75), attribute(76), attribute(97)),
            (major as i32, minor as i32, shared)
        );
    }
    cuda.driver.set_devices(Devices {
        count: 1,
        capability: (8, 0),
        multiprocessors: 4,
        shared: 1000,
    });
    assert_eq!((cuda.device_count(), attribute(16), attribute(97)), (Ok(1), 4, 1000));
    assert_eq!(cuda.retain(1), Err(101));
}

#[test]
fn objects_are_counted() {
    let cuda = Cuda::get();
    let before = cuda.driver.live();
    let stream = cuda.new_stream(0).unwrap();
    let event = cuda.new_event(0).unwrap();
    let word = cuda.word();
    let module = cuda.load(&kit::text(STORE)).unwrap();
    let more = |one: u64| Live {
        streams: before.streams + one,
        events: before.events + one,
        modules: before.modules + one,
        allocations: before.allocations + one,
        ..before
    };
    assert_eq!(cuda.driver.live(), more(1));
    cuda.destroy_stream(stream).unwrap();
    cuda.destroy_event(event).unwrap();
    cuda.free(word).unwrap();
    cuda.unload(module).unwrap();
    assert_eq!(cuda.driver.live(), more(0));
}

#[test]
fn other_contexts_live_for_ever() {
    let cuda = Cuda::get();
    let other = cuda.driver.other_context() as usize;
    assert_ne!(other, cuda.context);
    cuda.push(other).unwrap();
    assert_eq!(cuda.driver.current() as usize, other);
    assert_eq!(cuda.pop(), Ok(other));
}

/// Kernel, grid, threads, shared memory, parameter.
type Hooked = (String, [u32; 3], u32, u32, u32);

static HOOKED: Mutex<Vec<Hooked>> = Mutex::new(Vec::new());

/// Remembers a launch; one with the parameter 13 fails.
unsafe extern "C" fn hook(
    name: *const c_char,
    grid: *const u32,
    threads: u32,
    shared: u32,
    parameter: *const c_void,
) -> c_int {
    // SAFETY: what the driver gives to hooks.
    let (name, grid, parameter) = unsafe {
        (
            CStr::from_ptr(name),
            grid.cast::<[u32; 3]>().read(),
            parameter.cast::<u32>().read(),
        )
    };
    HOOKED
        .lock()
        .unwrap()
        .push((name.to_str().unwrap().to_owned(), grid, threads, shared, parameter));
    if parameter == 13 { 719 } else { 0 }
}

#[repr(align(64))]
struct Fatbin([u8; 4]);

#[test]
fn hollow_modules_hand_their_launches_on() {
    let cuda = Cuda::get();
    cuda.driver.set_hollow(1024);
    let image = Fatbin([0x50, 0xed, 0x55, 0xba]);
    let module = cuda.load_raw(image.0.as_ptr().cast()).unwrap();
    assert_eq!(cuda.load_raw(Fatbin([0; 4]).0.as_ptr().cast()), Err(200));
    let function = cuda.function(module, "anything").unwrap();
    assert_eq!(cuda.attribute(1, function), Ok(1024));
    let launch = |parameter: u32| {
        let mut parameter = parameter;
        let mut parameters: [*mut c_void; 1] = [(&raw mut parameter).cast()];
        cuda.launch_raw(
            function,
            5,
            1,
            1,
            64,
            2,
            1,
            8,
            0,
            parameters.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    };
    launch(3).unwrap();
    assert!(
        HOOKED.lock().unwrap().is_empty(),
        "without a hook a launch does nothing"
    );
    cuda.driver.on_launch(hook);
    assert_eq!((launch(4), launch(13)), (Ok(()), Err(LAUNCH_FAILED)));
    assert_eq!(HOOKED.lock().unwrap()[0], ("anything".to_owned(), [5, 1, 1], 128, 8, 4));
}

#[test]
fn a_driver_may_lack_a_function() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without_launch");
    let library = client::install_without(&client::built().unwrap(), &folder, "cuLaunchKernel").unwrap();
    let driver = Driver::open(&library).unwrap();
    // SAFETY: the function is not called.
    let found = |name: &[u8]| unsafe { driver.symbols().get::<unsafe extern "C" fn()>(name) }.is_ok();
    assert!(!found(b"cuLaunchKernel\0"));
    assert!(found(b"cuInit\0") && found(b"cuLaunchKernelEx\0"));
    assert!(client::install_without(&client::built().unwrap(), &folder, "cuNothing").is_err());
}

#[test]
fn a_driver_is_installed_under_its_usual_name() {
    let cuda = Cuda::get();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
    let library = client::install(&client::built().unwrap(), &folder).unwrap();
    assert!(library.ends_with("installed/libcuda.so"));
    let same = Driver::open(&library).unwrap();
    let calls = |driver: &Driver| driver.calls().get("cuMemAlloc_v2").copied();
    let _word = cuda.word();
    assert_eq!(calls(&same), calls(cuda.driver), "both are one library");
}
