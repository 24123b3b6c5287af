//! Attention over two sets of keys made one.

pub mod reference;

use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_MERGE_THREADS, sala_merge_params, sala_rows};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// The merging of attention over sets of keys that share none: the operation that [`MergeArgs`] are for.
///
/// ```
/// use sala_kernels::{DType, Device, Kernels, Merge, MergeArgs, Tensor, TensorMut};
/// use half::bf16;
/// let kernels = Kernels::load(&Device::host())?;
/// let (ones, threes) = ([bf16::from_f32(1.0); 64], [bf16::from_f32(3.0); 64]);
/// let (mut out, mut lse) = ([bf16::ZERO; 64], [0.0f32]);
/// let args = MergeArgs::new(
///     Some((Tensor::from_slice(&ones, &[1, 1, 64])?, Tensor::from_slice(&[0.5f32], &[1, 1])?)),
///     Some((Tensor::from_slice(&threes, &[1, 1, 64])?, Tensor::from_slice(&[0.5f32], &[1, 1])?)),
///     TensorMut::from_slice(&mut out, &[1, 1, 64])?,
///     TensorMut::from_slice(&mut lse, &[1, 1])?,
/// );
/// kernels.run(&Merge::new(DType::Bf16)?, args)?;
/// assert_eq!(out, [bf16::from_f32(2.0); 64]);
/// assert!((lse[0] - (0.5 + 2.0f32.ln())).abs() < 1e-6);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Merge {
    dtype: DType,
    /// With the channels of a head.
    variants: Vec<Variant<sala_merge_params, usize>>,
}

impl Merge {
    /// Merges of results in bf16 or f16.
    ///
    /// # Errors
    /// [`Error::Argument`] for another type, [`Error::Unsupported`] if this build lacks the kernels.
    pub fn new(dtype: DType) -> Result<Self> {
        checks::operand_type(dtype)?;
        let threads = SALA_MERGE_THREADS as usize;
        let variant = |dim: u32| Variant::base("merge", Some(dtype), &[dim], threads, 0, dim as usize);
        Ok(Self {
            dtype,
            variants: [64, 128].into_iter().map(variant).collect::<Result<_>>()?,
        })
    }
}

/// Merges results of attention over two sets of keys that share none, of parts of a context or of two devices, into that over both.
///
/// ```text
/// m = max(LSE₁, LSE₂)     wᵢ = exp(LSEᵢ − m)     O = (w₁ O₁ + w₂ O₂) / (w₁ + w₂)     LSE = m + ln(w₁ + w₂)
/// ```
///
/// A side whose logarithm is −∞ is not read, and NaN in it goes nowhere; where both are, `O = 0` and `LSE = −∞`. A logarithm of +∞ or NaN makes
/// its row NaN. The outputs have no gate yet: it stands behind the last merge. [`crate::reference::merge::merge`] is the definition.
#[derive(Debug)]
#[non_exhaustive]
pub struct MergeArgs<'a> {
    /// `O` `[tokens, heads, dim]` of the operation's type, dim 64 or 128, and `LSE` `[tokens, heads]` f32, natural logarithm. Absent: what `out`
    /// and `lse` hold is this side, and is replaced.
    pub first: Option<(Tensor<'a>, Tensor<'a>)>,
    /// Likewise. One side has to be given.
    pub second: Option<(Tensor<'a>, Tensor<'a>)>,
    /// Outputs `[tokens, heads, dim]`.
    pub out: TensorMut<'a>,
    /// Logarithms, `[tokens, heads]` f32.
    pub lse: TensorMut<'a>,
}

impl<'a> MergeArgs<'a> {
    /// The merge of two sides, each `O` with `LSE`, or in place of one of them.
    pub fn new(
        first: Option<(Tensor<'a>, Tensor<'a>)>,
        second: Option<(Tensor<'a>, Tensor<'a>)>,
        out: TensorMut<'a>,
        lse: TensorMut<'a>,
    ) -> Self {
        Self {
            first,
            second,
            out,
            lse,
        }
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for MergeArgs<'_> {
    type Operation = Merge;

    fn views(&self) -> Views<'_> {
        let Self {
            first,
            second,
            out,
            lse,
        } = self;
        Views::new()
            .read("out1", first.map(|(out, _)| out))
            .read("lse1", first.map(|(_, lse)| lse))
            .read("out2", second.map(|(out, _)| out))
            .read("lse2", second.map(|(_, lse)| lse))
            .written("out", out)
            .written("lse", lse)
    }

    unsafe fn queue(self, merge: &Merge, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let out = self.out.as_tensor();
        checks::rank("out", &out, 3)?;
        let [tokens, heads, dim] = [0, 1, 2].map(|axis| out.shape().get(axis).copied().unwrap_or(0));
        checks::compiled_for("out", "merge", "dim", dim)?;
        checks::fits_i32("out", tokens)?;
        if self.first.is_none() && self.second.is_none() {
            return Err(Error::argument("out1", "a side beside that which out holds", "none"));
        }
        let side = |[out, lse]: [&'static str; 2], given: (Tensor<'_>, Tensor<'_>)| -> Result<[sala_rows; 2]> {
            Ok([
                checks::rows(out, &given.0, merge.dtype, &[tokens, heads, dim])?,
                checks::numbers(lse, &given.1, DType::F32, &[tokens, heads])?,
            ])
        };
        let written = side(["out", "lse"], (out, self.lse.as_tensor()))?;
        let in_place = |names, given: Option<(Tensor<'_>, Tensor<'_>)>| match given {
            Some(given) => side(names, given),
            None => Ok(written),
        };
        let [out1, lse1] = in_place(["out1", "lse1"], self.first)?;
        let [out2, lse2] = in_place(["out2", "lse2"], self.second)?;
        let [out, lse] = written;
        let params = sala_merge_params {
            out1,
            out2,
            out,
            lse1,
            lse2,
            lse,
            heads: checks::fits_i32("out", heads)?,
            reserved: 0,
        };
        let variant = kernels.pick(&merge.variants, |&channels| channels == dim)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, [tokens, 1, 1], &params) }
    }
}
