//! The calls of scored retention: scores of keys, choices of tokens, and what moves them.

use super::{Call, Names, Visitor};
use sala_kernels::reference::{choose_tokens, score_keys};
use sala_testkit::batch::{Batch, Storing};
use sala_testkit::floors::{self, Floor};
use sala_testkit::operations::choose_tokens::TokensProblem;
use sala_testkit::operations::compact_keys::CompactProblem;
use sala_testkit::operations::gather_rows::{GatherProblem, KeptTokens};
use sala_testkit::operations::score_keys::ScoreProblem;
use sala_testkit::problem::Problem;
use sala_testkit::tolerance::Precision;

/// Query tokens, keys and kv heads: a question that scores a prompt.
const SCORES: [[usize; 3]; 2] = [[64, 8192, 2], [512, 4096, 8]];

/// Tokens and entries of lists: a chunk within a budget, and a long prompt.
const CHOICES: [[usize; 2]; 2] = [[9072, 6000], [65_536, 8192]];

pub fn visit(visitor: &mut impl Visitor) {
    for shape in SCORES {
        visitor.visit(alone("score_keys"), move || scores(shape));
    }
    for shape in CHOICES {
        visitor.visit(alone("choose_tokens"), move || choice(shape));
    }
    for page_size in [0, 16] {
        visitor.visit(alone("gather_rows"), move || {
            let kept = kept(page_size);
            call(page_size, floors::kept(&kept), GatherProblem(kept))
        });
    }
    for page_size in [0, 16] {
        visitor.visit(alone("compact_keys"), move || {
            let kept = kept(page_size);
            call(page_size, floors::kept(&kept), CompactProblem(kept))
        });
    }
}

fn alone(name: &'static str) -> Names {
    Names {
        kernel: name,
        operation: name,
    }
}

fn scores([queries, keys, heads_kv]: [usize; 3]) -> Call<ScoreProblem> {
    let config = score_keys::Config {
        heads_q: 32,
        heads_kv,
        dim: 128,
        pool: 5,
    };
    let problem = ScoreProblem::normal(Precision::Bf16, config, Batch::new(&[queries], &[keys]), 1);
    let workspace = problem
        .layer()
        .map_or(0, |layer| layer.tokens_workspace_size(1, queries, 0));
    Call {
        shape: format!("bf16 {queries} queries, {keys} keys, 32/{heads_kv} x 128"),
        floor: floors::key_scores(&problem),
        problem,
        multiprocessors: 1,
        workspace,
    }
}

fn choice([tokens, chosen]: [usize; 2]) -> Call<TokensProblem> {
    let config = choose_tokens::Config {
        heads_kv: 2,
        chosen,
        init_tokens: 4,
        local_tokens: 100,
    };
    let problem = TokensProblem::new(config, &[tokens], 0, 1);
    let workspace = problem
        .layer()
        .map_or(0, |layer| layer.tokens_workspace_size(1, 0, tokens));
    Call {
        shape: format!("{chosen} of {tokens}, 2 heads"),
        floor: floors::tokens(&problem),
        problem,
        multiprocessors: 1,
        workspace,
    }
}

/// Two thirds of a cache.
fn kept(page_size: usize) -> KeptTokens {
    let storing = match page_size {
        0 => Storing::Packed,
        page_size => Storing::Paged(page_size),
    };
    KeptTokens::random(Precision::Bf16, [2, 128], &[3072], 2048, storing, 1)
}

fn call<P: Problem>(page_size: usize, floor: Floor, problem: P) -> Call<P> {
    let pages = match page_size {
        0 => String::new(),
        page_size => format!(" in pages of {page_size}"),
    };
    Call {
        shape: format!("bf16 2048 of 3072{pages}, 2 x 128"),
        problem,
        floor,
        multiprocessors: 1,
        workspace: 0,
    }
}
