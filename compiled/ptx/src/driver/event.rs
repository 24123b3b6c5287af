//! Events.

use std::ffi::c_uint;
use std::sync::Arc;

use super::entry::{Out, entries};
use super::graph::{self, Known};
use super::queue::{self, Moment, Work};
use super::state::{Context, Handle, State, lock};
use super::status::{CAPTURED_EVENT, INVALID_HANDLE, NOT_READY, Outcome};
use super::stream::{Stream, resolve};

/// `CU_EVENT_DISABLE_TIMING`
const WITHOUT_TIME: c_uint = 2;

/// An event.
#[derive(Debug)]
pub struct Event {
    /// Where it is.
    pub context: Handle<Context>,
    /// Whether it remembers when it was recorded.
    has_time: bool,
    /// Where it was recorded last.
    pub recorded: Option<Recorded>,
}

/// Where an event was recorded.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// In a stream's work.
    Moment(Arc<Moment>),
    /// In a capture.
    Captured(Known),
}

/// The moment that an event was recorded at; none if it never was.
fn moment(state: &mut State, event: Handle<Event>) -> Outcome<Option<Arc<Moment>>> {
    match &state.events.get(event)?.recorded {
        None => Ok(None),
        Some(Recorded::Moment(moment)) => Ok(Some(Arc::clone(moment))),
        Some(Recorded::Captured(known)) => {
            let capture = known.capture;
            graph::invalidate(state, capture);
            Err(CAPTURED_EVENT)
        }
    }
}

fn record(event: Handle<Event>, stream: Handle<Stream>) -> Outcome {
    let mut state = lock();
    let stream = resolve(&state, stream)?;
    let context = state.streams.get(stream)?.context;
    if state.events.get(event)?.context != context {
        return Err(INVALID_HANDLE);
    }
    graph::forbid_implicit(&mut state, stream)?;
    if let Some(known) = graph::known(&state, stream)? {
        state.events.get_mut(event)?.recorded = Some(Recorded::Captured(known));
        return Ok(());
    }
    let moment = Moment::new(stream);
    state.events.get_mut(event)?.recorded = Some(Recorded::Moment(Arc::clone(&moment)));
    queue::push(state, stream, Work::Record(moment)).map(drop)
}

fn elapsed(milliseconds: Out<f32>, start: Handle<Event>, end: Handle<Event>) -> Outcome {
    let mut state = lock();
    state.current()?;
    let mut time = |event| {
        if !state.events.get(event)?.has_time {
            return Err(INVALID_HANDLE);
        }
        let moment = moment(&mut state, event)?.ok_or(INVALID_HANDLE)?;
        moment.time().ok_or(NOT_READY)
    };
    let (start, end) = (time(start)?, time(end)?);
    milliseconds.put(end.saturating_duration_since(start).as_secs_f32() * 1000.0)
}

entries! {
    /// Makes an event.
    fn cuEventCreate(event: Out<Handle<Event>>, flags: c_uint) {
        let mut state = lock();
        let context = state.current()?;
        let made = state.events.insert(Event {
            context,
            has_time: flags & WITHOUT_TIME == 0,
            recorded: None,
        });
        event.put(made)
    }

    /// Ends an event.
    fn cuEventDestroy_v2(event: Handle<Event>) {
        lock().events.remove(event).map(drop)
    }

    /// Records an event behind a stream's work.
    fn cuEventRecord(event: Handle<Event>, stream: Handle<Stream>) {
        record(event, stream)
    }

    /// The same.
    fn cuEventRecordWithFlags(event: Handle<Event>, stream: Handle<Stream>, _flags: c_uint) {
        record(event, stream)
    }

    /// Lets a stream wait for an event.
    fn cuStreamWaitEvent(stream: Handle<Stream>, event: Handle<Event>, _flags: c_uint) {
        let mut state = lock();
        let stream = resolve(&state, stream)?;
        let recorded = state.events.get(event)?.recorded.clone();
        graph::forbid_implicit(&mut state, stream)?;
        match recorded {
            None => Ok(()),
            Some(Recorded::Captured(known)) => graph::join(&mut state, stream, &known),
            Some(Recorded::Moment(moment)) => {
                graph::forbid_outside(&mut state, stream)?;
                queue::push(state, stream, Work::Wait(moment)).map(drop)
            }
        }
    }

    /// Whether what was before an event is done.
    fn cuEventQuery(event: Handle<Event>) {
        let mut state = lock();
        let Some(moment) = moment(&mut state, event)? else { return Ok(()) };
        if moment.has_come() {
            return Ok(());
        }
        let (stream, left) = (moment.stream, state.streams.get(moment.stream)?.queue.len());
        let mut state = queue::advance(state, stream, &move |state: &State| {
            state.streams.get(stream).is_ok_and(|stream| stream.running || stream.queue.len() < left)
        });
        queue::take_error(&mut state, stream)?;
        if moment.has_come() { Ok(()) } else { Err(NOT_READY) }
    }

    /// Waits for what was before an event.
    fn cuEventSynchronize(event: Handle<Event>) {
        let mut state = lock();
        let Some(moment) = moment(&mut state, event)? else { return Ok(()) };
        let mut state = queue::advance(state, moment.stream, &|_| moment.has_come());
        // A stream that is gone has told its error.
        if state.streams.get(moment.stream).is_ok() {
            queue::take_error(&mut state, moment.stream)?;
        }
        Ok(())
    }

    /// The time between two events.
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle<Event>, end: Handle<Event>) {
        elapsed(milliseconds, start, end)
    }

    /// The same.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle<Event>, end: Handle<Event>) {
        elapsed(milliseconds, start, end)
    }
}
