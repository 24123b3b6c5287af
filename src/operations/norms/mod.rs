//! Norms, rotary embedding and gate, which stand around linear attention.

mod gate;
pub mod reference;
mod rope;

use std::sync::Arc;

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
/// Each moves its bytes once. The bits of a token do not depend on the others. The norm is that of Zhang and Sennrich 2019, with roundings where a model
/// in 16 bits has them: [`semantics`](crate::semantics#norm_rope).
///
/// ```
/// use sala_kernels::{DType, Norm};
/// let norm = Norm::new(DType::Bf16, 1e-6)?;
/// assert!(Norm::new(DType::Bf16, -1.0).is_err() && Norm::new(DType::F32, 1e-6).is_err());
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Norm {
    dtype: DType,
    eps: f32,
    /// With the channels of a head.
    rope: Arc<[Variant<sala_norm_rope_params, usize>]>,
    /// With the most channels of a token; those with the fewest come first.
    gate: Arc<[Variant<sala_norm_gate_params, usize>]>,
    sums: Arc<[Variant<sala_norm_gate_params, usize>]>,
}

/// Threads of a token, and vectors of eight channels that each may have: as few as the channels allow.
const BLOCKS: [(usize, u32); 7] = [(32, 1), (64, 1), (128, 1), (MOST, 1), (MOST, 2), (MOST, 4), (MOST, 8)];
const MOST: usize = SALA_NORM_THREADS as usize;

impl Norm {
    /// Norms of tensors in bf16 or f16, with `eps` added to the mean of squares.
    ///
    /// # Errors
    /// [`Error::Argument`] if `eps` is negative or no number, or the type another.
    pub fn new(dtype: DType, eps: f32) -> Result<Self> {
        checks::operand_type(dtype)?;
        check_eps(eps)?;
        let rope = |dim: u32| Variant::base("norm_rope", Some(dtype), &[dim], MOST, 0, dim as usize);
        // A sum for each warp, as two floats.
        let shared = MOST / 32 * 8;
        let of_rows = |kernel| {
            let blocks = BLOCKS.into_iter();
            let variants = blocks.map(|(threads, passes)| {
                let channels = threads * 8 * passes as usize;
                Variant::base(kernel, Some(dtype), &[passes], threads, shared, channels)
            });
            variants.collect::<Result<_>>()
        };
        Ok(Self {
            dtype,
            eps,
            rope: [64, 128].into_iter().map(rope).collect::<Result<_>>()?,
            gate: of_rows("norm_gate")?,
            sums: of_rows("sum_squares")?,
        })
    }

    /// The same with another `eps`. Allocates nothing.
    #[cfg(feature = "c-api")]
    pub(crate) fn with_eps(&self, eps: f32) -> Result<Self> {
        check_eps(eps)?;
        Ok(Self { eps, ..self.clone() })
    }
}

fn check_eps(eps: f32) -> Result<()> {
    if (0.0..f32::INFINITY).contains(&eps) {
        return Ok(());
    }
    Err(Error::argument("eps", "a finite number from 0 on", eps))
}
