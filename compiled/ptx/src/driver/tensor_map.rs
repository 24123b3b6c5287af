//! Maps of tensors.

use std::ffi::{c_uint, c_void};

use super::control;
use super::entry::{Out, entries};
use super::state::lock;
use super::status::{INVALID_VALUE, NOT_SUPPORTED, Outcome};
use crate::tensor_map::{ALIGNMENT, MOST_AXES, TensorMap, VECTOR, WORDS};

/// `CUtensorMapDataType`: bytes of each but those of less than a byte, which are not known here.
const ELEMENTS: [u64; 13] = [1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4];
/// Those that are floats, which may be filled with NaN.
const FLOATS: std::ops::Range<usize> = 6..13;
/// `CU_TENSOR_MAP_SWIZZLE_128B`, the last that is known here.
const SWIZZLE_128: c_uint = 3;
/// The last of each choice.
const LAST_SWIZZLE: c_uint = 6;
const LAST_INTERLEAVE: c_uint = 2;
const LAST_PROMOTION: c_uint = 3;
const LAST_FILL: c_uint = 1;

/// An array as a caller of the driver gives it: null, or of as many numbers as the call has axes, or one less for strides.
#[derive(Debug)]
#[repr(transparent)]
pub struct Numbers<T>(*const T);

impl<T: Copy + Into<u64>> Numbers<T> {
    fn read(&self, count: usize) -> Outcome<[u64; MOST_AXES]> {
        if self.0.is_null() && count > 0 {
            return refuse("an array is missing");
        }
        let mut numbers = [0; MOST_AXES];
        for (index, number) in numbers.iter_mut().enumerate().take(count) {
            // SAFETY: only callers of the driver make values of this type, who vouch for so many numbers behind a pointer that is not null.
            *number = unsafe { self.0.add(index).read() }.into();
        }
        Ok(numbers)
    }
}

fn refuse<T>(why: &str) -> Outcome<T> {
    control::tell(&format!("cuTensorMapEncodeTiled: {why}"));
    Err(INVALID_VALUE)
}

/// The choices of a call that are no numbers of the tensor.
#[derive(Clone, Copy, Debug)]
struct Choices {
    element: c_uint,
    interleave: c_uint,
    swizzle: c_uint,
    promotion: c_uint,
    fill: c_uint,
}

/// What the driver asks of a tensor and its box.
fn check(map: &TensorMap, steps: &[u64; MOST_AXES], choices: Choices) -> Outcome<TensorMap> {
    let axes = map.axes;
    if choices.interleave > LAST_INTERLEAVE
        || choices.swizzle > LAST_SWIZZLE
        || choices.promotion > LAST_PROMOTION
        || choices.fill > LAST_FILL
    {
        return refuse("a choice that there is not");
    }
    if choices.fill == 1 && !FLOATS.contains(&(choices.element as usize)) {
        return refuse("elements that are no floats, filled with NaN");
    }
    if choices.interleave != 0 && axes < 3 {
        return refuse("interleaved, with fewer than three axes");
    }
    if !map.address.is_multiple_of(VECTOR) {
        return refuse("an address that is not a multiple of 16");
    }
    if map.sizes[..axes].iter().any(|&size| size == 0 || size > 1 << 32) {
        return refuse("an axis that is empty or longer than 2^32");
    }
    let is_bad = |&stride: &u64| !stride.is_multiple_of(VECTOR) || stride >= 1 << 40;
    if map.strides[..axes - 1].iter().any(is_bad) {
        return refuse("a stride that is not a multiple of 16 below 2^40");
    }
    if map.boxes[..axes].iter().any(|&size| size == 0 || size > 256) {
        return refuse("a box that is empty, or longer than 256");
    }
    if steps[..axes].iter().any(|&step| step == 0 || step > 8) {
        return refuse("a step of elements that is not 1 to 8");
    }
    let row = map.boxes[0] * map.element;
    if choices.interleave == 0 && !row.is_multiple_of(VECTOR) {
        return refuse("rows of a box that are not a multiple of 16 bytes");
    }
    let span = VECTOR << choices.swizzle.min(SWIZZLE_128);
    if choices.interleave == 0 && choices.swizzle != 0 && row > span {
        return refuse("rows of a box that are longer than what the swizzle permutes");
    }
    // From here on the driver has no objection, but copies of such maps are not known here.
    let is_known = choices.interleave == 0
        && choices.fill == 0
        && choices.swizzle <= SWIZZLE_128
        && steps[1..axes].iter().all(|&step| step == 1)
        && (choices.swizzle == 0 || row == span);
    if !is_known {
        control::tell("cuTensorMapEncodeTiled: a map that is not known here");
        return Err(NOT_SUPPORTED);
    }
    Ok(TensorMap {
        permuted: 1 << choices.swizzle,
        ..*map
    })
}

entries! {
    /// The map of a tensor whose rows lie one behind the other, and of the box that is copied at a time.
    fn cuTensorMapEncodeTiled(
        map: Out<[u64; WORDS]>,
        element: c_uint,
        axes: c_uint,
        address: *mut c_void,
        sizes: Numbers<u64>,
        strides: Numbers<u64>,
        boxes: Numbers<c_uint>,
        steps: Numbers<c_uint>,
        interleave: c_uint,
        swizzle: c_uint,
        promotion: c_uint,
        fill: c_uint,
    ) {
        let state = lock();
        state.current()?;
        if state.devices.capability < (9, 0) {
            return Err(NOT_SUPPORTED);
        }
        drop(state);
        if !map.is_multiple_of(ALIGNMENT) {
            return refuse("a map that is not aligned to 64 bytes");
        }
        let Some(&bytes) = ELEMENTS.get(element as usize) else {
            return refuse("a type of elements that is not known");
        };
        let count = axes as usize;
        if !(1..=MOST_AXES).contains(&count) {
            return refuse("no axes, or more than five");
        }
        let outer = strides.read(count - 1)?;
        let tensor = TensorMap {
            axes: count,
            address: address as u64,
            element: bytes,
            sizes: sizes.read(count)?,
            strides: std::array::from_fn(|axis| outer[axis]),
            boxes: boxes.read(count)?,
            permuted: 1,
        };
        let choices = Choices { element, interleave, swizzle, promotion, fill };
        map.put(check(&tensor, &steps.read(count)?, choices)?.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICES: Choices = Choices {
        element: 1,
        interleave: 0,
        swizzle: SWIZZLE_128,
        promotion: 3,
        fill: 0,
    };

    fn tensor() -> TensorMap {
        TensorMap {
            axes: 4,
            address: 4096,
            element: 2,
            sizes: [128, 2, 32, 7, 0],
            strides: [256, 512, 16384, 0],
            boxes: [64, 1, 32, 1, 0],
            permuted: 1,
        }
    }

    #[test]
    fn a_good_tensor_becomes_a_map() {
        let map = check(&tensor(), &[1; MOST_AXES], CHOICES).unwrap();
        assert_eq!(
            map,
            TensorMap {
                permuted: 8,
                ..tensor()
            }
        );
        let none = Choices { swizzle: 0, ..CHOICES };
        assert_eq!(check(&tensor(), &[1; MOST_AXES], none), Ok(tensor()));
    }

    #[test]
    fn what_the_driver_refuses_is_refused() {
        type Change = fn(&mut TensorMap, &mut [u64; MOST_AXES], &mut Choices);
        let changes: [(Change, u32); 17] = [
            (|map, _, _| map.address += 8, INVALID_VALUE),
            (|map, _, _| map.sizes[2] = 0, INVALID_VALUE),
            (|map, _, _| map.sizes[3] = (1 << 32) + 1, INVALID_VALUE),
            (|map, _, _| map.strides[0] = 248, INVALID_VALUE),
            (|map, _, _| map.strides[2] = 1 << 40, INVALID_VALUE),
            (|map, _, _| map.boxes[2] = 257, INVALID_VALUE),
            (|map, _, _| map.boxes[3] = 0, INVALID_VALUE),
            (|map, _, _| map.boxes[0] = 68, INVALID_VALUE),
            (|map, _, _| map.boxes[0] = 128, INVALID_VALUE),
            (|_, steps, _| steps[1] = 0, INVALID_VALUE),
            (|_, steps, _| steps[1] = 9, INVALID_VALUE),
            (|_, _, choices| choices.swizzle = 7, INVALID_VALUE),
            (|_, _, choices| choices.interleave = 3, INVALID_VALUE),
            (|_, _, choices| choices.promotion = 4, INVALID_VALUE),
            (|_, _, choices| choices.fill = 1, INVALID_VALUE),
            (|map, _, _| map.boxes[0] = 32, NOT_SUPPORTED),
            (|_, steps, _| steps[2] = 2, NOT_SUPPORTED),
        ];
        for (index, (change, status)) in changes.into_iter().enumerate() {
            let (mut map, mut steps, mut choices) = (tensor(), [1; MOST_AXES], CHOICES);
            change(&mut map, &mut steps, &mut choices);
            assert_eq!(check(&map, &steps, choices), Err(status), "change {index}");
        }
    }
}
