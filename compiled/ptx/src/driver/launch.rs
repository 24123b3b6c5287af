//! Launches.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use super::control::{self, Record};
use super::entry::entries;
use super::graph;
use super::module::{Function, Module};
use super::queue::{self, Work};
use super::state::{Handle, State, lock};
use super::status::{self, INVALID_HANDLE, INVALID_PTX, INVALID_VALUE, LAUNCH_FAILED, NOT_SUPPORTED, Outcome};
use super::stream::{Stream, resolve, submit};
use crate::block::Launch;
use crate::code::Kernel;
use crate::grid;
use crate::memory::Allocations;
use crate::options::Options;

/// The most threads of a block, and blocks along y and z.
const THREADS: u64 = 1024;
const BLOCKS: u32 = 65_535;

/// A launch that waits for its turn.
#[derive(Debug)]
pub struct Queued {
    kernel: Arc<Kernel>,
    module: Handle<Module>,
    grid: [u32; 3],
    threads: [u32; 3],
    shared: u32,
    parameters: Vec<u8>,
}

/// A launch whose turn has come.
pub struct Task<'q> {
    queued: &'q Queued,
    allocations: Arc<Allocations>,
    options: Options,
}

impl Queued {
    /// Gathers what the launch sees now.
    pub fn task(&self, state: &mut State) -> Outcome<Task<'_>> {
        let Ok(module) = state.modules.get(self.module) else {
            control::tell(&format!(
                "{}: its module was unloaded before the launch had run",
                self.kernel.name
            ));
            return Err(LAUNCH_FAILED);
        };
        let context = module.context;
        Ok(Task {
            queued: self,
            allocations: state.heap.seen_by(context),
            options: state.options,
        })
    }
}

impl Task<'_> {
    /// Runs the kernel.
    pub fn run(&self) -> Outcome {
        control::fail_execution()?;
        let Queued {
            kernel,
            grid,
            threads,
            shared,
            parameters,
            ..
        } = self.queued;
        let launch = Launch {
            kernel,
            grid: *grid,
            threads: *threads,
            shared: *shared,
            parameters,
            allocations: &self.allocations,
            options: self.options,
        };
        let result = grid::run(&launch);
        let cost = result.map_err(|report| {
            control::tell(&report.text);
            status::of_fault(report.kind)
        })?;
        control::executed(&kernel.name, cost);
        if self.options.verbose {
            let seconds = cost.time.as_secs_f64();
            let (name, instructions, products) = (&kernel.name, cost.executed, cost.products);
            let rate = instructions as f64 / seconds / 1e6;
            control::say(&format!(
                "{name} {grid:?} x {threads:?}: {instructions} instructions of a warp, {products} products, {seconds:.4} s, {rate:.1} M/s"
            ));
        }
        Ok(())
    }
}

/// What a caller asks for.
struct Asked {
    function: Handle<Function>,
    grid: [u32; 3],
    threads: [u32; 3],
    shared: u32,
    stream: Handle<Stream>,
    parameters: *mut *mut c_void,
}

fn launch(asked: &Asked) -> Outcome {
    let Asked {
        grid,
        threads,
        shared,
        parameters,
        ..
    } = *asked;
    let (function, options) = {
        let state = lock();
        let current = state.current()?;
        let stream = resolve(&state, asked.stream)?;
        let function = state.functions.get(asked.function)?.clone();
        if state.streams.get(stream)?.context != current || function.context != current {
            return Err(INVALID_HANDLE);
        }
        (function, state.options)
    };
    let refuse = |why: String| {
        control::tell(&format!("{}: {why}", function.name));
        Err(INVALID_VALUE)
    };
    let count: u64 = threads.iter().map(|&threads| u64::from(threads)).product();
    if grid.contains(&0) || threads.contains(&0) {
        return refuse(format!("a launch of nothing: {grid:?} blocks of {threads:?} threads"));
    }
    if grid[1] > BLOCKS || grid[2] > BLOCKS || threads[2] > 64 || count > THREADS {
        return refuse(format!("too large a launch: {grid:?} blocks of {threads:?} threads"));
    }
    if i64::from(shared) > i64::from(function.dynamic_shared) {
        let allowed = function.dynamic_shared;
        return refuse(format!(
            "{shared} bytes of dynamic shared memory, of which {allowed} are allowed"
        ));
    }
    let record = Record {
        kernel: function.name.to_string(),
        grid,
        threads,
        shared,
        stream: asked.stream.number(),
    };
    let Some((image, index)) = &function.code else {
        control::record(&record);
        return hollow(asked, &record);
    };
    let invalid = |error: String| {
        control::tell(&error);
        INVALID_PTX
    };
    let interface = image.interface(*index).map_err(invalid)?;
    if let Some(most) = interface.max_threads.filter(|&most| count > u64::from(most)) {
        return refuse(format!(
            "{count} threads a block, but it was compiled for at most {most}"
        ));
    }
    let kernel = image.kernel(*index).map_err(invalid)?;
    if parameters.is_null() && interface.layout.bytes > 0 {
        return refuse("no parameters".to_owned());
    }
    let mut block = vec![0; interface.layout.bytes as usize];
    for (number, &(offset, bytes)) in interface.layout.parameters.iter().enumerate() {
        let room = &mut block[offset as usize..(offset + bytes) as usize];
        // SAFETY: the caller gives a pointer to each parameter, of the size that the kernel declares.
        let given = unsafe { std::slice::from_raw_parts((*parameters.add(number)).cast::<u8>(), bytes as usize) };
        room.copy_from_slice(given);
    }
    control::record(&record);
    if options.verbose {
        control::say(&format!("{} is queued", function.name));
    }
    submit(
        asked.stream,
        Work::Launch(Arc::new(Queued {
            kernel,
            module: function.module,
            grid,
            threads,
            shared,
            parameters: block,
        })),
    )
}

/// A launch without code: the test's hook does it now, behind what its stream has to do before.
fn hollow(asked: &Asked, record: &Record) -> Outcome {
    let mut state = lock();
    let stream = resolve(&state, asked.stream)?;
    if graph::add(&mut state, stream, &Work::Nothing)? {
        return Ok(());
    }
    let state = queue::push(state, stream, Work::Nothing)?;
    let mut state = queue::advance(state, stream, &|_| false);
    queue::take_error(&mut state, stream)?;
    drop(state);
    let first = if asked.parameters.is_null() {
        std::ptr::null()
    } else {
        // SAFETY: the caller gives pointers to the parameters, of which a kernel has at least one.
        unsafe { (*asked.parameters).cast_const() }
    };
    control::hook(record, first)
}

/// `CUlaunchConfig`
#[repr(C)]
struct Configuration {
    grid: [c_uint; 3],
    threads: [c_uint; 3],
    shared: c_uint,
    stream: Handle<Stream>,
    attributes: *const c_void,
    attribute_count: c_uint,
}

entries! {
    /// Queues a kernel.
    fn cuLaunchKernel(
        function: Handle<Function>,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: Handle<Stream>,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        if !extra.is_null() {
            return Err(INVALID_VALUE);
        }
        launch(&Asked {
            function,
            grid: [grid_x, grid_y, grid_z],
            threads: [block_x, block_y, block_z],
            shared,
            stream,
            parameters,
        })
    }

    /// Queues a kernel; attributes such as clusters are not known here.
    fn cuLaunchKernelEx(
        configuration: *const Configuration,
        function: Handle<Function>,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        if configuration.is_null() || !extra.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller gives a configuration.
        let configuration = unsafe { &*configuration };
        if configuration.attribute_count > 0 {
            control::tell("cuLaunchKernelEx: attributes are not known here");
            return Err(NOT_SUPPORTED);
        }
        launch(&Asked {
            function,
            grid: configuration.grid,
            threads: configuration.threads,
            shared: configuration.shared,
            stream: configuration.stream,
            parameters,
        })
    }
}
