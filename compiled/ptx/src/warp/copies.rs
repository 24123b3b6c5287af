//! Asynchronous copies from global to shared memory.
//!
//! A copy is performed when its lane waits for it, the latest that is allowed; until then its target may be neither read nor written.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::{Step, Warp};
use crate::fault::{Kind, LaneTrouble, Trouble};
use crate::memory::{Memory, aligned};
use crate::operation::Address;
use crate::options;
use crate::registers::{LANES, Lanes, Register, lanes_of};

/// What an instruction copies, by lane.
#[derive(Debug)]
struct Copy {
    /// How many instructions of the warp copied before.
    number: u64,
    lanes: u32,
    /// The group that it is committed with.
    group: Lanes<u32>,
    to: Lanes<u64>,
    from: Lanes<u64>,
    read: Lanes<u32>,
    bytes: u32,
}

/// The copies that have not happened.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// How many groups each lane has committed.
    committed: Lanes<u32>,
    started: u64,
    waiting: VecDeque<Copy>,
}

impl Copies {
    /// Closes the lanes' groups.
    pub(super) fn commit(&mut self, active: u32) {
        for lane in lanes_of(active) {
            self.committed[lane] += 1;
        }
    }

    /// How many instructions of the warp have copied so far.
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// Performs the lanes' copies that were started before one of them.
    pub(super) fn perform_before(&mut self, number: u64, active: u32, memory: &mut Memory<'_>) -> Step {
        for copy in self.waiting.iter_mut().filter(|copy| copy.number < number) {
            for lane in lanes_of(copy.lanes & active) {
                copy.lanes &= !(1 << lane);
                copy.perform(lane, memory)?;
            }
        }
        self.waiting.retain(|copy| copy.lanes != 0);
        Ok(())
    }

    /// Performs the lanes' copies of all groups but the newest.
    pub(super) fn wait(&mut self, newest: u32, active: u32, memory: &mut Memory<'_>) -> Step {
        for copy in &mut self.waiting {
            for lane in lanes_of(copy.lanes & active) {
                if copy.group[lane] < self.committed[lane].saturating_sub(newest) {
                    copy.lanes &= !(1 << lane);
                    copy.perform(lane, memory)?;
                }
            }
        }
        self.waiting.retain(|copy| copy.lanes != 0);
        Ok(())
    }
}

impl Copy {
    fn perform(&self, lane: usize, memory: &mut Memory<'_>) -> Result<(), LaneTrouble> {
        let (read, bytes) = (self.read[lane], self.bytes);
        let of_copy = |trouble: Trouble| {
            let message = format!("an asynchronous copy of {}", trouble.message);
            Trouble::new(trouble.kind, message).on(lane)
        };
        let source = if read > 0 {
            Some(memory.read_global(self.from[lane], read).map_err(of_copy)?)
        } else {
            None
        };
        let target = memory.shared.end_copy(self.to[lane], bytes).map_err(of_copy)?;
        // SAFETY: `end_copy` has checked that so many bytes lie in shared memory.
        unsafe { target.write_bytes(0, bytes as usize) };
        let Some(source) = source else { return Ok(()) };
        for offset in (0..read as usize).step_by(4) {
            let (from, to) = (source.wrapping_add(offset), target.wrapping_add(offset));
            // SAFETY: `read_global` has checked that the bytes lie in an allocation that lives as long as the launch, at a multiple of 4 as
            // the whole source is; `end_copy` checked the target, which is not shorter and no other memory.
            unsafe {
                match read as usize - offset {
                    4.. => to
                        .cast::<u32>()
                        .write(AtomicU32::from_ptr(from.cast()).load(Ordering::Relaxed)),
                    rest => (0..rest).for_each(|byte| {
                        to.add(byte)
                            .write(AtomicU8::from_ptr(from.add(byte)).load(Ordering::Relaxed));
                    }),
                }
            }
        }
        Ok(())
    }
}

impl Warp<'_> {
    pub(super) fn copy_async(
        &mut self,
        [to, from]: [Address; 2],
        bytes: u32,
        read: Option<Register>,
        active: u32,
        memory: &mut Memory<'_>,
    ) -> Step {
        let number = self.copies.started;
        self.copies.started += 1;
        let copy = Copy {
            number,
            lanes: active,
            group: self.copies.committed,
            to: self.addresses(to),
            from: self.addresses(from),
            read: read.map_or([bytes; LANES], |register| *self.registers.get::<u32>(register)),
            bytes,
        };
        for lane in lanes_of(active) {
            let on = |trouble: Trouble| trouble.on(lane);
            let read = copy.read[lane];
            if read > bytes {
                let message = format!("a copy of {bytes} bytes that reads {read}");
                return Err(on(Trouble::new(Kind::Instruction, message)));
            }
            aligned(copy.to[lane], bytes).map_err(on)?;
            if read > 0 {
                // The source is aligned to the whole copy, though less of it may be read.
                aligned(copy.from[lane], bytes).map_err(on)?;
                memory.find_global(copy.from[lane], read).map_err(on)?;
            }
            memory.shared.begin_copy(copy.to[lane], bytes).map_err(on)?;
            if self.options.copies == options::Copies::Eager {
                copy.perform(lane, memory)?;
            }
        }
        if self.options.copies == options::Copies::Late {
            self.copies.waiting.push_back(copy);
        }
        Ok(())
    }
}
