//! The calls of linear attention.

use super::{Call, Names, Visitor};
use sala_kernels::reference::linear_attention::Config;
use sala_kernels::{Split, lightning_log_decay};
use sala_testkit::floors;
use sala_testkit::memory::Packing;
use sala_testkit::numbers::{cumulative, normals};
use sala_testkit::operations::linear_attention::cases::DecayCase;
use sala_testkit::operations::linear_attention::{DecayValues, LinearProblem, Phase};
use sala_testkit::operations::linear_drafts::{DraftsProblem, Step};
use sala_testkit::operations::linear_ranks::RanksProblem;
use sala_testkit::tolerance::Precision;

/// Whole sequences from zero, states stored.
#[derive(Clone, Copy)]
struct Prefill {
    precision: Precision,
    lengths: &'static [usize],
    heads: usize,
    /// Of keys and of values.
    dims: [usize; 2],
    decay_per_token: bool,
    multiprocessors: u32,
}

const PREFILL: Prefill = Prefill {
    precision: Precision::Bf16,
    lengths: &[1024],
    heads: 2,
    dims: [128; 2],
    decay_per_token: false,
    multiprocessors: 1,
};

/// SALA's dims with few and with many multiprocessors (which narrows the blocks), a ragged batch, a gate per token, f16, small heads.
const PREFILLS: [Prefill; 6] = [
    PREFILL,
    Prefill {
        multiprocessors: 132,
        ..PREFILL
    },
    Prefill {
        lengths: &[257, 0, 64, 703],
        ..PREFILL
    },
    Prefill {
        decay_per_token: true,
        ..PREFILL
    },
    Prefill {
        precision: Precision::F16,
        ..PREFILL
    },
    Prefill {
        dims: [64; 2],
        ..PREFILL
    },
];

/// Batches of decode steps: sequences, heads, channels.
const DECODES: [(usize, usize, usize); 3] = [(1, 32, 128), (16, 8, 128), (16, 8, 64)];

pub fn visit(visitor: &mut impl Visitor) {
    let prefills = Names {
        kernel: "linear_attention_scan",
        operation: "linear_prefill",
    };
    for shape in PREFILLS {
        visitor.visit(prefills, move || prefill(&shape));
    }
    let steps = Names {
        kernel: "linear_attention_decode",
        operation: "linear_decode",
    };
    for (batch, heads, dim) in DECODES {
        visitor.visit(steps, move || decode(batch, heads, dim));
    }
    let verifications = Names {
        kernel: "linear_attention_verify",
        operation: "linear_verify",
    };
    for shape in DRAFTS {
        visitor.visit(verifications, move || draft_call(drafts(shape)));
    }
    let commitments = Names {
        kernel: "linear_attention_commit",
        operation: "linear_commit",
    };
    for shape in DRAFTS {
        visitor.visit(commitments, move || commit(shape));
    }
    let copying = Names {
        kernel: "copy_states",
        operation: "copy_states",
    };
    visitor.visit(copying, copies);
    for (kernel, operation, make) in RANKS {
        visitor.visit(Names { kernel, operation }, make);
    }
}

type Rank = (&'static str, &'static str, fn() -> Call<RanksProblem>);

/// SALA's linear layer of a rank of four, with Lightning's decay.
const RANKS: [Rank; 3] = [
    ("sum_decay", "sum_decay", || {
        ranks(
            "1024 tokens, 32 heads, gates",
            RanksProblem::sum(SALA, &[1024], DecayCase::PerToken, 1),
        )
    }),
    ("merge_states", "merge_states", || {
        ranks("4 parts, 32 x 128x128", RanksProblem::merge(SALA, [4, 1], 1))
    }),
    ("linear_attention_correct", "linear_correct", || {
        let problem = RanksProblem::correct(Precision::Bf16, SALA, &[1024], DecayCase::Lightning, 1);
        ranks("bf16 [1024], 32 x 128x128", problem)
    }),
];

fn ranks(shape: &str, problem: RanksProblem) -> Call<RanksProblem> {
    Call {
        shape: shape.into(),
        floor: floors::ranks(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}

const SALA: Config = Config {
    heads_q: 32,
    heads_kv: 32,
    dim_k: 128,
    dim_v: 128,
    scale: 0.088_388_346,
    state_is_vk: false,
};

/// Drafts: how many sequences, and how many of each.
const DRAFTS: [[usize; 2]; 2] = [[1, 4], [4, 16]];

/// SALA's linear layer with these drafts.
fn drafts(shape: [usize; 2]) -> DraftsProblem {
    DraftsProblem::normal(Precision::Bf16, SALA, shape, DecayCase::Lightning, 1)
}

fn draft_call(problem: DraftsProblem) -> Call<DraftsProblem> {
    let (batch, drafts) = (problem.batch(), problem.drafts);
    Call {
        shape: format!("bf16 batch {batch}, {drafts} drafts, 32 x 128x128"),
        floor: floors::drafts(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}

fn commit(shape: [usize; 2]) -> Call<DraftsProblem> {
    let [batch, count] = shape;
    let accepted = vec![count as i32; batch];
    draft_call(drafts(shape).with(Step::Commit { accepted, path: None }))
}

fn copies() -> Call<DraftsProblem> {
    let mut problem = drafts([2, 1]).with(Step::Copy);
    (problem.state_in, problem.state_out) = (vec![0, 0], Some(vec![1, 2]));
    Call {
        shape: "2 states, 32 x 128x128".into(),
        ..draft_call(problem)
    }
}

/// A call with every state stored in a slot of its own.
fn problem(precision: Precision, lengths: &[usize], heads: usize, [dim_k, dim_v]: [usize; 2]) -> LinearProblem {
    let config = Config {
        heads_q: heads,
        heads_kv: heads,
        dim_k,
        dim_v,
        scale: (dim_k as f32).sqrt().recip(),
        state_is_vk: false,
    };
    let rows = lengths.iter().sum::<usize>() * heads;
    LinearProblem {
        phase: Phase::Prefill,
        config,
        q: normals(precision, rows * dim_k, 1),
        k: normals(precision, rows * dim_k, 2),
        v: normals(precision, rows * dim_v, 3),
        cu_seqlens: cumulative(lengths),
        decay: DecayValues::PerHead(lightning_log_decay(0, heads, heads).expect("there are so many heads")),
        pool: vec![0.0; lengths.len() * config.slot_len()],
        state_in: None,
        state_out: Some((0..lengths.len() as i32).collect()),
        checkpoints: None,
        split: Split::Auto,
        packing: Packing::Separate,
    }
}

fn prefill(shape: &Prefill) -> Call<LinearProblem> {
    let Prefill {
        precision,
        lengths,
        heads,
        dims,
        decay_per_token,
        multiprocessors,
    } = *shape;
    let mut problem = problem(precision, lengths, heads, dims);
    let mut shape = format!("{} {lengths:?}, {heads} x {}x{}", precision.dtype(), dims[0], dims[1]);
    if let (true, DecayValues::PerHead(decay)) = (decay_per_token, &problem.decay) {
        problem.decay = DecayValues::PerToken(decay.repeat(problem.tokens()));
        shape += ", gates";
    }
    if multiprocessors > 1 {
        shape += &format!(", {multiprocessors} SMs");
    }
    Call {
        shape,
        floor: floors::linear(&problem),
        problem,
        multiprocessors,
        workspace: 0,
    }
}

fn decode(batch: usize, heads: usize, dim: usize) -> Call<LinearProblem> {
    let mut problem = problem(Precision::Bf16, &vec![1; batch], heads, [dim; 2]);
    problem.phase = Phase::Decode;
    problem.state_in = problem.state_out.take();
    Call {
        shape: format!("bf16 batch {batch}, {heads} x {dim}x{dim}"),
        floor: floors::linear(&problem),
        problem,
        multiprocessors: 1,
        workspace: 0,
    }
}
