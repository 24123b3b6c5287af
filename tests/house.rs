//! The house is as docs/adding.md says: adding an operation, a dim or a way of storing keys touches the files that are listed there and no others.

use std::fs;
use std::path::{Path, PathBuf};

const OPERATIONS: [&str; 13] = [
    "append_keys",
    "choose_blocks",
    "choose_tokens",
    "commit_keys",
    "compact_keys",
    "compress_keys",
    "gather_rows",
    "linear_attention",
    "merge",
    "norms",
    "score_keys",
    "select_blocks",
    "sparse_attention",
];

/// Files that the lists name for some operation and that another does without, and why.
const DONE_WITHOUT: [(&str, &str); 3] = [
    (
        "src/operations/choose_blocks/reference.rs",
        "defined with select_blocks",
    ),
    ("cuda/base/linear_attention.cu", "five kernels, linear_attention_*.cu"),
    ("cuda/base/norms.cu", "three kernels, norm_*.cu and sum_squares.cu"),
];

/// Kernels of another name that an operation launches, with its parameters.
const ALSO_OF: [(&str, &str); 3] = [
    ("cuda/base/dense_attention.cu", "sparse_attention"),
    ("cuda/base/dense_attention_wide.cu", "sparse_attention"),
    ("cuda/sm90a/dense_attention.cu", "sparse_attention"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files in the first column of a section's table.
fn files_of(section: &str) -> Vec<String> {
    let text = read("docs/adding.md");
    let heading = format!("## {section}\n");
    let (_, rest) = text
        .split_once(&heading)
        .unwrap_or_else(|| panic!("no section {section}"));
    let body = rest.split("\n## ").next().unwrap_or_default();
    let rows = body.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect()
}

/// The operations that testkit shows its visitors.
#[test]
fn every_operation_is_tried() {
    let registry = read("testkit/src/operations/mod.rs");
    for operation in OPERATIONS {
        let call = format!("visitor.visit(\"{operation}\"");
        assert!(
            registry.contains(&call),
            "{operation} is not tried by tests/operations.rs"
        );
        let call = format!("fuzzer.visit(\"{operation}\"");
        assert!(registry.contains(&call), "{operation} is not fuzzed");
    }
    let folders = fs::read_dir(root().join("src/operations")).expect("the operations are there");
    let folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
    let mut operations: Vec<_> = folders
        .filter(|path| path.is_dir())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    operations.sort();
    assert_eq!(operations, OPERATIONS, "the operations of this test");
}

fn is_done_without(file: &str) -> bool {
    DONE_WITHOUT.iter().any(|(path, _)| file.starts_with(path))
}

#[test]
fn few_files_are_touched() {
    for (section, most) in [
        ("An operation", 8),
        ("A second kernel of an operation", 3),
        ("A dim", 4),
        ("An architecture", 4),
        ("A way of storing keys", 3),
    ] {
        let files = files_of(section);
        assert!(!files.is_empty() && files.len() <= most, "{section}: {files:?}");
    }
}

#[test]
fn every_file_of_the_lists_is_there() {
    let sections = [
        "An operation",
        "A dim",
        "An architecture",
        "A way of storing keys",
        "A primitive",
    ];
    for file in sections.into_iter().flat_map(files_of) {
        let names: &[&str] = if file.contains("<operation>") {
            &OPERATIONS
        } else {
            &["barrier"]
        };
        for name in names {
            let file = file.replace("<operation>", name).replace("<primitive>", name);
            assert!(
                is_done_without(&file) || root().join(&file).is_file(),
                "docs/adding.md lists {file}, which is not there"
            );
        }
    }
}

/// The code that is written by hand and not for one operation's tests: files below these folders.
const HAND_WRITTEN: [&str; 8] = [
    "include",
    "cuda/base",
    "cuda/sm90a",
    "cuda/parts",
    "src",
    "build",
    "benches",
    "testkit/src",
];

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The lines of a file without their comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split("//").next())
}

/// An operation's parameters are named by its own files and the table, and by no code that operations share but its unit tests.
#[test]
fn no_other_file_knows_an_operation() {
    let listed = files_of("An operation");
    let mut files = Vec::new();
    for folder in HAND_WRITTEN {
        files_below(&root().join(folder), &mut files);
    }
    assert!(files.len() > 50, "the tree has moved");
    for operation in OPERATIONS {
        let own: Vec<_> = listed
            .iter()
            .map(|file| file.replace("<operation>", operation))
            .collect();
        let params = format!("sala_{operation}_params");
        for file in &files {
            let path = file.strip_prefix(root()).unwrap_or(file).display().to_string();
            let is_own = own.contains(&path) || path.contains(operation) || path.starts_with("src/sys/");
            let is_own = is_own || ALSO_OF.contains(&(path.as_str(), operation));
            let is_part = path.starts_with("cuda/parts/");
            if is_own || is_part {
                continue;
            }
            let text = fs::read_to_string(file).unwrap_or_default();
            let text = text.split("\nmod tests {").next().unwrap_or_default();
            let stray = code(text).find(|line| line.contains(&params));
            assert_eq!(stray, None, "{path} knows {params}");
        }
    }
}

/// Where a key row lies is computed in one function: nothing else in kernels and parts takes the strides of keys.
#[test]
fn one_function_says_where_a_key_row_lies() {
    let mut files = Vec::new();
    for folder in ["cuda/base", "cuda/sm90a", "cuda/parts"] {
        files_below(&root().join(folder), &mut files);
    }
    for stride in ["store_stride", "row_stride"] {
        let users: Vec<_> = files
            .iter()
            .filter(|file| code(&fs::read_to_string(file).unwrap_or_default()).any(|line| line.contains(stride)))
            .filter_map(|file| file.file_name()?.to_str())
            .filter(|name| {
                ![
                    "state_slots.cuh",
                    "state_tile.cuh",
                    "copy_states.cu",
                    "merge_states.cu",
                    "scan_state.cuh",
                ]
                .contains(name)
            })
            .collect();
        // Tensor copies name a cache or page by its number, and say nothing of strides but whether there are any.
        let others = users
            .iter()
            .filter(|&&name| name != "mapped_rows.cuh" || stride != "store_stride");
        assert!(others.eq(&["key_rows.cuh"]), "{stride}: {users:?}");
    }
}

/// The inline assembly, and what only CUDA has, stands in the primitives.
#[test]
fn kernels_use_primitives_alone() {
    let mut files = Vec::new();
    for folder in ["cuda/base", "cuda/sm90a", "cuda/parts"] {
        files_below(&root().join(folder), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for word in [
            "asm ",
            "asm(",
            "__shared__",
            "__syncthreads",
            "__shfl",
            "threadIdx",
            "blockIdx",
            "../",
        ] {
            let stray = code(&text).find(|line| line.contains(word));
            assert_eq!(stray, None, "{}: {word}", file.display());
        }
    }
}
