//! Block selection by given scores as data.

use super::compress_keys::layer;
use super::select_blocks::Selected;
use super::select_blocks::cases::small_config;
use crate::batch::Batch;
use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::numbers::Numbers;
use crate::problem::{Problem, launch};
use crate::tolerance::Judgement;
use sala_kernels::reference::select_blocks::{BlockScores, Config, select_blocks};
use sala_kernels::{ChooseBlocksArgs, DType, Result, SparseLayer, Status};

/// A choice of blocks by given scores.
#[derive(Clone, Debug)]
pub struct ChooseProblem {
    pub config: Config,
    pub scores: BlockScores,
    pub batch: Batch,
    /// How the scores and lists lie in memory.
    pub packing: Packing,
}

impl ChooseProblem {
    pub fn layer(&self) -> Result<SparseLayer> {
        layer(&self.config, DType::Bf16, self.batch.dense_len)
    }

    pub fn total_q(&self) -> usize {
        self.batch.cu_seqlens_q.last().map_or(0, |&end| end as usize)
    }
}

impl Problem for ChooseProblem {
    type Run = Selected;
    type Reference = Vec<i32>;

    fn packed(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    fn reference(&self) -> Vec<i32> {
        select_blocks(&self.config, &self.scores, &self.batch.choosing(self.total_q()))
    }

    fn run(&self, machine: &Machine) -> Result<Selected> {
        let (layer, gap) = (self.layer()?, self.packing.gap());
        let (total_q, heads_kv) = (self.total_q(), self.config.heads_kv);
        let BlockScores { blocks, scores } = &self.scores;
        let mut memory = Memory::new(&machine.device);
        memory.add("given", &[total_q, heads_kv, *blocks], gap, Some(scores))?;
        self.batch.add_to(&mut memory, self.config.block_size)?;
        let lists = [total_q, heads_kv, layer.list_len()];
        memory.add::<i32>("block_indices", &lists, gap, None)?;
        memory.add_status()?;
        let mut args = ChooseBlocksArgs::new(
            memory.tensor("given"),
            self.batch.view(&memory),
            self.batch.switch_len(&memory),
            memory.tensor_mut("block_indices"),
        );
        args.status = memory.get_mut("status");
        let elapsed = launch(machine, &layer, args)?;
        Selected::read(&memory, elapsed)
    }

    fn judge(&self, run: &Selected, reference: &Vec<i32>) -> Judgement {
        let list_len = self.config.list_len();
        let lists = run.indices.chunks(list_len).zip(reference.chunks(list_len));
        let failure = lists.enumerate().find(|(_, (got, expected))| got != expected);
        let failure = failure.map(|(row, (got, expected))| format!("list {row} is {got:?} instead of {expected:?}"));
        Judgement {
            failure,
            ..Judgement::default()
        }
    }

    fn refused(&self, _: &Vec<i32>) -> Status {
        Status::default()
    }
}

/// Scores with many ties, for ragged sequences.
pub(super) fn samples(seed: u64) -> Vec<ChooseProblem> {
    let mut numbers = Numbers::new(seed);
    let calls = [
        (2, vec![9, 0, 1], vec![64 * 70, 0, 100]),
        (1, vec![5], vec![64 * 300 + 1]),
    ];
    let problem = |(heads_kv, queries, keys): (usize, Vec<usize>, Vec<usize>)| {
        let total_q: usize = queries.iter().sum();
        let blocks = keys.iter().max().map_or(0, |keys| keys.div_ceil(64));
        let scores = (0..total_q * heads_kv * blocks)
            .map(|_| numbers.below(50) as f32)
            .collect();
        ChooseProblem {
            config: small_config(heads_kv, heads_kv, 64),
            scores: BlockScores { blocks, scores },
            batch: if heads_kv == 2 {
                Batch::new(&queries, &keys)
            } else {
                Batch::new(&queries, &keys).paged(64)
            },
            packing: Packing::Separate,
        }
    };
    calls.map(problem).into()
}
