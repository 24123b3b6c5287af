//! Generated cases: the lengths, decays and magnitudes that every kernel is tried on, and a seeded way to try them.
//!
//! A case is a short description that proptest can shrink and print; [`LinearCase::problem`] turns it into tensors with its seed.

use crate::linear::{DecayValues, LinearProblem};
use crate::memory::Packing;
use crate::tolerance::Precision;
use crate::values::Values;
use proptest::prelude::*;
use proptest::test_runner::{Config as TestConfig, RngAlgorithm, TestError, TestRng, TestRunner};
use sala_kernels::lightning_log_decay;
use sala_kernels::reference::linear_attention::Config;

/// Lengths of sequences around the edges of tiles and chunks.
pub const LENGTHS: [usize; 15] = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 191, 192];

/// Decays that a head or a token is tried with, besides the slopes of SALA: none, the slowest, one that leaves nothing after a token,
/// and one that forgets everything before it.
pub const LOG_DECAYS: [f32; 5] = [0.0, -1e-6, -0.5, -20.0, f32::NEG_INFINITY];

/// A reproducible stream of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers {
    state: u64,
}

impl Numbers {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Numbers { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Close to a standard normal: the sum of twelve uniforms, around zero.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// `count` normal numbers times `size`.
    pub fn normals(&mut self, count: usize, size: f64) -> Vec<f64> {
        (0..count).map(|_| size * self.normal()).collect()
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// The decay of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DecayCase {
    /// None.
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
    /// The type.
    pub precision: Precision,
    /// Heads.
    pub heads: usize,
    /// Channels of a key, 64 or 128.
    pub dim_k: usize,
    /// Channels of a value, 64 or 128.
    pub dim_v: usize,
    /// Tokens of each sequence.
    pub lengths: Vec<usize>,
    /// The decay.
    pub decay: DecayCase,
    /// Whether states are `[dim_v, dim_k]`.
    pub state_is_vk: bool,
    /// The memory layout.
    pub packing: Packing,
    /// The size of the inputs.
    pub magnitude: Magnitude,
    /// The use of the pool.
    pub states: StateCase,
    /// Where the numbers come from.
    pub seed: u64,
}

impl LinearCase {
    /// The tensors of the case. Slots that no sequence starts from hold NaN.
    pub fn problem(&self) -> LinearProblem {
        let LinearCase {
            precision,
            heads,
            dim_k,
            dim_v,
            ..
        } = *self;
        let mut numbers = Numbers::new(self.seed);
        let tokens: usize = self.lengths.iter().sum();
        let [q_size, k_size, v_size, state_size] = self.magnitude.sizes();
        let config = Config {
            heads,
            dim_k,
            dim_v,
            scale: (dim_k as f32).powf(-0.5),
            state_is_vk: self.state_is_vk,
        };
        let mut tensor =
            |channels: usize, size: f64| Values::round(precision, numbers.normals(tokens * heads * channels, size));
        let (q, k, v) = (tensor(dim_k, q_size), tensor(dim_k, k_size), tensor(dim_v, v_size));
        let decay = self.decay_values(&mut numbers, tokens);
        let (state_in, state_out, slots) = self.slots(&mut numbers);
        let mut pool = vec![f32::NAN; slots * config.slot_len()];
        for &slot in state_in.iter().flatten().filter(|&&slot| slot >= 0) {
            let slot = &mut pool[slot as usize * config.slot_len()..][..config.slot_len()];
            slot.fill_with(|| (state_size * numbers.normal()) as f32);
        }
        LinearProblem {
            config,
            q,
            k,
            v,
            cu_seqlens: cumulative(&self.lengths),
            decay,
            pool,
            state_in,
            state_out,
            packing: self.packing,
        }
    }

    fn decay_values(&self, numbers: &mut Numbers, tokens: usize) -> DecayValues {
        match self.decay {
            DecayCase::None => DecayValues::None,
            DecayCase::Lightning => DecayValues::PerHead(lightning_log_decay(0, self.heads, self.heads)),
            DecayCase::Constant(g) => DecayValues::PerHead(vec![g; self.heads]),
            DecayCase::PerToken => DecayValues::PerToken((0..tokens * self.heads).map(|_| gate(numbers)).collect()),
        }
    }

    /// `state_in`, `state_out` and the number of slots.
    fn slots(&self, numbers: &mut Numbers) -> (Option<Vec<i32>>, Option<Vec<i32>>, usize) {
        let batch = self.lengths.len();
        // Two slots a sequence and one that nobody uses, in an order that is not the batch's.
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

/// `[0, a, a + b, …]`.
pub fn cumulative(lengths: &[usize]) -> Vec<i32> {
    let mut total = 0;
    let ends = lengths.iter().map(|&length| {
        total += length as i32;
        total
    });
    [0].into_iter().chain(ends).collect()
}

/// Lengths of a ragged batch: one to four of [`LENGTHS`] at up to `longest` tokens, sometimes with an empty sequence in the middle.
pub fn lengths(longest: usize) -> impl Strategy<Value = Vec<usize>> {
    let known: Vec<usize> = LENGTHS.into_iter().filter(|&length| length <= longest).collect();
    let length = prop_oneof![3 => prop::sample::select(known), 1 => 0..=longest];
    (prop::collection::vec(length, 1..=4), any::<bool>()).prop_map(|(mut lengths, with_empty)| {
        if with_empty {
            lengths.insert(lengths.len() / 2, 0);
        }
        lengths
    })
}

/// Decays.
pub fn decays() -> impl Strategy<Value = DecayCase> {
    prop_oneof![
        1 => Just(DecayCase::None),
        2 => Just(DecayCase::Lightning),
        2 => prop::sample::select(LOG_DECAYS.to_vec()).prop_map(DecayCase::Constant),
        3 => Just(DecayCase::PerToken),
    ]
}

/// Linear-attention calls with sequences of up to `longest` tokens.
pub fn linear_cases(longest: usize) -> impl Strategy<Value = LinearCase> {
    let dim = || prop::sample::select(vec![64usize, 128]);
    let shape = (precisions(), 1usize..=3, dim(), dim(), lengths(longest));
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
    let rest = (decays(), any::<bool>(), packing, magnitude, states, any::<u64>());
    (shape, rest).prop_map(|((precision, heads, dim_k, dim_v, lengths), rest)| {
        let (decay, state_is_vk, packing, magnitude, states, seed) = rest;
        LinearCase {
            precision,
            heads,
            dim_k,
            dim_v,
            lengths,
            decay,
            state_is_vk,
            packing,
            magnitude,
            states,
            seed,
        }
    })
}

/// Both types.
pub fn precisions() -> impl Strategy<Value = Precision> {
    prop::sample::select(vec![Precision::Bf16, Precision::F16])
}

/// Tries `cases` values (or `PROPTEST_CASES`) of a strategy; panics with the smallest one that fails.
///
/// The seed is printed and can be given as `SALA_TEST_SEED`.
pub fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S::Value: Clone,
{
    let seed = seed();
    println!("SALA_TEST_SEED={seed}");
    let cases = environment_number("PROPTEST_CASES").unwrap_or(cases);
    let config = TestConfig {
        cases,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..TestConfig::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&strategy, |value| {
        test(value);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("SALA_TEST_SEED={seed}: {why}\nsmallest case: {value:#?}"),
        Err(TestError::Abort(why)) => panic!("SALA_TEST_SEED={seed}: {why}"),
    }
}

/// The seed of this run.
pub fn seed() -> u64 {
    let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    environment_number("SALA_TEST_SEED").unwrap_or_else(clock)
}

fn environment_number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
