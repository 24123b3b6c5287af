//! What lanes do together: votes, exchanges, reductions, matrices.

use super::access::updated;
use super::{Step, Warp};
use crate::fault::{Kind, Trouble};
use crate::matrix::{self, Factors, from_register, to_register, transposed};
use crate::memory::{Memory, Space};
use crate::operation::{Address, Atomic, Exchange, Multiply, Shuffle, Vote};
use crate::options::Order;
use crate::registers::{ALL, LANES, Lanes, Predicate, Register, lanes_of};

/// Bytes of a row of a matrix.
const ROW: u32 = 16;
/// Registers of a row: the lanes that hold it.
const ROW_LANES: usize = 4;

impl Warp<'_> {
    pub(super) fn vote(&mut self, kind: Vote, from: Predicate, active: u32) {
        let votes = self.registers.predicate(from) & active;
        let everywhere = |holds: bool| if holds { ALL } else { 0 };
        match kind {
            Vote::Ballot(to) => self.registers.set(to, active, &[votes; LANES]),
            Vote::Any(to) => self.registers.set_predicate(to, active, everywhere(votes != 0)),
            Vote::All(to) => self.registers.set_predicate(to, active, everywhere(votes == active)),
            Vote::Uniform(to) => self
                .registers
                .set_predicate(to, active, everywhere(votes == 0 || votes == active)),
        }
    }

    /// The lane that is chosen must not matter: the first, or the last.
    pub(super) fn elect(&mut self, to: u32, active: u32) {
        let lane = match self.options.order {
            Order::Forward => active.trailing_zeros(),
            Order::Reversed => 31 - active.leading_zeros(),
        };
        self.registers.set_predicate(to, active, 1 << lane);
    }

    pub(super) fn shuffle(&mut self, exchange: &Exchange, active: u32) -> Step {
        let value = *self.registers.get::<u32>(exchange.from);
        let by = self.registers.get::<u32>(exchange.by);
        let clamp = self.registers.get::<u32>(exchange.clamp);
        let mut result = [0; LANES];
        let mut valid = 0;
        for lane in lanes_of(active) {
            let source = source(exchange.kind, lane, by[lane], clamp[lane]);
            valid |= u32::from(source.is_some()) << lane;
            let source = source.unwrap_or(lane);
            if active >> source & 1 == 0 {
                let message = format!("the value of lane {source}, which does not take part");
                return Err(Trouble::new(Kind::Deadlock, message).on(lane));
            }
            result[lane] = value[source];
        }
        self.registers.set(exchange.to, active, &result);
        if let Some(to) = exchange.valid {
            self.registers.set_predicate(to, active, valid);
        }
        Ok(())
    }

    pub(super) fn reduce(&mut self, kind: Atomic, to: Register, from: Register, active: u32) {
        let values = *self.registers.get::<u32>(from);
        let values = lanes_of(active).map(|lane| u64::from(values[lane]));
        let reduced = values.reduce(|one, other| updated(kind, false, one, other, 0) & 0xffff_ffff);
        self.registers.set(to, active, &[reduced.unwrap_or(0) as u32; LANES]);
    }

    pub(super) fn load_matrices(
        &mut self,
        to: &[Register],
        row: Address,
        transpose: bool,
        memory: &mut Memory<'_>,
    ) -> Step {
        let addresses = self.addresses(row);
        let mut loaded = [[0; LANES]; 4];
        for (index, register) in loaded.iter_mut().enumerate().take(to.len()) {
            for row in 0..8 {
                let lane = 8 * index + row;
                let place = memory
                    .read(Space::Shared, addresses[lane], ROW)
                    .map_err(|trouble| trouble.on(lane))?;
                // SAFETY: `read` has checked that sixteen bytes lie in shared memory, at a multiple of sixteen, and nobody else uses it now.
                let words: [u32; ROW_LANES] = unsafe { place.cast::<[u32; ROW_LANES]>().read() };
                register[ROW_LANES * row..][..ROW_LANES].copy_from_slice(&words);
            }
            if transpose {
                *register = to_register(&transposed(&from_register(register)));
            }
        }
        for (register, lanes) in to.iter().zip(&loaded) {
            self.registers.set(*register, ALL, lanes);
        }
        Ok(())
    }

    pub(super) fn store_matrices(
        &mut self,
        row: Address,
        from: &[Register],
        transpose: bool,
        memory: &mut Memory<'_>,
    ) -> Step {
        let addresses = self.addresses(row);
        for (index, register) in from.iter().enumerate() {
            let mut held = *self.registers.get::<u32>(*register);
            if transpose {
                held = to_register(&transposed(&from_register(&held)));
            }
            for row in 0..8 {
                let lane = 8 * index + row;
                let place = memory
                    .write(Space::Shared, addresses[lane], ROW)
                    .map_err(|trouble| trouble.on(lane))?;
                let words: [u32; ROW_LANES] = std::array::from_fn(|word| held[ROW_LANES * row + word]);
                // SAFETY: `write` has checked that sixteen bytes lie in shared memory, at a multiple of sixteen, and nobody else uses it now.
                unsafe { place.cast::<[u32; ROW_LANES]>().write(words) };
            }
        }
        Ok(())
    }

    pub(super) fn transpose(&mut self, to: Register, from: Register) {
        let result = to_register(&transposed(&from_register(self.registers.get(from))));
        self.registers.set(to, ALL, &result);
    }

    pub(super) fn multiply(&mut self, multiply: &Multiply) {
        self.products += 1;
        let get = |register: Register| -> &Lanes<u32> { self.registers.get(register) };
        let factors = Factors {
            a: multiply.a.map(get),
            b: multiply.b.map(get),
            c: multiply.c.map(get),
        };
        let result = matrix::multiply(multiply.element, self.options.sums, &factors);
        for (register, lanes) in multiply.to.iter().zip(&result) {
            self.registers.set(*register, ALL, lanes);
        }
    }
}

/// The lane whose value a lane gets; none where it is out of range, and the lane keeps its own.
fn source(kind: Shuffle, lane: usize, by: u32, clamp: u32) -> Option<usize> {
    let (lane, by) = (lane as i32, by as i32 & 31);
    let (bound, segment) = (clamp as i32 & 31, clamp as i32 >> 8 & 31);
    let first = lane & segment;
    let last = first | bound & !segment;
    let (source, valid) = match kind {
        Shuffle::Up => (lane - by, lane - by >= last),
        Shuffle::Down => (lane + by, lane + by <= last),
        Shuffle::Xor => (lane ^ by, lane ^ by <= last),
        Shuffle::Index => (first | by & !segment, first | by & !segment <= last),
    };
    valid.then_some(source as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `clamp` as CUDA's intrinsics make it for a width.
    fn clamp(kind: Shuffle, width: u32) -> u32 {
        (32 - width) << 8 | if kind == Shuffle::Up { 0 } else { 31 }
    }

    #[test]
    fn lanes_find_their_sources_within_segments() {
        let of = |kind, lane, by, width| source(kind, lane, by, clamp(kind, width));
        assert_eq!(of(Shuffle::Xor, 5, 1, 32), Some(4));
        assert_eq!(of(Shuffle::Up, 3, 4, 32), None);
        assert_eq!(of(Shuffle::Up, 11, 2, 8), Some(9));
        assert_eq!(of(Shuffle::Up, 9, 2, 8), None);
        assert_eq!(of(Shuffle::Down, 6, 1, 8), Some(7));
        assert_eq!(of(Shuffle::Down, 7, 1, 8), None);
        assert_eq!(of(Shuffle::Index, 13, 2, 8), Some(10));
        assert_eq!(of(Shuffle::Index, 13, 2, 32), Some(2));
    }
}
