//! Work that streams have queued, and when it is done.
//!
//! A GPU does queued work some time between its queueing and the moment at which somebody waits for it. Here it is done at that latest moment
//! (unless the options say otherwise), by the thread that waits. So a program that forgets to wait, or lets one stream use what another has
//! yet to make, is seen to be wrong.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::control;
use super::launch::Queued;
use super::state::{Context, Handle, State, lock, notify, wait};
use super::status::{Outcome, Status};
use super::stream::Stream;
use crate::options::Launches;

/// A function of the program that a stream calls.
#[derive(Clone, Copy, Debug)]
pub struct HostCall {
    /// The function.
    pub function: unsafe extern "C" fn(*mut c_void),
    /// Its argument.
    pub data: *mut c_void,
}

// SAFETY: whoever queues a call vouches that any thread may make it, as with the real driver, which has a thread of its own for it.
unsafe impl Send for HostCall {}
// SAFETY: as above.
unsafe impl Sync for HostCall {}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// A kernel.
    Launch(Arc<Queued>),
    /// Bytes to the device.
    Write { to: u64, bytes: Arc<[u8]> },
    /// The same few bytes again and again.
    Fill { to: u64, pattern: Arc<[u8]>, bytes: usize },
    /// From one place of the device to another.
    Copy { to: u64, from: u64, bytes: usize },
    /// A function of the program.
    Call(HostCall),
    /// A launch of a hollow module, which the test's hook has done.
    Nothing,
    /// A moment has come.
    Record(Arc<Moment>),
    /// Nothing goes on before a moment has come.
    Wait(Arc<Moment>),
}

/// A moment in a stream's work.
#[derive(Debug)]
pub struct Moment {
    /// The stream.
    pub stream: Handle<Stream>,
    come: AtomicBool,
    at: std::sync::OnceLock<Instant>,
}

impl Moment {
    /// A moment to come.
    pub fn new(stream: Handle<Stream>) -> Arc<Self> {
        Arc::new(Self {
            stream,
            come: AtomicBool::new(false),
            at: std::sync::OnceLock::new(),
        })
    }

    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.come.load(Ordering::Acquire)
    }

    /// When it came.
    pub fn time(&self) -> Option<Instant> {
        self.at.get().copied()
    }

    fn come(&self) {
        let _ = self.at.set(Instant::now());
        self.come.store(true, Ordering::Release);
    }
}

/// The state, locked.
pub type Locked = MutexGuard<'static, State>;

/// Queues work on a stream, behind what the rules of the default stream put in front of it.
pub fn push(mut state: Locked, handle: Handle<Stream>, work: Work) -> Outcome<Locked> {
    for moment in implied(&mut state, handle)? {
        state.streams.get_mut(handle)?.queue.push_back(Work::Wait(moment));
    }
    state.streams.get_mut(handle)?.queue.push_back(work);
    if state.options.launches == Launches::Eager {
        state = advance(state, handle, &|_| false);
    }
    Ok(state)
}

/// What the default stream waits for, and what waits for it.
fn implied(state: &mut State, handle: Handle<Stream>) -> Outcome<Vec<Arc<Moment>>> {
    let stream = state.streams.get(handle)?;
    if !stream.blocking {
        return Ok(Vec::new());
    }
    let (context, is_default) = (stream.context, stream.is_default);
    let before = |(_, other): &(Handle<Stream>, &mut Stream)| {
        other.context == context && other.blocking && other.is_default != is_default && other.is_busy()
    };
    let moments = state.streams.iter_mut().filter(before).map(|(other, stream)| {
        let moment = Moment::new(other);
        stream.queue.push_back(Work::Record(Arc::clone(&moment)));
        moment
    });
    Ok(moments.collect())
}

/// Does a stream's work until it is done, or until a condition holds. Several threads may wait for one stream: one of them works.
pub fn advance(mut state: Locked, handle: Handle<Stream>, until: &dyn Fn(&State) -> bool) -> Locked {
    loop {
        if until(&state) {
            return state;
        }
        let Ok(stream) = state.streams.get_mut(handle) else {
            return state;
        };
        if stream.running {
            state = wait(state);
            continue;
        }
        match stream.queue.pop_front() {
            None => return state,
            Some(Work::Record(moment)) => {
                moment.come();
                notify();
            }
            Some(Work::Wait(moment)) if moment.has_come() => {}
            Some(Work::Wait(moment)) => {
                stream.queue.push_front(Work::Wait(Arc::clone(&moment)));
                state = advance(state, moment.stream, &|_| moment.has_come());
                if !moment.has_come() {
                    // Its stream is gone.
                    moment.come();
                }
            }
            Some(work) => {
                stream.running = true;
                let result;
                (state, result) = perform(state, handle, work);
                settle(&mut state, handle, result);
                notify();
            }
        }
    }
}

/// Takes note of how work has ended. After an error nothing that was queued is done.
fn settle(state: &mut State, handle: Handle<Stream>, result: Outcome) {
    let sticky = state.options.sticky;
    let Ok(stream) = state.streams.get_mut(handle) else {
        return;
    };
    stream.running = false;
    let Err(status) = result else { return };
    stream.error.get_or_insert(status);
    for work in std::mem::take(&mut stream.queue) {
        if let Work::Record(moment) = work {
            moment.come();
        }
    }
    let context = stream.context;
    if sticky && let Ok(context) = state.contexts.get_mut(context) {
        context.poisoned.get_or_insert(status);
    }
}

fn perform(mut state: Locked, handle: Handle<Stream>, work: Work) -> (Locked, Outcome) {
    let context = state.streams.get(handle).map(|stream| stream.context);
    let result = context.and_then(|context| match &work {
        Work::Write { to, bytes } => state.heap.write(context, *to, bytes),
        Work::Fill { to, pattern, bytes } => state.heap.fill(context, *to, pattern, *bytes),
        Work::Copy { to, from, bytes } => state.heap.copy(context, *to, *from, *bytes),
        _ => Ok(()),
    });
    match work {
        Work::Launch(queued) => {
            let task = queued.task(&mut state);
            drop(state);
            let result = task.and_then(|task| task.run());
            (lock(), result)
        }
        Work::Call(HostCall { function, data }) => {
            drop(state);
            // SAFETY: whoever queued the call vouched for it.
            unsafe { function(data) };
            (lock(), result)
        }
        _ => (state, result),
    }
}

/// Waits for a stream and tells how its work has ended.
pub fn synchronize(state: Locked, handle: Handle<Stream>) -> Outcome {
    let mut state = advance(state, handle, &|_| false);
    let context = state.streams.get(handle)?.context;
    let error = take_error(&mut state, handle);
    state.usable(context)?;
    error
}

/// The error that a stream's work has ended with, told once.
pub fn take_error(state: &mut State, handle: Handle<Stream>) -> Outcome {
    state.streams.get_mut(handle)?.error.take().map_or(Ok(()), Err)
}

/// Waits for everything in a context.
pub fn finish_context(mut state: Locked, context: Handle<Context>) -> Locked {
    loop {
        let busy = state
            .streams
            .iter()
            .find(|(_, stream)| stream.context == context && stream.is_busy());
        let Some((handle, _)) = busy else { return state };
        state = advance(state, handle, &|_| false);
    }
}

/// Waits for everything in a context and tells how it has ended.
pub fn synchronize_context(state: Locked, context: Handle<Context>) -> Outcome {
    let mut state = finish_context(state, context);
    let ended =
        |(_, stream): (Handle<Stream>, &mut Stream)| (stream.context == context).then(|| stream.error.take()).flatten();
    let errors: Vec<Status> = state.streams.iter_mut().filter_map(ended).collect();
    state.usable(context)?;
    match errors.first() {
        Some(&status) => Err(status),
        None => Ok(()),
    }
}

/// Waits for what a synchronous call on the default stream waits for.
pub fn finish_default(mut state: Locked, context: Handle<Context>) -> Outcome<Locked> {
    let handle = state.usable(context)?.default_stream;
    for moment in implied(&mut state, handle)? {
        state.streams.get_mut(handle)?.queue.push_back(Work::Wait(moment));
    }
    let mut state = advance(state, handle, &|_| false);
    state.usable(context)?;
    take_error(&mut state, handle)?;
    Ok(state)
}

/// Tells of an error that nobody asks for any more.
pub fn abandon(stream: &Stream) {
    if let Some(status) = stream.error {
        control::tell(&format!(
            "a stream was destroyed before anybody asked for its error {status}"
        ));
    }
}
