//! What tests ask of the driver: `sala_ptx_*`, which [`crate::client`] calls.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::device::Devices;
use super::images;
use super::state::{Context, Handle, Live, State, current, lock};
use super::status::{INVALID_VALUE, Outcome, SUCCESS, Status};
use crate::block::Cost;
use crate::options::Options;

/// Receives the launches of hollow modules: kernel, grid, threads of a block, dynamic shared memory, the first parameter.
pub type LaunchHook = unsafe extern "C" fn(*const c_char, *const u32, u32, u32, *const c_void) -> c_int;

/// A launch that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kernel: String,
    pub grid: [u32; 3],
    pub threads: [u32; 3],
    pub shared: u32,
    pub stream: usize,
}

/// Reports that are kept.
const REPORTS: usize = 64;

/// Launches that are kept.
const RECORDS: usize = 1 << 16;

#[derive(Debug, Default)]
struct Control {
    calls: BTreeMap<&'static str, u64>,
    /// By the call and its number: what it returns.
    faults: BTreeMap<(String, u64), Status>,
    hook: Option<LaunchHook>,
    hollow: bool,
    static_shared: c_int,
    records: Vec<Record>,
    reports: Vec<String>,
    executions: u64,
    execution_faults: BTreeMap<u64, Status>,
    /// What was executed, by kernel.
    costs: BTreeMap<String, Cost>,
}

static CONTROL: LazyLock<Mutex<Control>> = LazyLock::new(Mutex::default);

fn control() -> MutexGuard<'static, Control> {
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a call; an error if it is to fail.
pub fn count(call: &'static str) -> Outcome {
    let mut control = control();
    let calls = control.calls.entry(call).or_default();
    *calls += 1;
    let number = *calls;
    if control.faults.is_empty() {
        return Ok(());
    }
    control.faults.remove(&(call.to_owned(), number)).map_or(Ok(()), Err)
}

/// Counts an execution of a kernel; an error if it is to fail.
pub fn fail_execution() -> Outcome {
    let mut control = control();
    control.executions += 1;
    let number = control.executions;
    control.execution_faults.remove(&number).map_or(Ok(()), Err)
}

/// Takes note of what an execution was.
pub fn executed(kernel: &str, cost: Cost) {
    let mut control = control();
    if !control.costs.contains_key(kernel) {
        control.costs.insert(kernel.to_owned(), Cost::default());
    }
    if let Some(sum) = control.costs.get_mut(kernel) {
        *sum += cost;
    }
}

/// Tells what is wrong, and keeps it for the test.
pub fn tell(report: &str) {
    say(report);
    let mut control = control();
    if control.reports.len() < REPORTS {
        control.reports.push(report.to_owned());
    }
}

/// Writes a line to the standard error.
pub fn say(line: &str) {
    eprintln!("sala-ptx: {line}");
}

/// Keeps a launch.
pub fn record(record: &Record) {
    let mut control = control();
    if control.records.len() < RECORDS {
        control.records.push(record.clone());
    }
}

/// Whether modules need no code.
pub fn is_hollow() -> bool {
    control().hollow
}

/// The static shared memory that functions of hollow modules claim.
pub fn static_shared() -> c_int {
    control().static_shared
}

/// Gives a launch of a hollow module to the test.
pub fn hook(record: &Record, parameter: *const c_void) -> Outcome {
    let Some(hook) = control().hook else { return Ok(()) };
    let name = CString::new(record.kernel.as_str()).map_err(|_| INVALID_VALUE)?;
    let threads = record.threads.iter().product();
    // SAFETY: the test's function takes these.
    let status = unsafe { hook(name.as_ptr(), record.grid.as_ptr(), threads, record.shared, parameter) };
    match status as Status {
        SUCCESS => Ok(()),
        status => Err(status),
    }
}

/// A string of the test.
///
/// # Safety
/// It must be null or end in NUL.
unsafe fn string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Copies a text to the test, as much as there is room for, and returns its size.
///
/// # Safety
/// `to` must be valid for writes of `room` bytes.
unsafe fn give(text: &str, to: *mut u8, room: usize) -> usize {
    if room > 0 {
        // SAFETY: the caller's promise.
        unsafe { to.copy_from_nonoverlapping(text.as_ptr(), text.len().min(room)) };
    }
    text.len()
}

/// Forgets calls, faults, launches and reports; the devices and the options are what the environment says again.
#[unsafe(no_mangle)]
extern "C" fn sala_ptx_reset() {
    *control() = Control::default();
    let mut state = lock();
    state.devices = Devices::from_environment().0;
    state.options = Options::from_environment().unwrap_or_default();
}

/// Pretends other devices: their number, capability, multiprocessors and shared memory; 0 leaves what a GPU of the capability has.
#[unsafe(no_mangle)]
extern "C" fn sala_ptx_set_devices(count: c_int, major: u32, minor: u32, multiprocessors: c_int, shared: c_int) {
    let usual = Devices::of_capability(major, minor);
    let or = |value: c_int, usual: c_int| if value > 0 { value } else { usual };
    lock().devices = Devices {
        count,
        capability: (major, minor),
        multiprocessors: or(multiprocessors, usual.multiprocessors),
        shared: or(shared, usual.shared),
    };
}

/// Sets an option by its name. 0, or 1 and a report.
///
/// # Safety
/// Both must be strings.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_set_option(name: *const c_char, value: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    let (name, value) = unsafe { (string(name), string(value)) };
    let result = lock().options.set(&name, &value);
    result.map_or_else(
        |error| {
            tell(&format!("{name}: {error}"));
            1
        },
        |()| 0,
    )
}

/// Modules need no code: any image is one, any function is in it, and launches go to the hook, if there is one.
#[unsafe(no_mangle)]
extern "C" fn sala_ptx_set_hollow(hollow: c_int, static_shared: c_int) {
    let mut control = control();
    control.hollow = hollow != 0;
    control.static_shared = static_shared;
}

/// Who gets the launches of hollow modules.
#[unsafe(no_mangle)]
extern "C" fn sala_ptx_on_launch(hook: Option<LaunchHook>) {
    control().hook = hook;
}

/// Makes the nth call of a function fail, counted from 1 since the reset.
///
/// # Safety
/// `call` must be a string.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_fail(call: *const c_char, nth: u64, status: c_uint) {
    // SAFETY: the caller's promise.
    let call = unsafe { string(call) };
    control().faults.insert((call, nth), status);
}

/// Makes the nth execution of a kernel fail, counted from 1 since the reset: its stream tells so when it is waited for.
#[unsafe(no_mangle)]
extern "C" fn sala_ptx_fail_execution(nth: u64, status: c_uint) {
    control().execution_faults.insert(nth, status);
}

/// How often a function was called since the reset: for the function of an index, its name and the number. Returns the size of the name, or
/// 0 if there are no more.
///
/// # Safety
/// `name` must be valid for writes of `room` bytes, `calls` for one number.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_called(index: usize, calls: *mut u64, name: *mut u8, room: usize) -> usize {
    let control = control();
    let Some((call, count)) = control.calls.iter().nth(index) else {
        return 0;
    };
    // SAFETY: the caller's promise.
    unsafe {
        calls.write(*count);
        give(call, name, room)
    }
}

/// What was executed since the reset: for the kernel of an index, its name, instructions of a warp and matrix products. Returns the size of
/// the name, or 0 if there are no more.
///
/// # Safety
/// `name` must be valid for writes of `room` bytes, `cost` for two numbers.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_executed(index: usize, cost: *mut [u64; 2], name: *mut u8, room: usize) -> usize {
    let control = control();
    let Some((kernel, sum)) = control.costs.iter().nth(index) else {
        return 0;
    };
    // SAFETY: the caller's promise.
    unsafe {
        cost.write([sum.executed, sum.products]);
        give(kernel, name, room)
    }
}

/// The launch of an index since the reset: its kernel, and grid, threads, shared memory and stream. Returns the size of the name, or 0.
///
/// # Safety
/// `name` must be valid for writes of `room` bytes, `numbers` for eight numbers.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_launched(index: usize, numbers: *mut [u64; 8], name: *mut u8, room: usize) -> usize {
    let control = control();
    let Some(record) = control.records.get(index) else {
        return 0;
    };
    let [x, y, z] = record.grid.map(u64::from);
    let [columns, rows, layers] = record.threads.map(u64::from);
    // SAFETY: the caller's promise.
    unsafe {
        numbers.write([
            x,
            y,
            z,
            columns,
            rows,
            layers,
            record.shared.into(),
            record.stream as u64,
        ]);
        give(&record.kernel, name, room)
    }
}

/// The report of an index since the reset. Returns its size, or 0.
///
/// # Safety
/// `text` must be valid for writes of `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_report(index: usize, text: *mut u8, room: usize) -> usize {
    let control = control();
    let Some(report) = control.reports.get(index) else {
        return 0;
    };
    // SAFETY: the caller's promise.
    unsafe { give(report, text, room) }
}

/// Objects that were made and not released: retained contexts, streams, events, modules, graphs, allocations.
///
/// # Safety
/// `numbers` must be valid for writes of six numbers.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_live(numbers: *mut [u64; 6]) {
    let Live {
        contexts,
        streams,
        events,
        modules,
        graphs,
        allocations,
    } = lock().live();
    let live = [contexts, streams, events, modules, graphs, allocations].map(|count| count as u64);
    // SAFETY: the caller's promise.
    unsafe { numbers.write(live) };
}

/// The dynamic shared memory that launches of a function may ask for; -1 if no such function was looked up. Of several the latest counts.
///
/// # Safety
/// `kernel` must be a string.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_dynamic_shared(kernel: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    let kernel = unsafe { string(kernel) };
    let state = lock();
    let found = state.functions.iter().filter(|(_, function)| *function.name == *kernel);
    found
        .max_by_key(|(handle, _)| handle.number())
        .map_or(-1, |(_, function)| function.dynamic_shared)
}

/// A context of the first device beside the primary one, which lives for ever.
#[unsafe(no_mangle)]
extern "C" fn sala_ptx_context() -> Handle<Context> {
    let mut state = lock();
    let found = state
        .contexts
        .iter()
        .find(|(_, context)| context.retained.is_none())
        .map(|(handle, _)| handle);
    found.unwrap_or_else(|| State::new_context(&mut state, 0, None))
}

/// The calling thread's context, or null.
#[unsafe(no_mangle)]
extern "C" fn sala_ptx_current() -> Handle<Context> {
    current().unwrap_or(Handle::NULL)
}

/// Looks for images in another folder, too.
///
/// # Safety
/// `folder` must be a string.
#[unsafe(no_mangle)]
unsafe extern "C" fn sala_ptx_add_images(folder: *const c_char) {
    // SAFETY: the caller's promise.
    images::add_folder(PathBuf::from(unsafe { string(folder) }));
}
