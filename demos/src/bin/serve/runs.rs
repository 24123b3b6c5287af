//! Runs that `--check` compares.

use crate::engine::{Engine, Record};
use crate::model::Model;
use crate::scheduler::Settings;
use crate::sequence::{Request, Sequence};
use crate::speculate::Speculation;
use sala_kernels::{Device, Result};

/// What a run gave.
pub struct Run {
    pub name: &'static str,
    pub speculation: Speculation,
    pub sequences: Vec<Sequence>,
    pub record: Record,
    pub preempted: usize,
    pub forked: usize,
    pub found: usize,
    pub is_idle: bool,
}

/// Runs all requests to their ends.
pub fn run(
    device: &Device,
    model: &Model,
    requests: &[Request],
    name: &'static str,
    settings: Settings,
) -> Result<Run> {
    let mut engine = Engine::new(device, model, settings, requests, true)?;
    let sequences = engine.run(|_| {})?;
    Ok(Run {
        name,
        speculation: settings.speculation,
        sequences,
        preempted: engine.scheduler.preempted,
        forked: engine.scheduler.forked,
        found: engine.scheduler.found,
        is_idle: engine.scheduler.memory.is_idle(),
        record: engine.record,
    })
}

/// A run in a line, with how many of how many tokens are the naive decoder's, and how much worse the others are at most.
pub struct Line<'a>(pub &'a Run, pub usize, pub usize, pub f64);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Line(run, best, emitted, worst) = self;
        let record = &run.record;
        write!(
            f,
            "{}: {best} of {emitted} tokens are the naive decoder's, the others at most {worst:.4} worse; ",
            run.name
        )?;
        write!(f, "{} steps, {} mixed; ", record.steps, record.mixed)?;
        write!(
            f,
            "{} prompt tokens, {} found; {} forks, ",
            record.prompt_tokens, run.found, run.forked
        )?;
        let per_turn = record.decoded as f64 / record.turns.max(1) as f64;
        write!(f, "{} preempted; {per_turn:.2} tokens per turn; ", run.preempted)?;
        write!(f, "at most {} kernels in a sparse and ", record.sparse_kernels)?;
        write!(f, "{} in a linear layer; ", record.linear_kernels)?;
        write!(
            f,
            "{} steps launched as an earlier one of {} shapes",
            record.replayed, record.shapes
        )
    }
}
