//! What sequences share: pages of keys, slots of states, and the prefixes that are already in them.

use crate::sequence::Row;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Tokens of a page, and from one checkpoint of the linear layers to the next: a multiple of 64, so that a prompt that begins at one has the bits
/// of the whole.
pub const PAGE: usize = 64;

/// Things that are numbered, with how many use each.
pub struct Pool {
    users: Vec<u32>,
    free: Vec<usize>,
}

impl Pool {
    pub fn new(size: usize) -> Pool {
        Pool {
            users: vec![0; size],
            free: (0..size).rev().collect(),
        }
    }

    /// One that nobody uses.
    pub fn take(&mut self) -> Option<usize> {
        let index = self.free.pop()?;
        self.users[index] = 1;
        Some(index)
    }

    /// One more user.
    pub fn share(&mut self, index: usize) {
        self.users[index] += 1;
    }

    /// One user less.
    pub fn release(&mut self, index: usize) {
        self.users[index] -= 1;
        if self.users[index] == 0 {
            self.free.push(index);
        }
    }

    pub fn in_use(&self) -> usize {
        self.users.len() - self.free.len()
    }
}

/// What is kept of a prefix whose length is a multiple of [`PAGE`]: its last page, and the state of the linear layers behind it.
struct Prefix {
    page: usize,
    checkpoint: usize,
    /// What [`crate::check`] wants to know of the page's tokens.
    rows: Vec<Row>,
    last_use: u64,
}

/// A prefix that was found.
#[derive(Default)]
pub struct Found {
    pub pages: Vec<usize>,
    /// The state behind them, which is the finder's to release.
    pub checkpoint: Option<usize>,
    pub rows: Vec<Row>,
}

/// The memory of all layers: a page is one of the keys, values and compressed keys of every sparse layer, a slot one of the states of every
/// linear layer.
pub struct Memory {
    pages: Pool,
    slots: Pool,
    prefixes: BTreeMap<Vec<u8>, Prefix>,
    clock: u64,
}

impl Memory {
    pub fn new(pages: usize, slots: usize) -> Memory {
        Memory {
            pages: Pool::new(pages),
            slots: Pool::new(slots),
            prefixes: BTreeMap::new(),
            clock: 0,
        }
    }

    /// A page, if need be that of the prefix that has not been used for longest.
    pub fn page(&mut self) -> Option<usize> {
        loop {
            match self.pages.take() {
                None if self.forget_one() => {}
                page => return page,
            }
        }
    }

    /// A slot, likewise.
    pub fn slot(&mut self) -> Option<usize> {
        loop {
            match self.slots.take() {
                None if self.forget_one() => {}
                slot => return slot,
            }
        }
    }

    /// A slot that nothing else wants.
    pub fn spare_slot(&mut self) -> Option<usize> {
        self.slots.take()
    }

    pub fn share_page(&mut self, page: usize) {
        self.pages.share(page);
    }

    pub fn release_page(&mut self, page: usize) {
        self.pages.release(page);
    }

    pub fn release_slot(&mut self, slot: usize) {
        self.slots.release(slot);
    }

    pub fn pages_in_use(&self) -> usize {
        self.pages.in_use()
    }

    /// Whether a slot is used by nobody, prefixes aside: at the end of a run.
    pub fn is_idle(&self) -> bool {
        let kept = self.prefixes.len();
        self.pages.in_use() == kept && self.slots.in_use() == kept
    }

    /// The longest prefix of a prompt that is there and leaves at least one token to compute.
    pub fn find(&mut self, prompt: &[u8]) -> Found {
        self.clock += 1;
        let mut found = Found::default();
        for end in (PAGE..prompt.len()).step_by(PAGE) {
            let Some(prefix) = self.prefixes.get_mut(&prompt[..end]) else {
                break;
            };
            prefix.last_use = self.clock;
            self.pages.share(prefix.page);
            found.pages.push(prefix.page);
            found.rows.extend_from_slice(&prefix.rows);
            if let Some(shorter) = found.checkpoint.replace(prefix.checkpoint) {
                self.slots.release(shorter);
            }
            self.slots.share(prefix.checkpoint);
        }
        found
    }

    /// Keeps a prefix that has been computed. `checkpoint` is the memory's from now on.
    pub fn keep(&mut self, prefix: &[u8], page: usize, checkpoint: usize, rows: &[Row]) {
        if self.prefixes.contains_key(prefix) {
            return self.slots.release(checkpoint);
        }
        self.pages.share(page);
        let prefix_kept = Prefix {
            page,
            checkpoint,
            rows: rows.to_vec(),
            last_use: self.clock,
        };
        self.prefixes.insert(prefix.to_vec(), prefix_kept);
    }

    /// Forgets the prefix that has not been used for longest, of several the longest. There may be none.
    fn forget_one(&mut self) -> bool {
        let age = |(tokens, prefix): &(&Vec<u8>, &Prefix)| (prefix.last_use, Reverse(tokens.len()));
        let Some(oldest) = self.prefixes.iter().min_by_key(age).map(|(tokens, _)| tokens.clone()) else {
            return false;
        };
        if let Some(prefix) = self.prefixes.remove(&oldest) {
            self.pages.release(prefix.page);
            self.slots.release(prefix.checkpoint);
        }
        true
    }
}
