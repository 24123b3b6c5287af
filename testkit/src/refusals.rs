//! Wrong arguments: each must be refused by name, before anything runs.

use crate::devices::Machine;
use crate::problem::launch;
use sala_kernels::{Arguments, Buffer, Counters, DType, Device, Error, Result, Tensor, TensorMut};
use std::cell::RefCell;

/// Memory that arguments are made of, zero but for the lists that are given. It outlives them, though their type does not say so.
pub struct Spare {
    device: Device,
    /// A buffer per tensor, and what was in it before the call.
    buffers: RefCell<Vec<(Buffer, Vec<u32>)>>,
}

/// The argument that must be blamed, and what is wrong with otherwise good arguments.
pub type Fault<A> = (&'static str, fn(&mut A, &Spare));

impl Spare {
    pub fn new(device: &Device) -> Spare {
        Spare {
            device: device.clone(),
            buffers: RefCell::default(),
        }
    }

    /// A contiguous tensor.
    pub fn tensor(&self, dtype: DType, shape: &[usize]) -> Tensor<'static> {
        self.strided(dtype, shape, &contiguous(shape), 0)
    }

    /// A contiguous tensor for writing.
    pub fn tensor_mut(&self, dtype: DType, shape: &[usize]) -> TensorMut<'static> {
        self.over(self.tensor(dtype, shape), dtype, shape)
    }

    /// A tensor that begins `offset` elements into its memory.
    pub fn strided(&self, dtype: DType, shape: &[usize], strides: &[usize], offset: usize) -> Tensor<'static> {
        let axes = shape.iter().zip(strides);
        let reach: usize = axes.map(|(size, stride)| size.saturating_sub(1) * stride).sum();
        let bytes = (offset + reach + 1) * dtype.size();
        let address = self.buffer(&vec![0; bytes.div_ceil(4)]) + (offset * dtype.size()) as u64;
        // SAFETY: the memory belongs to the tensor alone, and outlives every launch.
        let view = unsafe { Tensor::from_raw(&self.device, address, dtype, shape, strides) };
        view.expect("a possible view")
    }

    /// A list of lengths or indices.
    pub fn list(&self, values: &[i32]) -> Tensor<'static> {
        let words: Vec<u32> = values.iter().map(|&value| value as u32).collect();
        let address = self.buffer(&words);
        // SAFETY: as in `strided`.
        let view = unsafe { Tensor::from_raw(&self.device, address, DType::I32, &[values.len()], &[1]) };
        view.expect("a possible view")
    }

    /// A list of lengths or indices of several axes.
    pub fn list_of(&self, values: &[i32], shape: &[usize]) -> Tensor<'static> {
        let address = self.list(values).address();
        // SAFETY: as in `strided`.
        let view = unsafe { Tensor::from_raw(&self.device, address, DType::I32, shape, &contiguous(shape)) };
        view.expect("a possible view")
    }

    /// A view for writing of memory that another argument has.
    pub fn over(&self, tensor: Tensor<'_>, dtype: DType, shape: &[usize]) -> TensorMut<'static> {
        // SAFETY: the memory outlives every launch, and one that is given it twice is refused.
        let view = unsafe { TensorMut::from_raw(&self.device, tensor.address(), dtype, shape, &contiguous(shape)) };
        view.expect("a possible view")
    }

    /// The address of new memory that holds `words`.
    fn buffer(&self, words: &[u32]) -> u64 {
        let buffer = Buffer::from_slice(&self.device, words).expect("there is memory for it");
        let address = buffer.address();
        self.buffers.borrow_mut().push((buffer, words.to_vec()));
        address
    }

    fn is_untouched(&self) -> bool {
        let buffers = self.buffers.borrow();
        let is_same = |(buffer, before): &(Buffer, Vec<u32>)| buffer.read::<u32>().as_ref() == Ok(before);
        buffers.iter().all(is_same)
    }
}

fn contiguous(shape: &[usize]) -> Vec<usize> {
    (0..shape.len())
        .map(|axis| shape[axis + 1..].iter().product())
        .collect()
}

/// Launches good arguments, which must pass, and then the same with each fault, which must be blamed on its argument and change nothing.
pub fn check<A: Arguments>(
    machine: &Machine,
    operation: &A::Operation,
    good: impl Fn(&Spare) -> A,
    faults: &[Fault<A>],
) -> Result<()> {
    launch(machine, operation, good(&Spare::new(&machine.device)))?;
    machine.stream.take_counters();
    for (index, (argument, change)) in faults.iter().enumerate() {
        let what = format!("fault {index} of {argument} on {}", machine.name);
        let spare = Spare::new(&machine.device);
        let mut args = good(&spare);
        change(&mut args, &spare);
        assert_blamed(launch(machine, operation, args), argument, &what);
        assert_eq!(
            machine.stream.take_counters(),
            Counters::default(),
            "{what}: a kernel has run"
        );
        assert!(spare.is_untouched(), "{what}: memory has changed");
    }
    Ok(())
}

/// Asserts that a call was refused for `argument`, in a sentence with what was expected and what came.
#[track_caller]
pub fn assert_blamed<T: std::fmt::Debug>(result: Result<T>, argument: &str, what: &str) {
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
