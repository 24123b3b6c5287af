//! Queries, keys and values that retrieve by content, made without a model.
//!
//! What stands before a token is described by features: the last word, and the last two. Each feature has a vector of signs, the bits of
//! its hash, so that equal features agree and others are almost orthogonal; rare words count, common ones hardly do:
//!
//! ```text
//! key[t]      = rarity · signs(word before t) + ¾ rarity · signs(two words before t)
//! value[t]    = signs(word t)
//! query[t][0] = rarity · signs(word t)
//! query[t][1] = rarity · signs(word t) + rarity · signs(two words that end with t)
//! query[t][2] = the direction of Σ rarity · signs(word)        over the last 8 words: what is being talked about
//! query[t][3] = the same                                       over the last 24
//! ```
//!
//! So a query finds places where the same words came before, and the value there is the word that followed them: what an induction head
//! of a language model does.

use half::bf16;

/// Channels of a head: one for each bit of a hash.
pub const DIM: usize = 64;

/// Query heads of the one key head.
pub const GROUP: usize = 4;

/// The query head that looks for the last two words together.
pub const PAIR_HEAD: usize = 1;

/// A word that comes at most so often is as rare as can be.
const RARE_COUNT: f32 = 4.0;

/// How many words the last two heads look back.
const TOPIC_WORDS: [usize; 2] = [8, 24];

/// How much a pair of words weighs in a key, beside the one word.
const PAIR_WEIGHT: f32 = 0.75;

/// The logit of a rare word against itself. Unrelated keys' logits scatter by about an eighth of it: this lets the right key win the
/// softmax over some thousand.
const SHARPNESS: f32 = 160.0;

/// The softmax scale that goes with the features: a vector of signs times itself is `DIM`.
pub const SCALE: f32 = 1.0 / DIM as f32;

/// A vector of one head.
type Channels = [f32; DIM];

/// Rows of tensors, token after token.
#[derive(Default)]
pub struct Features {
    /// `[tokens, GROUP, DIM]`
    pub queries: Vec<bf16>,
    /// `[tokens, 1, DIM]`
    pub keys: Vec<bf16>,
    /// `[tokens, 1, DIM]`
    pub values: Vec<bf16>,
}

/// Makes features of the words of one text.
pub struct Featuriser {
    /// For each word of the vocabulary from almost 0 (everywhere) to 1.
    rarity: Vec<f32>,
}

impl Featuriser {
    /// Learns what is rare in `tokens`.
    pub fn new(tokens: &[u32]) -> Featuriser {
        let words = tokens.iter().max().map_or(0, |&last| last as usize + 1);
        let mut counts = vec![0.0; words];
        for &token in tokens {
            counts[token as usize] += 1.0f32;
        }
        Featuriser {
            rarity: counts.into_iter().map(|count| (RARE_COUNT / count).min(1.0)).collect(),
        }
    }

    /// The features of the tokens from `first` to the end.
    pub fn features(&self, tokens: &[u32], first: usize) -> Features {
        let mut features = Features::default();
        for t in first..tokens.len() {
            let before = &tokens[..t];
            let until = &tokens[..=t];
            let key = self.last_words(before, PAIR_WEIGHT);
            let words = [0.0, 1.0].map(|pair_weight| self.last_words(until, pair_weight));
            let topics = TOPIC_WORDS.map(|count| self.topic(until, count));
            for query in words.into_iter().chain(topics) {
                features.queries.extend(query.map(|x| bf16::from_f32(SHARPNESS * x)));
            }
            features.keys.extend(key.map(bf16::from_f32));
            features.values.extend(word_vector(tokens[t]).map(bf16::from_f32));
        }
        features
    }

    /// The word whose value is nearest to a head's output, and the cosine of the angle between them.
    pub fn nearest_word(&self, out: &[f32]) -> (u32, f32) {
        let length = (out.iter().map(|x| x * x).sum::<f32>() * DIM as f32).sqrt();
        let cosine = |word: u32| word_vector(word).iter().zip(out).map(|(a, b)| a * b).sum::<f32>() / length;
        let words = (0..self.rarity.len() as u32).map(|word| (word, cosine(word)));
        words.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
    }

    /// The last word, and `pair_weight` times the last two. A pair is as rare as the rarer of its words.
    fn last_words(&self, words: &[u32], pair_weight: f32) -> Channels {
        let rarity = |word: u32| self.rarity[word as usize];
        let mut sum = match words {
            [.., word] => signs(&[*word], rarity(*word)),
            [] => [0.0; DIM],
        };
        if let [.., first, second] = *words {
            add(
                &mut sum,
                &signs(&[first, second], pair_weight * rarity(first).max(rarity(second))),
            );
        }
        sum
    }

    /// The last `count` words as one direction, at most as long as one rare word.
    fn topic(&self, words: &[u32], count: usize) -> Channels {
        let mut sum = [0.0; DIM];
        for &word in &words[words.len().saturating_sub(count)..] {
            add(&mut sum, &self.last_words(&[word], 0.0));
        }
        let length = (sum.iter().map(|x| x * x).sum::<f32>() / DIM as f32).sqrt();
        sum.map(|x| x / length.max(1.0))
    }
}

fn add(sum: &mut Channels, vector: &Channels) {
    for (sum, x) in sum.iter_mut().zip(vector) {
        *sum += x;
    }
}

/// What stands for a word as a value.
fn word_vector(word: u32) -> Channels {
    signs(&[u32::MAX, u32::MAX, word], 1.0)
}

/// `weight` or `-weight` in each channel, as the hash of `words` has it (SplitMix64's mixer, folded over the words).
fn signs(words: &[u32], weight: f32) -> Channels {
    let hash = words.iter().fold(words.len() as u64, |hash, &word| {
        let mut x = hash.wrapping_add(u64::from(word)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    });
    std::array::from_fn(|bit| if hash >> bit & 1 == 1 { weight } else { -weight })
}
