//! Norms, rotary embedding and gate on every device.

mod agrees;
mod invariances;
mod refusals;

use std::sync::OnceLock;

/// The seed of this run, printed.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = sala_testkit::property::seed();
        println!("SALA_TEST_SEED={seed}");
        seed
    })
}
