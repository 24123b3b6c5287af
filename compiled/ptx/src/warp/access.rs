//! Loads, stores and atomic operations.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::{Step, Warp};
use crate::memory::{Memory, Space};
use crate::operation::{Address, Atomic, Load, Store, Update, Value};
use crate::registers::{LANES, Lanes, lanes_of};

impl Warp<'_> {
    /// Where each lane's access goes.
    #[inline]
    pub(super) fn addresses(&self, address: Address) -> Lanes<u64> {
        let mut addresses = [address.offset as u64; LANES];
        match address.base {
            None => {}
            Some(Value { register, wide: true }) => {
                let base = self.registers.get::<u64>(register);
                for lane in 0..LANES {
                    addresses[lane] = base[lane].wrapping_add_signed(address.offset);
                }
            }
            // In 32 bits, as shared memory is addressed.
            Some(Value { register, wide: false }) => {
                let base = self.registers.get::<u32>(register);
                for lane in 0..LANES {
                    addresses[lane] = u64::from(base[lane].wrapping_add(address.offset as u32));
                }
            }
        }
        addresses
    }

    pub(super) fn load(&mut self, load: &Load, active: u32, memory: &mut Memory<'_>) -> Step {
        let addresses = self.addresses(load.address);
        let bytes = load.bytes * load.to.len() as u32;
        let mut places = [std::ptr::null_mut(); LANES];
        for lane in lanes_of(active) {
            places[lane] = memory
                .read(load.space, addresses[lane], bytes)
                .map_err(|trouble| trouble.on(lane))?;
        }
        let atomic = load.space != Space::Parameters;
        for (index, to) in load.to.iter().enumerate() {
            let Some(to) = to else { continue };
            let offset = index * load.bytes as usize;
            if !to.wide && load.bytes == 4 && atomic {
                let lanes = self.registers.get_mut::<u32>(to.register);
                for lane in lanes_of(active) {
                    let place = places[lane].wrapping_add(offset).cast::<u32>();
                    // SAFETY: `read` has checked that the element lies in memory that lives as long as the launch, at a multiple of its size.
                    lanes[lane] = unsafe { AtomicU32::from_ptr(place) }.load(Ordering::Relaxed);
                }
                continue;
            }
            for lane in lanes_of(active) {
                let place = places[lane].wrapping_add(offset);
                // SAFETY: as above; parameters are read without an atomic operation.
                let value = unsafe {
                    if atomic {
                        read(place, load.bytes)
                    } else {
                        read_plainly(place, load.bytes)
                    }
                };
                let value = if load.signed {
                    sign_extended(value, load.bytes)
                } else {
                    value
                };
                if to.wide {
                    self.registers.get_mut::<u64>(to.register)[lane] = value;
                } else {
                    self.registers.get_mut::<u32>(to.register)[lane] = value as u32;
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(&mut self, store: &Store, active: u32, memory: &mut Memory<'_>) -> Step {
        let addresses = self.addresses(store.address);
        let bytes = store.bytes * store.from.len() as u32;
        let mut places = [std::ptr::null_mut(); LANES];
        for lane in lanes_of(active) {
            places[lane] = memory
                .write(store.space, addresses[lane], bytes)
                .map_err(|trouble| trouble.on(lane))?;
        }
        for (index, from) in store.from.iter().enumerate() {
            let offset = index * store.bytes as usize;
            if !from.wide && store.bytes == 4 {
                let lanes = self.registers.get::<u32>(from.register);
                for lane in lanes_of(active) {
                    let place = places[lane].wrapping_add(offset).cast::<u32>();
                    // SAFETY: `write` has checked that the element lies in memory that lives as long as the launch, at a multiple of its size.
                    unsafe { AtomicU32::from_ptr(place) }.store(lanes[lane], Ordering::Relaxed);
                }
                continue;
            }
            let values = self.widened(*from);
            for lane in lanes_of(active) {
                // SAFETY: as above.
                unsafe { write(places[lane].wrapping_add(offset), store.bytes, values[lane]) };
            }
        }
        Ok(())
    }

    pub(super) fn update(&mut self, update: &Update, active: u32, memory: &mut Memory<'_>) -> Step {
        let addresses = self.addresses(update.address);
        let operand = |register| {
            let wide = update.wide;
            self.widened(Value { register, wide })
        };
        let (from, new) = (operand(update.from), update.new.map_or([0; LANES], operand));
        let bytes = if update.wide { 8 } else { 4 };
        for lane in lanes_of(active) {
            let on = |trouble: crate::fault::Trouble| trouble.on(lane);
            memory.read(update.space, addresses[lane], bytes).map_err(on)?;
            let place = memory.write(update.space, addresses[lane], bytes).map_err(on)?;
            let change = |old| updated(update.kind, update.wide, old, from[lane], new[lane]);
            let old = if update.wide {
                // SAFETY: `write` has checked that the eight bytes lie in memory that lives as long as the launch, at a multiple of eight.
                let word = unsafe { AtomicU64::from_ptr(place.cast()) };
                word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(change(old)))
                    .unwrap_or_else(|old| old)
            } else {
                // SAFETY: as above, of four bytes.
                let word = unsafe { AtomicU32::from_ptr(place.cast()) };
                let change = |old: u32| Some(change(u64::from(old)) as u32);
                u64::from(
                    word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
                        .unwrap_or_else(|old| old),
                )
            };
            match update.to {
                Some(to) if update.wide => self.registers.get_mut::<u64>(to)[lane] = old,
                Some(to) => self.registers.get_mut::<u32>(to)[lane] = old as u32,
                None => {}
            }
        }
        Ok(())
    }
}

/// What an atomic operation leaves in memory; values of 32 bits are in the lower half.
pub(super) fn updated(kind: Atomic, wide: bool, old: u64, value: u64, new: u64) -> u64 {
    let signed = |bits: u64| if wide { bits as i64 } else { i64::from(bits as i32) };
    match kind {
        Atomic::Add => old.wrapping_add(value),
        Atomic::AddFloat => u64::from((f32::from_bits(old as u32) + f32::from_bits(value as u32)).to_bits()),
        Atomic::And => old & value,
        Atomic::Or => old | value,
        Atomic::Xor => old ^ value,
        Atomic::Min => old.min(value),
        Atomic::Max => old.max(value),
        Atomic::SignedMin => signed(old).min(signed(value)) as u64,
        Atomic::SignedMax => signed(old).max(signed(value)) as u64,
        Atomic::Exchange => value,
        Atomic::CompareAndSwap => {
            if old == value {
                new
            } else {
                old
            }
        }
        Atomic::Increment => {
            if old >= value {
                0
            } else {
                old + 1
            }
        }
        Atomic::Decrement => {
            if old == 0 || old > value {
                value
            } else {
                old - 1
            }
        }
    }
}

fn sign_extended(value: u64, bytes: u32) -> u64 {
    let unused = 64 - 8 * bytes;
    ((value << unused) as i64 >> unused) as u64
}

/// Reads an element.
///
/// # Safety
/// The place must be that of so many bytes, at a multiple of them, which nobody frees or writes but by atomic operations.
unsafe fn read(place: *mut u8, bytes: u32) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match bytes {
            1 => u64::from(AtomicU8::from_ptr(place).load(Ordering::Relaxed)),
            2 => u64::from(AtomicU16::from_ptr(place.cast()).load(Ordering::Relaxed)),
            4 => u64::from(AtomicU32::from_ptr(place.cast()).load(Ordering::Relaxed)),
            _ => AtomicU64::from_ptr(place.cast()).load(Ordering::Relaxed),
        }
    }
}

/// Reads an element that nobody writes.
///
/// # Safety
/// The place must be that of so many bytes.
unsafe fn read_plainly(place: *const u8, bytes: u32) -> u64 {
    let mut value = [0; 8];
    // SAFETY: the caller's promise; elements have at most eight bytes.
    unsafe { place.copy_to_nonoverlapping(value.as_mut_ptr(), bytes as usize) };
    u64::from_le_bytes(value)
}

/// Writes an element.
///
/// # Safety
/// As for [`read`].
unsafe fn write(place: *mut u8, bytes: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match bytes {
            1 => AtomicU8::from_ptr(place).store(value as u8, Ordering::Relaxed),
            2 => AtomicU16::from_ptr(place.cast()).store(value as u16, Ordering::Relaxed),
            4 => AtomicU32::from_ptr(place.cast()).store(value as u32, Ordering::Relaxed),
            _ => AtomicU64::from_ptr(place.cast()).store(value, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_operations_follow_their_signs_and_bounds() {
        let minus_one = u64::from(u32::MAX);
        assert_eq!(updated(Atomic::Max, false, minus_one, 1, 0), minus_one);
        assert_eq!(updated(Atomic::SignedMax, false, minus_one, 1, 0), 1);
        assert_eq!(updated(Atomic::SignedMin, true, u64::MAX, 1, 0), u64::MAX);
        assert_eq!(updated(Atomic::Increment, false, 3, 3, 0), 0);
        assert_eq!(updated(Atomic::Increment, false, 2, 3, 0), 3);
        assert_eq!(updated(Atomic::Decrement, false, 0, 3, 0), 3);
        assert_eq!(updated(Atomic::CompareAndSwap, false, 5, 5, 9), 9);
        assert_eq!(updated(Atomic::CompareAndSwap, false, 5, 4, 9), 5);
        assert_eq!(sign_extended(0x80, 1) as i64, -128);
        assert_eq!(sign_extended(0x7f, 1), 127);
    }
}
