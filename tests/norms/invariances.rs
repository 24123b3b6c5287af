//! A token's bits depend on nothing but the token.

use crate::seed;
use sala_testkit::devices::all;
use sala_testkit::memory::Packing;
use sala_testkit::operations::norms::{Follows, NormProblem};
use sala_testkit::problem::{assert_same_bits, run};
use sala_testkit::tolerance::Precision;

#[test]
fn a_token_has_the_same_bits_alone_in_place_and_in_any_layout() {
    for machine in all() {
        let rope = NormProblem::rope(Precision::F16, [5, 3, 128], seed());
        let gate = NormProblem::gate(Precision::Bf16, [5, 4000], seed());
        for problem in [rope, gate] {
            let expected = run(&problem, &machine);
            for (packing, in_place) in [
                (Packing::Fused, false),
                (Packing::Fused, true),
                (Packing::Separate, true),
            ] {
                let other = NormProblem {
                    packing,
                    in_place,
                    ..problem.clone()
                };
                assert_same_bits(
                    &expected,
                    &run(&other, &machine),
                    &format!("{}: {packing:?}", machine.name),
                );
            }
            let row = problem.channels;
            for token in 0..5 {
                let follows = match problem.follows.clone() {
                    Follows::Rope {
                        dim,
                        with_weight,
                        positions,
                    } => Follows::Rope {
                        dim,
                        with_weight,
                        positions: positions.map(|(positions, table)| (vec![positions[token]], table)),
                    },
                    Follows::Gate { gate, sums } => Follows::Gate {
                        gate: gate.rows(5, token..token + 1),
                        sums,
                    },
                    Follows::Sums => Follows::Sums,
                };
                let alone = NormProblem {
                    follows,
                    x: problem.x.rows(5, token..token + 1),
                    tokens: 1,
                    ..problem.clone()
                };
                let alone = run(&alone, &machine).out;
                assert_eq!(
                    alone[..],
                    expected.out[token * row..(token + 1) * row],
                    "{}",
                    machine.name
                );
            }
        }
    }
}
