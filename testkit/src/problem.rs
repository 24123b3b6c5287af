//! What the calls of every operation have in common: they run on devices, and on the reference.

use crate::devices::Machine;
use crate::memory::{Memory, Packing};
use crate::tolerance::Judgement;
use sala_kernels::{Arguments, Result, Status};
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// A short description of a call, which is made at random, shrunk and printed.
pub trait Described: Clone + Debug {
    /// The call.
    type Problem: Problem;

    /// The call with its tensors.
    fn problem(&self) -> Self::Problem;

    /// The seed that half of the lengths, slots, tables and lists are replaced from once they are uploaded, if they are. Then the definition
    /// says nothing of the outputs, but no other memory may change.
    fn spoiled(&self) -> Option<u64> {
        None
    }
}

/// A call of an operation with all its inputs.
pub trait Problem: Clone + Debug {
    /// What it is launched with.
    type Layer;
    /// What it leaves behind on a device.
    type Run: Run;
    /// What the reference says of it.
    type Reference;

    /// The same call with its tensors laid out another way.
    fn packed(self, packing: Packing) -> Self;

    /// Runs the call in f64.
    fn reference(&self) -> Self::Reference;

    /// The layer that the call is one of.
    fn layer(&self) -> Result<Self::Layer>;

    /// The call's tensors on a device.
    fn upload(&self, machine: &Machine) -> Result<Memory>;

    /// Launches the call over [`Self::upload`], and does not wait for its end. Whoever calls waits before the memory goes.
    fn submit(&self, machine: &Machine, layer: &Self::Layer, memory: &mut Memory) -> Result<()>;

    /// What a call has left behind that took so long.
    fn read(&self, memory: &Memory, elapsed: Duration) -> Result<Self::Run>;

    /// Runs the call on a device.
    fn run(&self, machine: &Machine) -> Result<Self::Run> {
        let (layer, mut memory) = (self.layer()?, self.upload(machine)?);
        let elapsed = wait_for(machine, || self.submit(machine, &layer, &mut memory))?;
        self.read(&memory, elapsed)
    }

    /// Runs the call with indices that are replaced from a seed; whether memory is as it was but for what the call may write.
    fn run_spoiled(&self, machine: &Machine, seed: u64) -> Result<bool> {
        let (layer, mut memory) = (self.layer()?, self.upload(machine)?);
        memory.spoil(seed)?;
        wait_for(machine, || self.submit(machine, &layer, &mut memory))?;
        memory.is_intact()
    }

    /// Judges what a device gave against the reference.
    fn judge(&self, run: &Self::Run, reference: &Self::Reference) -> Judgement;

    /// What the reference says was refused.
    fn refused(&self, reference: &Self::Reference) -> Status;

    /// The bytes of a replay file with a call that computes the same, if the format can say it.
    fn replay(&self) -> Option<Vec<u8>> {
        None
    }
}

/// What a call leaves behind on a device.
pub trait Run: Debug {
    /// The status word; it starts at zero.
    fn status(&self) -> Status;

    /// Whether memory is as it was but for what the call may write.
    fn is_intact(&self) -> bool;

    /// The first result whose bits differ from those of another run.
    fn difference(&self, other: &Self) -> Option<String>;
}

/// Launches and does not wait for the end: the memory of the arguments has to outlive it, not only their borrow.
pub(crate) fn submit<A: Arguments>(machine: &Machine, operation: &A::Operation, args: A) -> Result<()> {
    // SAFETY: `launch` waits, and the callers of `Problem::submit` keep its memory, until the stream has run everything.
    unsafe { machine.kernels.launch(&machine.stream, operation, args) }
}

/// How long it takes from a submission to the end of what it has launched.
fn wait_for(machine: &Machine, submit: impl FnOnce() -> Result<()>) -> Result<Duration> {
    machine.stream.synchronize()?;
    let started = Instant::now();
    let submitted = submit();
    machine.stream.synchronize()?;
    submitted.map(|()| started.elapsed())
}

/// Launches, waits for the end, and says how long that took.
pub fn launch<A: Arguments>(machine: &Machine, operation: &A::Operation, args: A) -> Result<Duration> {
    // The stream has run everything before this returns, and the arguments borrow their memory until then.
    wait_for(machine, || submit(machine, operation, args))
}

/// Runs a call that must not fail.
#[track_caller]
pub fn run<P: Problem>(problem: &P, machine: &Machine) -> P::Run {
    let run = problem
        .run(machine)
        .unwrap_or_else(|error| panic!("on {}: {error}", machine.name));
    assert!(
        run.is_intact(),
        "{}: memory beside the outputs has changed",
        machine.name
    );
    run
}

/// Runs a call and compares everything that it leaves behind with what the reference says.
#[track_caller]
pub fn compare_with<P: Problem>(problem: &P, reference: &P::Reference, machine: &Machine) -> P::Run {
    let run = run(problem, machine);
    problem.judge(&run, reference).assert(&machine.name);
    assert_eq!(run.status(), problem.refused(reference), "{}: the status", machine.name);
    run
}

/// Runs a call on every machine and compares it with the reference.
#[track_caller]
pub fn compare_on<P: Problem>(machines: &[Machine], problem: &P) {
    let reference = problem.reference();
    for machine in machines {
        compare_with(problem, &reference, machine);
    }
}

/// Asserts that two runs left the same bits.
#[track_caller]
pub fn assert_same_bits<R: Run>(a: &R, b: &R, what: &str) {
    if let Some(difference) = a.difference(b) {
        panic!("{what}: the bits differ: {difference}");
    }
}

/// Whether two tensors are the same, NaN included.
pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
