//! The f64 references agree with the vectors, which other people's implementations computed.

use sala_testkit::replay::Replay;
use std::path::PathBuf;

#[test]
fn references_agree_with_the_vectors() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("tests/data exists") {
        let path = entry.expect("tests/data can be listed").path();
        let replay = Replay::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let judgement = replay.judge(&replay.run_on_reference());
        println!("{} {} {judgement:?}", path.display(), replay.shape());
        judgement.assert(&path.display().to_string());
        count += 1;
    }
    assert!(count >= 7, "only {count} vectors");
}
