//! One multiprocessor: warps on four sub-partitions, register dependencies, pipes, barriers, asynchronous copies. Times are in clocks.

mod barrier;
mod cost;
mod mbarrier;
mod program;
mod run;
mod simulate;
mod warp;

pub use cost::{Pipe, latency_of, pipe_of};
pub use mbarrier::{Refill, Sync};
pub use program::{Memory, Program, Setting};
pub use run::Run;
pub use simulate::{BARRIER, Free, STAGGER, SUB_PARTITIONS, Workload};
