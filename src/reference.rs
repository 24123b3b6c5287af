//! What every kernel computes, as plain Rust.
//!
//! Each function here is the definition of one operation: written from the mathematics alone, in f64, one element after the other,
//! over contiguous slices. Nothing is tiled, chunked or approximated, so that a reader can check a formula and a test can trust the
//! numbers. Use them to learn what an operation means and to judge a kernel; they are far too slow for anything else.
//!
//! Inputs are read as they are stored ([`Value`]): a bf16 tensor is exact in f64, so a difference to a kernel is the kernel's own.

pub use crate::operations::definitions::*;

use half::{bf16, f16};
use std::ops::Range;

/// A number that a tensor stores.
pub trait Value: Copy {
    /// The number, exactly.
    fn to_f64(self) -> f64;
    /// The nearest storable number, ties to even.
    fn from_f64(value: f64) -> Self;
}

impl Value for bf16 {
    fn to_f64(self) -> f64 {
        bf16::to_f64(self)
    }
    fn from_f64(value: f64) -> Self {
        bf16::from_f32(round_to_odd(value))
    }
}

impl Value for f16 {
    fn to_f64(self) -> f64 {
        f16::to_f64(self)
    }
    fn from_f64(value: f64) -> Self {
        f16::from_f32(round_to_odd(value))
    }
}

impl Value for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Value for f64 {
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
}

/// The neighbouring f32 whose last bit is odd, or the same number if f32 has it. Rounding that to 16 bits is as if the f64 were rounded at once;
/// `half`'s own conversion drops half of the bits first, and takes what lies just beside a tie for one.
fn round_to_odd(value: f64) -> f32 {
    let near = value as f32;
    if value.is_nan() || f64::from(near) == value {
        return near;
    }
    let away = f64::from(near).abs() > value.abs();
    f32::from_bits((near.to_bits() - u32::from(away)) | 1)
}

/// The token range of each sequence that `cu_seqlens` describes; `None` where a range is not a part of `0..total`, and for the first
/// sequence if it does not begin at 0 (a device refuses such a sequence and counts it).
///
/// ```
/// # use sala_kernels::reference::sequences;
/// assert_eq!(sequences(&[0, 3, 3, 9], 8), [Some(0..3), Some(3..3), None]);
/// assert_eq!(sequences(&[1, 3, 8], 8), [None, Some(3..8)]);
/// ```
pub fn sequences(cu_seqlens: &[i32], total: usize) -> Vec<Option<Range<usize>>> {
    let bounds = cu_seqlens.windows(2).enumerate();
    bounds
        .map(|(sequence, pair)| {
            let start = usize::try_from(pair[0]).ok()?;
            let end = usize::try_from(pair[1]).ok()?;
            let begins = sequence > 0 || start == 0;
            (begins && start <= end && end <= total).then_some(start..end)
        })
        .collect()
}

/// `Σ a·b`, left to right.
pub(crate) fn dot<A: Value, B: Value>(a: &[A], b: &[B]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beside_a_tie_go_to_their_own_side() {
        // Halfway between 1 and the next number of each type, and 2⁻⁴⁰ to either side.
        let little = (-40.0f64).exp2();
        for (bits, rounded) in [
            (7, (|x| <bf16 as Value>::from_f64(x).to_f64()) as fn(f64) -> f64),
            (10, |x| <f16 as Value>::from_f64(x).to_f64()),
        ] {
            let ulp = (-f64::from(bits)).exp2();
            for sign in [1.0, -1.0] {
                let at = |x: f64| rounded(sign * x) * sign;
                assert_eq!(at(1.0 + ulp / 2.0), 1.0);
                assert_eq!(at(1.0 + ulp / 2.0 + little), 1.0 + ulp);
                assert_eq!(at(1.0 + 1.5 * ulp), 1.0 + 2.0 * ulp);
                assert_eq!(at(1.0 + 1.5 * ulp - little), 1.0 + ulp);
            }
            for x in [0.0, f64::INFINITY, 1e300, 3.25] {
                assert_eq!(rounded(x), if x > 1e9 { f64::INFINITY } else { x });
            }
            assert!(rounded(f64::NAN).is_nan());
        }
    }
}
