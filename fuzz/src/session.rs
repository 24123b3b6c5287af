//! A run of the fuzzer: time is dealt to operations, and of each to the machines.

use crate::attempt::attempt;
use crate::report::{self, Origin};
use crate::turn::Opened;
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::Config;
use sala_testkit::operations::Fuzzer;
use sala_testkit::problem::Described;
use sala_testkit::property::runner;
use sala_testkit::tolerance::Judgement;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a failing call is made smaller.
const SHRINKING: Duration = Duration::from_secs(20);

/// The file that names what runs now.
const RUNNING: &str = "running.txt";

/// What is to be done, and what has failed.
pub struct Session {
    /// In the order in which they come.
    operations: Vec<String>,
    turns: Vec<Opened>,
    seed: u64,
    end: Instant,
    folder: PathBuf,
    failures: usize,
    /// Slices of the time that are yet to come.
    slices: usize,
}

/// What has become of an operation.
#[derive(Default)]
struct Tally {
    cases: Vec<(&'static str, usize)>,
    worst: Judgement,
}

impl Session {
    pub fn new(operations: Vec<String>, turns: Vec<Opened>, seed: u64, seconds: u64, folder: PathBuf) -> Session {
        // A panic is reported as what is wrong with a call.
        std::panic::set_hook(Box::new(|_| {}));
        Session {
            slices: operations.len() * turns.len(),
            operations,
            turns,
            seed,
            end: Instant::now() + Duration::from_secs(seconds),
            folder,
            failures: 0,
        }
    }

    /// Operations with a call that failed.
    pub fn failures(&self) -> usize {
        self.failures
    }

    /// When the slice ends that begins now.
    fn next_slice(&mut self) -> Instant {
        let now = Instant::now();
        let share = self.end.saturating_duration_since(now) / self.slices.max(1) as u32;
        self.slices = self.slices.saturating_sub(1);
        now + share
    }

    /// Notes what runs now, which is what a crash leaves.
    fn note(&self, origin: &Origin<'_>) {
        // It is no help if it cannot be written, and no harm.
        let _ = std::fs::write(self.folder.join(RUNNING), origin.command() + "\n");
    }

    /// Takes back what [`Self::note`] has left, where there was no crash.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(self.folder.join(RUNNING));
    }

    /// Makes a failing call smaller while it fails, and reports it.
    fn fail<C: Described>(
        &mut self,
        tree: &mut impl ValueTree<Value = C>,
        why: String,
        origin: &Origin<'_>,
        turn: usize,
    ) {
        self.failures += 1;
        let turn = &self.turns[turn];
        turn.with_machine(origin.seed, |machine| {
            let end = Instant::now() + SHRINKING;
            let mut smallest = (tree.current(), why);
            let mut has_more = tree.simplify();
            while has_more && Instant::now() < end {
                let call = tree.current();
                has_more = match attempt(&call, machine) {
                    Err(why) => {
                        smallest = (call, why);
                        tree.simplify()
                    }
                    Ok(_) => tree.complicate(),
                };
            }
            let (call, why) = smallest;
            println!(
                "{} FAILED on {}: {why}\n{call:#?}\n{}",
                origin.operation,
                origin.turn,
                origin.command()
            );
            match report::write(&call, &why, origin, machine, &self.folder) {
                Ok(files) => files.iter().for_each(|file| println!("{}", file.display())),
                Err(error) => println!("{}: {error}", self.folder.display()),
            }
        });
    }
}

impl Fuzzer for Session {
    fn visit<C: Described>(&mut self, operation: &str, calls: BoxedStrategy<C>) {
        if !self.operations.iter().any(|name| name == operation) {
            return;
        }
        let (started, mut tally, mut seed) = (Instant::now(), Tally::default(), self.seed);
        for turn in 0..self.turns.len() {
            let (end, name) = (self.next_slice(), self.turns[turn].turn.name());
            let mut cases = 0;
            // However short the time, one call is tried: the one that a seed repeats.
            while cases == 0 || Instant::now() < end {
                let origin = Origin {
                    operation,
                    seed,
                    turn: name,
                };
                self.note(&origin);
                let Ok(mut tree) = calls.new_tree(&mut runner(Config::default(), seed)) else {
                    seed = seed.wrapping_add(1);
                    continue;
                };
                let call = tree.current();
                cases += 1;
                match self.turns[turn].with_machine(seed, |machine| attempt(&call, machine)) {
                    Ok(judgement) => tally.worst.merge_shares(&judgement.shares),
                    Err(why) => {
                        self.fail(&mut tree, why, &origin, turn);
                        break;
                    }
                }
                seed = seed.wrapping_add(1);
            }
            tally.cases.push((name, cases));
        }
        println!("{}", tally.line(operation, started.elapsed()));
    }
}

impl Tally {
    /// The summary of an operation.
    fn line(&self, operation: &str, elapsed: Duration) -> String {
        let join = |parts: Vec<String>| parts.join(", ");
        let cases = join(
            self.cases
                .iter()
                .map(|(turn, cases)| format!("{cases} {turn}"))
                .collect(),
        );
        let shares = self
            .worst
            .shares
            .iter()
            .map(|(name, share)| format!("{name} {share:.2}"));
        let shares = match join(shares.collect()) {
            none if none.is_empty() => "exact".to_owned(),
            shares => format!("worst shares of bounds: {shares}"),
        };
        let seconds = elapsed.as_secs_f64();
        format!("{operation:<17} {cases} cases in {seconds:.1} s, {shares}")
    }
}
