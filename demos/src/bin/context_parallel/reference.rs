//! What each mode must give, written out for one device: softmax over the set of keys that a token sees.

use crate::choice::chosen;
use crate::layout::Layout;
use crate::passing::Passing;
use crate::prompt::{DECAY, LINEAR, Prompt, SHAPE};
use half::bf16;
use sala_kernels::Decay;
use sala_kernels::reference::linear_attention::{self, Config, LogDecay, States};

/// Attention of some tokens, and of each output Σ p·|v|.
#[derive(Default)]
pub struct Attention {
    pub out: Vec<f64>,
    pub magnitude: Vec<f64>,
}

/// Attention of tokens to the keys that `sees(token, kv head)` lists.
pub fn attend(
    prompt: &Prompt,
    tokens: impl IntoIterator<Item = usize>,
    sees: impl Fn(usize, usize) -> Vec<usize>,
) -> Attention {
    let group = SHAPE.heads_q / SHAPE.heads_kv;
    let mut answer = Attention::default();
    for token in tokens {
        for head in 0..SHAPE.heads_q {
            let keys = sees(token, head / group);
            let q = row(&prompt.q, SHAPE.heads_q, token, head);
            let of = |values: &[bf16], key: usize| row(values, SHAPE.heads_kv, key, head / group);
            let scale = (SHAPE.dim as f64).sqrt().recip();
            let dot = |key: usize| of(&prompt.k, key).iter().zip(&q).map(|(a, b)| a * b).sum::<f64>() * scale;
            let logits: Vec<f64> = keys.iter().map(|&key| dot(key)).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let (mut out, mut magnitude) = ([0.0; SHAPE.dim], [0.0; SHAPE.dim]);
            for (&key, weight) in keys.iter().zip(&weights) {
                for (channel, v) in of(&prompt.v, key).into_iter().enumerate() {
                    out[channel] += weight / sum * v;
                    magnitude[channel] += weight / sum * v.abs();
                }
            }
            answer.out.extend(out);
            answer.magnitude.extend(magnitude);
        }
    }
    answer
}

/// The keys that a token sees of a prompt whose parts pass keys on.
pub fn seen(prompt: &Prompt, layout: &Layout, passing: Passing) -> impl Fn(usize, usize) -> Vec<usize> {
    let lists: Vec<Vec<Vec<usize>>> = (0..layout.parts())
        .map(|part| {
            let candidates = passing.candidates(layout, part);
            (0..SHAPE.heads_kv)
                .map(|head| chosen(prompt, passing, candidates.clone(), head))
                .collect()
        })
        .collect();
    let layout = *layout;
    move |token, head| {
        let part = token / layout.part_len();
        let own = layout.range(part).start..token + 1;
        let passed = lists[..part].iter().flat_map(|lists| lists[head].iter().copied());
        let anchor = if part == 0 { 0..0 } else { 0..passing.anchor };
        passed.chain(anchor).chain(own).collect()
    }
}

/// A linear layer's outputs, and its state after the prompt.
pub fn linear(prompt: &Prompt) -> (Vec<f64>, Vec<f64>) {
    let config = Config {
        heads_q: LINEAR.heads_q,
        heads_kv: LINEAR.heads_kv,
        dim_k: LINEAR.dim_k,
        dim_v: LINEAR.dim_v,
        scale: (LINEAR.dim_k as f32).powf(-0.5),
        state_is_vk: false,
    };
    let decay = match DECAY {
        Decay::None => LogDecay::None,
        Decay::PerHead => LogDecay::PerHead(&prompt.log_decay),
        Decay::PerToken => LogDecay::PerToken(&prompt.log_decay),
    };
    let pool = vec![0.0; config.slot_len()];
    let states = States {
        pool: &pool,
        state_out: Some(&[0]),
        ..States::default()
    };
    let bounds = [0, prompt.tokens as i32];
    let answer = linear_attention::prefill(&config, &prompt.q, &prompt.k, &prompt.v, &bounds, decay, &states);
    (answer.out, answer.pool)
}

fn row(values: &[bf16], heads: usize, token: usize, head: usize) -> Vec<f64> {
    let row = &values[(token * heads + head) * SHAPE.dim..][..SHAPE.dim];
    row.iter().map(|x| x.to_f64()).collect()
}
