//! Modules and their functions.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::control;
use super::entry::{Out, Text, entries};
use super::graph;
use super::images::{self, Image};
use super::state::{Context, Handle, lock};
use super::status::{INVALID_IMAGE, INVALID_PTX, INVALID_VALUE, NOT_FOUND, Outcome};

/// Dynamic shared memory that launches may ask for unless they are allowed more.
const DYNAMIC_SHARED: c_int = 48 << 10;

/// A loaded image.
#[derive(Debug)]
pub struct Module {
    /// Where it is.
    pub context: Handle<Context>,
    /// Its kernels; none: hollow, every function is in it and does nothing.
    image: Option<Arc<Image>>,
}

/// A kernel of a module.
#[derive(Clone, Debug)]
pub struct Function {
    /// Where it is.
    pub context: Handle<Context>,
    /// What it is from.
    pub module: Handle<Module>,
    /// Its symbol.
    pub name: Arc<str>,
    /// Its image and its place in that; none: it does nothing.
    pub code: Option<(Arc<Image>, usize)>,
    /// The most dynamic shared memory that a launch may ask for.
    pub dynamic_shared: c_int,
}

impl Function {
    fn static_shared(&self) -> Outcome<c_int> {
        match &self.code {
            None => Ok(control::static_shared()),
            Some((image, index)) => {
                let interface = image.interface(*index).map_err(|error| {
                    control::tell(&error);
                    INVALID_PTX
                })?;
                Ok(interface.static_shared as c_int)
            }
        }
    }

    fn max_threads(&self) -> c_int {
        let interface = self
            .code
            .as_ref()
            .and_then(|(image, index)| image.interface(*index).ok());
        interface
            .and_then(|interface| interface.max_threads)
            .map_or(1024, |threads| threads as c_int)
    }
}

fn load(module: Out<Handle<Module>>, image: *const c_void) -> Outcome {
    let mut state = lock();
    let context = state.current()?;
    graph::forbid(&mut state)?;
    let capability = state.devices.capability;
    drop(state);
    let image = if control::is_hollow() {
        // SAFETY: images have at least four bytes.
        if !unsafe { images::is_fatbin(image.cast()) } {
            return Err(INVALID_IMAGE);
        }
        None
    } else {
        // SAFETY: the caller gives an image.
        let image = unsafe { images::load(image.cast(), capability) };
        Some(image.map_err(|(status, message)| {
            control::tell(&format!("cuModuleLoadData: {message}"));
            status
        })?)
    };
    let made = lock().modules.insert(Module { context, image });
    module.put(made)
}

entries! {
    /// Loads an image.
    fn cuModuleLoadData(module: Out<Handle<Module>>, image: *const c_void) {
        load(module, image)
    }

    /// Loads an image; the options concern a translator that is not there.
    fn cuModuleLoadDataEx(
        module: Out<Handle<Module>>,
        image: *const c_void,
        _count: c_uint,
        _options: *mut c_int,
        _values: *mut *mut c_void,
    ) {
        load(module, image)
    }

    /// Unloads a module. It does not wait: a launch of it that has not run is in error.
    fn cuModuleUnload(module: Handle<Module>) {
        let mut state = lock();
        state.current()?;
        graph::forbid(&mut state)?;
        state.modules.remove(module)?;
        state.functions.retain(|function| function.module != module);
        Ok(())
    }

    /// Looks up a function.
    fn cuModuleGetFunction(function: Out<Handle<Function>>, module: Handle<Module>, name: Text) {
        let mut state = lock();
        state.current()?;
        let name = name.read()?;
        let Module { context, image } = state.modules.get(module)?;
        let context = *context;
        let code = match image {
            None => None,
            Some(image) => Some((Arc::clone(image), image.find(&name).ok_or(NOT_FOUND)?)),
        };
        let made = state.functions.insert(Function {
            context,
            module,
            name: name.into(),
            code,
            dynamic_shared: DYNAMIC_SHARED,
        });
        function.put(made)
    }

    /// Looks up a variable: there are none.
    fn cuModuleGetGlobal_v2(_address: Out<u64>, _bytes: Out<usize>, module: Handle<Module>, _name: Text) {
        lock().modules.get(module)?;
        Err(NOT_FOUND)
    }

    /// Does nothing: a function is read when it is launched.
    fn cuFuncLoad(function: Handle<Function>) {
        lock().functions.get(function).map(drop)
    }

    /// A number about a function.
    fn cuFuncGetAttribute(value: Out<c_int>, attribute: c_int, function: Handle<Function>) {
        let state = lock();
        let function = state.functions.get(function)?;
        let (major, minor) = state.devices.capability;
        value.put(match attribute {
            0 => function.max_threads(),
            1 => function.static_shared()?,
            // PTX does not say how many registers its machine code takes.
            4 => 32,
            5 | 6 => (10 * major + minor) as c_int,
            8 => function.dynamic_shared,
            _ => 0,
        })
    }

    /// Changes a number about a function: the dynamic shared memory that launches may ask for.
    fn cuFuncSetAttribute(function: Handle<Function>, attribute: c_int, value: c_int) {
        let mut state = lock();
        let most = state.devices.shared;
        let function = state.functions.get_mut(function)?;
        match attribute {
            8 if value >= 0 && value <= most - function.static_shared()? => function.dynamic_shared = value,
            // How memory is divided into shared memory and cache.
            9 if (-1..=100).contains(&value) => {}
            _ => return Err(INVALID_VALUE),
        }
        Ok(())
    }

    /// Where a parameter lies in the block of parameters, and its size.
    fn cuFuncGetParamInfo(function: Handle<Function>, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let state = lock();
        let (image, kernel) = state.functions.get(function)?.code.as_ref().ok_or(INVALID_VALUE)?;
        let interface = image.interface(*kernel).map_err(|_| INVALID_PTX)?;
        let (at, size) = interface.layout.parameters.get(index).ok_or(INVALID_VALUE)?;
        offset.put(*at as usize)?;
        bytes.put_if_wanted(*size as usize);
        Ok(())
    }

    /// How many blocks a multiprocessor holds, by their threads and shared memory; PTX does not say how many registers they take.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(count: Out<c_int>, function: Handle<Function>, threads: c_int, shared: usize) {
        let state = lock();
        let fixed = state.functions.get(function)?.static_shared()?;
        if threads <= 0 {
            return Err(INVALID_VALUE);
        }
        // A block takes 1 KiB more.
        let taken = shared + fixed as usize + 1024;
        let by_memory = (state.devices.shared + 1024) as usize / taken;
        count.put((by_memory as c_int).min(2048 / threads.max(32)).min(32))
    }
}
