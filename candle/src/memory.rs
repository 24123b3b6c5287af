//! The memory of tensors: where it is, and holding it.

use std::cell::RefCell;
use std::ops::Range;

use candle_core::{CpuStorage, CudaStorage, DType, Device, InplaceOp1, Layout, Result, Storage, Tensor};
use sala_kernels::{DType as Element, Error, Stream, Tensor as View};

use crate::Kernels;

/// A tensor of a launch.
#[derive(Debug)]
pub(crate) struct Described {
    name: &'static str,
    /// Shares its memory with the caller's.
    pub(crate) tensor: Tensor,
    pub(crate) dtype: Element,
    /// What tensors have in common that share their memory: the place of candle's storage.
    pub(crate) key: usize,
    is_written: bool,
}

/// Memory to hold, which some tensors of a launch share.
#[derive(Debug)]
pub(crate) struct Place {
    key: usize,
    tensor: Tensor,
    is_written: bool,
}

/// Memory that is held.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) key: usize,
    addresses: Range<u64>,
}

/// What is done with memory while it is held.
type Then<'a> = &'a mut dyn FnMut(Range<u64>) -> Result<()>;

impl Described {
    pub(crate) fn new(
        name: &'static str,
        tensor: &Tensor,
        is_written: bool,
        device: &Device,
    ) -> std::result::Result<Self, Error> {
        if !tensor.device().same_device(device) {
            return Err(refused(
                name,
                format!("a tensor on {:?}", device.location()),
                format!("one on {:?}", tensor.device().location()),
            ));
        }
        let dtype = match tensor.dtype() {
            DType::BF16 => Element::Bf16,
            DType::F16 => Element::F16,
            DType::F32 => Element::F32,
            DType::I32 => Element::I32,
            DType::U32 => Element::U32,
            other => {
                let expected = "bf16, f16, f32, i32 or u32 elements";
                return Err(refused(name, expected.to_owned(), other.as_str().to_owned()));
            }
        };
        let (storage, _) = tensor.storage_and_layout();
        let key = (&raw const *storage).addr();
        drop(storage);
        Ok(Self {
            name,
            tensor: tensor.clone(),
            dtype,
            key,
            is_written,
        })
    }

    /// The address of the first element.
    pub(crate) fn address(&self, held: &Held) -> u64 {
        let bytes = self.tensor.layout().start_offset() as u64 * self.dtype.size() as u64;
        held.addresses.start.saturating_add(bytes)
    }

    /// Refuses a view beyond the memory that is held, and calls the view in errors as the caller does.
    pub(crate) fn check<'v>(
        &self,
        view: sala_kernels::Result<View<'v>>,
        held: &Held,
    ) -> std::result::Result<View<'v>, Error> {
        let view = view.map_err(|error| self.named(error))?;
        let reached = view.address()..view.address().saturating_add(view.extent());
        if view.is_empty() || held.holds(&reached) {
            return Ok(view);
        }
        let expected = format!("a tensor within {:#x?}", held.addresses);
        Err(refused(self.name, expected, format!("{reached:#x?}")))
    }

    /// An error of a view, by the name of the tensor.
    pub(crate) fn named(&self, error: Error) -> Error {
        match error {
            Error::Argument { expected, got, .. } => refused(self.name, expected, got),
            other => other,
        }
    }
}

fn refused(argument: &'static str, expected: String, got: String) -> Error {
    Error::Argument {
        argument,
        expected,
        got,
    }
}

impl Place {
    /// The memory of tensors, in the order in which candle takes its locks.
    pub(crate) fn of(tensors: &[Described]) -> Result<Vec<Self>> {
        let mut places = Vec::with_capacity(tensors.len());
        for described in tensors {
            places.push(Self {
                key: described.key,
                tensor: first_element(&described.tensor)?,
                is_written: described.is_written,
            });
        }
        // Of those that share memory the one that writes comes first, and stays.
        places.sort_by_key(|place| (place.key, !place.is_written));
        places.dedup_by_key(|place| place.key);
        Ok(places)
    }
}

/// A tensor in the same memory that candle lets anyone write: what is wrong with the layout of the caller's is said of its view.
fn first_element(tensor: &Tensor) -> Result<Tensor> {
    (0..tensor.rank()).try_fold(tensor.clone(), |part, axis| {
        part.narrow(axis, 0, part.dim(axis)?.min(1))
    })
}

impl Held {
    pub(crate) fn holds(&self, reached: &Range<u64>) -> bool {
        self.addresses.start <= reached.start && reached.end <= self.addresses.end
    }
}

/// Takes the locks of all places, and lets go of them after `then`.
pub(crate) fn hold(places: &[Place], held: &mut Vec<Held>, then: &mut dyn FnMut(&[Held]) -> Result<()>) -> Result<()> {
    let Some((place, rest)) = places.split_first() else {
        return then(held);
    };
    let mut next = |addresses| {
        held.push(Held {
            key: place.key,
            addresses,
        });
        hold(rest, held, then)
    };
    if place.is_written {
        // The one way to the lock for writing.
        let exclusive = Exclusive(RefCell::new(&mut next));
        return place.tensor.inplace_op1(&exclusive);
    }
    let (storage, _) = place.tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => shared_on_cpu(storage, &mut next),
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => cuda::shared(storage, &mut next),
        _ => Err(no_kernels()),
    }
}

/// An operation in place that only passes the memory on.
struct Exclusive<'a>(RefCell<Then<'a>>);

impl InplaceOp1 for Exclusive<'_> {
    fn name(&self) -> &'static str {
        "sala-kernels"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        exclusive_on_cpu(storage, *self.0.borrow_mut())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> Result<()> {
        cuda::exclusive(storage, *self.0.borrow_mut())
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda_fwd(&self, _: &mut CudaStorage, _: &Layout) -> Result<()> {
        Err(no_kernels())
    }
}

/// The elements that kernels take, whatever they are.
macro_rules! elements {
    ($storage:expr, $kind:ident, $elements:ident => $do:expr) => {
        match $storage {
            $kind::BF16($elements) => $do,
            $kind::F16($elements) => $do,
            $kind::F32($elements) => $do,
            $kind::I32($elements) => $do,
            $kind::U32($elements) => $do,
            _ => Err(no_kernels()),
        }
    };
}

fn shared_on_cpu(storage: &CpuStorage, then: Then<'_>) -> Result<()> {
    elements!(storage, CpuStorage, elements => {
        let start = elements.as_ptr().expose_provenance() as u64;
        then(start..start + size_of_val(elements.as_slice()) as u64)
    })
}

fn exclusive_on_cpu(storage: &mut CpuStorage, then: Then<'_>) -> Result<()> {
    elements!(storage, CpuStorage, elements => {
        let bytes = size_of_val(elements.as_slice()) as u64;
        let start = elements.as_mut_ptr().expose_provenance() as u64;
        then(start..start + bytes)
    })
}

/// Memory that no tensor of a launch has: [`Described::new`] has refused it.
fn no_kernels() -> candle_core::Error {
    candle_core::Error::msg("no kernels for tensors of this device or element")
}

/// The device and its stream, as the kernels take them.
pub(crate) fn place(device: &Device) -> Result<(sala_kernels::Device, Stream)> {
    match device {
        Device::Cpu => {
            let here = sala_kernels::Device::host();
            let stream = Stream::new(&here).map_err(candle_core::Error::wrap)?;
            Ok((here, stream))
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::place(device).map_err(candle_core::Error::wrap),
        other => {
            let expected = match cfg!(feature = "cuda") {
                true => "the CPU or a CUDA device",
                false => "the CPU: GPUs need feature cuda of sala-kernels-candle",
            };
            let got = format!("{:?}", other.location());
            Err(candle_core::Error::wrap(refused("device", expected.to_owned(), got)))
        }
    }
}

/// Says whether the events that order streams could be waited for and recorded; nothing to say on the CPU.
pub(crate) fn check_order(kernels: &Kernels) -> Result<()> {
    match &kernels.device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::check_order(device),
        _ => Ok(()),
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    //! The same over cudarc's slices, whose events order the work of several streams.

    use candle_core::backend::BackendStorage;
    use candle_core::cuda_backend::CudaStorageSlice;
    use candle_core::{CudaDevice, CudaStorage, Error, Result};
    use sala_kernels::adapters::cudarc;
    use sala_kernels::cudarc::driver::{DevicePtr, DevicePtrMut};
    use sala_kernels::{Device, Stream};

    use super::{Then, no_kernels};

    pub(super) fn place(device: &CudaDevice) -> sala_kernels::Result<(Device, Stream)> {
        let queue = device.cuda_stream();
        let here = cudarc::device(queue.context())?;
        let stream = cudarc::stream(&here, &queue)?;
        Ok((here, stream))
    }

    pub(super) fn shared(storage: &CudaStorage, then: Then<'_>) -> Result<()> {
        let queue = storage.device().cuda_stream();
        elements!(&storage.slice, CudaStorageSlice, elements => {
            let bytes = elements.num_bytes() as u64;
            // Dropped once the launch is queued, which then is what the slice was last used by.
            let (start, _used) = elements.device_ptr(&queue);
            then(start..start + bytes)
        })
    }

    pub(super) fn exclusive(storage: &mut CudaStorage, then: Then<'_>) -> Result<()> {
        let queue = storage.device().cuda_stream();
        elements!(&mut storage.slice, CudaStorageSlice, elements => {
            let bytes = elements.num_bytes() as u64;
            let (start, _used) = elements.device_ptr_mut(&queue);
            then(start..start + bytes)
        })
    }

    pub(super) fn check_order(device: &CudaDevice) -> Result<()> {
        let queue = device.cuda_stream();
        // cudarc keeps a failed wait or record to itself until asked; without the event nothing else orders the streams.
        queue.context().check_err().map_err(|error| {
            let _ = queue.synchronize();
            Error::msg(format!("an event that orders streams failed: {:?}", error.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that take locks in another order than each other, or than candle, may wait for ever.
    #[test]
    fn locks_are_taken_once_and_in_the_order_of_their_addresses() -> Result<()> {
        let tensors = [0, 1, 2].map(|_| Tensor::zeros((4, 2), DType::F32, &Device::Cpu));
        let [a, b, c] = tensors;
        let (a, b, c) = (a?, b?, c?);
        let half = a.narrow(0, 2, 2)?;
        let describe =
            |tensor: &Tensor, is_written| Described::new("x", tensor, is_written, &Device::Cpu).expect("a tensor");
        let one = [
            describe(&a, false),
            describe(&b, true),
            describe(&c, false),
            describe(&half, true),
        ];
        let other = [
            describe(&half, true),
            describe(&c, false),
            describe(&b, true),
            describe(&a, false),
        ];
        let mut keys: Vec<_> = one.iter().map(|described| described.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 3, "a half of a tensor lies in its memory");
        for tensors in [one, other] {
            let places = Place::of(&tensors)?;
            assert_eq!(places.iter().map(|place| place.key).collect::<Vec<_>>(), keys);
            let written = places.iter().filter(|place| place.is_written).map(|place| place.key);
            let is_written = |key: &usize| {
                tensors
                    .iter()
                    .any(|described| described.key == *key && described.is_written)
            };
            assert!(written.eq(keys.iter().copied().filter(is_written)));
        }
        Ok(())
    }
}
