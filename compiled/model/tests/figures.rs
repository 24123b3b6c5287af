//! Committed figures are written as they are read, and every kind of change is seen.

use std::fs;
use std::path::Path;

use sala_model::figures::{ARCHS, Figure, Figures};

fn committed() -> Figures {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures.toml");
    Figures::parse(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn what_is_written_is_what_is_read() {
    let figures = committed();
    assert_eq!(figures.units.len(), ARCHS.len());
    assert!(figures.units.values().all(|units| !units.is_empty()));
    assert_eq!(Figures::parse(&figures.to_text()).unwrap(), figures);
    assert!(figures.differences(&figures).is_empty());
}

#[test]
fn changes_are_seen() {
    let committed = committed();
    let changed = |change: fn(&mut Figures)| {
        let mut now = committed.clone();
        change(&mut now);
        committed.differences(&now).join("\n")
    };
    assert!(changed(|now| unit(now).spilled = 8).contains("sm_90a sparse_step: bytes spilled 0.00 -> 8.00"));
    assert!(changed(|now| unit(now).divergent += 1).contains("divergent regions"));
    assert!(changed(|now| unit(now).clocks *= 1.06).contains("clocks"));
    assert!(changed(|now| unit(now).clocks *= 0.94).contains("clocks"));
    assert_eq!(changed(|now| unit(now).clocks *= 1.04), "");
    assert!(changed(|now| drop(now.units.remove("sm_80"))).contains("sm_80 sparse_step: gone"));
    assert!(changed(|now| now.nvcc = "12.9".to_owned()).contains("nvcc 13.0, this is 12.9"));
}

fn unit(figures: &mut Figures) -> &mut Figure {
    figures.units.get_mut("sm_90a").unwrap().get_mut("sparse_step").unwrap()
}
