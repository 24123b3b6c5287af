//! What a simulation found.

use super::{Pipe, SUB_PARTITIONS};
use crate::Problem;

/// The outcome of a simulation.
#[derive(Debug)]
pub struct Run {
    /// For each warp, when it finished each of its rounds.
    pub(super) marks: Vec<Vec<f64>>,
    /// Clocks that each pipe was busy, added over sub-partitions.
    pub(super) busy: [f64; Pipe::ALL.len()],
    /// Instructions, added over sub-partitions.
    pub(super) issued: f64,
}

impl Run {
    /// When the last warp had finished.
    pub fn end(&self) -> f64 {
        let ends = self.marks.iter().filter_map(|marks| marks.last());
        ends.copied().fold(0.0, f64::max)
    }

    /// Clocks per round while all warps run: from when the last has finished two rounds to when the first has finished all.
    pub fn period(&self) -> Result<f64, Problem> {
        let too_short = || Problem::misfit("warps drift too far apart for a steady state: simulate more rounds");
        let second = self.marks.iter().map(|marks| marks.get(1).copied());
        let begin = second.collect::<Option<Vec<f64>>>().ok_or_else(too_short)?;
        let begin = begin.into_iter().fold(0.0, f64::max);
        let ends = self.marks.iter().filter_map(|marks| marks.last());
        let end = ends.copied().fold(f64::INFINITY, f64::min);
        if begin >= end {
            return Err(too_short());
        }
        let rounds: f64 = self
            .marks
            .iter()
            .map(|marks| done(marks, end) - done(marks, begin))
            .sum();
        Ok((end - begin) / (rounds / self.marks.len() as f64))
    }

    /// Clocks that a pipe was busy, a mean over sub-partitions that had warps.
    pub fn busy(&self, pipe: Pipe) -> f64 {
        let share = if pipe == Pipe::Shared {
            1
        } else {
            self.used_partitions()
        };
        self.busy[pipe as usize] / share as f64
    }

    /// Instructions that a sub-partition issued, likewise.
    pub fn issued(&self) -> f64 {
        self.issued / self.used_partitions() as f64
    }

    fn used_partitions(&self) -> usize {
        self.marks.len().clamp(1, SUB_PARTITIONS)
    }
}

/// How many rounds were done at a time, with the part of the round under way.
fn done(marks: &[f64], time: f64) -> f64 {
    let round = marks.partition_point(|&mark| mark < time);
    let before = if round == 0 { 0.0 } else { marks[round - 1] };
    round as f64 + (time - before) / (marks[round] - before)
}
