//! Whether a mode's results are right: `Ok` with what was found, `Err` with what is wrong.

use crate::layout::Layout;
use crate::passing::{Output, Passing};
use crate::prompt::{LINEAR, Prompt, SHAPE};
use crate::rank::Rank;
use crate::reference::{self, Attention};
use demos::Failure;
use demos::exchange::{Exchange, threads};
use half::bf16;
use sala_kernels::Device;
use sala_testkit::tolerance::{Judgement, LinearShape, Precision, attention_out, linear_out, linear_state};

type Verdict = Result<String, String>;

/// Every token has the bits that one device gives it, and those are right.
pub fn exact(prompt: &Prompt, layout: &Layout, outputs: Vec<Vec<bf16>>) -> Result<Verdict, Failure> {
    let whole = whole(layout, outputs);
    let alone = Layout {
        ranks: 1,
        is_zigzag: false,
        ..*layout
    };
    let exchange = Exchange::new(Box::new(threads(1).remove(0)));
    let one = crate::exact::prefill(&mut Rank::new(prompt, alone, Device::host(), exchange)?)?;
    if let Some(element) = whole.iter().zip(&one).position(|(a, b)| a.to_bits() != b.to_bits()) {
        let row = SHAPE.heads_q * SHAPE.dim;
        return Ok(Err(format!(
            "token {} has other bits than on one device",
            element / row
        )));
    }
    let expected = reference::attend(prompt, 0..prompt.tokens, |token, _| (0..=token).collect());
    Ok(attention(&whole, &expected).map(|share| format!("the bits of one device, {share}")))
}

/// All ranks have the same bits, and those are right.
pub fn decode(prompt: &Prompt, outputs: &[Vec<bf16>]) -> Verdict {
    let [first, others @ ..] = outputs else {
        return Err("no rank".into());
    };
    if let Some(rank) = others.iter().position(|other| other != first) {
        return Err(format!("rank {} has another output than rank 0", rank + 1));
    }
    let last = prompt.tokens - 1;
    attention(
        first,
        &reference::attend(prompt, [last], |token, _| (0..=token).collect()),
    )
}

/// Outputs are those of the sets of keys that tokens see, and anchors are the same on all ranks.
pub fn passing(prompt: &Prompt, layout: &Layout, passing: Passing, outputs: Vec<Output>) -> Verdict {
    let anchors = reference::attend(prompt, 0..passing.anchor, |token, _| (0..=token).collect());
    for (rank, output) in outputs
        .iter()
        .enumerate()
        .filter(|(_, output)| !output.anchor.is_empty())
    {
        attention(&output.anchor, &anchors).map_err(|said| format!("anchor of rank {rank}: {said}"))?;
    }
    let expected = reference::attend(prompt, 0..prompt.tokens, reference::seen(prompt, layout, passing));
    attention(
        &whole(layout, outputs.into_iter().map(|output| output.own).collect()),
        &expected,
    )
}

/// Outputs and the last state are those of the recurrence, and all ranks have the same state.
pub fn linear(prompt: &Prompt, layout: &Layout, outputs: Vec<(Vec<bf16>, Vec<f32>)>) -> Verdict {
    let (outputs, states): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
    if let Some(rank) = states.iter().position(|state| state != &states[0]) {
        return Err(format!("rank {rank} has another state than rank 0"));
    }
    let (out, state) = reference::linear(prompt);
    let shape = LinearShape {
        precision: Precision::Bf16,
        heads: LINEAR.heads_q,
        dim_v: LINEAR.dim_v,
        cu_seqlens: &[0, prompt.tokens as i32],
    };
    let got: Vec<f64> = whole(layout, outputs).into_iter().map(f64::from).collect();
    let last: Vec<f64> = states[0].iter().map(|&x| f64::from(x)).collect();
    let of_state = linear_state(
        Precision::Bf16,
        LINEAR.heads_q,
        LINEAR.dim_k * LINEAR.dim_v,
        &last,
        &state,
    );
    said(linear_out(shape, &got, &out).and(of_state))
}

/// Outputs of all ranks, by token.
fn whole(layout: &Layout, outputs: Vec<Vec<bf16>>) -> Vec<bf16> {
    let row = outputs.iter().map(Vec::len).sum::<usize>() / layout.tokens;
    let mut whole = vec![bf16::ZERO; layout.tokens * row];
    for (rank, output) in outputs.iter().enumerate() {
        for (part, rows) in layout
            .parts_of(rank)
            .into_iter()
            .zip(output.chunks(layout.part_len() * row))
        {
            let range = layout.range(part);
            whole[range.start * row..range.end * row].copy_from_slice(rows);
        }
    }
    whole
}

fn attention(got: &[bf16], expected: &Attention) -> Verdict {
    let got: Vec<f64> = got.iter().map(|x| x.to_f64()).collect();
    said(attention_out(
        Precision::Bf16,
        SHAPE.dim,
        &got,
        &expected.out,
        &expected.magnitude,
    ))
}

fn said(judgement: Judgement) -> Verdict {
    let share = judgement.shares.values().copied().fold(0.0, f64::max);
    match judgement.failure {
        None => Ok(format!("errors take up to {:.0} % of their bounds", 100.0 * share)),
        Some(failure) => Err(failure),
    }
}
