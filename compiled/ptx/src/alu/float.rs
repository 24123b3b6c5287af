//! 32-bit floats.
//!
//! Results that are no number are the one NaN that GPUs make. Fused multiply-adds are fused, and everything but the approximate functions is
//! rounded to nearest, so results are those of a GPU bit for bit.

use super::lanes::Site;

/// Operations on 32-bit floats that are rounded correctly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PTX's own names")]
pub enum Float {
    Add,
    Sub,
    Multiply,
    MultiplyAdd,
    Divide,
    Min,
    Max,
    MinOrNan,
    MaxOrNan,
    Negate,
    Absolute,
    CopySign,
    Reciprocal,
    SquareRoot,
}

/// The NaN that GPUs make.
const NAN: f32 = f32::from_bits(0x7fff_ffff);

#[inline(always)]
pub(super) fn canonical(value: f32) -> f32 {
    if value.is_nan() { NAN } else { value }
}

/// Subnormal numbers become zero (`.ftz`).
#[inline(always)]
pub(super) fn flushed(value: f32) -> f32 {
    if value.is_subnormal() {
        0.0_f32.copysign(value)
    } else {
        value
    }
}

/// `.ftz` or not.
#[inline(always)]
fn seen(flush: bool, value: f32) -> f32 {
    if flush { flushed(value) } else { value }
}

#[inline(always)]
fn unary(flush: bool, mut site: Site<'_, '_>, function: impl Fn(f32) -> f32) {
    site.map1(|a: f32| seen(flush, canonical(function(seen(flush, a)))));
}

#[inline(always)]
fn binary(flush: bool, mut site: Site<'_, '_>, function: impl Fn(f32, f32) -> f32) {
    site.map2(|a: f32, b: f32| seen(flush, canonical(function(seen(flush, a), seen(flush, b)))));
}

#[inline(always)]
pub(super) fn float(function: Float, flush: bool, mut site: Site<'_, '_>) {
    match function {
        Float::Add => binary(flush, site, |a, b| a + b),
        Float::Sub => binary(flush, site, |a, b| a - b),
        Float::Multiply => binary(flush, site, |a, b| a * b),
        Float::MultiplyAdd => site.map3(|a: f32, b: f32, c: f32| {
            seen(flush, canonical(seen(flush, a).mul_add(seen(flush, b), seen(flush, c))))
        }),
        Float::Divide => binary(flush, site, |a, b| a / b),
        Float::Min => binary(flush, site, min),
        Float::Max => binary(flush, site, |a, b| -min(-a, -b)),
        Float::MinOrNan => binary(
            flush,
            site,
            |a, b| if a.is_nan() || b.is_nan() { NAN } else { min(a, b) },
        ),
        Float::MaxOrNan => binary(
            flush,
            site,
            |a, b| if a.is_nan() || b.is_nan() { NAN } else { -min(-a, -b) },
        ),
        // These change the sign alone, of NaN too.
        Float::Negate => site.map1(|a: f32| -a),
        Float::Absolute => site.map1(|a: f32| a.abs()),
        Float::CopySign => site.map2(|sign: f32, value: f32| value.copysign(sign)),
        Float::Reciprocal => unary(flush, site, |a| 1.0 / a),
        Float::SquareRoot => unary(flush, site, f32::sqrt),
    }
}

/// The lesser; the other one, if one is NaN; -0 is less than +0.
#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    let equal = f32::from_bits(a.to_bits() | b.to_bits());
    let lesser = if a < b { a } else { b };
    let ordered = if a == b { equal } else { lesser };
    if b.is_nan() {
        a
    } else if a.is_nan() {
        b
    } else {
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lesser_of_two() {
        assert_eq!(min(1.0, 2.0), 1.0);
        assert_eq!(min(f32::NAN, 2.0), 2.0);
        assert_eq!(min(2.0, f32::NAN), 2.0);
        assert!(min(0.0, -0.0).is_sign_negative() && min(-0.0, 0.0).is_sign_negative());
        assert!((-min(-0.0, 0.0)).is_sign_positive());
        assert!(min(f32::NAN, f32::NAN).is_nan());
    }

    #[test]
    fn subnormal_numbers_become_zero() {
        assert_eq!(flushed(-1e-40).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(flushed(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
    }
}
