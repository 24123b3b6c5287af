//! Which registers an operation reads and writes.

use crate::operation::{Address, BulkSource, GroupFactor, Operation, Phase, Value, Vote};
use crate::registers::Register;

/// What an operation does with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Reads,
    Writes,
}

/// Shows every register of an operation, in any order.
pub fn registers(operation: &mut Operation, visit: &mut impl FnMut(&mut Register, Use)) {
    match operation {
        Operation::Compute { to, from, .. } => {
            from.iter_mut().for_each(|register| visit(register, Use::Reads));
            visit(to, Use::Writes);
        }
        Operation::Compare(compare) => compare.from.iter_mut().for_each(|register| visit(register, Use::Reads)),
        Operation::Select { to, from, .. } => {
            from.iter_mut().for_each(|register| visit(register, Use::Reads));
            visit(&mut to.register, Use::Writes);
        }
        Operation::Special { to, .. } => visit(&mut to.register, Use::Writes),
        Operation::Pack { to, from, .. } => {
            from.iter_mut().for_each(|register| visit(register, Use::Reads));
            visit(&mut to.register, Use::Writes);
        }
        Operation::Unpack { to, from, .. } => {
            visit(&mut from.register, Use::Reads);
            to.iter_mut()
                .flatten()
                .for_each(|register| visit(register, Use::Writes));
        }
        Operation::Load(load) => {
            address(&mut load.address, visit);
            load.to
                .iter_mut()
                .flatten()
                .for_each(|value| visit(&mut value.register, Use::Writes));
        }
        Operation::Store(store) => {
            address(&mut store.address, visit);
            store
                .from
                .iter_mut()
                .for_each(|value| visit(&mut value.register, Use::Reads));
        }
        Operation::Atomic(update) => {
            address(&mut update.address, visit);
            visit(&mut update.from, Use::Reads);
            update.new.iter_mut().for_each(|register| visit(register, Use::Reads));
            update.to.iter_mut().for_each(|register| visit(register, Use::Writes));
        }
        Operation::Barrier { barrier, threads, .. } => {
            visit(barrier, Use::Reads);
            threads.iter_mut().for_each(|register| visit(register, Use::Reads));
        }
        Operation::WarpSync { lanes } => visit(lanes, Use::Reads),
        Operation::Vote { kind, lanes, .. } => {
            visit(lanes, Use::Reads);
            if let Vote::Ballot(to) = kind {
                visit(to, Use::Writes);
            }
        }
        Operation::ActiveMask(to) => visit(to, Use::Writes),
        Operation::Shuffle(exchange) => {
            for register in [
                &mut exchange.from,
                &mut exchange.by,
                &mut exchange.clamp,
                &mut exchange.lanes,
            ] {
                visit(register, Use::Reads);
            }
            visit(&mut exchange.to, Use::Writes);
        }
        Operation::Reduce { to, from, lanes, .. } => {
            visit(from, Use::Reads);
            visit(lanes, Use::Reads);
            visit(to, Use::Writes);
        }
        Operation::CopyAsync { to, from, read, .. } => {
            address(to, visit);
            address(from, visit);
            read.iter_mut().for_each(|register| visit(register, Use::Reads));
        }
        Operation::LoadMatrix { to, row, .. } => {
            address(row, visit);
            to.iter_mut().for_each(|register| visit(register, Use::Writes));
        }
        Operation::StoreMatrix { row, from, .. } => {
            address(row, visit);
            from.iter_mut().for_each(|register| visit(register, Use::Reads));
        }
        Operation::TransposeMatrix { to, from } => {
            visit(from, Use::Reads);
            visit(to, Use::Writes);
        }
        Operation::Multiply(multiply) => {
            let sources = multiply.a.iter_mut().chain(&mut multiply.b).chain(&mut multiply.c);
            sources.for_each(|register| visit(register, Use::Reads));
            multiply.to.iter_mut().for_each(|register| visit(register, Use::Writes));
        }
        Operation::StartProduct(multiply) => {
            for factor in [&mut multiply.a, &mut multiply.b] {
                match factor {
                    GroupFactor::Registers(registers) => {
                        registers.iter_mut().for_each(|register| visit(register, Use::Reads));
                    }
                    GroupFactor::Shared { descriptor, .. } => visit(descriptor, Use::Reads),
                }
            }
            // They are written later, when the product is waited for; each register is shown once.
            multiply.to.iter_mut().for_each(|register| visit(register, Use::Reads));
        }
        Operation::Mbarrier(mbarrier) => {
            address(&mut mbarrier.place, visit);
            match &mut mbarrier.phase {
                Phase::Begin { arrivals } => visit(arrivals, Use::Reads),
                Phase::Arrive {
                    state,
                    arrivals,
                    announced,
                    ..
                } => {
                    let numbers = arrivals.iter_mut().chain(announced);
                    numbers.for_each(|register| visit(register, Use::Reads));
                    visit(state, Use::Writes);
                }
                Phase::Test { parity, .. } => visit(parity, Use::Reads),
                Phase::ArriveWithCopies => {}
            }
        }
        Operation::BulkCopy(copy) => {
            address(&mut copy.target, visit);
            address(&mut copy.barrier, visit);
            match &mut copy.source {
                BulkSource::Box { map, indices } => {
                    address(map, visit);
                    indices.iter_mut().for_each(|register| visit(register, Use::Reads));
                }
                BulkSource::Bytes { from, bytes } => {
                    address(from, visit);
                    visit(bytes, Use::Reads);
                }
            }
        }
        Operation::Announce { place, bytes } => {
            address(place, visit);
            visit(bytes, Use::Reads);
        }
        Operation::PrefetchMap(map) => address(map, visit),
        Operation::Elect { lanes, .. } => visit(lanes, Use::Reads),
        Operation::PendingCount { to, from } => {
            visit(from, Use::Reads);
            visit(to, Use::Writes);
        }
        Operation::Logic { .. }
        | Operation::Fence
        | Operation::Branch { .. }
        | Operation::Exit
        | Operation::Trap
        | Operation::ChangeRegisters
        | Operation::ProductFence
        | Operation::ProductCommit
        | Operation::ProductWait(_)
        | Operation::CopyCommit
        | Operation::CopyWait(_)
        | Operation::CopyWaitAll => {}
    }
}

fn address(address: &mut Address, visit: &mut impl FnMut(&mut Register, Use)) {
    if let Some(Value { register, .. }) = &mut address.base {
        visit(register, Use::Reads);
    }
}
