//! Slots for registers.
//!
//! nvcc gives every value a register of its own, some thousands in a kernel, most of them dead after a few instructions. Here registers share
//! slots where their lifetimes do not meet, so that a warp's values stay in the processor's cache.
//!
//! Lifetimes are those of a single lane. Lanes on different paths do not disturb each other, because an instruction writes its active lanes
//! only, and instructions that read other lanes have all of them at the same place.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::visit::{Use, registers};
use crate::code::Instruction;
use crate::operation::Operation;
use crate::parse::Width;
use crate::registers::{Register, Storage};

/// A set of registers.
#[derive(Clone, PartialEq, Eq)]
struct Set(Vec<u64>);

impl Set {
    fn new(registers: usize) -> Self {
        Self(vec![0; registers.div_ceil(64)])
    }

    fn has(&self, register: usize) -> bool {
        self.0[register / 64] >> (register % 64) & 1 == 1
    }

    fn insert(&mut self, register: usize) {
        self.0[register / 64] |= 1 << (register % 64);
    }

    fn members(&self) -> impl Iterator<Item = usize> {
        let of_word = |(index, &word): (usize, &u64)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| 64 * index + bit)
        };
        self.0
            .iter()
            .enumerate()
            .filter(|(_, word)| **word != 0)
            .flat_map(of_word)
    }
}

/// Instructions without a branch among them.
struct Block {
    start: usize,
    end: usize,
    next: Vec<usize>,
    /// Read before it is written.
    reads: Set,
    /// Written before it is read.
    writes: Set,
    live_in: Set,
    live_out: Set,
}

/// Replaces the numbers of registers by slots, and returns how many slots there are.
pub fn assign(code: &mut [Instruction], widths: &[Width]) -> usize {
    let mut blocks = blocks(code, widths.len());
    propagate(&mut blocks);
    let lifetimes = lifetimes(code, &blocks, widths.len());
    let wide: Vec<bool> = widths.iter().map(|width| *width == Width::W64).collect();
    let (narrow_places, narrow_count) = share(&lifetimes, |register| !wide[register]);
    let (wide_places, wide_count) = share(&lifetimes, |register| wide[register]);
    for instruction in code {
        registers(&mut instruction.operation, &mut |register, _| {
            if !register.is_constant() {
                let number = register.0 as usize;
                *register = Register(if wide[number] {
                    narrow_count + wide_places[number] * <u64 as Storage>::SLOTS as u32
                } else {
                    narrow_places[number]
                });
            }
        });
    }
    narrow_count as usize + wide_count as usize * <u64 as Storage>::SLOTS
}

fn blocks(code: &mut [Instruction], count: usize) -> Vec<Block> {
    let mut starts = vec![false; code.len() + 1];
    starts[0] = true;
    for (at, instruction) in code.iter().enumerate() {
        if let Operation::Branch { target, .. } = instruction.operation {
            starts[target] = true;
        }
        if leaves(instruction) {
            starts[at + 1] = true;
        }
    }
    let starts: Vec<usize> = (0..code.len()).filter(|&at| starts[at]).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([code.len()]).collect();
    let block_at = |at: usize| starts.partition_point(|&start| start <= at) - 1;
    let block = |(&start, &end): (&usize, &usize)| {
        let (mut reads, mut writes) = (Set::new(count), Set::new(count));
        for instruction in &mut code[start..end] {
            let guarded = instruction.guard.is_some();
            registers(&mut instruction.operation, &mut |register, kind| {
                // A guarded write leaves what was there on the other lanes.
                let number = register.0 as usize;
                if !register.is_constant() && (kind == Use::Reads || guarded) && !writes.has(number) {
                    reads.insert(number);
                }
            });
            registers(&mut instruction.operation, &mut |register, kind| {
                if kind == Use::Writes && !guarded {
                    writes.insert(register.0 as usize);
                }
            });
        }
        let last = &code[end - 1];
        let mut next = Vec::new();
        if let Operation::Branch { target, .. } = last.operation {
            next.push(block_at(target));
        }
        if end < code.len() && (last.guard.is_some() || !leaves(last)) {
            next.push(block_at(end));
        }
        Block {
            start,
            end,
            next,
            reads,
            writes,
            live_in: Set::new(count),
            live_out: Set::new(count),
        }
    };
    starts.iter().zip(&ends).map(block).collect()
}

fn leaves(instruction: &Instruction) -> bool {
    matches!(
        instruction.operation,
        Operation::Branch { .. } | Operation::Exit | Operation::Trap
    )
}

/// Finds what is live at the ends of blocks.
fn propagate(blocks: &mut [Block]) {
    let mut changed = true;
    while changed {
        changed = false;
        for index in (0..blocks.len()).rev() {
            for next in blocks[index].next.clone() {
                let incoming = blocks[next].live_in.clone();
                for (word, more) in blocks[index].live_out.0.iter_mut().zip(&incoming.0) {
                    *word |= more;
                }
            }
            let block = &mut blocks[index];
            for word in 0..block.live_in.0.len() {
                let live = block.reads.0[word] | block.live_out.0[word] & !block.writes.0[word];
                changed |= live != block.live_in.0[word];
                block.live_in.0[word] = live;
            }
        }
    }
}

/// From the first moment to the last that a register matters; none if it never does. An instruction reads at an even moment and writes at
/// the odd one behind it.
fn lifetimes(code: &mut [Instruction], blocks: &[Block], count: usize) -> Vec<Option<(usize, usize)>> {
    let end = 2 * code.len();
    let mut lifetimes: Vec<Option<(usize, usize)>> = vec![None; count];
    let extend = |lifetimes: &mut Vec<Option<(usize, usize)>>, register: usize, moment: usize| {
        let (first, last) = lifetimes[register].unwrap_or((moment, moment));
        lifetimes[register] = Some((first.min(moment), last.max(moment)));
    };
    for block in blocks {
        block
            .live_in
            .members()
            .for_each(|register| extend(&mut lifetimes, register, 2 * block.start));
        block
            .live_out
            .members()
            .for_each(|register| extend(&mut lifetimes, register, 2 * block.end));
    }
    for (at, instruction) in code.iter_mut().enumerate() {
        registers(&mut instruction.operation, &mut |register, kind| {
            if !register.is_constant() {
                extend(
                    &mut lifetimes,
                    register.0 as usize,
                    2 * at + usize::from(kind == Use::Writes),
                );
            }
        });
        // They are written when the product is waited for, wherever that is.
        if let Operation::StartProduct(multiply) = &instruction.operation {
            for register in &multiply.to {
                extend(&mut lifetimes, register.0 as usize, end);
            }
        }
    }
    lifetimes
}

/// Gives registers of one kind places, in the order of their first moments; and how many places that takes.
fn share(lifetimes: &[Option<(usize, usize)>], of_kind: impl Fn(usize) -> bool) -> (Vec<u32>, u32) {
    let mut order: Vec<_> = (0..lifetimes.len())
        .filter(|&register| of_kind(register))
        .filter_map(|register| lifetimes[register].map(|(first, last)| (first, last, register)))
        .collect();
    order.sort_unstable();
    let mut places = vec![0; lifetimes.len()];
    let mut count = 0;
    let mut free: Vec<u32> = Vec::new();
    let mut busy: BinaryHeap<Reverse<(usize, u32)>> = BinaryHeap::new();
    for (first, last, register) in order {
        while let Some(&Reverse((end, place))) = busy.peek()
            && end < first
        {
            busy.pop();
            free.push(place);
        }
        let place = free.pop().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        places[register] = place;
        busy.push(Reverse((last, place)));
    }
    (places, count)
}
