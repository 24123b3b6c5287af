//! Launches over cust's buffers and streams, on whatever driver is linked: a GPU's, or the one of compiled/ptx.

use std::error::Error;

use cust::context::Context;
use cust::memory::{CopyDestination, DeviceBuffer};
use cust::stream::{Stream, StreamFlags};
use half::bf16;
use sala_kernels::{DType, Decay, Kernels, LinearAttention, LinearDecodeArgs, LinearShape, Norm, SumSquaresArgs};
use sala_kernels_cust as adapter;

type Outcome = Result<(), Box<dyn Error>>;

fn context() -> Result<Context, Box<dyn Error>> {
    cust::init(cust::CudaFlags::empty())?;
    Ok(Context::new(cust::device::Device::get_device(0)?)?)
}

#[test]
fn buffers_and_streams_of_cust_are_launched_over() -> Outcome {
    let context = context()?;
    let queue = Stream::new(StreamFlags::NON_BLOCKING, None)?;
    // SAFETY: context, stream and buffers live to the end of the test, and the stream is synchronised before anything else touches them.
    let (device, stream) = unsafe {
        let device = adapter::device(&context)?;
        let stream = adapter::stream(&device, &queue)?;
        (device, stream)
    };
    let kernels = Kernels::load(&device)?;

    // Two steps of two sequences, each of four heads: every state is 1 · 0.5, then 1 · 0.5 · e^−1 + 1 · 0.5.
    let (heads, dim) = (4, 64);
    let shape = LinearShape {
        heads_q: heads,
        heads_kv: heads,
        dim_k: dim,
        dim_v: dim,
    };
    let layer = LinearAttention::builder(DType::Bf16, shape, Decay::PerHead).build()?;
    let ones = DeviceBuffer::from_slice(&vec![bf16::ONE.to_bits(); 2 * heads * dim])?;
    let halves = DeviceBuffer::from_slice(&vec![bf16::from_f32(0.5).to_bits(); 2 * heads * dim])?;
    let log_decay = DeviceBuffer::from_slice(&vec![-1f32; heads])?;
    let slots = DeviceBuffer::from_slice(&[1i32, 0])?;
    let mut pool = DeviceBuffer::from_slice(&vec![0f32; 2 * heads * dim * dim])?;
    let mut out = DeviceBuffer::from_slice(&vec![0u16; 2 * heads * dim])?;
    let rows = [2, heads, dim];
    for _ in 0..2 {
        // SAFETY: as above.
        unsafe {
            let args = LinearDecodeArgs::new(
                adapter::read(&device, &ones, DType::Bf16, &rows)?,
                adapter::read(&device, &ones, DType::Bf16, &rows)?,
                adapter::read(&device, &halves, DType::Bf16, &rows)?,
                Some(adapter::read(&device, &log_decay, DType::F32, &[heads])?),
                adapter::write(&device, &mut pool, DType::F32, &[2, heads, dim, dim])?,
                adapter::read(&device, &slots, DType::I32, &[2])?,
                adapter::write(&device, &mut out, DType::Bf16, &rows)?,
            );
            kernels.launch(&stream, &layer, args)?;
        }
    }
    queue.synchronize()?;
    let (mut states, mut outputs) = (vec![0f32; pool.len()], vec![0u16; out.len()]);
    pool.copy_to(&mut states)?;
    out.copy_to(&mut outputs)?;
    let state = 0.5 * (-1f32).exp() + 0.5;
    assert!(
        states.iter().all(|found| (found - state).abs() < 1e-5),
        "{:?}",
        &states[..4]
    );
    // 64 channels of q and a scale of 1/8.
    let expected = state * 64.0 / 8.0;
    let outputs: Vec<_> = outputs.into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect();
    assert!(
        outputs.iter().all(|found| (found - expected).abs() < 0.02),
        "{:?}",
        &outputs[..4]
    );
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Outcome {
    let context = context()?;
    let queue = Stream::new(StreamFlags::NON_BLOCKING, None)?;
    let norm = Norm::new(DType::Bf16, 1e-6)?;
    let x = DeviceBuffer::from_slice(&vec![0u16; 10 * 64])?;
    let mut out = DeviceBuffer::from_slice(&[0f32; 10])?;
    // SAFETY: nothing is launched, and everything lives to the end of the test.
    unsafe {
        let device = adapter::device(&context)?;
        let stream = adapter::stream(&device, &queue)?;
        let kernels = Kernels::load(&device)?;
        let beyond = adapter::read(&device, &x, DType::F32, &[10, 64]).unwrap_err();
        assert!(
            beyond
                .to_string()
                .starts_with("shape: expected a view of at most 1280 bytes, got 2560 bytes"),
            "{beyond}"
        );
        let beyond = adapter::write(&device, &mut out, DType::F32, &[11]).unwrap_err();
        assert!(
            beyond
                .to_string()
                .starts_with("shape: expected a view of at most 40 bytes"),
            "{beyond}"
        );
        let shared = adapter::write_with_strides(&device, &mut out, DType::F32, &[10], &[0]).unwrap_err();
        assert!(
            shared.to_string().starts_with("strides: expected a distinct place"),
            "{shared}"
        );

        let mut launch = |rows: sala_kernels::Tensor<'_>| {
            let sums = adapter::write(&device, &mut out, DType::F32, &[10])?;
            kernels.launch(&stream, &norm, SumSquaresArgs::new(rows, sums))
        };
        let wrong = launch(adapter::read(&device, &x, DType::F16, &[10, 64])?).unwrap_err();
        assert_eq!(wrong.to_string(), "x: expected bf16 elements, got f16");
        let apart = adapter::read_with_strides(&device, &x, DType::Bf16, &[10, 32], &[64, 2])?;
        assert!(
            launch(apart)
                .unwrap_err()
                .to_string()
                .starts_with("x: expected a contiguous last axis")
        );
        // Memory of the process, where that of a context belongs.
        let here = [bf16::ONE; 640];
        let elsewhere = launch(sala_kernels::Tensor::from_slice(&here, &[10, 64])?).unwrap_err();
        assert!(
            elsewhere.to_string().starts_with("x: expected CUDA context"),
            "{elsewhere}"
        );
    }
    Ok(())
}
