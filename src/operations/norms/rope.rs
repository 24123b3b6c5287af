//! The norm of each head, then rotary embedding.

use super::Norm;
use crate::launch::{Arguments, Kernels, Views, checks};
use crate::sys::params::{SALA_NORM_ROPE_HEADS, SALA_NORM_THREADS, sala_norm_rope_params, sala_rows};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// Per-head RMS norm, then rotary embedding (Su et al. 2021, in the rotate-half form), of queries or keys.
///
/// ```text
/// y = round(round(x / √(mean x² + eps)) · weight)
/// out[i] = y[i]·cos − y[i + dim/2]·sin      out[i + dim/2] = y[i + dim/2]·cos + y[i]·sin      i < dim/2
/// ```
///
/// Means and turns are in f32, rounded once each. [`crate::reference::norms::norm_rope`] is the definition.
///
/// Roundings, what is refused: [`semantics`](crate::semantics#norm_rope).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says: `out` with heads of another dim than 64 or 128; `positions` where there is no `cos_sin` or the other way round.
///
/// # Example
/// A head of twos at position 0, where nothing turns:
///
/// ```
/// use half::bf16;
/// use sala_kernels::{DType, Device, Kernels, Norm, NormRopeArgs, Tensor, TensorMut, rotary_cos_sin};
/// let kernels = Kernels::load(&Device::host())?;
/// let norm = Norm::new(DType::Bf16, 0.0)?;
/// let x = vec![bf16::from_f32(2.0); 64];
/// let table = rotary_cos_sin(16, 64, 10_000.0)?;
/// let mut out = vec![bf16::ZERO; 64];
/// let x = Tensor::from_slice(&x, &[1, 1, 64])?;
/// let mut args = NormRopeArgs::new(Some(x), TensorMut::from_slice(&mut out, &[1, 1, 64])?);
/// args.cos_sin = Some(Tensor::from_slice(&table, &[16, 64])?);
/// args.positions = Some(Tensor::from_slice(&[0], &[1])?);
/// kernels.run(&norm, args)?;
/// assert_eq!(out, [bf16::ONE; 64]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct NormRopeArgs<'a> {
    /// `[tokens, heads, dim]`, dim 64 or 128, the norm's type. Absent: what `out` holds is replaced.
    pub x: Option<Tensor<'a>>,
    /// `[dim]`, the norm's type. Absent: nothing is multiplied.
    pub weight: Option<Tensor<'a>>,
    /// Cosines and sines of positions, f32 `[count, dim]`: the first half of a row cosines, the second sines, as [`rotary_cos_sin`] makes them.
    /// Rows start where they like; those at multiples of 16 bytes are read faster. Absent: nothing turns.
    pub cos_sin: Option<Tensor<'a>>,
    /// The row of `cos_sin` of each token, `[tokens]` i32, if that is given. A row that there is not makes the token zero, and is counted
    /// (lengths).
    pub positions: Option<Tensor<'a>>,
    /// Outputs `[tokens, heads, dim]`.
    pub out: TensorMut<'a>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> NormRopeArgs<'a> {
    /// The norm alone, of `x` or in place.
    pub fn new(x: Option<Tensor<'a>>, out: TensorMut<'a>) -> Self {
        Self {
            x,
            weight: None,
            cos_sin: None,
            positions: None,
            out,
            status: None,
        }
    }
}

/// The cosines and sines of rotary embedding for positions `0..count`: `[count, dim]`, of which the first half of a row is
/// `cos(position · theta^(−2i/dim))` for `i < dim/2` and the second the sines. Computed in f64.
///
/// # Errors
/// [`Error::Argument`] if `dim` is odd or `theta` not a positive number.
///
/// ```
/// use sala_kernels::rotary_cos_sin;
/// assert_eq!(rotary_cos_sin(1, 4, 10_000.0)?, [1.0, 1.0, 0.0, 0.0]);
/// assert!(rotary_cos_sin(1, 3, 10_000.0).is_err());
/// # Ok::<(), sala_kernels::Error>(())
/// ```
pub fn rotary_cos_sin(count: usize, dim: usize, theta: f64) -> Result<Vec<f32>> {
    if dim == 0 || !dim.is_multiple_of(2) {
        return Err(Error::argument("dim", "an even number", dim));
    }
    if !(theta.is_finite() && theta > 0.0) {
        return Err(Error::argument("theta", "a positive number", theta));
    }
    let frequency = |pair: usize| theta.powf(-2.0 * pair as f64 / dim as f64);
    let frequencies: Vec<f64> = (0..dim / 2).map(frequency).collect();
    let row = |position: usize| {
        let angles = frequencies.iter().map(move |frequency| position as f64 * frequency);
        let sines = angles.clone().map(|angle| angle.sin() as f32);
        angles.map(|angle| angle.cos() as f32).chain(sines)
    };
    Ok((0..count).flat_map(row).collect())
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for NormRopeArgs<'_> {
    type Operation = Norm;

    fn views(&self) -> Views<'_> {
        let Self {
            x,
            weight,
            cos_sin,
            positions,
            out,
            status,
        } = self;
        Views::new()
            .read("x", *x)
            .read("weight", *weight)
            .read("cos_sin", *cos_sin)
            .read("positions", *positions)
            .written("out", out)
            .written("status", status)
    }

    unsafe fn queue(self, norm: &Norm, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let out = self.out.as_tensor();
        checks::rank("out", &out, 3)?;
        let dim = checks::last_axis(&out);
        checks::compiled_for("out", "norm_rope", "dim", dim)?;
        let params = self.params(norm, dim)?;
        // Some heads of a token take one thread for each 16 bytes of one.
        let items = params.tokens as usize * (params.heads as usize).div_ceil(SALA_NORM_ROPE_HEADS as usize);
        let blocks = items.div_ceil(SALA_NORM_THREADS as usize * 8 / dim);
        checks::fits_i32("out", blocks)?;
        let grid = [blocks, 1, 1];
        let variant = kernels.pick(&norm.rope, |&channels| channels == dim)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl NormRopeArgs<'_> {
    fn params(&self, norm: &Norm, dim: usize) -> Result<sala_norm_rope_params> {
        let out = self.out.as_tensor();
        let shape = [0, 1, 2].map(|axis| out.shape().get(axis).copied().unwrap_or(0));
        let tokens = shape.first().copied().unwrap_or(0);
        let rows = |name, tensor: &Tensor<'_>| checks::rows(name, tensor, norm.dtype, &shape);
        let written = rows("out", &out)?;
        let count = self.cos_sin.as_ref().map_or(0, checks::first_axis);
        Ok(sala_norm_rope_params {
            x: match &self.x {
                Some(x) => rows("x", x)?,
                None => written,
            },
            out: written,
            cos_sin: self.cos_sin(dim)?,
            weight: checks::optional(self.weight, |weight| {
                Ok(checks::rows("weight", weight, norm.dtype, &[dim])?.address)
            })?,
            positions: match (self.positions, self.cos_sin.is_some()) {
                (Some(positions), true) => checks::list("positions", &positions, DType::I32, tokens)?,
                (None, false) => 0,
                (None, true) => return Err(Error::argument("positions", "a tensor (cos_sin is given)", "none")),
                (Some(_), false) => return Err(Error::argument("positions", "none (there is no cos_sin)", "a tensor")),
            },
            status: checks::status(self.status.as_ref())?,
            tokens: tokens as i64,
            heads: checks::fits_i32("out", shape.get(1).copied().unwrap_or(0))?,
            count: checks::saturate(count),
            eps: norm.eps,
            reserved: 0,
        })
    }

    fn cos_sin(&self, dim: usize) -> Result<sala_rows> {
        checks::optional(self.cos_sin, |cos_sin| {
            let shape = [checks::first_axis(cos_sin), dim];
            checks::numbers("cos_sin", cos_sin, DType::F32, &shape)?;
            Ok(sala_rows {
                address: cos_sin.address(),
                token_stride: checks::stride(cos_sin, 0),
                head_stride: 0,
            })
        })
    }
}
