//! Who computes what in the next step: continuous batching, chunked prefill, preemption and forks. It knows nothing of devices.

use crate::model::DENSE_LEN;
use crate::pool::{Memory, PAGE};
use crate::sequence::{Request, Sequence};
use crate::speculate::Speculation;
use std::collections::VecDeque;

/// The most rows of prompts in a step.
pub const PREFILL_ROWS: usize = 128;

/// How an engine is run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub speculation: Speculation,
    /// Sequences that run at a time.
    pub batch: usize,
    /// Whether sequences find what others have computed of their prompts, and forks share what they have in common.
    pub shares: bool,
    pub pages: usize,
    pub slots: usize,
}

/// What a step computes. Sequences are named by their places among those that run.
#[derive(Debug, Default)]
pub struct Step {
    /// They verify one row each, or as many as a speculating sequence has.
    pub decode: Vec<usize>,
    pub prefill: Vec<Chunk>,
}

/// Tokens `start..end` of a prompt.
#[derive(Debug)]
pub struct Chunk {
    pub sequence: usize,
    pub start: usize,
    pub end: usize,
    /// A slot for the state behind each page that the chunk fills, −1 for none.
    pub checkpoints: Vec<i32>,
}

/// What a fork has to copy, because both sides will write to it.
#[derive(Debug)]
pub struct Fork {
    pub child: usize,
    /// The page that is not full yet, from and to.
    pub page: Option<(usize, usize)>,
    /// The state, from and to.
    pub slot: (usize, usize),
}

/// All sequences and the memory that they share.
pub struct Scheduler {
    settings: Settings,
    pub memory: Memory,
    waiting: VecDeque<(usize, Sequence)>,
    /// Oldest first.
    pub running: Vec<Sequence>,
    pub finished: Vec<Sequence>,
    pub preempted: usize,
    pub forked: usize,
    /// Tokens of prompts that were found and not computed.
    pub found: usize,
    steps: usize,
    prompts_are_next: bool,
}

impl Scheduler {
    pub fn new(settings: Settings, requests: &[Request]) -> Scheduler {
        let mut waiting = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            match (settings.shares, request.ranks.split_first()) {
                (true, Some((&rank, forks))) => {
                    waiting.push((request.arrives, Sequence::new(number, request, rank, forks.to_vec())));
                }
                _ => {
                    let alone = |&rank| (request.arrives, Sequence::new(number, request, rank, Vec::new()));
                    waiting.extend(request.ranks.iter().map(alone));
                }
            }
        }
        waiting.sort_by_key(|(arrives, _)| *arrives);
        Scheduler {
            settings,
            memory: Memory::new(settings.pages, settings.slots),
            waiting: waiting.into(),
            running: Vec::new(),
            finished: Vec::new(),
            preempted: 0,
            forked: 0,
            found: 0,
            steps: 0,
            prompts_are_next: true,
        }
    }

    /// Whether everybody has left.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Lets sequences in, and deals the rows of the next step to them, oldest first. Whoever is youngest leaves where pages run out.
    pub fn next(&mut self) -> Step {
        self.steps += 1;
        self.admit();
        let (prompts, decoding) = self.turns();
        let mut step = Step::default();
        let mut budget = PREFILL_ROWS;
        let mut index = 0;
        while index < self.running.len() {
            let sequence = &self.running[index];
            let is_prefilling = sequence.is_prefilling();
            let start = sequence.computed;
            let rows = match is_prefilling {
                true if prompts => chunk(start, sequence.prompt, budget),
                false if decoding => self.settings.speculation.width(),
                _ => 0,
            };
            if rows > 0 {
                if !self.make_room(index, start + rows) {
                    break;
                }
                if is_prefilling {
                    budget -= rows;
                    step.prefill.push(self.chunk_of(index, start, start + rows));
                } else {
                    step.decode.push(index);
                }
            }
            index += 1;
        }
        step
    }

    /// Whether prompts and decoding sequences have a turn. Both at once, but for trees: their selection is a launch of its own kind, and with it a
    /// step would be more than eight kernels per sparse layer.
    fn turns(&mut self) -> (bool, bool) {
        if self.settings.speculation != Speculation::Tree {
            return (true, true);
        }
        let prefilling = self.running.iter().filter(|sequence| sequence.is_prefilling()).count();
        let prompts = prefilling > 0 && (prefilling == self.running.len() || self.prompts_are_next);
        self.prompts_are_next = !prompts;
        (prompts, !prompts)
    }

    fn admit(&mut self) {
        while self.running.len() < self.settings.batch {
            let Some((arrives, mut sequence)) = self.waiting.pop_front() else {
                return;
            };
            if arrives >= self.steps || !self.equip(&mut sequence) {
                sequence.leave(&mut self.memory);
                return self.waiting.push_front((arrives, sequence));
            }
            self.found += sequence.computed;
            self.running.push(sequence);
        }
    }

    /// Gives a sequence what it begins with: a slot, what is there of its prompt, and pages for the first chunk of the rest.
    fn equip(&mut self, sequence: &mut Sequence) -> bool {
        sequence.slot = self.memory.slot();
        if self.settings.shares {
            let found = self.memory.find(&sequence.tokens[..sequence.prompt]);
            sequence.computed = found.pages.len() * PAGE;
            sequence.pages = found.pages;
            sequence.checkpoint = found.checkpoint;
            sequence.rows = found.rows;
        }
        let start = sequence.computed;
        let rows = chunk(start, sequence.prompt, PREFILL_ROWS);
        sequence.slot.is_some() && sequence.grow(&mut self.memory, start + rows)
    }

    /// Finds pages for a sequence's first `tokens` tokens; `false` if it had to leave itself.
    fn make_room(&mut self, index: usize, tokens: usize) -> bool {
        while !self.running[index].grow(&mut self.memory, tokens) {
            if let Some(mut youngest) = self.running.pop() {
                youngest.leave(&mut self.memory);
                self.waiting.push_front((0, youngest));
                self.preempted += 1;
            }
            if self.running.len() == index {
                return false;
            }
        }
        true
    }

    fn chunk_of(&mut self, sequence: usize, start: usize, end: usize) -> Chunk {
        let full = match self.settings.shares {
            true => end / PAGE - start / PAGE,
            false => 0,
        };
        let slot = |_| self.memory.spare_slot().map_or(-1, |slot| slot as i32);
        Chunk {
            sequence,
            start,
            end,
            checkpoints: (0..full).map(slot).collect(),
        }
    }

    /// How many rows of a decoding sequence may be accepted: none behind its end; none behind the token at which answers part, so that forks begin
    /// with what has been computed; and none that would attend to its blocks in a step that attends densely.
    pub fn limit(&self, index: usize) -> usize {
        let sequence = &self.running[index];
        let base = sequence.computed;
        let up_to = |place: usize| if base < place { place - base } else { usize::MAX };
        up_to(sequence.total - 1)
            .min(up_to(sequence.fork_at))
            .min(up_to(DENSE_LEN))
    }

    /// A chunk has been computed: what it filled is there for others.
    pub fn finish_chunk(&mut self, chunk: &Chunk) {
        let sequence = &mut self.running[chunk.sequence];
        sequence.computed = chunk.end;
        if let Some(used) = sequence.checkpoint.take() {
            self.memory.release_slot(used);
        }
        for (page, &slot) in (chunk.start / PAGE..).zip(&chunk.checkpoints) {
            let Ok(slot) = usize::try_from(slot) else { continue };
            let end = (page + 1) * PAGE;
            let rows = &sequence.rows[page * PAGE..end];
            self.memory
                .keep(&sequence.tokens[..end], sequence.pages[page], slot, rows);
        }
    }

    /// Makes a child that has what its parent has and goes on with `token`, and says what of it must be copied. Without room for it the child waits
    /// and computes all itself.
    pub fn fork(&mut self, parent: usize, rank: usize, token: u8) -> Option<Fork> {
        let parent = &self.running[parent];
        let mut child = parent.clone();
        (child.rank, child.forks) = (rank, Vec::new());
        (child.slot, child.checkpoint) = (None, None);
        child.tokens.push(token);
        let full = parent.computed / PAGE;
        child.pages = parent.pages[..full].to_vec();
        for &page in &child.pages {
            self.memory.share_page(page);
        }
        let from = (parent.slot, parent.pages.get(full).copied());
        child.slot = self.memory.slot();
        let has_room = self.running.len() < self.settings.batch && child.grow(&mut self.memory, child.computed);
        let ((Some(from_slot), from_page), Some(to_slot), true) = (from, child.slot, has_room) else {
            child.leave(&mut self.memory);
            self.waiting.push_front((0, child));
            return None;
        };
        let page = from_page.zip(child.pages.get(full).copied());
        self.running.push(child);
        self.forked += 1;
        Some(Fork {
            child: self.running.len() - 1,
            page,
            slot: (from_slot, to_slot),
        })
    }

    /// Lets those go that are done.
    pub fn retire(&mut self) {
        for mut sequence in std::mem::take(&mut self.running) {
            if sequence.tokens.len() < sequence.total {
                self.running.push(sequence);
                continue;
            }
            let rows = std::mem::take(&mut sequence.rows);
            sequence.leave(&mut self.memory);
            sequence.rows = rows;
            self.finished.push(sequence);
        }
    }
}

/// How many tokens of a prompt come next: a multiple of a page or the rest, and none that attends to its blocks behind one that attends densely.
fn chunk(start: usize, prompt: usize, budget: usize) -> usize {
    let end = if start < DENSE_LEN {
        prompt.min(DENSE_LEN)
    } else {
        prompt
    };
    let rest = end.saturating_sub(start);
    if rest <= budget { rest } else { budget / PAGE * PAGE }
}
