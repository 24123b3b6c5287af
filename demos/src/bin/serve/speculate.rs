//! Drafts: a small model that guesses, and which guesses are accepted.

use crate::model::{Model, VOCABULARY};
use crate::sampler::{best, pick};
use clap::ValueEnum;

/// What a decoding sequence verifies in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Speculation {
    /// Nothing: one token per step.
    Off,
    /// Drafts that follow each other.
    Chain,
    /// Two chains of drafts behind the last token.
    Tree,
}

/// Rows of a chain: the last token, and three drafts.
const CHAIN: [i32; 4] = [-1, 0, 1, 2];
/// Rows of a tree: the last token, and two chains of three drafts behind it.
const TREE: [i32; 7] = [-1, 0, 0, 1, 2, 3, 4];

impl Speculation {
    /// The row that each row of a sequence follows. Row 0 is the last token, which is always accepted.
    pub fn parents(self) -> &'static [i32] {
        match self {
            Speculation::Off => &CHAIN[..1],
            Speculation::Chain => &CHAIN,
            Speculation::Tree => &TREE,
        }
    }

    /// Rows of a sequence.
    pub fn width(self) -> usize {
        self.parents().len()
    }

    /// Rows of the longest path.
    pub fn depths(self) -> usize {
        (0..self.width()).map(|row| self.depth(row) + 1).max().unwrap_or(0)
    }

    /// How many rows come before a row on its path.
    pub fn depth(self, row: usize) -> usize {
        let above = usize::try_from(self.parents()[row]);
        above.map_or(0, |above| self.depth(above) + 1)
    }
}

/// The model without its layers: what follows a token most often, and second most often.
pub struct Drafter {
    next: Vec<[u8; 2]>,
}

impl Drafter {
    pub fn new(model: &Model) -> Drafter {
        let tokens: Vec<u8> = (0..=u8::MAX).collect();
        let logits = model.logits(&model.embed::<f32>(&tokens));
        Drafter {
            next: logits.chunks(VOCABULARY).map(|row| [best(row), pick(row, 1)]).collect(),
        }
    }

    /// The rows of a sequence that ends in `last`.
    pub fn drafts(&self, speculation: Speculation, last: u8) -> Vec<u8> {
        let parents = speculation.parents();
        let mut rows = vec![last];
        for (row, &parent) in parents.iter().enumerate().skip(1) {
            // A second child takes the second guess.
            let rank = usize::from(parents[..row].contains(&parent));
            rows.push(self.next[usize::from(rows[parent as usize])][rank]);
        }
        rows
    }
}

/// What came of the rows of one sequence.
#[derive(Debug)]
pub struct Accepted {
    /// The accepted rows, each a child of the one before; row 0 first.
    pub path: Vec<usize>,
    /// A token for each of them, of which the last is no draft.
    pub tokens: Vec<u8>,
}

/// Follows the drafts for as long as they are what `emit` says, which is asked for the token behind a row and told how many came before it.
/// At most `limit` rows are accepted.
pub fn accept(
    speculation: Speculation,
    rows: &[u8],
    limit: usize,
    mut emit: impl FnMut(usize, usize) -> u8,
) -> Accepted {
    let parents = speculation.parents();
    let mut accepted = Accepted {
        path: vec![0],
        tokens: vec![emit(0, 0)],
    };
    while accepted.path.len() < limit {
        let (Some(&last), Some(&token)) = (accepted.path.last(), accepted.tokens.last()) else {
            break;
        };
        let follows = |&row: &usize| parents[row] == last as i32 && rows[row] == token;
        let Some(row) = (last + 1..rows.len()).find(follows) else {
            break;
        };
        let next = emit(row, accepted.path.len());
        accepted.path.push(row);
        accepted.tokens.push(next);
    }
    accepted
}
