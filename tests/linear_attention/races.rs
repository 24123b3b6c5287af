//! No order of threads and copies is a race.

use crate::{agree, plain_case};
use sala_testkit::devices::race_detecting_host;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase};
use sala_testkit::property::seed;
use sala_testkit::tolerance::Precision;

#[test]
fn no_call_races() {
    let machines = [race_detecting_host(seed())];
    for (precision, (dim_k, dim_v), decay) in [
        (Precision::Bf16, (128, 128), DecayCase::Lightning),
        (Precision::F16, (64, 128), DecayCase::PerToken),
        (Precision::F16, (128, 64), DecayCase::None),
    ] {
        for state_is_vk in [false, true] {
            let case = LinearCase {
                precision,
                dim_k,
                dim_v,
                decay,
                state_is_vk,
                lengths: vec![65, 0, 130],
                heads: 1,
                ..plain_case()
            };
            agree(&machines, &case.problem());
            agree(&machines, &case.decode(2).problem());
        }
    }
}
