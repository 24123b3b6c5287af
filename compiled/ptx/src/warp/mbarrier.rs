//! Barriers in shared memory.
//!
//! A barrier is a word where it lies, and the state that an arrival gives is that word before it. An arrival with copies comes as late as it
//! may: when every warp of the block waits.

use super::{Step, Warp};
use crate::fault::{Fault, Kind, LaneTrouble, Trouble};
use crate::memory::{Memory, Space};
use crate::operation::{Mbarrier, Phase};
use crate::options;
use crate::registers::{Lanes, Register, lanes_of};

/// Arrivals that a phase may have.
const MOST: u64 = (1 << 20) - 1;
/// What tells a barrier from other words.
const MARK: u64 = 0x6d62 << 48;

/// What a barrier's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// The parity of the phase.
    parity: u64,
    expected: u64,
    /// Arrivals that the phase still lacks.
    lacks: u64,
}

impl State {
    fn word(self) -> u64 {
        MARK | self.parity << 40 | self.expected << 20 | self.lacks
    }

    fn of(word: u64) -> Option<Self> {
        (word >> 48 == MARK >> 48).then_some(Self {
            parity: word >> 40 & 1,
            expected: word >> 20 & MOST,
            lacks: word & MOST,
        })
    }
}

/// How many arrivals the phase of a state lacks.
fn pending(word: u64) -> Result<u32, Trouble> {
    let state = State::of(word).ok_or_else(|| Trouble::new(Kind::Instruction, "no state of an mbarrier"))?;
    Ok(state.lacks as u32)
}

/// An arrival that waits for copies.
#[derive(Debug)]
pub(super) struct LateArrival {
    /// The instruction.
    at: usize,
    lanes: u32,
    places: Lanes<u64>,
    /// It waits for the copies before this one.
    copies: u64,
}

impl Warp<'_> {
    pub(super) fn mbarrier(&mut self, mbarrier: &Mbarrier, active: u32, memory: &mut Memory<'_>) -> Step {
        let places = self.addresses(mbarrier.place);
        let value = |warp: &Self, register: Register, lane: usize| warp.registers.get::<u32>(register)[lane];
        match mbarrier.phase {
            Phase::Begin { arrivals } => {
                for lane in lanes_of(active) {
                    let expected = u64::from(value(self, arrivals, lane));
                    let begun = begin(memory, places[lane], expected);
                    begun.map_err(|trouble| trouble.on(lane))?;
                }
            }
            Phase::Arrive {
                state,
                arrivals,
                announced,
                completes,
            } => {
                for lane in lanes_of(active) {
                    if let Some(bytes) = announced {
                        let bytes = value(self, bytes, lane);
                        announce(memory, places[lane], bytes).map_err(|trouble| trouble.on(lane))?;
                    }
                    let count = arrivals.map_or(1, |register| u64::from(value(self, register, lane)));
                    let arrived = arrive(memory, places[lane], count, completes);
                    self.registers.get_mut::<u64>(state)[lane] = arrived.map_err(|trouble| trouble.on(lane))?;
                }
            }
            Phase::Test { to, parity } => {
                let mut complete = 0;
                for lane in lanes_of(active) {
                    let state = find(memory, places[lane]).map_err(|trouble| trouble.on(lane))?;
                    let done = state.parity != u64::from(value(self, parity, lane)) & 1;
                    complete |= u32::from(done) << lane;
                }
                self.registers.set_predicate(to, active, complete);
                self.polls = complete != active;
            }
            Phase::ArriveWithCopies => {
                for lane in lanes_of(active) {
                    find(memory, places[lane]).map_err(|trouble| trouble.on(lane))?;
                }
                self.late_arrivals.push_back(LateArrival {
                    at: self.current.at,
                    lanes: active,
                    places,
                    copies: self.copies.started(),
                });
                if self.options.copies == options::Copies::Eager {
                    self.take_late_arrival(memory)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn pending_count(&mut self, to: Register, from: Register, active: u32) -> Step {
        for lane in lanes_of(active) {
            let word = self.registers.get::<u64>(from)[lane];
            self.registers.get_mut::<u32>(to)[lane] = pending(word).map_err(|trouble| trouble.on(lane))?;
        }
        Ok(())
    }

    /// Performs the copies that the warp's next late arrival waits for, and lets it come; or else the warp's next copy that an mbarrier counts.
    /// Whether there was one.
    pub fn arrive_late(&mut self, memory: &mut Memory<'_>) -> Result<bool, Fault> {
        let Some(at) = self.late_arrivals.front().map(|late| late.at) else {
            return self.perform_bulk_copy(memory);
        };
        let taken = self.take_late_arrival(memory);
        taken.map_err(|lane| Fault { at: Some(at), lane })?;
        Ok(true)
    }

    fn take_late_arrival(&mut self, memory: &mut Memory<'_>) -> Result<(), LaneTrouble> {
        let Some(late) = self.late_arrivals.pop_front() else {
            return Ok(());
        };
        self.copies.perform_before(late.copies, late.lanes, memory)?;
        for lane in lanes_of(late.lanes) {
            arrive(memory, late.places[lane], 1, true).map_err(|trouble| trouble.on(lane))?;
        }
        Ok(())
    }
}

fn begin(memory: &mut Memory<'_>, place: u64, expected: u64) -> Result<(), Trouble> {
    if !(1..=MOST).contains(&expected) {
        let message = format!("an mbarrier of {expected} arrivals, expected 1 to {MOST}");
        return Err(Trouble::new(Kind::Instruction, message));
    }
    let state = State {
        parity: 0,
        expected,
        lacks: expected,
    };
    store(memory, place, state)
}

fn find(memory: &mut Memory<'_>, place: u64) -> Result<State, Trouble> {
    let word = memory.read(Space::Shared, place, 8)?.cast::<u64>();
    // SAFETY: `read` has checked that the eight bytes lie in the block's shared memory, at a multiple of eight; only the thread that runs the
    // block uses that memory.
    let word = unsafe { word.read() };
    State::of(word).ok_or_else(|| Trouble::new(Kind::Instruction, format!("there is no mbarrier at byte {place}")))
}

fn store(memory: &mut Memory<'_>, place: u64, state: State) -> Result<(), Trouble> {
    let word = memory.write(Space::Shared, place, 8)?.cast::<u64>();
    // SAFETY: as in `find`; the bytes are borrowed by nobody.
    unsafe { word.write(state.word()) };
    Ok(())
}

/// Arrives, and gives the state before.
fn arrive(memory: &mut Memory<'_>, place: u64, arrivals: u64, completes: bool) -> Result<u64, Trouble> {
    let before = find(memory, place)?;
    if arrivals == 0 || arrivals > before.lacks || (arrivals == before.lacks && !completes) {
        let message = format!("{arrivals} arrivals at an mbarrier that lacks {}", before.lacks);
        return Err(Trouble::new(Kind::Instruction, message));
    }
    let after = State {
        lacks: before.lacks - arrivals,
        ..before
    };
    store(memory, place, after)?;
    advance(memory, place)?;
    Ok(before.word())
}

/// Ends the phase if it lacks neither arrivals nor bytes.
fn advance(memory: &mut Memory<'_>, place: u64) -> Result<(), Trouble> {
    let mut state = find(memory, place)?;
    let copied = memory.transactions.get(&place).copied().unwrap_or_default();
    if state.lacks != 0 || copied.bytes > 0 {
        return Ok(());
    }
    if copied.bytes < 0 || copied.copies != 0 {
        let message = format!(
            "the phase of the mbarrier at byte {place} ends with {} bytes too many and {} copies that were not announced",
            -copied.bytes, copied.copies
        );
        return Err(Trouble::new(Kind::Instruction, message));
    }
    state.lacks = state.expected;
    state.parity ^= 1;
    memory.phases += 1;
    store(memory, place, state)
}

/// The phase will get bytes by copies.
pub(super) fn announce(memory: &mut Memory<'_>, place: u64, bytes: u32) -> Result<(), Trouble> {
    let state = find(memory, place)?;
    let copied = memory.transactions.entry(place).or_default();
    copied.bytes += i64::from(bytes);
    if copied.bytes > MOST as i64 || state.lacks == 0 {
        let message = format!(
            "{bytes} bytes announced at an mbarrier that lacks {} arrivals and {} bytes",
            state.lacks, copied.bytes
        );
        return Err(Trouble::new(Kind::Instruction, message));
    }
    Ok(())
}

/// A copy was started that counts there.
pub(super) fn started(memory: &mut Memory<'_>, place: u64) -> Result<(), Trouble> {
    find(memory, place)?;
    memory.transactions.entry(place).or_default().copies += 1;
    Ok(())
}

/// It has brought its bytes.
pub(super) fn brought(memory: &mut Memory<'_>, place: u64, bytes: u32) -> Result<(), Trouble> {
    let copied = memory.transactions.entry(place).or_default();
    copied.copies -= 1;
    copied.bytes -= i64::from(bytes);
    advance(memory, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_a_state() {
        for (parity, expected, lacks) in [(0, 1, 1), (1, MOST, 7), (0, 32, MOST)] {
            let state = State {
                parity,
                expected,
                lacks,
            };
            assert_eq!(State::of(state.word()), Some(state));
            assert_eq!(pending(state.word()), Ok(lacks as u32));
        }
        assert_eq!(State::of(u64::MAX), None);
        assert!(pending(5).is_err());
    }
}
