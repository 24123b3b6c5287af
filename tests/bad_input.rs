//! What callers get wrong: an argument that does not fit is refused by name before anything runs, and indices that only the device sees
//! read and write nothing and are counted.

#[path = "bad_input/sparse_attention.rs"]
mod sparse_attention;

use proptest::prelude::*;
use sala_kernels::reference::{linear_attention, sequences};
use sala_kernels::{
    Buffer, DType, Decay, DecodeArgs, Device, Error, LinearAttention, PrefillArgs, Result, Tensor, TensorMut,
};
use sala_testkit::cases::{DecayCase, LinearCase, Magnitude, StateCase, check, linear_cases, seed};
use sala_testkit::devices::{Machine, all, all_orders};
use sala_testkit::linear::{LinearProblem, LinearRun, same_bits};
use sala_testkit::memory::{POISON, Packing};
use sala_testkit::tolerance::Precision;
use std::ops::Range;

const TOKENS: usize = 20;
const HEADS: usize = 2;
const DIM: usize = 64;
const BATCH: usize = 3;
const SLOTS: usize = 4;

/// The memory of a good call: one buffer a tensor.
struct Scene<'a> {
    machine: &'a Machine,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    cu_seqlens: Buffer,
    log_decay: Buffer,
    state: Buffer,
    state_in: Buffer,
    state_out: Buffer,
    out: Buffer,
    status: Buffer,
}

impl<'a> Scene<'a> {
    fn new(machine: &'a Machine) -> Result<Self> {
        let device = &machine.device;
        let zeros = |bytes| Buffer::new(device, bytes);
        let row = HEADS * DIM * 2;
        Ok(Scene {
            machine,
            q: zeros(TOKENS * row)?,
            k: zeros(TOKENS * row)?,
            v: zeros(TOKENS * row)?,
            cu_seqlens: Buffer::from_slice(device, &[0, 5, 5, TOKENS as i32])?,
            log_decay: zeros(HEADS * 4)?,
            state: Buffer::from_slice(device, &vec![0.5f32; SLOTS * HEADS * DIM * DIM])?,
            state_in: Buffer::from_slice(device, &[0, 1, 2])?,
            state_out: Buffer::from_slice(device, &[0, 1, 2])?,
            out: zeros(TOKENS * row)?,
            status: zeros(16)?,
        })
    }

    fn operation(decay: Decay) -> Result<LinearAttention> {
        LinearAttention::builder(DType::Bf16, HEADS, DIM, DIM)
            .decay(decay)
            .build()
    }

    /// Runs a good prefill after `change`.
    fn prefill(&mut self, decay: Decay, change: &PrefillFault) -> Result<()> {
        let rows = [TOKENS, HEADS, DIM];
        let wrong = Wrong::new(self)?;
        let mut args = PrefillArgs {
            q: self.q.tensor(DType::Bf16, &rows)?,
            k: self.k.tensor(DType::Bf16, &rows)?,
            v: self.v.tensor(DType::Bf16, &rows)?,
            cu_seqlens: self.cu_seqlens.tensor(DType::I32, &[BATCH + 1])?,
            log_decay: (decay != Decay::None).then_some(self.log_decay.tensor(DType::F32, &[HEADS])?),
            state: Some(self.state.tensor_mut(DType::F32, &[SLOTS, HEADS, DIM, DIM])?),
            state_in: Some(self.state_in.tensor(DType::I32, &[BATCH])?),
            state_out: Some(self.state_out.tensor(DType::I32, &[BATCH])?),
            out: self.out.tensor_mut(DType::Bf16, &rows)?,
            status: Some(self.status.tensor_mut(DType::U32, &[4])?),
        };
        change(&mut args, &wrong);
        let Machine { kernels, stream, .. } = self.machine;
        // SAFETY: the stream is synchronized before any buffer is read, written or dropped.
        let result = unsafe { Self::operation(decay)?.prefill(kernels, stream, args) };
        self.machine.stream.synchronize()?;
        result
    }

    /// The same for a decode step of [`BATCH`] sequences.
    fn decode(&mut self, change: &DecodeFault) -> Result<()> {
        let rows = [BATCH, HEADS, DIM];
        let wrong = Wrong::new(self)?;
        let mut args = DecodeArgs {
            q: self.q.tensor(DType::Bf16, &rows)?,
            k: self.k.tensor(DType::Bf16, &rows)?,
            v: self.v.tensor(DType::Bf16, &rows)?,
            log_decay: Some(self.log_decay.tensor(DType::F32, &[HEADS])?),
            state: self.state.tensor_mut(DType::F32, &[SLOTS, HEADS, DIM, DIM])?,
            state_in: Some(self.state_in.tensor(DType::I32, &[BATCH])?),
            state_out: Some(self.state_out.tensor(DType::I32, &[BATCH])?),
            out: self.out.tensor_mut(DType::Bf16, &rows)?,
            status: Some(self.status.tensor_mut(DType::U32, &[4])?),
        };
        change(&mut args, &wrong);
        let Machine { kernels, stream, .. } = self.machine;
        // SAFETY: the stream is synchronized before any buffer is read, written or dropped.
        let result = unsafe { Self::operation(Decay::PerHead)?.decode(kernels, stream, args) };
        self.machine.stream.synchronize()?;
        result
    }

    fn assert_untouched(&self, what: &str) {
        let state: Vec<f32> = self.state.read().expect("it can be read");
        assert!(state.iter().all(|&x| x == 0.5), "{what}: the state has changed");
        for (name, buffer) in [("out", &self.out), ("status", &self.status), ("q", &self.q)] {
            let words: Vec<u32> = buffer.read().expect("it can be read");
            assert!(words.iter().all(|&x| x == 0), "{what}: {name} has changed");
        }
    }
}

fn contiguous(shape: &[usize]) -> Vec<usize> {
    (0..shape.len())
        .map(|axis| shape[axis + 1..].iter().product())
        .collect()
}

/// Memory that holds nothing of interest, to make wrong arguments of.
struct Spare {
    device: Device,
    buffer: Buffer,
}

impl Spare {
    fn new(device: &Device) -> Result<Self> {
        Ok(Spare {
            device: device.clone(),
            buffer: Buffer::new(device, 1 << 20)?,
        })
    }

    fn address(&self) -> u64 {
        self.buffer.address()
    }

    /// A view that begins `offset` elements in.
    fn view(&self, dtype: DType, shape: &[usize], strides: &[usize], offset: usize) -> Tensor<'static> {
        let address = self.address() + (offset * dtype.size()) as u64;
        // SAFETY: every view that the tests make lies in the buffer, which outlives the launches.
        unsafe { Tensor::from_raw(&self.device, address, dtype, shape, strides) }.expect("a possible view")
    }

    fn dense(&self, dtype: DType, shape: &[usize]) -> Tensor<'static> {
        self.view(dtype, shape, &contiguous(shape), 0)
    }

    /// A view for writing of any memory of the device.
    fn view_mut(&self, address: u64, dtype: DType, shape: &[usize]) -> TensorMut<'static> {
        let strides = contiguous(shape);
        // SAFETY: the tests name memory that outlives the launches; one that would be given it twice is refused.
        unsafe { TensorMut::from_raw(&self.device, address, dtype, shape, &strides) }.expect("a possible view")
    }

    fn dense_mut(&self, dtype: DType, shape: &[usize]) -> TensorMut<'static> {
        self.view_mut(self.address(), dtype, shape)
    }
}

/// What wrong arguments of linear attention are made of.
struct Wrong {
    spare: Spare,
    q_address: u64,
    state_address: u64,
}

impl Wrong {
    fn new(scene: &Scene<'_>) -> Result<Self> {
        let spare = Spare::new(&scene.machine.device)?;
        Ok(Wrong {
            spare,
            q_address: scene.q.address(),
            state_address: scene.state.address(),
        })
    }

    fn dense(&self, dtype: DType, shape: &[usize]) -> Tensor<'static> {
        self.spare.dense(dtype, shape)
    }

    fn dense_mut(&self, dtype: DType, shape: &[usize]) -> TensorMut<'static> {
        self.spare.dense_mut(dtype, shape)
    }
}

type PrefillFault = dyn for<'v> Fn(&mut PrefillArgs<'v>, &Wrong);
type DecodeFault = dyn for<'v> Fn(&mut DecodeArgs<'v>, &Wrong);

const ROWS: [usize; 3] = [TOKENS, HEADS, DIM];
const STEP: [usize; 3] = [BATCH, HEADS, DIM];
const STATES: [usize; 4] = [SLOTS, HEADS, DIM, DIM];

/// The argument that each fault must be blamed on.
fn prefill_faults() -> Vec<(&'static str, Decay, Box<PrefillFault>)> {
    use DType::{Bf16, F16, F32, I32, U32};
    let mut faults: Vec<(&'static str, Decay, Box<PrefillFault>)> = Vec::new();
    let mut fault = |name, change: Box<PrefillFault>| faults.push((name, Decay::PerHead, change));
    fault("q", Box::new(|args, wrong| args.q = wrong.dense(F16, &ROWS)));
    fault(
        "q",
        Box::new(|args, wrong| args.q = wrong.dense(Bf16, &[TOKENS, HEADS * DIM])),
    );
    fault(
        "q",
        Box::new(|args, wrong| args.q = wrong.dense(Bf16, &[TOKENS, HEADS + 1, DIM])),
    );
    fault(
        "q",
        Box::new(|args, wrong| args.q = wrong.dense(Bf16, &[TOKENS, HEADS, 128])),
    );
    fault(
        "q",
        Box::new(|args, wrong| args.q = wrong.spare.view(Bf16, &ROWS, &[512, 128, 2], 0)),
    );
    fault(
        "q",
        Box::new(|args, wrong| args.q = wrong.spare.view(Bf16, &ROWS, &[132, 64, 1], 0)),
    );
    fault(
        "q",
        Box::new(|args, wrong| args.q = wrong.spare.view(Bf16, &ROWS, &[256, 68, 1], 0)),
    );
    fault(
        "q",
        Box::new(|args, wrong| args.q = wrong.spare.view(Bf16, &ROWS, &[128, 64, 1], 4)),
    );
    fault(
        "k",
        Box::new(|args, wrong| args.k = wrong.dense(Bf16, &[TOKENS - 1, HEADS, DIM])),
    );
    fault("k", Box::new(|args, wrong| args.k = wrong.dense(F32, &ROWS)));
    fault(
        "v",
        Box::new(|args, wrong| args.v = wrong.dense(Bf16, &[TOKENS, HEADS, 128])),
    );
    fault(
        "v",
        Box::new(|args, wrong| args.v = wrong.spare.view(Bf16, &ROWS, &[128, 64, 1], 1)),
    );
    fault(
        "cu_seqlens",
        Box::new(|args, wrong| args.cu_seqlens = wrong.dense(U32, &[BATCH + 1])),
    );
    fault(
        "cu_seqlens",
        Box::new(|args, wrong| args.cu_seqlens = wrong.dense(I32, &[BATCH + 1, 1])),
    );
    fault(
        "cu_seqlens",
        Box::new(|args, wrong| args.cu_seqlens = wrong.dense(I32, &[0])),
    );
    fault(
        "cu_seqlens",
        Box::new(|args, wrong| args.cu_seqlens = wrong.spare.view(I32, &[BATCH + 1], &[2], 0)),
    );
    fault("log_decay", Box::new(|args, _| args.log_decay = None));
    fault(
        "log_decay",
        Box::new(|args, wrong| args.log_decay = Some(wrong.dense(F32, &[HEADS + 1]))),
    );
    fault(
        "log_decay",
        Box::new(|args, wrong| args.log_decay = Some(wrong.dense(F32, &[TOKENS, HEADS]))),
    );
    fault(
        "log_decay",
        Box::new(|args, wrong| args.log_decay = Some(wrong.dense(Bf16, &[HEADS]))),
    );
    fault("state", Box::new(|args, _| args.state = None));
    fault(
        "state",
        Box::new(|args, wrong| args.state = Some(wrong.dense_mut(F32, &[SLOTS, HEADS, DIM]))),
    );
    fault(
        "state",
        Box::new(|args, wrong| args.state = Some(wrong.dense_mut(F32, &[SLOTS, HEADS, DIM, 128]))),
    );
    fault(
        "state",
        Box::new(|args, wrong| args.state = Some(wrong.dense_mut(Bf16, &STATES))),
    );
    let misaligned = |args: &mut PrefillArgs<'_>, wrong: &Wrong| {
        let address = wrong.spare.address() + 4;
        args.state = Some(wrong.spare.view_mut(address, F32, &STATES));
    };
    fault("state", Box::new(misaligned));
    fault(
        "state_in",
        Box::new(|args, wrong| args.state_in = Some(wrong.dense(I32, &[BATCH + 1]))),
    );
    fault(
        "state_in",
        Box::new(|args, wrong| args.state_in = Some(wrong.dense(F32, &[BATCH]))),
    );
    fault(
        "state_out",
        Box::new(|args, wrong| args.state_out = Some(wrong.dense(I32, &[BATCH - 1]))),
    );
    fault(
        "state_out",
        Box::new(|args, wrong| args.state_out = Some(wrong.dense(U32, &[BATCH]))),
    );
    fault(
        "out",
        Box::new(|args, wrong| args.out = wrong.dense_mut(Bf16, &[TOKENS + 1, HEADS, DIM])),
    );
    fault("out", Box::new(|args, wrong| args.out = wrong.dense_mut(F32, &ROWS)));
    let onto_q = |args: &mut PrefillArgs<'_>, wrong: &Wrong| {
        args.out = wrong.spare.view_mut(wrong.q_address, Bf16, &ROWS);
    };
    fault("out", Box::new(onto_q));
    let onto_state = |args: &mut PrefillArgs<'_>, wrong: &Wrong| {
        args.out = wrong.spare.view_mut(wrong.state_address, Bf16, &ROWS);
    };
    fault("out", Box::new(onto_state));
    fault(
        "status",
        Box::new(|args, wrong| args.status = Some(wrong.dense_mut(U32, &[3]))),
    );
    fault(
        "status",
        Box::new(|args, wrong| args.status = Some(wrong.dense_mut(I32, &[4]))),
    );
    let decay_nobody_wants: Box<PrefillFault> =
        Box::new(|args, wrong| args.log_decay = Some(wrong.dense(F32, &[HEADS])));
    faults.push(("log_decay", Decay::None, decay_nobody_wants));
    let decay_of_a_head: Box<PrefillFault> = Box::new(|args, wrong| args.log_decay = Some(wrong.dense(F32, &[HEADS])));
    faults.push(("log_decay", Decay::PerToken, decay_of_a_head));
    faults
}

fn decode_faults() -> Vec<(&'static str, Box<DecodeFault>)> {
    use DType::{Bf16, F16, F32, I32, U32};
    vec![
        ("q", Box::new(|args, wrong| args.q = wrong.dense(F16, &STEP))),
        (
            "q",
            Box::new(|args, wrong| args.q = wrong.spare.view(Bf16, &STEP, &[132, 64, 1], 0)),
        ),
        (
            "k",
            Box::new(|args, wrong| args.k = wrong.dense(Bf16, &[BATCH + 1, HEADS, DIM])),
        ),
        (
            "v",
            Box::new(|args, wrong| args.v = wrong.spare.view(Bf16, &STEP, &[128, 64, 1], 3)),
        ),
        ("log_decay", Box::new(|args, _| args.log_decay = None)),
        (
            "log_decay",
            Box::new(|args, wrong| args.log_decay = Some(wrong.dense(F32, &[BATCH, HEADS]))),
        ),
        (
            "state",
            Box::new(|args, wrong| args.state = wrong.dense_mut(F32, &[SLOTS, HEADS + 1, DIM, DIM])),
        ),
        (
            "state",
            Box::new(|args, wrong| args.state = wrong.dense_mut(U32, &STATES)),
        ),
        (
            "state_in",
            Box::new(|args, wrong| args.state_in = Some(wrong.dense(I32, &[BATCH - 1]))),
        ),
        (
            "state_out",
            Box::new(|args, wrong| args.state_out = Some(wrong.dense(F32, &[BATCH]))),
        ),
        (
            "out",
            Box::new(|args, wrong| args.out = wrong.dense_mut(Bf16, &[BATCH, HEADS, 128])),
        ),
        (
            "out",
            Box::new(|args, wrong| {
                args.out = wrong.spare.view_mut(wrong.q_address, Bf16, &STEP);
            }),
        ),
        (
            "status",
            Box::new(|args, wrong| args.status = Some(wrong.dense_mut(F32, &[4]))),
        ),
    ]
}

/// Asserts that a call was refused for `argument`, in a sentence with what was expected and what came.
fn assert_blamed(result: Result<()>, argument: &str, what: &str) {
    match result {
        Err(Error::Argument {
            argument: blamed,
            expected,
            got,
        }) => {
            assert_eq!(blamed, argument, "{what}: expected {expected}, got {got}");
            assert!(!expected.is_empty() && !got.is_empty(), "{what}");
        }
        other => panic!("{what}: expected an error about {argument}, got {other:?}"),
    }
}

#[test]
fn a_wrong_argument_is_refused_by_name() -> Result<()> {
    for machine in all() {
        Scene::new(&machine)?.prefill(Decay::PerHead, &|_, _| {})?;
        Scene::new(&machine)?.prefill(Decay::None, &|_, _| {})?;
        for (index, (argument, decay, change)) in prefill_faults().into_iter().enumerate() {
            let what = format!("prefill fault {index} on {}", machine.name);
            let mut scene = Scene::new(&machine)?;
            assert_blamed(scene.prefill(decay, &*change), argument, &what);
            scene.assert_untouched(&what);
        }
        Scene::new(&machine)?.decode(&|_, _| {})?;
        for (index, (argument, change)) in decode_faults().into_iter().enumerate() {
            let what = format!("decode fault {index} on {}", machine.name);
            let mut scene = Scene::new(&machine)?;
            assert_blamed(scene.decode(&*change), argument, &what);
            scene.assert_untouched(&what);
        }
    }
    Ok(())
}

#[test]
fn memory_of_another_device_is_refused() -> Result<()> {
    let machines = all();
    let [host, cuda] = machines.as_slice() else {
        println!("skipped: there is one device");
        return Ok(());
    };
    for (here, elsewhere) in [(host, cuda), (cuda, host)] {
        let foreign = Scene::new(elsewhere)?;
        let (device, address) = (elsewhere.device.clone(), foreign.q.address());
        let change = move |args: &mut PrefillArgs<'_>, _: &Wrong| {
            // SAFETY: the view is of a buffer that outlives the call.
            let view = unsafe { Tensor::from_raw(&device, address, DType::Bf16, &ROWS, &contiguous(&ROWS)) };
            args.q = view.expect("a possible view");
        };
        assert_blamed(Scene::new(here)?.prefill(Decay::PerHead, &change), "q", &here.name);
    }
    Ok(())
}

#[test]
fn calls_without_work_are_fine() -> Result<()> {
    for machine in all() {
        let empty_batch = |args: &mut PrefillArgs<'_>, wrong: &Wrong| {
            args.cu_seqlens = wrong.dense(DType::I32, &[1]);
            args.state_in = None;
            args.state_out = None;
        };
        let mut scene = Scene::new(&machine)?;
        scene.prefill(Decay::PerHead, &empty_batch)?;
        scene.assert_untouched("an empty batch");
        let stateless = |args: &mut PrefillArgs<'_>, _: &Wrong| {
            (args.state, args.state_in, args.state_out, args.status) = (None, None, None, None);
        };
        Scene::new(&machine)?.prefill(Decay::PerHead, &stateless)?;
    }
    Ok(())
}

/// A call whose device data a test then spoils.
fn plain_problem(lengths: Vec<usize>) -> LinearProblem {
    let case = LinearCase {
        precision: Precision::Bf16,
        heads: 2,
        dim_k: 64,
        dim_v: 64,
        lengths,
        decay: DecayCase::Lightning,
        state_is_vk: false,
        packing: Packing::Fused,
        magnitude: Magnitude::Normal,
        states: StateCase::InPlace,
        seed: seed(),
    };
    case.problem()
}

/// Tokens of sequences that run and share them with no other sequence, and tokens of none.
fn sole_and_free_tokens(problem: &LinearProblem) -> (Vec<Range<usize>>, Vec<usize>) {
    let tokens = problem.tokens();
    let in_pool = |sequence: usize| {
        let slot = problem.state_in.as_ref().map_or(-1, |list| list[sequence]);
        slot >= -1 && slot < problem.slots() as i32
    };
    let ranges = sequences(&problem.cu_seqlens, tokens).into_iter().enumerate();
    let running: Vec<_> = ranges
        .filter(|(sequence, _)| in_pool(*sequence))
        .filter_map(|(_, range)| range)
        .collect();
    let users = |token: usize| running.iter().filter(|range| range.contains(&token)).count();
    let sole = running
        .iter()
        .filter(|range| (*range).clone().all(|token| users(token) == 1))
        .cloned();
    (sole.collect(), (0..tokens).filter(|&token| users(token) == 0).collect())
}

/// Asserts that a prefill did what the reference does, and nothing where that does nothing.
fn assert_prefill_survives(problem: &LinearProblem, run: &LinearRun, machine: &Machine) {
    let reference = problem.prefill_on_reference();
    let refused = [0, 0, reference.refused_lengths, reference.refused_slots];
    assert_eq!(run.status, refused, "{}: the status word", machine.name);
    let (sole, free) = sole_and_free_tokens(problem);
    for range in sole {
        let bounds = [range.start as i32, range.end as i32];
        problem.judge_out(run, &reference, &bounds).assert(&machine.name);
    }
    let row = problem.config.heads * problem.config.dim_v;
    for token in free {
        let bits = run.out.slice(token * row..(token + 1) * row).to_bits();
        assert!(
            bits.iter().all(|&bits| bits == POISON),
            "{}: token {token} is nobody's",
            machine.name
        );
    }
    assert_pool(problem, run, &reference, machine);
}

/// Slots that the reference stores to are within tolerance, all others untouched.
fn assert_pool(problem: &LinearProblem, run: &LinearRun, reference: &linear_attention::Output, machine: &Machine) {
    let len = problem.config.slot_len();
    problem.judge_pool(run, reference).assert(&machine.name);
    for slot in 0..problem.slots() {
        let before = &problem.pool[slot * len..(slot + 1) * len];
        let expected = &reference.pool[slot * len..(slot + 1) * len];
        let is_stored = expected
            .iter()
            .zip(before)
            .any(|(a, b)| *a != f64::from(*b) && !(a.is_nan() && b.is_nan()));
        let is_same = same_bits(&run.pool[slot * len..(slot + 1) * len], before);
        assert!(is_stored || is_same, "{}: slot {slot} has changed", machine.name);
    }
    assert!(run.is_intact, "{}: memory beside the tensors has changed", machine.name);
}

#[test]
fn bad_lengths_read_and_write_nothing_and_are_counted() {
    let bad: [&[i32]; 7] = [
        &[0, 30, 20, 50],
        &[0, 30, 50, 51],
        &[-1, 30, 40, 50],
        &[0, 30, 40, i32::MAX],
        &[0, i32::MIN, 40, 50],
        &[60, 70, 80, 90],
        &[0, -30, 40, 50],
    ];
    for machine in all_orders(seed()) {
        for cu_seqlens in bad {
            let mut problem = plain_problem(vec![20, 20, 10]);
            problem.cu_seqlens = cu_seqlens.to_vec();
            let run = problem
                .prefill(&machine)
                .unwrap_or_else(|error| panic!("{}: {error}", machine.name));
            assert!(run.status[2] > 0, "{}: {cu_seqlens:?} is not counted", machine.name);
            assert_prefill_survives(&problem, &run, &machine);
        }
    }
}

#[test]
fn bad_slots_read_and_write_nothing_and_are_counted() {
    for machine in all_orders(seed()) {
        for bad in [-2, i32::MIN, 7, 8, i32::MAX] {
            for (is_input, sequence) in [(true, 0), (true, 2), (false, 0), (false, 1)] {
                let spoil = |problem: &mut LinearProblem| {
                    let list = if is_input {
                        &mut problem.state_in
                    } else {
                        &mut problem.state_out
                    };
                    list.as_mut().expect("it has states")[sequence] = bad;
                };
                let mut problem = plain_problem(vec![20, 20, 10]);
                spoil(&mut problem);
                let run = problem
                    .prefill(&machine)
                    .unwrap_or_else(|error| panic!("{}: {error}", machine.name));
                assert_eq!(run.status, [0, 0, 0, 1], "{}: slot {bad}", machine.name);
                assert_prefill_survives(&problem, &run, &machine);

                let mut step = plain_problem(vec![1; 3]);
                spoil(&mut step);
                let reference = step.decode_on_reference();
                let run = step
                    .decode(&machine)
                    .unwrap_or_else(|error| panic!("{}: {error}", machine.name));
                assert_eq!(run.status, [0, 0, 0, 1], "{}: slot {bad}", machine.name);
                assert_pool(&step, &run, &reference, &machine);
                let refused = run.out.slice(sequence * 128..(sequence + 1) * 128).to_bits();
                let is_untouched = refused.iter().all(|&bits| bits == POISON);
                assert_eq!(
                    is_untouched, is_input,
                    "{}: the output of sequence {sequence}",
                    machine.name
                );
            }
        }
    }
}

#[test]
fn any_device_data_is_survived() {
    let machines = all_orders(seed());
    let bound = prop_oneof![8 => -2i32..140, 1 => any::<i32>()];
    let slot = prop_oneof![8 => -2i32..8, 1 => any::<i32>()];
    let lists = (
        prop::collection::vec(bound, 4),
        prop::collection::vec(slot.clone(), 3),
        prop::collection::vec(slot, 3),
    );
    check(
        40,
        (linear_cases(0), lists),
        |(mut case, (cu_seqlens, state_in, state_out))| {
            case.lengths = vec![60, 45, 30];
            case.heads = 1;
            case.states = StateCase::InPlace;
            // Inputs that dominate what decay leaves of a state: a remainder alone is far below the precision of the state it came from.
            case.magnitude = Magnitude::Normal;
            let mut problem = case.problem();
            // States of one, so that no slot holds NaN that a bad index could seem to have spread.
            problem.pool.fill(1.0);
            problem.cu_seqlens = cu_seqlens;
            problem.state_in = Some(state_in);
            problem.state_out = Some(state_out);
            for machine in &machines {
                let run = problem
                    .prefill(machine)
                    .unwrap_or_else(|error| panic!("{}: {error}", machine.name));
                assert_prefill_survives(&problem, &run, machine);
            }
        },
    );
}
