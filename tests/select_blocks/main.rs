//! Block selection on every device, by compressed keys and by given scores, against the scores and lists that define it.

mod agrees;
mod choose;
mod decode;
mod dense;
mod edges;
mod invariances;
mod long;
mod races;
mod recorded;
mod refusals;

use sala_kernels::reference::select_blocks::{BlockScores, Config};
use sala_testkit::devices::Machine;
use sala_testkit::operations::choose_blocks::{self, KINDS};
use sala_testkit::operations::compress_keys::Compressed;
use sala_testkit::operations::select_blocks::Selected;
use sala_testkit::operations::select_blocks::cases::SelectionInputs;
use sala_testkit::problem::{Problem, Run, compare_with, run};
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

/// Normal queries and keys of sequences of these lengths.
fn inputs(precision: Precision, config: Config, queries: &[usize], keys: &[usize]) -> SelectionInputs {
    SelectionInputs::normal(precision, config, queries, keys, seed())
}

/// The keys, compressed on a device.
#[track_caller]
fn compress(inputs: &SelectionInputs, machine: &Machine) -> Compressed {
    run(&inputs.compress(), machine).keys
}

/// Runs a selection with and without the scores of all blocks and of one more, and compares both with the reference.
#[track_caller]
fn check(inputs: &SelectionInputs, machine: &Machine) -> Selected {
    let keys = compress(inputs, machine);
    let problem = inputs.select(&keys, Some(inputs.blocks() + 1));
    let reference = problem.reference();
    let with_scores = compare_with(&problem, &reference, machine);
    let lists_alone = compare_with(&inputs.select(&keys, None), &reference, machine);
    let lists = Selected {
        scores: None,
        ..with_scores.clone()
    };
    let difference = lists.difference(&lists_alone);
    assert_eq!(
        difference, None,
        "{}: the lists depend on whether scores are stored",
        machine.name
    );
    with_scores
}

/// The numbers of a tensor times a factor.
fn times(values: &Values, factor: f64) -> Values {
    Values::round(values.precision(), values.to_f64().into_iter().map(|x| x * factor))
}

/// Scores of a kind, from the seed of this run.
fn given_scores(kind: usize, rows: usize, blocks: usize) -> BlockScores {
    choose_blocks::given_scores(kind, rows, blocks, seed() + kind as u64)
}
