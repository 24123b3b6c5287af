//! One call on one machine.

use sala_testkit::devices::Machine;
use sala_testkit::problem::{Described, Problem, Run};
use sala_testkit::replay::Replay;
use sala_testkit::tolerance::Judgement;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Runs a call; what is wrong with it, if something is. A panic is as wrong as a wrong number.
pub fn attempt<C: Described>(call: &C, machine: &Machine) -> Result<Judgement, String> {
    calmly(|| match call.spoiled() {
        Some(seed) => run_spoiled(&call.problem(), machine, seed),
        None => compare(&call.problem(), machine),
    })
}

/// Whether a replay file shows a failure as well.
pub fn replay_fails(bytes: &[u8], path: &Path, machine: &Machine) -> bool {
    let Ok(replay) = Replay::from_bytes(path, bytes) else {
        return false;
    };
    let replayed = calmly(|| {
        let (results, _) = replay.run(machine).map_err(|error| error.to_string())?;
        Ok(replay.judge(&results))
    });
    replayed.map_or(true, |judgement| !judgement.is_pass())
}

fn run_spoiled<P: Problem>(problem: &P, machine: &Machine, seed: u64) -> Result<Judgement, String> {
    match problem.run_spoiled(machine, seed) {
        Ok(true) => Ok(Judgement::default()),
        Ok(false) => Err("spoiled indices: memory beside the outputs has changed".to_owned()),
        Err(error) => Err(format!("spoiled indices: {error}")),
    }
}

fn compare<P: Problem>(problem: &P, machine: &Machine) -> Result<Judgement, String> {
    let reference = problem.reference();
    let run = problem.run(machine).map_err(|error| error.to_string())?;
    if !run.is_intact() {
        return Err("memory beside the outputs has changed".to_owned());
    }
    let judgement = problem.judge(&run, &reference);
    if let Some(failure) = judgement.failure {
        return Err(failure);
    }
    let (status, refused) = (run.status(), problem.refused(&reference));
    if status != refused {
        return Err(format!("the status is {status:?} instead of {refused:?}"));
    }
    Ok(judgement)
}

/// Turns a panic into an error.
fn calmly<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(format!("panicked: {}", message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
