//! Device memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use super::control;
use super::entry::{Out, entries};
use super::graph;
use super::queue::{self, Work};
use super::state::{Context, Handle, lock};
use super::status::{INVALID_VALUE, OUT_OF_MEMORY, Outcome};
use super::stream::{Stream, resolve, submit};
use crate::memory::{Allocation, Allocations, Elsewhere, Why};

/// Freed memory is kept for so long that nobody gets it again who would hide a use after its release.
const QUARANTINE: usize = 64 << 20;

/// No more than so many allocations are kept.
const QUARANTINED: usize = 1024;

/// All allocations.
#[derive(Debug, Default)]
pub struct Heap {
    live: BTreeMap<u64, (Arc<Allocation>, Handle<Context>)>,
    /// In the order of their release.
    freed: VecDeque<Arc<Allocation>>,
    freed_bytes: usize,
    /// What each context sees; forgotten when anything changes.
    seen: HashMap<Handle<Context>, Arc<Allocations>>,
}

impl Heap {
    /// How many allocations live.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Bytes that are allocated.
    pub fn bytes(&self) -> usize {
        self.live
            .values()
            .map(|(allocation, _)| allocation.bytes() as usize)
            .sum()
    }

    fn allocate(&mut self, context: Handle<Context>, bytes: usize) -> Outcome<u64> {
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        let allocation = Arc::new(Allocation::new(bytes).ok_or(OUT_OF_MEMORY)?);
        let start = allocation.start();
        self.live.insert(start, (allocation, context));
        self.seen.clear();
        Ok(start)
    }

    fn free(&mut self, address: u64) -> Outcome {
        let Some((allocation, _)) = self.live.remove(&address) else {
            let again = self.freed.iter().any(|allocation| allocation.start() == address);
            let what = if again { "was freed before" } else { "is no allocation" };
            control::tell(&format!("cuMemFree: {address:#x} {what}"));
            return Err(INVALID_VALUE);
        };
        self.quarantine(allocation);
        Ok(())
    }

    fn quarantine(&mut self, allocation: Arc<Allocation>) {
        self.freed_bytes += allocation.bytes() as usize;
        self.freed.push_back(allocation);
        while (self.freed_bytes > QUARANTINE || self.freed.len() > QUARANTINED)
            && let Some(oldest) = self.freed.pop_front()
        {
            self.freed_bytes -= oldest.bytes() as usize;
        }
        self.seen.clear();
    }

    /// Frees everything in a context.
    pub fn forget(&mut self, context: Handle<Context>) {
        let gone: Vec<u64> = self
            .live
            .iter()
            .filter(|(_, (_, owner))| *owner == context)
            .map(|(&start, _)| start)
            .collect();
        for start in gone {
            if let Some((allocation, _)) = self.live.remove(&start) {
                self.quarantine(allocation);
            }
        }
    }

    /// What a context sees now.
    pub fn seen_by(&mut self, context: Handle<Context>) -> Arc<Allocations> {
        let (live, freed) = (&self.live, &self.freed);
        let see = || {
            let mine = live
                .values()
                .filter(|(_, owner)| *owner == context)
                .map(|(allocation, _)| Arc::clone(allocation));
            let foreign = live
                .values()
                .filter(|(_, owner)| *owner != context)
                .map(|(allocation, _)| (allocation, Why::Foreign));
            let freed = freed.iter().map(|allocation| (allocation, Why::Freed));
            let elsewhere = (foreign.chain(freed)).map(|(allocation, why)| Elsewhere {
                start: allocation.start(),
                bytes: allocation.bytes(),
                why,
            });
            Arc::new(Allocations::new(mine.collect(), elsewhere.collect()))
        };
        Arc::clone(self.seen.entry(context).or_insert_with(see))
    }

    /// The bytes of a range, which must lie in one allocation.
    fn range(
        &mut self,
        context: Handle<Context>,
        address: u64,
        bytes: usize,
        what: &str,
    ) -> Outcome<(Arc<Allocation>, u64)> {
        let before = self.live.range(..=address).next_back();
        if let Some((start, (allocation, owner))) = before
            && allocation.holds(address, bytes as u64)
            && *owner == context
        {
            return Ok((Arc::clone(allocation), address - start));
        }
        if let Err(trouble) = self.seen_by(context).find(address, bytes as u64, &mut 0) {
            control::tell(&format!("{what}: {}", trouble.message));
        }
        Err(INVALID_VALUE)
    }

    /// Copies bytes to the device.
    pub fn write(&mut self, context: Handle<Context>, to: u64, bytes: &[u8]) -> Outcome {
        if bytes.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.range(context, to, bytes.len(), "a copy to the device")?;
        allocation.write(offset, bytes);
        Ok(())
    }

    /// Copies bytes from the device.
    pub fn read(&mut self, context: Handle<Context>, from: u64, bytes: &mut [u8]) -> Outcome {
        if bytes.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.range(context, from, bytes.len(), "a copy from the device")?;
        allocation.read(offset, bytes);
        Ok(())
    }

    /// Repeats a pattern over `bytes` bytes.
    pub fn fill(&mut self, context: Handle<Context>, to: u64, pattern: &[u8], bytes: usize) -> Outcome {
        if bytes == 0 {
            return Ok(());
        }
        let (allocation, offset) = self.range(context, to, bytes, "a fill")?;
        allocation.fill(offset, pattern, bytes);
        Ok(())
    }

    /// Copies bytes within the device.
    pub fn copy(&mut self, context: Handle<Context>, to: u64, from: u64, bytes: usize) -> Outcome {
        let mut copied = vec![0; bytes];
        self.read(context, from, &mut copied)?;
        self.write(context, to, &copied)
    }
}

/// The bytes that a caller gives.
///
/// # Safety
/// If `bytes` is not 0, `from` must be null or valid for reads of so many bytes.
unsafe fn given<'a>(from: *const c_void, bytes: usize) -> Outcome<&'a [u8]> {
    if bytes == 0 {
        return Ok(&[]);
    }
    if from.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(from.cast(), bytes) })
}

/// Room that a caller gives.
///
/// # Safety
/// If `bytes` is not 0, `to` must be null or valid for writes of so many bytes.
unsafe fn room<'a>(to: *mut c_void, bytes: usize) -> Outcome<&'a mut [u8]> {
    if bytes == 0 {
        return Ok(&mut []);
    }
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(to.cast(), bytes) })
}

/// Before a call that the program waits for, on the default stream.
fn synchronously() -> Outcome<(queue::Locked, Handle<Context>)> {
    let mut state = lock();
    let context = state.current()?;
    let stream = state.contexts.get(context)?.default_stream;
    graph::forbid_implicit(&mut state, stream)?;
    graph::forbid(&mut state)?;
    Ok((queue::finish_default(state, context)?, context))
}

fn written(to: u64, from: &[u8], stream: Handle<Stream>) -> Outcome {
    // The program may change its memory as soon as the call returns.
    let bytes = Arc::from(from);
    submit(stream, Work::Write { to, bytes })
}

fn filled(to: u64, pattern: &[u8], count: usize, stream: Handle<Stream>) -> Outcome {
    let bytes = pattern.len() * count;
    let pattern = Arc::from(pattern);
    submit(stream, Work::Fill { to, pattern, bytes })
}

/// Fills on the default stream, and waits, though a GPU would not.
fn filled_now(to: u64, pattern: &[u8], count: usize) -> Outcome {
    let (mut state, context) = synchronously()?;
    state.heap.fill(context, to, pattern, pattern.len() * count)
}

entries! {
    /// Allocates device memory.
    fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) {
        let mut state = lock();
        let context = state.current()?;
        graph::forbid(&mut state)?;
        address.put(state.heap.allocate(context, bytes)?)
    }

    /// Frees device memory, after everything that may use it.
    fn cuMemFree_v2(address: u64) {
        let mut state = lock();
        let context = state.current()?;
        graph::forbid(&mut state)?;
        if address == 0 {
            return Ok(());
        }
        let mut state = queue::finish_context(state, context);
        state.heap.free(address)
    }

    /// Copies to the device.
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) {
        // SAFETY: the caller gives memory of so many bytes.
        let from = unsafe { given(from, bytes)? };
        let (mut state, context) = synchronously()?;
        state.heap.write(context, to, from)
    }

    /// Queues a copy to the device.
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle<Stream>) {
        // SAFETY: the caller gives memory of so many bytes.
        written(to, unsafe { given(from, bytes)? }, stream)
    }

    /// Copies from the device.
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) {
        // SAFETY: the caller gives room for so many bytes.
        let to = unsafe { room(to, bytes)? };
        let (mut state, context) = synchronously()?;
        state.heap.read(context, from, to)
    }

    /// Copies from the device behind a stream's work; the program's memory is not pinned, so it waits.
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle<Stream>) {
        // SAFETY: the caller gives room for so many bytes.
        let to = unsafe { room(to, bytes)? };
        let mut state = lock();
        let stream = resolve(&state, stream)?;
        graph::forbid_implicit(&mut state, stream)?;
        graph::forbid_capturing(&mut state, stream)?;
        let mut state = queue::advance(state, stream, &|_| false);
        queue::take_error(&mut state, stream)?;
        let context = state.streams.get(stream)?.context;
        state.heap.read(context, from, to)
    }

    /// Copies within the device.
    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        let (mut state, context) = synchronously()?;
        state.heap.copy(context, to, from, bytes)
    }

    /// Queues a copy within the device.
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle<Stream>) {
        submit(stream, Work::Copy { to, from, bytes })
    }

    /// Fills device memory.
    fn cuMemsetD8_v2(to: u64, byte: u8, count: usize) {
        filled_now(to, &[byte], count)
    }

    /// Queues a fill.
    fn cuMemsetD8Async(to: u64, byte: u8, count: usize, stream: Handle<Stream>) {
        filled(to, &[byte], count, stream)
    }

    /// Fills device memory by words.
    fn cuMemsetD32_v2(to: u64, word: c_uint, count: usize) {
        filled_now(to, &word.to_le_bytes(), count)
    }

    /// Queues a fill by words.
    fn cuMemsetD32Async(to: u64, word: c_uint, count: usize, stream: Handle<Stream>) {
        filled(to, &word.to_le_bytes(), count, stream)
    }

    /// The allocation around an address.
    fn cuMemGetAddressRange_v2(start: Out<u64>, bytes: Out<usize>, address: u64) {
        let mut state = lock();
        let context = state.current()?;
        let (allocation, _) = state.heap.range(context, address, 1, "cuMemGetAddressRange")?;
        start.put_if_wanted(allocation.start());
        bytes.put_if_wanted(allocation.bytes() as usize);
        Ok(())
    }
}
