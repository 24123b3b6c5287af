//! Copies of states.

use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_COPY_STATES_THREADS, SALA_COPY_STATES_VECTORS, sala_copy_states_params, sala_states};
use crate::{DType, Result, Stream, Tensor, TensorMut};

/// The copying of states from slot to slot of a pool, for sequences that fork: the operation that [`CopyStatesArgs`] are for.
///
/// ```
/// use sala_kernels::{CopyStates, CopyStatesArgs, Device, Kernels, Tensor, TensorMut};
/// let kernels = Kernels::load(&Device::host())?;
/// let mut pool = vec![1.0f32, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0];
/// let state = TensorMut::from_slice(&mut pool, &[2, 1, 1, 4])?;
/// let (from, to) = (Tensor::from_slice(&[0], &[1])?, Tensor::from_slice(&[1], &[1])?);
/// kernels.run(&CopyStates::new()?, CopyStatesArgs::new(state, from, to))?;
/// assert_eq!(pool[4..], [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CopyStates {
    variants: Vec<Variant<sala_copy_states_params>>,
}

impl CopyStates {
    /// It needs no description.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) if this build lacks the kernel.
    pub fn new() -> Result<Self> {
        let threads = SALA_COPY_STATES_THREADS as usize;
        Ok(Self {
            variants: vec![Variant::base("copy_states", None, &[], threads, 0, ())?],
        })
    }
}

/// Copies of states, many pairs of slots in one launch.
///
/// A destination that an earlier pair has, or that another pair reads, is refused and counted (slots), as is an index out of range.
///
/// [`semantics`](crate::semantics#copy_states) says it in full, [`CopyStates`] has an example, [`crate::reference::linear_attention::copy_states`] is the definition.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says: a `state` of another type, rows that are no multiple of 16 bytes, lists of different lengths.
#[derive(Debug)]
#[non_exhaustive]
pub struct CopyStatesArgs<'a> {
    /// The pool of states, f32 `[slots, heads, rows, columns]`, columns a multiple of 4.
    pub state: TensorMut<'a>,
    /// The slot to copy from, `[pairs]` i32; −1: a state of zero.
    pub sources: Tensor<'a>,
    /// The slot to copy to, `[pairs]` i32; −1: nowhere.
    pub destinations: Tensor<'a>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> CopyStatesArgs<'a> {
    /// The copies from `sources` to `destinations`.
    pub fn new(state: TensorMut<'a>, sources: Tensor<'a>, destinations: Tensor<'a>) -> Self {
        Self {
            state,
            sources,
            destinations,
            status: None,
        }
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for CopyStatesArgs<'_> {
    type Operation = CopyStates;

    fn views(&self) -> Views<'_> {
        let Self {
            state,
            sources,
            destinations,
            status,
        } = self;
        Views::new()
            .written("state", state)
            .read("sources", *sources)
            .read("destinations", *destinations)
            .written("status", status)
    }

    unsafe fn queue(self, copies: &CopyStates, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let pool = self.state.as_tensor();
        checks::rank("state", &pool, 4)?;
        let [slots, heads, rows, columns] = [0, 1, 2, 3].map(|axis| pool.shape().get(axis).copied().unwrap_or(0));
        checks::fits_i32("state", slots)?;
        checks::heads("state", heads.max(1))?;
        checks::fits_i32("state", rows.saturating_mul(columns))?;
        checks::shape("state", &pool, &[slots, heads, rows, columns.next_multiple_of(4)])?;
        checks::aligned_rows("state", &pool, DType::F32)?;
        checks::rank("sources", &self.sources, 1)?;
        let pairs = checks::first_axis(&self.sources);
        checks::batch("sources", pairs)?;
        let params = sala_copy_states_params {
            states: sala_states {
                pool: pool.address(),
                state_in: checks::list("sources", &self.sources, DType::I32, pairs)?,
                state_out: checks::list("destinations", &self.destinations, DType::I32, pairs)?,
                slot_stride: checks::stride(&pool, 0),
                head_stride: checks::stride(&pool, 1),
                row_stride: checks::stride(&pool, 2),
                slots: slots as i64,
                batch: pairs as i32,
                is_vk: 0,
            },
            status: checks::status(self.status.as_ref())?,
            rows: rows as i32,
            columns: columns as i32,
        };
        let vectors = (SALA_COPY_STATES_THREADS * SALA_COPY_STATES_VECTORS) as usize;
        let grid = [(rows * columns / 4).div_ceil(vectors), heads, pairs];
        let variant = kernels.pick(&copies.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}
