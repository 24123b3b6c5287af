//! Devices, streams, buffers and the loading of kernels, on the CPU.

use std::ffi::c_void;

use half::bf16;
use sala_kernels::{
    Buffer, Counters, DType, Decay, Device, HostOptions, Kernels, LinearAttention, LinearPrefillArgs, LinearShape,
    Result, Stream, Tensor, TensorMut, shapes,
};

const TOKENS: usize = 150;
const HEADS: usize = 2;
const DIM: usize = 64;

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

/// Runs a small prefill, on a stream or without one, and returns its output.
fn prefill(kernels: &Kernels, stream: Option<&Stream>) -> Result<Vec<bf16>> {
    let shape = [TOKENS, HEADS, DIM];
    let values: Vec<bf16> = (0..TOKENS * HEADS * DIM)
        .map(|i| bf16::from_f32((i % 31) as f32 / 31.0 - 0.5))
        .collect();
    let mut out = vec![bf16::ZERO; values.len()];
    let linear_shape = LinearShape {
        heads_q: HEADS,
        heads_kv: HEADS,
        dim_k: DIM,
        dim_v: DIM,
    };
    let layer = LinearAttention::builder(DType::Bf16, linear_shape, Decay::None).build()?;
    let input = Tensor::from_slice(&values, &shape)?;
    let cu_seqlens = [0, 70, TOKENS as i32];
    let cu_seqlens = Tensor::from_slice(&cu_seqlens, &[3])?;
    let output = TensorMut::from_slice(&mut out, &shape)?;
    let args = LinearPrefillArgs::new(input, input, input, cu_seqlens, None, output);
    match stream {
        // SAFETY: a host launch has finished when it returns, while everything is still borrowed.
        Some(stream) => unsafe { kernels.launch(stream, &layer, args) }?,
        None => kernels.run(&layer, args)?,
    }
    Ok(out)
}

#[test]
fn the_host_describes_itself() {
    let with_multiprocessors = |multiprocessors| {
        let mut options = HostOptions::default();
        options.multiprocessors = multiprocessors;
        Device::host_with(options)
    };
    let device = with_multiprocessors(7);
    assert!(device.is_host());
    assert_eq!(
        (device.name(), device.compute_capability(), device.multiprocessors()),
        ("host", None, 7)
    );
    assert_eq!(with_multiprocessors(0).multiprocessors(), 1);
    assert_eq!(device.max_shared_memory(), 99 * 1024);
    device.make_current().unwrap();
    for (capability, kilobytes) in [
        ((8, 0), 163),
        ((8, 9), 99),
        ((9, 0), 227),
        ((10, 0), 227),
        ((12, 0), 99),
    ] {
        let mut options = HostOptions::default();
        options.compute_capability = capability;
        assert_eq!(
            Device::host_with(options).max_shared_memory(),
            kilobytes * 1024,
            "{capability:?}"
        );
    }
}

#[test]
fn the_host_has_every_kernel() {
    // The kernels for one kind of GPU only if it stands for that.
    let mut options = HostOptions::default();
    options.compute_capability = (9, 0);
    let kernels = Kernels::load(&Device::host_with(options)).unwrap();
    let stream = Stream::new(kernels.device()).unwrap();
    for name in shapes::instance_names() {
        // SAFETY: parameters of no kernel's size are refused.
        let error = message(unsafe { kernels.launch_named(&name, &stream, [1, 1, 1], 32, 0, &[0]) });
        assert!(error.starts_with(&format!("{name}: its parameters are ")), "{error}");
    }
    // SAFETY: an empty grid runs nothing, and an unknown kernel cannot run.
    unsafe {
        let name = shapes::instance_names().next().unwrap();
        kernels.launch_named(&name, &stream, [1, 0, 1], 32, 0, &[]).unwrap();
        let error = message(kernels.launch_named(&name, &stream, [1, 1, 1], 32, 228 * 1024, &[]));
        let expected = "it needs 233472 bytes of shared memory, the device has 232448 for a block";
        assert_eq!(error, format!("{name} is not supported: {expected}"));
        let error = message(kernels.launch_named("unknown", &stream, [1, 1, 1], 32, 0, &[]));
        assert_eq!(error, "unknown is not supported: no such kernel is compiled");
    }
}

#[test]
fn streams_gather_counters() {
    let kernels = Kernels::load(&Device::host()).unwrap();
    let (stream, other) = (
        Stream::new(kernels.device()).unwrap(),
        Stream::new(kernels.device()).unwrap(),
    );
    prefill(&kernels, Some(&stream)).unwrap();
    let once = stream.take_counters();
    assert!(once.tensor_flops > 0 && once.blocks > 0);
    assert_eq!(once.kernels, 1);
    assert_eq!(stream.take_counters(), Counters::default());
    assert_eq!(other.take_counters(), Counters::default());
    prefill(&kernels, Some(&stream)).unwrap();
    prefill(&kernels, Some(&stream)).unwrap();
    let twice = stream.take_counters();
    assert_eq!(
        (twice.tensor_flops, twice.blocks, twice.kernels),
        (2 * once.tensor_flops, 2 * once.blocks, 2)
    );
    stream.synchronize().unwrap();
    assert!(stream.as_raw().is_null() && stream.device().is_host());
}

#[test]
fn no_stream_is_needed() {
    let kernels = Kernels::load(&Device::host()).unwrap();
    let stream = Stream::new(kernels.device()).unwrap();
    assert_eq!(prefill(&kernels, None), prefill(&kernels, Some(&stream)));
}

#[test]
fn threads_share_kernels_and_streams() {
    let kernels = Kernels::load(&Device::host()).unwrap();
    let stream = Stream::new(kernels.device()).unwrap();
    let expected = prefill(&kernels, Some(&stream)).unwrap();
    let once = stream.take_counters();
    std::thread::scope(|scope| {
        let launches: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| prefill(&kernels, Some(&stream))))
            .collect();
        for launch in launches {
            assert_eq!(launch.join().unwrap(), Ok(expected.clone()));
        }
    });
    assert_eq!(stream.take_counters().tensor_flops, 4 * once.tensor_flops);
}

#[test]
fn a_host_has_no_raw_streams() {
    let device = Device::host();
    // SAFETY: null is the one stream of a host, and any other is refused.
    unsafe {
        assert!(Stream::from_raw(&device, std::ptr::null_mut()).is_ok());
        let error = message(Stream::from_raw(&device, 0x10 as *mut c_void));
        assert_eq!(error, "stream: expected null, for a host device, got 0x10");
    }
}

#[test]
fn buffers_hold_what_was_written() {
    let device = Device::host();
    let mut buffer = Buffer::new(&device, 16).unwrap();
    assert_eq!(buffer.read::<u32>(), Ok(vec![0; 4]));
    assert_eq!(buffer.address() % 256, 0);
    buffer.write(&[1i32, -1]).unwrap();
    assert_eq!(buffer.read::<i32>(), Ok(vec![1, -1, 0, 0]));
    buffer.fill(0x3f).unwrap();
    assert_eq!(buffer.read::<u32>(), Ok(vec![0x3f3f_3f3f; 4]));
    assert_eq!(buffer.bytes(), 16);
    assert_eq!(
        Buffer::from_slice(&device, &[bf16::ONE; 3]).unwrap().read(),
        Ok(vec![bf16::ONE; 3])
    );
}

#[test]
fn empty_buffers_are_buffers() {
    let mut buffer = Buffer::new(&Device::host(), 0).unwrap();
    buffer.fill(1).unwrap();
    buffer.write::<f32>(&[]).unwrap();
    assert_eq!(buffer.read::<f32>(), Ok(vec![]));
    assert!(buffer.tensor(DType::F32, &[0, 4]).unwrap().is_empty());
    assert!(buffer.tensor_mut(DType::F32, &[1]).is_err());
}

#[test]
fn buffers_refuse_what_does_not_fit() {
    let device = Device::host();
    let mut buffer = Buffer::new(&device, 6).unwrap();
    assert_eq!(
        message(buffer.write(&[0f32; 2])),
        "values: expected at most the buffer's 6 bytes, got 8 bytes"
    );
    let error = message(buffer.read::<f32>());
    assert_eq!(
        error,
        "T: expected an element whose size divides the buffer's 6 bytes, got f32"
    );
    let error = message(buffer.tensor(DType::Bf16, &[4]));
    assert_eq!(
        error,
        "shape: expected a view of at most 6 bytes, got 8 bytes: bf16 [4] with strides [1]"
    );
    assert_eq!(
        buffer
            .tensor_with_strides(DType::Bf16, &[2, 1], &[2, 1])
            .unwrap()
            .extent(),
        6
    );
    assert!(buffer.tensor_mut_with_strides(DType::Bf16, &[2, 1], &[0, 1]).is_err());
    let error = message(Buffer::new(&device, usize::MAX));
    assert_eq!(error, "bytes: expected fewer than 2^63 bytes, got 18446744073709551615");
    assert_eq!(
        message(Buffer::new(&device, 1 << 60)),
        "no memory for 1152921504606846976 bytes on host"
    );
}
