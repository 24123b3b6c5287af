//! The choice of tokens by scores.

pub mod reference;

use super::keys::{Keys, Room};
use super::select_blocks::RADIX_BYTES;
use super::workspace::Workspace;
use super::{SparseLayer, score_keys};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{
    SALA_SELECT_LIST_WARPS, SALA_TOKENS_BINS, SALA_TOKENS_DIGITS, SALA_TOKENS_MAX_PIECES, SALA_TOKENS_PIECE,
    sala_choose_tokens_params, sala_rows,
};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// The choice of tokens: of each sequence and kv head those with the highest scores, and those at either end that are always taken.
///
/// A list of k entries has all tokens of a sequence of at most k. Otherwise it has the first `init_tokens`, the last `local_tokens`, and of
/// the others those with the highest scores, equal ones in favour of the lower index; in ascending order, −1 after the last.
/// [`crate::reference::choose_tokens::choose_tokens`] is the definition. Scores are whose they may be: [`ScoreKeysArgs`](crate::ScoreKeysArgs)
/// makes some.
///
/// What is refused: [`semantics`](crate::semantics#choose_tokens).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says, or `init_tokens` where both numbers are more than a list has entries.
///
/// # Example
/// ```
/// use sala_kernels::{
///     AttentionShape, ChooseTokensArgs, DType, Device, Kernels, Keys, SparseLayer, Tensor, TensorMut,
/// };
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let scores = [0.1f32, 0.2, 0.4, 0.3, 0.0, 0.0, 9.9, 9.9]; // Of a sequence of six tokens.
/// let mut list = [0; 3];
/// let mut args = ChooseTokensArgs::new(
///     Tensor::from_slice(&scores, &[1, 1, 8])?,
///     Keys::cached(Tensor::from_slice(&[6], &[1])?),
///     TensorMut::from_slice(&mut list, &[1, 1, 3])?,
/// );
/// args.local_tokens = 1;
/// kernels.run(&layer, args)?;
/// assert_eq!(list, [2, 3, 5]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ChooseTokensArgs<'a> {
    /// Scores `[batch, heads_kv, tokens]` f32; a NaN counts as −∞. Sequences of more than `tokens` tokens are refused and counted.
    pub scores: Tensor<'a>,
    /// How many tokens each sequence has.
    pub keys: Keys<'a>,
    /// The lists `[batch, heads_kv, k]` i32.
    pub token_indices: TensorMut<'a>,
    /// Tokens at the start of a sequence that are always taken; 0 as [`Self::new`] has it.
    pub init_tokens: usize,
    /// Tokens at its end that are always taken; 0 as [`Self::new`] has it. Both together at most k.
    pub local_tokens: usize,
    /// [`SparseLayer::tokens_workspace_size`] bytes, in which the choice from a row of many scores is made by many blocks of the GPU. Absent, or smaller,
    /// one block makes it: the lists are the same, and it takes longer.
    pub workspace: Option<TensorMut<'a>>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> ChooseTokensArgs<'a> {
    /// The choice by `scores` alone.
    pub fn new(scores: Tensor<'a>, keys: Keys<'a>, token_indices: TensorMut<'a>) -> Self {
        Self {
            scores,
            keys,
            token_indices,
            init_tokens: 0,
            local_tokens: 0,
            workspace: None,
            status: None,
        }
    }
}

/// The kernels of every layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// A block for each list.
    whole: Vec<Variant<sala_choose_tokens_params>>,
    /// A block for each piece of a row: what counts a digit, and what writes a part of the list.
    digits: Vec<Variant<sala_choose_tokens_params>>,
    lists: Vec<Variant<sala_choose_tokens_params>>,
}

impl Plan {
    pub(super) fn new() -> Result<Self> {
        let threads = SALA_SELECT_LIST_WARPS as usize * 32;
        let plan = |name, bytes| Ok(vec![Variant::base(name, None, &[], threads, bytes, ())?]);
        Ok(Self {
            whole: plan("choose_tokens", RADIX_BYTES)?,
            // Bins of each lane, beside what finds a digit.
            digits: plan("choose_tokens_digits", 32 * BINS * 4 + DIGIT_BYTES)?,
            lists: plan(
                "choose_tokens_lists",
                (RADIX_BYTES + DIGIT_BYTES).next_multiple_of(RADIX_ALIGNMENT),
            )?,
        })
    }
}

const BINS: usize = SALA_TOKENS_BINS as usize;
const DIGITS: usize = SALA_TOKENS_DIGITS as usize;
/// `sizeof(DigitPlan)`: three counts of each warp, a digit and a count.
const DIGIT_BYTES: usize = 3 * SALA_SELECT_LIST_WARPS as usize * 4 + 8;
/// `alignof(RadixPlan)`, which begins with a histogram that is read four bins at a time.
const RADIX_ALIGNMENT: usize = 16;

/// How rows of scores are cut, so that many blocks of the GPU choose from one.
#[derive(Debug, Clone, Copy)]
struct Pieces {
    rows: usize,
    /// Of each row; one: it is not cut.
    pieces: usize,
    /// Scores of a piece.
    piece: usize,
}

impl Pieces {
    fn of(rows: usize, tokens: usize) -> Self {
        let piece = tokens
            .div_ceil(SALA_TOKENS_MAX_PIECES as usize)
            .max(SALA_TOKENS_PIECE as usize);
        Self {
            rows,
            pieces: tokens.div_ceil(piece).max(1),
            piece,
        }
    }

    /// Bytes of bins, of counts and of cuts, of all rows.
    fn parts(&self) -> [usize; 3] {
        let rows = self.rows.saturating_mul(4);
        [2 * self.pieces * BINS, self.pieces, 2 * DIGITS].map(|numbers| rows.saturating_mul(numbers))
    }

    fn bytes(&self) -> usize {
        match self.pieces {
            1 => 0,
            _ => self.parts().into_iter().fold(0, usize::saturating_add),
        }
    }
}

impl SparseLayer {
    /// Bytes of workspace that serve [`ScoreKeysArgs`](crate::ScoreKeysArgs) and [`ChooseTokensArgs`] of `batch` sequences of at most `max_seqlen_q` query
    /// tokens, and rows of `tokens` scores. Without query tokens, or scores, that of the other alone.
    pub fn tokens_workspace_size(&self, batch: usize, max_seqlen_q: usize, tokens: usize) -> usize {
        let pieces = Pieces::of(batch.saturating_mul(self.config.shape.heads_kv), tokens);
        score_keys::workspace_size(&self.config, batch, max_seqlen_q).max(pieces.bytes())
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for ChooseTokensArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            scores,
            keys,
            token_indices,
            init_tokens: _,
            local_tokens: _,
            workspace,
            status,
        } = self;
        Views::new()
            .read("scores", *scores)
            .keys(keys)
            .written("token_indices", token_indices)
            .written("workspace", workspace)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let heads_kv = layer.config.shape.heads_kv;
        let batch = self.keys.batch()?;
        let params = self.params(batch, heads_kv)?;
        if params.chosen == 0 {
            return Ok(());
        }
        let plan = &layer.plans.choose_tokens;
        let [whole, digits, lists] =
            [&plan.whole, &plan.digits, &plan.lists].map(|variants| kernels.pick(variants, |()| true));
        let (whole, digits, lists) = (whole?, digits?, lists?);
        let grid = [params.pieces as usize, heads_kv, batch];
        // SAFETY: the parameters describe the views, which were checked against the kernels' reads and writes; the rest is the caller's promise.
        unsafe {
            if params.pieces == 1 {
                return kernels.queue(stream, whole, grid, &params);
            }
            for round in 0..DIGITS as i32 {
                kernels.queue(stream, digits, grid, &sala_choose_tokens_params { round, ..params })?;
            }
            let round = DIGITS as i32;
            kernels.queue(stream, lists, grid, &sala_choose_tokens_params { round, ..params })
        }
    }
}

impl ChooseTokensArgs<'_> {
    fn params(&self, batch: usize, heads_kv: usize) -> Result<sala_choose_tokens_params> {
        let tokens = checks::last_axis(&self.scores);
        let scores = checks::numbers("scores", &self.scores, DType::F32, &[batch, heads_kv, tokens])?;
        let (indices, chosen) = lists(&self.token_indices.as_tensor(), batch, heads_kv)?;
        if self.init_tokens.saturating_add(self.local_tokens) > chosen as usize {
            let expected = format!("at most {chosen} (entries of a list) with local_tokens");
            return Err(Error::argument(
                "init_tokens",
                expected,
                format_args!("{} and {}", self.init_tokens, self.local_tokens),
            ));
        }
        let scored = Room {
            longest: tokens,
            ..Room::ANY
        };
        let workspace = Workspace::new(self.workspace.as_ref())?;
        let mut cut = Pieces::of(batch.saturating_mul(heads_kv), tokens);
        if cut.bytes() as u64 > workspace.bytes {
            cut.pieces = 1;
        }
        let [bins, better, _] = cut.parts();
        Ok(sala_choose_tokens_params {
            keys: self.keys.params(batch, scored, None)?,
            scores,
            indices,
            status: checks::status(self.status.as_ref())?,
            bins: workspace.address,
            better: workspace.address + bins as u64,
            cuts: workspace.address + (bins + better) as u64,
            pieces: cut.pieces as i32,
            piece: checks::fits_i32("scores", cut.piece)?,
            chosen,
            init_tokens: self.init_tokens as i32,
            local_tokens: self.local_tokens as i32,
            round: 0,
        })
    }
}

/// The most entries of a list of tokens: kernels count some past its end in 32 bits.
const MAX_TOKENS: usize = 1 << 30;

/// Checks lists of tokens `[batch, heads_kv, any]`; gives them and how many entries each has.
pub(super) fn lists(indices: &Tensor<'_>, batch: usize, heads_kv: usize) -> Result<(sala_rows, i32)> {
    const NAME: &str = "token_indices";
    let entries = checks::last_axis(indices);
    let rows = checks::numbers(NAME, indices, DType::I32, &[batch, heads_kv, entries])?;
    if entries > MAX_TOKENS {
        return Err(Error::argument(NAME, format!("at most {MAX_TOKENS} entries"), entries));
    }
    Ok((rows, entries as i32))
}
