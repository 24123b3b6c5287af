//! A unit of work of a compiled kernel: what its warps run, and what that costs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::description::{Description, FILE, Role};
use crate::machine::{Free, Program, Run, Setting, Sync, Workload};
use crate::sass::{Class, Function, Instruction, Loop, PathFinder, Pattern, Trips};
use crate::{Gpu, Problem};

/// Rounds of a loop that are simulated per block.
const ROUNDS: usize = 6;
/// The same of a loop with mbarriers: the stages of a ring are free at first.
const ROUNDS_OF_RING: usize = 48;

/// In place of what a warp without work leaves out.
const EVERYTHING: &str = "everything";

/// Instructions of cold code that a path may hold: a compiler mixes lines.
const FEW: usize = 12;

/// A description that was found in a kernel.
pub struct Unit<'a> {
    name: String,
    description: &'a Description,
    function: &'a Function,
    roles: Vec<Paths>,
}

/// What the warps of a role run, as numbers of instructions.
struct Paths {
    count: usize,
    late: f64,
    work: Vec<usize>,
    idle: Vec<usize>,
}

/// A unit with the costs of a GPU.
pub struct Priced<'a> {
    unit: &'a Unit<'a>,
    gpu: &'static Gpu,
    syncs: Vec<Sync>,
    /// For each role, what it runs with work and without.
    programs: Vec<[Program; 2]>,
}

impl<'a> Unit<'a> {
    /// Finds what `description` means in `function`, or says what no longer fits. `name` is for messages.
    pub fn new(name: &str, description: &'a Description, function: &'a Function) -> Result<Self, Problem> {
        let mut unit = Self {
            name: name.to_owned(),
            description,
            function,
            roles: Vec::new(),
        };
        for role in &description.warps {
            let idle = role.idle.as_ref().unwrap_or(&description.idle);
            let work = unit.path(role, &[])?;
            unit.roles.push(Paths {
                count: role.count,
                late: f64::from(role.late),
                idle: match idle.as_slice() {
                    [] => work.clone(),
                    [all] if all == EVERYTHING => Vec::new(),
                    idle => unit.path(role, idle)?,
                },
                work,
            });
        }
        if unit.roles.is_empty() {
            return Err(unit.misfit("no `warps` are described"));
        }
        unit.check_expected()?;
        Ok(unit)
    }

    /// What the unit is called, with its architecture.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its description.
    pub fn description(&self) -> &Description {
        self.description
    }

    /// For each role, the instructions of a round with work.
    pub fn rounds(&self) -> impl Iterator<Item = Vec<&Instruction>> {
        self.roles.iter().map(|role| self.instructions(&role.work))
    }

    /// For each role, the instructions of a round without work.
    pub fn idle_rounds(&self) -> impl Iterator<Item = Vec<&Instruction>> {
        self.roles.iter().map(|role| self.instructions(&role.idle))
    }

    fn instructions(&self, path: &[usize]) -> Vec<&Instruction> {
        path.iter().map(|&at| &self.function.code[at]).collect()
    }

    /// The function that it was found in.
    pub fn function(&self) -> &Function {
        self.function
    }

    /// For each role: warps, instructions with work, instructions without.
    pub fn lengths(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.roles
            .iter()
            .map(|role| (role.count, role.work.len(), role.idle.len()))
    }

    /// The unit on a GPU.
    pub fn on(&'a self, gpu: &'static Gpu) -> Result<Priced<'a>, Problem> {
        let (syncs, refill) = self.description.with_stages(gpu);
        let setting = Setting {
            gpu,
            memory: self.description.memory,
            bulk_bytes: self.description.bulk_bytes,
            syncs: &syncs,
            refill: refill.as_ref(),
        };
        let program = |path: &[usize]| Program::of_path(self.function, path, &setting);
        let pair = |role: &Paths| Ok([program(&role.work)?, program(&role.idle)?]);
        let programs = self.roles.iter().map(pair).collect::<Result<_, Problem>>()?;
        Ok(Priced {
            unit: self,
            gpu,
            syncs,
            programs,
        })
    }

    fn misfit(&self, what: impl std::fmt::Display) -> Problem {
        Problem::misfit(format!("{}: {what} (in {FILE})", self.name))
    }

    fn find_loop(&self, role: &Role) -> Result<Option<&'a Loop>, Problem> {
        let wanted = role.has.as_ref().unwrap_or(&self.description.has);
        if wanted.is_empty() {
            return Ok(None);
        }
        let function = self.function;
        let mut holders: Vec<&Loop> = function.loops.iter().collect();
        for has in wanted {
            let class = Class::named(has);
            let origins = match class {
                None => function.origins_of(&[Pattern::parse(has)?]),
                Some(_) => Vec::new(),
            };
            let fits = |instruction: &Instruction| match class {
                Some(class) => instruction.class == class,
                None => origins[instruction.origin],
            };
            holders.retain(|holder| function.code_of(holder.blocks.iter().copied()).any(fits));
        }
        let holds_another = |holder: &Loop| {
            let mut others = holders.iter().filter(|other| other.head != holder.head);
            others.any(|other| holder.contains(other.head))
        };
        let innermost: Vec<&Loop> = holders
            .iter()
            .copied()
            .filter(|holder| !holds_another(holder))
            .collect();
        match innermost.as_slice() {
            [one] => Ok(Some(one)),
            found => Err(self.misfit(format_args!(
                "{} innermost loops of {} hold {wanted:?}, expected one; see `cargo xtask price --loops` and edit `has`",
                found.len(),
                function.name
            ))),
        }
    }

    /// What a warp of a role runs; `idle` is what it leaves out.
    fn path(&self, role: &Role, idle: &[String]) -> Result<Vec<usize>, Problem> {
        let around = self.find_loop(role)?;
        let trips = role.trips.iter().chain(&self.description.trips);
        let trips = trips.map(|(pattern, count)| Ok((Pattern::parse(pattern)?, *count)));
        let trips: Trips = trips.collect::<Result<_, Problem>>()?;
        let own = self.description.cold.iter().chain(&role.cold).chain(idle);
        let own: Vec<String> = own.cloned().collect();
        let mut cold = Pattern::parse_all(&own)?;
        cold.extend(self.never_entered(role, &trips));
        let mut path = PathFinder::new(self.function, around, &cold, &trips, &self.name).find()?;
        // A branch around a barrier may have become a guard.
        let origins = self.function.origins_of(&cold);
        path.retain(|&at| {
            let instruction = &self.function.code[at];
            instruction.class != Class::Bar || instruction.guard.is_empty() || !origins[instruction.origin]
        });
        self.check_cold(around, &cold, &path)?;
        Ok(path)
    }

    /// The loops of no rounds.
    fn never_entered(&self, role: &Role, trips: &Trips) -> Vec<Pattern> {
        let is_overruled = |at: usize, pattern: &Pattern| {
            at >= role.trips.len() && role.trips.iter().any(|(text, _)| text == pattern.text())
        };
        let never = trips
            .iter()
            .enumerate()
            .filter(|(at, (pattern, count))| *count == 0 && !is_overruled(*at, pattern));
        never.map(|(_, (pattern, _))| pattern.clone()).collect()
    }

    /// Cold patterns have to name some of the code and little of the path.
    fn check_cold(&self, around: Option<&Loop>, cold: &[Pattern], path: &[usize]) -> Result<(), Problem> {
        let function = self.function;
        let mut on_path = vec![false; function.code.len()];
        path.iter().for_each(|&at| on_path[at] = true);
        for pattern in cold {
            let origins = function.origins_of(std::slice::from_ref(pattern));
            let named = match around {
                Some(around) => {
                    let code = function.code_of(around.blocks.iter().copied());
                    code.filter(|instruction| origins[instruction.origin]).count()
                }
                None => function
                    .code
                    .iter()
                    .filter(|instruction| origins[instruction.origin])
                    .count(),
            };
            let run = function.code.iter().zip(&on_path);
            let run = run
                .filter(|(instruction, on_path)| **on_path && origins[instruction.origin])
                .count();
            if named == 0 || run > FEW.max(named / 2) {
                return Err(self.misfit(format_args!(
                    "cold `{}` matches {named} instructions of the code and {run} of the path: it should match some of the first and few of the \
                     second. A renamed function? Edit `cold`",
                    pattern.text()
                )));
            }
        }
        Ok(())
    }

    fn check_expected(&self) -> Result<(), Problem> {
        for (name, &expected) in &self.description.expect {
            let class = Class::named(name)
                .ok_or_else(|| self.misfit(format_args!("`expect` names `{name}`, which is no class")))?;
            let count =
                |round: Vec<&Instruction>| round.iter().filter(|instruction| instruction.class == class).count();
            let found = self.rounds().map(count).max().unwrap_or(0);
            if found != expected {
                return Err(self.misfit(format_args!(
                    "the path has {found} {name}, expected {expected}: correct `cold`, `trips`, `warps` or, if the tile changed, `expect` and the \
                     work of a round in compiled/model/src/rows"
                )));
            }
        }
        Ok(())
    }
}

impl Priced<'_> {
    /// Runs a round for each of `masks`, which say for each warp whether it has work.
    pub fn simulate<M: AsRef<[bool]>>(&self, masks: &[M], free: Free) -> Result<Run, Problem> {
        let roles = self.unit.roles.iter().zip(&self.programs);
        let programs = roles.flat_map(|(role, pair)| std::iter::repeat_n(pair, role.count));
        let warps = programs.enumerate().map(|(warp, [work, idle])| {
            let rounds = masks.iter().map(|mask| if mask.as_ref()[warp] { work } else { idle });
            rounds.collect()
        });
        self.run_warps(warps.collect(), 1, free)
    }

    /// Rounds in which the first `active` warps of each of `blocks` blocks have work.
    pub fn run(&self, active: usize, blocks: usize, free: Free) -> Result<Run, Problem> {
        let description = self.unit.description;
        let rounds = match (description.is_loop(), description.sync.is_empty()) {
            (true, true) => ROUNDS * blocks,
            (true, false) => ROUNDS_OF_RING * blocks,
            (false, _) => 1,
        };
        self.repeat(active, blocks, rounds, free)
    }

    fn repeat(&self, active: usize, blocks: usize, rounds: usize, free: Free) -> Result<Run, Problem> {
        let mut warps = Vec::new();
        for _ in 0..blocks {
            let roles = self.unit.roles.iter().zip(&self.programs);
            let programs = roles.flat_map(|(role, pair)| std::iter::repeat_n(pair, role.count));
            warps.extend(programs.enumerate().map(|(warp, [work, idle])| {
                let program = if warp < active { work } else { idle };
                vec![program; rounds]
            }));
        }
        self.run_warps(warps, blocks, free)
    }

    fn run_warps(&self, warps: Vec<Vec<&Program>>, blocks: usize, free: Free) -> Result<Run, Problem> {
        let roles = self.unit.roles.iter();
        let of_block = roles.flat_map(|role| std::iter::repeat_n(role.late, role.count));
        let workload = Workload {
            late: of_block.cycle().take(warps.len()).collect(),
            warps,
            blocks,
            syncs: &self.syncs,
            refilled: self.unit.description.refill.is_some(),
        };
        workload.run(self.gpu, free)
    }

    /// Clocks of a round with all warps at work, or of the kernel.
    pub fn clocks(&self) -> Result<f64, Problem> {
        self.clocks_with(self.unit.description.warp_count(), 1, Free::default())
    }

    /// Clocks of a round in which the first `active` warps of each of `blocks` blocks have work, or of the kernel.
    pub fn clocks_with(&self, active: usize, blocks: usize, free: Free) -> Result<f64, Problem> {
        let run = self.run(active, blocks, free)?;
        if self.unit.description.is_loop() {
            run.period()
        } else {
            Ok(run.end())
        }
    }

    /// Clocks from the end of one block to that of the next on a multiprocessor that always has `resident` blocks of the kernel.
    pub fn turnover(&self, resident: usize) -> Result<f64, Problem> {
        let run = self.repeat(usize::MAX, resident, ROUNDS * resident, Free::default())?;
        Ok(run.period()? / resident as f64)
    }

    /// The unit.
    pub fn unit(&self) -> &Unit<'_> {
        self.unit
    }

    /// The GPU.
    pub fn gpu(&self) -> &'static Gpu {
        self.gpu
    }
}

/// How often each class comes.
pub fn mix<'i>(code: impl Iterator<Item = &'i Instruction>) -> BTreeMap<Class, usize> {
    let mut mix = BTreeMap::new();
    for instruction in code {
        match mix.entry(instruction.class) {
            Entry::Vacant(entry) => drop(entry.insert(1)),
            Entry::Occupied(mut entry) => *entry.get_mut() += 1,
        }
    }
    mix
}
