//! Norms, rotary embedding and gate, which stand around linear attention.

mod gate;
pub mod reference;
mod rope;

pub use gate::{NormGateArgs, SumSquaresArgs};
pub use rope::{NormRopeArgs, rotary_cos_sin};

use crate::launch::{Variant, checks};
use crate::sys::params::{SALA_NORM_THREADS, sala_norm_gate_params, sala_norm_rope_params};
use crate::{DType, Error, Result};

/// RMS norms in a type, and what follows them: what stands before and behind linear attention in MiniCPM-SALA.
///
/// | arguments | what is launched |
/// |---|---|
/// | [`NormRopeArgs`] | the norm of each head, then rotary embedding |
/// | [`NormGateArgs`] | the norm over all channels of a token, then a gate |
/// | [`SumSquaresArgs`] | the sums of squares alone, for norms whose channels lie on several ranks |
///
/// Each moves its bytes once. The bits of a token do not depend on the others.
#[derive(Debug, Clone)]
pub struct Norm {
    dtype: DType,
    eps: f32,
    /// With the channels of a head.
    rope: Vec<Variant<sala_norm_rope_params, usize>>,
    /// With the most channels of a token; those with the fewest come first.
    gate: Vec<Variant<sala_norm_gate_params, usize>>,
    sums: Vec<Variant<sala_norm_gate_params, usize>>,
}

/// Vectors of eight channels that a thread may have.
const PASSES: [u32; 4] = [1, 2, 4, 8];

impl Norm {
    /// Norms of tensors in bf16 or f16, with `eps` added to the mean of squares.
    ///
    /// # Errors
    /// [`Error::Argument`] if `eps` is negative or no number, or the type another.
    pub fn new(dtype: DType, eps: f32) -> Result<Self> {
        checks::operand_type(dtype)?;
        if !(0.0..f32::INFINITY).contains(&eps) {
            return Err(Error::argument("eps", "a finite number from 0 on", eps));
        }
        let threads = SALA_NORM_THREADS as usize;
        let rope = |dim: u32| Variant::base("norm_rope", Some(dtype), &[dim], threads, 0, dim as usize);
        // A sum for each warp.
        let shared = threads / 32 * 4;
        let of_rows = |kernel, passes: u32| {
            let channels = threads * 8 * passes as usize;
            Variant::base(kernel, Some(dtype), &[passes], threads, shared, channels)
        };
        Ok(Self {
            dtype,
            eps,
            rope: [64, 128].into_iter().map(rope).collect::<Result<_>>()?,
            gate: PASSES
                .iter()
                .map(|&passes| of_rows("norm_gate", passes))
                .collect::<Result<_>>()?,
            sums: PASSES
                .iter()
                .map(|&passes| of_rows("sum_squares", passes))
                .collect::<Result<_>>()?,
        })
    }
}
