//! Matrices that the lanes of a warp hold together.
//!
//! Lane 4 g + t holds of an 8 x 8 matrix of 16-bit elements (g, 2 t) and (g, 2 t + 1), in the halves of a register. So the words of the 32
//! lanes, one after the other, are the matrix row by row.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use crate::machine::for_this_machine;
use crate::options::Sums;
use crate::registers::{LANES, Lanes};

/// 16-bit elements.
pub type Matrix = [[u16; 8]; 8];

/// The type of 16-bit elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PTX's own names")]
pub enum Element {
    Bf16,
    F16,
}

/// The matrix in a register.
pub fn from_register(register: &Lanes<u32>) -> Matrix {
    let mut matrix = [[0; 8]; 8];
    for lane in 0..LANES {
        matrix[lane / 4][lane % 4 * 2] = register[lane] as u16;
        matrix[lane / 4][lane % 4 * 2 + 1] = (register[lane] >> 16) as u16;
    }
    matrix
}

/// The register of a matrix.
pub fn to_register(matrix: &Matrix) -> Lanes<u32> {
    let mut register = [0; LANES];
    for (lane, value) in register.iter_mut().enumerate() {
        let (row, column) = (lane / 4, lane % 4 * 2);
        *value = u32::from(matrix[row][column]) | u32::from(matrix[row][column + 1]) << 16;
    }
    register
}

/// Rows become columns.
pub fn transposed(matrix: &Matrix) -> Matrix {
    let mut result = [[0; 8]; 8];
    for row in 0..8 {
        for column in 0..8 {
            result[row][column] = matrix[column][row];
        }
    }
    result
}

/// The matrix in a register, in floats.
#[inline(always)]
fn widened(element: Element, register: &Lanes<u32>) -> [[f32; 8]; 8] {
    let mut wide = [[0.0; 8]; 8];
    match element {
        Element::Bf16 => {
            for (lane, pair) in register.iter().enumerate() {
                let (row, column) = (lane / 4, lane % 4 * 2);
                wide[row][column] = f32::from_bits(pair << 16);
                wide[row][column + 1] = f32::from_bits(pair & 0xffff_0000);
            }
        }
        Element::F16 => {
            let matrix = from_register(register);
            let halves = matrix.as_flattened().reinterpret_cast::<half::f16>();
            halves.convert_to_f32_slice(wide.as_flattened_mut());
        }
    }
    wide
}

/// The registers of a product: A is four matrices (upper left, lower left, upper right, lower right), B two, each transposed, and C four
/// registers: two columns next to each other of the upper half, then of the lower.
#[derive(Clone, Copy, Debug)]
pub struct Factors<'r> {
    /// 16 x 16.
    pub a: [&'r Lanes<u32>; 4],
    /// 16 x 8.
    pub b: [&'r Lanes<u32>; 2],
    /// 16 x 8.
    pub c: [&'r Lanes<u32>; 4],
}

for_this_machine! {
    /// `mma.m16n8k16`: A B + C.
    pub fn multiply(element: Element, sums: Sums, factors: &Factors<'_>) -> [Lanes<u32>; 4] => multiply_inline;
}

#[inline(always)]
fn multiply_inline(element: Element, sums: Sums, factors: &Factors<'_>) -> [Lanes<u32>; 4] {
    let mut b = [[[0.0; 8]; 8]; 2];
    for (rows, register) in b.iter_mut().zip(factors.b) {
        let columns = widened(element, register);
        for k in 0..8 {
            for n in 0..8 {
                rows[k][n] = columns[n][k];
            }
        }
    }
    let [first, second] = multiply_rows(element, sums, factors, &b, 0);
    let [third, fourth] = multiply_rows(element, sums, factors, &b, 1);
    [first, second, third, fourth]
}

/// The upper or the lower half of a product.
#[inline(always)]
fn multiply_rows(
    element: Element,
    sums: Sums,
    factors: &Factors<'_>,
    b: &[[[f32; 8]; 8]; 2],
    half: usize,
) -> [Lanes<u32>; 2] {
    let mut before = [[0.0; 8]; 8];
    for lane in 0..LANES {
        let (row, column) = (lane / 4, lane % 4 * 2);
        before[row][column] = f32::from_bits(factors.c[2 * half][lane]);
        before[row][column + 1] = f32::from_bits(factors.c[2 * half + 1][lane]);
    }
    let upper = widened(element, factors.a[half]);
    let lower = widened(element, factors.a[half + 2]);
    match sums {
        Sums::Nearest => {
            let mut sum = [[0.0; 8]; 8];
            add_nearest(&mut sum, &upper, &b[0]);
            add_nearest(&mut sum, &lower, &b[1]);
            for row in 0..8 {
                for column in 0..8 {
                    before[row][column] += sum[row][column];
                }
            }
        }
        Sums::Truncated => {
            add_truncated(&mut before, &upper, &b[0]);
            add_truncated(&mut before, &lower, &b[1]);
        }
    }
    let (mut left, mut right) = ([0; LANES], [0; LANES]);
    for (lane, (left, right)) in left.iter_mut().zip(&mut right).enumerate() {
        let (row, column) = (lane / 4, lane % 4 * 2);
        *left = bits(before[row][column]);
        *right = bits(before[row][column + 1]);
    }
    [left, right]
}

/// What is no number is the one NaN that GPUs make.
#[inline(always)]
fn bits(value: f32) -> u32 {
    if value.is_nan() { 0x7fff_ffff } else { value.to_bits() }
}

/// Adds products, which are exact in 32 bits, one after the other.
#[inline(always)]
fn add_nearest(sum: &mut [[f32; 8]; 8], a: &[[f32; 8]; 8], b: &[[f32; 8]; 8]) {
    for k in 0..8 {
        for row in 0..8 {
            for column in 0..8 {
                sum[row][column] = a[row][k].mul_add(b[k][column], sum[row][column]);
            }
        }
    }
}

/// A model of tensor cores after published measurements of an A100, not checked against one: eight products and the sum so far are cut off
/// 24 bits below the highest exponent among them, added exactly, and the total is cut off.
#[inline(always)]
fn add_truncated(sum: &mut [[f32; 8]; 8], a: &[[f32; 8]; 8], b: &[[f32; 8]; 8]) {
    for row in 0..8 {
        let mut terms = [[0.0_f64; 8]; 9];
        for column in 0..8 {
            for k in 0..8 {
                terms[k][column] = f64::from(a[row][k]) * f64::from(b[k][column]);
            }
            terms[8][column] = f64::from(sum[row][column]);
        }
        let (mut largest, mut plain) = ([0.0_f64; 8], [0.0_f64; 8]);
        for term in &terms {
            for column in 0..8 {
                largest[column] = largest[column].max(term[column].abs());
                plain[column] += term[column];
            }
        }
        // The bits of the exponent alone are a power of two, so scaling by it is exact.
        let (mut unit, mut scale) = ([0.0; 8], [0.0; 8]);
        for column in 0..8 {
            unit[column] = f64::from_bits(largest[column].to_bits() & 0x7ff0_0000_0000_0000) * UNIT;
            scale[column] = 1.0 / unit[column];
        }
        let mut cut = [0.0_f64; 8];
        for term in &terms {
            for column in 0..8 {
                cut[column] += (term[column] * scale[column]).trunc();
            }
        }
        for column in 0..8 {
            let is_cut = largest[column] > 0.0 && plain[column].is_finite();
            let total = if is_cut {
                cut[column] * unit[column]
            } else {
                plain[column]
            };
            let rounded = total as f32;
            let too_large = f64::from(rounded).abs() > total.abs() && rounded.is_finite();
            sum[row][column] = if too_large {
                f32::from_bits(rounded.to_bits() - 1)
            } else {
                rounded
            };
        }
    }
}

/// The lowest bit that is kept, relative to the highest exponent.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, which every way of summing gets right.
    fn product(sums: Sums, element: Element) -> ([[f32; 8]; 16], [[f32; 8]; 16]) {
        let a = |m: usize, k: usize| (m * 3 + k * 5) as f32 % 7.0 - 3.0;
        let b = |k: usize, n: usize| (k + n * n) as f32 % 5.0 - 2.0;
        let c = |m: usize, n: usize| m as f32 - n as f32;
        let narrow = |value: f32| match element {
            Element::Bf16 => half::bf16::from_f32(value).to_bits(),
            Element::F16 => half::f16::from_f32(value).to_bits(),
        };
        let matrix = |at: &dyn Fn(usize, usize) -> f32| -> Matrix {
            std::array::from_fn(|row| std::array::from_fn(|column| narrow(at(row, column))))
        };
        let registers_a =
            [(0, 0), (8, 0), (0, 8), (8, 8)].map(|(m, k)| to_register(&matrix(&|row, column| a(m + row, k + column))));
        let registers_b = [0, 8].map(|k| to_register(&matrix(&|row, column| b(k + column, row))));
        let registers_c: [Lanes<u32>; 4] = std::array::from_fn(|index| {
            std::array::from_fn(|lane| c(lane / 4 + index / 2 * 8, lane % 4 * 2 + index % 2).to_bits())
        });
        let factors = Factors {
            a: registers_a.each_ref(),
            b: registers_b.each_ref(),
            c: registers_c.each_ref(),
        };
        let result = multiply(element, sums, &factors);
        let mut got = [[0.0; 8]; 16];
        for (index, register) in result.iter().enumerate() {
            for (lane, &bits) in register.iter().enumerate() {
                got[lane / 4 + index / 2 * 8][lane % 4 * 2 + index % 2] = f32::from_bits(bits);
            }
        }
        let expected =
            std::array::from_fn(|m| std::array::from_fn(|n| (0..16).map(|k| a(m, k) * b(k, n)).sum::<f32>() + c(m, n)));
        (got, expected)
    }

    #[test]
    fn products_are_summed_along_k() {
        for element in [Element::Bf16, Element::F16] {
            for sums in [Sums::Nearest, Sums::Truncated] {
                let (got, expected) = product(sums, element);
                assert_eq!(got, expected, "{element:?} {sums:?}");
            }
        }
    }

    #[test]
    fn truncated_sums_are_cut_off() {
        let ones = [[1.0; 8]; 8];
        let summed = |start: f32, value: f32| {
            let mut sum = [[start; 8]; 8];
            add_truncated(&mut sum, &[[value; 8]; 8], &ones);
            sum[3][5]
        };
        let tiny = (-25.0_f32).exp2();
        assert_eq!(
            summed(1.0, tiny),
            1.0,
            "each product is below the last bit, though their sum is not"
        );
        assert_eq!(summed(1.0, 2.0 * tiny), 1.0 + 16.0 * tiny, "these are not");
        assert_eq!(
            summed(-1.0, -3.0 * tiny),
            -1.0 - 16.0 * tiny,
            "half of them is cut off, towards zero"
        );
        assert_eq!(summed(0.0, 0.0), 0.0);
        assert_eq!(summed(f32::INFINITY, 1.0), f32::INFINITY);
        assert!(summed(1.0, f32::NAN).is_nan());
    }

    #[test]
    fn a_register_is_a_matrix_row_by_row() {
        let matrix: Matrix = std::array::from_fn(|row| std::array::from_fn(|column| (16 * row + column) as u16));
        let register = to_register(&matrix);
        assert_eq!(register[6], 0x15_0014);
        assert_eq!(from_register(&register), matrix);
        assert_eq!(transposed(&matrix)[3][5], matrix[5][3]);
    }
}
