//! Attention over two sets of keys made one.

use crate::reference::Value;

/// Attention over both sets of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// `[tokens, heads, dim]`, not rounded.
    pub out: Vec<f64>,
    /// `[tokens, heads]`.
    pub lse: Vec<f64>,
    /// `Σ w·|O|` over the two sides, shaped as `out`: what the rounding of a sum is relative to in which they cancel.
    pub magnitude: Vec<f64>,
}

/// Merges rows of `dim` channels, of attention over one set of keys and over another, by the logarithms of their sums of exponentials.
///
/// ```text
/// m = max(LSE₁, LSE₂)     wᵢ = exp(LSEᵢ − m)     O = (w₁ O₁ + w₂ O₂) / (w₁ + w₂)     LSE = m + ln(w₁ + w₂)
/// ```
///
/// A side whose logarithm is −∞ is as if it were not there; where both are, `O = 0` and `LSE = −∞`. A logarithm of +∞ or NaN makes its row NaN.
///
/// ```
/// # use sala_kernels::reference::merge::merge;
/// let ln = f32::ln;
/// let merged = merge(1, [&[4.0f32, 7.0], &[8.0, f32::NAN]], [&[ln(3.0), 0.5], &[0.0, f32::NEG_INFINITY]]);
/// assert!((merged.out[0] - 5.0).abs() < 1e-6 && merged.out[1] == 7.0);
/// assert!((merged.lse[0] - 4.0f64.ln()).abs() < 1e-6 && merged.lse[1] == 0.5);
/// ```
///
/// # Panics
/// Where slices are not of one shape.
pub fn merge<T: Value>(dim: usize, out: [&[T]; 2], lse: [&[f32]; 2]) -> Merged {
    let rows = lse[0].len();
    assert!(
        lse[1].len() == rows && out.iter().all(|out| out.len() == rows * dim),
        "sides of one shape"
    );
    let mut merged = Merged {
        out: Vec::with_capacity(rows * dim),
        lse: Vec::with_capacity(rows),
        magnitude: Vec::with_capacity(rows * dim),
    };
    for row in 0..rows {
        let [first, second] = lse.map(|lse| f64::from(lse[row]));
        let largest = if first > second { first } else { second };
        let weight = |lse: f64| {
            if lse == f64::NEG_INFINITY {
                0.0
            } else {
                (lse - largest).exp()
            }
        };
        let weights = [weight(first), weight(second)];
        let sum = weights[0] + weights[1];
        merged.lse.push(if sum == 0.0 {
            f64::NEG_INFINITY
        } else {
            largest + sum.ln()
        });
        let [first, second] = out.map(|out| &out[row * dim..(row + 1) * dim]);
        for (&first, &second) in first.iter().zip(second) {
            // What has no weight is not read: it may be NaN.
            let part = |weight: f64, value: T| {
                if weight == 0.0 {
                    0.0
                } else {
                    weight * value.to_f64() / sum
                }
            };
            let parts = [part(weights[0], first), part(weights[1], second)];
            merged.out.push(parts[0] + parts[1]);
            merged.magnitude.push(parts[0].abs() + parts[1].abs());
        }
    }
    merged
}
