//! The engine in miniature.

use crate::{assert_refused, printed, program, run, stderr, stdout};
use sala_testkit::devices;
use std::fs;
use std::path::Path;
use std::process::Command;

fn serve() -> Command {
    program(env!("CARGO_BIN_EXE_serve"))
}

/// The check itself fails if a run lacks what it is to be judged with: a step of prompts and decoding sequences, a prefix that was found, a fork, a
/// sequence that left and came back, drafts that were accepted and others that were not.
#[test]
fn every_token_is_that_of_a_naive_decoder() {
    let report = printed(serve(), &["--check"]);
    println!("{report}");
    assert!(report.ends_with("all is well\n"), "{report}");
    for name in ["plain", "all at once", "chain, all at once", "tree, all at once"] {
        assert!(report.contains(&format!("{name}: ")), "{name} is missing:\n{report}");
    }
}

#[test]
fn other_weights_are_judged_as_well() {
    for seed in ["2", "3"] {
        let report = printed(serve(), &["--check", "--little", "--seed", seed]);
        assert!(report.ends_with("all is well\n"), "seed {seed}: {report}");
    }
}

#[test]
fn a_gpu_serves_as_the_cpu_does() {
    if devices::cuda().is_none() {
        return;
    }
    let report = printed(serve(), &["--check", "--little", "--device", "cuda"]);
    println!("{report}");
    assert!(report.ends_with("all is well\n"), "{report}");
}

#[test]
fn serving_says_what_it_costs() {
    let output = run(serve(), &["--little", "--speculate", "tree"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(
        stderr(&output).is_empty(),
        "nothing moves without a terminal: {}",
        stderr(&output)
    );
    for operation in [
        "append_keys",
        "compress_keys",
        "select_blocks",
        "sparse_attention",
        "sparse_attention decode",
        "commit_keys",
        "norm_rope",
        "linear_prefill",
        "linear_verify",
        "linear_commit",
        "copy_states",
        "norm_gate",
    ] {
        let is_row = |line: &str| line.split("  ").next() == Some(operation);
        assert!(said.lines().any(is_row), "{operation} is missing:\n{said}");
    }
    for word in ["tokens/s", "pages in use", "tokens per turn"] {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }
    let answers = said.lines().filter(|line| line.starts_with("request "));
    assert_eq!(answers.count(), 4, "{said}");
}

#[test]
fn what_cannot_be_done_is_refused() {
    assert_refused(serve(), &["--speculate", "sideways"], &["sideways", "chain", "tree"]);
    if devices::cuda().is_none() {
        assert_refused(serve(), &["--device", "cuda"], &["CUDA"]);
    }
}

/// Each block of Rust in the page about the engine stands in the engine, line by line.
#[test]
fn the_page_about_engines_quotes_this_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join("demos/src/bin/serve");
    if !folder.exists() {
        println!("skipped: the sources are not here");
        return;
    }
    let lines = |text: &str| -> String { text.lines().map(|line| format!("{}\n", line.trim())).collect() };
    let sources = fs::read_dir(folder).expect("a folder").flatten();
    let sources: Vec<String> = sources
        .map(|file| lines(&fs::read_to_string(file.path()).expect("a source")))
        .collect();
    let page = fs::read_to_string(root.join("docs/engine.md")).expect("the page");
    let quotes: Vec<&str> = page
        .split("```rust")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!quotes.is_empty(), "the page quotes the engine");
    for quote in quotes {
        let code = quote.split_once('\n').map_or("", |(_, code)| code);
        let is_there = sources.iter().any(|source| source.contains(&lines(code)));
        assert!(is_there, "no source has:\n{code}");
    }
}
