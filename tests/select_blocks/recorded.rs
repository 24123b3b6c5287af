//! Scores and lists that another implementation has computed.

use crate::compress;
use sala_kernels::reference::select_blocks::BlockScores;
use sala_testkit::devices::all_levels;
use sala_testkit::problem::{Problem, run};
use sala_testkit::replay::{Call, Replay, vector_files};

#[test]
fn recorded_selections_agree() {
    for machine in all_levels() {
        let (mut scored, mut listed) = (0, 0);
        for path in vector_files().unwrap() {
            let Call::Sparse(call) = Replay::load(&path).unwrap().call else {
                continue;
            };
            let name = path.file_name().unwrap().to_string_lossy();
            let blocks = call.inputs.blocks();
            let problem = call.inputs.select(&compress(&call.inputs, &machine), Some(blocks));
            let got = run(&problem, &machine);
            let scores = got.scores.clone().unwrap();
            assert_eq!(
                call.wrong_score(&BlockScores { blocks, scores }),
                None,
                "{name} on {}",
                machine.name
            );
            scored += usize::from(call.expected.block_scores.is_some());
            if call.expected.block_indices.is_some() {
                let judgement = call.judge_lists(&got.indices, &problem.reference());
                let (same, lists) = judgement.count();
                println!("{name} on {}: {same} of {lists} lists the same", machine.name);
                assert_eq!(judgement.failure, None, "{name} on {}", machine.name);
                listed += 1;
            }
        }
        assert!(scored > 0 && listed > 0, "no vector has scores, or none has lists");
    }
}
