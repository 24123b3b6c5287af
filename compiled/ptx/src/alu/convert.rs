//! Conversions.

use half::f16;

use super::float::canonical;
use super::lanes::{Lane, Site};
use crate::matrix::Element;

/// What `cvt` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convert {
    /// A float to one of 16 bits.
    Narrow(Element),
    /// Two floats to a pair of 16 bits each, the first one to the upper half.
    NarrowPair(Element),
    /// A float of 16 bits.
    Widen(Element),
    /// A float to an integer that is still a float.
    Round(Rounding),
    /// A float to an integer, the nearest that its type has.
    ToInteger(Rounding, IntegerWidth),
    /// An integer to the nearest float.
    FromInteger(IntegerWidth),
    /// An integer to another type.
    Integer {
        /// What it is.
        from: IntegerWidth,
        /// What it becomes.
        to: IntegerWidth,
        /// Its register has 64 bits, whatever it is.
        wide: bool,
    },
}

/// Where a float between two integers goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Rounding {
    NearestEven,
    Zero,
    Down,
    Up,
}

/// An integer type of `cvt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerWidth {
    /// 8, 16, 32 or 64.
    pub bits: u32,
    /// Two's complement.
    pub signed: bool,
}

#[inline(always)]
fn rounded(rounding: Rounding, value: f32) -> f32 {
    match rounding {
        Rounding::NearestEven => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

/// The bits of a float of 16 bits; what is no number becomes the NaN that GPUs make.
#[inline(always)]
pub(super) fn narrowed(element: Element, value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    match element {
        Element::F16 => f16::from_f32(value).to_bits(),
        Element::Bf16 => {
            let bits = value.to_bits();
            (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
        }
    }
}

/// The value of a float of 16 bits.
#[inline(always)]
pub(super) fn widened(element: Element, bits: u16) -> f32 {
    match element {
        Element::F16 => f16::from_bits(bits).to_f32(),
        Element::Bf16 => f32::from_bits(u32::from(bits) << 16),
    }
}

#[inline(always)]
pub(super) fn convert(function: Convert, mut site: Site<'_, '_>) {
    match function {
        Convert::Narrow(element) => site.map1(|a: f32| narrowed(element, a)),
        Convert::NarrowPair(element) => site.map2(|upper: f32, lower: f32| {
            u32::from(narrowed(element, upper)) << 16 | u32::from(narrowed(element, lower))
        }),
        Convert::Widen(element) => site.map1(|a: u16| widened(element, a)),
        Convert::Round(rounding) => site.map1(|a: f32| canonical(rounded(rounding, a))),
        Convert::ToInteger(rounding, to) => match (to.bits, to.signed) {
            (64, true) => site.map1(|a: f32| rounded(rounding, a) as i64),
            (64, false) => site.map1(|a: f32| rounded(rounding, a) as u64),
            (32, true) => site.map1(|a: f32| rounded(rounding, a) as i32),
            (32, false) => site.map1(|a: f32| rounded(rounding, a) as u32),
            (16, true) => site.map1(|a: f32| rounded(rounding, a) as i16),
            (16, false) => site.map1(|a: f32| rounded(rounding, a) as u16),
            (_, true) => site.map1(|a: f32| i32::from(rounded(rounding, a) as i8)),
            (_, false) => site.map1(|a: f32| u32::from(rounded(rounding, a) as u8)),
        },
        Convert::FromInteger(from) => match (from.bits, from.signed) {
            (64, true) => site.map1(|a: i64| a as f32),
            (64, false) => site.map1(|a: u64| a as f32),
            (32, true) => site.map1(|a: i32| a as f32),
            (32, false) => site.map1(|a: u32| a as f32),
            (16, true) => site.map1(|a: i16| f32::from(a)),
            (16, false) => site.map1(|a: u16| f32::from(a)),
            (_, true) => site.map1(|a: u32| f32::from(a as i8)),
            (_, false) => site.map1(|a: u32| f32::from(a as u8)),
        },
        Convert::Integer { from, to, wide: true } => match (from.bits, from.signed) {
            (64, _) => integer(site, to, |a: u64| a),
            (32, true) => integer(site, to, |a: u64| i64::from(a as i32) as u64),
            (32, false) => integer(site, to, |a: u64| u64::from(a as u32)),
            (16, true) => integer(site, to, |a: u64| i64::from(a as i16) as u64),
            (16, false) => integer(site, to, |a: u64| u64::from(a as u16)),
            (_, true) => integer(site, to, |a: u64| i64::from(a as i8) as u64),
            (_, false) => integer(site, to, |a: u64| u64::from(a as u8)),
        },
        Convert::Integer { from, to, wide: false } => match (from.bits, from.signed) {
            (64, _) => integer(site, to, |a: u64| a),
            (32, true) => integer(site, to, |a: i32| i64::from(a) as u64),
            (32, false) => integer(site, to, |a: u32| u64::from(a)),
            (16, true) => integer(site, to, |a: i16| i64::from(a) as u64),
            (16, false) => integer(site, to, |a: u16| u64::from(a)),
            (_, true) => integer(site, to, |a: u32| i64::from(a as i8) as u64),
            (_, false) => integer(site, to, |a: u32| u64::from(a as u8)),
        },
    }
}

/// From 64 bits, extended from the source, to the target, extended to its register.
#[inline(always)]
fn integer<A: Lane>(mut site: Site<'_, '_>, to: IntegerWidth, extended: impl Fn(A) -> u64) {
    match (to.bits, to.signed) {
        (64, _) => site.map1(extended),
        (32, _) => site.map1(|a: A| extended(a) as u32),
        (16, true) => site.map1(|a: A| extended(a) as i16),
        (16, false) => site.map1(|a: A| extended(a) as u16),
        (_, true) => site.map1(|a: A| i32::from(extended(a) as i8)),
        (_, false) => site.map1(|a: A| u32::from(extended(a) as u8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_narrowed_to_the_nearest() {
        assert_eq!(narrowed(Element::Bf16, 1.0), 0x3f80);
        assert_eq!(
            narrowed(Element::Bf16, f32::from_bits(0x3f80_8000)),
            0x3f80,
            "a tie goes to the even one"
        );
        assert_eq!(narrowed(Element::Bf16, f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(narrowed(Element::Bf16, f32::NAN), 0x7fff);
        assert_eq!(narrowed(Element::Bf16, f32::MAX), 0x7f80);
        assert_eq!(narrowed(Element::F16, 65504.0), 0x7bff);
        assert_eq!(narrowed(Element::F16, f32::NEG_INFINITY), 0xfc00);
        assert_eq!(
            (widened(Element::F16, 0x3c00), widened(Element::Bf16, 0xc000)),
            (1.0, -2.0)
        );
    }
}
