//! Replay files: the vectors on every device, and the program with good files and every kind of bad one.

use crate::{Folder, printed, program, run, stderr, stdout};
use sala_kernels::Device;
use sala_testkit::devices::all;
use sala_testkit::replay::{Replay, vector_files};
use sala_testkit::safetensors::tensor::TensorView;
use sala_testkit::safetensors::{Dtype, SafeTensors, serialize_to_file};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Output;

#[test]
fn vectors_pass_on_every_device() {
    let files = vector_files().expect("the vectors are there");
    assert!(files.len() >= 7, "only {} vectors", files.len());
    for machine in all() {
        for path in &files {
            let replay = Replay::load(path).unwrap_or_else(|error| panic!("{error}"));
            let context = format!("{} on {}", path.display(), machine.name);
            let (results, _) = replay
                .run(&machine)
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            replay.judge(&results).assert(&context);
        }
    }
}

fn replay(arguments: &[&str]) -> Output {
    run(program(env!("CARGO_BIN_EXE_replay")), arguments)
}

/// A file to be written, good until something is changed.
#[derive(Clone)]
struct Draft {
    metadata: HashMap<String, String>,
    tensors: HashMap<&'static str, (Dtype, Vec<usize>, Vec<u8>)>,
}

const BF16_ONE: [u8; 2] = 0x3f80u16.to_le_bytes();

impl Draft {
    /// Linear attention over two sequences of 3 and 2 tokens, everything one and nothing decaying.
    fn linear() -> Draft {
        let mut draft = Draft {
            metadata: HashMap::new(),
            tensors: HashMap::new(),
        };
        draft.set("op", "linear_attention");
        draft.set("scale", "0.125");
        for name in ["q", "k", "v"] {
            draft.ones(name, &[5, 1, 64]);
        }
        draft.indices("cu_seqlens", &[0, 3, 5]);
        draft.floats("log_decay", &[1], &[0.0]);
        draft
    }

    /// Sparse attention of the last 70 queries of 200 keys.
    fn sparse() -> Draft {
        let mut draft = Draft {
            metadata: HashMap::new(),
            tensors: HashMap::new(),
        };
        for (name, value) in [
            ("op", "sparse_attention"),
            ("scale", "0.125"),
            ("block_size", "64"),
            ("topk", "2"),
            ("init_blocks", "1"),
            ("local_blocks", "0"),
            ("kernel_size", "32"),
            ("kernel_stride", "16"),
            ("dense_len", "0"),
            ("lse", "coarse"),
        ] {
            draft.set(name, value);
        }
        draft.ones("q", &[70, 2, 64]);
        draft.ones("k", &[200, 1, 64]);
        draft.ones("v", &[200, 1, 64]);
        draft.indices("cu_seqlens_q", &[0, 70]);
        draft.indices("cu_seqlens_k", &[0, 200]);
        draft
    }

    fn set(&mut self, name: &str, value: &str) {
        self.metadata.insert(name.into(), value.into());
    }

    fn ones(&mut self, name: &'static str, shape: &[usize]) {
        self.tensor(name, Dtype::BF16, shape, BF16_ONE.repeat(shape.iter().product()));
    }

    fn indices(&mut self, name: &'static str, values: &[i32]) {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, Dtype::I32, &[values.len()], bytes);
    }

    fn floats(&mut self, name: &'static str, shape: &[usize], values: &[f32]) {
        self.tensor(
            name,
            Dtype::F32,
            shape,
            values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        );
    }

    fn tensor(&mut self, name: &'static str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.insert(name, (dtype, shape.to_vec(), bytes));
    }

    fn write(&self, path: &Path) {
        let views = self.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (
                *name,
                TensorView::new(*dtype, shape.clone(), bytes).expect("drafts have consistent tensors"),
            )
        });
        serialize_to_file(views, Some(self.metadata.clone()), path).expect("drafts can be written");
    }
}

/// What is changed in a draft, and the words that the sentence about it must hold.
type Fault = (fn(&mut Draft), &'static [&'static str]);

fn drop_metadata(draft: &mut Draft, name: &str) {
    draft.metadata.remove(name).expect("it was there");
}

fn drop_tensor(draft: &mut Draft, name: &str) {
    draft.tensors.remove(name).expect("it was there");
}

const LINEAR_FAULTS: [Fault; 28] = [
    (|d| drop_metadata(d, "op"), &["`op`"]),
    (
        |d| d.set("op", "softmax_attention"),
        &["`op`", "`softmax_attention`", "`linear_attention`"],
    ),
    (|d| drop_metadata(d, "scale"), &["`scale`"]),
    (|d| d.set("scale", "NaN"), &["`scale`", "finite"]),
    (|d| d.set("scale", "inf"), &["`scale`", "finite"]),
    (|d| d.set("scale", "one"), &["`scale`", "`one`"]),
    (|d| drop_tensor(d, "q"), &["no tensor `q`"]),
    (|d| drop_tensor(d, "k"), &["no tensor `k`"]),
    (|d| drop_tensor(d, "v"), &["no tensor `v`"]),
    (|d| drop_tensor(d, "cu_seqlens"), &["no tensor `cu_seqlens`"]),
    (|d| drop_tensor(d, "log_decay"), &["no tensor `log_decay`"]),
    (|d| d.ones("q", &[5, 64]), &["`q`", "[5, 64]", "three axes"]),
    (|d| d.ones("q", &[5, 0, 64]), &["`q`", "[5, 0, 64]", "heads"]),
    (|d| d.ones("q", &[0, 1 << 40, 64]), &["`q`", "heads"]),
    (|d| d.ones("k", &[4, 1, 64]), &["`k`", "[4, 1, 64]", "[5, 1, 64]"]),
    (|d| d.ones("v", &[5, 2, 64]), &["`v`", "[5, 2, 64]", "[5, 1, 64]"]),
    (
        |d| d.floats("q", &[5, 1, 64], &[1.0; 320]),
        &["`q`", "F32", "BF16 or F16"],
    ),
    (
        |d| d.tensor("k", Dtype::F16, &[5, 1, 64], vec![0; 640]),
        &["`k`", "f16", "bf16", "`q`"],
    ),
    (
        |d| d.floats("cu_seqlens", &[3], &[0.0, 3.0, 5.0]),
        &["`cu_seqlens`", "F32", "I32"],
    ),
    (
        |d| d.indices("cu_seqlens", &[0, 4, 3, 5]),
        &["`cu_seqlens`", "[0, 4, 3, 5]"],
    ),
    (|d| d.indices("cu_seqlens", &[1, 3, 5]), &["`cu_seqlens`", "0 to 5"]),
    (|d| d.indices("cu_seqlens", &[0, 3, 6]), &["`cu_seqlens`", "0 to 5"]),
    (|d| d.indices("cu_seqlens", &[]), &["`cu_seqlens`", "[batch + 1]"]),
    (
        |d| d.floats("log_decay", &[2], &[0.0; 2]),
        &["`log_decay`", "[2]", "[5, 1]"],
    ),
    (|d| d.floats("log_decay", &[1], &[0.5]), &["`log_decay`", "0.5"]),
    (|d| d.floats("log_decay", &[1], &[f32::NAN]), &["`log_decay`", "NaN"]),
    (
        |d| d.floats("initial_state", &[1, 1, 64, 64], &[0.0; 4096]),
        &["`initial_state`", "[2, 1, 64, 64]"],
    ),
    (
        |d| d.floats("inital_state", &[1], &[0.0]),
        &["`inital_state`", "does not know"],
    ),
];

const SPARSE_FAULTS: [Fault; 18] = [
    (|d| drop_metadata(d, "dense_len"), &["`dense_len`"]),
    (|d| d.set("block_size", "48"), &["`block_size`", "48"]),
    (|d| d.set("block_size", "-64"), &["`block_size`", "whole number"]),
    (|d| d.set("kernel_size", "16"), &["`kernel_size`", "32"]),
    (|d| d.set("kernel_stride", "8"), &["`kernel_stride`", "16"]),
    (|d| d.set("topk", "1"), &["`init_blocks`", "`topk`"]),
    (|d| d.set("topk", "4000000000"), &["`topk`", "4096"]),
    (|d| d.set("lse", "fine"), &["`lse`", "`fine`"]),
    (|d| d.set("causal", "false"), &["`causal`", "`false`"]),
    (|d| d.ones("k", &[200, 3, 64]), &["`q`", "multiple of the 3"]),
    (|d| d.ones("k", &[200, 1, 128]), &["`k`", "[200, 1, 64]"]),
    (
        |d| d.indices("cu_seqlens_k", &[0, 100, 200]),
        &["`cu_seqlens_k`", "3 entries"],
    ),
    (
        |d| {
            d.indices("cu_seqlens_q", &[0, 60, 70]);
            d.indices("cu_seqlens_k", &[0, 10, 200]);
        },
        &["`cu_seqlens_q`", "sequence 0", "60 queries"],
    ),
    (|d| d.indices("block_indices", &[0, 1]), &["`block_indices`", "[70, 1"]),
    (
        |d| d.floats("expected.margin", &[70], &[0.0; 70]),
        &["`expected.margin`", "[70, 1]"],
    ),
    (
        |d| d.floats("expected.block_scores", &[70], &[0.0; 70]),
        &["`expected.block_scores`", "[1, 70"],
    ),
    (
        |d| d.ones("expected.out", &[70, 2, 64]),
        &["`expected.out`", "BF16", "F16 or F32"],
    ),
    (|d| d.indices("expected.lse", &[0]), &["`expected.lse`", "[70, 2]"]),
];

/// Writes one file per fault; gives each with the words for it.
fn bad_files(folder: &Folder) -> Vec<(PathBuf, &'static [&'static str])> {
    let mut files = Vec::new();
    for (kind, good, faults) in [
        ("linear", Draft::linear(), &LINEAR_FAULTS[..]),
        ("sparse", Draft::sparse(), &SPARSE_FAULTS[..]),
    ] {
        for (index, (change, words)) in faults.iter().enumerate() {
            let mut draft = good.clone();
            change(&mut draft);
            let path = folder.file(&format!("{kind}-{index}.safetensors"));
            draft.write(&path);
            files.push((path, *words));
        }
    }

    let whole = folder.file("whole.safetensors");
    Draft::linear().write(&whole);
    let bytes = std::fs::read(&whole).expect("it was written");
    for (name, length) in [("no-header", 5), ("half-header", 100), ("no-data", bytes.len() - 1)] {
        let path = folder.file(&format!("{name}.safetensors"));
        std::fs::write(&path, &bytes[..length]).expect("it can be written");
        files.push((path, &["not a complete safetensors file"]));
    }
    let text = folder.file("text.safetensors");
    std::fs::write(&text, "this is no replay file, whatever its name says").expect("it can be written");
    files.push((text, &["not a complete safetensors file"]));
    files.push((folder.file("absent.safetensors"), &["cannot be read"]));
    files.push((folder.file(""), &["cannot be read"]));
    files
}

#[test]
fn every_unusable_file_is_refused_with_a_sentence() {
    let folder = Folder::new("sentences");
    for draft in [Draft::linear(), Draft::sparse()] {
        let path = folder.file("good.safetensors");
        draft.write(&path);
        Replay::load(&path).unwrap_or_else(|error| panic!("{error}"));
    }
    for (path, words) in bad_files(&folder) {
        let sentence = match Replay::load(&path) {
            Err(unusable) => unusable.to_string(),
            Ok(_) => panic!("{} loads, expected a sentence with {words:?}", path.display()),
        };
        println!("{sentence}");
        assert!(sentence.starts_with(&path.display().to_string()), "{sentence}");
        assert!(!sentence.contains('\n'), "more than a line: {sentence}");
        for word in words {
            assert!(sentence.contains(word), "no {word:?} in: {sentence}");
        }
    }
}

#[test]
fn damaged_files_do_not_panic() {
    let folder = Folder::new("damage");
    for draft in [Draft::linear(), Draft::sparse()] {
        let path = folder.file("good.safetensors");
        draft.write(&path);
        let bytes = std::fs::read(&path).expect("it was written");
        for length in (0..bytes.len()).step_by(bytes.len() / 500) {
            assert!(
                Replay::from_bytes(&path, &bytes[..length]).is_err(),
                "loads with {length} bytes"
            );
        }
        // Every bit of the header's start, where lengths, names, types and shapes stand; some of it is still a good file.
        for bit in 0..8 * 1500 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = Replay::from_bytes(&path, &damaged);
        }
    }
}

#[test]
fn unusable_files_do_not_keep_others_from_running() {
    let folder = Folder::new("others");
    let good = folder.file("good.safetensors");
    Draft::linear().write(&good);
    // A head size that no kernel has: the file is fine, but not on this device.
    let odd = folder.file("odd.safetensors");
    let mut draft = Draft::linear();
    for name in ["q", "k", "v"] {
        draft.ones(name, &[5, 1, 96]);
    }
    draft.write(&odd);

    let bad = bad_files(&folder);
    let mut arguments: Vec<String> = bad.iter().map(|(path, _)| path.display().to_string()).collect();
    arguments.insert(0, odd.display().to_string());
    arguments.push(good.display().to_string());
    let output = replay(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (said, sentences) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(2), "{said}{sentences}");
    assert_eq!(
        sentences.lines().count(),
        bad.len() + 1,
        "one sentence per file: {sentences}"
    );
    assert!(!sentences.contains("panicked"), "{sentences}");
    assert!(sentences.contains("dim_k"), "{sentences}");
    assert!(
        said.contains("good.safetensors: linear_attention T=5 B=2 H=1 D=64x64 bf16 on host"),
        "{said}"
    );
    assert!(said.ends_with("1 passed, 0 failed\n"), "{said}");
}

#[test]
fn the_exit_status_says_how_it_went() {
    let folder = Folder::new("status");
    let good = folder.file("good.safetensors");
    Draft::linear().write(&good);
    let wrong = folder.file("wrong.safetensors");
    let mut draft = Draft::linear();
    draft.floats("expected.out", &[5, 1, 64], &[1.0; 320]);
    draft.write(&wrong);
    let sparse = folder.file("sparse.safetensors");
    Draft::sparse().write(&sparse);
    let [good, wrong, sparse] = [good, wrong, sparse].map(|path| path.display().to_string());

    for device in ["host", "reference"] {
        let output = replay(&["--device", device, &good, &sparse]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).ends_with("2 passed, 0 failed\n"), "{}", stdout(&output));

        let output = replay(&["--device", device, &wrong, &good]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(
            stdout(&output).contains("FAILED: out of sequence 0"),
            "{}",
            stdout(&output)
        );
        assert!(stdout(&output).ends_with("1 passed, 1 failed\n"), "{}", stdout(&output));
    }
    assert_eq!(replay(&["--device", "abacus", &good]).status.code(), Some(2));
}

#[test]
fn a_machine_without_cuda_says_so() {
    if Device::cuda(0).is_ok() {
        println!("skipped: there is a CUDA device");
        return;
    }
    let output = replay(&["--device", "cuda"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("CUDA"), "{}", stderr(&output));
}

#[test]
fn results_are_written_on_request() {
    let folder = Folder::new("results");
    let (linear, sparse) = (folder.file("linear.safetensors"), folder.file("sparse.safetensors"));
    Draft::linear().write(&linear);
    Draft::sparse().write(&sparse);
    let out = folder.file("made/on/demand");
    let out_text = out.display().to_string();

    let output = replay(&["--out", &out_text, &linear.display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let bytes = std::fs::read(out.join("linear.safetensors")).expect("results were written");
    let results = SafeTensors::deserialize(&bytes).expect("results are a safetensors file");
    let tensor = results.tensor("out").expect("there is an output");
    assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::BF16, &[5usize, 1, 64][..]));
    // Ones everywhere: token t of a sequence sees t + 1 products of 64, at a scale of 1/8.
    let rows: Vec<f32> = tensor
        .data()
        .chunks_exact(128)
        .map(|row| bf16_value([row[0], row[1]]))
        .collect();
    assert_eq!(rows, [8.0, 16.0, 24.0, 8.0, 16.0]);
    let state = results.tensor("final_state").expect("there is a state");
    assert_eq!((state.dtype(), state.shape()), (Dtype::F32, &[2usize, 1, 64, 64][..]));
    assert_eq!(state.data()[..4], 3f32.to_le_bytes());

    let output = replay(&[
        "--device",
        "reference",
        "--out",
        &out_text,
        &sparse.display().to_string(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let bytes = std::fs::read(out.join("sparse.safetensors")).expect("results were written");
    let results = SafeTensors::deserialize(&bytes).expect("results are a safetensors file");
    for (name, dtype, shape) in [
        ("out", Dtype::F32, &[70usize, 2, 64][..]),
        ("lse", Dtype::F32, &[70, 2]),
        ("block_indices", Dtype::I32, &[70, 1, 2]),
    ] {
        let tensor = results.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, shape), "{name}");
    }
}

fn bf16_value(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

#[test]
fn without_files_the_test_data_runs() {
    let folder = Folder::new("data");
    Draft::linear().write(&folder.file("one.safetensors"));
    Draft::linear().write(&folder.file("two.safetensors"));
    std::fs::write(folder.file("notes.txt"), "not a replay file").expect("it can be written");
    let with_data = |folder: PathBuf| {
        let mut program = program(env!("CARGO_BIN_EXE_replay"));
        program.env("SALA_TEST_DATA", folder);
        run(program, &[])
    };
    let output = with_data(folder.file(""));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).ends_with("2 passed, 0 failed\n"), "{}", stdout(&output));
    assert!(
        stderr(&output).is_empty(),
        "no bar without a terminal: {}",
        stderr(&output)
    );

    let output = with_data(folder.file("absent"));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn help_describes_the_program() {
    let help = printed(program(env!("CARGO_BIN_EXE_replay")), &["--help"]);
    assert!(
        help.starts_with("Replays recorded calls and judges the results"),
        "{help}"
    );
}
