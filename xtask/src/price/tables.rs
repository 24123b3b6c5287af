//! The price list as text.

use std::fmt::Write as _;

use sala_model::Gpu;
use sala_model::rows::Row;

/// The lines of a page between which its tables stand, and between which the summary does.
const BEGIN: &str = "<!-- cargo xtask price --record writes what follows -->\n";
const BEGIN_SUMMARY: &str = "<!-- cargo xtask price --record writes these shares -->\n";
const END: &str = "<!-- up to here -->\n";

/// A table for each GPU, for a terminal.
pub fn text(gpus: &[&Gpu], rows: &[Row]) -> String {
    let mut text = String::new();
    for gpu in gpus {
        let _ = writeln!(
            text,
            "{:45}{:>10} {:8}{:>9}{:>9}{:>7}{:>10}  {:5}  kind",
            gpu.name, "value", "unit", "floor", "target", "ratio", "launches", "level"
        );
        for row in rows.iter().filter(|row| row.gpu == gpu.name) {
            let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), digits);
            let ratio = row.target.map(|target| format!("{:.2}", row.worse_than(target)));
            let _ = writeln!(
                text,
                "{:45}{:>10} {:8}{:>9}{:>9}{:>7}{:>10}  {:5}  modelled",
                row.row,
                digits(row.value),
                row.unit.name(),
                number(row.floor),
                number(row.target),
                ratio.as_deref().unwrap_or("-"),
                row.launches,
                row.level
            );
        }
        text.push('\n');
    }
    text.push_str(
        "floor: the slower of tensor cores and memory, at rates that kernels reach; ratio: how many times worse than the target.\n\
         Modelled, not measured: good for direction, not for digits. docs/performance.md says how far to trust it.\n",
    );
    text
}

/// Four significant digits.
fn digits(value: f64) -> String {
    let whole = value.abs().log10().floor().max(0.0) as usize;
    format!("{value:.*}", 3usize.saturating_sub(whole))
}

/// A page with new tables; `None` where it has no place for them.
pub fn renew(page: &str, gpus: &[&Gpu], rows: &[Row]) -> Option<String> {
    let page = renew_part(page, BEGIN_SUMMARY, &summary(gpus, rows))?;
    renew_part(&page, BEGIN, &markdown(gpus, rows))
}

fn renew_part(page: &str, begin: &str, text: &str) -> Option<String> {
    let (head, rest) = page.split_once(begin)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{begin}{text}{END}{tail}"))
}

/// One table of all GPUs: what share of the floor each row reaches.
fn summary(gpus: &[&Gpu], rows: &[Row]) -> String {
    let names = gpus.iter().map(|gpu| gpu.name);
    let columns = names.collect::<Vec<_>>().join(" | ");
    let mut text = format!("\n| row | {columns} |\n|---|{}\n", "---:|".repeat(gpus.len()));
    let of_gpu = |name| rows.iter().filter(move |row| row.gpu == name);
    for first in gpus.first().into_iter().flat_map(|gpu| of_gpu(gpu.name)) {
        let share = |gpu: &&Gpu| {
            let row = of_gpu(gpu.name).find(|row| row.row == first.row);
            let floor = row.and_then(|row| Some((row, row.floor?)));
            floor.map_or_else(String::new, |(row, floor)| {
                format!("{:.0} %", 100.0 / row.worse_than(floor))
            })
        };
        let shares = gpus.iter().map(share).collect::<Vec<_>>().join(" | ");
        let _ = writeln!(text, "| `{}` | {shares} |", first.row);
    }
    text.push('\n');
    text
}

fn markdown(gpus: &[&Gpu], rows: &[Row]) -> String {
    let mut text = String::new();
    for gpu in gpus {
        let _ = writeln!(text, "\n### {}\n", gpu.name);
        text +=
            "| row | modelled | measured | floor | target | ratio | launches |\n|---|---:|---:|---:|---:|---:|---:|\n";
        for row in rows.iter().filter(|row| row.gpu == gpu.name) {
            let number = |value: Option<f64>| value.map(digits).unwrap_or_default();
            let ratio = row.target.map(|target| format!("{:.2}", row.worse_than(target)));
            let _ = writeln!(
                text,
                "| `{}` | {} {} | | {} | {} | {} | {} |",
                row.row,
                digits(row.value),
                row.unit.name(),
                number(row.floor),
                number(row.target),
                ratio.unwrap_or_default(),
                row.launches
            );
        }
    }
    text.push('\n');
    text
}
