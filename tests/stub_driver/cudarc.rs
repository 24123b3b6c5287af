//! The cudarc adapter. cudarc looks for the driver in the loader's path, which is read when a process starts, so all of it runs in one
//! of its own.

use std::sync::Arc;

use sala_kernels::adapters::cudarc::{self, Launch};
use sala_kernels::cudarc::driver::{CudaContext, CudaSlice, CudaStream};
use sala_kernels::{DType, Device, Kernels, LinearDecodeArgs, Result};

use super::stub::{self, OUT_OF_MEMORY, Stub};
use super::{BATCH, DIM, HEADS, IMAGES, Step, execute, in_own_process, message};

#[test]
fn slices_are_launched_over_safely() {
    let library = stub::compile("stub_driver_cudarc", &[]);
    in_own_process("over_cudarc::with_cudarc", &library);
}

/// The tensors of a [`Step`] as slices.
struct Slices {
    q: CudaSlice<u16>,
    k: CudaSlice<u16>,
    v: CudaSlice<u16>,
    log_decay: CudaSlice<f32>,
    slots: CudaSlice<i32>,
    state: CudaSlice<f32>,
    out: CudaSlice<u16>,
}

impl Slices {
    fn new(stream: &Arc<CudaStream>, step: &Step) -> Self {
        let bits = |buffer: &sala_kernels::Buffer| -> Vec<u16> {
            buffer
                .read::<half::bf16>()
                .unwrap()
                .iter()
                .map(|value| value.to_bits())
                .collect()
        };
        Self {
            q: stream.clone_htod(&bits(&step.q)).unwrap(),
            k: stream.clone_htod(&bits(&step.k)).unwrap(),
            v: stream.clone_htod(&bits(&step.v)).unwrap(),
            log_decay: stream.clone_htod(&step.log_decay.read::<f32>().unwrap()).unwrap(),
            slots: stream.clone_htod(&step.slots.read::<i32>().unwrap()).unwrap(),
            state: stream.clone_htod(&step.state.read::<f32>().unwrap()).unwrap(),
            out: stream.clone_htod(&bits(&step.out)).unwrap(),
        }
    }

    /// Launches a decode step; `q` in the place of the slice of that name, if it is given.
    fn launch(
        &mut self,
        kernels: &Kernels,
        stream: &Arc<CudaStream>,
        step: &Step,
        q: Option<&sala_kernels::Buffer>,
    ) -> Result<()> {
        let (rows, states) = ([BATCH, HEADS, DIM], [BATCH, HEADS, DIM, DIM]);
        let mut launch = Launch::new(kernels, stream)?;
        let args = LinearDecodeArgs::new(
            match q {
                Some(buffer) => buffer.tensor(DType::Bf16, &rows)?,
                None => launch.read(self.q.as_view(), DType::Bf16, &rows)?,
            },
            launch.read(self.k.as_view(), DType::Bf16, &rows)?,
            launch.read(self.v.as_view(), DType::Bf16, &rows)?,
            Some(launch.read(self.log_decay.as_view(), DType::F32, &[HEADS])?),
            launch.write(self.state.as_view_mut(), DType::F32, &states)?,
            launch.read(self.slots.as_view(), DType::I32, &[BATCH])?,
            launch.write(self.out.as_view_mut(), DType::Bf16, &rows)?,
        );
        launch.run(&step.layer, args)
    }
}

/// How often launches, waits and records were called since `before`.
fn calls(stub: &Stub) -> [u64; 3] {
    let calls = stub.calls();
    ["cuLaunchKernel", "cuStreamWaitEvent", "cuEventRecord"].map(|call| calls.get(call).copied().unwrap_or(0))
}

#[test]
#[ignore = "run by another test, where cudarc finds the stub"]
fn with_cudarc() {
    let stub = Stub::get();
    stub.on_launch(execute);
    let mut on_host = Step::new(&Device::host()).unwrap();
    let context = CudaContext::new(0).unwrap();
    // A second stream is what turns cudarc's events on.
    let (stream, other_stream) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let device = cudarc::device(&context).unwrap();
    let kernels = Kernels::load_images(&device, IMAGES).unwrap();
    let mut slices = Slices::new(&stream, &on_host);

    // Results, and one event recorded for each of the seven slices.
    let before = calls(&stub);
    slices.launch(&kernels, &other_stream, &on_host, None).unwrap();
    let after = calls(&stub);
    assert_eq!((after[0] - before[0], after[2] - before[2]), (1, 7));
    assert!(after[1] - before[1] >= 7, "every slice is waited for");
    on_host.launch().unwrap();
    let (out, state) = on_host.results().unwrap();
    let device_out: Vec<u16> = stream.clone_dtoh(&slices.out).unwrap();
    let device_state: Vec<f32> = stream.clone_dtoh(&slices.state).unwrap();
    assert_eq!(bytemuck::cast_slice::<_, u32>(&device_out), out);
    assert_eq!(bytemuck::cast_slice::<_, u32>(&device_state), state);

    // A wait that fails, which cudarc does not say, stops the launch.
    let [launches, waits, _] = calls(&stub);
    stub.fail("cuStreamWaitEvent", waits + 3, OUT_OF_MEMORY);
    let error = message(slices.launch(&kernels, &stream, &on_host, None));
    assert_eq!(error, "cuStreamWaitEvent failed: CUDA_ERROR_OUT_OF_MEMORY (2)");
    assert_eq!(calls(&stub)[0], launches);

    // An event that cannot be recorded is made up for by waiting.
    let synchronised = |stub: &Stub| stub.calls().get("cuStreamSynchronize").copied().unwrap_or(0);
    let (before, [.., records]) = (synchronised(&stub), calls(&stub));
    stub.fail("cuEventRecord", records + 1, OUT_OF_MEMORY);
    let error = message(slices.launch(&kernels, &stream, &on_host, None));
    assert_eq!(error, "cuEventRecord failed: CUDA_ERROR_OUT_OF_MEMORY (2)");
    assert_eq!(synchronised(&stub) - before, 1);

    // Memory that the launch does not hold may be freed before it has run.
    let buffer = sala_kernels::Buffer::new(&device, BATCH * HEADS * DIM * 2).unwrap();
    let error = message(slices.launch(&kernels, &stream, &on_host, Some(&buffer)));
    assert!(
        error.starts_with("q: expected a view made by this launch, got bf16 [3, 2, 64]"),
        "{error}"
    );

    // Streams and slices of another device.
    let elsewhere = CudaContext::new(1).unwrap();
    let foreign = elsewhere.new_stream().unwrap();
    let error = message(slices.launch(&kernels, &foreign, &on_host, None));
    assert!(error.starts_with("stream: expected CUDA context 0x"), "{error}");
    let error = message(Slices::new(&foreign, &on_host).launch(&kernels, &stream, &on_host, None));
    assert!(error.starts_with("memory: expected CUDA context 0x"), "{error}");

    // A slice that is too short.
    let mut launch = Launch::new(&kernels, &stream).unwrap();
    let error = message(launch.read(slices.slots.as_view(), DType::I32, &[BATCH + 1]));
    assert!(
        error.starts_with("shape: expected a view of at most 12 bytes, got 16 bytes"),
        "{error}"
    );
    drop(launch);

    // The device and its stream keep cudarc's objects.
    let borrowed = cudarc::stream(&device, &stream).unwrap();
    drop((slices, stream, other_stream, foreign, elsewhere, context, buffer));
    borrowed.synchronize().unwrap();
    drop((borrowed, kernels, device));
    assert_eq!(stub.live(), 0);
}
