//! One line of the bench: a call, its floor, and its counts.

use crate::cases::{Call, Names, Visitor};
use sala_kernels::Result;
use sala_testkit::devices::counting_host;
use sala_testkit::problem::Problem;
use serde::Serialize;

/// A call to be counted. It is made when its turn comes.
pub struct Case {
    /// The kernel, as its file is called.
    pub kernel: &'static str,
    pub count: Box<dyn FnOnce() -> Result<Line>>,
}

/// One call, its counts and its floor.
#[derive(Serialize)]
pub struct Line {
    pub kernel: &'static str,
    /// The shape, for a reader and for a tool that looks for the same line again.
    pub shape: String,
    /// Of tensor cores, padding and repeated work included.
    pub flops_issued: u64,
    pub flops_useful: u64,
    pub exp: u64,
    /// Of global memory, by loads, asynchronous copies and stores.
    pub bytes_requested: u64,
    pub bytes_distinct: u64,
    pub bytes_floor: u64,
    /// Passes over the banks of shared memory, and how many they would be without conflicts.
    pub wavefronts: u64,
    pub wavefronts_ideal: u64,
    pub workspace: u64,
}

/// The calls, each to be made when its turn comes.
#[derive(Default)]
pub struct Cases(pub Vec<Case>);

impl Visitor for Cases {
    fn visit<P: Problem + 'static>(&mut self, Names { kernel, .. }: Names, make: impl FnOnce() -> Call<P> + 'static) {
        let count = Box::new(move || make().count(kernel));
        self.0.push(Case { kernel, count });
    }
}

impl<P: Problem> Call<P> {
    fn count(self, kernel: &'static str) -> Result<Line> {
        let machine = counting_host(self.multiprocessors);
        self.problem.run(&machine)?;
        let counters = machine.stream.take_counters();
        Ok(Line {
            kernel,
            shape: self.shape,
            flops_issued: counters.tensor_flops,
            flops_useful: self.floor.flops,
            exp: counters.exponentials,
            bytes_requested: counters.global_bytes_read + counters.global_bytes_written,
            bytes_distinct: counters.global_bytes_distinct,
            bytes_floor: self.floor.bytes(),
            wavefronts: counters.shared_wavefronts,
            wavefronts_ideal: counters.shared_wavefronts_ideal,
            workspace: self.workspace as u64,
        })
    }
}
