//! The cudarc adapter. cudarc looks for the driver in the loader's path, which is read when a process starts, so all of it runs in one
//! of its own.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use sala_kernels::adapters::cudarc::{self, Launch};
use sala_kernels::cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use sala_kernels::sys::executor::{sala_host_find, sala_host_params_size};
use sala_kernels::{
    AttentionShape, DType, Device, Entry, Kernels, Keys, LinearDecodeArgs, Result, Sequences, SparseAttentionArgs,
    SparseLayer, SwitchLen, Tensor, TensorMut,
};
use sala_ptx::client::{self, Live};

use super::driver::{self, Driver, OUT_OF_MEMORY};
use super::launches::ALL_IMAGES;
use super::{BATCH, DIM, HEADS, IMAGES, Step, execute, in_own_process, message};

/// The driver by the name that cudarc looks for, in a folder of its own.
fn installed(folder: &str) -> PathBuf {
    client::install(&driver::library(), &driver::folder(folder)).unwrap()
}

#[test]
fn slices_are_launched_over_safely() {
    in_own_process("over_cudarc::with_cudarc", &installed("driver_cudarc"));
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
fn calls(driver: &Driver) -> [u64; 3] {
    let calls = driver.calls();
    ["cuLaunchKernel", "cuStreamWaitEvent", "cuEventRecord"].map(|call| calls.get(call).copied().unwrap_or(0))
}

#[test]
#[ignore = "run by another test, where cudarc finds the driver"]
fn with_cudarc() {
    let driver = Driver::get();
    driver.on_launch(execute);
    let mut on_host = Step::new(&Device::host()).unwrap();
    let context = CudaContext::new(0).unwrap();
    // A second stream is what turns cudarc's events on.
    let (stream, other_stream) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let device = cudarc::device(&context).unwrap();
    let kernels = Kernels::load_images(&device, IMAGES).unwrap();
    let mut slices = Slices::new(&stream, &on_host);

    // Results, and one event recorded for each of the seven slices.
    let before = calls(&driver);
    slices.launch(&kernels, &other_stream, &on_host, None).unwrap();
    let after = calls(&driver);
    assert_eq!((after[0] - before[0], after[2] - before[2]), (1, 7));
    assert!(after[1] - before[1] >= 7, "every slice is waited for");
    on_host.launch().unwrap();
    let (out, state) = on_host.results().unwrap();
    let device_out: Vec<u16> = stream.clone_dtoh(&slices.out).unwrap();
    let device_state: Vec<f32> = stream.clone_dtoh(&slices.state).unwrap();
    assert_eq!(bytemuck::cast_slice::<_, u32>(&device_out), out);
    assert_eq!(bytemuck::cast_slice::<_, u32>(&device_state), state);

    // A wait that fails, which cudarc does not say, stops the launch.
    let [launches, waits, _] = calls(&driver);
    driver.fail("cuStreamWaitEvent", waits + 3, OUT_OF_MEMORY);
    let error = message(slices.launch(&kernels, &stream, &on_host, None));
    assert_eq!(error, "cuStreamWaitEvent failed: CUDA_ERROR_OUT_OF_MEMORY (2)");
    assert_eq!(calls(&driver)[0], launches);

    // An event that cannot be recorded is made up for by waiting.
    let synchronised = |driver: &Driver| driver.calls().get("cuStreamSynchronize").copied().unwrap_or(0);
    let (before, [.., records]) = (synchronised(&driver), calls(&driver));
    driver.fail("cuEventRecord", records + 1, OUT_OF_MEMORY);
    let error = message(slices.launch(&kernels, &stream, &on_host, None));
    assert_eq!(error, "cuEventRecord failed: CUDA_ERROR_OUT_OF_MEMORY (2)");
    assert_eq!(synchronised(&driver) - before, 1);

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
    assert_eq!((driver.live(), driver.reports()), (Live::default(), vec![]));
}

#[test]
fn a_decode_step_is_launched_over_safely() {
    in_own_process("over_cudarc::decode_step_with_cudarc", &installed("driver_cudarc_step"));
}

/// What the driver is given for a launch.
#[derive(Clone, Debug, PartialEq)]
struct Launched {
    kernel: String,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    params: Vec<u8>,
}

static LAUNCHED: Mutex<Vec<Launched>> = Mutex::new(Vec::new());

/// Takes a launch down, and runs it.
unsafe extern "C" fn take_down(
    name: *const c_char,
    grid: *const u32,
    threads: u32,
    shared: u32,
    params: *const c_void,
) -> c_int {
    // SAFETY: the driver passes on what it was called with: three numbers, and the parameters of that kernel.
    unsafe {
        let size = sala_host_params_size(sala_host_find(name)) as usize;
        LAUNCHED.lock().unwrap().push(Launched {
            kernel: CStr::from_ptr(name).to_str().unwrap().to_owned(),
            grid: *grid.cast(),
            threads,
            shared,
            params: std::slice::from_raw_parts(params.cast(), size).to_vec(),
        });
        execute(name, grid, threads, shared, params)
    }
}

/// The tensors of a decode step over lists.
struct Decode {
    q: CudaSlice<u16>,
    k: CudaSlice<u16>,
    v: CudaSlice<u16>,
    cu_seqlens_q: CudaSlice<i32>,
    seqlens_k: CudaSlice<i32>,
    switch_len: CudaSlice<i32>,
    lists: CudaSlice<i32>,
    out: CudaSlice<u16>,
    workspace: CudaSlice<u8>,
}

impl Decode {
    const KEYS: usize = 1000;
    const Q: [usize; 3] = [2, HEADS, DIM];
    const K: [usize; 4] = [2, Self::KEYS, 1, DIM];
    const LISTS: [usize; 3] = [2, 1, 3];

    fn layer() -> SparseLayer {
        let shape = AttentionShape {
            heads_q: HEADS,
            heads_kv: 1,
            dim: DIM,
        };
        SparseLayer::builder(DType::Bf16, shape, 500).build().unwrap()
    }

    fn new(stream: &Arc<CudaStream>) -> Self {
        let values = |shape: &[usize], seed: usize| {
            let value = |index: usize| half::bf16::from_f32(((index * 37 + seed) % 101) as f32 / 101.0 - 0.5);
            let count = shape.iter().product();
            let bits: Vec<u16> = (0..count).map(|index| value(index).to_bits()).collect();
            stream.clone_htod(&bits).unwrap()
        };
        let list = |values: &[i32]| stream.clone_htod(values).unwrap();
        let workspace = Self::layer().workspace_size(Entry::Decode, 2, 1, Self::KEYS, None);
        Self {
            q: values(&Self::Q, 1),
            k: values(&Self::K, 2),
            v: values(&Self::K, 3),
            cu_seqlens_q: list(&[0, 1, 2]),
            seqlens_k: list(&[1000, 700]),
            // The second is dense.
            switch_len: list(&[1000, 499]),
            lists: list(&[0, 7, 15, -1, -1, -1]),
            out: values(&Self::Q, 4),
            workspace: stream.alloc_zeros(workspace).unwrap(),
        }
    }

    /// The call over these views.
    fn arguments<'a>(
        q: Tensor<'a>,
        [k, v]: [Tensor<'a>; 2],
        [cu_seqlens_q, seqlens_k, switch_len, lists]: [Tensor<'a>; 4],
        out: TensorMut<'a>,
        workspace: TensorMut<'a>,
    ) -> SparseAttentionArgs<'a> {
        let mut sequences = Sequences::new(cu_seqlens_q, Keys::cached(seqlens_k));
        sequences.max_seqlen_q = Some(1);
        let mut args = SparseAttentionArgs::new(q, k, v, sequences, Some(SwitchLen::Lengths(switch_len)), lists, out);
        (args.entry, args.workspace) = (Entry::Decode, Some(workspace));
        args
    }

    /// Through the adapter.
    fn launch(&mut self, kernels: &Kernels, stream: &Arc<CudaStream>) {
        let (bytes, mut launch) = (self.workspace.num_bytes(), Launch::new(kernels, stream).unwrap());
        let mut bf16 = |slice, shape: &[usize]| launch.read::<u16>(slice, DType::Bf16, shape).unwrap();
        let q = bf16(self.q.as_view(), &Self::Q);
        let keys = [self.k.as_view(), self.v.as_view()].map(|slice| bf16(slice, &Self::K));
        let mut i32s = |slice, shape: &[usize]| launch.read::<i32>(slice, DType::I32, shape).unwrap();
        let lists = [
            i32s(self.cu_seqlens_q.as_view(), &[3]),
            i32s(self.seqlens_k.as_view(), &[2]),
            i32s(self.switch_len.as_view(), &[2]),
            i32s(self.lists.as_view(), &Self::LISTS),
        ];
        let out = launch.write(self.out.as_view_mut(), DType::Bf16, &Self::Q).unwrap();
        let workspace = launch
            .write(self.workspace.as_view_mut(), DType::U32, &[bytes / 4])
            .unwrap();
        let args = Self::arguments(q, keys, lists, out, workspace);
        launch.run(&Self::layer(), args).unwrap();
    }

    /// Over the same memory by its addresses.
    fn launch_raw(&self, kernels: &Kernels, stream: &Arc<CudaStream>) {
        let device = kernels.device();
        fn address<T>(slice: &CudaSlice<T>, stream: &Arc<CudaStream>) -> u64 {
            slice.device_ptr(stream).0
        }
        let strides =
            |shape: &[usize]| -> Vec<usize> { (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect() };
        // SAFETY: the slices outlive the launch, which the driver runs before it returns.
        let view = |address: u64, dtype, shape: &[usize]| unsafe {
            Tensor::from_raw(device, address, dtype, shape, &strides(shape)).unwrap()
        };
        // SAFETY: the same; nothing else is made of the slices that are written.
        let written = |address: u64, dtype, shape: &[usize]| unsafe {
            TensorMut::from_raw(device, address, dtype, shape, &strides(shape)).unwrap()
        };
        let lists = [
            view(address(&self.cu_seqlens_q, stream), DType::I32, &[3]),
            view(address(&self.seqlens_k, stream), DType::I32, &[2]),
            view(address(&self.switch_len, stream), DType::I32, &[2]),
            view(address(&self.lists, stream), DType::I32, &Self::LISTS),
        ];
        let words = self.workspace.num_bytes() / 4;
        let args = Self::arguments(
            view(address(&self.q, stream), DType::Bf16, &Self::Q),
            [&self.k, &self.v].map(|slice| view(address(slice, stream), DType::Bf16, &Self::K)),
            lists,
            written(address(&self.out, stream), DType::Bf16, &Self::Q),
            written(address(&self.workspace, stream), DType::U32, &[words]),
        );
        let borrowed = cudarc::stream(device, stream).unwrap();
        // SAFETY: the driver runs a launch before it returns.
        unsafe { kernels.launch(&borrowed, &Self::layer(), args) }.unwrap();
    }
}

#[test]
#[ignore = "run by another test, where cudarc finds the driver"]
fn decode_step_with_cudarc() {
    let driver = Driver::get();
    driver.on_launch(take_down);
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let kernels = Kernels::load_images(&cudarc::device(&context).unwrap(), &ALL_IMAGES).unwrap();
    let mut step = Decode::new(&stream);
    let before = stream.clone_dtoh(&step.out).unwrap();
    let take = |step: &Decode| {
        let launched = std::mem::take(&mut *LAUNCHED.lock().unwrap());
        (launched, stream.clone_dtoh(&step.out).unwrap())
    };

    step.launch(&kernels, &stream);
    let (launched, out) = take(&step);
    let names: Vec<&str> = launched.iter().map(|launch| launch.kernel.as_str()).collect();
    assert_eq!(
        names,
        ["sparse_attention_decode_bf16_64", "sparse_attention_merge_bf16_64"]
    );
    assert_ne!(out, before);

    // The driver gets the same, to the bit, for a call over the same memory.
    step.launch_raw(&kernels, &stream);
    assert_eq!(take(&step), (launched, out));

    drop((step, kernels, stream, context));
    assert_eq!((driver.live(), driver.reports()), (Live::default(), vec![]));
}
