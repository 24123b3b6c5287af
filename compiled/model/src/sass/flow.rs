//! Basic blocks, dominators and loops.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Instruction, Origin, Pattern};

/// A kernel, or another function of a cubin.
#[derive(Debug)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// In the order of addresses.
    pub code: Vec<Instruction>,
    /// Where instructions came from.
    pub origins: Vec<Origin>,
    /// In the order of addresses.
    pub blocks: Vec<Block>,
    /// In the order of their heads; outer loops come before those inside.
    pub loops: Vec<Loop>,
    labels: HashMap<String, usize>,
    before: Vec<Vec<usize>>,
    dominators: Vec<Option<Bits>>,
}

/// Instructions that run one after the other.
#[derive(Debug)]
pub struct Block {
    /// The first instruction.
    pub start: usize,
    /// After the last one.
    pub end: usize,
    /// The block that its last instruction may jump to.
    pub jump: Option<usize>,
    /// The block that follows where that does not jump.
    pub next: Option<usize>,
}

/// A natural loop: its blocks, by number.
#[derive(Debug)]
pub struct Loop {
    /// The block that every round passes first.
    pub head: usize,
    /// All of its blocks.
    pub blocks: BTreeSet<usize>,
}

impl Block {
    /// Where it may go.
    pub fn successors(&self) -> impl Iterator<Item = usize> {
        self.next.into_iter().chain(self.jump)
    }
}

impl Loop {
    /// Whether a block belongs to it.
    pub fn contains(&self, block: usize) -> bool {
        self.blocks.contains(&block)
    }
}

/// A set of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, bit: usize) -> bool {
        self.0[bit / 64] >> (bit % 64) & 1 != 0
    }

    fn insert(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own &= other);
    }
}

impl Function {
    /// Finds the blocks and loops of `code`. `labels` are the origins in it that jumps name.
    pub fn new(name: String, code: Vec<Instruction>, labels: HashMap<String, usize>, origins: Vec<Origin>) -> Self {
        let blocks = make_blocks(&code, &labels);
        let mut function = Self {
            name,
            code,
            origins,
            loops: Vec::new(),
            labels,
            before: vec![Vec::new(); blocks.len()],
            dominators: vec![None; blocks.len()],
            blocks,
        };
        let order = function.find_dominators();
        function.find_loops(&order);
        function
    }

    /// Whether every way to `other` passes `block`. Nothing dominates what cannot be reached.
    pub fn dominates(&self, block: usize, other: usize) -> bool {
        self.dominators[other].as_ref().is_some_and(|above| above.has(block))
    }

    /// The blocks that may come before a block.
    pub fn before(&self, block: usize) -> &[usize] {
        &self.before[block]
    }

    /// Whether a jump stays in this function.
    pub fn has_label(&self, label: &str) -> bool {
        self.labels.contains_key(label)
    }

    /// The instructions of a block.
    pub fn block_code(&self, block: usize) -> &[Instruction] {
        &self.code[self.blocks[block].start..self.blocks[block].end]
    }

    /// The instructions of blocks, in the order that the blocks come in.
    pub fn code_of(&self, blocks: impl IntoIterator<Item = usize>) -> impl Iterator<Item = &Instruction> {
        blocks.into_iter().flat_map(|block| self.block_code(block))
    }

    /// In how many other loops a loop is.
    pub fn depth(&self, inner: &Loop) -> usize {
        self.loops.iter().filter(|around| around.contains(inner.head)).count() - 1
    }

    /// Which origins one of `patterns` fits.
    pub fn origins_of(&self, patterns: &[Pattern]) -> Vec<bool> {
        let fits = |origin| patterns.iter().any(|pattern| pattern.fits(origin));
        self.origins.iter().map(fits).collect()
    }

    /// An instruction with its source, for messages.
    pub fn describe(&self, instruction: &Instruction) -> String {
        let shorten = |text: &str| text.chars().take(60).collect::<String>();
        let frames = self.origins[instruction.origin].iter().take(2);
        let frames: Vec<_> = frames
            .map(|frame| format!("{} `{}`", frame.function, shorten(&frame.line)))
            .collect();
        let origin = match frames.as_slice() {
            [] => "no source: compile with -lineinfo".to_owned(),
            frames => frames.join(", "),
        };
        format!("`{}` ({origin})", shorten(&instruction.text))
    }

    /// Returns the blocks that can be reached, breadth first.
    fn find_dominators(&mut self) -> Vec<usize> {
        let mut order = vec![0];
        let mut is_known = vec![false; self.blocks.len()];
        is_known[0] = true;
        let mut at = 0;
        while at < order.len() {
            let block = order[at];
            for successor in self.blocks[block].successors() {
                if !is_known[successor] {
                    is_known[successor] = true;
                    order.push(successor);
                }
                self.before[successor].push(block);
            }
            at += 1;
        }
        let words = self.blocks.len().div_ceil(64);
        let mut only_entry = Bits(vec![0; words]);
        only_entry.insert(0);
        for &block in &order {
            self.dominators[block] = Some(Bits(vec![u64::MAX; words]));
        }
        self.dominators[0] = Some(only_entry);
        let mut changed = true;
        while changed {
            changed = false;
            for &block in &order[1..] {
                let mut above = Bits(vec![u64::MAX; words]);
                for source in &self.before[block] {
                    self.dominators[*source].iter().for_each(|other| above.keep(other));
                }
                above.insert(block);
                if self.dominators[block].as_ref() != Some(&above) {
                    self.dominators[block] = Some(above);
                    changed = true;
                }
            }
        }
        order
    }

    /// Back edges, to a block that dominates their source, make loops; those with one head are one loop.
    fn find_loops(&mut self, order: &[usize]) {
        let mut loops: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for &source in order {
            for head in self.blocks[source].successors() {
                if !self.dominates(head, source) {
                    continue;
                }
                let blocks = loops.entry(head).or_insert_with(|| BTreeSet::from([head]));
                let mut inside = vec![source];
                while let Some(block) = inside.pop() {
                    if blocks.insert(block) {
                        inside.extend(&self.before[block]);
                    }
                }
            }
        }
        self.loops = loops.into_iter().map(|(head, blocks)| Loop { head, blocks }).collect();
    }
}

fn make_blocks(code: &[Instruction], labels: &HashMap<String, usize>) -> Vec<Block> {
    let target = |instruction: &Instruction| instruction.label.as_ref().and_then(|label| labels.get(label)).copied();
    let ends = |instruction: &Instruction| {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| instruction.opcode.starts_with(prefix));
        // sm_80 writes some jumps as calls.
        starts(&["EXIT", "RET", "BRX", "JMP"]) || (starts(&["BRA", "CALL"]) && target(instruction).is_some())
    };
    let mut leaders = BTreeSet::from([0]);
    for (at, instruction) in code.iter().enumerate() {
        if ends(instruction) {
            leaders.insert(at + 1);
        }
        leaders.extend(target(instruction));
    }
    let leaders: Vec<usize> = leaders.into_iter().filter(|&leader| leader < code.len()).collect();
    let at = |start: usize| leaders.binary_search(&start).ok();
    let mut blocks = Vec::with_capacity(leaders.len());
    for (number, &start) in leaders.iter().enumerate() {
        let end = leaders.get(number + 1).copied().unwrap_or(code.len());
        let last = &code[end - 1];
        let mut block = Block {
            start,
            end,
            jump: None,
            next: at(end),
        };
        if ends(last) {
            block.jump = target(last).and_then(at);
            let is_unconditional = last.guard.is_empty() && (block.jump.is_none() || last.operands.len() == 1);
            // The warps of the model do not diverge.
            if last.opcode == "BRA.DIV" || last.never_runs() {
                block.jump = None;
            } else if last.opcode == "BRA.CONV" || is_unconditional {
                block.next = None;
            }
        }
        blocks.push(block);
    }
    blocks
}
