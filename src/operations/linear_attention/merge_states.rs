//! The states of sequences whose parts are on several ranks.

use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{SALA_MERGE_STATES_THREADS, sala_merge_states_params, sala_states};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// The merging of what the parts of a sequence add to its state: the operation that [`MergeStatesArgs`] are for.
///
/// ```
/// use sala_kernels::{Device, Kernels, MergeStates, MergeStatesArgs, Tensor, TensorMut};
/// let kernels = Kernels::load(&Device::host())?;
/// // Two parts; the second leaves nothing of what came before it.
/// let (adds, total) = ([1.0f32, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0], [0f32, f32::NEG_INFINITY]);
/// let mut pool = [2.0f32, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
/// let args = MergeStatesArgs::new(
///     Tensor::from_slice(&adds, &[2, 1, 1, 4])?,
///     Tensor::from_slice(&total, &[2, 1])?,
///     TensorMut::from_slice(&mut pool, &[3, 1, 1, 4])?,
///     Tensor::from_slice(&[0], &[1])?,
///     Tensor::from_slice(&[-1, 1, 2], &[3, 1])?,
/// );
/// kernels.run(&MergeStates::new()?, args)?;
/// assert_eq!(pool, [2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MergeStates {
    variants: Vec<Variant<sala_merge_states_params>>,
}

impl MergeStates {
    /// It needs no description: states of either layout are merged number by number.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this build lacks the kernel.
    pub fn new() -> Result<Self> {
        let threads = SALA_MERGE_STATES_THREADS as usize;
        Ok(Self {
            variants: vec![Variant::base("merge_states", None, &[], threads, 0, ())?],
        })
    }
}

/// Merges what the parts of sequences add to their states, in the order of the parts, and stores the states between them.
///
/// ```text
/// S ← initial        for each part r:   before[r] = S        S ← exp(total[r])·S + adds[r]        after all:   before[parts] = S
/// ```
///
/// `adds[r]` is the state that a prefill of the part leaves which starts from zero, `total[r]` its decay
/// ([`SumDecayArgs`](crate::SumDecayArgs)). A rank gathers both of all ranks, and asks for the state before its own parts.
///
/// Slots, what is refused: [`semantics`](crate::semantics#merge_states). [`crate::reference::linear_attention::merge_states`] is the definition.
///
/// # Errors
/// [`Error::Argument`] names a view that is not as its field says.
#[derive(Debug)]
#[non_exhaustive]
pub struct MergeStatesArgs<'a> {
    /// f32 `[parts · batch, heads, rows, columns]`, columns a multiple of 4: part r of sequence b is entry `r · batch + b`, as ranks gather it.
    pub adds: Tensor<'a>,
    /// f32 `[parts · batch, heads]`: logarithms, which count as a [`Decay`](crate::Decay) does.
    pub total: Tensor<'a>,
    /// The pool of states, f32 `[slots, heads, rows, columns]`.
    pub state: TensorMut<'a>,
    /// The slot each sequence starts from, `[batch]` i32; −1: a state of zero.
    pub state_in: Tensor<'a>,
    /// The slots of the states before each part and, in the last row, after all: contiguous `[parts + 1, batch]` i32; −1: nowhere.
    pub state_out: Tensor<'a>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> MergeStatesArgs<'a> {
    /// The merge of gathered states into those that `state_out` asks for.
    pub fn new(
        adds: Tensor<'a>,
        total: Tensor<'a>,
        state: TensorMut<'a>,
        state_in: Tensor<'a>,
        state_out: Tensor<'a>,
    ) -> Self {
        Self {
            adds,
            total,
            state,
            state_in,
            state_out,
            status: None,
        }
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for MergeStatesArgs<'_> {
    type Operation = MergeStates;

    fn views(&self) -> Views<'_> {
        let Self {
            adds,
            total,
            state,
            state_in,
            state_out,
            status,
        } = self;
        Views::new()
            .read("adds", *adds)
            .read("total", *total)
            .written("state", state)
            .read("state_in", *state_in)
            .read("state_out", *state_out)
            .written("status", status)
    }

    unsafe fn queue(self, merge: &MergeStates, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let params = self.params()?;
        let heads = self.state.as_tensor().shape().get(1).copied().unwrap_or(0);
        let vectors = params.rows as usize * (params.columns as usize / 4);
        let grid = [
            vectors.div_ceil(SALA_MERGE_STATES_THREADS as usize),
            heads,
            params.states.batch as usize,
        ];
        let variant = kernels.pick(&merge.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl MergeStatesArgs<'_> {
    fn params(&self) -> Result<sala_merge_states_params> {
        let pool = self.state.as_tensor();
        checks::rank("state", &pool, 4)?;
        let [slots, heads, rows, columns] = [0, 1, 2, 3].map(|axis| pool.shape().get(axis).copied().unwrap_or(0));
        checks::heads("state", heads.max(1))?;
        checks::fits_i32("state", rows.saturating_mul(columns))?;
        let states = |name, tensor: &Tensor<'_>, slots: usize| {
            checks::shape(name, tensor, &[slots, heads, rows, columns.next_multiple_of(4)])?;
            checks::aligned_rows(name, tensor, DType::F32)?;
            Ok(sala_states {
                pool: tensor.address(),
                slot_stride: checks::stride(tensor, 0),
                head_stride: checks::stride(tensor, 1),
                row_stride: checks::stride(tensor, 2),
                slots: i64::from(checks::fits_i32(name, slots)?),
                ..sala_states::default()
            })
        };
        checks::rank("state_in", &self.state_in, 1)?;
        let batch = checks::first_axis(&self.state_in);
        checks::batch("state_in", batch)?;
        let (parts, state_out) = self.destinations(batch)?;
        let entries = parts * batch;
        Ok(sala_merge_states_params {
            states: sala_states {
                state_in: checks::list("state_in", &self.state_in, DType::I32, batch)?,
                state_out,
                batch: batch as i32,
                ..states("state", &pool, slots)?
            },
            adds: states("adds", &self.adds, entries)?,
            log_decay: checks::numbers("total", &self.total, DType::F32, &[entries, heads])?,
            status: checks::status(self.status.as_ref())?,
            parts: parts as i32,
            rows: rows as i32,
            columns: columns as i32,
            reserved: 0,
        })
    }

    /// How many parts there are, and where the list of slots lies.
    fn destinations(&self, batch: usize) -> Result<(usize, u64)> {
        const NAME: &str = "state_out";
        checks::rank(NAME, &self.state_out, 2)?;
        let states = checks::first_axis(&self.state_out);
        let Some(parts) = states.checked_sub(1) else {
            return Err(Error::argument(NAME, "shape [parts + 1, batch]", "shape [0, …]"));
        };
        checks::fits_i32(NAME, states.saturating_mul(batch))?;
        let rows = checks::numbers(NAME, &self.state_out, DType::I32, &[states, batch])?;
        if ![0, batch as i64].contains(&rows.token_stride) {
            let strides = format!("strides {:?}", self.state_out.strides());
            return Err(Error::argument(NAME, "contiguous rows", strides));
        }
        Ok((parts, rows.address))
    }
}
