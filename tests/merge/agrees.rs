//! Results are those of the definition, and of attention over all keys at once.

use sala_testkit::devices::{all, all_orders};
use sala_testkit::operations::merge::{MergeProblem, Place, Side};
use sala_testkit::operations::sparse_attention::AttentionProblem;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, ListCase};
use sala_testkit::problem::{Problem, Run, assert_same_bits, compare_on, compare_with, run};
use sala_testkit::property::seed;
use sala_testkit::tolerance::{Precision, attention_out, lse};

#[test]
fn any_number_of_heads_and_any_place_agrees() {
    let machines = all_orders(seed());
    for (index, heads) in [1, 2, 15, 16, 17, 32, 33, 64, 70].into_iter().enumerate() {
        for place in [Place::Apart, Place::Over(0), Place::Over(1)] {
            let precision = [Precision::Bf16, Precision::F16][index % 2];
            let shape = [index % 4, heads, [64, 128][index / 2 % 2]];
            let problem = MergeProblem::normal(precision, shape, [0.0, 1.0, 20.0][index % 3], seed());
            compare_on(&machines, &MergeProblem { place, ..problem });
        }
    }
}

/// A side without keys is not read: the other comes out as it is, and NaN stays where it is.
#[test]
fn sides_without_keys_are_not_read() {
    for machine in all() {
        for precision in [Precision::Bf16, Precision::F16] {
            let problem = MergeProblem::normal(precision, [9, 20, 64], 3.0, seed());
            let merged = run(&problem, &machine);
            let (mut alone, mut empty) = (0, 0);
            let bits =
                |values: &sala_testkit::values::Values, row: usize| values.slice(row * 64..(row + 1) * 64).to_bits();
            for row in 0..problem.rows() {
                let has_keys = |side: &&Side| side.lse[row] != f32::NEG_INFINITY;
                let what = format!("{}: row {row}", machine.name);
                match problem.sides.iter().filter(has_keys).collect::<Vec<_>>()[..] {
                    [] => {
                        assert!(bits(&merged.out, row).iter().all(|&bits| bits == 0), "{what}");
                        assert_eq!(merged.lse[row], f32::NEG_INFINITY, "{what}");
                        empty += 1;
                    }
                    [side] => {
                        assert_eq!(bits(&merged.out, row), bits(&side.out, row), "{what}");
                        assert_eq!(merged.lse[row], side.lse[row], "{what}");
                        alone += 1;
                    }
                    _ => assert!(merged.lse[row].is_finite(), "{what}"),
                }
            }
            assert!(alone > 0 && empty > 0, "{alone} rows of one side and {empty} of none");
        }
    }
}

/// Logarithms that are none, and the largest: NaN for their row, and no other.
#[test]
fn logarithms_that_are_no_numbers_make_their_row_nan() {
    let logarithms = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5, -3e38, 3e38];
    let rows = logarithms.len() * logarithms.len();
    let mut problem = MergeProblem::normal(Precision::F16, [1, rows, 64], 1.0, 3);
    for side in &mut problem.sides {
        side.out = MergeProblem::normal(Precision::F16, [1, rows, 64], 1.0, 4).sides[0]
            .out
            .clone();
        let finite: Vec<f64> = side
            .out
            .to_f64()
            .into_iter()
            .map(|x| if x.is_nan() { 1.0 } else { x })
            .collect();
        side.out = sala_testkit::values::Values::round(Precision::F16, finite);
    }
    for row in 0..rows {
        problem.sides[0].lse[row] = logarithms[row / logarithms.len()];
        problem.sides[1].lse[row] = logarithms[row % logarithms.len()];
    }
    let reference = problem.reference();
    for machine in all() {
        let merged = compare_with(&problem, &reference, &machine);
        let out = merged.out.to_f64();
        for row in 0..rows {
            let is_bad = problem
                .sides
                .iter()
                .any(|side| side.lse[row].is_nan() || side.lse[row] == f32::INFINITY);
            let row_out = &out[row * 64..(row + 1) * 64];
            let what = format!("{}: row {row}", machine.name);
            assert!(row_out.iter().all(|x| x.is_nan() == is_bad), "{what}");
            assert_eq!(merged.lse[row].is_nan(), is_bad, "{what}");
        }
    }
}

/// Where the result goes changes no bit.
#[test]
fn places_change_no_bit() {
    for machine in all() {
        let apart = MergeProblem::normal(Precision::Bf16, [7, 19, 128], 4.0, seed());
        let expected = run(&apart, &machine);
        assert!(expected.is_intact());
        for side in 0..2 {
            let over = MergeProblem {
                place: Place::Over(side),
                ..apart.clone()
            };
            assert_same_bits(
                &expected,
                &run(&over, &machine),
                &format!("{}: over {side}", machine.name),
            );
        }
    }
}

/// Attention over two halves of the keys, merged, is attention over all keys.
#[test]
fn halves_of_the_keys_are_the_whole() {
    let (tokens, keys, half) = (3, 300, 128);
    let case = AttentionCase {
        lists: ListCase::Selected,
        group: 4,
        heads_kv: 2,
        list_len: 5,
        ..AttentionCase::plain(vec![(tokens, keys)], seed())
    };
    let mut whole = case.problem();
    let list = |blocks: [i32; 5]| blocks.repeat(tokens * 2);
    let with = |problem: &AttentionProblem, blocks| {
        let mut problem = problem.clone();
        problem.lists.as_mut().expect("it has lists").indices = list(blocks);
        problem
    };
    whole = with(&whole, [0, 1, 2, 3, 4]);
    let halves = [with(&whole, [0, 1, -1, -1, -1]), with(&whole, [2, 3, 4, -1, -1])];
    assert_eq!(half % 64, 0);
    let reference = whole.reference();
    for machine in all() {
        let sides = halves.clone().map(|half| {
            let run = run(&half.decode(), &machine);
            Side {
                out: run.out,
                lse: run.lse,
            }
        });
        let problem = MergeProblem {
            tokens,
            heads: 8,
            dim: 128,
            sides,
            ..MergeProblem::normal(Precision::Bf16, [0, 8, 128], 1.0, 1)
        };
        let merged = run(&problem, &machine);
        let logarithms: Vec<f64> = merged.lse.iter().map(|&x| f64::from(x)).collect();
        lse(&logarithms, &reference.lse).assert(&machine.name);
        // Both halves were rounded before.
        let (out, magnitude) = (merged.out.to_f64(), &reference.magnitude);
        attention_out(Precision::Bf16, 128, &out, &reference.out, magnitude).assert(&machine.name);
    }
}
