//! Commitment of the keys of accepted drafts on every device: what moves, what does not, and what is refused.

mod steps;

use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{AttentionShape, CommitKeysArgs, DType, Keys, Result, SparseLayer, Status};
use sala_testkit::batch::Storing;
use sala_testkit::devices::{all, all_orders};
use sala_testkit::operations::commit_keys::CommitProblem;
use sala_testkit::problem::{Problem, compare_on, run};
use sala_testkit::property::seed;
use sala_testkit::refusals::{Fault, Spare, check};
use sala_testkit::storage::{Pages, Storage};
use sala_testkit::tolerance::Precision;

const HEADS: usize = 2;
const DIM: usize = 64;
const PAGES: [usize; 4] = [5, 16, HEADS, DIM];
const BATCH: usize = 2;
const DRAFTS: usize = 4;

/// Sequences of 40 and 4 keys, the last four of each drafts.
fn small(storing: Storing) -> CommitProblem {
    CommitProblem::random(Precision::Bf16, [3, 64], &[36, 0], DRAFTS, storing, seed())
}

/// Paths of every kind: those that stay where they are, that begin late, whose rows overlap, and of one draft.
#[test]
fn any_path_moves_its_rows() {
    let machines = all_orders(seed());
    for storing in [Storing::Packed, Storing::Cached, Storing::Paged(1), Storing::Paged(64)] {
        let mut problem = small(storing);
        for bits in 0..1 << DRAFTS {
            let path: Vec<i32> = (0..DRAFTS as i32).filter(|draft| bits >> draft & 1 == 1).collect();
            problem.accepted = vec![path.len() as i32, 0];
            problem.path = [path, vec![-7; 2 * DRAFTS]].concat();
            problem.path.truncate(2 * DRAFTS);
            compare_on(&machines, &problem);
            // The other sequence, and the entries that are not read.
            problem.path.rotate_right(DRAFTS);
            problem.accepted.swap(0, 1);
            compare_on(&machines, &problem);
        }
    }
}

#[test]
fn what_cannot_be_is_refused_and_counted() {
    let plain = small(Storing::Cached);
    let with = |change: &dyn Fn(&mut CommitProblem)| {
        let mut problem = plain.clone();
        problem.accepted = vec![2, 1];
        problem.path = vec![1, 3, 0, 0, 2, 0, 0, 0];
        change(&mut problem);
        problem
    };
    let cases = [
        (with(&|_| {}), 0),
        (with(&|p| p.accepted[0] = 5), 1),
        (with(&|p| p.accepted[0] = -1), 1),
        (with(&|p| p.accepted[0] = i32::MIN), 1),
        (with(&|p| p.path[0] = -1), 1),
        (with(&|p| p.path[0] = 3), 1),
        (with(&|p| p.path[1] = 4), 1),
        (with(&|p| p.path[1] = i32::MAX), 1),
        (with(&|p| p.base[0] = 37), 1),
        (with(&|p| p.base[0] = -1), 1),
        (with(&|p| p.base[0] = i32::MIN), 1),
        (with(&|p| p.base = vec![41, 5]), 2),
        (with(&|p| p.path[6] = 77), 0),
    ];
    for machine in all() {
        for (index, (problem, refused)) in cases.iter().enumerate() {
            let got = run(problem, &machine);
            assert_eq!(
                got.status,
                Status::from([0, 0, *refused, 0]),
                "{}: case {index}",
                machine.name
            );
            problem
                .judge(&got, &problem.reference())
                .assert(&format!("{}: case {index}", machine.name));
        }
    }
}

/// Neither from a bad page nor to one; what is in others moves.
#[test]
fn rows_of_bad_pages_stay() {
    let machines = all_orders(seed());
    for bad in 36..40 {
        let mut problem = small(Storing::Paged(1));
        problem.batch.storage = Storage::Paged(Pages {
            bad: Some((0, bad)),
            ..Pages::new(1)
        });
        for path in [[1, 2, 3, 0], [2, 3, 0, 0]] {
            problem.accepted = vec![if path[2] == 0 { 2 } else { 3 }, 0];
            problem.path = [path, [0; 4]].concat();
            compare_on(&machines, &problem);
        }
    }
}

/// A padded entry of a batch has no cache, and whatever else it says means nothing.
#[test]
fn padding_is_legal() {
    for machine in all() {
        let spare = Spare::new(&machine.device);
        let layer = layer().expect("a layer");
        let cache = [3, 16, HEADS, DIM];
        let mut args = CommitKeysArgs::new(
            spare.tensor_mut(Bf16, &cache),
            spare.tensor_mut(Bf16, &cache),
            Keys::cached_at(spare.list(&[10, 0]), spare.list(&[2, -1])),
            spare.list(&[6, -5]),
            spare.list(&[0, 99]),
            spare.tensor(I32, &[BATCH, DRAFTS]),
        );
        let status = spare.tensor_mut(U32, &[4]);
        args.status = Some(status);
        sala_testkit::problem::launch(&machine, &layer, args).expect("good arguments");
    }
}

type Commit = CommitKeysArgs<'static>;

fn layer() -> Result<SparseLayer> {
    let shape = AttentionShape {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim: DIM,
    };
    SparseLayer::builder(Bf16, shape, 0).build()
}

fn good(spare: &Spare) -> Commit {
    let keys = Keys::paged(spare.list(&[10, 30]), spare.tensor(U32, &[BATCH, 3]));
    let [k, v] = [0, 1].map(|_| spare.tensor_mut(Bf16, &PAGES));
    let path = spare.tensor(I32, &[BATCH, DRAFTS]);
    let mut args = Commit::new(k, v, keys, spare.list(&[6, 26]), spare.list(&[1, 1]), path);
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

const FAULTS: &[Fault<Commit>] = &[
    ("k", |args, spare| args.k = spare.tensor_mut(F16, &PAGES)),
    ("k", |args, spare| {
        args.k = spare.tensor_mut(Bf16, &[5 * 16, HEADS, DIM])
    }),
    ("k", |args, spare| args.v = spare.over(args.k.as_tensor(), Bf16, &PAGES)),
    ("v", |args, spare| args.v = spare.tensor_mut(Bf16, &[4, 16, HEADS, DIM])),
    ("v", |args, spare| args.v = spare.tensor_mut(F16, &PAGES)),
    ("base", |args, spare| args.base = spare.tensor(I32, &[BATCH + 1])),
    ("base", |args, spare| args.base = spare.tensor(F32, &[BATCH])),
    ("accepted", |args, spare| {
        args.accepted = spare.tensor(I32, &[BATCH - 1])
    }),
    ("accepted", |args, spare| args.accepted = spare.tensor(F32, &[BATCH])),
    ("path", |args, spare| args.path = spare.tensor(I32, &[BATCH * DRAFTS])),
    ("path", |args, spare| {
        args.path = spare.tensor(I32, &[BATCH + 1, DRAFTS])
    }),
    ("path", |args, spare| args.path = spare.tensor(I32, &[BATCH, 17])),
    ("path", |args, spare| {
        args.path = spare.strided(I32, &[BATCH, DRAFTS], &[8, 2], 0)
    }),
    ("k", |args, spare| {
        args.k = spare.over(args.path, Bf16, &[1, 16, HEADS, DIM])
    }),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(U32, &[5]))),
];

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    for machine in all() {
        check(&machine, &layer()?, good, FAULTS)?;
    }
    Ok(())
}
