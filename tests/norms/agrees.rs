//! Outputs within a few units in the last place of the definition.

use crate::seed;
use sala_testkit::devices::{all, all_orders, host};
use sala_testkit::operations::norms::{Follows, NormProblem, turns};
use sala_testkit::problem::{Problem, compare_on, run};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

const PRECISIONS: [Precision; 2] = [Precision::Bf16, Precision::F16];

/// Three million elements of each operation and type; a GPU that is interpreted gets fewer.
#[test]
fn many_random_elements_are_within_the_bound() {
    for precision in PRECISIONS {
        compare_on(&[host()], &NormProblem::rope(precision, [740, 32, 128], seed()));
        compare_on(&[host()], &NormProblem::gate(precision, [740, 4096], seed()));
        compare_on(&all(), &NormProblem::rope(precision, [9, 5, 64], seed()));
        compare_on(&all(), &NormProblem::gate(precision, [9, 2048], seed()));
    }
}

#[test]
fn every_width_agrees() {
    let machines = all_orders(seed());
    for precision in PRECISIONS {
        // Around the edges of warps and of passes over a row.
        for channels in [
            8, 128, 136, 256, 264, 512, 520, 1000, 1024, 1032, 2040, 2048, 2056, 4096, 5000, 8192, 16376, 16384,
        ] {
            let gate = NormProblem::gate(precision, [2, channels], seed());
            compare_on(&machines, &gate);
            compare_on(&machines, &gate.sums());
        }
        for (heads, dim) in [(1, 64), (3, 64), (1, 128), (5, 128)] {
            let rope = NormProblem::rope(precision, [3, heads, dim], seed());
            for with_weight in [true, false] {
                for positions in [None, Some((vec![0, 4999, 17], turns(5000, dim)))] {
                    let follows = Follows::Rope {
                        dim,
                        with_weight,
                        positions,
                    };
                    let in_place = with_weight;
                    compare_on(
                        &machines,
                        &NormProblem {
                            follows,
                            in_place,
                            ..rope.clone()
                        },
                    );
                }
            }
        }
    }
}

#[test]
fn zeros_and_huge_rows_agree() {
    for precision in PRECISIONS {
        for size in [0.0, 1e-3, 1e4] {
            let times = |values: &Values| Values::round(precision, values.to_f64().iter().map(|x| x * size));
            let rope = NormProblem::rope(precision, [5, 2, 128], seed());
            let gate = NormProblem::gate(precision, [5, 1000], seed());
            for problem in [rope, gate] {
                let x = times(&problem.x);
                compare_on(&all(), &NormProblem { x, ..problem });
            }
        }
    }
}

/// Sums that are far too small make numbers beyond the type: infinite, and no NaN.
#[test]
fn what_is_beyond_the_type_is_infinite() {
    for (precision, size) in PRECISIONS.into_iter().zip([1e30, 1e3]) {
        let gate = NormProblem::gate(precision, [2, 64], seed());
        let Follows::Gate { gate: gates, .. } = &gate.follows else {
            unreachable!()
        };
        let follows = Follows::Gate {
            gate: gates.clone(),
            sums: Some((vec![1e-30; 2], 64)),
        };
        let x = Values::round(precision, gate.x.to_f64().iter().map(|x| size * x));
        let eps = 1e-34;
        let problem = NormProblem {
            follows,
            x,
            eps,
            ..gate
        };
        compare_on(&all(), &problem);
        assert!(run(&problem, &host()).out.iter().all(|x| !x.is_nan()));
    }
}

#[test]
fn a_nan_spoils_its_own_row_alone() {
    for machine in all() {
        let rope = NormProblem::rope(Precision::Bf16, [4, 2, 64], seed());
        let gate = NormProblem::gate(Precision::Bf16, [4, 256], seed());
        for (problem, row) in [(rope, 64), (gate, 256)] {
            let clean = run(&problem, &machine).out;
            let mut bits = problem.x.to_bits();
            bits[row + 3] = 0x7fff;
            let x = Values::from_bits(Precision::Bf16, bits);
            let spoilt = run(&NormProblem { x, ..problem }, &machine).out;
            for (index, (clean, spoilt)) in clean.iter().zip(&spoilt).enumerate() {
                let is_spoilt = index / row == 1;
                assert_eq!(spoilt.is_nan(), is_spoilt, "{}: element {index}", machine.name);
                assert!(is_spoilt || clean == spoilt, "{}: element {index}", machine.name);
            }
        }
    }
}

/// Sums of ranks, added in their order, give what the whole row gives.
#[test]
fn halves_of_a_norm_make_the_whole() {
    const TOKENS: usize = 6;
    const CHANNELS: usize = 1024;
    for machine in all() {
        for precision in PRECISIONS {
            let whole = NormProblem::gate(precision, [TOKENS, CHANNELS], seed());
            let reference = whole.reference();
            let Follows::Gate { gate, .. } = &whole.follows else {
                unreachable!()
            };
            for ranks in [2, 4] {
                let width = CHANNELS / ranks;
                let part = |values: &Values, rank: usize, rows: usize| {
                    let bits = values.to_bits();
                    let row = |row: usize| bits[row * CHANNELS + rank * width..][..width].to_vec();
                    Values::from_bits(precision, (0..rows).flat_map(row))
                };
                let of_rank = |rank: usize, sums: Option<Vec<f32>>| NormProblem {
                    x: part(&whole.x, rank, TOKENS),
                    weight: part(&whole.weight, rank, 1),
                    channels: width,
                    follows: Follows::Gate {
                        gate: part(gate, rank, TOKENS),
                        sums: sums.map(|sums| (sums, CHANNELS)),
                    },
                    ..whole.clone()
                };
                let mut total = vec![0.0f32; TOKENS];
                for rank in 0..ranks {
                    let sums = run(&of_rank(rank, None).sums(), &machine).out;
                    total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum as f32);
                }
                let mut joined = run(&whole, &machine);
                joined.out = vec![0.0; TOKENS * CHANNELS];
                for rank in 0..ranks {
                    let out = run(&of_rank(rank, Some(total.clone())), &machine).out;
                    for (token, row) in out.chunks(width).enumerate() {
                        joined.out[token * CHANNELS + rank * width..][..width].copy_from_slice(row);
                    }
                }
                whole
                    .judge(&joined, &reference)
                    .assert(&format!("{}: {ranks} ranks", machine.name));
            }
        }
    }
}
