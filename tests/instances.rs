//! Every kernel of the build runs on interpreted PTX at least once: each instance as each architecture has it.

use std::path::Path;

use sala_kernels::{Lse, shapes};
use sala_ptx::client::Driver;
use sala_testkit::batch::{Batch, Storing};
use sala_testkit::devices::{Machine, cuda, cuda_at_base};
use sala_testkit::operations::append_keys::AppendProblem;
use sala_testkit::operations::commit_keys::CommitProblem;
use sala_testkit::operations::linear_attention::Phase;
use sala_testkit::operations::linear_attention::cases::{DecayCase, LinearCase, Magnitude, StateCase};
use sala_testkit::operations::linear_drafts::{DraftsProblem, Step};
use sala_testkit::operations::linear_ranks::RanksProblem;
use sala_testkit::operations::merge::MergeProblem;
use sala_testkit::operations::norms::NormProblem;
use sala_testkit::operations::select_blocks::cases::{SelectionInputs, small_config};
use sala_testkit::operations::sparse_attention::cases::{AttentionCase, ListCase};
use sala_testkit::operations::{Visitor, visit_all};
use sala_testkit::problem::{Problem, compare_on, run};
use sala_testkit::tolerance::Precision;

const PRECISIONS: [Precision; 2] = [Precision::Bf16, Precision::F16];
const DIMS: [usize; 2] = [64, 128];

struct Compares<'m>(&'m [Machine]);

impl Visitor for Compares<'_> {
    fn visit<P: Problem>(&mut self, _: &str, problems: Vec<P>) {
        problems.iter().for_each(|problem| compare_on(self.0, problem));
    }
}

fn linear(precision: Precision, dim_k: usize, dim_v: usize, heads: usize) -> LinearCase {
    LinearCase {
        phase: Phase::Prefill,
        precision,
        heads,
        group: 1,
        dim_k,
        dim_v,
        lengths: vec![65],
        decay: DecayCase::Lightning,
        state_is_vk: false,
        packing: Default::default(),
        magnitude: Magnitude::Normal,
        states: StateCase::InPlace,
        checkpoint_every: 0,
        seed: 1,
    }
}

#[test]
fn every_instance_runs_on_interpreted_ptx() {
    let Some(library) = std::env::var_os("SALA_CUDA_DRIVER") else {
        println!("skipped: SALA_CUDA_DRIVER names no interpreter");
        return;
    };
    let machines = [cuda().expect("the driver was asked for")];
    let levels: Vec<_> = cuda().into_iter().chain(cuda_at_base()).collect();
    let driver = Driver::open(Path::new(&library)).expect("the library that the crate has loaded");
    visit_all(&mut Compares(&machines), 1);
    for precision in PRECISIONS {
        for dim in DIMS {
            for group in [1, 8, 16, 32, 64] {
                let mut config = small_config(group, 1, dim);
                config.lse = Lse::Coarse;
                let inputs = SelectionInputs::normal(precision, config, &[1], &[700], 1);
                let keys = run(&inputs.compress(), &machines[0]).keys;
                compare_on(&levels, &inputs.select(&keys, None));
                compare_on(&machines, &inputs.select(&keys, None).decode());
            }
            let case = AttentionCase {
                precision,
                dim,
                lists: ListCase::None,
                ..AttentionCase::plain(vec![(1, 130)], 1)
            };
            compare_on(&levels, &case.problem());
            compare_on(&machines, &case.problem().decode());
            // A tile for each multiprocessor: they may be wide then.
            let lengths = vec![(1, 2); machines[0].device.multiprocessors() as usize];
            let short = AttentionCase {
                lengths,
                ..case.clone()
            };
            compare_on(&levels, &short.problem());
            let lists = ListCase::Selected;
            let problem = AttentionCase { lists, ..case }.problem();
            compare_on(&levels, &problem);
            // Few heads narrow the blocks of a scan to 32 channels; many leave them as wide as they may be.
            for dim_v in DIMS {
                for heads in [1, 100, 200] {
                    compare_on(&machines, &linear(precision, dim, dim_v, heads).problem());
                }
                compare_on(&machines, &linear(precision, dim, dim_v, 2).decode(2).problem());
            }
            let config = linear(precision, dim, dim, 1).problem().config;
            let drafts = DraftsProblem::normal(precision, config, [1, 2], DecayCase::None, 1);
            let accepted = vec![1];
            compare_on(&machines, &drafts.with(Step::Commit { accepted, path: None }));
            compare_on(&machines, &drafts);
            compare_on(
                &machines,
                &RanksProblem::correct(precision, config, &[33], DecayCase::Lightning, 1),
            );
            let batch = Batch::new(&[3], &[5]);
            compare_on(&machines, &AppendProblem::normal(precision, 1, dim, batch, 1));
            let commit = CommitProblem::random(precision, [1, dim], &[5], 4, Storing::Packed, 1);
            compare_on(&machines, &commit);
        }
    }
    for precision in PRECISIONS {
        for dim in DIMS {
            compare_on(&machines, &NormProblem::rope(precision, [2, 3, dim], 1));
            compare_on(&machines, &MergeProblem::normal(precision, [2, 3, dim], 1.0, 1));
        }
        for channels in [2048, 4096, 8192, 16384] {
            let gate = NormProblem::gate(precision, [1, channels], 1);
            compare_on(&machines, &gate);
            compare_on(&machines, &gate.sums());
        }
    }
    let executed = driver.executed();
    let device = &machines[0].device;
    let is_hopper = device.compute_capability() == Some((9, 0));
    // What takes more shared memory than every GPU has.
    let has_room = |name: &str| {
        !(name.starts_with("dense_attention_wide") && name.ends_with("128")) || device.max_shared_memory() > 160 * 1024
    };
    let runs = shapes::KERNELS
        .iter()
        .filter(|file| file.machine != shapes::Machine::Sm90a || is_hopper);
    let instances = runs.flat_map(|file| file.instances());
    let missing: Vec<_> = instances
        .map(|instance| instance.name)
        .filter(|name| has_room(name) && !executed.contains_key(name))
        .collect();
    assert!(missing.is_empty(), "not run: {missing:?}");
}
