//! The hot loops cost what `compiled/model/figures.toml` says: no spills, so many instructions per matrix product, so many divergent regions, and
//! the clocks that the model gives them. `cargo xtask price --record` writes the file after a change that is meant to change them.

use crate::skip;
use sala_model::Problem;
use sala_model::figures::{Figures, check};
use std::path::{Path, PathBuf};
use std::{env, fs};

#[test]
fn hot_loops_cost_what_is_recorded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // As `cargo xtask price` has it.
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let cache = target.join("price");
    match check(root, &cache) {
        Ok(differences) if differences.is_empty() => {}
        Ok(differences) if differences.iter().all(|line| line.starts_with("nvcc ")) => skip(&differences.join("; ")),
        Ok(differences) => panic!(
            "run `cargo xtask price --record` if this is meant:\n{}",
            differences.join("\n")
        ),
        Err(problem @ Problem::Machine(_)) => skip(&problem.to_string()),
        Err(problem) => panic!("{problem}"),
    }
}

/// Loops in which the lanes of a warp stay together, but for as many branches: where one of them arrives for the others. Elsewhere they part where a
/// sequence, a list or a piece of a sum ends.
const STRAIGHT: [(&str, usize); 3] = [("dense_step", 2), ("select_score", 0), ("sparse_step", 2)];

#[test]
fn nothing_spills_and_fragment_loops_do_not_diverge() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("compiled/model/figures.toml");
    let text = fs::read_to_string(path).expect("the figures are in the checkout");
    let figures = Figures::parse(&text).expect("the figures can be read");
    assert_eq!(figures.units.len(), 3, "an architecture is gone");
    for (arch, units) in &figures.units {
        for (unit, figure) in units {
            assert_eq!(figure.spilled, 0, "{arch} {unit} spills");
            let allowed = STRAIGHT.iter().find(|(straight, _)| straight == unit);
            let diverges = allowed.is_some_and(|&(_, branches)| figure.divergent > branches);
            assert!(!diverges, "{arch} {unit} diverges");
        }
        assert!(
            STRAIGHT.iter().all(|(unit, _)| units.contains_key(*unit)),
            "{arch}: a loop is gone"
        );
    }
}
