//! Host memory far larger than the machine has, of which only touched pages are there.

use std::io;
use std::ptr::{self, NonNull};

/// A reservation of zeroed host memory.
#[derive(Debug)]
pub struct Reserved {
    first: NonNull<u16>,
    units: usize,
}

impl Reserved {
    /// Room for `units` numbers of 16 bits.
    ///
    /// # Panics
    /// Where the system has no addresses for them, or promises no more memory than it has.
    pub fn new(units: usize) -> Reserved {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: a new mapping at an address that the system chooses.
        let address = unsafe { libc::mmap(ptr::null_mut(), 2 * units, access, kind, -1, 0) };
        assert!(
            address != libc::MAP_FAILED,
            "reserving {units} × 2 bytes: {}",
            io::Error::last_os_error()
        );
        let first = NonNull::new(address.cast()).expect("a mapping is not at address 0");
        Reserved { first, units }
    }

    pub fn address(&self) -> u64 {
        self.first.as_ptr().expose_provenance() as u64
    }

    /// Overwrites the numbers from `first` on.
    pub fn write(&mut self, first: usize, values: &[u16]) {
        assert!(first + values.len() <= self.units);
        // SAFETY: that many numbers lie in the mapping from there on, and `values` lies elsewhere.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), self.first.as_ptr().add(first), values.len()) }
    }

    /// A copy of the `count` numbers from `first` on.
    pub fn read(&self, first: usize, count: usize) -> Vec<u16> {
        assert!(first + count <= self.units);
        let mut values = vec![0; count];
        // SAFETY: that many numbers lie in the mapping from there on, and `values` lies elsewhere.
        unsafe { ptr::copy_nonoverlapping(self.first.as_ptr().add(first), values.as_mut_ptr(), count) }
        values
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own. That it cannot be given back would only cost addresses.
        unsafe { libc::munmap(self.first.as_ptr().cast(), 2 * self.units) };
    }
}
