//! Replayed norms: of heads, with rotary embedding, and of all channels, with a gate.

use super::file::ReplayFile;
use super::{ResultShapes, Results};
use crate::devices::Machine;
use crate::memory::Packing;
use crate::operations::norms::{Follows, NormProblem, NormRun};
use crate::problem::Problem;
use crate::tolerance::Judgement;
use crate::values::Values;
use sala_kernels::Status;
use std::time::Duration;

/// One norm.
#[derive(Clone, Debug)]
pub struct NormCall {
    /// The call.
    pub problem: NormProblem,
    shape: Vec<usize>,
    /// Shaped as x.
    pub expected_out: Option<Vec<f64>>,
}

impl NormCall {
    pub(super) fn parse_rope(file: &ReplayFile<'_>) -> Result<Self, String> {
        file.expect_only(&["x", "weight", "cos_sin", "positions", "expected.out"])?;
        let shape = file.shape_3("x")?;
        let [tokens, _, dim] = shape;
        // Positions mean nothing without a table.
        let turns = file.has("cos_sin").then(|| parse_turns(file, tokens, dim));
        let follows = Follows::Rope {
            dim,
            with_weight: file.has("weight"),
            positions: turns.transpose()?,
        };
        Self::parse(file, follows, shape.to_vec(), dim)
    }

    pub(super) fn parse_gate(file: &ReplayFile<'_>) -> Result<Self, String> {
        file.expect_only(&["x", "weight", "gate", "expected.out"])?;
        let shape = file.shape("x")?;
        let &[_, channels] = shape.as_slice() else {
            return Err(format!("tensor `x` has shape {shape:?}, expected [tokens, channels]"));
        };
        let gate = file.values("gate", &shape)?;
        let sums = None;
        Self::parse(file, Follows::Gate { gate, sums }, shape, channels)
    }

    fn parse(file: &ReplayFile<'_>, follows: Follows, shape: Vec<usize>, channels: usize) -> Result<Self, String> {
        let text = file.text("eps")?;
        let eps = text.parse().ok().filter(|eps| (0.0..f32::INFINITY).contains(eps));
        let x = file.values("x", &shape)?;
        let weight = match follows {
            Follows::Rope { with_weight: false, .. } => Values::round(x.precision(), vec![1.0; channels]),
            _ => file.values("weight", &[channels])?,
        };
        let is_of_one_type = match &follows {
            Follows::Gate { gate, .. } => gate.precision() == x.precision(),
            Follows::Rope { .. } | Follows::Sums => true,
        };
        if weight.precision() != x.precision() || !is_of_one_type {
            return Err("has tensors of several types, expected those of `x`".into());
        }
        Ok(NormCall {
            problem: NormProblem {
                follows,
                x,
                weight,
                tokens: shape.first().copied().unwrap_or(0),
                channels: shape.iter().skip(1).product(),
                eps: eps.ok_or_else(|| format!("`eps` is `{text}`, expected a number from 0 on"))?,
                in_place: false,
                packing: Packing::Separate,
            },
            expected_out: file.optional_numbers("expected.out", &shape)?,
            shape,
        })
    }

    pub(super) fn operation(&self) -> &'static str {
        match self.problem.follows {
            Follows::Rope { .. } => "norm_rope",
            Follows::Gate { .. } | Follows::Sums => "norm_gate",
        }
    }

    pub(super) fn shape(&self) -> String {
        format!("{:?} {}", self.shape, self.problem.x.dtype())
    }

    pub(super) fn result_shapes(&self) -> ResultShapes {
        ResultShapes::from([("out", self.shape.clone())])
    }

    pub(super) fn run_on_reference(&self) -> Results {
        Results {
            has_out: true,
            out: self.problem.reference().out,
            ..Results::default()
        }
    }

    pub(super) fn run(&self, machine: &Machine) -> sala_kernels::Result<(Results, Duration)> {
        let run = self.problem.run(machine)?;
        let results = Results {
            has_out: true,
            out: run.out,
            out_precision: Some(self.problem.x.precision()),
            ..Results::default()
        };
        Ok((results, run.elapsed))
    }

    pub(super) fn judge(&self, results: &Results) -> Judgement {
        let mut reference = self.problem.reference();
        if let Some(expected) = &self.expected_out {
            reference.out.clone_from(expected);
        }
        let run = NormRun {
            out: results.out.clone(),
            status: Status::default(),
            is_intact: true,
            elapsed: Duration::ZERO,
        };
        self.problem.judge(&run, &reference)
    }
}

/// The positions of tokens, and the table of cosines and sines that they are rows of.
fn parse_turns(file: &ReplayFile<'_>, tokens: usize, dim: usize) -> Result<(Vec<i32>, Vec<f32>), String> {
    let table = file.shape("cos_sin")?;
    let &[count, _] = table.as_slice() else {
        return Err(format!(
            "tensor `cos_sin` has shape {table:?}, expected [positions, {dim}]"
        ));
    };
    let cos_sin = file.floats("cos_sin", &[count, dim])?;
    Ok((file.indices("positions", Some(&[tokens]))?, cos_sin))
}
