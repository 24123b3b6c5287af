//! Copies that barriers in shared memory count.
//!
//! A copy happens at once or as late as it may: when every warp of the block waits. Until then its target may be neither read nor written.

use std::sync::atomic::{AtomicU8, Ordering};

use super::mbarrier::{announce, brought, started};
use super::{Step, Warp};
use crate::fault::{Fault, Kind, LaneTrouble, Trouble};
use crate::memory::{Memory, Space};
use crate::operation::{Address, BulkCopy, BulkSource};
use crate::options;
use crate::registers::lanes_of;
use crate::tensor_map::{ALIGNMENT, MOST_AXES, TensorMap, VECTOR, WORDS};

/// What the target of a box is a multiple of.
const BOX_ALIGNMENT: u64 = 128;

/// What a lane copies.
#[derive(Debug)]
pub(super) struct Started {
    /// The instruction.
    at: usize,
    lane: usize,
    map: TensorMap,
    first: [i32; MOST_AXES],
    target: u64,
    barrier: u64,
}

impl Started {
    fn bytes(&self) -> u32 {
        self.map.box_bytes().1 as u32
    }

    fn perform(&self, memory: &mut Memory<'_>) -> Result<(), Trouble> {
        let (row, bytes) = self.map.box_bytes();
        let target = memory.shared.end_copy(self.target, bytes as u32)?;
        // SAFETY: `end_copy` has checked that so many bytes lie in shared memory.
        unsafe { target.write_bytes(0, bytes as usize) };
        for index in 0..bytes / row {
            let Some((from, skipped, count)) = self.map.row(&self.first, index) else {
                continue;
            };
            let source = memory.read_global(from, count as u32).map_err(|trouble| {
                let message = format!("a copy of a box, of {}", trouble.message);
                Trouble::new(trouble.kind, message)
            })?;
            for byte in 0..count {
                let place = self.map.place(self.target + index * row + skipped + byte) - self.target;
                // SAFETY: `read_global` has checked that `count` bytes lie in an allocation that lives as long as the launch. A permuted place
                // stays within the vectors of its row, which `end_copy` has checked.
                unsafe {
                    let value = AtomicU8::from_ptr(source.add(byte as usize)).load(Ordering::Relaxed);
                    target.add(place as usize).write(value);
                }
            }
        }
        brought(memory, self.barrier, bytes as u32)
    }
}

/// The map at a generic address.
fn map_at(memory: &mut Memory<'_>, address: u64) -> Result<TensorMap, Trouble> {
    if !address.is_multiple_of(ALIGNMENT) {
        let message = format!("a tensor map at {address:#x}, which is not a multiple of {ALIGNMENT}");
        return Err(Trouble::new(Kind::Misaligned, message));
    }
    let mut words = [0; WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        let place = memory
            .read(Space::Generic, address + 8 * index as u64, 8)?
            .cast::<u64>();
        // SAFETY: `read` has checked that eight bytes may be read there; parameters may lie at any address.
        *word = unsafe { place.read_unaligned() };
    }
    TensorMap::of(&words)
}

fn check_alignment(what: &str, address: u64, alignment: u64) -> Result<(), Trouble> {
    if address.is_multiple_of(alignment) {
        return Ok(());
    }
    let message = format!("{what} {address:#x}, which is not a multiple of {alignment}");
    Err(Trouble::new(Kind::Misaligned, message))
}

impl Warp<'_> {
    pub(super) fn start_bulk_copy(&mut self, copy: &BulkCopy, active: u32, memory: &mut Memory<'_>) -> Step {
        for lane in lanes_of(active) {
            let started = self.describe(copy, lane, memory).map_err(|trouble| trouble.on(lane))?;
            let begun = memory.shared.begin_copy(started.target, started.bytes());
            begun.map_err(|trouble| trouble.on(lane))?;
            self.bulk_copies.push_back(started);
            if self.options.copies == options::Copies::Eager {
                self.take_bulk_copy(memory)?;
            }
        }
        Ok(())
    }

    fn describe(&self, copy: &BulkCopy, lane: usize, memory: &mut Memory<'_>) -> Result<Started, Trouble> {
        let target = self.addresses(copy.target)[lane];
        let barrier = self.addresses(copy.barrier)[lane];
        let mut first = [0; MOST_AXES];
        let map = match &copy.source {
            BulkSource::Box { map, indices } => {
                check_alignment("the target of a box", target, BOX_ALIGNMENT)?;
                let map = map_at(memory, self.addresses(*map)[lane])?;
                if map.axes != indices.len() {
                    let message = format!("{} indices, but the map has {} axes", indices.len(), map.axes);
                    return Err(Trouble::new(Kind::Instruction, message));
                }
                for (index, register) in first.iter_mut().zip(indices) {
                    *index = self.registers.get::<u32>(*register)[lane].cast_signed();
                }
                map
            }
            BulkSource::Bytes { from, bytes } => {
                let address = self.addresses(*from)[lane];
                let bytes = u64::from(self.registers.get::<u32>(*bytes)[lane]);
                check_alignment("the target of a copy,", target, VECTOR)?;
                check_alignment("the source of a copy,", address, VECTOR)?;
                check_alignment("a number of bytes,", bytes, VECTOR)?;
                if bytes == 0 {
                    return Err(Trouble::new(Kind::Instruction, "a copy of no bytes"));
                }
                TensorMap {
                    axes: 1,
                    address,
                    element: 1,
                    sizes: [bytes, 0, 0, 0, 0],
                    boxes: [bytes, 0, 0, 0, 0],
                    permuted: 1,
                    ..TensorMap::default()
                }
            }
        };
        started(memory, barrier)?;
        Ok(Started {
            at: self.current.at,
            lane,
            map,
            first,
            target,
            barrier,
        })
    }

    pub(super) fn announce_bytes(
        &mut self,
        place: Address,
        bytes: crate::registers::Register,
        active: u32,
        memory: &mut Memory<'_>,
    ) -> Step {
        let places = self.addresses(place);
        for lane in lanes_of(active) {
            let bytes = self.registers.get::<u32>(bytes)[lane];
            announce(memory, places[lane], bytes).map_err(|trouble| trouble.on(lane))?;
        }
        Ok(())
    }

    pub(super) fn prefetch_map(&mut self, map: Address, active: u32, memory: &mut Memory<'_>) -> Step {
        let addresses = self.addresses(map);
        for lane in lanes_of(active) {
            map_at(memory, addresses[lane]).map_err(|trouble| trouble.on(lane))?;
        }
        Ok(())
    }

    /// Performs the warp's next copy. Whether there was one.
    pub(super) fn perform_bulk_copy(&mut self, memory: &mut Memory<'_>) -> Result<bool, Fault> {
        let Some(at) = self.bulk_copies.front().map(|started| started.at) else {
            return Ok(false);
        };
        let taken = self.take_bulk_copy(memory);
        taken.map_err(|lane| Fault { at: Some(at), lane })?;
        Ok(true)
    }

    fn take_bulk_copy(&mut self, memory: &mut Memory<'_>) -> Result<(), LaneTrouble> {
        match self.bulk_copies.pop_front() {
            Some(started) => started.perform(memory).map_err(|trouble| trouble.on(started.lane)),
            None => Ok(()),
        }
    }

    /// A copy that nobody has waited for when the block ends.
    pub fn unfinished_copy(&self) -> Option<Fault> {
        let started = self.bulk_copies.front()?;
        let trouble = Trouble::new(Kind::InFlight, "the block ends before the copy is there");
        let lane = trouble.on(started.lane);
        Some(Fault {
            at: Some(started.at),
            lane,
        })
    }
}
