//! Tables of any content: nothing is read or written outside of the tensors.

use crate::{PAGE_SIZES, inputs, seed};
use sala_testkit::batch::Batch;
use sala_testkit::devices::all_orders;
use sala_testkit::operations::append_keys::AppendProblem;
use sala_testkit::operations::sparse_attention::cases::AttentionCase;
use sala_testkit::problem::run;
use sala_testkit::storage::{Pages, Storage};
use sala_testkit::tolerance::Precision;

#[test]
fn tables_of_any_content_lead_nowhere_else() {
    for machine in all_orders(seed()) {
        for (round, page_size) in PAGE_SIZES.into_iter().enumerate() {
            let pages = Pages {
                corrupted: Some(seed() + round as u64),
                ..Pages::new(page_size)
            };
            let keys = [700, 0, 1300];
            let inputs = inputs(&[9, 0, 20], &keys, pages.clone());
            let compressed = run(&inputs.compress(), &machine).keys;
            run(&inputs.select(&compressed, Some(inputs.blocks())), &machine);

            let mut attention = AttentionCase::plain(vec![(9, 700), (0, 0), (16, 1300)], seed()).problem();
            attention.batch.storage = Storage::Paged(pages.clone());
            run(&attention, &machine);
            run(&attention.decode(), &machine);

            let batch = Batch {
                storage: Storage::Paged(pages),
                ..Batch::new(&[70, 0, 1], &keys)
            };
            run(&AppendProblem::normal(Precision::Bf16, 2, 64, batch, seed()), &machine);
        }
    }
}
