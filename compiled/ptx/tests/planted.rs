//! The bugs to plant fit the sources.

use std::path::Path;

use sala_ptx::planted::BUGS;

#[test]
fn every_bug_has_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for bug in BUGS {
        let text = std::fs::read_to_string(root.join(bug.file)).unwrap_or_else(|error| panic!("{}: {error}", bug.file));
        assert_eq!(
            text.matches(bug.old).count(),
            1,
            "{}: `{}` in {}",
            bug.name,
            bug.old,
            bug.file
        );
        assert_ne!(bug.old, bug.new, "{}", bug.name);
    }
}
