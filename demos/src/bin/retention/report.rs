//! What the program prints.

use crate::cache::Cache;
use crate::picture::History;
use crate::prompt::{DIM, HEADS, Prompt, kept_of};
use crate::{OfHeads, Schedule};
use demos::meter::Operation;
use std::io::{self, Write};

/// Columns of a bar.
const COLUMNS: usize = 64;

/// One line of the report.
pub fn line(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{name:<11}{text}")
}

/// What is to be read, and with what.
pub fn task(out: &mut impl Write, schedule: &Schedule, prompt: &Prompt) -> io::Result<()> {
    let Schedule {
        tokens,
        budget,
        chunk,
        stabilizers,
        local,
        ..
    } = schedule;
    line(
        out,
        "prompt",
        &format!("{tokens} tokens, the last {local} of them a question, in chunks of {chunk}"),
    )?;
    line(
        out,
        "cache",
        &format!("{budget} tokens of each head; the last {stabilizers} stay until the next choice"),
    )?;
    let text = format!("tokens {} to {}", prompt.needle.start, prompt.needle.end - 1);
    line(out, "needle", &text)
}

/// What was kept, what came out and what it took.
pub fn result(
    out: &mut impl Write,
    prompt: &Prompt,
    cache: &Cache,
    history: &History,
    found: &OfHeads<f64>,
    resident: &[Option<usize>],
) -> io::Result<()> {
    let kept = kept_of(&prompt.needle, &cache.positions);
    for head in 0..HEADS {
        let verdict = match kept[head] {
            0 => "LOST",
            count if count == prompt.needle.len() => "KEPT",
            _ => "KEPT IN PART",
        };
        let text = format!(
            "{verdict}, {} of {} tokens; the answer is {:.2} of the needle's value",
            kept[head],
            prompt.needle.len(),
            found[head]
        );
        line(out, &format!("head {head}"), &text)?;
        line(out, "", &format!("|{}|", bar(&history.last(head, COLUMNS))))?;
    }
    let marker = prompt.needle.start * COLUMNS / history.tokens();
    line(
        out,
        "",
        &format!(
            " {}^ needle; darker: more of the tokens there are kept",
            " ".repeat(marker)
        ),
    )?;
    let all = history.tokens() * HEADS * DIM * 2 * 2;
    let text = format!(
        "{} KiB, whatever the prompt; a cache of all of it {} KiB",
        cache.bytes() >> 10,
        all >> 10
    );
    line(out, "memory", &text)?;
    let sizes: Vec<usize> = resident.iter().copied().flatten().collect();
    if let Some((first, last)) = sizes.get(sizes.len() / 2).zip(sizes.last()) {
        let text = format!("{} KiB halfway, {} KiB at the end", first >> 10, last >> 10);
        line(out, "process", &text)?;
    }
    Ok(())
}

/// What the operations took, on the CPU.
pub fn costs(out: &mut impl Write, operations: &[Operation]) -> io::Result<()> {
    let cost = |operation: &Operation| {
        let Operation {
            name, launches, time, ..
        } = operation;
        format!("{name} {:.1} s in {launches}", time.as_secs_f64())
    };
    let costs: Vec<_> = operations.iter().map(cost).collect();
    line(out, "launches", &costs.join(", "))
}

/// Shares as shades.
fn bar(shares: &[f64]) -> String {
    const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];
    let shade = |&share: &f64| SHADES[((share.sqrt() * 4.0).ceil() as usize).min(4)];
    shares.iter().map(shade).collect()
}

/// Bytes of the process that are in memory, where the system says.
pub fn resident() -> Option<usize> {
    let numbers = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = numbers.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
