//! What an instruction does to the registers.

use super::{Step, Warp};
use crate::alu::{Site, compare, compute, select};
use crate::fault::{Kind, Trouble};
use crate::memory::Memory;
use crate::operation::{Compare, Operation, Special, Value};
use crate::registers::{ALL, LANES, Lanes, Register};

impl Warp<'_> {
    /// Executes an instruction that neither branches nor waits.
    #[inline]
    pub(super) fn execute(&mut self, operation: &Operation, active: u32, memory: &mut Memory<'_>) -> Step {
        // Lanes that have left may be overwritten, and whole registers are written faster.
        let written = if active == self.alive { ALL } else { active };
        match operation {
            Operation::Compute { function, to, from } => {
                let site = Site {
                    registers: &mut self.registers,
                    to: *to,
                    from: *from,
                    active: written,
                };
                compute(*function, self.options.functions, site);
                Ok(())
            }
            Operation::Compare(comparison) => {
                self.compare(comparison, active);
                Ok(())
            }
            Operation::Logic { function, to, from } => {
                let [first, second] = from.map(|predicate| self.registers.predicate(predicate));
                self.registers.set_predicate(*to, active, function.apply(first, second));
                Ok(())
            }
            Operation::Select { to, from, by } => {
                let mask = self.registers.predicate(*by);
                if to.wide {
                    let value = select(mask, from.map(|register| self.registers.get::<u64>(register)));
                    self.registers.set(to.register, written, &value);
                } else {
                    let value = select(mask, from.map(|register| self.registers.get::<u32>(register)));
                    self.registers.set(to.register, written, &value);
                }
                Ok(())
            }
            Operation::Special { to, which } => {
                self.special(*to, *which, written);
                Ok(())
            }
            Operation::Pack { to, from, bits } => {
                self.pack(*to, from, *bits, written);
                Ok(())
            }
            Operation::Unpack { to, from, bits } => {
                self.unpack(to, *from, *bits, written);
                Ok(())
            }
            Operation::Load(load) => self.load(load, active, memory),
            Operation::Store(store) => self.store(store, active, memory),
            Operation::Atomic(update) => self.update(update, active, memory),
            Operation::Fence => {
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                Ok(())
            }
            Operation::WarpSync { .. } => Ok(()),
            Operation::Vote { kind, from, .. } => {
                self.vote(*kind, *from, active);
                Ok(())
            }
            Operation::ActiveMask(to) => {
                self.registers.set(*to, active, &[active; LANES]);
                Ok(())
            }
            Operation::Shuffle(exchange) => self.shuffle(exchange, active),
            Operation::Reduce { kind, to, from, .. } => {
                self.reduce(*kind, *to, *from, active);
                Ok(())
            }
            Operation::CopyAsync { to, from, bytes, read } => {
                self.copy_async([*to, *from], *bytes, *read, active, memory)
            }
            Operation::CopyCommit => {
                self.copies.commit(active);
                Ok(())
            }
            Operation::CopyWait(newest) => self.copies.wait(*newest, active, memory),
            Operation::CopyWaitAll => {
                self.copies.commit(active);
                self.copies.wait(0, active, memory)
            }
            Operation::BulkCopy(copy) => self.start_bulk_copy(copy, active, memory),
            Operation::Announce { place, bytes } => self.announce_bytes(*place, *bytes, active, memory),
            Operation::PrefetchMap(map) => self.prefetch_map(*map, active, memory),
            Operation::Elect { to, .. } => {
                self.elect(*to, active);
                Ok(())
            }
            Operation::ChangeRegisters => Ok(()),
            Operation::Mbarrier(mbarrier) => self.mbarrier(mbarrier, active, memory),
            Operation::PendingCount { to, from } => self.pending_count(*to, *from, active),
            Operation::LoadMatrix { to, row, transposed } => self.load_matrices(to, *row, *transposed, memory),
            Operation::StoreMatrix { row, from, transposed } => self.store_matrices(*row, from, *transposed, memory),
            Operation::TransposeMatrix { to, from } => {
                self.transpose(*to, *from);
                Ok(())
            }
            Operation::Multiply(multiply) => {
                self.multiply(multiply);
                Ok(())
            }
            Operation::StartProduct(multiply) => self.start_product(multiply, memory),
            Operation::ProductFence => Ok(()),
            Operation::ProductCommit => {
                self.group_products.commit();
                Ok(())
            }
            Operation::ProductWait(newest) => self.wait_for_products(*newest, memory),
            Operation::Trap => Err(Trouble::new(Kind::Trap, "a trap").on(active.trailing_zeros() as usize)),
            Operation::Branch { .. } | Operation::Exit | Operation::Barrier { .. } => {
                Err(Trouble::new(Kind::Instruction, "an instruction out of place").into())
            }
        }
    }

    fn compare(&mut self, comparison: &Compare, active: u32) {
        let holds = compare(comparison.comparison, &self.registers, comparison.from);
        let combined = |holds: u32| match comparison.combine {
            None => holds,
            Some((function, other)) => function.apply(holds, self.registers.predicate(other)),
        };
        let (result, opposite) = (combined(holds), combined(!holds));
        if let Some(to) = comparison.to {
            self.registers.set_predicate(to, active, result);
        }
        if let Some(to) = comparison.opposite {
            self.registers.set_predicate(to, active, opposite);
        }
    }

    fn special(&mut self, to: Value, which: Special, written: u32) {
        let position = self.position;
        let thread = |lane: usize| (position.warp * LANES + lane) as u32;
        let [columns, rows, _] = position.threads;
        let value = |lane: usize| -> u32 {
            match which {
                Special::Thread(0) => thread(lane) % columns,
                Special::Thread(1) => thread(lane) / columns % rows,
                Special::Thread(_) => thread(lane) / columns / rows,
                Special::Threads(axis) => position.threads[usize::from(axis)],
                Special::Block(axis) => position.block[usize::from(axis)],
                Special::Blocks(axis) => position.blocks[usize::from(axis)],
                Special::Lane => lane as u32,
                Special::Warp => position.warp as u32,
                Special::Warps => position.block_threads().div_ceil(LANES) as u32,
                Special::LanesEqual => 1 << lane,
                Special::LanesBelow => (1 << lane) - 1,
                Special::LanesUpTo => (1 << lane) | ((1 << lane) - 1),
                Special::LanesAbove => !((1 << lane) | ((1 << lane) - 1)),
                Special::LanesFrom => !((1 << lane) - 1),
                Special::DynamicShared => position.shared[0],
                Special::TotalShared => position.shared[1],
                Special::Clock => self.executed as u32,
            }
        };
        let values: Lanes<u32> = std::array::from_fn(value);
        if to.wide {
            self.registers.set(to.register, written, &values.map(u64::from));
        } else {
            self.registers.set(to.register, written, &values);
        }
    }

    /// A register as 64 bits, whatever it has.
    pub(super) fn widened(&self, value: Value) -> Lanes<u64> {
        if value.wide {
            return *self.registers.get::<u64>(value.register);
        }
        let lanes = self.registers.get::<u32>(value.register);
        let mut wide = [0; LANES];
        for lane in 0..LANES {
            wide[lane] = u64::from(lanes[lane]);
        }
        wide
    }

    fn pack(&mut self, to: Value, from: &[Register], bits: u32, written: u32) {
        let mut packed = [0_u64; LANES];
        for (index, register) in from.iter().enumerate() {
            let part = self.registers.get::<u32>(*register);
            for lane in 0..LANES {
                packed[lane] |= (u64::from(part[lane]) & low(bits)) << (bits as usize * index);
            }
        }
        if to.wide {
            self.registers.set(to.register, written, &packed);
        } else {
            self.registers.set(to.register, written, &narrowed(&packed, 0));
        }
    }

    fn unpack(&mut self, to: &[Option<Register>], from: Value, bits: u32, written: u32) {
        let packed = self.widened(from);
        for (index, register) in to.iter().enumerate() {
            let Some(register) = register else { continue };
            let mut part = narrowed(&packed, bits as usize * index);
            part.iter_mut().for_each(|value| *value &= low(bits) as u32);
            self.registers.set(*register, written, &part);
        }
    }
}

/// The 32 bits from a bit on.
fn narrowed(wide: &Lanes<u64>, from: usize) -> Lanes<u32> {
    let mut narrow = [0; LANES];
    for lane in 0..LANES {
        narrow[lane] = (wide[lane] >> from) as u32;
    }
    narrow
}

fn low(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}
