//! Shared memory of a block.

use std::cell::UnsafeCell;
use std::ops::Range;

use crate::fault::{Kind, Trouble};
use crate::options::Unwritten;

/// What is known of a byte.
const UNWRITTEN: u8 = 0;
const WRITTEN: u8 = 1;
/// An asynchronous copy will write it.
const IN_FLIGHT: u8 = 2;

/// What bytes hold while a copy is in flight, and before they are written: NaN as a float of any width.
const POISON: u8 = 0xff;

/// Shared memory: the static variables, then what the launch asked for.
#[derive(Debug, Default)]
pub struct Shared {
    /// Words as large as the largest access; cells, because places in them are handed out while the memory is shared.
    words: Vec<UnsafeCell<u128>>,
    state: Vec<u8>,
}

impl Shared {
    /// Becomes the memory of another block, which nobody has written.
    pub fn reset(&mut self, bytes: u32) {
        let bytes = bytes as usize;
        self.words.clear();
        self.words
            .resize_with(bytes.div_ceil(size_of::<u128>()), || UnsafeCell::new(u128::MAX));
        self.state.clear();
        self.state.resize(bytes, UNWRITTEN);
    }

    #[inline]
    fn range(&self, address: u64, bytes: u32) -> Result<Range<usize>, Trouble> {
        let size = self.state.len() as u64;
        if address >= size || u64::from(bytes) > size - address {
            return Err(outside(address, bytes, size));
        }
        Ok(address as usize..address as usize + bytes as usize)
    }

    #[inline]
    fn place(&self, offset: usize) -> *mut u8 {
        UnsafeCell::raw_get(self.words.as_ptr())
            .cast::<u8>()
            .wrapping_add(offset)
    }

    /// The place of bytes that may be read.
    #[inline]
    pub fn read(&self, address: u64, bytes: u32, unwritten: Unwritten) -> Result<*mut u8, Trouble> {
        let range = self.range(address, bytes)?;
        if !are(&self.state[range.clone()], WRITTEN) {
            self.readable(range.clone(), unwritten)?;
        }
        Ok(self.place(range.start))
    }

    #[cold]
    fn readable(&self, range: Range<usize>, unwritten: Unwritten) -> Result<(), Trouble> {
        let (start, bytes) = (range.start, range.len());
        let states = &self.state[range];
        if states.contains(&IN_FLIGHT) {
            let message =
                format!("{bytes} bytes at byte {start} of shared memory, which an asynchronous copy has yet to bring");
            return Err(Trouble::new(Kind::InFlight, message));
        }
        match (unwritten, states.iter().position(|&state| state == UNWRITTEN)) {
            (Unwritten::Refused, Some(first)) => {
                let at = start + first;
                let message =
                    format!("{bytes} bytes at byte {start} of shared memory, where nobody has written byte {at}");
                Err(Trouble::new(Kind::Unwritten, message))
            }
            _ => Ok(()),
        }
    }

    /// The place of bytes that will now be written.
    #[inline]
    pub fn write(&mut self, address: u64, bytes: u32) -> Result<*mut u8, Trouble> {
        let range = self.range(address, bytes)?;
        let start = range.start;
        let states = &mut self.state[range];
        if states.contains(&IN_FLIGHT) {
            return Err(in_flight(start, bytes));
        }
        states.fill(WRITTEN);
        Ok(self.place(start))
    }

    /// Marks bytes that an asynchronous copy will write.
    pub fn begin_copy(&mut self, address: u64, bytes: u32) -> Result<(), Trouble> {
        let range = self.range(address, bytes)?;
        let start = range.start;
        let states = &mut self.state[range.clone()];
        if states.contains(&IN_FLIGHT) {
            return Err(in_flight(start, bytes));
        }
        states.fill(IN_FLIGHT);
        for offset in range {
            // SAFETY: the offset is within the memory, which is borrowed uniquely.
            unsafe { self.place(offset).write(POISON) };
        }
        Ok(())
    }

    /// The place of bytes that an asynchronous copy writes now.
    pub fn end_copy(&mut self, address: u64, bytes: u32) -> Result<*mut u8, Trouble> {
        let range = self.range(address, bytes)?;
        let start = range.start;
        self.state[range].fill(WRITTEN);
        Ok(self.place(start))
    }
}

/// Whether all bytes have a state.
#[inline(always)]
fn are(states: &[u8], state: u8) -> bool {
    let all = |states: &[u8]| states.iter().all(|&found| found == state);
    // Sizes of accesses, compared as one word.
    match states.len() {
        4 => states == [state; 4],
        8 => states == [state; 8],
        16 => states == [state; 16],
        _ => all(states),
    }
}

#[cold]
fn outside(address: u64, bytes: u32, size: u64) -> Trouble {
    Trouble::new(
        Kind::Address,
        format!("{bytes} bytes at byte {address} of {size} bytes of shared memory"),
    )
}

#[cold]
fn in_flight(start: usize, bytes: u32) -> Trouble {
    let message =
        format!("writes {bytes} bytes at byte {start} of shared memory, which an asynchronous copy is writing");
    Trouble::new(Kind::InFlight, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_must_be_written_before_they_are_read() {
        let mut shared = Shared::default();
        shared.reset(64);
        let kind = |result: Result<*mut u8, Trouble>| result.unwrap_err().kind;
        assert_eq!(kind(shared.read(0, 4, Unwritten::Refused)), Kind::Unwritten);
        assert!(shared.read(0, 4, Unwritten::Allowed).is_ok());
        shared.write(0, 2).unwrap();
        let error = shared.read(0, 4, Unwritten::Refused).unwrap_err();
        assert_eq!(
            error.message,
            "4 bytes at byte 0 of shared memory, where nobody has written byte 2"
        );
        shared.write(2, 2).unwrap();
        assert!(shared.read(0, 4, Unwritten::Refused).is_ok());
        assert_eq!(kind(shared.read(62, 4, Unwritten::Allowed)), Kind::Address);
        assert_eq!(kind(shared.read(u64::MAX, 4, Unwritten::Allowed)), Kind::Address);
    }

    #[test]
    fn what_is_in_flight_may_not_be_touched() {
        let mut shared = Shared::default();
        shared.reset(64);
        shared.begin_copy(16, 16).unwrap();
        assert_eq!(shared.read(16, 4, Unwritten::Allowed).unwrap_err().kind, Kind::InFlight);
        assert_eq!(shared.write(28, 4).unwrap_err().kind, Kind::InFlight);
        assert_eq!(shared.begin_copy(16, 16).unwrap_err().kind, Kind::InFlight);
        shared.end_copy(16, 16).unwrap();
        assert!(shared.read(16, 16, Unwritten::Refused).is_ok());
    }
}
