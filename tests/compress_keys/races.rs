//! No order of threads and copies is a race.

use crate::inputs;
use sala_testkit::devices::race_detecting_host;
use sala_testkit::problem::compare_on;
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;

#[test]
fn no_compression_races() {
    let machines = [race_detecting_host(seed())];
    for (dim, block_size, lengths) in [(128, 64, vec![1200, 33]), (64, 128, vec![600])] {
        compare_on(
            &machines,
            &inputs(Precision::Bf16, dim, block_size, &lengths).compress(),
        );
    }
}
