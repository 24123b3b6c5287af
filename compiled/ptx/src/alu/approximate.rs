//! The approximate functions.
//!
//! By default they are as good as the C library's, which is what the crate's CPU half uses, so that both give the same bits. A GPU's are not:
//! with [`Functions::Off`] every result is off by as much as PTX's manual allows, in a direction that depends on the argument's bits.

use super::float::{canonical, flushed};
use super::lanes::Site;
use crate::options::Functions;

/// A function of `.approx` or `.full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PTX's own names")]
pub enum Approximate {
    Reciprocal,
    SquareRoot,
    ReciprocalSquareRoot,
    Exp2,
    Log2,
    Sine,
    Cosine,
    Tanh,
    Divide,
}

/// One unit in the last place of a float of 24 bits, relative to the least number of its binade.
const ULP: f64 = 1.0 / (1 << 23) as f64;

pub(super) fn approximate(function: Approximate, flush: bool, functions: Functions, mut site: Site<'_, '_>) {
    let seen = |value: f32| canonical(if flush { flushed(value) } else { value });
    match (functions, function) {
        (Functions::Nearest, Approximate::Divide) => site.map2(|a: f32, b: f32| seen(seen(a) / seen(b))),
        (Functions::Nearest, _) => site.map1(|a: f32| seen(nearest(function, seen(a)))),
        (Functions::Off, Approximate::Divide) => site.map2(|a: f32, b: f32| {
            let exact = f64::from(seen(a)) / f64::from(seen(b));
            seen(off(
                exact,
                2.0 * ULP * exact.abs(),
                a.to_bits() ^ b.to_bits().rotate_left(16),
            ))
        }),
        (Functions::Off, _) => site.map1(|a: f32| {
            let exact = exact(function, f64::from(seen(a)));
            seen(off(exact, allowed(function, f64::from(seen(a)), exact), a.to_bits()))
        }),
    }
}

fn nearest(function: Approximate, x: f32) -> f32 {
    match function {
        Approximate::Reciprocal => 1.0 / x,
        Approximate::SquareRoot => x.sqrt(),
        Approximate::ReciprocalSquareRoot => 1.0 / x.sqrt(),
        Approximate::Exp2 => x.exp2(),
        Approximate::Log2 => x.log2(),
        Approximate::Sine => x.sin(),
        Approximate::Cosine => x.cos(),
        Approximate::Tanh => x.tanh(),
        Approximate::Divide => f32::NAN,
    }
}

fn exact(function: Approximate, x: f64) -> f64 {
    match function {
        Approximate::Reciprocal => 1.0 / x,
        Approximate::SquareRoot => x.sqrt(),
        Approximate::ReciprocalSquareRoot => 1.0 / x.sqrt(),
        Approximate::Exp2 => x.exp2(),
        Approximate::Log2 => x.log2(),
        Approximate::Sine => x.sin(),
        Approximate::Cosine => x.cos(),
        Approximate::Tanh => x.tanh(),
        Approximate::Divide => f64::NAN,
    }
}

/// The largest error that PTX's manual (version 8) gives, absolute.
fn allowed(function: Approximate, x: f64, result: f64) -> f64 {
    let relative = |bits: f64| result.abs() * (-bits).exp2();
    match function {
        Approximate::Reciprocal => relative(23.0),
        Approximate::SquareRoot => relative(23.0),
        Approximate::ReciprocalSquareRoot => relative(22.9),
        Approximate::Exp2 => relative(22.5),
        // Absolute around 1, where the result is small.
        Approximate::Log2 if (0.5..=2.0).contains(&x) => (-22.0_f64).exp2(),
        Approximate::Log2 => relative(22.0),
        Approximate::Sine | Approximate::Cosine => (-20.5_f64).exp2(),
        Approximate::Tanh => relative(11.0),
        Approximate::Divide => 2.0 * ULP * result.abs(),
    }
}

/// Moves a result by an error, up or down as the argument's bits say. What is no number, infinite or zero is exact on GPUs too.
fn off(result: f64, error: f64, argument: u32) -> f32 {
    if !result.is_normal() {
        return result as f32;
    }
    // A multiplicative hash: neighbours go different ways.
    let up = argument.wrapping_mul(0x9e37_79b9) >> 31 == 1;
    let moved = if up { result + error } else { result - error };
    let rounded = moved as f32;
    // Rounding must not carry it past what is allowed.
    let distance = (f64::from(rounded) - result).abs();
    if distance <= error || !rounded.is_finite() {
        return rounded;
    }
    let bits = rounded.to_bits();
    let nearer = f32::from_bits(if f64::from(rounded.abs()) > result.abs() {
        bits - 1
    } else {
        bits + 1
    });
    if (f64::from(nearer) - result).abs() <= error {
        nearer
    } else {
        result as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_as_large_as_allowed_and_no_larger() {
        let functions = [
            Approximate::Reciprocal,
            Approximate::ReciprocalSquareRoot,
            Approximate::Exp2,
            Approximate::Log2,
            Approximate::Tanh,
        ];
        for function in functions {
            let (mut largest, mut up, mut down) = (0.0_f64, 0, 0);
            for step in 1..4000_u32 {
                let x = f64::from(step as f32 * 0.003_17);
                let exact = exact(function, x);
                let error = allowed(function, x, exact);
                let moved = f64::from(off(exact, error, (x as f32).to_bits()));
                let share = (moved - exact) / error;
                assert!(share.abs() <= 1.0, "{function:?} of {x}: {share}");
                largest = largest.max(share.abs());
                up += u32::from(share > 0.0);
                down += u32::from(share < 0.0);
            }
            assert!(
                largest > 0.9,
                "{function:?} is off by at most {largest} of what is allowed"
            );
            assert!(
                up > 500 && down > 500,
                "{function:?} goes up {up} times and down {down} times"
            );
        }
    }

    #[test]
    fn exact_results_stay_so() {
        assert_eq!(off(f64::INFINITY, f64::INFINITY, 1), f32::INFINITY);
        assert_eq!(off(0.0, 0.0, 1), 0.0);
        assert!(off(f64::NAN, 1.0, 1).is_nan());
    }
}
