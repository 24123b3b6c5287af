//! Tensor maps: what a copy is told of a tensor and its box.
//!
//! A map is 128 bytes that only the driver writes and only copies read; here they are fields in words of their own.

use crate::fault::{Kind, Trouble};

/// The most axes of a tensor.
pub const MOST_AXES: usize = 5;
/// Words of a map, and what a map is aligned to.
pub const WORDS: usize = 16;
/// What a map is aligned to, in bytes.
pub const ALIGNMENT: u64 = 64;

/// What tells a map from other words.
const MARK: u64 = 0x6d61_705f_7074_7800;
/// Bytes of a vector, which swizzles permute.
pub const VECTOR: u64 = 16;

/// A tensor in global memory, the contiguous axis first, and the box that is copied at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TensorMap {
    /// How many axes there are.
    pub axes: usize,
    /// Of the first element.
    pub address: u64,
    /// Bytes of an element.
    pub element: u64,
    /// Elements of each axis.
    pub sizes: [u64; MOST_AXES],
    /// Bytes from one index to the next, of the second axis on.
    pub strides: [u64; MOST_AXES - 1],
    /// Elements of the box.
    pub boxes: [u64; MOST_AXES],
    /// Vectors of so many neighbours are permuted: 1, 2, 4 or 8.
    pub permuted: u64,
}

impl TensorMap {
    /// As it lies in memory.
    pub fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[0] = MARK | self.axes as u64;
        words[1] = self.address;
        // Sizes are up to 2³², boxes up to 256.
        for axis in 0..MOST_AXES {
            words[2 + axis] = self.sizes[axis] << 16 | self.boxes[axis];
        }
        words[7..11].copy_from_slice(&self.strides);
        words[11] = self.element << 8 | self.permuted;
        words
    }

    /// What words in memory say.
    pub fn of(words: &[u64; WORDS]) -> Result<Self, Trouble> {
        if words[0] & !7 != MARK {
            let found = if *words == [0; WORDS] { "zeros" } else { "other bytes" };
            return Err(Trouble::new(
                Kind::Instruction,
                format!("{found} in the place of a tensor map"),
            ));
        }
        let field = |first: usize| words[first];
        Ok(Self {
            axes: (words[0] & 7) as usize,
            address: words[1],
            element: words[11] >> 8,
            sizes: std::array::from_fn(|axis| field(2 + axis) >> 16),
            strides: std::array::from_fn(|axis| field(7 + axis)),
            boxes: std::array::from_fn(|axis| field(2 + axis) & 0xffff),
            permuted: words[11] & 0xff,
        })
    }

    /// Bytes of a row of the box, and of the whole.
    pub fn box_bytes(&self) -> (u64, u64) {
        let row = self.boxes[0] * self.element;
        (row, row * self.boxes[1..self.axes].iter().product::<u64>())
    }

    /// Where the elements of a row of the box that the tensor has begin in memory; how many bytes of the row come before them, and how many
    /// they are. None: the tensor has none of them.
    pub fn row(&self, first: &[i32; MOST_AXES], mut row: u64) -> Option<(u64, u64, u64)> {
        let mut address = self.address;
        let outer = self.boxes.iter().zip(&self.sizes).zip(first).take(self.axes).skip(1);
        for (((&boxed, &size), &first), &stride) in outer.zip(&self.strides) {
            let index = i64::from(first) + (row % boxed) as i64;
            row /= boxed;
            let index = u64::try_from(index).ok().filter(|&index| index < size)?;
            address = address.wrapping_add(index * stride);
        }
        let begin = i64::from(first[0]);
        let from = begin.max(0);
        let to = (begin + self.boxes[0] as i64).min(i64::try_from(self.sizes[0]).unwrap_or(i64::MAX));
        let count = u64::try_from(to - from).ok().filter(|&count| count > 0)?;
        let skipped = (from - begin) as u64;
        Some((
            address.wrapping_add(from as u64 * self.element),
            skipped * self.element,
            count * self.element,
        ))
    }

    /// The place of a byte of the box: bits 4 to 6 of its address, or fewer, change by the bits from 7 on.
    pub fn place(&self, address: u64) -> u64 {
        address ^ (address >> 7 & (self.permuted - 1)) << 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        TensorMap {
            axes: 3,
            address: 4096,
            element: 2,
            sizes: [72, 3, 1 << 32, 0, 0],
            strides: [160, 480, 0, 0],
            boxes: [64, 1, 256, 0, 0],
            permuted: 8,
        }
    }

    #[test]
    fn words_hold_a_map() {
        assert_eq!(TensorMap::of(&map().words()), Ok(map()));
        let message = |words| TensorMap::of(&words).unwrap_err().message;
        assert!(message([0; WORDS]).starts_with("zeros"));
        assert!(message([7; WORDS]).starts_with("other bytes"));
    }

    #[test]
    fn rows_of_a_box_lie_in_the_tensor_or_outside() {
        assert_eq!(map().box_bytes(), (128, 128 * 256));
        assert_eq!(map().row(&[0, 2, 5, 0, 0], 1), Some((4096 + 2 * 160 + 6 * 480, 0, 128)));
        assert_eq!(map().row(&[64, 0, 0, 0, 0], 0), Some((4096 + 128, 0, 16)));
        assert_eq!(map().row(&[-8, 0, 0, 0, 0], 0), Some((4096, 16, 112)));
        for outside in [[72, 0, 0, 0, 0], [-64, 0, 0, 0, 0], [0, 3, 0, 0, 0], [0, 0, -1, 0, 0]] {
            assert_eq!(map().row(&outside, 0), None, "{outside:?}");
        }
        assert_eq!(map().place(3 * 128 + 5 * 16), 3 * 128 + (5 ^ 3) * 16);
    }
}
