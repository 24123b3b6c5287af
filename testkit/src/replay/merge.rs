//! A replayed merge of attention over two sets of keys.

use super::file::ReplayFile;
use super::{ResultShapes, Results};
use crate::devices::Machine;
use crate::memory::Packing;
use crate::operations::merge::{MergeProblem, MergeRun, Place, Side};
use crate::problem::Problem;
use crate::tolerance::Judgement;
use crate::values::Values;
use sala_kernels::Status;
use std::time::Duration;

/// One merge.
#[derive(Clone, Debug)]
pub struct MergeCall {
    /// The call.
    pub problem: MergeProblem,
    /// `[tokens, heads, dim]`.
    pub expected_out: Option<Vec<f64>>,
    /// `[tokens, heads]`.
    pub expected_lse: Option<Vec<f64>>,
}

impl MergeCall {
    pub(super) fn parse(file: &ReplayFile<'_>) -> Result<Self, String> {
        file.expect_only(&["o1", "lse1", "o2", "lse2", "expected.out", "expected.lse"])?;
        let shape = file.shape_3("o1")?;
        let [tokens, heads, dim] = shape;
        let side = |out, lse| -> Result<Side, String> {
            Ok(Side {
                out: file.values(out, &shape)?,
                lse: file.floats(lse, &[tokens, heads])?,
            })
        };
        let sides = [side("o1", "lse1")?, side("o2", "lse2")?];
        if sides[0].out.precision() != sides[1].out.precision() {
            return Err("has tensors of several types, expected those of `o1`".into());
        }
        Ok(MergeCall {
            problem: MergeProblem {
                tokens,
                heads,
                dim,
                sides,
                place: Place::Apart,
                packing: Packing::Separate,
            },
            expected_out: file.optional_numbers("expected.out", &shape)?,
            expected_lse: file.optional_numbers("expected.lse", &[tokens, heads])?,
        })
    }

    fn shape_of_out(&self) -> Vec<usize> {
        vec![self.problem.tokens, self.problem.heads, self.problem.dim]
    }

    pub(super) fn shape(&self) -> String {
        format!("{:?} {}", self.shape_of_out(), self.problem.sides[0].out.dtype())
    }

    pub(super) fn result_shapes(&self) -> ResultShapes {
        let out = self.shape_of_out();
        ResultShapes::from([("lse", out[..2].to_vec()), ("out", out)])
    }

    pub(super) fn run_on_reference(&self) -> Results {
        let merged = self.problem.reference();
        Results {
            has_out: true,
            out: merged.out,
            lse: Some(merged.lse),
            ..Results::default()
        }
    }

    pub(super) fn run(&self, machine: &Machine) -> sala_kernels::Result<(Results, Duration)> {
        let run = self.problem.run(machine)?;
        let results = Results {
            has_out: true,
            out: run.out.to_f64(),
            out_precision: Some(run.out.precision()),
            lse: Some(run.lse.iter().map(|&lse| f64::from(lse)).collect()),
            ..Results::default()
        };
        Ok((results, run.elapsed))
    }

    pub(super) fn judge(&self, results: &Results) -> Judgement {
        let mut reference = self.problem.reference();
        if let Some(expected) = &self.expected_out {
            reference.out.clone_from(expected);
        }
        if let Some(expected) = &self.expected_lse {
            reference.lse.clone_from(expected);
        }
        let run = MergeRun {
            out: Values::round(self.problem.sides[0].out.precision(), results.out.iter().copied()),
            lse: results.lse.iter().flatten().map(|&lse| lse as f32).collect(),
            status: Status::default(),
            is_intact: true,
            elapsed: Duration::ZERO,
        };
        self.problem.judge(&run, &reference)
    }
}
