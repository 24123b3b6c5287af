//! Deletes each synchronisation statement of the kernels in turn and checks that some test notices.
//!
//! Every statement that synchronises threads or waits for copies is replaced by nothing, one at a time, in a copy of the tree, and the tests that
//! the table names for the kernel run there; those of every kernel that includes it, where the statement is in a shared part. The primitives of
//! `cuda/machine` are left alone: they have unit kernels. A mutant that passes its tests is a statement that is redundant (remove it) or untested
//! (test it). Takes about a minute per statement, so it is run by hand when a kernel changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use regex::Regex;

use crate::shapes::KERNELS;
use crate::{Failure, cargo, repository};

/// Deletes each synchronisation statement of the kernels in turn and checks that some test notices.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only files whose path contains NAME, such as `sm90a/dense_attention`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// Print the statements and stop
    #[arg(long)]
    list: bool,
}

/// The primitives that synchronise threads or wait for copies. A new one that does either belongs here.
const PRIMITIVES: [&str; 18] = [
    "sync_block",
    "sync_warp",
    "sync_barrier",
    "arrive_barrier",
    "async_copy_commit",
    "async_copy_wait",
    "arrive_mbarrier",
    "arrive_mbarrier_if",
    "arrive_mbarrier_for",
    "arrive_mbarrier_with_copies",
    "arrive_mbarrier_expecting",
    "expect_copied_bytes",
    "wait_mbarrier",
    "wait_mbarriers",
    "publish_shared_writes",
    "commit_products",
    "wait_products",
    "memory_fence",
];

const INCLUDE: &str = r#"(?m)^\s*#\s*include\s*"([^"]+)""#;

/// Where the files of kernels are, and what an include is relative to, unless it is to the file that has it.
const KERNEL_SOURCES: &str = "cuda";

/// Folders of [`KERNEL_SOURCES`] that make up the machine which kernels run on.
const MACHINE: [&str; 2] = ["cuda/machine", "cuda/host"];

/// What a report of failed tests says about why, from the first of these on.
const REASON: &str =
    r"(?i)(?:\bdata race|\brace\b|deadlock|never written|uninitiali[sz]ed|tolerance|\bNaN\b|error(?:\[E\d+\])?:)[^\n]*";

/// Characters of a reason that are printed.
const REASON_LENGTH: usize = 100;

/// Seconds that the tests of one mutant may take.
const TIME_LIMIT: &str = "1800";

/// What is not copied to the tree of mutants, wherever it is.
const NOT_COPIED: [&str; 4] = ["target", ".git", ".cuda", ".venv"];

/// Tries every mutant; exit status 1 if any survives.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut sources = sources(repository())?;
    if let Some(name) = &arguments.only {
        sources.retain(|source| source.path.to_string_lossy().contains(name.as_str()));
        if sources.is_empty() {
            return Err(Failure::repository(format!(
                "no kernel and no part of one has {name:?} in its path"
            )));
        }
    }
    if arguments.list {
        for source in &sources {
            for statement in source.statements() {
                println!("{}", source.describe(&statement));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }

    sources.retain(|source| !source.statements().is_empty());
    let mutants = Mutants::new()?;
    let distinct_tests: BTreeSet<&Tests> = sources.iter().map(|source| &source.tests).collect();
    for tests in distinct_tests {
        mutants.assert_passes(tests)?;
    }
    let mut survivors = 0;
    for source in &sources {
        for statement in source.statements() {
            let verdict = mutants.try_without(source, &statement)?;
            survivors += usize::from(verdict == Verdict::Survived);
            println!("{:60} {}", source.describe(&statement), verdict.text());
        }
    }
    println!("{survivors} survived");
    Ok(ExitCode::from(u8::from(survivors > 0)))
}

/// Names of integration tests.
type Tests = BTreeSet<&'static str>;

/// A kernel file or a part of kernels.
struct Source {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
    /// Those of every kernel that it is part of.
    tests: Tests,
}

/// A statement that a mutant lacks.
struct Statement {
    range: Range<usize>,
    line: usize,
}

/// All kernels and what they include, apart from the machine, by path.
fn sources(root: &Path) -> Result<Vec<Source>, Failure> {
    let mut sources: BTreeMap<PathBuf, Source> = BTreeMap::new();
    for kernel in KERNELS {
        let mut seen = BTreeSet::new();
        let mut open = vec![PathBuf::from(kernel.source())];
        while let Some(path) = open.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let source = match sources.get_mut(&path) {
                Some(source) => source,
                None => sources.entry(path.clone()).or_insert(Source::read(root, path)?),
            };
            source.tests.extend(kernel.tests);
            open.extend(source.includes(root));
        }
    }
    Ok(sources.into_values().collect())
}

impl Source {
    fn read(root: &Path, path: PathBuf) -> Result<Source, Failure> {
        let text = fs::read_to_string(root.join(&path)).map_err(|error| Failure::file(&path, error))?;
        Ok(Source {
            path,
            text,
            tests: Tests::new(),
        })
    }

    /// The kernel sources that this one includes, the machine apart.
    fn includes(&self, root: &Path) -> Vec<PathBuf> {
        let folders = [self.path.parent().unwrap_or(Path::new("")), Path::new(KERNEL_SOURCES)];
        let is_part =
            |path: &PathBuf| path.starts_with(KERNEL_SOURCES) && !MACHINE.iter().any(|folder| path.starts_with(folder));
        pattern(INCLUDE)
            .captures_iter(&self.text)
            .filter_map(|include| folders.iter().find_map(|folder| find(root, &folder.join(&include[1]))))
            .filter(is_part)
            .collect()
    }

    /// What there is to delete, in the order of lines.
    fn statements(&self) -> Vec<Statement> {
        let call = format!(r"\b(?:{})(?:<[^>]*>)?\([^;]*\);", PRIMITIVES.join("|"));
        let matches = pattern(&call)
            .find_iter(&self.text)
            .map(|found| found.range())
            .collect::<Vec<_>>();
        let statements = matches.into_iter().map(|range| Statement {
            line: self.text[..range.start].matches('\n').count() + 1,
            range,
        });
        statements.filter(|statement| !self.is_comment(statement)).collect()
    }

    fn is_comment(&self, statement: &Statement) -> bool {
        let before = &self.text[..statement.range.start];
        before.rsplit('\n').next().is_some_and(|code| code.contains("//"))
    }

    fn describe(&self, statement: &Statement) -> String {
        format!(
            "{}:{}: {}",
            self.path.display(),
            statement.line,
            &self.text[statement.range.clone()]
        )
    }

    /// The text with an empty statement instead.
    fn without(&self, statement: &Statement) -> String {
        let (before, after) = (&self.text[..statement.range.start], &self.text[statement.range.end..]);
        format!("{before};{after}")
    }
}

/// A file of the repository, with `..` resolved, relative to it.
fn find(root: &Path, path: &Path) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    let found = root.join(path).canonicalize().ok()?;
    found.strip_prefix(&root).ok().map(Path::to_path_buf)
}

#[derive(PartialEq, Eq)]
enum Verdict {
    Survived,
    /// The tests failed, and why if they say so.
    Noticed(Option<String>),
    TimeLimit,
}

impl Verdict {
    fn of(output: &Output) -> Verdict {
        match output.status.code() {
            Some(0) => Verdict::Survived,
            // What `timeout` gives when it ended the tests, and when it had to kill them, itself included.
            Some(124) | None => Verdict::TimeLimit,
            Some(_) => {
                let said = everything_said(output);
                let reason = pattern(REASON).find(&said).map(|found| found.as_str().trim());
                Verdict::Noticed(reason.map(|reason| reason.chars().take(REASON_LENGTH).collect()))
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Verdict::Survived => "SURVIVED".into(),
            Verdict::Noticed(Some(reason)) => format!("noticed: {reason}"),
            Verdict::Noticed(None) => "noticed".into(),
            Verdict::TimeLimit => "noticed: time limit".into(),
        }
    }
}

/// A copy of the tree, where mutants are built and tested.
struct Mutants {
    tree: PathBuf,
    build: PathBuf,
}

impl Mutants {
    fn new() -> Result<Mutants, Failure> {
        let folder = repository().join("target/mutants");
        let mutants = Mutants {
            tree: folder.join("tree"),
            build: folder.join("build"),
        };
        let tree = &mutants.tree;
        let cleared = if tree.exists() {
            fs::remove_dir_all(tree)
        } else {
            Ok(())
        };
        cleared
            .and_then(|()| copy(repository(), tree))
            .map_err(|error| Failure::file(tree, error))?;
        Ok(mutants)
    }

    /// An error, unless the tests pass when nothing is deleted.
    fn assert_passes(&self, tests: &Tests) -> Result<(), Failure> {
        let output = self.test(tests)?;
        if output.status.success() {
            return Ok(());
        }
        let names = tests.iter().copied().collect::<Vec<_>>().join(", ");
        Err(Failure::repository(format!(
            "{names}: the tests fail without any deletion\n{}",
            everything_said(&output)
        )))
    }

    fn try_without(&self, source: &Source, statement: &Statement) -> Result<Verdict, Failure> {
        let path = self.tree.join(&source.path);
        let write = |text: &str| fs::write(&path, text).map_err(|error| Failure::file(&path, error));
        write(&source.without(statement))?;
        let output = self.test(&source.tests);
        write(&source.text)?;
        Ok(Verdict::of(&output?))
    }

    fn test(&self, tests: &Tests) -> Result<Output, Failure> {
        // `timeout` ends the tests with cargo: one of a kernel that hangs would go on.
        Command::new("timeout")
            .args(["--kill-after=10", TIME_LIMIT])
            .arg(cargo())
            .args(["test", "--package", "sala-kernels", "--quiet"])
            .args(tests.iter().flat_map(|test| ["--test", test]))
            .current_dir(&self.tree)
            .env("SALA_CUDA_ARCHS", "none")
            .env("CARGO_TARGET_DIR", &self.build)
            .output()
            .map_err(|error| Failure::machine(format!("cannot run timeout (coreutils): {error}")))
    }
}

/// Copies a folder. The files get new times: one as it was must look newer than the last mutant that was built of it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        if NOT_COPIED.iter().any(|&skipped| name == skipped) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

fn everything_said(output: &Output) -> String {
    let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{said}{complained}")
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns of this file are well formed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn source(text: &str) -> Source {
        Source {
            path: "cuda/base/kernel.cu".into(),
            text: text.into(),
            tests: Tests::new(),
        }
    }

    #[test]
    fn statements_are_found_outside_comments() {
        let source = source(
            "if (last) sync_block();\n// sync_warp();\nasync_copy_wait<STAGES - 1>();  // then sync_block();\nx = resync_block();\n",
        );
        let found: Vec<String> = source
            .statements()
            .iter()
            .map(|statement| source.describe(statement))
            .collect();
        assert_eq!(
            found,
            [
                "cuda/base/kernel.cu:1: sync_block();",
                "cuda/base/kernel.cu:3: async_copy_wait<STAGES - 1>();"
            ]
        );
        let mutant = source.without(&source.statements()[0]);
        assert!(mutant.starts_with("if (last) ;\n// sync_warp();\n"), "{mutant}");
    }

    #[test]
    fn the_primitives_are_those_of_the_machine() {
        let folder = repository().join(MACHINE[0]);
        let files = fs::read_dir(folder).expect("the primitives are there");
        let texts: String = files
            .map(|file| fs::read_to_string(file.expect("it can be listed").path()).expect("it can be read"))
            .collect();
        for primitive in PRIMITIVES {
            let gives = |what: &str| texts.contains(&format!("DEVICE {what} {primitive}("));
            assert!(gives("void") || gives("int"), "{primitive}");
        }
    }

    #[test]
    fn parts_are_tried_with_the_tests_of_every_kernel_that_includes_them() {
        let root = std::env::temp_dir().join(format!("sala-mutate-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the temporary folder is writable");
            fs::write(path, text).expect("the temporary folder is writable");
        };
        for kernel in KERNELS {
            write(
                &kernel.source(),
                "#include \"parts/own/outer.cuh\"\n#include \"machine/barrier.cuh\"\n#include \"made_by_the_build.h\"\n",
            );
        }
        write(
            "cuda/parts/own/outer.cuh",
            "#pragma once\n  # include \"inner.cuh\"\n#include \"../../../include/params/rows.h\"\n",
        );
        write("cuda/parts/own/inner.cuh", "#include \"parts/own/outer.cuh\"\n");
        write("cuda/machine/barrier.cuh", "sync_block();");
        write("include/params/rows.h", "");
        let sources = sources(&root);
        fs::remove_dir_all(&root).expect("the temporary folder is writable");

        let sources = sources.unwrap_or_else(|failure| panic!("{}", failure.message));
        assert_eq!(sources.len(), KERNELS.len() + 2);
        let all: Tests = KERNELS.iter().flat_map(|kernel| kernel.tests).copied().collect();
        for name in ["outer", "inner"] {
            let part = sources
                .iter()
                .find(|source| source.path.ends_with(format!("{name}.cuh")))
                .expect("it is included");
            assert_eq!(part.tests, all, "{name}");
        }
    }

    #[test]
    fn verdicts_say_why() {
        let verdict = |status: i32, said: &str| {
            let output = Output {
                status: ExitStatus::from_raw(status << 8),
                stdout: said.into(),
                stderr: "note: run with `RUST_BACKTRACE=1`\nerror: test failed".into(),
            };
            Verdict::of(&output).text()
        };
        assert_eq!(verdict(0, "ok"), "SURVIVED");
        assert_eq!(
            verdict(101, "a\na data race on shared memory\nb"),
            "noticed: data race on shared memory"
        );
        assert_eq!(verdict(101, "it panicked"), "noticed: error: test failed");
        assert_eq!(verdict(124, ""), "noticed: time limit");
    }
}
