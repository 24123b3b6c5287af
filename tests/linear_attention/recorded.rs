//! Calls that other implementations have computed.

use sala_testkit::devices::all;
use sala_testkit::problem::run;
use sala_testkit::replay::{Call, Replay, vector_files};

#[test]
fn recorded_calls_agree() {
    let mut count = 0;
    for path in vector_files().unwrap_or_else(|error| panic!("{error}")) {
        let replay = Replay::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let Call::Linear(call) = &replay.call else { continue };
        for machine in all() {
            let run = run(&call.problem, &machine);
            let context = format!("{} on {}", path.display(), machine.name);
            replay.judge(&call.results(&run)).assert(&context);
        }
        count += 1;
    }
    assert!(count >= 3, "only {count} recorded calls");
}
