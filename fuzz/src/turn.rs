//! The machines that calls are tried on by turns.

use clap::ValueEnum;
use sala_kernels::{Copies, Schedule};
use sala_testkit::devices::{Machine, ampere, can_detect_races, cuda, detect_races, hopper, host_with, shuffle};

/// Where calls are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Turn {
    /// On the CPU, in any order of execution.
    Plain,
    /// On the CPU, looking for races.
    Race,
    /// On the first GPU, or on what `SALA_CUDA_DRIVER` names: interpreted PTX.
    Cuda,
}

/// Multiprocessors that the CPU claims to have: what is split depends on them.
const MULTIPROCESSORS: [u32; 3] = [1, 3, 132];

/// A turn, with its machine if every call is tried on the same.
pub struct Opened {
    pub turn: Turn,
    machine: Option<Machine>,
}

/// The turns that are possible here, of those asked for, or of all.
pub fn open(asked: &[Turn]) -> Vec<Opened> {
    let mut opened = Vec::new();
    for &turn in Turn::value_variants() {
        let is_asked = asked.is_empty() || asked.contains(&turn);
        let machine = match turn {
            _ if !is_asked => continue,
            Turn::Race if !can_detect_races() => continue,
            Turn::Plain | Turn::Race => None,
            Turn::Cuda => match cuda() {
                Some(machine) => Some(machine),
                None => continue,
            },
        };
        opened.push(Opened { turn, machine });
    }
    opened
}

impl Turn {
    /// What `--on` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Turn::Plain => "plain",
            Turn::Race => "race",
            Turn::Cuda => "cuda",
        }
    }
}

impl Opened {
    /// Does something with the machine that the call of a seed is tried on.
    pub fn with_machine<T>(&self, seed: u64, work: impl FnOnce(&Machine) -> T) -> T {
        match &self.machine {
            Some(machine) => work(machine),
            None => work(&self.host(seed)),
        }
    }

    fn host(&self, seed: u64) -> Machine {
        host_with(self.turn.name(), |options| {
            let (order, rest) = (seed % 3, seed / 3);
            options.multiprocessors = MULTIPROCESSORS[(rest % 3) as usize];
            match rest / 3 % 3 {
                0 => {}
                1 => ampere(options),
                _ => hopper(options),
            }
            match (self.turn, order) {
                (Turn::Race, _) => detect_races(options, seed),
                (_, 0) => {}
                (_, 1) => shuffle(options, seed),
                _ => (options.schedule, options.copies) = (Schedule::Reverse, Copies::Eager),
            }
        })
    }
}
