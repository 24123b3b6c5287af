//! Sequences with the same beginning may share its pages.

use crate::{PAGE_SIZES, inputs, seed};
use sala_testkit::devices::all;
use sala_testkit::operations::select_blocks::cases::SelectionInputs;
use sala_testkit::operations::sparse_attention::cases::AttentionCase;
use sala_testkit::problem::{Problem, assert_same_bits, compare_on, run};
use sala_testkit::storage::{Pages, Storage};

const KEYS: [usize; 3] = [700, 660, 130];
const SHARED: usize = 600;

/// Which token of the first sequence, or of its own, each token of the sequences is.
fn tokens() -> Vec<usize> {
    let mut first = 0;
    let mut tokens = Vec::new();
    for keys in KEYS {
        tokens.extend((0..keys).map(|token| if token < SHARED { token } else { first + token }));
        first += keys;
    }
    tokens
}

#[test]
fn shared_pages_give_the_bits_of_ones_own() {
    for machine in all() {
        for page_size in PAGE_SIZES {
            let own = inputs(&[9, 7, 5], &KEYS, Pages::new(page_size));
            let own = SelectionInputs {
                k: own.k.pick(own.total_k(), &tokens()),
                ..own
            };
            let mut shared = own.clone();
            shared.batch.storage = Storage::Paged(Pages {
                shared: SHARED,
                ..Pages::new(page_size)
            });
            let [of_own, of_shared] = [&own, &shared].map(|inputs| {
                let keys = run(&inputs.compress(), &machine).keys;
                run(&inputs.select(&keys, Some(inputs.blocks())), &machine)
            });
            let what = format!("{}: pages of {page_size}", machine.name);
            assert_same_bits(&of_own, &of_shared, &what);

            let mut attention = AttentionCase::plain(KEYS.map(|keys| (5, keys)).to_vec(), seed()).problem();
            let total = attention.total_k();
            [attention.k, attention.v] = [&attention.k, &attention.v].map(|rows| rows.pick(total, &tokens()));
            let mut of_shared = attention.clone();
            of_shared.batch.storage = shared.batch.storage.clone();
            assert_same_bits(&run(&attention, &machine), &run(&of_shared, &machine), &what);
            let step = of_shared.decode();
            compare_on(std::slice::from_ref(&machine), &step);
            assert_eq!(step.refused(&step.reference()).pages, 0, "{what}");
        }
    }
}
