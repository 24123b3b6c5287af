//! A path as the simulation takes it.

use std::ops::Range;

use serde::Deserialize;

use super::mbarrier::{Syncs, Use};
use super::{Pipe, Refill, Sync, latency_of, pipe_of};
use crate::sass::{Class, Function, Instruction, Pattern, Register, Registers};
use crate::{Gpu, Problem};

/// Instructions of other code that a compiler may have put between those of a refill.
const FOREIGN: usize = 16;

/// What loads and copies wait for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// A hit in L2.
    #[default]
    L2,
    /// Memory itself.
    Dram,
}

/// What a path is run with.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Where.
    pub gpu: &'a Gpu,
    /// What loads and copies wait for.
    pub memory: Memory,
    /// Bytes that one bulk or tensor copy moves.
    pub bulk_bytes: u32,
    /// The mbarriers.
    pub syncs: &'a [Sync],
    /// What the last reader of a stage runs.
    pub refill: Option<&'a Refill>,
}

/// The instructions of a path with their costs on one GPU.
#[derive(Debug, Default)]
pub struct Program {
    pub(super) ops: Vec<Op>,
    registers: Vec<Register>,
    /// For each mbarrier, how often the path arrives and waits.
    pub(super) arrivals: Vec<usize>,
    pub(super) waits: Vec<usize>,
}

/// An instruction.
#[derive(Debug)]
pub(super) struct Op {
    needs: Range<usize>,
    writes: Range<usize>,
    pub(super) latency: f64,
    pub(super) pipe: Option<(Pipe, f64)>,
    pub(super) action: Action,
}

/// An arrival at an mbarrier, or a wait for it: which of those of a round, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) sync: usize,
    pub(super) nth: usize,
}

/// What an instruction does beside computing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    None,
    /// The warp issues nothing for so many clocks.
    Stall(f64),
    /// Starts a copy of so many bytes to shared memory; it arrives at an mbarrier when it lands.
    Copy {
        bytes: f64,
        latency: f64,
        arrive: Option<Turn>,
    },
    /// Ends a group of copies.
    Commit,
    /// Waits until at most so many groups of copies are under way.
    WaitCopies(usize),
    /// A product of the warpgroup; the last of its group?
    Product {
        ends_group: bool,
    },
    /// Waits until at most so many groups of products are under way.
    WaitProducts(usize),
    /// Meets so many warps at a barrier, all of the block by default; goes on at once unless it waits.
    Barrier {
        name: String,
        warps: usize,
        waits: bool,
    },
    Arrive(Turn),
    Await(Turn),
    /// Goes on only as the last of the warps that work in this round, and if there is a round that many later; else leaves out so many instructions.
    Refill {
        number: usize,
        stages: usize,
        length: usize,
    },
}

impl Program {
    /// The instructions of `path`, which is a path of `function`.
    pub fn of_path(function: &Function, path: &[usize], setting: &Setting) -> Result<Self, Problem> {
        let Setting { gpu, syncs, .. } = *setting;
        let mut program = Self {
            arrivals: vec![0; syncs.len()],
            waits: vec![0; syncs.len()],
            ..Self::default()
        };
        let known = Syncs::new(syncs)?;
        let latency = match setting.memory {
            Memory::L2 => gpu.l2_latency,
            Memory::Dram => gpu.memory_latency,
        };
        let refills = find_refills(function, path, setting.refill)?;
        for (at, &number) in path.iter().enumerate() {
            if let Some(number) = refills.iter().position(|refill| refill.start == at) {
                program.push_action(Action::Refill {
                    number,
                    stages: setting.refill.map_or(0, |refill| refill.stages),
                    length: refills[number].len(),
                });
            }
            let instruction = &function.code[number];
            let used = known.of(instruction, &function.origins[instruction.origin]);
            program.push(instruction, gpu, latency, setting.bulk_bytes, used)?;
        }
        Ok(program)
    }

    /// Instructions without origins, for experiments.
    pub fn of_text(text: &str, gpu: &Gpu) -> Result<Self, Problem> {
        let mut program = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            program.push(&Instruction::parse(line, 0), gpu, gpu.l2_latency, 0, None)?;
        }
        Ok(program)
    }

    /// How many instructions there are.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The registers that an instruction waits for.
    pub(super) fn needs(&self, op: &Op) -> &[Register] {
        &self.registers[op.needs.clone()]
    }

    /// The registers whose new values are there when it is done.
    pub(super) fn writes(&self, op: &Op) -> &[Register] {
        &self.registers[op.writes.clone()]
    }

    fn push_action(&mut self, action: Action) {
        self.ops.push(Op {
            needs: 0..0,
            writes: 0..0,
            latency: 0.0,
            pipe: None,
            action,
        });
    }

    fn push(
        &mut self,
        instruction: &Instruction,
        gpu: &Gpu,
        memory: f64,
        bulk_bytes: u32,
        used: Option<Use>,
    ) -> Result<(), Problem> {
        let registers = Registers::of(instruction);
        let first = self.registers.len();
        self.registers.extend(&registers.writes);
        let after_writes = self.registers.len();
        // A result also waits for the one that it replaces.
        self.registers.extend(&registers.reads);
        let arrive = match used {
            Some(Use::Arrive(sync)) => Some(next_turn(&mut self.arrivals, sync)),
            _ => None,
        };
        let wait = match used {
            Some(Use::Await(sync)) => Some(next_turn(&mut self.waits, sync)),
            _ => None,
        };
        self.ops.push(Op {
            needs: first..self.registers.len(),
            writes: first..after_writes,
            latency: latency_of(instruction, gpu, memory),
            pipe: pipe_of(instruction, gpu)?,
            action: action_of(instruction, memory, bulk_bytes, arrive, wait),
        });
        Ok(())
    }
}

/// The parts of a path that a refill's code makes up.
fn find_refills(function: &Function, path: &[usize], refill: Option<&Refill>) -> Result<Vec<Range<usize>>, Problem> {
    let Some(refill) = refill else {
        return Ok(Vec::new());
    };
    let code = Pattern::parse(&refill.code)?;
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, &number) in path.iter().enumerate() {
        if !code.fits(&function.origins[function.code[number].origin]) {
            continue;
        }
        match found.last_mut() {
            Some(last) if at <= last.end + FOREIGN => last.end = at + 1,
            _ => found.push(at..at + 1),
        }
    }
    Ok(found)
}

fn next_turn(counts: &mut [usize], sync: usize) -> Turn {
    counts[sync] += 1;
    Turn {
        sync,
        nth: counts[sync] - 1,
    }
}

fn action_of(
    instruction: &Instruction,
    memory: f64,
    bulk_bytes: u32,
    arrive: Option<Turn>,
    wait: Option<Turn>,
) -> Action {
    let opcode = instruction.opcode.as_str();
    match instruction.class {
        Class::Ldgsts | Class::Bulk if instruction.never_runs() => Action::None,
        Class::Ldgsts => Action::Copy {
            bytes: 32.0 * 4.0 * instruction.width() as f64,
            latency: memory,
            arrive: None,
        },
        Class::Bulk => Action::Copy {
            bytes: f64::from(bulk_bytes),
            latency: memory,
            arrive,
        },
        Class::Commit => Action::Commit,
        Class::Wait => Action::WaitCopies(groups(instruction)),
        Class::GmmaWait => Action::WaitProducts(groups(instruction)),
        Class::Hgmma => Action::Product {
            ends_group: instruction.text.contains("gsb0"),
        },
        Class::Bar => barrier(instruction),
        Class::Ctrl => Action::Stall(match opcode {
            _ if opcode.starts_with("BSYNC") => 8.0,
            _ if ["BRA", "BSSY", "CALL"].iter().any(|name| opcode.starts_with(name)) => 2.0,
            _ => 0.0,
        }),
        _ => match (arrive, wait) {
            (Some(turn), _) => Action::Arrive(turn),
            (None, Some(turn)) => Action::Await(turn),
            (None, None) => Action::None,
        },
    }
}

/// The second operand of a wait; without one it waits for all.
fn groups(instruction: &Instruction) -> usize {
    match instruction.operands.as_slice() {
        [_, .., last] => hexadecimal(last).unwrap_or(0),
        _ => 0,
    }
}

/// `BAR.SYNC 0x1, 0x80`, `BAR.ARV 0x1, 0x80`, `BAR.RED.OR 0x0, P0`.
fn barrier(instruction: &Instruction) -> Action {
    let threads = instruction.operands.get(1).and_then(|operand| hexadecimal(operand));
    Action::Barrier {
        name: instruction.operands.first().cloned().unwrap_or_default(),
        warps: threads.unwrap_or(0) / 32,
        waits: !instruction.opcode.contains("ARV"),
    }
}

fn hexadecimal(operand: &str) -> Option<usize> {
    usize::from_str_radix(operand.strip_prefix("0x")?, 16).ok()
}
