//! The layers of the released model and of a small one.

use crate::{Folder, assert_refused, printed, program};
use sala_testkit::devices;
use std::process::Command;

fn sala_layers() -> Command {
    program(env!("CARGO_BIN_EXE_sala_layers"))
}

#[test]
fn the_layers_of_the_released_model_are_counted() {
    let report = printed(sala_layers(), &["--length", "130"]);
    assert!(report.contains("sparse layers  0 9 16 17 22 29 30 31 "), "{report}");
    for operation in [
        "append_keys",
        "compress_keys",
        "select_blocks",
        "sparse_attention",
        "norm_rope",
        "norm_gate",
        "linear_attention prefill",
        "linear_attention decode",
    ] {
        assert!(report.contains(operation), "{operation} is missing:\n{report}");
    }
    assert!(report.contains("FLOP") && !report.contains("NaN"), "{report}");
    assert!(report.contains("wall time") && !report.contains("GPU time"), "{report}");
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
    let folder = Folder::new("layers");
    let config = folder.write("config.json", SMALL_MODEL);
    let report = printed(sala_layers(), &["--config", &config, "--length", "480"]);
    assert!(report.contains("go from dense to sparse at 512 tokens"), "{report}");
    assert!(
        report.contains("4 query and 2 key heads of 64; 4 blocks of 64 per token"),
        "{report}"
    );
    let never_dense = printed(
        sala_layers(),
        &["--config", &config, "--length", "480", "--dense-len", "0"],
    );
    assert!(never_dense.contains("block-sparse attention"), "{never_dense}");
    for page_size in ["16", "128"] {
        let in_pages = ["--config", &config, "--length", "480", "--page-size", page_size];
        let report = printed(sala_layers(), &in_pages);
        assert!(report.contains("append_keys"), "{report}");
    }
}

#[test]
fn layers_run_on_a_gpu_as_on_the_cpu() {
    if devices::cuda().is_none() {
        return;
    }
    let report = printed(sala_layers(), &["--length", "300", "--device", "cuda"]);
    let difference = report.lines().find(|line| line.starts_with("largest difference"));
    println!("{}", difference.expect("both devices are compared"));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let folder = Folder::new("layers-refusals");
    let with = |name: &str, before: &str, after: &str| folder.write(name, &SMALL_MODEL.replace(before, after));
    let without_field = with("field.json", "\"head_dim\": 64,", "");
    let odd_dim = with("dim.json", "\"head_dim\": 64,", "\"head_dim\": 80,");
    let odd_window = with("window.json", "\"window_size\": 64", "\"window_size\": 60");
    let text = folder.write("config.txt", "hidden_size = 4096\n");
    let half = folder.write("half.json", &SMALL_MODEL[..100]);
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--config", "/nonexistent"], &["/nonexistent"]),
        (&["--config", &without_field], &["head_dim"]),
        (&["--config", &odd_dim], &["dim", "64 or 128"]),
        (&["--config", &odd_window], &["window_size", "block_size"]),
        (&["--config", &text], &["config.txt", "not JSON"]),
        (&["--config", &half], &["half.json", "not JSON"]),
        (&["--length", "0"], &["--length"]),
        (&["--page-size", "24"], &["power of two"]),
        (&["--times-only"], &["--device cuda"]),
    ];
    for (arguments, words) in cases {
        assert_refused(sala_layers(), arguments, words);
    }
}
