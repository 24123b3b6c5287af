//! The price list has the rows that callers rely on, and its gate sees a row that is worse. The first run compiles the kernels.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The exit code of `xtask` on a machine without nvcc.
const NO_NVCC: i32 = 2;

const ROWS: [&str; 32] = [
    "sparse_prefill_useful_tflops_overlap_90",
    "sparse_prefill_useful_tflops_overlap_70",
    "sparse_prefill_useful_tflops_overlap_50",
    "sparse_prefill_useful_tflops_random",
    "select_prefill_step_clk",
    "select_prefill_ms_128k",
    "select_prefill_ms_256k",
    "select_prefill_ms_1m",
    "sparse_layer_prefill_ms_128k",
    "sparse_layer_prefill_ms_256k",
    "sparse_layer_prefill_ms_1m",
    "decode_select_us_128k",
    "decode_select_us_1m",
    "decode_attend_us",
    "decode_select_us_b64",
    "decode_attend_us_b64",
    "dense_prefill_tflops_8k",
    "linear_prefill_ms_b1_64k",
    "linear_prefill_ms_b1_1m",
    "linear_prefill_ms_b4_64k",
    "linear_decode_us_b1",
    "linear_decode_us_b64",
    "sparse_prefill_sm90a_useful_tflops_overlap_90",
    "sparse_prefill_sm90a_useful_tflops_overlap_70",
    "sparse_prefill_sm90a_useful_tflops_overlap_50",
    "sparse_prefill_sm90a_useful_tflops_random",
    "select_prefill_sm90a_step_clk",
    "select_prefill_sm90a_skip_clk",
    "select_prefill_sm90a_useful_tflops_128k",
    "select_prefill_sm90a_useful_tflops_256k",
    "select_prefill_sm90a_useful_tflops_1m",
    "dense_prefill_sm90a_tflops_8k",
];

const FIELDS: [&str; 9] = [
    "floor", "gpu", "kind", "launches", "level", "row", "target", "unit", "value",
];

fn price(arguments: &[&str]) -> Output {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.arg("price").args(arguments).output().expect("run xtask")
}

/// The rows of an H100 as text; `None` where they cannot be made here.
fn rows() -> Option<String> {
    let output = price(&["--gpu", "h100", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_NVCC) && std::env::var_os("SALA_REQUIRE_TOOLS").is_none() {
        eprintln!("skipped: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn rows_are_those_of_the_specification() {
    let Some(text) = rows() else { return };
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let names: Vec<&str> = rows.iter().filter_map(|row| row["row"].as_str()).collect();
    assert_eq!(names, ROWS);
    for row in &rows {
        let mut fields: Vec<&str> = row.as_object().expect("an object").keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, FIELDS);
        let level = match row["row"].as_str() {
            Some(name) if name.contains("sm90a") => "sm90a",
            _ => "base",
        };
        assert_eq!(
            (&row["gpu"], &row["level"], &row["kind"]),
            (&"H100".into(), &level.into(), &"modelled".into())
        );
        let (value, floor) = (
            row["value"].as_f64().expect("a number"),
            row["floor"].as_f64().expect("a number"),
        );
        let is_rate = row["unit"] == "TFLOP/s";
        assert!(
            if is_rate { value <= floor } else { value >= floor },
            "{row} beats its floor"
        );
    }
}

#[test]
fn the_gate_lets_noise_pass_and_no_more() {
    let Some(text) = rows() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Rows that were better by so much than they are now, times and rates alike.
    let gate = |better: f64, name: &str| {
        let lines = text.lines().map(|line| {
            let mut row: Value = serde_json::from_str(line).expect(line);
            let value = row["value"].as_f64().expect("a number");
            let is_rate = row["unit"] == "TFLOP/s";
            row["value"] = (if is_rate { value * better } else { value / better }).into();
            row.to_string()
        });
        let file = folder.join(name);
        fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("write the earlier list");
        price(&["--gpu", "H100", "--gate", &file.display().to_string()])
    };
    assert_eq!(gate(1.03, "noise.json").status.code(), Some(0));
    let worse = gate(1.05, "worse.json");
    let said = String::from_utf8_lossy(&worse.stderr);
    assert_eq!(worse.status.code(), Some(1));
    assert!(ROWS.iter().all(|row| said.contains(row)), "{said}");
}

#[test]
fn tables_fit_a_terminal() {
    let output = price(&["--gpu", "h100,H100"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

#[test]
fn an_unknown_gpu_is_answered_with_those_there_are() {
    let output = price(&["--gpu", "V100"]);
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(NO_NVCC) {
        assert!(said.contains("V100") && said.contains("RTX5090"), "{said}");
    }
}
