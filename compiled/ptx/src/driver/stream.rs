//! Streams.

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};

use super::entry::{Out, entries};
use super::graph::{self, Captured};
use super::queue::{self, HostCall, Work};
use super::state::{Context, Handle, State, lock};
use super::status::{INVALID_HANDLE, INVALID_VALUE, NOT_READY, Outcome, Status};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: c_uint = 1;

/// A stream and the work that is queued on it.
#[derive(Debug)]
pub struct Stream {
    /// Where it is.
    pub context: Handle<Context>,
    /// Whether it takes turns with the default stream.
    pub blocking: bool,
    /// Whether it is the default stream.
    pub is_default: bool,
    /// What is to be done.
    pub queue: VecDeque<Work>,
    /// Whether a thread is doing some of it.
    pub running: bool,
    /// How its work has ended, if badly.
    pub error: Option<Status>,
    /// The capture that gets its work instead.
    pub captured: Option<Captured>,
}

impl Stream {
    /// A stream without work.
    pub fn new(context: Handle<Context>, blocking: bool, is_default: bool) -> Self {
        Self {
            context,
            blocking,
            is_default,
            queue: VecDeque::new(),
            running: false,
            error: None,
            captured: None,
        }
    }

    /// Whether some work is not done.
    pub fn is_busy(&self) -> bool {
        self.running || !self.queue.is_empty()
    }
}

/// The stream that a handle means: null, 1 and 2 are the default stream of the thread's context.
pub fn resolve(state: &State, stream: Handle<Stream>) -> Outcome<Handle<Stream>> {
    let current = state.current()?;
    if stream.number() <= 2 {
        return Ok(state.contexts.get(current)?.default_stream);
    }
    let context = state.streams.get(stream)?.context;
    state.usable(context)?;
    Ok(stream)
}

/// Queues work on a stream, or gives it to the stream's capture.
pub fn submit(stream: Handle<Stream>, work: Work) -> Outcome {
    let mut state = lock();
    let stream = resolve(&state, stream)?;
    graph::forbid_implicit(&mut state, stream)?;
    if graph::add(&mut state, stream, &work)? {
        return Ok(());
    }
    queue::push(state, stream, work).map(drop)
}

fn create(stream: Out<Handle<Stream>>, flags: c_uint) -> Outcome {
    let mut state = lock();
    let context = state.current()?;
    if flags & !NON_BLOCKING != 0 || stream.is_null() {
        return Err(INVALID_VALUE);
    }
    let made = state
        .streams
        .insert(Stream::new(context, flags & NON_BLOCKING == 0, false));
    stream.put(made)
}

entries! {
    /// Makes a stream.
    fn cuStreamCreate(stream: Out<Handle<Stream>>, flags: c_uint) {
        create(stream, flags)
    }

    /// Makes a stream; priorities mean nothing here.
    fn cuStreamCreateWithPriority(stream: Out<Handle<Stream>>, flags: c_uint, _priority: c_int) {
        create(stream, flags)
    }

    /// Ends a stream, after its work.
    fn cuStreamDestroy_v2(stream: Handle<Stream>) {
        let mut state = lock();
        state.current()?;
        if state.streams.get(stream)?.is_default {
            return Err(INVALID_HANDLE);
        }
        graph::invalidate_of(&mut state, stream);
        let mut state = queue::advance(state, stream, &|_| false);
        queue::abandon(&state.streams.remove(stream)?);
        Ok(())
    }

    /// Waits for a stream.
    fn cuStreamSynchronize(stream: Handle<Stream>) {
        let mut state = lock();
        let stream = resolve(&state, stream)?;
        graph::forbid_capturing(&mut state, stream)?;
        queue::synchronize(state, stream)
    }

    /// Whether a stream's work is done. Asking makes it go on, or a program that asks until it is would never end.
    fn cuStreamQuery(stream: Handle<Stream>) {
        let mut state = lock();
        let stream = resolve(&state, stream)?;
        graph::forbid_capturing(&mut state, stream)?;
        let left = state.streams.get(stream)?.queue.len();
        let mut state = queue::advance(state, stream, &move |state: &State| {
            state.streams.get(stream).is_ok_and(|stream| stream.running || stream.queue.len() < left)
        });
        queue::take_error(&mut state, stream)?;
        if state.streams.get(stream)?.is_busy() { Err(NOT_READY) } else { Ok(()) }
    }

    /// A stream's context.
    fn cuStreamGetCtx(stream: Handle<Stream>, context: Out<Handle<Context>>) {
        let state = lock();
        let stream = resolve(&state, stream)?;
        context.put(state.streams.get(stream)?.context)
    }

    /// A stream's flags.
    fn cuStreamGetFlags(stream: Handle<Stream>, flags: Out<c_uint>) {
        let state = lock();
        let stream = resolve(&state, stream)?;
        flags.put(if state.streams.get(stream)?.blocking { 0 } else { NON_BLOCKING })
    }

    /// A stream's priority.
    fn cuStreamGetPriority(stream: Handle<Stream>, priority: Out<c_int>) {
        let state = lock();
        resolve(&state, stream)?;
        priority.put(0)
    }

    /// Lets a stream call a function of the program.
    fn cuLaunchHostFunc(stream: Handle<Stream>, function: Option<unsafe extern "C" fn(*mut c_void)>, data: *mut c_void) {
        let function = function.ok_or(INVALID_VALUE)?;
        submit(stream, Work::Call(HostCall { function, data }))
    }

}
