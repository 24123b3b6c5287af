//! Generated linear-attention calls: the lengths, decays and magnitudes that the kernels are tried on.
//!
//! A case is a short description that proptest can shrink and print; [`LinearCase::problem`] turns it into tensors with its seed.

use crate::memory::Packing;
use crate::numbers::{Numbers, cumulative};
use crate::operations::linear_attention::{DecayValues, LinearProblem, Phase};
use crate::property::{lengths, precisions};
use crate::tolerance::Precision;
use crate::values::Values;
use proptest::prelude::*;
use sala_kernels::reference::linear_attention::Config;
use sala_kernels::{LinearAttention, Split, lightning_log_decay};

/// Decays that a head or a token is tried with, besides the slopes of SALA: none, the slowest, one that leaves nothing after a token,
/// and one that forgets everything before it.
pub const LOG_DECAYS: [f32; 5] = [0.0, -1e-6, -0.5, -20.0, f32::NEG_INFINITY];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DecayCase {
    None,
    /// The slopes of Lightning attention.
    Lightning,
    /// The same constant for every head.
    Constant(f32),
    /// For every token and head a constant of the list, or a number of the size of a gate's.
    PerToken,
}

/// How large the inputs of a case are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magnitude {
    /// Standard normal.
    Normal,
    /// All zero.
    Zero,
    /// Queries of 10³ and keys of 10⁴, whose products exceed f16; values make up for it.
    HugeScores,
    /// Keys and values of 10⁴, so that the state exceeds f16; queries make up for it.
    HugeState,
}

/// What the sequences of a case do with the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateCase {
    /// There is no pool.
    None,
    /// Every sequence starts from zero and stores its state.
    Store,
    /// Every sequence starts from a slot and leaves its state there.
    InPlace,
    /// Each sequence starts from zero or a slot of its own, and stores nowhere, there, or in another slot.
    Mixed,
}

/// A linear-attention call.
#[derive(Clone, Debug)]
pub struct LinearCase {
    pub phase: Phase,
    pub precision: Precision,
    /// Heads of k and v.
    pub heads: usize,
    /// Query heads of each.
    pub group: usize,
    pub dim_k: usize,
    pub dim_v: usize,
    /// Tokens of each sequence; ones for a decode step.
    pub lengths: Vec<usize>,
    pub decay: DecayCase,
    pub state_is_vk: bool,
    pub packing: Packing,
    pub magnitude: Magnitude,
    pub states: StateCase,
    /// Tokens from checkpoint to checkpoint, which go to slots of their own; 0: none.
    pub checkpoint_every: usize,
    pub seed: u64,
}

impl LinearCase {
    /// The same as a step of `batch` sequences.
    pub fn decode(&self, batch: usize) -> LinearCase {
        LinearCase {
            phase: Phase::Decode,
            lengths: vec![1; batch],
            ..self.clone()
        }
    }

    /// The tensors of the case. Slots that no sequence starts from hold NaN.
    pub fn problem(&self) -> LinearProblem {
        let LinearCase {
            precision,
            heads,
            group,
            dim_k,
            dim_v,
            ..
        } = *self;
        let mut numbers = Numbers::new(self.seed);
        let tokens: usize = self.lengths.iter().sum();
        let [q_size, k_size, v_size, state_size] = self.magnitude.sizes();
        let config = Config {
            heads_q: heads * group,
            heads_kv: heads,
            dim_k,
            dim_v,
            scale: (dim_k as f32).powf(-0.5),
            state_is_vk: self.state_is_vk,
        };
        let mut tensor =
            |channels: usize, size: f64| Values::round(precision, numbers.normals(tokens * heads * channels, size));
        let q = tensor(group * dim_k, q_size);
        let (k, v) = (tensor(dim_k, k_size), tensor(dim_v, v_size));
        let decay = decay_values(self.decay, &mut numbers, heads * group, tokens);
        let (state_in, state_out, slots) = self.slots(&mut numbers);
        let checkpoints = self.checkpoints(slots);
        let slots = slots + checkpoints.as_ref().map_or(0, |(_, slots)| slots.len());
        let mut pool = vec![f32::NAN; slots * config.slot_len()];
        for &slot in state_in.iter().flatten().filter(|&&slot| slot >= 0) {
            let slot = &mut pool[slot as usize * config.slot_len()..][..config.slot_len()];
            slot.fill_with(|| (state_size * numbers.normal()) as f32);
        }
        LinearProblem {
            phase: self.phase,
            config,
            q,
            k,
            v,
            cu_seqlens: cumulative(&self.lengths),
            decay,
            pool,
            state_in,
            state_out,
            checkpoints,
            split: Split::Auto,
            packing: self.packing,
        }
    }

    /// A slot behind the first `slots` for each checkpoint of the longest sequence, but for some that are left out; none without a pool.
    fn checkpoints(&self, slots: usize) -> Option<(usize, Vec<i32>)> {
        let is_possible = self.phase == Phase::Prefill && slots > 0;
        let longest = self.lengths.iter().max()?;
        let max = longest.checked_div(self.checkpoint_every).filter(|_| is_possible)?;
        let slot = |index: usize| if index % 7 == 3 { -1 } else { (slots + index) as i32 };
        Some((self.checkpoint_every, (0..self.lengths.len() * max).map(slot).collect()))
    }

    /// `state_in`, `state_out` and the number of slots.
    fn slots(&self, numbers: &mut Numbers) -> (Option<Vec<i32>>, Option<Vec<i32>>, usize) {
        let batch = self.lengths.len();
        // Two slots per sequence and one that nobody uses, in an order that is not the batch's.
        let slots = 2 * batch + 1;
        let own = |sequence: usize, which: usize| ((2 * sequence + which + 1) * 2 % slots) as i32;
        let each = |f: &mut dyn FnMut(usize) -> i32| Some((0..batch).map(f).collect::<Vec<_>>());
        match self.states {
            StateCase::None => (None, None, 0),
            StateCase::Store => (None, each(&mut |sequence| own(sequence, 0)), slots),
            StateCase::InPlace => {
                let in_place = each(&mut |sequence| own(sequence, 0));
                (in_place.clone(), in_place, slots)
            }
            StateCase::Mixed => {
                let state_in = each(&mut |sequence| numbers.pick(&[-1, own(sequence, 0), own(sequence, 0)]));
                let state_out = each(&mut |sequence| numbers.pick(&[-1, own(sequence, 0), own(sequence, 1)]));
                (state_in, state_out, slots)
            }
        }
    }
}

/// The values of a decay.
pub fn decay_values(decay: DecayCase, numbers: &mut Numbers, heads_q: usize, tokens: usize) -> DecayValues {
    match decay {
        DecayCase::None => DecayValues::None,
        DecayCase::Lightning => {
            let slopes = lightning_log_decay(0, heads_q, heads_q);
            DecayValues::PerHead(slopes.expect("there are so many heads"))
        }
        DecayCase::Constant(g) => DecayValues::PerHead(vec![g; heads_q]),
        DecayCase::PerToken => DecayValues::PerToken((0..tokens * heads_q).map(|_| gate(numbers)).collect()),
    }
}

impl Magnitude {
    /// The sizes of q, k, v and the initial state.
    fn sizes(self) -> [f64; 4] {
        match self {
            Magnitude::Normal => [1.0, 1.0, 1.0, 4.0],
            Magnitude::Zero => [0.0, 0.0, 0.0, 0.0],
            Magnitude::HugeScores => [1e3, 1e4, 3e-4, 1.0],
            Magnitude::HugeState => [1e-5, 1e4, 1e4, 1e8],
        }
    }
}

/// One of [`LOG_DECAYS`], or mostly a number such as a trained gate gives.
fn gate(numbers: &mut Numbers) -> f32 {
    match numbers.below(4) {
        0 => numbers.pick(&LOG_DECAYS),
        _ => -(numbers.uniform() as f32) * 0.2,
    }
}

pub fn decays() -> impl Strategy<Value = DecayCase> {
    prop_oneof![
        1 => Just(DecayCase::None),
        2 => Just(DecayCase::Lightning),
        2 => prop::sample::select(LOG_DECAYS.to_vec()).prop_map(DecayCase::Constant),
        3 => Just(DecayCase::PerToken),
    ]
}

/// Bounds of three sequences, and their slots of reading and of writing, of which most mean nothing.
///
/// No two sequences have tokens in common: which of them would write a token's row last is not specified.
pub fn device_indices() -> impl Strategy<Value = (Vec<i32>, Vec<i32>, Vec<i32>)> {
    let bound = prop_oneof![8 => -2i32..140, 1 => any::<i32>()];
    let slot = prop_oneof![8 => -2i32..8, 1 => any::<i32>()];
    let slots = || prop::collection::vec(slot.clone(), 3);
    let bounds = prop::collection::vec(bound, 4).prop_map(|mut bounds| {
        // Bounds that go back to the tokens of the first sequence leave none for the last.
        if bounds[2] < bounds[1] && bounds[3] > bounds[0] {
            bounds[3] = bounds[2];
        }
        bounds
    });
    (bounds, slots(), slots())
}

/// Prefills of one head with a sequence that is long enough to be split.
pub fn split_cases() -> impl Strategy<Value = LinearCase> {
    (linear_cases(192), 0usize..100).prop_map(|(mut case, more)| {
        case.lengths.push(LinearAttention::SPLIT_LEN + more);
        (case.heads, case.dim_k, case.dim_v) = (1, 64, 64);
        case.checkpoint_every *= 16;
        case
    })
}

/// Prefills with sequences of up to `longest` tokens.
pub fn linear_cases(longest: usize) -> impl Strategy<Value = LinearCase> {
    let dims = (
        prop::sample::select(vec![64usize, 128]),
        prop::sample::select(vec![64usize, 128, 256]),
    );
    let heads = prop::sample::select(vec![(1, 1), (2, 1), (3, 1), (1, 2), (2, 3)]);
    let shape = (precisions(), heads, dims, lengths(longest));
    let packing = prop::sample::select(vec![Packing::Separate, Packing::Fused, Packing::HeadMajor]);
    let magnitude = prop_oneof![
        6 => Just(Magnitude::Normal),
        1 => Just(Magnitude::Zero),
        1 => Just(Magnitude::HugeScores),
        1 => Just(Magnitude::HugeState),
    ];
    let states = prop::sample::select(vec![
        StateCase::None,
        StateCase::Store,
        StateCase::InPlace,
        StateCase::Mixed,
    ]);
    let checkpoints = prop_oneof![2 => Just(0usize), 1 => Just(64), 1 => Just(128)];
    let rest = (
        decays(),
        any::<bool>(),
        packing,
        magnitude,
        states,
        checkpoints,
        any::<u64>(),
    );
    (shape, rest).prop_map(|((precision, (heads, group), (dim_k, dim_v), lengths), rest)| {
        let (decay, state_is_vk, packing, magnitude, states, checkpoint_every, seed) = rest;
        LinearCase {
            phase: Phase::Prefill,
            precision,
            heads,
            group,
            dim_k,
            dim_v,
            lengths,
            decay,
            state_is_vk,
            packing,
            magnitude,
            states,
            checkpoint_every,
            seed,
        }
    })
}

/// Prefills and a decode step, with the slopes of Lightning attention and with gates.
pub(in crate::operations) fn samples(seed: u64) -> Vec<LinearProblem> {
    let lightning = LinearCase {
        phase: Phase::Prefill,
        precision: Precision::Bf16,
        heads: 2,
        group: 1,
        dim_k: 128,
        dim_v: 128,
        lengths: vec![65, 0, 130],
        decay: DecayCase::Lightning,
        state_is_vk: false,
        packing: Packing::Separate,
        magnitude: Magnitude::Normal,
        states: StateCase::InPlace,
        checkpoint_every: 0,
        seed,
    };
    let gated = LinearCase {
        precision: Precision::F16,
        dim_k: 64,
        decay: DecayCase::PerToken,
        state_is_vk: true,
        packing: Packing::Fused,
        states: StateCase::Mixed,
        ..lightning.clone()
    };
    let step = lightning.decode(3);
    let grouped = LinearCase {
        heads: 1,
        group: 3,
        ..gated.clone()
    };
    let grouped_step = grouped.decode(4);
    [lightning, gated, step, grouped, grouped_step]
        .map(|case| case.problem())
        .into()
}
