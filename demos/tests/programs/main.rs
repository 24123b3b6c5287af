//! The programs as a newcomer meets them: they do what they say, and refuse what they cannot do with a sentence.

mod needle;
mod replay;
mod sala_layers;
mod serve;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A program of this package: the executable that cargo built with the test, or the one that is packed in `demos` beside the folder of the test
/// where there is no cargo. `built` is `env!("CARGO_BIN_EXE_<name>")`.
fn program(built: &str) -> Command {
    let built = Path::new(built);
    if built.exists() {
        return Command::new(built);
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let name = built.file_name().expect("an executable has a name");
    let bundle = test.parent().and_then(Path::parent).expect("packed tests lie in tests");
    Command::new(bundle.join("demos").join(name))
}

fn run(mut program: Command, arguments: &[&str]) -> Output {
    program.args(arguments).output().expect("the program runs")
}

/// What a successful run prints.
fn printed(program: Command, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// Runs a program that is to end with status 2 and one complaint that has all of `words`.
fn assert_refused(program: Command, arguments: &[&str], words: &[&str]) {
    let output = run(program, arguments);
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
    for word in words {
        assert!(errors.contains(word), "{arguments:?} should name {word:?}: {errors}");
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder for the files of one test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sala-demos-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }

    /// A path in the folder.
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path in the folder, as an argument.
    fn argument(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Writes a file and gives its path as an argument.
    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.file(name), content).expect("the temporary folder is writable");
        self.argument(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
