//! The simulation.

use std::array;

use super::barrier::Barriers;
use super::mbarrier::{Phases, Readers};
use super::program::{Action, Op, Turn};
use super::warp::Warp;
use super::{Pipe, Program, Run, Sync};
use crate::{Gpu, Problem};

/// Schedulers of a multiprocessor, each with its warps, registers and pipes.
pub const SUB_PARTITIONS: usize = 4;

/// Clocks from the last arrival at a barrier to the first instruction after it (assumed).
pub const BARRIER: f64 = 22.0;

/// Clocks between the starts of a multiprocessor's blocks (assumed). Started together, equal blocks would stay in step and want one pipe at a time.
pub const STAGGER: f64 = 1000.0;

/// Clocks that an instruction may be issued before its pipe is free.
const AHEAD: f64 = 2.0;
/// The same for the shared pipe, which has a queue.
const AHEAD_SHARED: f64 = 8.0;

/// What costs nothing, to see what binds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Barriers of the block are passed.
    pub barriers: bool,
    /// Asynchronous copies are there at once.
    pub copies: bool,
    /// This pipe is always free.
    pub pipe: Option<Pipe>,
}

/// What the warps of a multiprocessor do.
pub struct Workload<'a> {
    /// For each warp its rounds, one after the other.
    pub warps: Vec<Vec<&'a Program>>,
    /// For each warp, by how many clocks it begins after its block; empty: all begin with it.
    pub late: Vec<f64>,
    /// How many thread blocks the warps make.
    pub blocks: usize,
    /// The mbarriers that programs use.
    pub syncs: &'a [Sync],
    /// Whether the last reader of a stage fills it again.
    pub refilled: bool,
}

struct Partition {
    /// Warps that are not done, the one that waited longest first.
    queue: Vec<usize>,
    /// No warp issues before.
    asleep: f64,
    /// When each pipe is free.
    pipes: [f64; Pipe::ALL.len()],
}

struct Simulation<'a> {
    gpu: &'a Gpu,
    syncs: &'a [Sync],
    free: Free,
    warps: Vec<Warp<'a>>,
    partitions: [Partition; SUB_PARTITIONS],
    /// When the shared pipe, and the way from L2, are free.
    shared: f64,
    link: f64,
    barriers: Barriers,
    /// By block, then by mbarrier.
    phases: Vec<Vec<Phases>>,
    /// Of each mbarrier, the phases that a round stands for: as many as a warp waits for in it.
    phases_of_round: Vec<usize>,
    readers: Readers,
    now: f64,
    busy: [f64; Pipe::ALL.len()],
    issued: f64,
}

impl Workload<'_> {
    /// Runs the warps to their ends.
    ///
    /// A sub-partition issues one instruction per clock, of the warp that waited longest. A pipe takes a few instructions ahead of time. A barrier
    /// meets the warps that it counts, or all that are not done. Copies share the multiprocessor's part of the L2 bandwidth.
    pub fn run(self, gpu: &Gpu, free: Free) -> Result<Run, Problem> {
        let mut simulation = Simulation::new(self, gpu, free);
        while simulation
            .partitions
            .iter()
            .any(|partition| !partition.queue.is_empty())
        {
            simulation.step()?;
        }
        Ok(Run {
            marks: simulation.warps.into_iter().map(|warp| warp.marks).collect(),
            busy: simulation.busy,
            issued: simulation.issued,
        })
    }
}

impl<'a> Simulation<'a> {
    fn new(workload: Workload<'a>, gpu: &'a Gpu, free: Free) -> Self {
        let Workload {
            warps,
            late,
            blocks,
            syncs,
            refilled,
        } = workload;
        let count = warps.len();
        let mut phases: Vec<Vec<Phases>> = Vec::new();
        for _ in 0..blocks {
            phases.push(syncs.iter().map(|_| Phases::default()).collect());
        }
        let mut warps: Vec<Warp> = warps
            .into_iter()
            .enumerate()
            .map(|(warp, rounds)| Warp::new(rounds, warp * blocks / count, syncs.len()))
            .collect();
        for (warp, clocks) in warps.iter_mut().zip(late) {
            warp.blocked += clocks;
        }
        let waits = |sync: usize| warps.iter().map(|warp| warp.waits[sync]).max();
        let phases_of_round: Vec<usize> = (0..syncs.len()).map(|sync| waits(sync).unwrap_or(0)).collect();
        for warp in warps.iter().filter(|_| !refilled) {
            warp.arrive_where_spared(&phases_of_round, &mut phases[warp.block]);
        }
        let mut readers = Readers::default();
        warps.iter().for_each(|warp| warp.expect_refills(&mut readers));
        for warp in &mut warps {
            warp.finish_rounds(0.0);
        }
        let partition = |number: usize| Partition {
            queue: (number..count)
                .step_by(SUB_PARTITIONS)
                .filter(|&warp| !warps[warp].is_done())
                .collect(),
            asleep: 0.0,
            pipes: Default::default(),
        };
        Self {
            gpu,
            syncs,
            free,
            partitions: array::from_fn(partition),
            warps,
            shared: 0.0,
            link: 0.0,
            barriers: Barriers::default(),
            phases,
            phases_of_round,
            readers,
            now: 0.0,
            busy: Default::default(),
            issued: 0.0,
        }
    }

    /// One clock, and those after it in which nothing can happen.
    fn step(&mut self) -> Result<(), Problem> {
        let mut progress = false;
        for partition in 0..SUB_PARTITIONS {
            if self.partitions[partition].asleep > self.now {
                continue;
            }
            self.partitions[partition].asleep = f64::INFINITY;
            if let Some(place) = self.find_ready(partition) {
                self.partitions[partition].asleep = self.now + 1.0;
                self.issue(partition, place);
                progress = true;
            }
        }
        if progress {
            self.now += 1.0;
            return Ok(());
        }
        let soonest = self.partitions.iter().map(|partition| partition.asleep);
        let soonest = soonest.fold(f64::INFINITY, f64::min);
        if soonest == f64::INFINITY {
            return Err(Problem::misfit(
                "the model's warps wait for each other for ever: check the barriers' counts and the `sync` entries in kernels.toml",
            ));
        }
        self.now = (self.now + 1.0).max(soonest.ceil());
        Ok(())
    }

    /// The place in the queue of a warp that can issue now; else the sub-partition sleeps until one can.
    fn find_ready(&mut self, partition: usize) -> Option<usize> {
        for place in 0..self.partitions[partition].queue.len() {
            let warp = self.partitions[partition].queue[place];
            let Some(start) = self.start_of(partition, warp) else {
                continue;
            };
            if start <= self.now {
                return Some(place);
            }
            let asleep = &mut self.partitions[partition].asleep;
            *asleep = asleep.min(start);
        }
        None
    }

    /// When a warp's next instruction could be issued; `None`: not before another warp has done something.
    fn start_of(&self, partition: usize, number: usize) -> Option<f64> {
        let warp = &self.warps[number];
        if warp.parked {
            return None;
        }
        let op = warp.next_op();
        let mut start = warp.operands.max(warp.blocked);
        if let Some((pipe, _)) = self.pipe_of(op) {
            let ahead = if pipe == Pipe::Shared { AHEAD_SHARED } else { AHEAD };
            start = start.max(self.pipe_free(partition, pipe) - ahead);
        }
        if let Action::Await(turn) = op.action {
            let sync = &self.syncs[turn.sync];
            let phase = warp.wait_phase(turn, &self.phases_of_round);
            if let Some(phase) = phase.checked_sub(sync.lead) {
                start = start.max(self.phases[warp.block][turn.sync].completed(phase, sync.count)?);
            }
        }
        Some(start)
    }

    fn pipe_of(&self, op: &Op) -> Option<(Pipe, f64)> {
        op.pipe.filter(|(pipe, _)| self.free.pipe != Some(*pipe))
    }

    fn pipe_free(&self, partition: usize, pipe: Pipe) -> f64 {
        match pipe {
            Pipe::Shared => self.shared,
            pipe => self.partitions[partition].pipes[pipe as usize],
        }
    }

    fn issue(&mut self, partition: usize, place: usize) {
        let number = self.partitions[partition].queue.remove(place);
        let program = self.warps[number].rounds[self.warps[number].round];
        let op = self.warps[number].next_op();
        let mut start = self.now;
        if let Some((pipe, clocks)) = self.pipe_of(op) {
            start = start.max(self.pipe_free(partition, pipe));
            self.busy[pipe as usize] += clocks;
            match pipe {
                Pipe::Shared => self.shared = start + clocks,
                pipe => self.partitions[partition].pipes[pipe as usize] = start + clocks,
            }
        }
        for &register in program.writes(op) {
            self.warps[number].ready[usize::from(register)] = start + op.latency;
        }
        self.act(number, op, start);
        self.issued += 1.0;
        let warp = &mut self.warps[number];
        warp.at += 1;
        warp.finish_rounds(self.now);
        if !warp.is_done() {
            warp.find_operands();
            self.partitions[partition].queue.push(number);
        }
        self.open_barriers();
    }

    fn act(&mut self, number: usize, op: &'a Op, start: f64) {
        let now = self.now;
        let warp = &mut self.warps[number];
        match &op.action {
            Action::None => {}
            Action::Stall(clocks) => warp.blocked = now + clocks,
            Action::Copy { bytes, latency, arrive } => {
                if !self.free.copies {
                    self.link = self.link.max(start) + bytes / self.gpu.l2_rate;
                    warp.landing = self.link + latency;
                }
                if let Some(turn) = *arrive {
                    let at = warp.landing.max(now);
                    self.arrive(number, turn, at);
                }
            }
            Action::Commit => warp.copies.push(warp.landing),
            Action::WaitCopies(left) => wait(&mut warp.blocked, &warp.copies, *left),
            Action::Product { ends_group: false } => {}
            Action::Product { ends_group: true } => {
                let clocks = op.pipe.map_or(0.0, |(_, clocks)| clocks);
                warp.products.push(start + clocks + self.gpu.product_latency);
            }
            Action::WaitProducts(left) => wait(&mut warp.blocked, &warp.products, *left),
            Action::Barrier { .. } if self.free.barriers => {}
            Action::Barrier { name, warps, waits } => {
                warp.parked = *waits;
                self.barriers.arrive(number, warp.block, name, *warps);
            }
            Action::Arrive(turn) => {
                let copies = self.syncs[turn.sync].copies;
                let at = if copies { warp.landing.max(now) } else { now };
                self.arrive(number, *turn, at);
            }
            Action::Await(_) => {}
            Action::Refill {
                number: refill,
                stages,
                length,
            } => {
                let is_last = self.readers.come(warp.block, *refill, warp.round);
                let is_needed = warp.round + stages < warp.rounds.len();
                if !is_last || !is_needed {
                    warp.at += length;
                }
            }
        }
    }

    fn arrive(&mut self, number: usize, turn: Turn, at: f64) {
        let warp = &self.warps[number];
        let phase = warp.arrival_phase(turn, &self.phases_of_round);
        self.phases[warp.block][turn.sync].arrive(phase, at);
        self.wake();
    }

    /// Lets the warps of complete barriers go on.
    fn open_barriers(&mut self) {
        let warps = &self.warps;
        let alive = |block: usize| {
            warps
                .iter()
                .filter(|warp| warp.block == block && !warp.is_done())
                .count()
        };
        let mut open = Vec::new();
        while let Some(there) = self.barriers.take_complete(alive) {
            open.extend(there);
        }
        if open.is_empty() {
            return;
        }
        for number in open {
            let warp = &mut self.warps[number];
            if warp.parked {
                warp.parked = false;
                warp.blocked = self.now + BARRIER;
            }
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.partitions.iter_mut().for_each(|partition| partition.asleep = 0.0);
    }
}

/// Blocks until at most `left` groups are under way.
fn wait(blocked: &mut f64, groups: &[f64], left: usize) {
    if let Some(last) = groups.len().checked_sub(left + 1) {
        *blocked = groups[last];
    }
}
