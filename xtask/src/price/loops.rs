//! Looks at single loops, for whoever works on one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use sala_model::machine::{Free, Pipe};
use sala_model::sass::{Instruction, Listing, Sources};
use sala_model::{Gpu, Kernels, Priced, Tools, Tree, mix};

use super::Arguments;
use crate::{Failure, repository};

/// The loops of a cubin with their instruction mix.
pub fn show_cubin(cubin: &Path) -> Result<String, Failure> {
    if !cubin.is_file() {
        return Err(Failure::file(cubin, "no such file"));
    }
    let listing = Tools::find(repository())?.disassemble(cubin)?;
    let mut text = String::new();
    for function in Listing::parse(&listing, &mut Sources::on_disk()).functions {
        let _ = writeln!(text, "{}: {} instructions", function.name, function.code.len());
        for (number, inner) in function.loops.iter().enumerate() {
            let code: Vec<&Instruction> = function.code_of(inner.blocks.iter().copied()).collect();
            let indent = "  ".repeat(function.depth(inner) + 1);
            let mix = show_mix(code.iter().copied());
            let _ = writeln!(text, "{indent}loop {number}: {} instructions: {mix}", code.len());
            let first = code.first().map(|first| function.describe(first)).unwrap_or_default();
            let _ = writeln!(text, "{indent}    at {first}");
        }
    }
    Ok(text)
}

/// What a round of a unit costs, and what it would cost if something were free.
pub fn show_unit(tree: Tree, name: &str, arguments: &Arguments) -> Result<String, Failure> {
    let gpus = match arguments.gpu.as_slice() {
        [] => vec![Gpu::find("H100")?],
        names => super::gpus(names)?,
    };
    let kernels = tree.compile(&super::archs(&gpus), Some(&[name]))?;
    let mut text = String::new();
    for gpu in gpus {
        text += &show_unit_on(&kernels, name, gpu, arguments)?;
    }
    Ok(text)
}

fn show_unit_on(kernels: &Kernels, name: &str, gpu: &'static Gpu, arguments: &Arguments) -> Result<String, Failure> {
    let unit = kernels.unit(name, gpu.arch)?;
    let first_role = match arguments.active {
        Some(0) => unit.idle_rounds().next(),
        _ => unit.rounds().next(),
    };
    let first_role = first_role.unwrap_or_default();
    if arguments.show {
        for instruction in &first_role {
            let frames = unit.function().origins[instruction.origin].iter().take(4);
            let frames: Vec<String> = frames
                .map(|frame| format!("{}: {}", frame.function, frame.line))
                .collect();
            // At once: who describes a new loop looks here for why it cannot be priced.
            println!("{:64} {}", instruction.text, frames.join("; "));
        }
    }
    let mut text = String::new();
    let priced = unit.on(gpu)?;
    let free = Free {
        barriers: arguments.no_barriers,
        ..Free::default()
    };
    let active = arguments.active.unwrap_or(usize::MAX);
    let clocks = priced.clocks_with(active, arguments.blocks, free)?;
    let _ = writeln!(
        text,
        "{} on {}: {clocks:.0} clk, {:.2} us",
        unit.name(),
        gpu.name,
        gpu.microseconds(clocks)
    );
    let lengths = unit
        .lengths()
        .map(|(count, work, idle)| format!("{count} warps x {work} ({idle} without work)"));
    let _ = writeln!(text, "  instructions: {}", lengths.collect::<Vec<_>>().join(", "));
    let _ = writeln!(text, "  of the first: {}", show_mix(first_role.into_iter()));
    text += &show_pipes(&priced, active, arguments.blocks, free, clocks)?;
    Ok(text)
}

/// How busy the pipes are, and what the unit gains if barriers, copies or a pipe cost nothing.
fn show_pipes(priced: &Priced, active: usize, blocks: usize, free: Free, clocks: f64) -> Result<String, Failure> {
    let run = priced.run(active, blocks, free)?;
    let end = run.end();
    let mut busy: Vec<(Pipe, f64)> = Pipe::ALL.iter().map(|&pipe| (pipe, run.busy(pipe) / end)).collect();
    busy.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    busy.retain(|(_, share)| *share > 0.0);
    let shares = busy
        .iter()
        .map(|(pipe, share)| format!("{} {:.0} %", pipe.name(), share * 100.0));
    let mut text = String::new();
    let _ = writeln!(
        text,
        "  busy: issue {:.0} %, {}",
        run.issued() / end * 100.0,
        shares.collect::<Vec<_>>().join(", ")
    );
    let mut changes = vec![
        ("barriers", Free { barriers: true, ..free }),
        ("copies", Free { copies: true, ..free }),
    ];
    for (pipe, _) in busy.iter().take(3) {
        changes.push((
            pipe.name(),
            Free {
                pipe: Some(*pipe),
                ..free
            },
        ));
    }
    let mut gains = Vec::new();
    for (what, free) in changes {
        let change = priced.clocks_with(active, blocks, free)? / clocks - 1.0;
        gains.push(format!("{what} {:+.0} %", change * 100.0));
    }
    let _ = writeln!(text, "  if it cost nothing: {}", gains.join(", "));
    Ok(text)
}

fn show_mix<'i>(code: impl Iterator<Item = &'i Instruction>) -> String {
    let mut counts: Vec<_> = BTreeMap::into_iter(mix(code)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let counts = counts.into_iter().map(|(class, count)| format!("{class} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}
