//! What holds for every operation: it agrees with its definition in every order of execution, does not race, and gives the same bits again.
//!
//! `SALA_TEST_SEED` repeats a run.

use sala_testkit::devices::{Machine, all_levels, all_levels_and_orders, host_with, race_detecting_levels};
use sala_testkit::operations::{Visitor, visit_all};
use sala_testkit::problem::{Problem, Run, assert_same_bits, compare_on, run};
use sala_testkit::property::seed;

/// Compares with the definition on some machines.
struct Agrees(Vec<Machine>);

impl Visitor for Agrees {
    fn visit<P: Problem>(&mut self, operation: &str, problems: Vec<P>) {
        println!("{operation}");
        for problem in &problems {
            compare_on(&self.0, problem);
        }
    }
}

#[test]
fn every_operation_agrees_with_its_definition() {
    let seed = seed();
    println!("SALA_TEST_SEED={seed}");
    visit_all(&mut Agrees(all_levels_and_orders(seed)), seed);
}

#[test]
fn no_operation_races() {
    let seed = seed();
    println!("SALA_TEST_SEED={seed}");
    visit_all(&mut Agrees(race_detecting_levels(seed)), seed);
}

/// Runs again, on the same machine and on one with other multiprocessors.
struct Repeats {
    machines: Vec<Machine>,
    smaller_host: Machine,
}

impl Visitor for Repeats {
    fn visit<P: Problem>(&mut self, operation: &str, problems: Vec<P>) {
        for problem in &problems {
            for machine in &self.machines {
                let first = run(problem, machine);
                assert_same_bits(&first, &run(problem, machine), operation);
                assert!(first.is_intact(), "{operation}");
            }
            let (all, few) = (run(problem, &self.machines[0]), run(problem, &self.smaller_host));
            assert_same_bits(&all, &few, &format!("{operation} on fewer multiprocessors"));
        }
    }
}

#[test]
fn the_same_call_gives_the_same_bits() {
    let seed = seed();
    println!("SALA_TEST_SEED={seed}");
    let smaller_host = host_with("host of 3 multiprocessors", |options| options.multiprocessors = 3);
    let machines = all_levels();
    visit_all(&mut Repeats { machines, smaller_host }, seed);
}
