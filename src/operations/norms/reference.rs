//! Norms, rotary embedding and gate, rounded where a model in 16 bits rounds.

use crate::reference::Value;

/// `1 / √(mean x² + eps)` of a row.
fn inverse<T: Value>(row: &[T], eps: f32) -> f64 {
    let sum: f64 = row.iter().map(|x| x.to_f64() * x.to_f64()).sum();
    (sum / row.len() as f64 + f64::from(eps)).sqrt().recip()
}

/// `x · inverse` rounded, times the weight rounded.
fn normalised<T: Value>(x: T, inverse: f64, weight: Option<T>) -> T {
    let rounded = T::from_f64(x.to_f64() * inverse);
    weight.map_or(rounded, |weight| T::from_f64(rounded.to_f64() * weight.to_f64()))
}

/// Where tokens stand, and the table that turns them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation<'a> {
    /// `[count, dim]`: the first half of a row cosines, the second sines.
    pub cos_sin: &'a [f32],
    /// `[tokens]`.
    pub positions: &'a [i32],
}

/// Norms each row of `dim` channels of x, `[tokens, heads, dim]`, and turns it. Gives the outputs before their last rounding, and how many
/// tokens stand outside the table: those are zero.
///
/// ```
/// # use sala_kernels::reference::norms::norm_rope;
/// let (out, refused) = norm_rope(&[3.0f32, 4.0], [1, 2], None, None, 0.0);
/// assert!((out[0] - 3.0 / 12.5f64.sqrt()).abs() < 1e-6 && refused == 0);
/// ```
///
/// # Panics
/// Where a slice is shorter than its shape.
pub fn norm_rope<T: Value>(
    x: &[T],
    [heads, dim]: [usize; 2],
    weight: Option<&[T]>,
    rotation: Option<Rotation<'_>>,
    eps: f32,
) -> (Vec<f64>, u32) {
    let mut out = Vec::with_capacity(x.len());
    let mut refused = 0;
    for (index, row) in x.chunks(dim).enumerate() {
        let inverse = inverse(row, eps);
        let norm = |i: usize| normalised(row[i], inverse, weight.map(|weight| weight[i])).to_f64();
        let normed: Vec<f64> = (0..dim).map(norm).collect();
        let Some(Rotation { cos_sin, positions }) = rotation else {
            out.extend(normed);
            continue;
        };
        let position = usize::try_from(positions[index / heads]).ok();
        let Some(turns) = position.and_then(|position| cos_sin.chunks(dim).nth(position)) else {
            refused += u32::from(index.is_multiple_of(heads));
            out.extend(vec![0.0; dim]);
            continue;
        };
        let (first, second) = normed.split_at(dim / 2);
        let (cos, sin) = turns.split_at(dim / 2);
        let turn = |i: usize, sign: f64, own: &[f64], other: &[f64]| {
            own[i] * f64::from(cos[i]) + sign * other[i] * f64::from(sin[i])
        };
        out.extend((0..dim / 2).map(|i| turn(i, -1.0, first, second)));
        out.extend((0..dim / 2).map(|i| turn(i, 1.0, second, first)));
    }
    (out, refused)
}

/// Norms each row of `weight.len()` channels, and multiplies it with the sigmoid of its gate. `sums`, if given, are sums of squares `[tokens]` and
/// the number of channels that they are of. Gives the outputs before their last rounding.
///
/// # Panics
/// Where a slice is shorter than its shape.
pub fn norm_gate<T: Value>(x: &[T], weight: &[T], gate: &[T], sums: Option<(&[f32], usize)>, eps: f32) -> Vec<f64> {
    let rows = x.chunks(weight.len()).zip(gate.chunks(weight.len())).enumerate();
    rows.flat_map(|(token, (row, gate))| {
        let inverse = match sums {
            None => inverse(row, eps),
            Some((sums, covered)) => (f64::from(sums[token]) / covered as f64 + f64::from(eps))
                .sqrt()
                .recip(),
        };
        let channels = row.iter().zip(weight).zip(gate);
        channels.map(move |((x, weight), gate)| {
            normalised(*x, inverse, Some(*weight)).to_f64() / (1.0 + (-gate.to_f64()).exp())
        })
    })
    .collect()
}

/// The sum of squares of each row of so many channels.
pub fn sum_squares<T: Value>(x: &[T], channels: usize) -> Vec<f64> {
    let sum = |row: &[T]| row.iter().map(|x| x.to_f64() * x.to_f64()).sum();
    x.chunks(channels).map(sum).collect()
}
