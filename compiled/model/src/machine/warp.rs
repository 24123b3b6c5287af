//! One warp of a simulation.

use super::mbarrier::{Phases, Readers};
use super::program::{Action, Op, Turn};
use super::{Program, STAGGER};
use crate::sass::REGISTERS;

pub(super) struct Warp<'a> {
    pub(super) rounds: Vec<&'a Program>,
    pub(super) block: usize,
    /// The round, and the next instruction in it.
    pub(super) round: usize,
    pub(super) at: usize,
    /// It issues nothing before.
    pub(super) blocked: f64,
    /// When the next instruction's registers are ready.
    pub(super) operands: f64,
    /// Whether it waits at a barrier.
    pub(super) parked: bool,
    /// When the copies so far have landed.
    pub(super) landing: f64,
    pub(super) ready: Box<[f64; REGISTERS]>,
    /// Ends of groups of copies, and of products.
    pub(super) copies: Vec<f64>,
    pub(super) products: Vec<f64>,
    /// For each mbarrier, the most arrivals and waits of a round.
    pub(super) arrivals: Vec<usize>,
    pub(super) waits: Vec<usize>,
    pub(super) marks: Vec<f64>,
}

impl<'a> Warp<'a> {
    pub(super) fn new(rounds: Vec<&'a Program>, block: usize, syncs: usize) -> Self {
        let most = |count: fn(&Program) -> &Vec<usize>| {
            let of = |sync: usize| rounds.iter().filter_map(|program| count(program).get(sync)).max();
            (0..syncs).map(|sync| of(sync).copied().unwrap_or(0)).collect()
        };
        Self {
            block,
            round: 0,
            at: 0,
            blocked: STAGGER * block as f64,
            operands: 0.0,
            parked: false,
            landing: 0.0,
            ready: Box::new([0.0; REGISTERS]),
            copies: Vec::new(),
            products: Vec::new(),
            arrivals: most(|program| &program.arrivals),
            waits: most(|program| &program.waits),
            marks: Vec::new(),
            rounds,
        }
    }

    /// Counts the arrivals that rounds which spare this warp lack. `of_round`: the phases of a round, for each mbarrier.
    pub(super) fn arrive_where_spared(&self, of_round: &[usize], phases: &mut [Phases]) {
        for (round, program) in self.rounds.iter().enumerate() {
            for (sync, &most) in self.arrivals.iter().enumerate() {
                let has = program.arrivals.get(sync).copied().unwrap_or(0);
                for nth in has..most {
                    let phase = phase_of(Turn { sync, nth }, round, most, of_round);
                    phases[sync].arrive(phase, 0.0);
                }
            }
        }
    }

    /// The phase that an arrival is for.
    pub(super) fn arrival_phase(&self, turn: Turn, of_round: &[usize]) -> usize {
        phase_of(turn, self.round, self.arrivals[turn.sync], of_round)
    }

    /// The phase that a wait is for.
    pub(super) fn wait_phase(&self, turn: Turn, of_round: &[usize]) -> usize {
        phase_of(turn, self.round, self.waits[turn.sync], of_round)
    }

    /// Says in which rounds it comes by a refill.
    pub(super) fn expect_refills(&self, readers: &mut Readers) {
        for (round, program) in self.rounds.iter().enumerate() {
            for op in &program.ops {
                if let Action::Refill { number, .. } = op.action {
                    readers.expect(self.block, number, round);
                }
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.round == self.rounds.len()
    }

    pub(super) fn next_op(&self) -> &'a Op {
        &self.rounds[self.round].ops[self.at]
    }

    /// Goes on to the next round where one is finished.
    pub(super) fn finish_rounds(&mut self, now: f64) {
        while !self.is_done() && self.at >= self.rounds[self.round].len() {
            self.marks.push(now);
            self.round += 1;
            self.at = 0;
        }
    }

    pub(super) fn find_operands(&mut self) {
        let program = self.rounds[self.round];
        let needs = program.needs(self.next_op()).iter();
        let ready = needs.map(|&register| self.ready[usize::from(register)]);
        self.operands = ready.fold(0.0, f64::max);
    }
}

/// A round's turns are dealt to its phases in order: two copies per phase are two arrivals for each wait.
fn phase_of(turn: Turn, round: usize, turns_of_round: usize, of_round: &[usize]) -> usize {
    let phases = of_round[turn.sync];
    round * phases + turn.nth * phases / turns_of_round.max(1)
}
