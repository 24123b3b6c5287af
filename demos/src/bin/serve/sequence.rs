//! Requests, and the sequences that they become.

use crate::pool::{Memory, PAGE};

/// What a client asks for: a prompt continued in one or more ways.
#[derive(Clone, Debug)]
pub struct Request {
    pub prompt: Vec<u8>,
    /// Tokens to emit.
    pub tokens: usize,
    /// The token, counted from the first emitted one, at which the answers part.
    pub fork_at: usize,
    /// Which answers: rank r takes the token there that is r-th best.
    pub ranks: Vec<usize>,
    /// The step in which it arrives.
    pub arrives: usize,
}

/// How a token was computed, as far as the naive decoder cannot know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Its lists name keys before this position; it sees what follows up to itself.
    pub end: usize,
    /// The lists of all sparse layers and kv heads.
    pub lists: Vec<i32>,
}

/// A sequence: its tokens, and where what has been computed of them lies.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The number of its request, and its rank among the answers.
    pub request: usize,
    pub rank: usize,
    pub prompt: usize,
    /// Tokens when it is done.
    pub total: usize,
    /// The token at which answers part.
    pub fork_at: usize,
    /// Ranks that part from it there.
    pub forks: Vec<usize>,
    /// Prompt and emitted tokens.
    pub tokens: Vec<u8>,
    /// Tokens that keys and states hold.
    pub computed: usize,
    pub pages: Vec<usize>,
    pub slot: Option<usize>,
    /// A checkpoint to start from instead.
    pub checkpoint: Option<usize>,
    /// One for each computed token.
    pub rows: Vec<Row>,
    /// What the model said of each emitted token.
    pub logits: Vec<Vec<f32>>,
    /// Whether it said something else when the sequence had left and come back.
    pub has_changed: bool,
}

impl Sequence {
    pub fn new(number: usize, request: &Request, rank: usize, forks: Vec<usize>) -> Sequence {
        Sequence {
            request: number,
            rank,
            prompt: request.prompt.len(),
            total: request.prompt.len() + request.tokens,
            fork_at: request.prompt.len() + request.fork_at,
            forks,
            tokens: request.prompt.clone(),
            computed: 0,
            pages: Vec::new(),
            slot: None,
            checkpoint: None,
            rows: Vec::new(),
            logits: Vec::new(),
            has_changed: false,
        }
    }

    pub fn is_prefilling(&self) -> bool {
        self.computed < self.prompt
    }

    /// Notes how the token at `position` was computed.
    pub fn note(&mut self, position: usize, row: Row) {
        self.rows.truncate(position);
        self.rows.push(row);
    }

    /// Notes what was said of the token at `place`, maybe again.
    pub fn note_logits(&mut self, place: usize, logits: &[f32]) {
        match self.logits.get(place - self.prompt) {
            None => self.logits.push(logits.to_vec()),
            Some(earlier) => self.has_changed |= earlier != logits,
        }
    }

    /// The rank of the token that comes at `place`.
    pub fn rank_at(&self, place: usize) -> usize {
        if place == self.fork_at { self.rank } else { 0 }
    }

    /// Has pages for so many tokens; `false` if there are not enough.
    pub fn grow(&mut self, memory: &mut Memory, tokens: usize) -> bool {
        while self.pages.len() * PAGE < tokens {
            match memory.page() {
                Some(page) => self.pages.push(page),
                None => return false,
            }
        }
        true
    }

    /// Gives back all that it has; what it has emitted it will compute again.
    pub fn leave(&mut self, memory: &mut Memory) {
        for page in self.pages.drain(..) {
            memory.release_page(page);
        }
        for slot in self.slot.take().into_iter().chain(self.checkpoint.take()) {
            memory.release_slot(slot);
        }
        self.computed = 0;
        self.rows.clear();
    }
}
