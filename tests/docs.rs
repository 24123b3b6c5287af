//! What the documents point at is there: files, headings, environment variables.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents for readers: those at the root and in docs.
fn documents() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs")];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect()
}

/// Files of the project below a folder, without what builds leave.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != "data" {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// `[text](target)` and `[label]: target`, outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 1 {
            continue;
        }
        let inline = part.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.extend(inline.map(str::to_owned));
        let labelled = part.lines().filter(|line| line.starts_with('['));
        links.extend(labelled.filter_map(|line| Some(line.split_once("]: ")?.1.to_owned())));
    }
    links
}

/// The anchor of a heading, as it is made where the documents are shown.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_lead_somewhere() {
    let (mut seen, mut broken) = (0, Vec::new());
    for document in documents() {
        let text = read(&document);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            seen += 1;
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().expect("it lies in a folder").join(path),
            };
            let is_there = target.exists() && (heading.is_empty() || anchors(&read(&target)).contains(heading));
            if !is_there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(seen > 20, "the links of the documents");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn kernels_say_where_they_are_defined() {
    let sections = anchors(&read(&root().join("docs/semantics.md")));
    let mut kernels = Vec::new();
    files(&root().join("cuda/base"), &mut kernels);
    assert!(!kernels.is_empty());
    for kernel in kernels {
        let text = read(&kernel);
        let section = text.split("\n// Definition: docs/semantics.md#").nth(1);
        let section = section.and_then(|rest| rest.lines().next()).unwrap_or_default();
        assert!(sections.contains(section), "{}: {section:?}", kernel.display());
    }
}

/// The names in a text that begin as our environment variables do.
fn variables(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let starts = text.match_indices("SALA_").map(|(start, _)| start);
    starts
        .filter(|&start| start == 0 || !text[..start].ends_with(|c: char| is_part(c) || c.is_ascii_lowercase()))
        .map(|start| &text[start..])
        .map(|rest| &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())])
        .collect()
}

/// What Rust code reads from the environment: its names in quotes.
#[test]
fn every_environment_variable_is_in_the_table() {
    let table = read(&root().join("docs/building.md"));
    let rows: String = table.lines().filter(|line| line.starts_with("| `")).collect();
    let known = variables(&rows);
    let mut sources = vec![root().join("build.rs")];
    for folder in [
        "build", "src", "testkit", "tests", "fuzz", "benches", "demos", "compiled", "xtask", "c_api", "python",
    ] {
        files(&root().join(folder), &mut sources);
    }
    let mut read_somewhere = BTreeSet::new();
    for source in sources
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs" || end == "py"))
    {
        let text = read(source);
        // What is told to cargo or to a compiler is no variable of ours.
        let quoted = variables(&text)
            .into_iter()
            .filter(|name| text.contains(&format!("\"{name}\"")) && !text.contains(&format!("env!(\"{name}\")")));
        read_somewhere.extend(quoted.map(str::to_owned));
    }
    read_somewhere.remove("SALA_");
    // Messages name what the header of C defines.
    let header = read(&root().join("include/sala_kernels.h"));
    let defined = variables(&header);
    read_somewhere.retain(|name| !defined.contains(name.as_str()));
    assert!(read_somewhere.len() > 10, "{read_somewhere:?}");
    let unknown: Vec<_> = read_somewhere
        .iter()
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "docs/building.md does not say what these are: {unknown:?}"
    );
    // The interpreter forms the names of its choices.
    let choices = read(&root().join("compiled/ptx/src/options.rs"));
    let choices = choices
        .split('"')
        .map(|choice| format!("SALA_PTX_{}", choice.to_uppercase()));
    read_somewhere.extend(choices);
    let unread: Vec<_> = known.iter().filter(|name| !read_somewhere.contains(**name)).collect();
    assert!(
        unread.is_empty(),
        "nothing reads what docs/building.md names: {unread:?}"
    );
}
