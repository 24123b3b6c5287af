//! Tensors of 16-bit numbers whose type is known at run time.

use crate::tolerance::Precision;
use half::{bf16, f16};
use sala_kernels::DType;
use std::ops::Range;

/// A tensor of 16-bit numbers, as stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// bfloat16.
    Bf16(Vec<bf16>),
    /// IEEE half precision.
    F16(Vec<f16>),
}

impl Values {
    /// Numbers rounded to the type.
    pub fn round(precision: Precision, numbers: impl IntoIterator<Item = f64>) -> Values {
        match precision {
            Precision::Bf16 => Values::Bf16(numbers.into_iter().map(bf16::from_f64).collect()),
            Precision::F16 => Values::F16(numbers.into_iter().map(f16::from_f64).collect()),
        }
    }

    /// Numbers from their bit patterns.
    pub fn from_bits(precision: Precision, bits: impl IntoIterator<Item = u16>) -> Values {
        match precision {
            Precision::Bf16 => Values::Bf16(bits.into_iter().map(bf16::from_bits).collect()),
            Precision::F16 => Values::F16(bits.into_iter().map(f16::from_bits).collect()),
        }
    }

    /// The type, as tolerances know it.
    pub fn precision(&self) -> Precision {
        match self {
            Values::Bf16(_) => Precision::Bf16,
            Values::F16(_) => Precision::F16,
        }
    }

    /// The type, as tensors know it.
    pub fn dtype(&self) -> DType {
        self.precision().dtype()
    }

    /// The numbers, exactly.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Values::Bf16(values) => values.iter().map(|x| x.to_f64()).collect(),
            Values::F16(values) => values.iter().map(|x| x.to_f64()).collect(),
        }
    }

    /// The bit patterns.
    pub fn to_bits(&self) -> Vec<u16> {
        match self {
            Values::Bf16(values) => values.iter().map(|x| x.to_bits()).collect(),
            Values::F16(values) => values.iter().map(|x| x.to_bits()).collect(),
        }
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Values::Bf16(values) => values.len(),
            Values::F16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces the numbers of a range by NaN.
    pub fn poison(&mut self, range: Range<usize>) {
        match self {
            Values::Bf16(values) => values[range].fill(bf16::NAN),
            Values::F16(values) => values[range].fill(f16::NAN),
        }
    }

    /// A part of the numbers.
    pub fn slice(&self, range: Range<usize>) -> Values {
        match self {
            Values::Bf16(values) => Values::Bf16(values[range].to_vec()),
            Values::F16(values) => Values::F16(values[range].to_vec()),
        }
    }

    /// The rows of some of `total` tokens.
    pub fn rows(&self, total: usize, tokens: Range<usize>) -> Values {
        let row = self.len() / total.max(1);
        self.slice(tokens.start * row..tokens.end * row)
    }

    /// The rows of the named tokens, of `total`.
    pub fn pick(&self, total: usize, tokens: &[usize]) -> Values {
        let (row, bits) = (self.len() / total.max(1), self.to_bits());
        let rows = tokens.iter().flat_map(|token| &bits[token * row..(token + 1) * row]);
        Values::from_bits(self.precision(), rows.copied())
    }
}
