//! Key compression on every device against the means it is defined by.

use sala_kernels::reference::compress_keys::Window;
use sala_kernels::reference::select_blocks::{Config, ScoreLse};
use sala_kernels::{Buffer, CompressKeys, CompressKeysArgs, DType, Error, KeyLengths};
use sala_testkit::cases::{LENGTHS, Numbers, seed};
use sala_testkit::devices::{Machine, all, all_orders, host, race_detecting_host};
use sala_testkit::selection::{Compressed, Order, SelectionProblem, Storage};
use sala_testkit::tolerance::Precision;
use sala_testkit::values::Values;

/// Keys of sequences with these lengths; there are no queries.
fn problem(
    precision: Precision,
    dim: usize,
    block_size: usize,
    lengths: &[usize],
    storage: Storage,
) -> SelectionProblem {
    let heads_kv = 2;
    let mut numbers = Numbers::new(seed());
    let total: usize = lengths.iter().sum();
    SelectionProblem {
        config: Config {
            heads_q: heads_kv,
            heads_kv,
            dim,
            scale: 1.0,
            block_size,
            topk: 4,
            init_blocks: 1,
            local_blocks: 1,
            lse: ScoreLse::Coarse,
        },
        q: Values::round(precision, []),
        k: Values::round(precision, numbers.normals(total * heads_kv * dim, 1.0)),
        queries: vec![0; lengths.len()],
        keys: lengths.to_vec(),
        scale_factor: None,
        storage,
        order: Order::RowMajor,
    }
}

/// The distance of two numbers, in steps of their type.
fn steps(a: u16, b: u16) -> u32 {
    let ordered = |bits: u16| {
        if bits & 0x8000 != 0 {
            -i32::from(bits & 0x7fff)
        } else {
            i32::from(bits)
        }
    };
    ordered(a).abs_diff(ordered(b))
}

fn check(problem: &SelectionProblem, machine: &Machine, got: &Compressed) {
    let block_size = problem.config.block_size;
    assert_eq!(got.status, [0; 4]);
    for (rows, window) in [
        (&got.k1, Window::fine(block_size)),
        (&got.k2, Window::coarse(block_size)),
    ] {
        assert_eq!(problem.stray_writes(rows, window), 0, "{}: {:?}", machine.name, window);
        let expected = problem.reference_rows(window);
        for (sequence, (got, expected)) in problem.device_rows(rows, window).iter().zip(&expected).enumerate() {
            let far = got
                .to_bits()
                .iter()
                .zip(expected.to_bits())
                .position(|(&got, expected)| steps(got, expected) > 1);
            assert_eq!(got.len(), expected.len());
            assert_eq!(
                far, None,
                "{}: {window:?}, sequence {sequence} of {:?}",
                machine.name, problem.keys
            );
        }
    }
}

#[test]
fn rows_are_the_means_of_their_windows() {
    for machine in all_orders(seed()) {
        for (precision, dim, block_size) in [
            (Precision::Bf16, 128, 64),
            (Precision::F16, 64, 64),
            (Precision::Bf16, 64, 32),
            (Precision::F16, 128, 128),
        ] {
            for storage in [Storage::Packed, Storage::Cached { spare: 37 }] {
                let lengths: Vec<usize> = LENGTHS
                    .into_iter()
                    .filter(|&length| length <= 200)
                    .chain([1200])
                    .collect();
                let problem = problem(precision, dim, block_size, &lengths, storage);
                check(&problem, &machine, &problem.compress(&machine).unwrap());
            }
        }
    }
}

#[test]
fn every_layout_gives_the_same_rows() {
    let lengths = [100, 0, 333, 64, 1];
    for machine in all() {
        let plain = problem(Precision::Bf16, 64, 64, &lengths, Storage::Packed);
        let expected = plain.compress(&machine).unwrap();
        for (storage, order) in [
            (Storage::Packed, Order::HeadMajor),
            (Storage::Cached { spare: 5 }, Order::RowMajor),
            (Storage::Cached { spare: 0 }, Order::HeadMajor),
        ] {
            let other = SelectionProblem {
                storage,
                order,
                ..plain.clone()
            };
            let got = other.compress(&machine).unwrap();
            for window in [Window::fine(64), Window::coarse(64)] {
                let rows = |keys: &Compressed, problem: &SelectionProblem| {
                    problem.device_rows(if window == Window::fine(64) { &keys.k1 } else { &keys.k2 }, window)
                };
                assert!(
                    rows(&got, &other) == rows(&expected, &plain),
                    "{storage:?} {order:?} {window:?}"
                );
            }
        }
    }
}

#[test]
fn rows_have_the_same_bits_however_the_tokens_arrive() {
    for machine in all() {
        for (precision, block_size) in [(Precision::Bf16, 64), (Precision::F16, 32)] {
            let lengths = [700, 129, 16, 0, 385];
            let problem = problem(precision, 64, block_size, &lengths, Storage::Cached { spare: 3 });
            let whole = problem.compress(&machine).unwrap();
            for chunk in [15, 16, 63, 64, 512] {
                let ends = (1..).map(|step| lengths.map(|length| length.min(step * chunk)).to_vec());
                let mut chunks: Vec<Vec<usize>> = ends.take_while(|ends| ends[0] < lengths[0]).collect();
                chunks.push(lengths.to_vec());
                assert!(
                    problem.compress_in_steps(&machine, &chunks).unwrap() == whole,
                    "chunks of {chunk}"
                );
            }
        }
        let few = problem(Precision::Bf16, 64, 64, &[150, 140], Storage::Cached { spare: 0 });
        let tokens: Vec<Vec<usize>> = (1..=150).map(|length| vec![length, length.min(140)]).collect();
        assert!(
            few.compress_in_steps(&machine, &tokens).unwrap() == few.compress(&machine).unwrap(),
            "token by token"
        );
    }
}

#[test]
fn zero_and_huge_keys_stay_within_a_step() {
    let machine = host();
    for size in [0.0, 1e4] {
        for precision in [Precision::Bf16, Precision::F16] {
            let mut problem = problem(precision, 64, 64, &[300], Storage::Packed);
            problem.k = Values::round(precision, problem.k.to_f64().iter().map(|x| x * size));
            check(&problem, &machine, &problem.compress(&machine).unwrap());
        }
    }
}

#[test]
fn the_race_detector_finds_nothing() {
    let machine = race_detecting_host(seed());
    for (dim, block_size, lengths) in [(128, 64, vec![1200, 33]), (64, 128, vec![600])] {
        let problem = problem(Precision::Bf16, dim, block_size, &lengths, Storage::Packed);
        check(&problem, &machine, &problem.compress(&machine).unwrap());
    }
}

/// A call on a cache of 128 tokens of one head, with lengths that the device judges.
fn refused(machine: &Machine, seqlens_k: i32, seqlens_old: i32, max_new: Option<usize>) -> (u32, bool) {
    let operation = CompressKeys::builder(DType::Bf16, 1, 64).build().unwrap();
    let device = &machine.device;
    let k = Buffer::from_slice(device, &vec![half::bf16::ONE; 128 * 64]).unwrap();
    let mut k1 = Buffer::from_slice(device, &vec![half::bf16::NAN; 8 * 64]).unwrap();
    let mut k2 = Buffer::from_slice(device, &vec![half::bf16::NAN; 2 * 64]).unwrap();
    let mut status = Buffer::from_slice(device, &[0u32; 4]).unwrap();
    let lengths = Buffer::from_slice(device, &[seqlens_k]).unwrap();
    let old = Buffer::from_slice(device, &[seqlens_old]).unwrap();
    let args = CompressKeysArgs {
        k: k.tensor(DType::Bf16, &[1, 128, 1, 64]).unwrap(),
        keys: KeyLengths::Cached {
            seqlens_k: lengths.tensor(DType::I32, &[1]).unwrap(),
        },
        seqlens_old: Some(old.tensor(DType::I32, &[1]).unwrap()),
        max_seqlen_k: None,
        max_new,
        k1: k1.tensor_mut(DType::Bf16, &[1, 8, 1, 64]).unwrap(),
        k2: k2.tensor_mut(DType::Bf16, &[1, 2, 1, 64]).unwrap(),
        status: Some(status.tensor_mut(DType::U32, &[4]).unwrap()),
    };
    // SAFETY: the stream is synchronized before the buffers are touched again.
    unsafe { operation.launch(&machine.kernels, &machine.stream, args).unwrap() };
    machine.stream.synchronize().unwrap();
    let words: Vec<u32> = status.read().unwrap();
    assert_eq!([words[0], words[1], words[3]], [0; 3]);
    let rows: Vec<half::bf16> = k1.read().unwrap();
    (words[2], rows.iter().any(|x| !x.is_nan()))
}

#[test]
fn lengths_that_do_not_fit_are_refused_and_counted() {
    for machine in all() {
        assert_eq!(refused(&machine, 128, 0, None), (0, true));
        assert_eq!(refused(&machine, 128, 128, None), (0, false));
        for (seqlens_k, seqlens_old, max_new) in [
            (129, 0, None),
            (-1, 0, None),
            (128, -1, None),
            (64, 65, None),
            (128, 0, Some(127)),
            (i32::MIN, 0, None),
        ] {
            assert_eq!(
                refused(&machine, seqlens_k, seqlens_old, max_new),
                (1, false),
                "{seqlens_k} {seqlens_old} {max_new:?}"
            );
        }
    }
}

#[test]
fn views_that_do_not_fit_are_refused() {
    let machine = host();
    let operation = CompressKeys::builder(DType::Bf16, 1, 64).build().unwrap();
    let k = Buffer::from_slice(&machine.device, &vec![half::bf16::ONE; 256 * 64]).unwrap();
    let lengths = Buffer::from_slice(&machine.device, &[0, 128]).unwrap();
    let launch = |k1_rows: usize, k2_rows: usize, dtype: DType, tokens: &[usize]| {
        let mut k1 = Buffer::from_slice(&machine.device, &vec![half::bf16::ONE; 16 * 64]).unwrap();
        let mut k2 = Buffer::from_slice(&machine.device, &vec![half::bf16::ONE; 16 * 64]).unwrap();
        let args = CompressKeysArgs {
            k: k.tensor(dtype, tokens).unwrap(),
            keys: KeyLengths::Packed {
                cu_seqlens_k: lengths.tensor(DType::I32, &[2]).unwrap(),
            },
            seqlens_old: None,
            max_seqlen_k: None,
            max_new: None,
            k1: k1.tensor_mut(DType::Bf16, &[k1_rows, 1, 64]).unwrap(),
            k2: k2.tensor_mut(DType::Bf16, &[k2_rows, 1, 64]).unwrap(),
            status: None,
        };
        match operation.launch_host(&machine.kernels, args) {
            Ok(()) => "",
            Err(Error::Argument { argument, .. }) => argument,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(launch(8, 2, DType::Bf16, &[128, 1, 64]), "");
    assert_eq!(launch(7, 2, DType::Bf16, &[128, 1, 64]), "k1");
    assert_eq!(launch(8, 1, DType::Bf16, &[128, 1, 64]), "k2");
    assert_eq!(launch(8, 2, DType::F16, &[128, 1, 64]), "k");
    assert_eq!(launch(8, 2, DType::Bf16, &[64, 2, 64]), "k");
    assert_eq!(launch(8, 2, DType::Bf16, &[1, 128, 1, 64]), "k");
}
