//! The path of one warp through a loop or a kernel.

use std::collections::BTreeMap;

use super::{Class, Function, Loop, Pattern};
use crate::Problem;

/// Rounds of the loops inside, by a pattern of their first block; the first that fits counts.
pub type Trips = Vec<(Pattern, u32)>;

/// A path longer than this does not end.
const LONGEST: usize = 200_000;

/// An mbarrier's wait is a loop of at most so many instructions.
const LONGEST_POLL: usize = 24;

/// Follows one warp through a function.
pub struct PathFinder<'a> {
    function: &'a Function,
    /// The loop whose round is followed; `None`: from the entry to the exit.
    around: Option<&'a Loop>,
    /// What to call the path in messages.
    subject: &'a str,
    trips: Vec<(Vec<bool>, u32)>,
    is_cold_origin: Vec<bool>,
    /// Whether a side of a fork is cold, where that is known.
    is_cold: BTreeMap<usize, bool>,
}

impl<'a> PathFinder<'a> {
    /// `cold`: code that a usual round does not run.
    pub fn new(
        function: &'a Function,
        around: Option<&'a Loop>,
        cold: &[Pattern],
        trips: &Trips,
        subject: &'a str,
    ) -> Self {
        let rounds = |(pattern, count): &(Pattern, u32)| (function.origins_of(std::slice::from_ref(pattern)), *count);
        Self {
            function,
            around,
            subject,
            trips: trips.iter().map(rounds).collect(),
            is_cold_origin: function.origins_of(cold),
            is_cold: BTreeMap::new(),
        }
    }

    /// The instructions that the warp issues, by number.
    ///
    /// At a fork a side is left if most of what it alone leads to is cold; else the path stays in its loop, or falls through. Loops inside take as
    /// many rounds as `trips` says; waits for an mbarrier take one.
    pub fn find(&mut self) -> Result<Vec<usize>, Problem> {
        let function = self.function;
        let start = self.around.map_or(0, |around| around.head);
        let inner: Vec<&Loop> = function.loops.iter().filter(|inner| self.is_inside(inner)).collect();
        let mut path = Vec::new();
        // Rounds still to come of the loops that the path is in, this one included.
        let mut left: Vec<Option<i64>> = vec![None; inner.len()];
        let mut block = start;
        loop {
            let code = function.block_code(block);
            if code
                .iter()
                .any(|instruction| ["BRX", "JMP"].iter().any(|name| instruction.opcode.starts_with(name)))
            {
                return Err(self.problem("an indirect jump", block));
            }
            if path.len() > LONGEST {
                return Err(self.problem("the path does not end; edit `trips` or `cold`, near", block));
            }
            path.extend(function.blocks[block].start..function.blocks[block].end);
            for (inner, left) in inner.iter().zip(&mut left) {
                *left = match *left {
                    _ if !inner.contains(block) => None,
                    Some(rounds) if inner.head == block => Some(rounds - 1),
                    None if inner.head == block => Some(self.rounds(inner)?),
                    rounds => rounds,
                };
            }
            let within = inner.iter().zip(&left).filter(|(inner, _)| inner.contains(block));
            let nearest = within.min_by_key(|(inner, _)| inner.blocks.len());
            let (nearest, rounds) = match nearest {
                Some((inner, left)) => (Some(*inner), *left),
                None => (self.around, None),
            };
            match self.choose(block, nearest, rounds)? {
                None => return Ok(path),
                Some(next) if self.around.is_some() && next == start => return Ok(path),
                Some(next) if self.around.is_some_and(|around| !around.contains(next)) => {
                    return Err(self.problem("the path leaves its loop; name what is cold there in `cold`, at", block));
                }
                Some(next) => block = next,
            }
        }
    }

    fn is_inside(&self, inner: &Loop) -> bool {
        self.around
            .is_none_or(|around| around.contains(inner.head) && around.head != inner.head)
    }

    fn problem(&self, what: &str, block: usize) -> Problem {
        let last = self.function.block_code(block).last();
        let at = last.map(|last| self.function.describe(last)).unwrap_or_default();
        Problem::misfit(format!("{}: {what} {at}, in {}", self.subject, self.function.name))
    }

    fn rounds(&self, inner: &Loop) -> Result<i64, Problem> {
        let head = self.function.block_code(inner.head);
        let told = self
            .trips
            .iter()
            .find(|(fits, _)| head.iter().any(|instruction| fits[instruction.origin]));
        if let Some(&(_, count)) = told {
            return Ok(i64::from(count));
        }
        let length = self.function.code_of(inner.blocks.iter().copied()).count();
        let mut code = self.function.code_of(inner.blocks.iter().copied());
        let polls =
            code.any(|instruction| instruction.class == Class::Syncs && instruction.opcode.contains("PHASECHK"));
        if polls && length <= LONGEST_POLL {
            return Ok(1);
        }
        let first = head
            .first()
            .map(|first| self.function.describe(first))
            .unwrap_or_default();
        Err(Problem::misfit(format!(
            "{}: how many rounds has the loop at {first} of {}? Add it to `trips`, or what leads there to `cold`",
            self.subject, self.function.name
        )))
    }

    /// The block after this one. `nearest`: the innermost loop around it, of which `rounds` are to come.
    fn choose(&mut self, block: usize, nearest: Option<&Loop>, rounds: Option<i64>) -> Result<Option<usize>, Problem> {
        let from = &self.function.blocks[block];
        let (Some(next), Some(jump)) = (from.next, from.jump) else {
            return Ok(from.jump.or(from.next));
        };
        let (next_is_cold, jump_is_cold) = (self.is_cold(next), self.is_cold(jump));
        if next_is_cold && jump_is_cold {
            return Err(self.problem("both sides are cold; edit `cold` for the fork at", block));
        }
        let (stay, leave) = if next_is_cold { (jump, next) } else { (next, jump) };
        let Some(nearest) = nearest.filter(|_| !next_is_cold && !jump_is_cold) else {
            return Ok(Some(stay));
        };
        if nearest.contains(stay) == nearest.contains(leave) {
            return Ok(Some(stay));
        }
        let (stay, leave) = if nearest.contains(stay) {
            (stay, leave)
        } else {
            (leave, stay)
        };
        let is_last = match rounds {
            Some(rounds) if self.leads_only_to(stay, nearest.head) => rounds <= 1,
            Some(rounds) => rounds <= 0 && block == nearest.head,
            None => false,
        };
        Ok(Some(if is_last { leave } else { stay }))
    }

    /// Whether a block is `head`, or goes nowhere else.
    fn leads_only_to(&self, block: usize, head: usize) -> bool {
        block == head || self.function.blocks[block].successors().eq([head])
    }

    /// Whether most of the code that only this side of a fork leads to is cold, colder parts of it left out.
    fn is_cold(&mut self, side: usize) -> bool {
        if let Some(&known) = self.is_cold.get(&side) {
            return known;
        }
        let is_cold = self.find_whether_cold(side);
        self.is_cold.insert(side, is_cold);
        is_cold
    }

    fn find_whether_cold(&mut self, side: usize) -> bool {
        let function = self.function;
        let ways_in = function
            .before(side)
            .iter()
            .filter(|&&source| !function.dominates(side, source));
        if ways_in.count() > 1 {
            return false;
        }
        let blocks = 0..function.blocks.len();
        let is_around = |block: usize| self.around.is_none_or(|around| around.contains(block));
        let mut region: Vec<usize> = blocks
            .filter(|&block| function.dominates(side, block) && is_around(block))
            .collect();
        for fork in region.clone() {
            let children: Vec<usize> = function.blocks[fork].successors().collect();
            if children.len() != 2 {
                continue;
            }
            let mut left_out = Vec::new();
            for child in children {
                let is_own =
                    child != side && child != fork && region.contains(&child) && function.dominates(fork, child);
                if is_own && self.is_cold(child) {
                    left_out.push(child);
                }
            }
            // A fork of which both sides are cold leads nowhere else: they are no colder parts of it.
            if let [child] = left_out[..] {
                region.retain(|&block| !function.dominates(child, block));
            }
        }
        let leaves = |instruction: &crate::sass::Instruction| {
            let label = instruction.label.as_deref().unwrap_or_default();
            instruction.opcode.starts_with("CALL") && !function.has_label(label)
        };
        let calls_out = function.block_code(side).iter().any(leaves);
        let code = || function.code_of(region.iter().copied());
        let cold = code()
            .filter(|instruction| self.is_cold_origin[instruction.origin])
            .count();
        calls_out || 2 * cold > code().count()
    }
}
