//! The one list of kernels: their source files, architectures and template shapes.
//!
//! The build script compiles it, [`crate::Kernels`] loads it and the tests walk it, so that a kernel is added by adding a row.
//! This file stands alone (`std` only), because the build script includes it.

/// One kernel source file and the instances that it is compiled into.
#[derive(Debug)]
pub struct KernelFile {
    /// The file's stem: `cuda/<name>.cu`, or `cuda/tests/<name>.cu` if [`Self::test_only`]. Every instance name starts with it.
    pub name: &'static str,
    /// The parameter struct in `include/kernel_params.h`.
    pub params: &'static str,
    /// The GPU architectures that the file is compiled for, as nvcc's `code=` calls them (`sm_80`, `compute_80`).
    pub archs: &'static [&'static str],
    /// The template parameters: for each, the values it takes. No axes: one instance, called as the file.
    pub axes: &'static [&'static [&'static str]],
    /// Whether a combination of values, one per axis, is compiled.
    pub keep: fn(&[&str]) -> bool,
    /// A unit kernel of the primitives, compiled only with feature `test-kernels`.
    pub test_only: bool,
}

/// Where kernels run that use nothing beyond `mma.sync` and `cp.async`: an image per generation and PTX for later ones.
pub const BASE_ARCHS: &[&str] = &["sm_80", "sm_90a", "sm_100", "sm_120", "compute_80"];

/// Every kernel file. The order is the order of kernel identifiers.
pub const KERNEL_FILES: &[KernelFile] = &[
    // Chunked prefill: element, key channels, value channels of one block.
    KernelFile {
        name: "linear_attention_scan",
        params: "sala_linear_attention_params",
        archs: BASE_ARCHS,
        axes: &[&["bf16", "f16"], &["64", "128"], &["32", "64", "128"]],
        keep: value_tile_fits,
        test_only: false,
    },
    // One token per sequence: element, key channels.
    KernelFile {
        name: "linear_attention_decode",
        params: "sala_linear_attention_params",
        archs: BASE_ARCHS,
        axes: &[&["bf16", "f16"], &["64", "128"]],
        keep: every_shape,
        test_only: false,
    },
    // Means of keys over windows: element, channels.
    KernelFile {
        name: "compress_keys",
        params: "sala_compress_keys_params",
        archs: BASE_ARCHS,
        axes: &[&["bf16", "f16"], &["64", "128"]],
        keep: every_shape,
        test_only: false,
    },
    // Scores of blocks and their choice: element, channels, columns that the heads of a group are padded to.
    KernelFile {
        name: "select_blocks",
        params: "sala_select_blocks_params",
        archs: BASE_ARCHS,
        axes: &[&["bf16", "f16"], &["64", "128"], &["8", "16", "32", "64"]],
        keep: every_shape,
        test_only: false,
    },
    // The choice alone, by given scores.
    KernelFile {
        name: "top_k_blocks",
        params: "sala_select_blocks_params",
        archs: BASE_ARCHS,
        axes: &[],
        keep: every_shape,
        test_only: false,
    },
    // Attention over listed blocks or all keys: element, channels.
    KernelFile {
        name: "sparse_attention",
        params: "sala_sparse_attention_params",
        archs: BASE_ARCHS,
        axes: &[&["bf16", "f16"], &["64", "128"]],
        keep: every_shape,
        test_only: false,
    },
    // Its scores, when few query tokens are split over many blocks: element, channels.
    KernelFile {
        name: "sparse_attention_scores",
        params: "sala_sparse_attention_split_params",
        archs: BASE_ARCHS,
        axes: &[&["bf16", "f16"], &["64", "128"]],
        keep: every_shape,
        test_only: false,
    },
    // What follows the scores: element.
    KernelFile {
        name: "sparse_attention_values",
        params: "sala_sparse_attention_split_params",
        archs: BASE_ARCHS,
        axes: &[&["bf16", "f16"]],
        keep: every_shape,
        test_only: false,
    },
    // What the device primitives do, one test each.
    KernelFile {
        name: "primitives",
        params: "sala_unit_test_params",
        archs: BASE_ARCHS,
        axes: &[&[
            "indices",
            "vectors",
            "async_copies",
            "atomics",
            "exchanges",
            "hand_over",
            "functions",
            "conversions_bf16",
            "conversions_f16",
            "mma_bf16",
            "mma_f16",
            "load_matrices",
            "store_matrices",
            "tile_32",
            "tile_64",
            "tile_128",
            "product_nk_bf16",
            "product_nk_f16",
            "product_shared_nk",
            "product_shared_a_bf16",
            "product_shared_a_f16",
            "product_kn_bf16",
            "product_kn_f16",
            "product_shared_kn",
            "product_shared_trans_kn",
            "operand_bf16",
            "operand_f16",
        ]],
        keep: every_shape,
        test_only: true,
    },
    // Bugs that the executor has to report, and kernels without them. Compiled for GPUs only to see that they compile.
    KernelFile {
        name: "faults",
        params: "sala_unit_test_params",
        archs: &["compute_80"],
        axes: &[&[
            "missing_barrier",
            "missing_barrier_plain",
            "missing_second_barrier",
            "missing_sync_warp",
            "shuffle_for_sync_warp",
            "weak_copy_wait",
            "copy_without_barrier",
            "overwriting_copy",
            "uninitialised_read",
            "half_atomic",
            "barrier_count_mismatch",
            "skipped_barrier",
            "divergent_barrier",
            "missing_arrival",
            "divergent_shuffle",
            "early_exit",
            "misaligned_matrix",
            "misaligned_load_shared",
            "misaligned_load_global",
            "misaligned_copy",
            "null_load",
            "shared_out_of_bounds",
            "plan_too_large",
            "disagreeing_product",
            "columns_past_tile",
            "clean_hand_over",
            "clean_pipeline",
            "clean_sync_warp",
            "clean_atomics",
        ]],
        keep: every_shape,
        test_only: true,
    },
];

fn every_shape(_: &[&str]) -> bool {
    true
}

/// The value tile of a scan is at most as wide as its keys: a wider one would not leave room for the state in registers.
fn value_tile_fits(values: &[&str]) -> bool {
    let number = |axis: usize| values.get(axis).and_then(|value| value.parse::<u32>().ok());
    number(2) <= number(1)
}

impl KernelFile {
    /// The source file, relative to the crate's root.
    pub fn source(&self) -> String {
        let folder = if self.test_only { "cuda/tests" } else { "cuda" };
        format!("{folder}/{}.cu", self.name)
    }

    /// The values of every compiled instance, one per axis; the last axis varies fastest.
    pub fn instances(&self) -> Vec<Vec<&'static str>> {
        let mut combinations = vec![Vec::new()];
        for axis in self.axes {
            combinations = combinations.iter().flat_map(|head| extend_each(head, axis)).collect();
        }
        combinations.retain(|values| (self.keep)(values));
        combinations
    }

    /// The name of an instance: the file's name and the axis values, joined by underscores.
    pub fn instance_name(&self, values: &[&str]) -> String {
        let mut name = self.name.to_owned();
        for value in values {
            name.push('_');
            name.push_str(value);
        }
        name
    }
}

/// `head` continued by each value of an axis.
fn extend_each<'a>(head: &'a [&'static str], axis: &'a [&'static str]) -> impl Iterator<Item = Vec<&'static str>> + 'a {
    axis.iter()
        .map(move |value| head.iter().chain([value]).copied().collect())
}

/// The files of this build: all of [`KERNEL_FILES`], without the test-only ones unless feature `test-kernels` is on.
pub fn compiled_files() -> impl Iterator<Item = &'static KernelFile> {
    KERNEL_FILES
        .iter()
        .filter(|file| !file.test_only || cfg!(feature = "test-kernels"))
}

/// The names of all instances of this build, in the order of kernel identifiers.
pub fn instance_names() -> impl Iterator<Item = String> {
    compiled_files().flat_map(|file| file.instances().into_iter().map(|values| file.instance_name(&values)))
}
