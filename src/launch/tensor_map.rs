//! Tensor maps: what kernels that copy boxes of tensors are told of them.
//!
//! On a GPU the driver makes a map, by arithmetic alone: the call touches neither context nor stream, and may stand in a capture. The
//! executor reads the description itself.

use super::Kernels;
use crate::sys::params::{
    SALA_MAP_AXES, SALA_MAP_MARK, SALA_SWIZZLE_128, SALA_SWIZZLE_NONE, sala_tensor_map, sala_tensor_shape,
};
use crate::{Error, Result};

/// Bytes of an element, and what addresses, strides and rows of a box are multiples of.
const ELEMENT: usize = 2;
const VECTOR: usize = 16;
/// Bounds of the driver: of an axis of a box, and of a stride in bytes.
const MOST_IN_BOX: usize = 256;
const STRIDES_END: u64 = 1 << 40;

/// An axis of a [`MappedTensor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapAxis {
    /// Elements of the tensor. Those of a box beyond it become zero.
    pub size: usize,
    /// Elements from one index to the next; of axis 0 one.
    pub stride: i64,
    /// Elements of a box.
    pub boxed: usize,
}

/// A tensor of 16-bit elements and the box of it that a kernel copies at a time, the contiguous axis first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedTensor<const AXES: usize> {
    /// Of the first element.
    pub address: u64,
    /// Two to four.
    pub axes: [MapAxis; AXES],
    /// `SALA_SWIZZLE_…`; unless none, a row of the box is as long as what it permutes.
    pub swizzle: u32,
}

impl<const AXES: usize> MappedTensor<AXES> {
    /// The description that a map is made of, or what no map can say.
    fn shape(&self) -> std::result::Result<sala_tensor_shape, &'static str> {
        const {
            assert!(
                2 <= AXES && AXES <= SALA_MAP_AXES as usize,
                "a map has two to four axes"
            )
        };
        let mut shape = sala_tensor_shape {
            mark: SALA_MAP_MARK,
            address: self.address,
            axes: AXES as u32,
            swizzle: self.swizzle,
            ..Default::default()
        };
        let row = self.axes[0].boxed * ELEMENT;
        let span = VECTOR << self.swizzle;
        if self.swizzle > SALA_SWIZZLE_128 || (self.swizzle != SALA_SWIZZLE_NONE && row != span) {
            return Err("rows of a box are not as long as what the swizzle permutes");
        }
        if self.axes[0].stride != 1 || !row.is_multiple_of(VECTOR) || !self.address.is_multiple_of(VECTOR as u64) {
            return Err("rows are not contiguous and aligned to 16 bytes");
        }
        for (index, axis) in self.axes.iter().enumerate() {
            // Kernels count in i32.
            shape.sizes[index] = i32::try_from(axis.size)
                .map_err(|_| "an axis is too long")?
                .cast_unsigned();
            if !(1..=MOST_IN_BOX).contains(&axis.boxed) {
                return Err("an axis of a box is not 1 to 256 elements");
            }
            shape.boxes[index] = axis.boxed as u32;
            if index == 0 {
                continue;
            }
            // Of an axis with one index the stride is nobody's.
            let stride = if axis.size > 1 { axis.stride } else { VECTOR as i64 };
            let bytes = u64::try_from(stride)
                .ok()
                .and_then(|stride| stride.checked_mul(ELEMENT as u64));
            let bytes = bytes.filter(|&bytes| bytes < STRIDES_END && bytes.is_multiple_of(VECTOR as u64));
            shape.strides[index - 1] = bytes.ok_or("a stride is not a multiple of 16 bytes below 2^40")?;
        }
        Ok(shape)
    }

    /// Whether a map can say where it lies.
    pub fn is_mappable(&self) -> bool {
        self.shape().is_ok()
    }
}

impl Kernels {
    #[doc(hidden)]
    /// The map of a tensor, whose name is for errors; all zeros if it is empty: nothing may be copied of it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if no map can say where it lies, or the driver's error.
    pub fn tensor_map<const AXES: usize>(
        &self,
        argument: &'static str,
        tensor: &MappedTensor<AXES>,
    ) -> Result<sala_tensor_map> {
        let described = tensor.shape();
        let shape = described.map_err(|why| Error::unsupported(format!("a tensor map of {argument}"), why))?;
        if tensor.axes.iter().any(|axis| axis.size == 0) {
            return Ok(sala_tensor_map::default());
        }
        self.encode(&shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys in pages of 32, two heads of 128.
    fn pages() -> MappedTensor<4> {
        let axis = |size, stride, boxed| MapAxis { size, stride, boxed };
        MappedTensor {
            address: 4096,
            axes: [axis(128, 1, 64), axis(2, 128, 1), axis(32, 256, 32), axis(7, 8192, 1)],
            swizzle: SALA_SWIZZLE_128,
        }
    }

    #[test]
    fn strides_become_bytes() {
        let shape = pages().shape().unwrap();
        assert_eq!(shape.strides, [256, 512, 16384]);
        assert_eq!((shape.sizes, shape.boxes), ([128, 2, 32, 7], [64, 1, 32, 1]));
        assert_eq!((shape.mark, shape.axes, shape.address), (SALA_MAP_MARK, 4, 4096));
    }

    #[test]
    fn what_no_map_can_say_is_refused() {
        type Change = fn(&mut MappedTensor<4>);
        let changes: [(Change, &str); 9] = [
            (|tensor| tensor.address += 8, "aligned to 16"),
            (|tensor| tensor.axes[0].stride = 2, "not contiguous"),
            (|tensor| tensor.axes[0].boxed = 32, "as long as what the swizzle"),
            (|tensor| tensor.swizzle = 4, "as long as what the swizzle"),
            (|tensor| tensor.axes[2].boxed = 257, "1 to 256"),
            (|tensor| tensor.axes[1].boxed = 0, "1 to 256"),
            (|tensor| tensor.axes[1].stride = 124, "a multiple of 16"),
            (|tensor| tensor.axes[3].stride = 1 << 39, "below 2^40"),
            (|tensor| tensor.axes[2].size = 1 << 31, "too long"),
        ];
        for (change, what) in changes {
            let mut tensor = pages();
            change(&mut tensor);
            let why = tensor.shape().expect_err(what);
            assert!(why.contains(what), "{why}");
            assert!(!tensor.is_mappable());
        }
    }

    #[test]
    fn the_stride_of_one_index_is_nobodys() {
        let mut tensor = pages();
        tensor.axes[3] = MapAxis {
            size: 1,
            stride: 3,
            boxed: 1,
        };
        assert_eq!(tensor.shape().unwrap().strides[2], 32);
    }
}
