//! The warps of a block, and the barriers among them.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::time::Duration;

use crate::code::Kernel;
use crate::fault::{Fault, Kind, LaneTrouble, Report, Trouble, Who, place, report};
use crate::machine::thread_time;
use crate::memory::{Allocations, Memory, Shared};
use crate::options::{Options, Order};
use crate::registers::LANES;
use crate::warp::{Position, Stop, Warp};

/// What a launch is.
#[derive(Clone, Debug)]
pub struct Launch<'l> {
    /// The kernel.
    pub kernel: &'l Kernel,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// Bytes of shared memory beside the static variables.
    pub shared: u32,
    /// The block of parameters.
    pub parameters: &'l [u8],
    /// Global memory.
    pub allocations: &'l Allocations,
    /// How to execute.
    pub options: Options,
}

/// What was executed, in instructions of a warp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// All.
    pub executed: u64,
    /// Matrix products among them.
    pub products: u64,
    /// Time of processors.
    pub time: Duration,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.executed += other.executed;
        self.products += other.products;
        self.time += other.time;
    }
}

/// Barriers that a block has.
const BARRIERS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Barrier {
    /// Threads that have arrived.
    arrived: u32,
    /// Threads that must, by those who have arrived.
    expected: Option<u32>,
    /// Bits of the warps that wait.
    waiting: u32,
}

/// What runs blocks, one after the other.
#[derive(Debug)]
pub struct Runner<'l> {
    launch: &'l Launch<'l>,
    memory: Memory<'l>,
    warps: Vec<Warp<'l>>,
    barriers: [Barrier; BARRIERS],
    /// For each warp the instruction at which it waits.
    waits_at: Vec<usize>,
    /// The thread's time when it began.
    started: Duration,
}

impl<'l> Runner<'l> {
    /// A runner for the blocks of a launch.
    pub fn new(launch: &'l Launch<'l>) -> Self {
        Self {
            launch,
            memory: Memory {
                allocations: launch.allocations,
                recent: 0,
                parameters: launch.parameters,
                shared: Shared::default(),
                unwritten: launch.options.unwritten,
                phases: 0,
                transactions: HashMap::new(),
            },
            warps: Vec::new(),
            barriers: [Barrier::default(); BARRIERS],
            waits_at: Vec::new(),
            started: thread_time(),
        }
    }

    /// What was executed so far, by the calling thread.
    pub fn cost(&self) -> Cost {
        Cost {
            executed: self.warps.iter().map(|warp| warp.executed).sum(),
            products: self.warps.iter().map(|warp| warp.products).sum(),
            time: thread_time().saturating_sub(self.started),
        }
    }

    /// Runs a block to its end.
    pub fn run(&mut self, block: [u32; 3]) -> Result<(), Report> {
        let launch = self.launch;
        let shared = launch.kernel.dynamic_shared + launch.shared;
        self.memory.shared.reset(shared);
        self.memory.transactions.clear();
        self.barriers = [Barrier::default(); BARRIERS];
        let count = (launch.threads.iter().product::<u32>() as usize).div_ceil(LANES);
        for warp in 0..count {
            let position = Position {
                threads: launch.threads,
                block,
                blocks: launch.grid,
                warp,
                shared: [launch.shared, shared],
            };
            match self.warps.get_mut(warp) {
                Some(warp) => warp.restart(position),
                None => self.warps.push(Warp::new(launch.kernel, launch.options, position)),
            }
        }
        self.waits_at = vec![0; count];

        let all = u32::MAX >> (32 - count);
        let (mut ready, mut running, mut polling) = (all, all, 0);
        let mut phases = self.memory.phases;
        while running != 0 {
            while ready == 0 && polling != 0 && self.memory.phases == phases && self.arrive_late(block)? {}
            if self.memory.phases != phases {
                phases = self.memory.phases;
                ready |= std::mem::take(&mut polling);
            }
            let warp = match launch.options.order {
                _ if ready == 0 => return Err(self.stuck(block, running, polling)),
                Order::Forward => ready.trailing_zeros(),
                Order::Reversed => 31 - ready.leading_zeros(),
            } as usize;
            let who = self.who(block, warp);
            let fault = |fault: Fault| report(launch.kernel, who, &fault);
            match self.warps[warp].run(&mut self.memory).map_err(fault)? {
                Stop::Finished => {
                    ready &= !(1 << warp);
                    running &= !(1 << warp);
                }
                Stop::Barrier {
                    at,
                    barrier,
                    threads,
                    waits,
                } => {
                    self.waits_at[warp] = at;
                    let released = self.arrive(warp, barrier, threads, waits).map_err(|trouble| {
                        let lane = LaneTrouble::from(trouble);
                        fault(Fault { at: Some(at), lane })
                    })?;
                    if waits {
                        ready &= !(1 << warp);
                    }
                    ready |= released;
                }
                Stop::Polls { at } => {
                    self.waits_at[warp] = at;
                    ready &= !(1 << warp);
                    polling |= 1 << warp;
                }
            }
        }
        self.check_copies(block)
    }

    /// The block ends: its copies have been waited for, and no bytes were announced that did not come.
    fn check_copies(&self, block: [u32; 3]) -> Result<(), Report> {
        for (index, warp) in self.warps.iter().enumerate().take(self.waits_at.len()) {
            if let Some(fault) = warp.unfinished_copy() {
                return Err(report(self.launch.kernel, self.who(block, index), &fault));
            }
        }
        let left = self.memory.transactions.iter().find(|(_, left)| left.bytes != 0);
        let Some((place, left)) = left else { return Ok(()) };
        let bytes = left.bytes;
        let message =
            format!("the block ends with {bytes} bytes announced and not brought at the mbarrier at byte {place}");
        let fault = Fault {
            at: None,
            lane: Trouble::new(Kind::Instruction, message).into(),
        };
        Err(report(self.launch.kernel, self.who(block, 0), &fault))
    }

    fn who(&self, block: [u32; 3], warp: usize) -> Who {
        Who {
            block,
            threads: self.launch.threads,
            warp: Some(warp),
        }
    }

    /// No warp can go on: one arrival that waits for copies comes, or one copy that an mbarrier counts. Whether there was one.
    fn arrive_late(&mut self, block: [u32; 3]) -> Result<bool, Report> {
        for warp in 0..self.waits_at.len() {
            let arrived = self.warps[warp].arrive_late(&mut self.memory);
            if arrived.map_err(|fault| report(self.launch.kernel, self.who(block, warp), &fault))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A warp arrives at a barrier; bits of the warps that may go on.
    fn arrive(&mut self, warp: usize, barrier: u32, threads: Option<u32>, waits: bool) -> Result<u32, Trouble> {
        let trouble = |message: String| Err(Trouble::new(Kind::Deadlock, message));
        let whole = self.waits_at.len() as u32 * LANES as u32;
        let expected = threads.unwrap_or(whole);
        if expected == 0 || !expected.is_multiple_of(LANES as u32) || expected > whole {
            return trouble(format!(
                "barrier {barrier} is to be met by {expected} threads of a block of {whole}"
            ));
        }
        let Some(state) = self.barriers.get_mut(barrier as usize) else {
            return trouble(format!("barrier {barrier}; there are {BARRIERS}"));
        };
        match state.expected {
            Some(before) if before != expected => {
                return trouble(format!(
                    "barrier {barrier} is to be met by {expected} threads, but others expect {before}"
                ));
            }
            _ => state.expected = Some(expected),
        }
        state.arrived += LANES as u32;
        if waits {
            state.waiting |= 1 << warp;
        }
        if state.arrived < expected {
            return Ok(0);
        }
        Ok(std::mem::take(state).waiting)
    }

    /// Every warp that has not finished waits.
    #[cold]
    fn stuck(&self, block: [u32; 3], running: u32, polling: u32) -> Report {
        let kernel = self.launch.kernel;
        let mut message = "warps wait at barriers for ever".to_owned();
        for (index, barrier) in self
            .barriers
            .iter()
            .enumerate()
            .filter(|(_, barrier)| barrier.waiting != 0)
        {
            let (arrived, expected) = (barrier.arrived, barrier.expected.unwrap_or(0));
            message.push_str(&format!(
                "\n    barrier {index}: {arrived} of {expected} threads have arrived"
            ));
            for warp in (0..32).filter(|warp| barrier.waiting >> warp & 1 == 1) {
                message.push_str(&format!(
                    "\n        warp {warp} at {}",
                    place(kernel, self.waits_at[warp])
                ));
            }
        }
        for warp in (0..32).filter(|warp| polling >> warp & 1 == 1) {
            message.push_str(&format!(
                "\n    an mbarrier that nobody completes: warp {warp} at {}",
                place(kernel, self.waits_at[warp])
            ));
        }
        for (place, left) in self.memory.transactions.iter().filter(|(_, left)| left.bytes > 0) {
            message.push_str(&format!(
                "\n    the mbarrier at byte {place} lacks {} bytes",
                left.bytes
            ));
        }
        let finished = (0..self.waits_at.len()).filter(|warp| running >> warp & 1 == 0);
        let finished: Vec<_> = finished.map(|warp| warp.to_string()).collect();
        if !finished.is_empty() {
            message.push_str(&format!("\n    finished without it: warps {}", finished.join(", ")));
        }
        let who = Who {
            block,
            threads: self.launch.threads,
            warp: None,
        };
        let fault = Fault {
            at: None,
            lane: Trouble::new(Kind::Deadlock, message).into(),
        };
        report(kernel, who, &fault)
    }
}
