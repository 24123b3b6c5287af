//! The memory that a block sees, and what may be done with it.
//!
//! Every access is checked: it must lie in an allocation that lives, or in the launch's shared memory; its address must be a multiple of
//! its size; and what it reads must have been written. A GPU checks little of this.

mod global;
mod shared;

pub use global::{Allocation, Allocations, Elsewhere, Why};
pub use shared::Shared;

use std::collections::HashMap;

use crate::fault::{Kind, Trouble};
use crate::options::Unwritten;

/// Where shared memory appears among generic addresses: above all that a process has.
pub const SHARED_WINDOW: u64 = 1 << 56;

/// Where the parameters appear among them.
pub const PARAMETER_WINDOW: u64 = 1 << 57;

/// Memory as instructions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Of the device.
    Global,
    /// Of the block.
    Shared,
    /// What the launch was given.
    Parameters,
    /// Global or, in its window, shared.
    Generic,
}

/// What the phase of an mbarrier knows of copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    /// Bytes that were announced and have not come; less than zero: that have come and were not announced.
    pub bytes: i64,
    /// Copies that were started and have not come.
    pub copies: u32,
}

/// What a block sees.
#[derive(Debug)]
pub struct Memory<'l> {
    /// Global memory.
    pub allocations: &'l Allocations,
    /// The allocation of the last access: the next one is mostly to the same.
    pub recent: usize,
    /// The launch's parameters.
    pub parameters: &'l [u8],
    /// Shared memory.
    pub shared: Shared,
    /// Whether memory must be written before it is read.
    pub unwritten: Unwritten,
    /// How many phases of mbarriers are complete.
    pub phases: u64,
    /// The copies that phases wait for, by the mbarrier's place.
    pub transactions: HashMap<u64, Transactions>,
}

impl Memory<'_> {
    /// The place of `bytes` bytes that may be read; those of parameters may not be written.
    #[inline]
    pub fn read(&mut self, space: Space, address: u64, bytes: u32) -> Result<*mut u8, Trouble> {
        aligned(address, bytes)?;
        match space {
            Space::Global => self.read_global(address, bytes),
            Space::Shared => self.read_shared(address, bytes),
            Space::Generic if address >= PARAMETER_WINDOW => self.read_parameters(address - PARAMETER_WINDOW, bytes),
            Space::Generic => match address.checked_sub(SHARED_WINDOW) {
                Some(address) => self.read_shared(address, bytes),
                None => self.read_global(address, bytes),
            },
            Space::Parameters => self.read_parameters(address, bytes),
        }
    }

    /// The place of `bytes` bytes that will now be written.
    #[inline]
    pub fn write(&mut self, space: Space, address: u64, bytes: u32) -> Result<*mut u8, Trouble> {
        aligned(address, bytes)?;
        match space {
            Space::Global => self.write_global(address, bytes),
            Space::Shared => self.shared.write(address, bytes),
            Space::Generic => match address.checked_sub(SHARED_WINDOW) {
                Some(address) => self.shared.write(address, bytes),
                None => self.write_global(address, bytes),
            },
            Space::Parameters => Err(Trouble::new(Kind::Address, "a store to the parameters")),
        }
    }

    fn read_shared(&self, address: u64, bytes: u32) -> Result<*mut u8, Trouble> {
        self.shared.read(address, bytes, self.unwritten)
    }

    /// The place in global memory, whatever is in it.
    pub fn find_global(&mut self, address: u64, bytes: u32) -> Result<(&Allocation, u64), Trouble> {
        let allocation = self.allocations.find(address, u64::from(bytes), &mut self.recent)?;
        Ok((allocation, address - allocation.start()))
    }

    /// The place of `bytes` bytes in global memory, at any alignment.
    pub fn read_global(&mut self, address: u64, bytes: u32) -> Result<*mut u8, Trouble> {
        let strict = self.unwritten == Unwritten::Refused;
        let (allocation, offset) = self.find_global(address, bytes)?;
        if strict && !allocation.is_written(offset, u64::from(bytes)) {
            return Err(Trouble::new(
                Kind::Unwritten,
                format!("{bytes} bytes at byte {offset} of {allocation}, which nobody has written"),
            ));
        }
        Ok(allocation.place(offset))
    }

    fn write_global(&mut self, address: u64, bytes: u32) -> Result<*mut u8, Trouble> {
        let (allocation, offset) = self.find_global(address, bytes)?;
        allocation.mark_written(offset, u64::from(bytes));
        Ok(allocation.place(offset))
    }

    fn read_parameters(&self, address: u64, bytes: u32) -> Result<*mut u8, Trouble> {
        let start = usize::try_from(address).unwrap_or(usize::MAX);
        match start
            .checked_add(bytes as usize)
            .and_then(|end| self.parameters.get(start..end))
        {
            Some(found) => Ok(found.as_ptr().cast_mut()),
            None => {
                let size = self.parameters.len();
                let message = format!("{bytes} bytes at byte {address} of {size} bytes of parameters");
                Err(Trouble::new(Kind::Address, message))
            }
        }
    }
}

/// Checks that an address is a multiple of the access's size.
#[inline(always)]
pub fn aligned(address: u64, bytes: u32) -> Result<(), Trouble> {
    if address & (u64::from(bytes) - 1) == 0 {
        return Ok(());
    }
    Err(misaligned(address, bytes))
}

#[cold]
fn misaligned(address: u64, bytes: u32) -> Trouble {
    Trouble::new(
        Kind::Misaligned,
        format!("{bytes} bytes at {address:#x}, which is not a multiple of {bytes}"),
    )
}
