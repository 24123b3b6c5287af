//! Which files a source is made of.

use std::collections::HashSet;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use crate::environment::Failure;

/// Follows `#include "..."` from file to file.
///
/// Conditions are not evaluated, so the closure may hold more than one compilation reads, never less. Includes in angle brackets belong to the
/// compiler and its version; an include that is spelt by a macro is not followed.
pub struct Closure<'a> {
    /// Where an include is looked for after the folder of the file that names it.
    pub search: &'a [PathBuf],
    /// A folder whose files this compilation never reads.
    pub without: Option<PathBuf>,
}

impl Closure<'_> {
    /// Feeds the contents of `source` and everything it includes to `hasher`, in the order of the includes.
    pub fn hash(&self, source: &Path, hasher: &mut impl Hasher) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let mut open = vec![source.to_path_buf()];
        while let Some(file) = open.pop() {
            if !seen.insert(file.clone()) {
                continue;
            }
            let text = fs::read_to_string(&file).map_err(|error| Failure::file("read", &file, error))?;
            hasher.write(text.as_bytes());
            hasher.write_usize(text.len());
            open.extend(
                text.lines()
                    .filter_map(included)
                    .filter_map(|name| self.resolve(&file, name)),
            );
        }
        Ok(())
    }

    fn resolve(&self, from: &Path, name: &str) -> Option<PathBuf> {
        let beside = from.parent().into_iter();
        let file = beside
            .chain(self.search.iter().map(PathBuf::as_path))
            .find_map(|folder| folder.join(name).canonicalize().ok())?;
        let excluded = self.without.as_ref().is_some_and(|folder| file.starts_with(folder));
        (!excluded).then_some(file)
    }
}

/// The file that a line includes in quotes.
fn included(line: &str) -> Option<&str> {
    let directive = line
        .trim_start()
        .strip_prefix('#')?
        .trim_start()
        .strip_prefix("include")?;
    let (name, _) = directive.trim_start().strip_prefix('"')?.split_once('"')?;
    Some(name)
}
