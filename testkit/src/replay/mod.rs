//! Replay files: one call of an operation with its inputs, and optionally what it should give, in a safetensors file.
//!
//! `__metadata__` (strings) holds `op` and its constants, the tensors hold inputs under the names of the arguments and expected values
//! under `expected.` and the name of the result:
//!
//! | `op` | constants | tensors | expected |
//! |---|---|---|---|
//! | `linear_attention` | `scale` | `q`, `k`, `v`, `cu_seqlens`, `log_decay` (`[heads]` or `[tokens, heads]`), optional `initial_state` | `out`, `final_state` |
//! | `linear_verify` | `scale` | `q`, `k`, `v` `[batch · drafts, heads, channels]`, `log_decay`, `initial_state` `[batch, heads, dim_k, dim_v]`, optional `parent` `[batch, drafts]` | `out` |
//! | `linear_commit` | | `k`, `v`, `log_decay`, `initial_state`, `accepted` `[batch]`, optional `path` `[batch, drafts]` | `final_state` |
//! | `merge` | | `o1`, `o2` `[tokens, heads, dim]`, `lse1`, `lse2` `[tokens, heads]` | `out`, `lse` |
//! | `norm_rope` | `eps` | `x` `[tokens, heads, dim]`; optional `weight` `[dim]`; optional `cos_sin` `[count, dim]` with `positions` `[tokens]` | `out` |
//! | `norm_gate` | `eps` | `x`, `gate` `[tokens, channels]`, `weight` `[channels]` | `out` |
//! | `sparse_attention` | `scale`, `block_size`, `topk`, `init_blocks`, `local_blocks`, `kernel_size`, `kernel_stride`, `dense_len`, `lse` (`coarse` or `exact`), optional `causal` (`true`), `entry` (`prefill` or `decode`) | `q`, `k`, `v`, `cu_seqlens_q`, `cu_seqlens_k`; or `k`, `v` `[pages, page_size, heads, channels]`, `page_table` `[batch, max_pages]` and `seqlens_k` `[batch]`; optional `block_indices` (selection is skipped then), `parent` `[batch, queries]` (of entry `decode`) | `out`, `lse`, `block_indices`, `block_scores` (`[heads_kv, tokens, blocks]`, −1 for none), `margin` (`[tokens, heads_kv]`) |
//!
//! Sequences shorter than `dense_len` choose no blocks; what a file says of their lists and scores is not looked at.
//!
//! [`Replay::load`] checks everything, so that a call that loads can run; [`Replay::run_on_reference`] runs it, and [`Replay::judge`]
//! compares what comes out with the expected values, or with the reference where the file has none.

mod drafts;
mod file;
mod linear;
mod merge;
mod norms;
mod sparse;
mod write;

pub use drafts::DraftsCall;
pub use linear::LinearCall;
pub use merge::MergeCall;
pub use norms::NormCall;
pub use sparse::SparseCall;
pub use write::{drafts_bytes, linear_bytes, merge_bytes, norm_bytes, sparse_bytes};

use crate::devices::Machine;
use crate::tolerance::{Judgement, Precision};
use crate::values::Values;
use file::ReplayFile;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a file cannot be replayed, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct Unusable {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, naming the tensor or the constant.
    pub problem: String,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Where it was read from.
    pub path: PathBuf,
    /// What to do.
    pub call: Call,
}

/// An operation with its inputs and expected values.
#[derive(Clone, Debug)]
pub enum Call {
    /// Linear attention over whole sequences.
    Linear(Box<LinearCall>),
    /// Draft tokens of linear attention: verified, or committed to its states.
    Drafts(Box<DraftsCall>),
    /// Attention over two sets of keys made one.
    Merge(Box<MergeCall>),
    /// A norm with what follows it.
    Norm(Box<NormCall>),
    /// Key compression, block selection and attention over the chosen blocks.
    Sparse(Box<SparseCall>),
}

/// What a run gave; which fields are there depends on the operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Whether the operation gives outputs.
    pub has_out: bool,
    /// `[tokens, heads, dim_v]`.
    pub out: Vec<f64>,
    /// The type that `out` was stored in; `None` for the reference, which rounds nothing.
    pub out_precision: Option<Precision>,
    /// `[tokens, heads]`.
    pub lse: Option<Vec<f64>>,
    /// `[tokens, heads_kv, list_len]`.
    pub block_indices: Option<Vec<i32>>,
    /// `[batch, heads, dim_k, dim_v]`.
    pub final_state: Option<Vec<f64>>,
}

impl Replay {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Replay, Unusable> {
        let unusable = |error| Unusable {
            file: path.to_path_buf(),
            problem: format!("cannot be read: {error}"),
        };
        Replay::from_bytes(path, &std::fs::read(path).map_err(unusable)?)
    }

    /// Checks the bytes of a file.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Replay, Unusable> {
        let call = parse(bytes).map_err(|problem| Unusable {
            file: path.to_path_buf(),
            problem,
        })?;
        Ok(Replay {
            path: path.to_path_buf(),
            call,
        })
    }

    /// The name of the operation.
    pub fn operation(&self) -> &'static str {
        match &self.call {
            Call::Linear(_) => "linear_attention",
            Call::Drafts(call) => call.operation(),
            Call::Merge(_) => "merge",
            Call::Norm(call) => call.operation(),
            Call::Sparse(_) => "sparse_attention",
        }
    }

    /// The shape in a few words.
    pub fn shape(&self) -> String {
        match &self.call {
            Call::Linear(call) => call.shape(),
            Call::Drafts(call) => call.shape(),
            Call::Merge(call) => call.shape(),
            Call::Norm(call) => call.shape(),
            Call::Sparse(call) => call.shape(),
        }
    }

    /// Runs the call in f64.
    pub fn run_on_reference(&self) -> Results {
        match &self.call {
            Call::Linear(call) => call.run_on_reference(),
            Call::Drafts(call) => call.run_on_reference(),
            Call::Merge(call) => call.run_on_reference(),
            Call::Norm(call) => call.run_on_reference(),
            Call::Sparse(call) => call.run_on_reference(),
        }
    }

    /// Runs the call on a device; also says how long its launches took.
    ///
    /// # Errors
    /// What the operation says; [`Error::Unsupported`](sala_kernels::Error::Unsupported) where it has no kernels yet.
    pub fn run(&self, machine: &Machine) -> sala_kernels::Result<(Results, Duration)> {
        match &self.call {
            Call::Linear(call) => call.run(machine),
            Call::Drafts(call) => call.run(machine),
            Call::Merge(call) => call.run(machine),
            Call::Norm(call) => call.run(machine),
            Call::Sparse(call) => call.run(machine),
        }
    }

    /// Compares results with the expected values and the reference.
    pub fn judge(&self, results: &Results) -> Judgement {
        match &self.call {
            Call::Linear(call) => call.judge(results),
            Call::Drafts(call) => call.judge(results),
            Call::Merge(call) => call.judge(results),
            Call::Norm(call) => call.judge(results),
            Call::Sparse(call) => call.judge(results),
        }
    }

    /// Writes results to a safetensors file: `out` (in the type it was computed in, f32 from the reference), and `lse`, `block_indices`
    /// and `final_state` where the operation gives them.
    pub fn write(&self, results: &Results, path: &Path) -> Result<(), Unusable> {
        let shapes = match &self.call {
            Call::Linear(call) => call.result_shapes(),
            Call::Drafts(call) => call.result_shapes(),
            Call::Merge(call) => call.result_shapes(),
            Call::Norm(call) => call.result_shapes(),
            Call::Sparse(call) => call.result_shapes(),
        };
        let tensors = result_tensors(results);
        let views = tensors.iter().map(|(name, dtype, bytes)| {
            let view =
                TensorView::new(*dtype, shapes[name].clone(), bytes).expect("results have the shapes of their call");
            (*name, view)
        });
        safetensors::serialize_to_file(views, None, path).map_err(|error| Unusable {
            file: path.to_path_buf(),
            problem: format!("cannot be written: {error}"),
        })
    }
}

/// The files that come with the crate: those in the folder `SALA_TEST_DATA`, or in `tests/data`, by name.
pub fn vector_files() -> Result<Vec<PathBuf>, Unusable> {
    let folder = std::env::var_os("SALA_TEST_DATA").map_or_else(default_folder, PathBuf::from);
    let unusable = |problem| Unusable {
        file: folder.clone(),
        problem,
    };
    let entries = std::fs::read_dir(&folder).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    if files.is_empty() {
        Err(unusable("has no safetensors files".into()))
    } else {
        Ok(files)
    }
}

fn default_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data")
}

/// Shapes of result tensors by name.
type ResultShapes = HashMap<&'static str, Vec<usize>>;

/// The results as named bytes.
fn result_tensors(results: &Results) -> Vec<(&'static str, Dtype, Vec<u8>)> {
    let f32_bytes = |values: &[f64]| values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    let mut tensors = Vec::new();
    let out = match results.out_precision {
        None => ("out", Dtype::F32, f32_bytes(&results.out)),
        Some(precision) => {
            let values = Values::round(precision, results.out.iter().copied());
            let dtype = if precision == Precision::Bf16 {
                Dtype::BF16
            } else {
                Dtype::F16
            };
            (
                "out",
                dtype,
                values.to_bits().iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            )
        }
    };
    if results.has_out {
        tensors.push(out);
    }
    if let Some(lse) = &results.lse {
        tensors.push(("lse", Dtype::F32, f32_bytes(lse)));
    }
    if let Some(indices) = &results.block_indices {
        tensors.push((
            "block_indices",
            Dtype::I32,
            indices.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ));
    }
    if let Some(state) = &results.final_state {
        tensors.push(("final_state", Dtype::F32, f32_bytes(state)));
    }
    tensors
}

/// The call that the bytes of a file hold, or what is wrong with them.
fn parse(bytes: &[u8]) -> Result<Call, String> {
    let file = ReplayFile::parse(bytes)?;
    match file.text("op")? {
        "linear_attention" => LinearCall::parse(&file).map(|call| Call::Linear(Box::new(call))),
        "linear_verify" => DraftsCall::parse_verify(&file).map(|call| Call::Drafts(Box::new(call))),
        "linear_commit" => DraftsCall::parse_commit(&file).map(|call| Call::Drafts(Box::new(call))),
        "merge" => MergeCall::parse(&file).map(|call| Call::Merge(Box::new(call))),
        "norm_rope" => NormCall::parse_rope(&file).map(|call| Call::Norm(Box::new(call))),
        "norm_gate" => NormCall::parse_gate(&file).map(|call| Call::Norm(Box::new(call))),
        "sparse_attention" => SparseCall::parse(&file).map(|call| Call::Sparse(Box::new(call))),
        other => Err(format!(
            "`op` is `{other}`, expected `linear_attention`, `linear_verify`, `linear_commit`, `merge`, `norm_rope`, `norm_gate` or `sparse_attention`"
        )),
    }
}
