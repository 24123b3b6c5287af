//! Prompts over several ranks: every mode is right with any number of them, and its costs are what docs/parallel.md says.

use crate::{assert_refused, printed, program};
use std::process::Command;

fn context_parallel() -> Command {
    program(env!("CARGO_BIN_EXE_context_parallel"))
}

/// Small enough to take a second.
const SIZES: [&str; 6] = ["--tokens", "512", "--anchor", "16", "--passed", "8"];

fn report(arguments: &[&str]) -> String {
    printed(context_parallel(), &[arguments, &SIZES].concat())
}

#[test]
fn every_mode_is_right_with_any_number_of_ranks() {
    for (ranks, layout) in [("1", "zigzag"), ("2", "contiguous"), ("4", "zigzag")] {
        let report = report(&["--check", "--ranks", ranks, "--layout", layout]);
        assert_eq!(
            report.matches("  right: ").count(),
            5,
            "{ranks} ranks, {layout}:\n{report}"
        );
        assert!(report.contains("the bits of one device"), "{report}");
    }
}

/// The numbers of a column, by rank.
fn column(report: &str, index: usize) -> Vec<f64> {
    let rows = report.lines().filter(|line| line.contains(" kB "));
    let cell = |row: &str| row.split_whitespace().nth(index).and_then(|cell| cell.parse().ok());
    rows.map(|row| cell(row).expect("a number")).collect()
}

const RECEIVED: usize = 1;
const BALANCE: usize = 5;

#[test]
fn bytes_are_those_of_the_formulas() {
    // Four ranks, 512 tokens; 4 query and 2 kv heads of 64 channels.
    let received = |mode: &str| column(&report(&["--mode", mode]), RECEIVED);
    let kilobytes = |bytes: usize| (bytes as f64 / 100.0).round() / 10.0;
    assert_eq!(received("exact"), [kilobytes(4 * (512 - 128) * 2 * 64); 4]);
    assert_eq!(received("decode"), [kilobytes(3 * 4 * (2 * 64 + 4)); 4]);
    assert_eq!(received("apb"), [kilobytes(4 * 3 * 8 * 2 * 64); 4]);
    assert_eq!(received("spava"), [kilobytes(2 * 4 * 3 * 8 * 2 * 64); 4]);
    let states = column(&report(&["--mode", "linear", "--layout", "contiguous"]), RECEIVED);
    assert_eq!(states, [kilobytes(4 * 3 * 4 * (64 * 64 + 1)); 4]);
}

#[test]
fn zigzag_balances_what_contiguous_parts_do_not() {
    let largest = |arguments: &[&str]| column(&report(arguments), BALANCE).into_iter().fold(0.0, f64::max);
    assert!(largest(&["--mode", "exact", "--layout", "contiguous"]) > 1.5);
    assert!(largest(&["--mode", "exact", "--layout", "zigzag"]) < 1.05);
    assert!(largest(&["--mode", "spava"]) < 1.1);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--ranks", "9"], &["--ranks"]),
        (&["--ranks", "3", "--tokens", "512"], &["multiple of 128", "3 ranks"]),
        (&["--anchor", "0"], &["--anchor 0"]),
        (&["--passed", "100", "--anchor", "100"], &["--passed 100", "128"]),
        (&["--nccl"], &["--nccl"]),
    ];
    for (arguments, words) in cases {
        assert_refused(context_parallel(), arguments, words);
    }
}
