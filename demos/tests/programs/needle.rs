//! The needle in a text of a few thousand words.

use crate::{Folder, assert_refused, printed, program};
use sala_testkit::numbers::Numbers;
use std::fs;
use std::process::Command;

fn needle() -> Command {
    program(env!("CARGO_BIN_EXE_needle"))
}

/// The colour of axes and captions, which means nothing.
const FAINT: &str = "656d76";

/// Sentences of invented words, common ones and rare ones.
fn prose() -> String {
    let mut numbers = Numbers::new(7);
    let mut sentence = |length: usize| -> String {
        let words = (0..length).map(|_| format!("w{}", (400.0 * numbers.uniform().powi(3)) as u32));
        words.collect::<Vec<_>>().join(" ")
    };
    (0..400).map(|_| sentence(12) + ".\n").collect()
}

#[test]
fn the_needle_is_found_and_drawn() {
    let folder = Folder::new("found");
    let text = folder.write("prose.txt", &prose());
    let map = folder.argument("map.svg");
    let arguments = ["--text", &text, "--map", &map, "--tokens", "4096", "--blocks", "12"];
    let report = printed(needle(), &arguments);
    assert!(
        report.contains("CHOSEN by") && !report.contains("NOT CHOSEN"),
        "{report}"
    );
    assert!(report.contains("answer     crooked"), "{report}");
    let picture = fs::read_to_string(&map).expect("the map is written");
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("the needle is hidden here"));
    // Every colour of the labels has an entry in the legend.
    let legend: Vec<_> = picture
        .lines()
        .filter(|line| line.starts_with("<rect ") && line.contains("width=\"16.0\""))
        .collect();
    for line in picture.lines().filter(|line| line.starts_with("<text ")) {
        let colour = line.split("fill=\"#").nth(1).and_then(|rest| rest.split('"').next());
        let explained = |colour: &str| legend.iter().any(|entry| entry.contains(colour)) || colour == FAINT;
        assert!(colour.is_none_or(explained), "no legend for {line}");
    }
    assert!(picture.contains("the labels of the words that read it"), "{picture}");
}

#[test]
fn what_cannot_be_done_is_refused() {
    let folder = Folder::new("needle-refusals");
    let short = folder.write("short.txt", "a text of seven words and one\n");
    let map = folder.argument("map.svg");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--text", &short], &["7 tokens", "--tokens", "--text"]),
        (&["--text", "/nonexistent"], &["/nonexistent"]),
        (&["--depth", "2"], &["--depth", "0 to 1"]),
        (&["--text", &short, "--needle", " "], &["at least one word"]),
        (&["--blocks", "3"], &["--blocks"]),
    ];
    for (arguments, words) in cases {
        assert_refused(needle(), &[&["--map", &map], arguments].concat(), words);
    }
    assert!(!folder.file("map.svg").exists());
}

#[test]
fn a_map_that_cannot_be_written_is_refused_before_the_text_is_read() {
    let folder = Folder::new("unwritable");
    let text = folder.write("prose.txt", &prose());
    let output = crate::run(
        needle(),
        &["--text", &text, "--tokens", "4096", "--map", "/nonexistent/map.svg"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "{}", crate::stdout(&output));
    assert!(crate::stderr(&output).contains("cannot write /nonexistent/map.svg"));
}
