//! A prompt that does not fit its cache.

use crate::{Folder, assert_refused, printed, program, run, stdout};
use std::fs;
use std::process::Command;

fn retention() -> Command {
    program(env!("CARGO_BIN_EXE_retention"))
}

#[test]
fn a_head_that_sees_the_needle_keeps_it() {
    let report = printed(retention(), &["--check"]);
    assert!(report.contains("head 0     KEPT, 8 of 8"), "{report}");
    assert!(report.contains("head 1     LOST, 0 of 8"), "{report}");
    assert!(report.contains("check      passed"), "{report}");
    // The answer is the needle's value where it is there, and something else where it is not.
    assert!(
        report.contains("the answer is 1.00 of") || report.contains("the answer is 0.99 of"),
        "{report}"
    );
}

#[test]
fn the_question_scores_keys_of_every_head() {
    let report = printed(retention(), &["--check", "--by", "question"]);
    assert!(report.contains("head 1     KEPT, 8 of 8"), "{report}");
    assert!(report.contains("check      passed"), "{report}");
}

/// A needle that nothing sees is dropped, and the check says so.
#[test]
fn a_check_can_fail() {
    let output = run(retention(), &["--check", "--needle-score", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("tokens of the needle are kept instead of"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn what_was_kept_is_drawn() {
    let folder = Folder::new("retention");
    let picture = folder.argument("kept.svg");
    let options = [
        "--tokens",
        "4096",
        "--budget",
        "600",
        "--chunk",
        "512",
        "--stabilizers",
        "100",
        "--svg",
        &picture,
    ];
    printed(retention(), &options);
    let picture = fs::read_to_string(&picture).expect("the picture is written");
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("head 1: share") && picture.matches("<rect").count() > 100);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let cases: [(&[&str], &[&str]); 4] = [
        (
            &["--budget", "1000", "--stabilizers", "1001"],
            &["--stabilizers", "1000"],
        ),
        (&["--depth", "2"], &["--depth", "0 to 1"]),
        (&["--tokens", "12"], &["--tokens"]),
        (
            &[
                "--tokens",
                "1024",
                "--budget",
                "64",
                "--stabilizers",
                "9",
                "--svg",
                "/nonexistent/a.svg",
            ],
            &["cannot write"],
        ),
    ];
    for (arguments, words) in cases {
        assert_refused(retention(), arguments, words);
    }
}
