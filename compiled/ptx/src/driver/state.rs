//! What the driver keeps: contexts and everything in them.
//!
//! Handles are numbers that are never used twice and are looked up, so that a stale one is an error and nothing worse.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use super::device::Devices;
use super::event::Event;
use super::graph::{Capture, Executable, Graph};
use super::memory::Heap;
use super::module::{Function, Module};
use super::status::{CONTEXT_IS_DESTROYED, INVALID_CONTEXT, INVALID_HANDLE, Outcome, Status};
use super::stream::Stream;
use crate::options::Options;

/// A handle, as callers see it.
#[derive(Debug)]
#[repr(transparent)]
pub struct Handle<T>(usize, PhantomData<fn() -> T>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Handle<T> {}

impl<T> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

impl<T> Handle<T> {
    /// The null handle.
    pub const NULL: Self = Self(0, PhantomData);

    /// A handle of this number.
    pub const fn new(number: usize) -> Self {
        Self(number, PhantomData)
    }

    /// Its number.
    pub fn number(self) -> usize {
        self.0
    }

    /// Whether it is the null handle.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// Objects by their handles.
#[derive(Debug)]
pub struct Table<T> {
    objects: HashMap<usize, T>,
    next: usize,
}

impl<T> Table<T> {
    /// `kind`: tells the handles of different tables apart.
    fn new(kind: usize) -> Self {
        Self {
            objects: HashMap::new(),
            next: (kind << 40) + 0x1000,
        }
    }

    /// Keeps an object.
    pub fn insert(&mut self, object: T) -> Handle<T> {
        let handle = self.next;
        self.next += 0x10;
        self.objects.insert(handle, object);
        Handle::new(handle)
    }

    /// The object of a handle.
    pub fn get(&self, handle: Handle<T>) -> Outcome<&T> {
        self.objects.get(&handle.0).ok_or(INVALID_HANDLE)
    }

    /// The object of a handle, to be changed.
    pub fn get_mut(&mut self, handle: Handle<T>) -> Outcome<&mut T> {
        self.objects.get_mut(&handle.0).ok_or(INVALID_HANDLE)
    }

    /// Forgets an object.
    pub fn remove(&mut self, handle: Handle<T>) -> Outcome<T> {
        self.objects.remove(&handle.0).ok_or(INVALID_HANDLE)
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = (Handle<T>, &T)> {
        self.objects
            .iter()
            .map(|(&handle, object)| (Handle::new(handle), object))
    }

    /// All objects, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle<T>, &mut T)> {
        self.objects
            .iter_mut()
            .map(|(&handle, object)| (Handle::new(handle), object))
    }

    /// Keeps the objects that `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.objects.retain(|_, object| keep(object));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }
}

/// A context.
#[derive(Debug)]
pub struct Context {
    /// The device.
    pub device: i32,
    /// How often it was retained; none: it is not a primary one, and lives for ever.
    pub retained: Option<u32>,
    /// Its default stream.
    pub default_stream: Handle<Stream>,
    /// What every call returns from now on.
    pub poisoned: Option<Status>,
}

/// Everything.
#[derive(Debug)]
pub struct State {
    pub devices: Devices,
    pub options: Options,
    pub contexts: Table<Context>,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub modules: Table<Module>,
    pub functions: Table<Function>,
    pub graphs: Table<Graph>,
    pub executables: Table<Executable>,
    pub captures: Table<Capture>,
    pub heap: Heap,
}

impl State {
    fn new() -> Self {
        let (options, problem) = match Options::from_environment() {
            Ok(options) => (options, None),
            Err(error) => (Options::default(), Some(error)),
        };
        let (devices, other_problem) = Devices::from_environment();
        for problem in problem.into_iter().chain(other_problem) {
            super::control::tell(&problem);
        }
        Self {
            devices,
            options,
            contexts: Table::new(1),
            streams: Table::new(2),
            events: Table::new(3),
            modules: Table::new(4),
            functions: Table::new(5),
            graphs: Table::new(6),
            executables: Table::new(7),
            captures: Table::new(8),
            heap: Heap::default(),
        }
    }

    /// Makes a context.
    pub fn new_context(&mut self, device: i32, retained: Option<u32>) -> Handle<Context> {
        let context = self.contexts.insert(Context {
            device,
            retained,
            default_stream: Handle::NULL,
            poisoned: None,
        });
        let default_stream = self.streams.insert(Stream::new(context, true, true));
        if let Ok(made) = self.contexts.get_mut(context) {
            made.default_stream = default_stream;
        }
        context
    }

    /// A context that can be used, or why not.
    pub fn usable(&self, context: Handle<Context>) -> Outcome<&Context> {
        let found = self.contexts.get(context).map_err(|_| INVALID_CONTEXT)?;
        match (found.retained, found.poisoned) {
            (Some(0), _) => Err(CONTEXT_IS_DESTROYED),
            (_, Some(status)) => Err(status),
            _ => Ok(found),
        }
    }

    /// The calling thread's context.
    pub fn current(&self) -> Outcome<Handle<Context>> {
        let context = current().ok_or(INVALID_CONTEXT)?;
        self.usable(context)?;
        Ok(context)
    }

    /// Objects that somebody made and nobody has released.
    pub fn live(&self) -> Live {
        let retained = self.contexts.iter().filter_map(|(_, context)| context.retained);
        Live {
            contexts: retained.sum::<u32>() as usize,
            streams: self.streams.iter().filter(|(_, stream)| !stream.is_default).count(),
            events: self.events.len(),
            modules: self.modules.len(),
            graphs: self.graphs.len() + self.executables.len(),
            allocations: self.heap.live(),
        }
    }
}

/// Numbers of live objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub contexts: usize,
    pub streams: usize,
    pub events: usize,
    pub modules: usize,
    pub graphs: usize,
    pub allocations: usize,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new()));

/// Told whenever queued work has been done.
static PROGRESS: Condvar = Condvar::new();

/// The state, for the calling thread alone.
pub fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until some work has been done.
pub fn wait(state: MutexGuard<'static, State>) -> MutexGuard<'static, State> {
    PROGRESS.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// Wakes those who wait.
pub fn notify() {
    PROGRESS.notify_all();
}

thread_local! {
    static STACK: RefCell<Vec<Handle<Context>>> = const { RefCell::new(Vec::new()) };
}

/// The context on top of the calling thread's stack.
pub fn current() -> Option<Handle<Context>> {
    STACK
        .with_borrow(|stack| stack.last().copied())
        .filter(|context| !context.is_null())
}

/// Changes the calling thread's stack.
pub fn with_stack<T>(change: impl FnOnce(&mut Vec<Handle<Context>>) -> T) -> T {
    STACK.with_borrow_mut(change)
}
