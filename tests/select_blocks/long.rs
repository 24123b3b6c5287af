//! Lists that take more blocks by score than a queue has room for, from either entry and by given scores.

use crate::{KINDS, compress, given_scores, inputs};
use sala_kernels::reference::select_blocks::{BlockScores, Config};
use sala_kernels::{Entry, Lse, Status};
use sala_testkit::batch::Batch;
use sala_testkit::devices::{all_levels, host};
use sala_testkit::memory::Packing;
use sala_testkit::numbers::Numbers;
use sala_testkit::operations::choose_blocks::ChooseProblem;
use sala_testkit::operations::select_blocks::SelectProblem;
use sala_testkit::operations::select_blocks::cases::small_config;
use sala_testkit::problem::{Problem, assert_same_bits, compare_on, compare_with, run};
use sala_testkit::property::seed;
use sala_testkit::refusals::assert_blamed;
use sala_testkit::tolerance::Precision;

/// More than 1152 blocks by score, the most that queues of 64 channels have room for.
fn long_config(topk: usize, init_blocks: usize, local_blocks: usize, lse: Lse) -> Config {
    Config {
        topk,
        init_blocks,
        local_blocks,
        block_size: 32,
        lse,
        ..small_config(2, 1, 64)
    }
}

/// More query tokens than are taken at a time, ragged, dense and with more queries than keys; a decode step gives the bits of their last ones.
#[test]
fn long_lists_agree() {
    for (topk, init_blocks, local_blocks, lse) in [(1155, 1, 2, Lse::Coarse), (1300, 0, 0, Lse::Exact)] {
        let config = long_config(topk, init_blocks, local_blocks, lse);
        let mut plain = inputs(
            Precision::F16,
            config,
            &[19, 0, 3, 40],
            &[32 * 1330 + 5, 9, 32 * 1200, 21],
        );
        plain.batch.dense_len = 100;
        for machine in all_levels() {
            let keys = compress(&plain, &machine);
            for scores in [None, Some(plain.blocks() + 1)] {
                let prefill = plain.select(&keys, scores).with_workspace(Entry::Prefill);
                assert!(prefill.workspace > Some(0));
                let got = compare_with(&prefill, &prefill.reference(), &machine);
                let last = plain.chunk(&[32 * 1330 + 5, 9, 32 * 1200, 21], &[16, 0, 3, 0]);
                let step = last.select(&keys, scores).decode();
                let decoded = run(&step, &machine);
                assert_same_bits(&got.part(62, 3..22), &decoded, &machine.name);
            }
        }
    }
}

#[test]
fn long_lists_ask_for_a_workspace() {
    let plain = inputs(
        Precision::F16,
        long_config(1155, 1, 2, Lse::Coarse),
        &[3, 18],
        &[400, 300],
    );
    for machine in all_levels() {
        let problem = plain.select(&compress(&plain, &machine), None);
        let enough = problem.with_workspace(Entry::Prefill).workspace.expect("it takes one");
        for entry in [Entry::Prefill, Entry::Decode] {
            for workspace in [None, Some(enough - 16)] {
                let without = SelectProblem {
                    entry,
                    workspace,
                    ..problem.clone()
                };
                assert_blamed(without.run(&machine), "workspace", &machine.name);
            }
        }
        // What is refused is counted once, however many tokens are taken at a time.
        let mut wrong = problem.with_workspace(Entry::Prefill);
        wrong.batch = Batch::new(&[3, 18], &[400, 2000]).bounded();
        wrong.workspace = wrong.with_workspace(Entry::Prefill).workspace;
        let got = run(&wrong, &machine);
        assert_eq!(got.status, Status::from([0, 0, 1, 0]), "{}", machine.name);
        assert!(got.part(21, 3..21).indices.iter().all(|&block| block == -1));
    }
}

/// More than 1552 by given scores.
#[test]
fn long_lists_by_given_scores_agree() {
    for kind in 0..KINDS {
        for (topk, init_blocks, local_blocks) in [(1560, 1, 4), (1700, 0, 0)] {
            let problem = ChooseProblem {
                config: long_config(topk, init_blocks, local_blocks, Lse::Coarse),
                scores: given_scores(kind, 5, 1800),
                batch: Batch::new(&[3, 2], &[1800 * 32 - 5, 1701 * 32 + 1]),
                packing: [Packing::Separate, Packing::Fused][kind % 2],
            };
            compare_on(&[host()], &problem);
        }
    }
    println!("SALA_TEST_SEED={}", seed());
}

/// Of more blocks than a block of threads has in registers, which are read once more for each histogram that leaves many: all the same, of a few
/// values, of neighbouring numbers, of one magnitude, of all magnitudes.
#[test]
fn long_lists_of_many_blocks_agree() {
    type Score = fn(&mut Numbers) -> f32;
    const SHAPES: [Score; 5] = [
        |_| 0.5,
        |numbers| numbers.below(3) as f32,
        |numbers| f32::from_bits(1.0_f32.to_bits() + numbers.below(4000) as u32),
        |numbers| 1.0 + numbers.below(1 << 20) as f32 / (1 << 20) as f32,
        |numbers| (numbers.below(1 << 16) as f32 / 1000.0 - 30.0).exp2(),
    ];
    for (shape, score) in SHAPES.iter().enumerate() {
        for blocks in [2049, 4096, 16_390, 33_000] {
            let mut numbers = Numbers::new(seed() + shape as u64);
            let scores = (0..2 * blocks).map(|_| score(&mut numbers)).collect();
            let problem = ChooseProblem {
                config: long_config(1600, 1, 2, Lse::Coarse),
                scores: BlockScores { blocks, scores },
                batch: Batch::new(&[2], &[blocks * 32]),
                packing: Packing::Separate,
            };
            compare_on(&[host()], &problem);
        }
    }
    println!("SALA_TEST_SEED={}", seed());
}
