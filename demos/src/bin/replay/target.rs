//! What a file is replayed on.

use clap::ValueEnum;
use sala_kernels::{Device, Error};
use sala_testkit::devices::Machine;
use sala_testkit::replay::{Replay, Results, Unusable};
use std::time::Instant;

/// The choices of `--device`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    /// The kernels on the CPU.
    Host,
    /// The kernels on the first GPU.
    Cuda,
    /// The f64 reference.
    Reference,
}

/// A device with its kernels, or the reference.
pub enum Target {
    Reference,
    Machine(Box<Machine>),
}

/// How running a call went.
pub enum Attempt {
    Ran {
        results: Results,
        seconds: f64,
    },
    NotSupported(String),
    /// The device said what went wrong.
    Broke(String),
}

impl Target {
    /// Loads the kernels.
    pub fn open(kind: DeviceKind) -> sala_kernels::Result<Target> {
        let machine = match kind {
            DeviceKind::Reference => return Ok(Target::Reference),
            DeviceKind::Host => Machine::open("host", Device::host()),
            DeviceKind::Cuda => Device::cuda(0).and_then(|device| Machine::open("cuda", device)),
        };
        machine.map(|machine| Target::Machine(Box::new(machine)))
    }

    pub fn name(&self) -> &str {
        match self {
            Target::Reference => "reference",
            Target::Machine(machine) => &machine.name,
        }
    }

    /// Runs a call; an error says that the call itself is not possible.
    pub fn attempt(&self, replay: &Replay) -> Result<Attempt, Unusable> {
        let machine = match self {
            Target::Machine(machine) => machine,
            Target::Reference => {
                let started = Instant::now();
                let results = replay.run_on_reference();
                return Ok(Attempt::Ran {
                    results,
                    seconds: started.elapsed().as_secs_f64(),
                });
            }
        };
        match replay.run(machine) {
            Ok((results, elapsed)) => Ok(Attempt::Ran {
                results,
                seconds: elapsed.as_secs_f64(),
            }),
            Err(Error::Unsupported { what, why }) => Ok(Attempt::NotSupported(format!("{what}: {why}"))),
            Err(error @ Error::Argument { .. }) => Err(Unusable {
                file: replay.path.clone(),
                problem: error.to_string(),
            }),
            Err(error) => Ok(Attempt::Broke(error.to_string())),
        }
    }
}
