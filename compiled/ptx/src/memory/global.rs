//! Allocations of device memory.
//!
//! Device memory is the process's, and a device address is a pointer, so that a test's own code can look at it. Blocks run on several
//! threads and may race as they may on a GPU, so all access is by atomic operations.

use std::alloc::{Layout, alloc, dealloc};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::fault::{Kind, Trouble};

/// Every allocation starts at a multiple of it; no other lies as near to one.
const ALIGNMENT: usize = 256;

/// What new memory holds: NaN as a float of any width.
const UNWRITTEN: u8 = 0xff;

/// Memory of a device.
pub struct Allocation {
    /// In front of it lies one alignment that belongs to nobody, and so does behind it.
    guarded: *mut u8,
    layout: Layout,
    bytes: usize,
    /// Which bytes were written. Mostly all are, at once, and nothing has to be kept.
    written: OnceLock<Box<[AtomicU8]>>,
    all_written: AtomicBool,
}

// SAFETY: the memory is owned, and reached through atomic operations alone.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl fmt::Debug for Allocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self} at {:#x}", self.start())
    }
}

impl fmt::Display for Allocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an allocation of {} bytes", self.bytes)
    }
}

impl Allocation {
    /// Memory that nobody has written; none if there is not so much, or if it has no bytes.
    pub fn new(bytes: usize) -> Option<Self> {
        let guarded_bytes = bytes.checked_add(2 * ALIGNMENT).filter(|_| bytes > 0)?;
        let layout = Layout::from_size_align(guarded_bytes, ALIGNMENT).ok()?;
        // SAFETY: the layout is not empty.
        let guarded = unsafe { alloc(layout) };
        if guarded.is_null() {
            return None;
        }
        // SAFETY: the memory was just allocated with this size.
        unsafe { guarded.write_bytes(UNWRITTEN, guarded_bytes) };
        Some(Self {
            guarded,
            layout,
            bytes,
            written: OnceLock::new(),
            all_written: AtomicBool::new(false),
        })
    }

    /// The device address.
    pub fn start(&self) -> u64 {
        self.place(0).expose_provenance() as u64
    }

    /// The size.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether this range of addresses lies in it.
    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        let offset = address.wrapping_sub(self.start());
        offset <= self.bytes() && bytes <= self.bytes() - offset
    }

    /// The byte at an offset, which may not be past the end.
    #[inline]
    pub fn place(&self, offset: u64) -> *mut u8 {
        // SAFETY: the guarded memory is larger than the allocation by two alignments, and the offset is not larger than the allocation.
        unsafe { self.guarded.add(ALIGNMENT + offset as usize) }
    }

    /// Whether all of a range was written.
    #[inline]
    pub fn is_written(&self, offset: u64, bytes: u64) -> bool {
        if self.all_written.load(Ordering::Relaxed) {
            return true;
        }
        let range = offset as usize..(offset + bytes) as usize;
        let all = |written: &[AtomicU8]| written.iter().all(|byte| byte.load(Ordering::Relaxed) != 0);
        self.written.get().is_some_and(|written| all(&written[range]))
    }

    /// Remembers that a range was written.
    #[inline]
    pub fn mark_written(&self, offset: u64, bytes: u64) {
        if self.all_written.load(Ordering::Relaxed) {
            return;
        }
        if bytes == self.bytes() {
            self.all_written.store(true, Ordering::Relaxed);
            return;
        }
        let written = self
            .written
            .get_or_init(|| (0..self.bytes).map(|_| AtomicU8::new(0)).collect());
        let range = &written[offset as usize..(offset + bytes) as usize];
        range.iter().for_each(|byte| byte.store(1, Ordering::Relaxed));
    }
}

impl Allocation {
    /// Copies bytes into it. The range must lie in it.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.mark_written(offset, bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        if offset.is_multiple_of(8) {
            for (index, word) in words.iter().enumerate() {
                self.word(offset, index)
                    .store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            }
            self.write_bytes(offset + 8 * words.len() as u64, rest);
        } else {
            self.write_bytes(offset, bytes);
        }
    }

    fn write_bytes(&self, offset: u64, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            self.byte(offset + index as u64).store(byte, Ordering::Relaxed);
        }
    }

    /// Fills a range, which must lie in it, with a pattern of 1, 2, 4 or 8 bytes.
    pub fn fill(&self, offset: u64, pattern: &[u8], bytes: usize) {
        self.mark_written(offset, bytes as u64);
        let word: [u8; 8] = std::array::from_fn(|index| pattern[index % pattern.len()]);
        let words = if offset.is_multiple_of(8) { bytes / 8 } else { 0 };
        for index in 0..words {
            self.word(offset, index)
                .store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        for index in 8 * words..bytes {
            self.byte(offset + index as u64)
                .store(word[index % 8], Ordering::Relaxed);
        }
    }

    /// Copies bytes out of it. The range must lie in it.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        let (words, rest) = if offset.is_multiple_of(8) {
            bytes.as_chunks_mut::<8>()
        } else {
            (&mut [][..], bytes)
        };
        let after = offset + 8 * words.len() as u64;
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(offset, index).load(Ordering::Relaxed).to_ne_bytes();
        }
        for (index, byte) in rest.iter_mut().enumerate() {
            *byte = self.byte(after + index as u64).load(Ordering::Relaxed);
        }
    }

    /// The word of an index behind an offset, which is a multiple of eight.
    fn word(&self, offset: u64, index: usize) -> &AtomicU64 {
        let place = self.checked_place(offset + 8 * index as u64, 8);
        // SAFETY: the eight bytes lie in the allocation, at a multiple of eight as its start is, and are only reached atomically.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }

    fn byte(&self, offset: u64) -> &AtomicU8 {
        // SAFETY: the byte lies in the allocation, and is only reached atomically.
        unsafe { AtomicU8::from_ptr(self.checked_place(offset, 1)) }
    }

    fn checked_place(&self, offset: u64, bytes: u64) -> *mut u8 {
        assert!(offset + bytes <= self.bytes(), "byte {offset} of {self}");
        self.place(offset)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { dealloc(self.guarded, self.layout) };
    }
}

/// Why memory that was allocated may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was freed.
    Freed,
    /// It belongs to another context.
    Foreign,
}

/// Memory that may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its device address.
    pub start: u64,
    /// Its size.
    pub bytes: u64,
    /// Why not.
    pub why: Why,
}

/// The allocations of a context at some moment.
#[derive(Clone, Debug, Default)]
pub struct Allocations {
    /// In ascending order.
    live: Vec<Arc<Allocation>>,
    /// Only looked at to tell what went wrong.
    elsewhere: Vec<Elsewhere>,
}

impl Allocations {
    /// Of these that may be used, in ascending order, and those that may not.
    pub fn new(live: Vec<Arc<Allocation>>, elsewhere: Vec<Elsewhere>) -> Self {
        Self { live, elsewhere }
    }

    /// The allocation that holds a range of addresses. `recent` is the index of one that is tried first.
    #[inline]
    pub fn find(&self, address: u64, bytes: u64, recent: &mut usize) -> Result<&Allocation, Trouble> {
        if let Some(allocation) = self.live.get(*recent)
            && allocation.holds(address, bytes)
        {
            return Ok(allocation);
        }
        let after = self.live.partition_point(|allocation| allocation.start() <= address);
        match after.checked_sub(1).map(|index| &self.live[index]) {
            Some(allocation) if allocation.holds(address, bytes) => {
                *recent = after - 1;
                Ok(allocation)
            }
            before => Err(self.outside(address, bytes, before.map(Arc::as_ref))),
        }
    }

    #[cold]
    fn outside(&self, address: u64, bytes: u64, before: Option<&Allocation>) -> Trouble {
        let around = |range: &&Elsewhere| address.wrapping_sub(range.start) < range.bytes;
        let range = self.elsewhere.iter().find(around);
        let following = self.live.iter().find(|allocation| allocation.start() > address);
        let message = match (range, before, following) {
            (Some(range), ..) => {
                let why = match range.why {
                    Why::Freed => "that was freed",
                    Why::Foreign => "of another context",
                };
                let (offset, size) = (address - range.start, range.bytes);
                format!("{bytes} bytes at byte {offset} of an allocation of {size} bytes {why}")
            }
            (None, Some(before), following) if near(address, before, following) => {
                format!("{bytes} bytes at byte {} of {before}", address - before.start())
            }
            (None, _, Some(following)) if following.start() - address < 1 << 20 => {
                format!(
                    "{bytes} bytes at {} bytes in front of {following}",
                    following.start() - address
                )
            }
            _ => format!("{bytes} bytes at {address:#x}, where no memory was allocated"),
        };
        Trouble::new(Kind::Address, message)
    }
}

/// Whether an address is nearer to the end of one allocation than to the start of the next, and not far from it.
fn near(address: u64, before: &Allocation, following: Option<&Arc<Allocation>>) -> bool {
    let past = address.saturating_sub(before.start() + before.bytes());
    past < 1 << 20 && following.is_none_or(|following| past <= following.start() - address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(allocations: &Allocations, address: u64) -> String {
        allocations.find(address, 4, &mut 0).unwrap_err().message
    }

    #[test]
    fn accesses_are_told_by_the_allocation_they_miss() {
        let allocation = Arc::new(Allocation::new(100).unwrap());
        let start = allocation.start();
        let freed = Elsewhere {
            start: start + (1 << 30),
            bytes: 64,
            why: Why::Freed,
        };
        let allocations = Allocations::new(vec![allocation], vec![freed]);
        assert!(allocations.find(start + 96, 4, &mut 7).is_ok());
        assert_eq!(
            message(&allocations, start + 97),
            "4 bytes at byte 97 of an allocation of 100 bytes"
        );
        assert_eq!(
            message(&allocations, start + 100),
            "4 bytes at byte 100 of an allocation of 100 bytes"
        );
        assert_eq!(
            message(&allocations, start - 8),
            "4 bytes at 8 bytes in front of an allocation of 100 bytes"
        );
        let expected = "4 bytes at byte 60 of an allocation of 64 bytes that was freed";
        assert_eq!(message(&allocations, freed.start + 60), expected);
        assert_eq!(
            message(&allocations, 0),
            "4 bytes at 0x0, where no memory was allocated"
        );
    }

    #[test]
    fn what_was_written_is_known_by_the_byte() {
        let allocation = Allocation::new(16).unwrap();
        assert!(!allocation.is_written(0, 4));
        allocation.mark_written(4, 4);
        assert!(allocation.is_written(4, 4) && !allocation.is_written(4, 5) && !allocation.is_written(3, 2));
        allocation.mark_written(0, 16);
        assert!(allocation.is_written(0, 16));
        assert!(Allocation::new(0).is_none());
    }
}
