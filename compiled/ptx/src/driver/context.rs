//! Contexts, and the stack of them that each thread has.

use std::ffi::{c_int, c_uint};

use super::control;
use super::entry::{Out, entries};
use super::queue;
use super::state::{Context, Handle, State, current, lock, with_stack};
use super::status::{INVALID_CONTEXT, Outcome};

/// The primary context of a device, made at the first call.
fn primary(state: &mut State, device: c_int) -> Handle<Context> {
    let is_primary = |context: &Context| context.device == device && context.retained.is_some();
    let found = state
        .contexts
        .iter()
        .find(|(_, context)| is_primary(context))
        .map(|(handle, _)| handle);
    found.unwrap_or_else(|| state.new_context(device, Some(0)))
}

/// Forgets everything in a context that nobody retains any more, and tells what was left behind.
fn destroy(state: &mut State, context: Handle<Context>) {
    let before = state.live();
    state
        .streams
        .retain(|stream| stream.context != context || stream.is_default);
    state.events.retain(|event| event.context != context);
    state.modules.retain(|module| module.context != context);
    state.functions.retain(|function| function.context != context);
    state.heap.forget(context);
    if let Ok(context) = state.contexts.get_mut(context) {
        context.poisoned = None;
    }
    let after = state.live();
    let left = [
        ("streams", before.streams - after.streams),
        ("events", before.events - after.events),
        ("modules", before.modules - after.modules),
        ("allocations", before.allocations - after.allocations),
    ];
    let left: Vec<_> = left
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if !left.is_empty() {
        control::tell(&format!("a context was released with {} in it", left.join(", ")));
    }
}

/// A context that may become a thread's; null is one, too.
fn checked(state: &State, context: Handle<Context>) -> Outcome {
    if context.is_null() {
        Ok(())
    } else {
        state.usable(context).map(drop)
    }
}

entries! {
    /// Retains the primary context of a device.
    fn cuDevicePrimaryCtxRetain(context: Out<Handle<Context>>, device: c_int) {
        let mut state = lock();
        state.devices.check(device)?;
        let handle = primary(&mut state, device);
        if let Some(retained) = &mut state.contexts.get_mut(handle)?.retained {
            *retained += 1;
        }
        context.put(handle)
    }

    /// Releases the primary context of a device; with the last one goes everything in it.
    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        let mut state = lock();
        state.devices.check(device)?;
        let handle = primary(&mut state, device);
        let left = match &mut state.contexts.get_mut(handle)?.retained {
            Some(retained) if *retained > 0 => {
                *retained -= 1;
                *retained
            }
            _ => return Err(INVALID_CONTEXT),
        };
        if left == 0 {
            state = queue::finish_context(state, handle);
            destroy(&mut state, handle);
        }
        Ok(())
    }

    /// Makes a context the thread's, for a while.
    fn cuCtxPushCurrent_v2(context: Handle<Context>) {
        if context.is_null() {
            return Err(INVALID_CONTEXT);
        }
        checked(&lock(), context)?;
        with_stack(|stack| stack.push(context));
        Ok(())
    }

    /// Makes the context before the thread's again.
    fn cuCtxPopCurrent_v2(context: Out<Handle<Context>>) {
        match with_stack(Vec::pop) {
            Some(popped) if !popped.is_null() => {
                context.put_if_wanted(popped);
                Ok(())
            }
            _ => Err(INVALID_CONTEXT),
        }
    }

    /// Replaces the thread's context.
    fn cuCtxSetCurrent(context: Handle<Context>) {
        checked(&lock(), context)?;
        with_stack(|stack| {
            stack.pop();
            if !context.is_null() {
                stack.push(context);
            }
        });
        Ok(())
    }

    /// The thread's context.
    fn cuCtxGetCurrent(context: Out<Handle<Context>>) {
        context.put(current().unwrap_or(Handle::NULL))
    }

    /// The device of the thread's context.
    fn cuCtxGetDevice(device: Out<c_int>) {
        let state = lock();
        let context = state.current()?;
        device.put(state.contexts.get(context)?.device)
    }

    /// The flags of the thread's context: none.
    fn cuCtxGetFlags(flags: Out<c_uint>) {
        lock().current()?;
        flags.put(0)
    }

    /// The range of streams' priorities, which mean nothing here.
    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) {
        lock().current()?;
        least.put_if_wanted(0);
        greatest.put_if_wanted(-5);
        Ok(())
    }

    /// Waits for everything in the thread's context.
    fn cuCtxSynchronize() {
        let mut state = lock();
        let context = state.current()?;
        super::graph::forbid_unless(&mut state, |_| false)?;
        queue::synchronize_context(state, context)
    }
}
