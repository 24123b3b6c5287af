//! Key compression on every device against the means it is defined by.

mod agrees;
mod invariances;
mod races;
mod refusals;

use sala_testkit::operations::select_blocks::cases::{SelectionInputs, small_config};
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;

/// Keys of sequences with these lengths; there are no queries.
fn inputs(precision: Precision, dim: usize, block_size: usize, lengths: &[usize]) -> SelectionInputs {
    let mut config = small_config(2, 2, dim);
    config.block_size = block_size;
    SelectionInputs::normal(precision, config, &vec![0; lengths.len()], lengths, seed())
}
