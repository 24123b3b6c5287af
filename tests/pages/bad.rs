//! What lies in a page that the table names wrongly is as if it were not there, and the entry is counted.

use crate::{PAGE_SIZES, inputs, seed};
use sala_kernels::Entry;
use sala_testkit::batch::{Batch, Storing};
use sala_testkit::devices::{all_orders, race_detecting_host};
use sala_testkit::operations::append_keys::AppendProblem;
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, ListCase};
use sala_testkit::operations::sparse_attention::{AttentionProblem, Lists};
use sala_testkit::problem::{Problem, Run, assert_same_bits, compare_on, run};
use sala_testkit::storage::{Pages, Storage};
use sala_testkit::tolerance::Precision;

fn with_bad(page_size: usize, sequence: usize, page: usize) -> Pages {
    Pages {
        bad: Some((sequence, page)),
        ..Pages::new(page_size)
    }
}

#[test]
fn rows_of_bad_pages_are_not_appended() {
    let machines = all_orders(seed());
    for page_size in PAGE_SIZES {
        let batch = Batch {
            storage: Storage::Paged(with_bad(page_size, 1, 1200 / page_size)),
            ..Batch::new(&[5, 100], &[30, 1290])
        };
        compare_on(&machines, &AppendProblem::normal(Precision::F16, 2, 64, batch, seed()));
    }
}

/// Rows of K1 and K2 of which a key is in a bad page are left as they are: NaN here, which a selection leaves out as the definition does.
#[test]
fn compressed_keys_of_bad_pages_are_left_out() {
    for machine in all_orders(seed()) {
        for page_size in PAGE_SIZES {
            let page = 500 / page_size;
            let inputs = inputs(&[9, 0, 3], &[1100, 40, 700], with_bad(page_size, 0, page));
            let what = format!("{}: pages of {page_size}", machine.name);
            let compress = inputs.compress();
            let compressed = run(&compress, &machine);
            compress.judge(&compressed, &compress.reference()).assert(&what);
            assert!(compressed.status.pages > 0, "{what}");

            let select = inputs.select(&compressed.keys, Some(inputs.blocks()));
            let selected = run(&select, &machine);
            select.judge(&selected, &select.reference()).assert(&what);
            // Compressed keys that lie apart have pages of their own, which are good.
            assert_eq!(selected.status().pages > 0, page_size >= 64, "{what}");
        }
    }
}

/// What takes the place of rows in bad pages is written, not copied.
#[test]
fn rows_of_bad_pages_do_not_race() {
    let machine = race_detecting_host(seed());
    for page in [1, 6] {
        let inputs = inputs(&[9, 0, 3], &[1100, 40, 700], with_bad(64, 0, page));
        let select = inputs.select(&run(&inputs.compress(), &machine).keys, None);
        for select in [select.clone(), select.decode()] {
            let selected = run(&select, &machine);
            select.judge(&selected, &select.reference()).assert("pages of 64");
        }
    }
}

/// Dense attention with a bad page among the keys before the queries is that over the others.
#[test]
fn keys_of_bad_pages_are_not_attended_to() {
    for machine in all_orders(seed()) {
        for page_size in [1, 2, 16, 32, 64, 128] {
            let page = 150 / page_size;
            let (first, end) = (page * page_size, (page + 1) * page_size);
            let mut case = AttentionCase::plain(vec![(3, 90), (9, 400)], seed());
            case.lists = ListCase::None;
            let mut problem = case.problem();
            let kept: Vec<usize> = (0..490)
                .filter(|token| !(90 + first..90 + end).contains(token))
                .collect();
            let without = AttentionProblem {
                k: problem.k.pick(490, &kept),
                v: problem.v.pick(490, &kept),
                batch: Batch::new(&[3, 9], &[90, 400 - page_size]),
                ..problem.clone()
            };
            problem.batch.storage = Storage::Paged(with_bad(page_size, 1, page));
            for problem in [problem.clone(), problem.decode()] {
                let run = run(&problem, &machine);
                let what = format!("{}: pages of {page_size}, {:?}", machine.name, problem.entry);
                without.judge(&run, &without.reference()).assert(&what);
                assert!(run.status.pages > 0, "{what}");
            }
        }
    }
}

/// A listed block in a bad page is one that is not listed, to the bit; one that nobody lists is not asked for. In a decode step it keeps its place
/// in the list, by which keys are cut, so that others may add up in another order.
#[test]
fn a_block_in_a_bad_page_is_as_if_it_were_not_listed() {
    for machine in all_orders(seed()) {
        let mut problem = AttentionCase::plain(vec![(6, 600)], seed()).problem();
        let list = |blocks: &[i32]| {
            let mut list = blocks.to_vec();
            list.resize(5, -1);
            Some(Lists {
                indices: list.repeat(6),
                list_len: 5,
            })
        };
        problem.lists = list(&[0, 3, 8, 9]);
        let expected = run(&problem, &machine);
        problem.batch.storage = Storage::Paged(with_bad(64, 0, 5));
        for problem in [problem.clone(), problem.decode()] {
            let unasked = run(&problem, &machine);
            assert_eq!(unasked.status.pages, 0, "{}: {:?}", machine.name, problem.entry);
            let mut listed = problem.clone();
            listed.lists = list(&[0, 3, 5, 8, 9]);
            let got = run(&listed, &machine);
            assert!(got.status.pages > 0, "{}: {:?}", machine.name, problem.entry);
            let what = format!("{}: {:?}", machine.name, problem.entry);
            match problem.entry {
                Entry::Decode => problem.judge(&got, &problem.reference()).assert(&what),
                _ => assert_same_bits(&unasked, &got, &what),
            }
        }
        assert_same_bits(&expected, &run(&problem, &machine), &machine.name);
    }
}

/// A block may end in pages that its sequence has no keys in: the table need not name them.
#[test]
fn the_end_of_a_block_needs_no_page() {
    let machines = all_orders(seed());
    for page_size in PAGE_SIZES {
        for keys in [1, 65, 130] {
            let case = AttentionCase {
                block_size: 128,
                storage: Storing::Paged(page_size),
                ..AttentionCase::plain(vec![(1, keys)], seed())
            };
            for problem in [case.problem(), case.problem().decode()] {
                compare_on(&machines, &problem);
            }
        }
    }
}
