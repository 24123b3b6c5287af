//! The calls of norms: what stands around linear attention.

use super::{Call, Names, Visitor};
use sala_testkit::floors;
use sala_testkit::operations::norms::NormProblem;
use sala_testkit::tolerance::Precision;

/// Tokens, heads and channels of a head: a prompt, a decode step, and small heads.
const ROPES: [[usize; 3]; 3] = [[256, 32, 128], [1, 32, 128], [256, 8, 64]];

/// Tokens and channels: SALA's, those of one rank of eight, and a decode step.
const ROWS: [[usize; 2]; 3] = [[256, 4096], [256, 512], [1, 4096]];

pub fn visit(visitor: &mut impl Visitor) {
    for shape in ROPES {
        let [tokens, heads, dim] = shape;
        let name = format!("bf16 {tokens}, {heads} x {dim}");
        visitor.visit(names("norm_rope"), move || {
            call(name, NormProblem::rope(Precision::Bf16, shape, 1))
        });
    }
    let name = |[tokens, channels]: [usize; 2]| format!("bf16 {tokens} of {channels} channels");
    let gate = |shape| NormProblem::gate(Precision::Bf16, shape, 1);
    for shape in ROWS {
        visitor.visit(names("norm_gate"), move || call(name(shape), gate(shape)));
    }
    for shape in ROWS {
        visitor.visit(names("sum_squares"), move || call(name(shape), gate(shape).sums()));
    }
}

fn names(operation: &'static str) -> Names {
    Names {
        kernel: operation,
        operation,
    }
}

fn call(shape: String, problem: NormProblem) -> Call<NormProblem> {
    Call {
        shape,
        floor: floors::norm(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}
