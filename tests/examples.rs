//! The examples as a newcomer meets them: they do what they say, and refuse what they cannot do with a sentence.

use sala_testkit::cases::Numbers;
use sala_testkit::devices;
use sala_testkit::examples::example;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn run(name: &'static str, arguments: &[&str]) -> Output {
    let mut command = Command::new(example(name));
    command.args(arguments).output().expect("the example runs")
}

/// What a successful run prints.
fn printed(name: &'static str, arguments: &[&str]) -> String {
    let output = run(name, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A run that ends with status 2 and one complaint that has all of `words`.
fn assert_refused(name: &'static str, arguments: &[&str], words: &[&str]) {
    let output = run(name, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}: {errors}");
    assert!(!errors.contains("panicked"), "{name} {arguments:?}: {errors}");
    for word in words {
        assert!(
            errors.contains(word),
            "{name} {arguments:?} should name {word:?}: {errors}"
        );
    }
}

/// A file for one test, gone at its end.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, content: &str) -> TemporaryFile {
        let path = std::env::temp_dir().join(format!("sala-examples-{}-{name}", std::process::id()));
        fs::write(&path, content).expect("the temporary folder is writable");
        TemporaryFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the temporary folder has a name in UTF-8")
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

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
    let text = TemporaryFile::new("prose.txt", &prose());
    let map = TemporaryFile::new("map.svg", "");
    let arguments = [
        "--text",
        text.path(),
        "--map",
        map.path(),
        "--tokens",
        "4096",
        "--blocks",
        "12",
    ];
    let report = printed("needle", &arguments);
    assert!(
        report.contains("CHOSEN by") && !report.contains("NOT CHOSEN"),
        "{report}"
    );
    assert!(report.contains("answer     crooked"), "{report}");
    let picture = fs::read_to_string(&map.0).expect("the map is written");
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("the needle is hidden here"));
}

#[test]
fn the_needle_example_refuses_what_it_cannot_do() {
    let short = TemporaryFile::new("short.txt", "a text of seven words and one\n");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--text", short.path()], &["7 tokens", "--tokens", "--text"]),
        (&["--text", "/nonexistent"], &["/nonexistent"]),
        (&["--depth", "2"], &["--depth", "0 to 1"]),
        (&["--text", short.path(), "--needle", " "], &["at least one word"]),
        (&["--blocks", "3"], &["--blocks"]),
    ];
    for (arguments, words) in cases {
        assert_refused("needle", arguments, words);
    }
}

#[test]
fn the_layers_of_the_released_model_are_counted() {
    let report = printed("sala_layers", &["--length", "130"]);
    assert!(report.contains("sparse layers  0 9 16 17 22 29 30 31 "), "{report}");
    for operation in [
        "compress_keys",
        "select_blocks",
        "sparse_attention",
        "linear_attention prefill",
        "linear_attention decode",
    ] {
        assert!(report.contains(operation), "{operation} is missing:\n{report}");
    }
    assert!(report.contains("FLOP") && !report.contains("NaN"), "{report}");
}

/// A model small enough to go through block selection: dense below 512 tokens, which decoding passes.
const SMALL_MODEL: &str = r#"{
    "num_hidden_layers": 2, "mixer_types": ["minicpm4", "lightning-attn"], "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "attn_use_output_gate": true,
    "sparse_config": {
        "kernel_size": 32, "kernel_stride": 16, "init_blocks": 1, "block_size": 64, "window_size": 64, "topk": 3, "dense_len": 512
    },
    "lightning_nh": 2, "lightning_nkv": 2, "lightning_head_dim": 64, "lightning_scale": "1/sqrt(d)", "lightning_use_rope": true,
    "qk_norm": true, "use_output_norm": true, "use_output_gate": true
}"#;

#[test]
fn layers_are_as_the_config_says() {
    let config = TemporaryFile::new("config.json", SMALL_MODEL);
    let report = printed("sala_layers", &["--config", config.path(), "--length", "480"]);
    assert!(report.contains("go from dense to sparse at 512 tokens"), "{report}");
    assert!(
        report.contains("4 query and 2 key heads of 64; 4 blocks of 64 a token"),
        "{report}"
    );
}

#[test]
fn layers_run_on_a_gpu_as_on_the_cpu() {
    if devices::cuda().is_none() {
        return;
    }
    let report = printed("sala_layers", &["--length", "300", "--device", "cuda"]);
    let difference = report.lines().find(|line| line.starts_with("largest difference"));
    println!("{}", difference.expect("both devices are compared"));
}

#[test]
fn the_layers_example_refuses_what_it_cannot_do() {
    let without_field = TemporaryFile::new("field.json", &SMALL_MODEL.replace("\"head_dim\": 64,", ""));
    let odd_dim = TemporaryFile::new(
        "dim.json",
        &SMALL_MODEL.replace("\"head_dim\": 64,", "\"head_dim\": 80,"),
    );
    let odd_window = TemporaryFile::new(
        "window.json",
        &SMALL_MODEL.replace("\"window_size\": 64", "\"window_size\": 60"),
    );
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--config", "/nonexistent"], &["/nonexistent"]),
        (&["--config", without_field.path()], &["head_dim"]),
        (&["--config", odd_dim.path()], &["dim", "64 or 128"]),
        (&["--config", odd_window.path()], &["window_size", "block_size"]),
        (&["--length", "0"], &["--length"]),
        (&["--times-only"], &["--device cuda"]),
    ];
    for (arguments, words) in cases {
        assert_refused("sala_layers", arguments, words);
    }
}
