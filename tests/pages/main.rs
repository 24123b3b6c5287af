//! Keys in pages, for every operation that takes keys: shared pages, bad ones, tables of any content, and sequences that grow in them.

mod bad;
mod corrupted;
mod grown;
mod indexed;
mod shared;

use std::sync::OnceLock;

use sala_kernels::reference::select_blocks::Config;
use sala_testkit::operations::select_blocks::cases::{SelectionInputs, small_config};
use sala_testkit::storage::{Pages, Storage};
use sala_testkit::tolerance::Precision;

/// The seed of this run, printed.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = sala_testkit::property::seed();
        println!("SALA_TEST_SEED={seed}");
        seed
    })
}

/// Pages smaller than a block of keys, whose compressed keys lie apart in each of the three ways, as large, and larger.
const PAGE_SIZES: [usize; 6] = [1, 2, 16, 64, 256, 1024];

/// Queries and keys of sequences of these lengths, stored in pages.
fn inputs(queries: &[usize], keys: &[usize], pages: Pages) -> SelectionInputs {
    let mut inputs = SelectionInputs::normal(Precision::Bf16, config(), queries, keys, seed());
    inputs.batch.storage = Storage::Paged(pages);
    inputs
}

fn config() -> Config {
    small_config(6, 2, 64)
}
