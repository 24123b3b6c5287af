//! The memory of a call, the same for every operation, laid out so that a stray access shows.
//!
//! Tensors lie in buffers of their own or share one, at any strides. What no tensor covers is NaN, so that a kernel that reads it gives itself
//! away, and [`Memory::is_intact`] says whether anything has changed but the tensors that were given out for writing.

use crate::numbers::Numbers;
use crate::reserved::Reserved;
use crate::storage::{KeyRows, Places};
use crate::tolerance::Precision;
use crate::values::Values;
use half::{bf16, f16};
use sala_kernels::{Buffer, DType, Device, Element, Result, Status, Tensor, TensorMut};
use std::cell::Cell;
use std::ops::Range;

/// A bit pattern that is NaN in bf16 and in f16; in pairs it is NaN in f32, and no index.
pub const POISON: u16 = 0x7fff;

/// Unused elements before, between and after the tensors of a buffer.
const GAP: usize = 64;

/// Unused elements after every row of [`Packing::Wide`]: more than 32 bits count, and a whole number of 16 bytes.
const WIDE_GAP: usize = 1 << 32;

/// Longer than any allocation: in units of 16 bits.
const MOST_ALLOCATED: usize = 1 << 31;

/// The stride of axes of one row, where it means nothing: any product with it that is formed overflows.
const FREE_STRIDE: usize = 1 << 60;

/// How tensors `[rows, heads, channels]` of the same rows and heads lie in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// `[rows, heads, channels]` each, one after the other.
    #[default]
    Separate,
    /// One row per token that holds all tensors, as a fused projection leaves them, and 16 unused elements; the rows of other tensors have gaps
    /// after them too.
    Fused,
    /// `[heads, rows, channels]` each, one after the other.
    HeadMajor,
    /// As `Separate`, but with more than 2³² elements from every row to the next. On the CPU only: most of that memory is not there.
    Wide,
}

impl Packing {
    /// Unused elements after each row of the tensors that hold other things than heads and channels.
    pub fn gap(self) -> usize {
        match self {
            Packing::Fused => 3,
            Packing::Wide => WIDE_GAP,
            Packing::Separate | Packing::HeadMajor => 0,
        }
    }
}

/// The tensors of one call.
pub struct Memory {
    device: Device,
    buffers: Vec<Filled>,
    tensors: Vec<Placed>,
}

/// The memory of some tensors and what was in it before the call.
struct Filled {
    bytes: Bytes,
    /// All of a buffer; of a reservation what tensors cover and a little around it.
    before: Vec<Stretch>,
}

enum Bytes {
    Buffer(Buffer),
    Reserved(Reserved),
}

/// What some memory holds from unit `first` on, in units of 16 bits.
#[derive(Clone, Debug, PartialEq)]
struct Stretch {
    first: usize,
    bits: Vec<u16>,
}

impl Stretch {
    fn poison(range: Range<usize>) -> Stretch {
        Stretch {
            first: range.start,
            bits: vec![POISON; range.len()],
        }
    }

    /// The part of ascending stretches that a run is.
    fn of(stretches: &mut [Stretch], run: Range<usize>) -> &mut [u16] {
        let next = stretches.partition_point(|stretch| stretch.first <= run.start);
        let Stretch { first, bits } = &mut stretches[next - 1];
        &mut bits[run.start - *first..run.end - *first]
    }
}

impl Filled {
    fn address(&self) -> u64 {
        match &self.bytes {
            Bytes::Buffer(buffer) => buffer.address(),
            Bytes::Reserved(reserved) => reserved.address(),
        }
    }

    /// What the stretches of `before` hold now.
    fn now(&self) -> Result<Vec<Stretch>> {
        match &self.bytes {
            Bytes::Buffer(buffer) => {
                let bits = buffer.read::<bf16>()?.iter().map(|x| x.to_bits()).collect();
                Ok(vec![Stretch { first: 0, bits }])
            }
            Bytes::Reserved(reserved) => {
                let read = |Stretch { first, bits }: &Stretch| Stretch {
                    first: *first,
                    bits: reserved.read(*first, bits.len()),
                };
                Ok(self.before.iter().map(read).collect())
            }
        }
    }
}

/// Where a tensor lies.
struct Placed {
    name: &'static str,
    buffer: usize,
    dtype: DType,
    /// In elements.
    offset: usize,
    shape: Vec<usize>,
    /// The last axis is contiguous.
    strides: Vec<usize>,
    is_written: Cell<bool>,
}

impl Placed {
    fn new(name: &'static str, dtype: DType, offset: usize, shape: Vec<usize>, strides: Vec<usize>) -> Placed {
        Placed {
            name,
            buffer: 0,
            dtype,
            offset,
            shape,
            strides,
            is_written: Cell::new(false),
        }
    }

    /// The strides that a view is given.
    fn view_strides(&self) -> Vec<usize> {
        let last = self.shape.len() - 1;
        let axes = self.shape.iter().zip(&self.strides).enumerate();
        let free = |(axis, (&size, &stride))| if axis < last && size == 1 { FREE_STRIDE } else { stride };
        axes.map(free).collect()
    }

    /// The runs along its last axis, in units of 16 bits.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let units = self.dtype.size() / 2;
        let mut starts = vec![self.offset];
        let (run, axes) = self.shape.split_last().expect("a tensor has an axis");
        for (&size, &stride) in axes.iter().zip(&self.strides) {
            let step = |first: usize| (0..size).map(move |index| first + index * stride);
            starts = starts.into_iter().flat_map(step).collect();
        }
        starts
            .into_iter()
            .map(move |start| start * units..(start + run) * units)
    }
}

impl Memory {
    /// No tensors yet.
    pub fn new(device: &Device) -> Memory {
        Memory {
            device: device.clone(),
            buffers: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// A tensor in a buffer of its own, contiguous but for `gap` unused elements after every run along its last axis. Without values it is an output
    /// and starts as poison. Indices of an even number are unsigned.
    pub fn add<T: Element>(
        &mut self,
        name: &'static str,
        shape: &[usize],
        gap: usize,
        values: Option<&[T]>,
    ) -> Result<()> {
        let mut strides = vec![1; shape.len()];
        let mut stride = shape.last().copied().unwrap_or(1) + gap;
        for axis in (0..shape.len().saturating_sub(1)).rev() {
            strides[axis] = stride;
            stride *= shape[axis];
        }
        let bits = values.map(|values| bytemuck::cast_slice::<T, u8>(values));
        let bits = bits.map(|bytes| {
            bytes
                .chunks(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect()
        });
        // Indices may be signed or not, and calls should have both.
        let is_unsigned = T::DTYPE == DType::I32 && values.is_some_and(|values| values.len().is_multiple_of(2));
        let dtype = if is_unsigned { DType::U32 } else { T::DTYPE };
        let placed = Placed::new(name, dtype, GAP, shape.to_vec(), strides);
        self.place(GAP + stride + GAP, vec![(placed, bits)])
    }

    /// [`Self::add`] of 16-bit numbers.
    pub fn add_values(
        &mut self,
        name: &'static str,
        precision: Precision,
        shape: &[usize],
        gap: usize,
        values: Option<&Values>,
    ) -> Result<()> {
        let bits = values.map(Values::to_bits);
        match precision {
            Precision::Bf16 => self.add::<bf16>(name, shape, gap, bits.as_deref().map(bytemuck::cast_slice)),
            Precision::F16 => self.add::<f16>(name, shape, gap, bits.as_deref().map(bytemuck::cast_slice)),
        }
    }

    /// Tensors `[rows, heads, channels]` of 16-bit numbers in one buffer. One without values is an output and starts as poison.
    pub fn add_rows(
        &mut self,
        precision: Precision,
        packing: Packing,
        [rows, heads]: [usize; 2],
        tensors: &[(&'static str, usize, Option<&Values>)],
    ) -> Result<()> {
        let fused_row = heads * tensors.iter().map(|(_, channels, _)| channels).sum::<usize>() + 16;
        let gap = if packing == Packing::Wide { WIDE_GAP } else { 0 };
        let (mut end, mut in_row) = (GAP, 0);
        let mut placed = Vec::new();
        for &(name, channels, values) in tensors {
            let row = channels + gap;
            let (offset, strides) = match packing {
                Packing::Separate | Packing::Wide => (end, vec![heads * row, row, 1]),
                Packing::HeadMajor => (end, vec![channels, rows * channels, 1]),
                Packing::Fused => (GAP + in_row, vec![fused_row, channels, 1]),
            };
            end += rows * heads * row + GAP;
            in_row += heads * channels;
            let shape = vec![rows, heads, channels];
            let tensor = Placed::new(name, precision.dtype(), offset, shape, strides);
            placed.push((tensor, values.map(Values::to_bits)));
        }
        let length = match packing {
            Packing::Fused => GAP + rows * fused_row + GAP,
            Packing::Separate | Packing::HeadMajor | Packing::Wide => end,
        };
        self.place(length, placed)
    }

    /// Tensors of keys in one buffer: `[rows, heads, dim]` if they are packed, else `[stores, rows, heads, dim]`. All have the same rows and heads.
    pub fn add_keys(
        &mut self,
        precision: Precision,
        packing: Packing,
        tensors: &[(&'static str, &KeyRows)],
    ) -> Result<()> {
        let Some((_, first)) = tensors.first() else {
            return Ok(());
        };
        let (stores, rows) = (first.places.stores, first.places.rows);
        // Of heads that come first, each store has its own: they are rows of `rows` tokens.
        let (flat, heads) = match (packing, stores) {
            (Packing::HeadMajor, Some(stores)) => (stores * first.heads * rows, 1),
            _ => (stores.unwrap_or(1) * rows, first.heads),
        };
        let values = tensors.iter().map(|(_, keys)| {
            let bits = if heads == first.heads {
                keys.bits.clone()
            } else {
                head_major(keys)
            };
            Values::from_bits(precision, bits)
        });
        let values: Vec<_> = values.collect();
        let named = tensors.iter().zip(&values);
        let named: Vec<_> = named
            .map(|((name, keys), values)| (*name, keys.dim, Some(values)))
            .collect();
        let added = self.tensors.len();
        self.add_rows(precision, packing, [flat, heads], &named)?;
        for (placed, (_, keys)) in self.tensors[added..].iter_mut().zip(tensors) {
            let Some(stores) = stores else { continue };
            placed.shape = vec![stores, rows, keys.heads, keys.dim];
            placed.strides = match packing {
                Packing::HeadMajor => vec![keys.heads * rows * keys.dim, keys.dim, rows * keys.dim, 1],
                _ => [&[rows * placed.strides[0]], &placed.strides[..]].concat(),
            };
        }
        Ok(())
    }

    /// The status word, all zeros.
    pub fn add_status(&mut self) -> Result<()> {
        self.add("status", &[4], 0, Some(&[0u32; 4]))
    }

    fn place(&mut self, length: usize, tensors: Vec<(Placed, Option<Vec<u16>>)>) -> Result<()> {
        let units = tensors.first().map_or(1, |(tensor, _)| tensor.dtype.size() / 2);
        let is_allocated = length * units <= MOST_ALLOCATED;
        let mut before = if is_allocated {
            vec![Stretch::poison(0..length * units)]
        } else {
            let runs = tensors.iter().flat_map(|(tensor, _)| tensor.runs());
            let mut around: Vec<_> = runs
                .map(|run| Stretch::poison(run.start - GAP..run.end + GAP))
                .collect();
            around.sort_by_key(|stretch| stretch.first);
            around
        };
        for (tensor, bits) in tensors {
            if let Some(bits) = bits {
                let count: usize = tensor.runs().map(|run| run.len()).sum();
                assert_eq!(bits.len(), count, "{}: values for another shape", tensor.name);
                let mut rest = &bits[..];
                for run in tensor.runs() {
                    let row;
                    (row, rest) = rest.split_at(run.len());
                    Stretch::of(&mut before, run).copy_from_slice(row);
                }
            }
            let buffer = self.buffers.len();
            self.tensors.push(Placed { buffer, ..tensor });
        }
        let bytes = if is_allocated {
            Bytes::Buffer(Buffer::from_slice(&self.device, &as_elements(&before[0].bits))?)
        } else {
            assert!(self.device.is_host(), "only host memory can be reserved");
            let mut reserved = Reserved::new(length * units);
            for Stretch { first, bits } in &before {
                reserved.write(*first, bits);
            }
            Bytes::Reserved(reserved)
        };
        self.buffers.push(Filled { bytes, before });
        Ok(())
    }

    /// The tensor of that name, if the call has it.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let placed = self.find(name)?;
        // SAFETY: the tensor lies within its buffer, which the view borrows.
        let view = unsafe {
            let address = self.address(placed);
            Tensor::from_raw(
                &self.device,
                address,
                placed.dtype,
                &placed.shape,
                &placed.view_strides(),
            )
        };
        Some(view.unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Tensor<'_> {
        self.get(name).unwrap_or_else(|| panic!("the call has no {name}"))
    }

    /// The tensor of that name for writing, if the call has it. It is given out once.
    pub fn get_mut(&self, name: &str) -> Option<TensorMut<'_>> {
        let placed = self.find(name)?;
        assert!(
            !placed.is_written.replace(true),
            "{name} is already given out for writing"
        );
        // SAFETY: the tensor lies within its buffer, which the view borrows, and no other view of it is given out for writing.
        let view = unsafe {
            let address = self.address(placed);
            TensorMut::from_raw(
                &self.device,
                address,
                placed.dtype,
                &placed.shape,
                &placed.view_strides(),
            )
        };
        Some(view.unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    /// The tensor of that name for writing.
    pub fn tensor_mut(&self, name: &str) -> TensorMut<'_> {
        self.get_mut(name).unwrap_or_else(|| panic!("the call has no {name}"))
    }

    /// Bytes of all buffers, gaps included.
    pub fn bytes(&self) -> usize {
        let units = |filled: &Filled| filled.before.iter().map(|stretch| stretch.bits.len()).sum::<usize>();
        self.buffers.iter().map(units).sum::<usize>() * 2
    }

    /// Lets the written tensors be given out again, for another launch over the same memory.
    pub fn take_back(&mut self) {
        self.tensors.iter().for_each(|tensor| tensor.is_written.set(false));
    }

    /// Replaces what a contiguous input holds.
    pub fn write<T: Element>(&mut self, name: &str, values: &[T]) -> Result<()> {
        let bits: Vec<u16> = bytemuck::cast_slice::<T, u8>(values)
            .chunks(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let placed = self.placed(name);
        assert_eq!(placed.dtype.size(), size_of::<T>(), "{name}");
        let (buffer, runs) = (placed.buffer, placed.runs().collect::<Vec<_>>());
        let filled = &mut self.buffers[buffer];
        let mut rest = &bits[..];
        for run in runs {
            let row;
            (row, rest) = rest.split_at(run.len());
            Stretch::of(&mut filled.before, run).copy_from_slice(row);
        }
        assert!(rest.is_empty(), "{name}: values for another shape");
        match &mut filled.bytes {
            Bytes::Buffer(buffer) => buffer.write(&as_elements(&filled.before[0].bits)),
            Bytes::Reserved(reserved) => {
                for Stretch { first, bits } in &filled.before {
                    reserved.write(*first, bits);
                }
                Ok(())
            }
        }
    }

    /// Replaces half of the entries of every input of indices: lengths, bounds, slots, tables and lists.
    pub fn spoil(&mut self, seed: u64) -> Result<()> {
        let is_index = |placed: &&Placed| {
            let before = &self.buffers[placed.buffer].before;
            placed.dtype == DType::I32
                && before
                    .iter()
                    .any(|stretch| stretch.bits.iter().any(|&bits| bits != POISON))
        };
        let names: Vec<_> = self.tensors.iter().filter(is_index).map(|placed| placed.name).collect();
        let mut numbers = Numbers::new(seed);
        for name in names {
            let mut entries = self.read::<i32>(name)?;
            for index in 0..entries.len() {
                let other = entries[numbers.below(entries.len())];
                let near = entries[index].wrapping_add(numbers.below(9) as i32 - 4);
                let any = [
                    -1,
                    i32::MIN,
                    i32::MAX,
                    other,
                    near,
                    numbers.bits() as i32 >> numbers.below(32),
                ];
                if numbers.below(2) == 0 {
                    entries[index] = numbers.pick(&any);
                }
            }
            self.write(name, &entries)?;
        }
        Ok(())
    }

    /// What a tensor holds, in units of 16 bits.
    pub fn bits(&self, name: &str) -> Result<Vec<u16>> {
        let placed = self.placed(name);
        let mut now = self.buffers[placed.buffer].now()?;
        let mut bits = Vec::new();
        for run in placed.runs() {
            bits.extend_from_slice(Stretch::of(&mut now, run));
        }
        Ok(bits)
    }

    /// What a tensor of 16-bit numbers holds.
    pub fn values(&self, name: &str) -> Result<Values> {
        let precision = match self.placed(name).dtype {
            DType::Bf16 => Precision::Bf16,
            DType::F16 => Precision::F16,
            other => panic!("{name} holds {other}"),
        };
        Ok(Values::from_bits(precision, self.bits(name)?))
    }

    /// What a tensor of keys holds that lie at `places`.
    pub fn keys(&self, name: &str, places: &Places) -> Result<KeyRows> {
        let [.., heads, dim] = *self.placed(name).shape else {
            panic!("{name} is no tensor of keys");
        };
        Ok(KeyRows {
            bits: self.bits(name)?,
            places: places.clone(),
            heads,
            dim,
        })
    }

    /// What a tensor of 32-bit numbers holds.
    pub fn read<T: Element>(&self, name: &str) -> Result<Vec<T>> {
        let (is, wanted) = (self.placed(name).dtype, T::DTYPE);
        let are_indices = [is, wanted]
            .iter()
            .all(|dtype| matches!(dtype, DType::I32 | DType::U32));
        assert!(is == wanted || are_indices, "{name}");
        let bits = self.bits(name)?;
        let elements = bytemuck::cast_slice::<u16, u8>(&bits).chunks(size_of::<T>());
        Ok(elements.map(bytemuck::pod_read_unaligned).collect())
    }

    /// The status word after a call.
    pub fn status(&self) -> Result<Status> {
        let words = self.read::<u32>("status")?;
        Ok(Status::from([words[0], words[1], words[2], words[3]]))
    }

    /// Whether everything is as it was but the tensors that were given out for writing.
    pub fn is_intact(&self) -> Result<bool> {
        for (index, filled) in self.buffers.iter().enumerate() {
            let mut now = filled.now()?;
            let mut before = filled.before.clone();
            let is_output = |tensor: &&Placed| tensor.buffer == index && tensor.is_written.get();
            for run in self.tensors.iter().filter(is_output).flat_map(Placed::runs) {
                for stretches in [&mut now, &mut before] {
                    Stretch::of(stretches, run.clone()).fill(POISON);
                }
            }
            if now != before {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn find(&self, name: &str) -> Option<&Placed> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    fn placed(&self, name: &str) -> &Placed {
        self.find(name).unwrap_or_else(|| panic!("the call has no {name}"))
    }

    fn address(&self, placed: &Placed) -> u64 {
        self.buffers[placed.buffer].address() + (placed.dtype.size() * placed.offset) as u64
    }
}

/// Keys of stores `[stores, rows, heads, dim]` as `[stores, heads, rows, dim]`.
fn head_major(keys: &KeyRows) -> Vec<u16> {
    let KeyRows { heads, dim, .. } = *keys;
    let rows = keys.places.rows;
    let store = |store: &[u16]| -> Vec<u16> {
        let row = |head, row| (row * heads + head) * dim..(row * heads + head + 1) * dim;
        let rows = (0..heads).flat_map(|head| (0..rows).map(move |index| row(head, index)));
        rows.flat_map(|range| store[range].to_vec()).collect()
    };
    keys.bits.chunks((rows * heads * dim).max(1)).flat_map(store).collect()
}

/// Bit patterns as elements of a buffer; which 16-bit type they are does not matter to it.
fn as_elements(bits: &[u16]) -> Vec<bf16> {
    bits.iter().copied().map(bf16::from_bits).collect()
}
