//! What is timed, and by what.

use sala_testkit::devices::Machine;
use sala_testkit::events::Timer;
use sala_testkit::memory::Memory;
use sala_testkit::problem::Problem;
use std::time::{Duration, Instant};

/// Bytes that no L2 has room for: those of the copies of a call's memory on a GPU.
const BEYOND_L2: usize = 160 << 20;

/// Copies that the smallest calls make do with.
const MOST_COPIES: usize = 4096;

/// What takes the time.
pub enum Clock {
    /// Events of the GPU.
    Events(Timer),
    /// The clock of the CPU, around all launches and the wait for their end.
    Wall,
}

impl Clock {
    /// The best clock for a machine.
    pub fn of(machine: &Machine) -> Clock {
        match machine.device.is_host() {
            true => Clock::Wall,
            false => Timer::new().map_or_else(
                |error| {
                    println!("no events: {error}");
                    Clock::Wall
                },
                Clock::Events,
            ),
        }
    }

    /// What a reader is told of it.
    pub fn name(&self) -> &'static str {
        match self {
            Clock::Events(_) => "events of the GPU",
            Clock::Wall => "the clock around launches and the wait for their end",
        }
    }

    /// How long so many launches take, one after the other.
    pub fn time(&self, machine: &Machine, launches: u64, mut submit: impl FnMut(u64)) -> Duration {
        let synchronize = || machine.stream.synchronize().unwrap_or_else(|error| panic!("{error}"));
        synchronize();
        let time = match self {
            Clock::Events(timer) => timer.time(&machine.stream, || (0..launches).for_each(&mut submit)),
            Clock::Wall => {
                let started = Instant::now();
                (0..launches).for_each(&mut submit);
                synchronize();
                Ok(started.elapsed())
            }
        };
        synchronize();
        time.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A call over as many copies of its memory as L2 has no room for.
pub struct Copies<'a, P: Problem> {
    problem: &'a P,
    machine: &'a Machine,
    layer: P::Layer,
    memories: Vec<Memory>,
}

impl<'a, P: Problem> Copies<'a, P> {
    pub fn new(problem: &'a P, machine: &'a Machine) -> Copies<'a, P> {
        let upload = || problem.upload(machine).unwrap_or_else(|error| panic!("{error}"));
        let first = upload();
        let count = match machine.device.is_host() {
            true => 1,
            false => BEYOND_L2.div_ceil(first.bytes().max(1)).clamp(2, MOST_COPIES),
        };
        let memories = [first].into_iter().chain((1..count).map(|_| upload())).collect();
        Copies {
            problem,
            machine,
            layer: problem.layer().unwrap_or_else(|error| panic!("{error}")),
            memories,
        }
    }

    /// Launches over the next copy, and does not wait.
    pub fn submit(&mut self, launch: u64) {
        let index = (launch % self.memories.len() as u64) as usize;
        let submitted = self
            .problem
            .submit(self.machine, &self.layer, &mut self.memories[index]);
        submitted.unwrap_or_else(|error| panic!("{error}"));
    }
}

impl<P: Problem> Drop for Copies<'_, P> {
    /// Waits for what runs over the memory.
    fn drop(&mut self) {
        let _ = self.machine.stream.synchronize();
    }
}
