//! Wrong arguments are refused by name before anything runs.

use DType::{Bf16, F16, F32, I32, U32};
use sala_kernels::{DType, Error, Norm, NormGateArgs, NormRopeArgs, Result, SumSquaresArgs};
use sala_testkit::devices::all;
use sala_testkit::problem::launch;
use sala_testkit::refusals::{Fault, Spare, check};

const HEADS: [usize; 3] = [4, 2, 64];
const ROWS: [usize; 2] = [4, 256];

type Rope = NormRopeArgs<'static>;
type Gate = NormGateArgs<'static>;
type Sums = SumSquaresArgs<'static>;

fn rope(spare: &Spare) -> Rope {
    let mut args = Rope::new(Some(spare.tensor(Bf16, &HEADS)), spare.tensor_mut(Bf16, &HEADS));
    args.weight = Some(spare.tensor(Bf16, &[64]));
    args.cos_sin = Some(spare.tensor(F32, &[10, 64]));
    args.positions = Some(spare.list(&[0, 1, 2, 3]));
    args.status = Some(spare.tensor_mut(U32, &[4]));
    args
}

fn gate(spare: &Spare) -> Gate {
    let [x, gate] = [0, 1].map(|_| spare.tensor(Bf16, &ROWS));
    let mut args = Gate::new(Some(x), spare.tensor(Bf16, &[256]), gate, spare.tensor_mut(Bf16, &ROWS));
    args.sum_squares = Some((spare.tensor(F32, &[4]), 512));
    args
}

fn sums(spare: &Spare) -> Sums {
    Sums::new(spare.tensor(Bf16, &ROWS), spare.tensor_mut(F32, &[4]))
}

const ROPE_FAULTS: &[Fault<Rope>] = &[
    ("x", |args, spare| args.x = Some(spare.tensor(F16, &HEADS))),
    ("x", |args, spare| args.x = Some(spare.tensor(Bf16, &[4, 3, 64]))),
    ("x", |args, spare| {
        args.x = Some(spare.strided(Bf16, &HEADS, &[132, 64, 1], 0))
    }),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[4, 2, 96])),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[8, 64])),
    ("out", |args, spare| {
        args.out = spare.over(args.x.unwrap(), Bf16, &HEADS)
    }),
    ("weight", |args, spare| args.weight = Some(spare.tensor(F32, &[64]))),
    ("weight", |args, spare| args.weight = Some(spare.tensor(Bf16, &[128]))),
    ("cos_sin", |args, spare| {
        args.cos_sin = Some(spare.tensor(F32, &[10, 32]))
    }),
    ("cos_sin", |args, spare| {
        args.cos_sin = Some(spare.tensor(Bf16, &[10, 64]))
    }),
    ("positions", |args, spare| args.positions = Some(spare.list(&[0]))),
    ("positions", |args, spare| {
        args.positions = Some(spare.tensor(F32, &[4]))
    }),
    ("positions", |args, _| args.positions = None),
    ("positions", |args, _| args.cos_sin = None),
    ("status", |args, spare| args.status = Some(spare.tensor_mut(I32, &[4]))),
];

const GATE_FAULTS: &[Fault<Gate>] = &[
    ("x", |args, spare| args.x = Some(spare.tensor(Bf16, &[4, 128]))),
    ("gate", |args, spare| args.gate = spare.tensor(F16, &ROWS)),
    ("weight", |args, spare| args.weight = spare.tensor(Bf16, &[255])),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[4, 2, 128])),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[4, 252])),
    ("out", |args, spare| args.out = spare.over(args.gate, Bf16, &ROWS)),
    ("sum_squares", |args, spare| {
        args.sum_squares = Some((spare.tensor(F32, &[5]), 512))
    }),
    ("sum_squares", |args, spare| {
        args.sum_squares = Some((spare.tensor(F32, &[4]), 255))
    }),
];

const SUM_FAULTS: &[Fault<Sums>] = &[
    ("x", |args, spare| args.x = spare.tensor(Bf16, &[4, 12])),
    ("x", |args, spare| args.x = spare.tensor(F16, &ROWS)),
    ("out", |args, spare| args.out = spare.tensor_mut(Bf16, &[4])),
    ("out", |args, spare| args.out = spare.tensor_mut(F32, &[3])),
];

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    let norm = Norm::new(Bf16, 1e-6)?;
    for machine in all() {
        check(&machine, &norm, rope, ROPE_FAULTS)?;
        check(&machine, &norm, gate, GATE_FAULTS)?;
        check(&machine, &norm, sums, SUM_FAULTS)?;
    }
    Ok(())
}

#[test]
fn impossible_norms_are_refused() {
    let blamed = |dtype, eps| Norm::new(dtype, eps).map(|_| ()).unwrap_err().argument_name();
    assert_eq!(blamed(F32, 0.0), Some("dtype"));
    for eps in [-1e-6, f32::NAN, f32::INFINITY] {
        assert_eq!(blamed(Bf16, eps), Some("eps"));
    }
    for machine in all() {
        let spare = Spare::new(&machine.device);
        let args = Sums::new(spare.tensor(Bf16, &[1, 16392]), spare.tensor_mut(F32, &[1]));
        let error = launch(&machine, &Norm::new(Bf16, 0.0).unwrap(), args).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
}
