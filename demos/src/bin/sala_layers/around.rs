//! What a layer does around its kernel, as plain Rust: norms, rotary embedding, gate. Rounded where a model in bf16 rounds.

use half::bf16;

/// Normalises each row of `dim` channels to a root mean square of one: the variance in f32, rounded, times the weight, rounded.
pub fn rms_norm(rows: &mut [bf16], weight: &[bf16], eps: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let mean_square = row.iter().map(|x| x.to_f32().powi(2)).sum::<f32>() / row.len() as f32;
        let inverse = (mean_square + eps).sqrt().recip();
        for (x, weight) in row.iter_mut().zip(weight) {
            *x = bf16::from_f32(x.to_f32() * inverse) * *weight;
        }
    }
}

/// The cosines and sines of a position: `dim / 2` of each.
pub struct Rotation {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    /// Of `position`, made in f64.
    pub fn new(position: usize, dim: usize, theta: f64) -> Rotation {
        let angle = |pair: usize| position as f64 * theta.powf(-2.0 * pair as f64 / dim as f64);
        Rotation {
            cos: (0..dim / 2).map(|pair| angle(pair).cos() as f32).collect(),
            sin: (0..dim / 2).map(|pair| angle(pair).sin() as f32).collect(),
        }
    }

    /// Turns the channel pairs (i, i + dim/2) of a row in place.
    pub fn apply(&self, row: &mut [bf16]) {
        let (first, second) = row.split_at_mut(self.cos.len());
        for (i, (x, y)) in first.iter_mut().zip(second).enumerate() {
            let (a, b) = (x.to_f32(), y.to_f32());
            *x = bf16::from_f32(a * self.cos[i] - b * self.sin[i]);
            *y = bf16::from_f32(b * self.cos[i] + a * self.sin[i]);
        }
    }
}

/// `x · sigmoid(gate)`, element by element.
pub fn apply_gate(x: &mut [bf16], gate: &[bf16]) {
    for (x, gate) in x.iter_mut().zip(gate) {
        *x = bf16::from_f32(x.to_f32() / (1.0 + (-gate.to_f32()).exp()));
    }
}
