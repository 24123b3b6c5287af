//! Device memory for a launch, laid out so that a stray access shows.
//!
//! Tensors lie in a buffer of their own or share one, at any strides. What no tensor covers is NaN, so that a kernel that reads it gives
//! itself away, and [`Arena::is_intact`] says whether a kernel has written there.

use crate::tolerance::Precision;
use crate::values::Values;
use half::bf16;
use sala_kernels::{Buffer, DType, Device, Result, Tensor, TensorMut};

/// A bit pattern that is NaN in bf16 and in f16; in pairs it is NaN in f32.
pub const POISON: u16 = 0x7fff;

/// Where a tensor of three axes lies in a buffer, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The first element.
    pub offset: usize,
    /// Rows (tokens), heads, channels.
    pub shape: [usize; 3],
    /// From one to the next of each; channels are neighbours.
    pub strides: [usize; 3],
}

impl Placement {
    /// The positions of the elements, in the order of a contiguous tensor.
    pub fn positions(self) -> impl Iterator<Item = usize> {
        let Placement {
            offset,
            shape: [rows, heads, channels],
            strides,
        } = self;
        let head_of = move |row| (0..heads).map(move |head| offset + row * strides[0] + head * strides[1]);
        (0..rows)
            .flat_map(head_of)
            .flat_map(move |first| first..first + channels)
    }
}

/// How the tensors of a call lie in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// `[tokens, heads, channels]` each, one after the other.
    #[default]
    Separate,
    /// One row a token that holds all tensors, as a fused projection leaves them, and 16 unused elements; the rows of other tensors have gaps
    /// after them too.
    Fused,
    /// `[heads, tokens, channels]` each, one after the other.
    HeadMajor,
}

impl Packing {
    /// Places tensors of `rows` tokens and `heads` heads with the given channels; also gives the elements that they and the gaps take.
    pub fn place<const N: usize>(self, rows: usize, heads: usize, channels: [usize; N]) -> ([Placement; N], usize) {
        const GAP: usize = 64;
        let fused_row = heads * channels.iter().sum::<usize>() + 16;
        let mut end = GAP;
        let mut in_row = 0;
        let placements = channels.map(|channels| {
            let shape = [rows, heads, channels];
            let start = end;
            end += if self == Packing::Fused {
                0
            } else {
                rows * heads * channels + GAP
            };
            in_row += heads * channels;
            match self {
                Packing::Separate => Placement {
                    offset: start,
                    shape,
                    strides: [heads * channels, channels, 1],
                },
                Packing::HeadMajor => Placement {
                    offset: start,
                    shape,
                    strides: [channels, rows * channels, 1],
                },
                Packing::Fused => {
                    let offset = GAP + in_row - heads * channels;
                    Placement {
                        offset,
                        shape,
                        strides: [fused_row, channels, 1],
                    }
                }
            }
        });
        let total = if self == Packing::Fused {
            GAP + rows * fused_row + GAP
        } else {
            end
        };
        (placements, total)
    }
}

/// A buffer of 16-bit numbers that holds tensors and, between them, poison.
pub struct Arena {
    device: Device,
    buffer: Buffer,
    precision: Precision,
    placements: Vec<Placement>,
    length: usize,
}

impl Arena {
    /// Lays out tensors; one without values is an output and starts as poison too.
    pub fn new(
        device: &Device,
        precision: Precision,
        length: usize,
        tensors: &[(Placement, Option<&Values>)],
    ) -> Result<Arena> {
        let mut bits = vec![POISON; length];
        for (placement, values) in tensors {
            let values = values.map(Values::to_bits).unwrap_or_default();
            for (position, value) in placement.positions().zip(values) {
                bits[position] = value;
            }
        }
        let buffer = Buffer::from_slice(device, &as_elements(&bits))?;
        let placements = tensors.iter().map(|(placement, _)| *placement).collect();
        Ok(Arena {
            device: device.clone(),
            buffer,
            precision,
            placements,
            length,
        })
    }

    /// A view of tensor `index`.
    pub fn tensor(&self, index: usize) -> Result<Tensor<'_>> {
        let Placement { offset, shape, strides } = self.placements[index];
        // SAFETY: the placement lies within the buffer, which the view borrows.
        unsafe { Tensor::from_raw(&self.device, self.address(offset), self.dtype(), &shape, &strides) }
    }

    /// A view of tensor `index` for writing.
    pub fn tensor_mut(&mut self, index: usize) -> Result<TensorMut<'_>> {
        let Placement { offset, shape, strides } = self.placements[index];
        // SAFETY: the placement lies within the buffer, which the view borrows alone.
        unsafe { TensorMut::from_raw(&self.device, self.address(offset), self.dtype(), &shape, &strides) }
    }

    /// What tensor `index` holds.
    pub fn read(&self, index: usize) -> Result<Values> {
        let bits = self.bits()?;
        Ok(Values::from_bits(
            self.precision,
            self.placements[index].positions().map(|position| bits[position]),
        ))
    }

    /// Whether everything outside the tensors is as it was.
    pub fn is_intact(&self) -> Result<bool> {
        let mut bits = self.bits()?;
        for position in self.placements.iter().flat_map(|placement| placement.positions()) {
            bits[position] = POISON;
        }
        Ok(bits.iter().all(|&bits| bits == POISON))
    }

    fn bits(&self) -> Result<Vec<u16>> {
        Ok(self
            .buffer
            .read::<bf16>()?
            .iter()
            .map(|x| x.to_bits())
            .take(self.length)
            .collect())
    }

    fn address(&self, offset: usize) -> u64 {
        self.buffer.address() + 2 * offset as u64
    }

    fn dtype(&self) -> DType {
        match self.precision {
            Precision::Bf16 => DType::Bf16,
            Precision::F16 => DType::F16,
        }
    }
}

/// Bit patterns as elements of a buffer; which 16-bit type they are does not matter to it.
fn as_elements(bits: &[u16]) -> Vec<bf16> {
    bits.iter().copied().map(bf16::from_bits).collect()
}

/// A buffer of f32 rows with a gap of poison after each.
pub struct PaddedRows {
    buffer: Buffer,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl PaddedRows {
    /// Lays out a tensor of the given shape; rows run along its last axis.
    pub fn new(device: &Device, shape: &[usize], values: &[f32], gap: usize) -> Result<PaddedRows> {
        let row = shape.last().copied().unwrap_or(1).max(1);
        let mut padded = Vec::with_capacity(values.len() / row * (row + gap));
        for values in values.chunks(row) {
            padded.extend_from_slice(values);
            padded.resize(padded.len() + gap, poison_f32());
        }
        let mut strides = vec![1; shape.len()];
        let mut stride = row + gap;
        for axis in (0..shape.len().saturating_sub(1)).rev() {
            strides[axis] = stride;
            stride *= shape[axis];
        }
        Ok(PaddedRows {
            buffer: Buffer::from_slice(device, &padded)?,
            shape: shape.to_vec(),
            strides,
        })
    }

    /// A view of the tensor.
    pub fn tensor(&self) -> Result<Tensor<'_>> {
        self.buffer.tensor_with_strides(DType::F32, &self.shape, &self.strides)
    }

    /// A view for writing.
    pub fn tensor_mut(&mut self) -> Result<TensorMut<'_>> {
        self.buffer
            .tensor_mut_with_strides(DType::F32, &self.shape, &self.strides)
    }

    /// The values, and whether the gaps are as they were.
    pub fn read(&self) -> Result<(Vec<f32>, bool)> {
        let row = self.shape.last().copied().unwrap_or(1).max(1);
        let stride = self.strides.iter().rev().nth(1).copied().unwrap_or(row);
        let padded: Vec<f32> = self.buffer.read()?;
        let rows = || padded.chunks(stride);
        let values = rows().flat_map(|chunk| &chunk[..row]).copied().collect();
        let is_intact = rows()
            .flat_map(|chunk| &chunk[row..])
            .all(|x| x.to_bits() == poison_f32().to_bits());
        Ok((values, is_intact))
    }
}

/// Two of [`POISON`], a NaN.
fn poison_f32() -> f32 {
    f32::from_bits(u32::from(POISON) << 16 | u32::from(POISON))
}
