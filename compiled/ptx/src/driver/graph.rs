//! Captures of streams, and the graphs that they become.
//!
//! While a stream is captured its work is not done but noted, in the order of the calls, which is one of the orders that the graph allows.
//! What each stream of the capture has waited for is kept too, so that a capture that ends before its branches have joined is refused.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::thread::{self, ThreadId};

use super::entry::{Out, entries};
use super::queue::{self, Work};
use super::state::{Handle, State, lock};
use super::status::{
    ILLEGAL_STATE, INVALID_VALUE, Outcome, STREAM_CAPTURE_IMPLICIT, STREAM_CAPTURE_INVALIDATED,
    STREAM_CAPTURE_ISOLATION, STREAM_CAPTURE_MERGE, STREAM_CAPTURE_UNJOINED, STREAM_CAPTURE_UNMATCHED,
    STREAM_CAPTURE_UNSUPPORTED, STREAM_CAPTURE_WRONG_THREAD,
};
use super::stream::{Stream, resolve};

/// What a capture forbids: `CUstreamCaptureMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Calls that may be unsafe, to every thread.
    Global,
    /// The same, to the thread that began it.
    ThreadLocal,
    /// Nothing.
    Relaxed,
}

/// A capture.
#[derive(Debug)]
pub struct Capture {
    origin: Handle<Stream>,
    mode: Mode,
    thread: ThreadId,
    works: Vec<Work>,
    invalid: bool,
}

/// A stream's part in a capture.
#[derive(Clone, Debug)]
pub struct Captured {
    known: Known,
    /// How many works of the capture were noted when the stream's last one was.
    last: usize,
}

/// For each stream of a capture, up to which work it has been waited for.
#[derive(Clone, Debug)]
pub struct Known {
    /// The capture.
    pub capture: Handle<Capture>,
    upto: HashMap<Handle<Stream>, usize>,
}

/// A graph: work in order.
#[derive(Clone, Debug)]
pub struct Graph(Vec<Work>);

/// A graph that can be launched.
#[derive(Debug)]
pub struct Executable(Vec<Work>);

/// Marks a capture as broken.
pub fn invalidate(state: &mut State, capture: Handle<Capture>) {
    if let Ok(capture) = state.captures.get_mut(capture) {
        capture.invalid = true;
    }
}

/// Breaks the capture that a stream is part of.
pub fn invalidate_of(state: &mut State, stream: Handle<Stream>) {
    if let Some(capture) = capture_of(state, stream) {
        invalidate(state, capture);
    }
}

fn capture_of(state: &State, stream: Handle<Stream>) -> Option<Handle<Capture>> {
    let captured = state.streams.get(stream).ok()?.captured.as_ref()?;
    Some(captured.known.capture)
}

/// Forbids a call that may be unsafe while a capture is under way that cares.
pub fn forbid(state: &mut State) -> Outcome {
    let thread = thread::current().id();
    forbid_unless(state, |capture| match capture.mode {
        Mode::Global => false,
        Mode::ThreadLocal => capture.thread != thread,
        Mode::Relaxed => true,
    })
}

/// Forbids a call while a capture is under way, unless `allows` it.
pub fn forbid_unless(state: &mut State, allows: impl Fn(&Capture) -> bool) -> Outcome {
    let mut forbidden = Ok(());
    for (_, capture) in state.captures.iter_mut().filter(|(_, capture)| !allows(capture)) {
        capture.invalid = true;
        forbidden = Err(STREAM_CAPTURE_UNSUPPORTED);
    }
    forbidden
}

/// Forbids to wait for a stream that is captured.
pub fn forbid_capturing(state: &mut State, stream: Handle<Stream>) -> Outcome {
    match capture_of(state, stream) {
        None => Ok(()),
        Some(capture) => {
            invalidate(state, capture);
            Err(STREAM_CAPTURE_UNSUPPORTED)
        }
    }
}

/// Forbids work on the default stream while a stream is captured that takes turns with it.
pub fn forbid_implicit(state: &mut State, stream: Handle<Stream>) -> Outcome {
    let (context, is_default) = {
        let stream = state.streams.get(stream)?;
        (stream.context, stream.is_default)
    };
    if !is_default {
        return Ok(());
    }
    let captured = |stream: &Stream| stream.context == context && stream.blocking && stream.captured.is_some();
    let found = state
        .streams
        .iter()
        .find(|(_, stream)| captured(stream))
        .map(|(handle, _)| handle);
    match found {
        None => Ok(()),
        Some(stream) => {
            invalidate_of(state, stream);
            Err(STREAM_CAPTURE_IMPLICIT)
        }
    }
}

/// Forbids a captured stream to wait for something outside of its capture.
pub fn forbid_outside(state: &mut State, stream: Handle<Stream>) -> Outcome {
    match capture_of(state, stream) {
        None => Ok(()),
        Some(capture) => {
            invalidate(state, capture);
            Err(STREAM_CAPTURE_ISOLATION)
        }
    }
}

/// What a captured stream has waited for, its own work included; none if it is not captured.
pub fn known(state: &State, stream: Handle<Stream>) -> Outcome<Option<Known>> {
    let Some(captured) = &state.streams.get(stream)?.captured else {
        return Ok(None);
    };
    if state.captures.get(captured.known.capture)?.invalid {
        return Err(STREAM_CAPTURE_INVALIDATED);
    }
    Ok(Some(captured.known.clone()))
}

/// Lets a stream wait for an event of a capture, which makes it part of that.
pub fn join(state: &mut State, stream: Handle<Stream>, known: &Known) -> Outcome {
    let capture = state
        .captures
        .get(known.capture)
        .map_err(|_| STREAM_CAPTURE_ISOLATION)?;
    if capture.invalid {
        return Err(STREAM_CAPTURE_INVALIDATED);
    }
    let waiting = state.streams.get_mut(stream)?;
    match &mut waiting.captured {
        None if waiting.is_default => Err(STREAM_CAPTURE_IMPLICIT),
        None => {
            let known = known.clone();
            waiting.captured = Some(Captured { known, last: 0 });
            Ok(())
        }
        Some(captured) if captured.known.capture == known.capture => {
            for (&other, &upto) in &known.upto {
                let mine = captured.known.upto.entry(other).or_default();
                *mine = upto.max(*mine);
            }
            Ok(())
        }
        Some(captured) => {
            let mine = captured.known.capture;
            invalidate(state, mine);
            invalidate(state, known.capture);
            Err(STREAM_CAPTURE_MERGE)
        }
    }
}

/// Notes work of a captured stream; whether there was a capture to note it.
pub fn add(state: &mut State, stream: Handle<Stream>, work: &Work) -> Outcome<bool> {
    let Some(handle) = capture_of(state, stream) else {
        return Ok(false);
    };
    let capture = state.captures.get_mut(handle)?;
    if capture.invalid {
        return Err(STREAM_CAPTURE_INVALIDATED);
    }
    if matches!(work, Work::Write { .. }) {
        // A copy from memory that may be gone when the graph runs.
        capture.invalid = true;
        return Err(STREAM_CAPTURE_UNSUPPORTED);
    }
    capture.works.push(work.clone());
    let count = capture.works.len();
    if let Some(captured) = &mut state.streams.get_mut(stream)?.captured {
        captured.last = count;
        captured.known.upto.insert(stream, count);
    }
    Ok(true)
}

fn begin(stream: Handle<Stream>, mode: c_int) -> Outcome {
    let mode = match mode {
        0 => Mode::Global,
        1 => Mode::ThreadLocal,
        2 => Mode::Relaxed,
        _ => return Err(INVALID_VALUE),
    };
    let mut state = lock();
    let stream = resolve(&state, stream)?;
    if state.streams.get(stream)?.is_default {
        return Err(STREAM_CAPTURE_UNSUPPORTED);
    }
    if state.streams.get(stream)?.captured.is_some() {
        return Err(ILLEGAL_STATE);
    }
    let capture = state.captures.insert(Capture {
        origin: stream,
        mode,
        thread: thread::current().id(),
        works: Vec::new(),
        invalid: false,
    });
    let upto = HashMap::new();
    let known = Known { capture, upto };
    state.streams.get_mut(stream)?.captured = Some(Captured { known, last: 0 });
    Ok(())
}

/// Ends a capture: its work, unless it was broken or is not complete.
fn end(state: &mut State, stream: Handle<Stream>) -> Outcome<Graph> {
    let handle = capture_of(state, stream).ok_or(ILLEGAL_STATE)?;
    let capture = state.captures.get(handle)?;
    if capture.origin != stream {
        return Err(STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != Mode::Relaxed && capture.thread != thread::current().id() {
        return Err(STREAM_CAPTURE_WRONG_THREAD);
    }
    let capture = state.captures.remove(handle)?;
    let mut joined = HashMap::new();
    let mut lasts = Vec::new();
    for (other, part) in state.streams.iter_mut() {
        if let Some(captured) = part.captured.take_if(|captured| captured.known.capture == handle) {
            lasts.push((other, captured.last));
            if other == stream {
                joined = captured.known.upto;
            }
        }
    }
    if capture.invalid {
        return Err(STREAM_CAPTURE_INVALIDATED);
    }
    let is_joined = |(other, last): &(Handle<Stream>, usize)| joined.get(other).copied().unwrap_or(0) >= *last;
    if lasts.iter().all(is_joined) {
        Ok(Graph(capture.works))
    } else {
        Err(STREAM_CAPTURE_UNJOINED)
    }
}

fn status(state: &State, stream: Handle<Stream>) -> Outcome<(c_int, usize)> {
    match capture_of(state, stream) {
        None => Ok((0, 0)),
        Some(capture) => {
            let invalid = state.captures.get(capture)?.invalid;
            Ok((if invalid { 2 } else { 1 }, capture.number()))
        }
    }
}

fn instantiate(executable: Out<Handle<Executable>>, graph: Handle<Graph>) -> Outcome {
    let mut state = lock();
    let works = state.graphs.get(graph)?.0.clone();
    let made = state.executables.insert(Executable(works));
    executable.put(made)
}

entries! {
    /// Begins to capture a stream.
    fn cuStreamBeginCapture_v2(stream: Handle<Stream>, mode: c_int) {
        begin(stream, mode)
    }

    /// Ends a capture; without success the graph is null.
    fn cuStreamEndCapture(stream: Handle<Stream>, graph: Out<Handle<Graph>>) {
        let mut state = lock();
        let stream = resolve(&state, stream)?;
        match end(&mut state, stream) {
            Ok(captured) => {
                let made = state.graphs.insert(captured);
                graph.put(made)
            }
            Err(status) => {
                graph.put_if_wanted(Handle::NULL);
                Err(status)
            }
        }
    }

    /// Whether a stream is captured.
    fn cuStreamIsCapturing(stream: Handle<Stream>, capturing: Out<c_int>) {
        let mut state = lock();
        let stream = resolve(&state, stream)?;
        forbid_implicit(&mut state, stream)?;
        capturing.put(status(&state, stream)?.0)
    }

    /// The same, and the capture's number.
    fn cuStreamGetCaptureInfo(stream: Handle<Stream>, capturing: Out<c_int>, id: Out<c_ulonglong>) {
        let state = lock();
        let stream = resolve(&state, stream)?;
        let (status, number) = status(&state, stream)?;
        id.put_if_wanted(number as c_ulonglong);
        capturing.put(status)
    }

    /// Makes a graph that can be launched.
    fn cuGraphInstantiateWithFlags(executable: Out<Handle<Executable>>, graph: Handle<Graph>, _flags: c_ulonglong) {
        instantiate(executable, graph)
    }

    /// The same, as it was once called.
    fn cuGraphInstantiate_v2(
        executable: Out<Handle<Executable>>,
        graph: Handle<Graph>,
        _error_node: Out<usize>,
        _log: *mut c_char,
        _log_bytes: usize,
    ) {
        instantiate(executable, graph)
    }

    /// Queues the work of a graph.
    fn cuGraphLaunch(executable: Handle<Executable>, stream: Handle<Stream>) {
        let mut state = lock();
        let stream = resolve(&state, stream)?;
        let works = state.executables.get(executable)?.0.clone();
        forbid_implicit(&mut state, stream)?;
        for work in works {
            if !add(&mut state, stream, &work)? {
                state = queue::push(state, stream, work)?;
            }
        }
        Ok(())
    }

    /// Nothing has to be uploaded.
    fn cuGraphUpload(executable: Handle<Executable>, _stream: Handle<Stream>) {
        lock().executables.get(executable).map(drop)
    }

    /// Ends a graph.
    fn cuGraphDestroy(graph: Handle<Graph>) {
        lock().graphs.remove(graph).map(drop)
    }

    /// Ends a graph that can be launched.
    fn cuGraphExecDestroy(executable: Handle<Executable>) {
        lock().executables.remove(executable).map(drop)
    }

    /// Changes nothing: a thread's calls are judged by the captures alone.
    fn cuThreadExchangeStreamCaptureMode(mode: Out<c_uint>) {
        if mode.is_null() { Err(INVALID_VALUE) } else { Ok(()) }
    }
}
