//! Thirty-two lanes, executed together.
//!
//! Lanes that stand at the same instruction form a group; a branch that they disagree on splits it. The group that is furthest behind goes
//! first, and groups that meet become one again. An instruction that needs certain lanes waits for them: the other groups go on until they
//! arrive. Where they never do, a machine would hang or give any result, and the launch fails.

mod access;
mod bulk;
mod copies;
mod execute;
mod mbarrier;
mod together;
mod warpgroup;

use std::collections::VecDeque;

use crate::code::Kernel;
use crate::fault::{Fault, Kind, LaneTrouble};
use crate::memory::Memory;
use crate::operation::{Meeting, Operation};
use crate::options::Options;
use crate::registers::{ALL, LANES, Register, Registers};

use bulk::Started;
use copies::Copies;
use mbarrier::LateArrival;
use warpgroup::Products;

/// Why a warp has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Every lane has left the kernel.
    Finished,
    /// Arrived at a barrier.
    Barrier {
        /// The instruction.
        at: usize,
        /// Which.
        barrier: u32,
        /// Of how many threads; none: of all in the block.
        threads: Option<u32>,
        /// Whether it waits there.
        waits: bool,
    },
    /// Has found an mbarrier's phase incomplete, and asks again when it goes on.
    Polls {
        /// The instruction.
        at: usize,
    },
}

/// What a warp's special registers say.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Threads of a block.
    pub threads: [u32; 3],
    /// The block.
    pub block: [u32; 3],
    /// Blocks of the grid.
    pub blocks: [u32; 3],
    /// The warp in its block.
    pub warp: usize,
    /// Bytes of shared memory: what the launch asked for, and all.
    pub shared: [u32; 2],
}

impl Position {
    /// How many threads a block has.
    pub fn block_threads(&self) -> usize {
        self.threads.iter().product::<u32>() as usize
    }

    /// The lanes that are threads: fewer than 32 in the last warp of some blocks.
    fn lanes(&self) -> u32 {
        let lanes = (self.block_threads() - self.warp * LANES).min(LANES);
        ALL >> (LANES - lanes)
    }
}

/// Lanes at an instruction.
#[derive(Clone, Copy, Debug)]
struct Group {
    at: usize,
    lanes: u32,
}

/// A warp that runs a kernel.
#[derive(Debug)]
pub struct Warp<'k> {
    kernel: &'k Kernel,
    options: Options,
    position: Position,
    registers: Registers<'k>,
    /// The group that goes on.
    current: Group,
    /// The others, in the order of their instructions.
    others: Vec<Group>,
    /// The instruction at which the current group meets another or has overtaken it.
    horizon: usize,
    /// Lanes that have not left the kernel.
    alive: u32,
    copies: Copies,
    late_arrivals: VecDeque<LateArrival>,
    bulk_copies: VecDeque<Started>,
    group_products: Products,
    /// Whether the last instruction found a phase incomplete.
    polls: bool,
    /// Lanes that poll, which hold up nobody: the others of the warp go on first.
    polling: u32,
    /// Instructions executed.
    pub executed: u64,
    /// Matrix products among them.
    pub products: u64,
}

/// A result of an instruction.
type Step = Result<(), LaneTrouble>;

impl<'k> Warp<'k> {
    /// A warp at the kernel's start.
    pub fn new(kernel: &'k Kernel, options: Options, position: Position) -> Self {
        let mut warp = Self {
            kernel,
            options,
            position,
            registers: Registers::new(kernel.slots, kernel.predicates, &kernel.constants),
            current: Group { at: 0, lanes: 0 },
            others: Vec::new(),
            horizon: usize::MAX,
            alive: 0,
            copies: Copies::default(),
            late_arrivals: VecDeque::new(),
            bulk_copies: VecDeque::new(),
            group_products: Products::default(),
            polls: false,
            polling: 0,
            executed: 0,
            products: 0,
        };
        warp.start(position);
        warp
    }

    /// Becomes a warp of another block.
    pub fn restart(&mut self, position: Position) {
        self.registers.clear();
        self.copies = Copies::default();
        self.late_arrivals.clear();
        self.bulk_copies.clear();
        self.group_products = Products::default();
        self.start(position);
    }

    fn start(&mut self, position: Position) {
        self.position = position;
        self.alive = position.lanes();
        self.current = Group {
            at: 0,
            lanes: self.alive,
        };
        self.others.clear();
        self.polling = 0;
        self.horizon = usize::MAX;
    }

    /// Runs until the next barrier, or until it would poll.
    pub fn run(&mut self, memory: &mut Memory<'_>) -> Result<Stop, Fault> {
        let kernel = self.kernel;
        while self.current.lanes != 0 {
            if self.current.at >= self.horizon {
                self.settle()?;
            }
            let Group { at, lanes } = self.current;
            let instruction = &kernel.code[at];
            let active = match instruction.guard {
                None => lanes,
                Some(predicate) => lanes & self.registers.predicate(predicate),
            };
            self.executed += 1;
            match &instruction.operation {
                Operation::Branch { target, uniform } => self.branch(*target, *uniform, active)?,
                Operation::Exit => self.leave(active),
                operation if active != 0 => {
                    if let Some(meeting) = operation.meets() {
                        if !self.has_its_lanes(self.current) {
                            // Another group goes on, or nobody can.
                            self.settle()?;
                            continue;
                        }
                        self.check_lanes(meeting, active)?;
                    }
                    if let Operation::Barrier {
                        barrier,
                        threads,
                        waits,
                    } = *operation
                    {
                        let gone = self.position.lanes() & !self.alive;
                        if gone != 0 {
                            let message =
                                format!("lanes {gone:#010x} have left the kernel and never reach the barrier");
                            return Err(Fault::new(at, Kind::Deadlock, message));
                        }
                        self.current.at += 1;
                        return Ok(self.arrive(at, active, barrier, threads, waits));
                    }
                    let result = self.execute(operation, active, memory);
                    result.map_err(|lane| Fault { at: Some(at), lane })?;
                    self.current.at += 1;
                    if std::mem::take(&mut self.polls) {
                        self.polling |= lanes;
                        if !self.others.iter().any(|group| self.goes_on(*group)) {
                            self.polling = 0;
                            return Ok(Stop::Polls { at });
                        }
                        self.horizon = 0;
                    }
                }
                _ => self.current.at += 1,
            }
            if self.executed > self.options.instructions {
                let message = format!("no end after {} instructions of a warp", self.options.instructions);
                return Err(Fault::new(at, Kind::Endless, message));
            }
        }
        Ok(Stop::Finished)
    }

    fn arrive(&self, at: usize, active: u32, barrier: Register, threads: Option<Register>, waits: bool) -> Stop {
        let first = active.trailing_zeros() as usize;
        let value = |register: Register| self.registers.get::<u32>(register)[first];
        Stop::Barrier {
            at,
            barrier: value(barrier),
            threads: threads.map(value),
            waits,
        }
    }

    fn branch(&mut self, target: usize, uniform: bool, taken: u32) -> Result<(), Fault> {
        let Group { at, lanes } = self.current;
        if taken == lanes {
            self.current.at = target;
        } else if taken == 0 {
            self.current.at += 1;
        } else if uniform {
            return Err(Fault::new(
                at,
                Kind::Instruction,
                "the lanes disagree on a branch that is said to be uniform",
            ));
        } else {
            self.others.push(Group {
                at: target,
                lanes: taken,
            });
            self.current = Group {
                at: at + 1,
                lanes: lanes & !taken,
            };
            // The next step puts them in order.
            self.horizon = 0;
        }
        if !self.others.is_empty() {
            self.horizon = 0;
        }
        Ok(())
    }

    fn leave(&mut self, active: u32) {
        self.alive &= !active;
        self.current.lanes &= !active;
        self.current.at += 1;
        if self.current.lanes == 0 && !self.others.is_empty() {
            self.current = self.others.remove(0);
            self.horizon = 0;
        }
    }

    /// Joins groups at the same instruction and lets the one go on that is furthest behind and has the lanes that its instruction needs.
    fn settle(&mut self) -> Result<(), Fault> {
        self.others.push(self.current);
        self.others.sort_unstable_by_key(|group| group.at);
        self.others.dedup_by(|next, first| {
            let same = next.at == first.at;
            if same {
                first.lanes |= next.lanes;
            }
            same
        });
        let goes_on = |index: &usize| self.goes_on(self.others[*index]);
        let may_go_on = |index: &usize| self.has_its_lanes(self.others[*index]);
        let all = 0..self.others.len();
        let ready = all.clone().find(goes_on).or_else(|| all.clone().find(may_go_on));
        match ready {
            Some(index) => {
                self.current = self.others.remove(index);
                // One that others wait for is looked after at every step.
                self.horizon = match (index, self.others.first()) {
                    (_, None) => usize::MAX,
                    (0, Some(next)) => next.at,
                    _ => 0,
                };
                Ok(())
            }
            None => self.pass_warp_sync(),
        }
    }

    /// `bar.warp.sync` may be met at several places.
    fn pass_warp_sync(&mut self) -> Result<(), Fault> {
        let at_sync = |group: &Group| matches!(self.kernel.code[group.at].operation, Operation::WarpSync { .. });
        let waiting: Vec<_> = self.others.iter().copied().filter(at_sync).collect();
        let arrived = waiting.iter().fold(0, |lanes, group| lanes | group.lanes);
        let complete = |group: &Group| match self.kernel.code[group.at].operation {
            Operation::WarpSync { lanes } => self.named(lanes, group.lanes) & !arrived == 0,
            _ => false,
        };
        let passes: Vec<_> = waiting
            .iter()
            .filter(|group| complete(group))
            .map(|group| group.at)
            .collect();
        if passes.is_empty() {
            return Err(self.never_meet());
        }
        for group in self.others.iter_mut().filter(|group| passes.contains(&group.at)) {
            group.at += 1;
        }
        self.current = self.others.remove(0);
        self.horizon = 0;
        Ok(())
    }

    #[cold]
    fn never_meet(&self) -> Fault {
        let place = |group: &Group| {
            let line = self.kernel.places[group.at].line;
            let gone = if group.lanes & !self.alive == 0 {
                ""
            } else {
                ", which have left"
            };
            format!("lanes {:#010x} at line {line}{gone}", group.lanes)
        };
        let places: Vec<_> = self.others.iter().map(place).collect();
        let gone = self.position.lanes() & !self.alive;
        let gone = if gone == 0 {
            String::new()
        } else {
            format!("; lanes {gone:#010x} have left the kernel")
        };
        let message = format!("lanes that must meet never do: {}{gone}", places.join(", "));
        Fault::new(self.others.first().map_or(0, |group| group.at), Kind::Deadlock, message)
    }

    /// The lanes that a register names, as the first of some lanes sees it.
    fn named(&self, register: Register, lanes: u32) -> u32 {
        self.registers.get::<u32>(register)[lanes.trailing_zeros() as usize & (LANES - 1)]
    }

    /// Whether a group can go on, and does not poll.
    fn goes_on(&self, group: Group) -> bool {
        group.lanes & self.polling == 0 && self.has_its_lanes(group)
    }

    fn has_its_lanes(&self, group: Group) -> bool {
        let needed = match self.kernel.code[group.at].operation.meets() {
            None => 0,
            Some(Meeting::Lanes(register)) => self.named(register, group.lanes),
            Some(Meeting::All) => self.alive,
        };
        needed & !group.lanes == 0
    }

    /// Checks that the lanes which execute an instruction together are those that it names.
    fn check_lanes(&self, meeting: Meeting, active: u32) -> Result<(), Fault> {
        let at = self.current.at;
        let wrong = |message: String| Err(Fault::new(at, Kind::Deadlock, message));
        match meeting {
            Meeting::All if active == self.alive => Ok(()),
            Meeting::All => wrong(format!("only lanes {active:#010x} of {:#010x} take part", self.alive)),
            Meeting::Lanes(register) => {
                let named = self.named(register, active);
                let masks = self.registers.get::<u32>(register);
                if named != active {
                    return wrong(format!("lanes {active:#010x} take part, but {named:#010x} are named"));
                }
                match crate::registers::lanes_of(active).find(|&lane| masks[lane] != named) {
                    None => Ok(()),
                    Some(lane) => wrong(format!(
                        "lane {lane} names the lanes {:#010x}, others {named:#010x}",
                        masks[lane]
                    )),
                }
            }
        }
    }
}
