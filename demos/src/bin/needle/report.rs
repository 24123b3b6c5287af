//! What the program prints and draws.

use crate::map::{Map, grouped};
use crate::reader::Selection;
use crate::text::Text;
use crate::{ANSWER_WORDS, Found};
use std::io::{self, Write};
use std::ops::Range;

/// The text, what is hidden in it and what is asked.
pub fn task(out: &mut impl Write, text: &Text, origin: &str, length: usize, selection: &Selection) -> io::Result<()> {
    let blocks = length.div_ceil(selection.block_size);
    writeln!(
        out,
        "text       {} tokens from {origin}: {blocks} blocks of {}",
        grouped(length),
        selection.block_size
    )?;
    let (first, last) = needle_blocks(text, selection);
    let place = if first == last {
        format!("block {first}")
    } else {
        format!("blocks {first} and {last}")
    };
    writeln!(
        out,
        "needle     {} ({place}, token {})",
        words(text, text.needle.clone()),
        grouped(text.needle.start)
    )?;
    writeln!(out, "question   {} ...", words(text, text.question.clone()))
}

/// Whether the needle was found, by which words, what was answered and what it took.
pub fn result(out: &mut impl Write, text: &Text, found: &Found, selection: &Selection) -> io::Result<()> {
    let finders = finders(text, found, selection);
    let total = text.question.len() + ANSWER_WORDS;
    let verdict = match finders.len() {
        _ if is_always_read(text, selection) => {
            "ALWAYS READ: the text is short, or the needle lies in the first block or a recent one".to_owned()
        }
        0 => "NOT CHOSEN by any token of the question and answer".to_owned(),
        count => format!(
            "CHOSEN by {count} of {total} tokens of question and answer: {}",
            finders.join(" ")
        ),
    };
    writeln!(out, "needle     {verdict}")?;
    let answer: Vec<String> = found
        .answer
        .iter()
        .map(|(word, cosine)| format!("{word} ({cosine:.2})"))
        .collect();
    writeln!(out, "answer     {}", answer.join(" "))?;
    let (last, mean) = shares_read(found, selection);
    writeln!(
        out,
        "read       {:.1} % of its past by the last token, {:.1} % by a token on average",
        100.0 * last,
        100.0 * mean
    )?;
    let times: Vec<String> = found
        .prompt
        .iter()
        .map(|operation| format!("{} {:.2} s", operation.name, operation.time.as_secs_f64()))
        .collect();
    writeln!(
        out,
        "time       {}; {ANSWER_WORDS} words of answer {:.2} s",
        times.join(", "),
        found.decoding.as_secs_f64()
    )
}

/// A range of the text, readable.
fn words(text: &Text, range: Range<usize>) -> String {
    let words: Vec<&str> = text.tokens[range].iter().map(|&token| text.word(token)).collect();
    words.join(" ")
}

/// The first and the last block that hold the needle.
fn needle_blocks(text: &Text, selection: &Selection) -> (usize, usize) {
    (
        text.needle.start / selection.block_size,
        (text.needle.end - 1) / selection.block_size,
    )
}

/// Whether the question reads a block of the needle without choosing it.
fn is_always_read(text: &Text, selection: &Selection) -> bool {
    let (first, last) = needle_blocks(text, selection);
    let own = text.question.start / selection.block_size;
    own < selection.blocks || first < selection.init_blocks || last + selection.local_blocks >= own
}

/// The words of the question and the answer that read a block of the needle.
fn finders(text: &Text, found: &Found, selection: &Selection) -> Vec<String> {
    let (first, last) = needle_blocks(text, selection);
    let lists = found.lists.chunks_exact(selection.blocks).skip(text.question.start);
    let finds = |list: &[i32]| list.iter().any(|&block| (first as i32..=last as i32).contains(&block));
    let words = question_and_answer(text, found);
    words
        .into_iter()
        .zip(lists)
        .filter(|(_, list)| finds(list))
        .map(|(word, _)| word)
        .collect()
}

fn question_and_answer(text: &Text, found: &Found) -> Vec<String> {
    let question = text.tokens[text.question.clone()]
        .iter()
        .map(|&token| text.word(token).to_owned());
    question
        .chain(found.answer.iter().map(|(word, _)| word.clone()))
        .collect()
}

/// The share of the tokens before it (itself included) that the last token reads, and that a token reads on average.
fn shares_read(found: &Found, selection: &Selection) -> (f64, f64) {
    let share = |(position, list): (usize, &[i32])| {
        let own = position / selection.block_size;
        let blocks = list.iter().filter(|&&block| block >= 0).count();
        let unread = (own + 1 - blocks.min(own + 1)) * selection.block_size;
        1.0 - unread as f64 / (position + 1) as f64
    };
    let shares: Vec<f64> = found
        .lists
        .chunks_exact(selection.blocks)
        .enumerate()
        .map(share)
        .collect();
    (
        shares.last().copied().unwrap_or(0.0),
        shares.iter().sum::<f64>() / shares.len() as f64,
    )
}

/// The map, as SVG.
pub fn picture(text: &Text, found: &Found, selection: &Selection, needle_text: &str) -> String {
    let (last, mean) = shares_read(found, selection);
    let words = question_and_answer(text, found);
    let blocks = found.lists.len().div_ceil(selection.blocks * selection.block_size);
    let reads = format!(
        "{} tokens in {blocks} blocks of {}. A token reads at most {} of them: {:.1} % of the context for the last one, {:.1} % on average.",
        grouped(found.lists.len() / selection.blocks),
        selection.block_size,
        selection.blocks,
        100.0 * last,
        100.0 * mean,
    );
    let finders = finders(text, found, selection).len();
    let finds = match finders {
        0 => format!("None of the last {} words reads the needle's block.", words.len()),
        count => format!(
            "{count} of the last {} words read the needle's block. The answer, by attention alone: \u{201c}{}\u{201d}.",
            words.len(),
            words[text.question.len()..].join(" "),
        ),
    };
    let map = Map {
        lists: &found.lists,
        list_len: selection.blocks,
        block_size: selection.block_size,
        init_blocks: selection.init_blocks,
        local_blocks: selection.local_blocks,
        needle: text.needle.clone(),
        needle_text,
        question: text.question.start,
        question_words: &words,
        summary: [&reads, &finds],
    };
    map.svg()
}
