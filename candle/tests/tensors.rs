//! Which tensors are taken, which are refused, and in which words.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::{kernels, same_bits, values};
use sala_kernels::{Norm, NormGateArgs, NormRopeArgs};
use sala_kernels_candle::{Kernels, Launch};

fn norm() -> Norm {
    Norm::new(sala_kernels::DType::Bf16, 1e-6).expect("a norm")
}

/// The norm of `x` into `out`.
fn run(kernels: &Kernels, x: &Tensor, out: &Tensor) -> Result<()> {
    let launch = Launch::new(kernels);
    let (x, out) = (launch.read("x", x)?, launch.write("out", out)?);
    launch.run(|views| {
        let args = NormRopeArgs::new(Some(views.view(x)?), views.view_mut(out)?);
        views.queue(&norm(), args)
    })
}

fn message(result: Result<impl Sized>) -> String {
    let error = result.err().expect("it is refused");
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn strides_change_no_bit() -> Result<()> {
    let kernels = kernels();
    let wide = values(1, (6, 5, 3, 64), DType::BF16)?;
    let x = wide.narrow(2, 1, 1)?.squeeze(2)?;
    let expected = kernels.norm_rope(&norm(), &x.copy()?, None, None)?;
    same_bits(&kernels.norm_rope(&norm(), &x, None, None)?, &expected)?;
    // Heads first in memory, both read and written.
    let turned = x.transpose(0, 1)?.contiguous()?.transpose(0, 1)?;
    same_bits(&kernels.norm_rope(&norm(), &turned, None, None)?, &expected)?;
    let out = turned.zeros_like()?.transpose(0, 1)?.contiguous()?.transpose(0, 1)?;
    run(&kernels, &turned, &out)?;
    same_bits(&out, &expected)
}

#[test]
fn parts_of_one_tensor_are_read_and_written() -> Result<()> {
    let kernels = kernels();
    let both = values(2, (10, 4, 64), DType::BF16)?;
    let (x, out) = (both.narrow(0, 0, 5)?, both.narrow(0, 5, 5)?);
    let expected = kernels.norm_rope(&norm(), &x.copy()?, None, None)?;
    run(&kernels, &x, &out)?;
    same_bits(&both.narrow(0, 5, 5)?, &expected)
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let kernels = kernels();
    let x = values(3, (5, 4, 64), DType::BF16)?;
    let refusals = [
        (
            x.to_dtype(DType::F64)?,
            "x: expected bf16, f16, f32, i32 or u32 elements, got f64",
        ),
        (x.to_dtype(DType::F32)?, "x: expected bf16 elements, got f32"),
        (x.to_dtype(DType::F16)?, "x: expected bf16 elements, got f16"),
        (
            values(3, (5, 64, 4), DType::BF16)?.transpose(1, 2)?,
            "x: expected a contiguous last axis (stride 1), got strides [256, 1, 4]",
        ),
        (
            values(3, (5, 4, 65), DType::BF16)?.narrow(2, 0, 64)?,
            "x: expected strides that are multiples of 16 bytes (8 elements) but for the last axis, got strides [260, 65, 1]",
        ),
        (x.flatten_all()?, "x: expected shape [5, 4, 64], got [1280]"),
        (
            x.reshape((5, 1, 1, 4, 64))?,
            "x: expected 1 to 4 axes, got [5, 1, 1, 4, 64]",
        ),
    ];
    for (wrong, expected) in refusals {
        assert_eq!(message(run(&kernels, &wrong, &x.zeros_like()?)), expected);
    }
    let broadcast = Tensor::zeros((1, 4, 64), DType::BF16, &Device::Cpu)?.broadcast_as((5, 4, 64))?;
    assert_eq!(
        message(run(&kernels, &x, &broadcast)),
        "out: expected a distinct place for every element that is written, got bf16 [5, 4, 64] with strides [0, 64, 1]"
    );
    let overlapping = x.narrow(0, 1, 4)?;
    let refused = message(run(&kernels, &x.narrow(0, 0, 4)?, &overlapping));
    assert!(
        refused.starts_with("out: expected memory apart from x at "),
        "{refused}"
    );
    let positions = Tensor::new(&[0i64, 1, 2, 3, 4], &Device::Cpu)?;
    let table = Tensor::zeros((5, 64), DType::F32, &Device::Cpu)?;
    assert_eq!(
        message(kernels.norm_rope(&norm(), &x, None, Some((&table, &positions)))),
        "positions: expected bf16, f16, f32, i32 or u32 elements, got i64"
    );
    Ok(())
}

#[test]
fn indices_are_signed_or_unsigned_and_checked() -> Result<()> {
    let kernels = kernels();
    let (x, table) = (values(4, (2, 4, 64), DType::BF16)?, values(5, (3, 64), DType::F32)?);
    let rows = [[2i32, 0], [2, -1]].map(|rows| Tensor::new(&rows, &Device::Cpu));
    let [good, bad] = rows;
    let signed = kernels.norm_rope(&norm(), &x, None, Some((&table, &good?)))?;
    let good = Tensor::new(&[2u32, 0], &Device::Cpu)?;
    same_bits(&kernels.norm_rope(&norm(), &x, None, Some((&table, &good)))?, &signed)?;
    kernels.check_status()?;
    kernels.norm_rope(&norm(), &x, None, Some((&table, &bad?)))?;
    assert_eq!(
        message(kernels.check_status()),
        "refused on the device: 0 pages, 0 blocks, 1 lengths, 0 slots"
    );
    Ok(())
}

#[test]
fn only_tensors_of_the_launch_are_taken() -> Result<()> {
    let kernels = kernels();
    let x = values(6, (5, 256), DType::BF16)?;
    let weight = values(7, 256, DType::BF16)?;
    let (one, other) = (Launch::new(&kernels), Launch::new(&kernels));
    let (here, _there) = (one.read("x", &x)?, other.read("x", &x)?);
    assert_eq!(
        message(other.run(|views| views.view(here).map(drop))),
        "expected a tensor of this launch, got one of another"
    );
    // A view of memory that the launch does not hold.
    let elsewhere = vec![half::bf16::ONE; 5 * 256];
    let out = x.zeros_like()?;
    let launch = Launch::new(&kernels);
    let (weight, rows) = (launch.read("weight", &weight)?, launch.read("x", &x)?);
    let out = launch.write("out", &out)?;
    let refused = message(launch.run(|views| {
        let gate = sala_kernels::Tensor::from_slice(&elsewhere, &[5, 256]).map_err(candle_core::Error::wrap)?;
        let rows = Some(views.view(rows)?);
        views.queue(
            &norm(),
            NormGateArgs::new(rows, views.view(weight)?, gate, views.view_mut(out)?),
        )
    }));
    assert!(
        refused.starts_with("gate: expected a view made by this launch"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn other_devices_are_refused() {
    assert!(Device::new_cuda(0).is_err(), "this build of candle has no GPU");
    assert!(matches!(kernels().device(), Device::Cpu));
}
