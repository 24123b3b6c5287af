//! Wrong arguments are refused by name before anything runs.

use DType::{Bf16, F16, F32};
use sala_kernels::{DType, Merge, MergeArgs, Result};
use sala_testkit::devices::all;
use sala_testkit::refusals::{Fault, Spare, assert_blamed, check};

const ROWS: [usize; 3] = [4, 2, 64];
const LSE: [usize; 2] = [4, 2];

type Args = MergeArgs<'static>;

fn args(spare: &Spare) -> Args {
    let [first, second] = [(); 2].map(|()| (spare.tensor(Bf16, &ROWS), spare.tensor(F32, &LSE)));
    let (out, lse) = (spare.tensor_mut(Bf16, &ROWS), spare.tensor_mut(F32, &LSE));
    Args::new(Some(first), Some(second), out, lse)
}

const FAULTS: &[Fault<Args>] = &[
    ("out1", |args, spare| {
        args.first = Some((spare.tensor(F16, &ROWS), spare.tensor(F32, &LSE)));
    }),
    ("out1", |args, spare| {
        args.first = Some((spare.tensor(Bf16, &[4, 3, 64]), spare.tensor(F32, &LSE)));
    }),
    ("out1", |args, spare| {
        args.first = Some((spare.strided(Bf16, &ROWS, &[132, 64, 1], 0), spare.tensor(F32, &LSE)));
    }),
    ("lse1", |args, spare| {
        args.first = Some((spare.tensor(Bf16, &ROWS), spare.tensor(F32, &[2, 4])));
    }),
    ("lse1", |args, spare| {
        args.first = Some((spare.tensor(Bf16, &ROWS), spare.tensor(Bf16, &LSE)));
    }),
    ("out2", |args, spare| {
        args.second = Some((spare.tensor(Bf16, &[5, 2, 64]), spare.tensor(F32, &LSE)));
    }),
    ("lse2", |args, spare| {
        args.second = Some((spare.tensor(Bf16, &ROWS), spare.strided(F32, &LSE, &[4, 2], 0)));
    }),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[4, 2, 96])),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[8, 64])),
    ("out", |args, spare| args.out = spare.tensor_mut(F16, &ROWS)),
    ("lse", |args, spare| args.lse = spare.tensor_mut(F32, &[8])),
    ("out1", |args, _| (args.first, args.second) = (None, None)),
    // In place is said by leaving a side out.
    ("out", |args, spare| {
        args.out = spare.over(args.first.unwrap().0, Bf16, &ROWS);
    }),
    ("lse", |args, spare| {
        args.lse = spare.over(args.second.unwrap().1, F32, &LSE);
    }),
    ("out", |args, spare| {
        args.lse = spare.over(args.out.as_tensor(), F32, &LSE);
    }),
];

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    for machine in all() {
        let merge = Merge::new(Bf16)?;
        check(&machine, &merge, args, FAULTS)?;
        check(
            &machine,
            &merge,
            |spare| {
                let mut args = args(spare);
                args.first = None;
                args
            },
            &[],
        )?;
        check(
            &machine,
            &merge,
            |spare| {
                let mut args = args(spare);
                args.second = None;
                args
            },
            &[],
        )?;
    }
    assert_blamed(Merge::new(F32), "dtype", "merges in f32");
    Ok(())
}
