//! Calls that other implementations have computed, on their own lists.

use sala_testkit::devices::all_variants;
use sala_testkit::operations::sparse_attention::Lists;
use sala_testkit::problem::run;
use sala_testkit::replay::{Call, Replay, Results};

#[test]
fn recorded_calls_agree() {
    for name in [
        "dense_t333_h8_kv2",
        "sparse_t450_h8_kv2",
        "sparse_t704_h16_kv1",
        "sparse_chunk_t600_h4_kv2",
    ] {
        let path = format!("{}/tests/data/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let replay = Replay::load(path.as_ref()).unwrap_or_else(|error| panic!("{error}"));
        let Call::Sparse(call) = &replay.call else {
            panic!("{name} is no sparse call")
        };
        let given = call.block_indices.as_ref().map(|lists| lists.indices.clone());
        let recorded = || call.expected.block_indices.clone();
        let indices = given
            .or_else(recorded)
            .or_else(|| replay.run_on_reference().block_indices);
        let indices = indices.expect("the reference selects");
        let list_len = indices.len() / (call.total_q() * call.inputs.config.heads_kv);
        let problem = call.attention(Some(Lists {
            indices: indices.clone(),
            list_len,
        }));
        for machine in all_variants() {
            let run = run(&problem, &machine);
            let results = Results {
                out: run.out.to_f64(),
                out_precision: Some(run.out.precision()),
                lse: Some(run.lse.iter().map(|&x| f64::from(x)).collect()),
                block_indices: Some(indices.clone()),
                ..Results::default()
            };
            replay.judge(&results).assert(&format!("{name} on {}", machine.name));
        }
    }
}
