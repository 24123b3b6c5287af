//! The norm over all channels of a token, then a gate; and its first half.

use super::Norm;
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{sala_norm_gate_params, sala_rows};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// RMS norm over all channels of a token, times a weight and the sigmoid of a gate.
///
/// ```text
/// out = round(round(round(x / √(mean x² + eps)) · weight) · sigmoid(gate))
/// ```
///
/// Where channels are spread over tensor-parallel ranks, [`SumSquaresArgs`] gives each rank's sums; their total is given here, with the number
/// of all channels. [`crate::reference::norms::norm_gate`] is the definition.
///
/// Roundings: [`semantics`](crate::semantics#norm_gate).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says: a number of channels that is no multiple of 8; `sum_squares` that cover fewer channels than `x` has.
/// [`Error::Unsupported`](crate::Error::Unsupported) for more channels than the kernels have room for.
///
/// # Example
/// ```
/// use half::bf16;
/// use sala_kernels::{DType, Device, Kernels, Norm, NormGateArgs, Tensor, TensorMut};
/// let kernels = Kernels::load(&Device::host())?;
/// let norm = Norm::new(DType::Bf16, 0.0)?;
/// let (x, weight, gate) = (vec![bf16::from_f32(2.0); 8], vec![bf16::ONE; 8], vec![bf16::ZERO; 8]);
/// let mut out = vec![bf16::ZERO; 8];
/// let args = NormGateArgs::new(
///     Some(Tensor::from_slice(&x, &[1, 8])?),
///     Tensor::from_slice(&weight, &[8])?,
///     Tensor::from_slice(&gate, &[1, 8])?,
///     TensorMut::from_slice(&mut out, &[1, 8])?,
/// );
/// kernels.run(&norm, args)?;
/// assert_eq!(out, [bf16::from_f32(0.5); 8]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct NormGateArgs<'a> {
    /// `[tokens, channels]`, a multiple of 8 of up to 16384 channels, the norm's type. Absent: what `out` holds is replaced.
    pub x: Option<Tensor<'a>>,
    /// `[channels]`.
    pub weight: Tensor<'a>,
    /// `[tokens, channels]`.
    pub gate: Tensor<'a>,
    /// Outputs `[tokens, channels]`.
    pub out: TensorMut<'a>,
    /// Sums of squares, f32 `[tokens]`, and how many channels they are of. Absent: they are summed here, over the channels of `x`.
    pub sum_squares: Option<(Tensor<'a>, usize)>,
}

impl<'a> NormGateArgs<'a> {
    /// The norm over the channels of `x`, or in place.
    pub fn new(x: Option<Tensor<'a>>, weight: Tensor<'a>, gate: Tensor<'a>, out: TensorMut<'a>) -> Self {
        Self {
            x,
            weight,
            gate,
            out,
            sum_squares: None,
        }
    }
}

/// Sums of squares of tokens' channels. The order of a sum follows from the number of channels alone.
///
/// [`semantics`](crate::semantics#sum_squares) says it in full, [`crate::reference::norms::sum_squares`] is the definition.
///
/// # Errors
/// As of [`NormGateArgs`].
///
/// # Example
/// ```
/// use half::bf16;
/// use sala_kernels::{DType, Device, Kernels, Norm, SumSquaresArgs, Tensor, TensorMut};
/// let kernels = Kernels::load(&Device::host())?;
/// let norm = Norm::new(DType::Bf16, 0.0)?;
/// let x = vec![bf16::from_f32(2.0); 8];
/// let mut sums = [0f32];
/// let args = SumSquaresArgs::new(Tensor::from_slice(&x, &[1, 8])?, TensorMut::from_slice(&mut sums, &[1])?);
/// kernels.run(&norm, args)?;
/// assert_eq!(sums, [32.0]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct SumSquaresArgs<'a> {
    /// `[tokens, channels]`, a multiple of 8 of up to 16384 channels, the norm's type.
    pub x: Tensor<'a>,
    /// Sums, f32 `[tokens]`.
    pub out: TensorMut<'a>,
}

impl<'a> SumSquaresArgs<'a> {
    /// The sums of `x`.
    pub fn new(x: Tensor<'a>, out: TensorMut<'a>) -> Self {
        Self { x, out }
    }
}

/// Tokens and channels of a tensor.
fn shape_of(argument: &'static str, tensor: &Tensor<'_>) -> Result<[usize; 2]> {
    checks::rank(argument, tensor, 2)?;
    let channels = checks::last_axis(tensor);
    if channels == 0 || !channels.is_multiple_of(8) {
        return Err(Error::argument(argument, "a multiple of 8 channels", channels));
    }
    let tokens = checks::first_axis(tensor);
    checks::fits_i32(argument, tokens)?;
    Ok([tokens, channels])
}

/// A tensor `[tokens, channels]`.
fn rows(argument: &'static str, tensor: &Tensor<'_>, dtype: DType, shape: [usize; 2]) -> Result<sala_rows> {
    checks::rows(argument, tensor, dtype, &shape)?;
    Ok(sala_rows {
        address: tensor.address(),
        token_stride: checks::stride(tensor, 0),
        head_stride: 0,
    })
}

/// # Safety
/// As [`Kernels::queue`].
unsafe fn queue(
    variants: &[Variant<sala_norm_gate_params, usize>],
    kernels: &Kernels,
    stream: &Stream,
    [tokens, channels]: [usize; 2],
    params: &sala_norm_gate_params,
) -> Result<()> {
    let most = variants.last().map_or(0, |variant| variant.tile);
    if channels > most {
        let why = format!("the kernels have room for {most}");
        return Err(Error::unsupported(format!("a norm over {channels} channels"), why));
    }
    let variant = kernels.pick(variants, |&most| channels <= most)?;
    // SAFETY: the caller's promise.
    unsafe { kernels.queue(stream, variant, [tokens, 1, 1], params) }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for NormGateArgs<'_> {
    type Operation = Norm;

    fn views(&self) -> Views<'_> {
        let Self {
            x,
            weight,
            gate,
            out,
            sum_squares,
        } = self;
        Views::new()
            .read("x", *x)
            .read("weight", *weight)
            .read("gate", *gate)
            .read("sum_squares", sum_squares.map(|(sums, _)| sums))
            .written("out", out)
    }

    unsafe fn queue(self, norm: &Norm, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let out = self.out.as_tensor();
        let shape = shape_of("out", &out)?;
        let [tokens, channels] = shape;
        let written = rows("out", &out, norm.dtype, shape)?;
        let (sum_squares, covered) = match self.sum_squares {
            None => (0, channels),
            Some((_, covered)) if covered < channels => {
                let expected = format!("the number of all channels, at least the {channels} of x");
                return Err(Error::argument("sum_squares", expected, covered));
            }
            Some((sums, covered)) => (checks::list("sum_squares", &sums, DType::F32, tokens)?, covered),
        };
        let params = sala_norm_gate_params {
            x: match &self.x {
                Some(x) => rows("x", x, norm.dtype, shape)?,
                None => written,
            },
            gate: rows("gate", &self.gate, norm.dtype, shape)?,
            out: written,
            weight: checks::rows("weight", &self.weight, norm.dtype, &[channels])?.address,
            sum_squares,
            channels: checks::fits_i32("out", channels)?,
            covered: checks::fits_i32("sum_squares", covered)?,
            eps: norm.eps,
            reserved: 0,
        };
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { queue(&norm.gate, kernels, stream, shape, &params) }
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for SumSquaresArgs<'_> {
    type Operation = Norm;

    fn views(&self) -> Views<'_> {
        let Self { x, out } = self;
        Views::new().read("x", *x).written("out", out)
    }

    unsafe fn queue(self, norm: &Norm, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let shape = shape_of("x", &self.x)?;
        let [tokens, channels] = shape;
        let params = sala_norm_gate_params {
            x: rows("x", &self.x, norm.dtype, shape)?,
            sum_squares: checks::list("out", &self.out.as_tensor(), DType::F32, tokens)?,
            channels: checks::fits_i32("x", channels)?,
            covered: checks::fits_i32("x", channels)?,
            ..Default::default()
        };
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { queue(&norm.sums, kernels, stream, shape, &params) }
    }
}
