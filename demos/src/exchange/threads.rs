//! Ranks that are threads of one process, on devices of any kind: pieces go through the memory of the process.

use super::Communicator;
use crate::Failure;
use crate::array::Array;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A rank's ends of the channels between it and every rank, itself included.
pub struct Threads {
    rank: usize,
    to: Vec<Sender<Vec<u32>>>,
    from: Vec<Receiver<Vec<u32>>>,
}

/// The communicators of so many ranks, each to be moved to its thread.
pub fn threads(ranks: usize) -> Vec<Threads> {
    let mut ends: Vec<Threads> = (0..ranks)
        .map(|rank| Threads {
            rank,
            to: Vec::new(),
            from: Vec::new(),
        })
        .collect();
    for from in 0..ranks {
        for to in 0..ranks {
            let (sender, receiver) = channel();
            ends[from].to.push(sender);
            ends[to].from.push(receiver);
        }
    }
    ends
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.to.len()
    }

    /// A rank that has ended has dropped its ends, so that nobody waits for it.
    fn all_gather(&mut self, piece: &Array, all: &mut Array) -> Result<(), Failure> {
        let words = piece.read::<u32>()?;
        let ended = |rank: usize| Failure::Exchange(format!("rank {rank} has ended"));
        for (rank, to) in self.to.iter().enumerate() {
            to.send(words.clone()).map_err(|_| ended(rank))?;
        }
        let mut gathered = Vec::with_capacity(words.len() * self.ranks());
        for (rank, from) in self.from.iter().enumerate() {
            gathered.extend(from.recv().map_err(|_| ended(rank))?);
        }
        Ok(all.write(&gathered)?)
    }
}
