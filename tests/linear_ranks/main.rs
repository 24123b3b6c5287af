//! Sequences of linear attention whose parts are on several ranks: decay added up, states merged, outputs corrected.

mod agrees;
mod refusals;
mod whole;

use std::sync::OnceLock;

use sala_kernels::reference::linear_attention::Config;

/// The seed of this run, printed.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = sala_testkit::property::seed();
        println!("SALA_TEST_SEED={seed}");
        seed
    })
}

fn config(heads: usize, dim_k: usize, dim_v: usize, state_is_vk: bool) -> Config {
    Config {
        heads_q: heads,
        heads_kv: 1,
        dim_k,
        dim_v,
        scale: (dim_k as f32).powf(-0.5),
        state_is_vk,
    }
}
