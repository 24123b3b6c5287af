//! The norms that are counted: what stands around linear attention.

use crate::case::{Call, Case};
use sala_testkit::floors;
use sala_testkit::operations::norms::NormProblem;
use sala_testkit::tolerance::Precision;

/// Tokens, heads and channels of a head: a prompt and a decode step.
const ROPES: [[usize; 3]; 3] = [[256, 32, 128], [1, 32, 128], [256, 8, 64]];

/// Tokens and channels: SALA's, those of one rank of eight, and a decode step.
const ROWS: [[usize; 2]; 3] = [[256, 4096], [256, 512], [1, 4096]];

pub fn cases() -> impl Iterator<Item = Case> {
    let ropes = ROPES.into_iter().map(|shape| {
        let [tokens, heads, dim] = shape;
        let name = format!("bf16 {tokens}, {heads} x {dim}");
        Case::new("norm_rope", move || {
            call(name, NormProblem::rope(Precision::Bf16, shape, 1))
        })
    });
    let name = |[tokens, channels]: [usize; 2]| format!("bf16 {tokens} of {channels} channels");
    let gate = |shape| NormProblem::gate(Precision::Bf16, shape, 1);
    let gates = ROWS
        .into_iter()
        .map(move |shape| Case::new("norm_gate", move || call(name(shape), gate(shape))));
    let sums = ROWS
        .into_iter()
        .map(move |shape| Case::new("sum_squares", move || call(name(shape), gate(shape).sums())));
    ropes.chain(gates).chain(sums)
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
