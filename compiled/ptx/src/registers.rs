//! The registers of a warp.
//!
//! A register holds a value for each of the 32 lanes, side by side, so that one instruction is one loop that the compiler vectorises. A
//! register of up to 32 bits takes a slot of 32 words, one of 64 bits two; predicates are masks of lanes. Constants are registers too, in
//! a pool that the warps of a kernel share, so that an operand is always one.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// Every lane.
pub const ALL: u32 = u32::MAX;

/// A value for each lane.
pub type Lanes<T> = [T; LANES];

/// Room for 32 bits of each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Slot(pub Lanes<u32>);

/// What a register holds before it is written: NaN as a float, far outside as an address.
pub const UNWRITTEN: Slot = Slot([0xffff_dead; LANES]);

/// A register or, with the highest bit, a constant: its first slot. While a kernel is decoded, the number of a register that has no slot yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Register(pub u32);

impl Register {
    const CONSTANT: u32 = 1 << 31;

    /// The constant whose first slot is this one of the pool.
    pub const fn constant(slot: u32) -> Self {
        Self(slot | Self::CONSTANT)
    }

    /// Whether this is a constant.
    pub fn is_constant(self) -> bool {
        self.0 & Self::CONSTANT != 0
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

/// What slots are seen as: 32 bits of each lane, or 64.
pub trait Storage: Copy + Default + sealed::Sealed {
    /// Slots of a register.
    const SLOTS: usize;
}

impl Storage for u32 {
    const SLOTS: usize = 1;
}

impl Storage for u64 {
    const SLOTS: usize = 2;
}

/// A predicate, perhaps negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// Its number.
    pub index: u32,
    /// `!p`
    pub negated: bool,
}

/// All registers of a warp.
#[derive(Debug)]
pub struct Registers<'k> {
    slots: Vec<Slot>,
    constants: &'k [Slot],
    predicates: Vec<u32>,
}

impl<'k> Registers<'k> {
    /// Registers that nobody has written.
    pub fn new(slots: usize, predicates: usize, constants: &'k [Slot]) -> Self {
        Self {
            slots: vec![UNWRITTEN; slots],
            constants,
            predicates: vec![0; predicates],
        }
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.slots.fill(UNWRITTEN);
        self.predicates.fill(0);
    }

    /// The values of a register.
    #[inline(always)]
    pub fn get<S: Storage>(&self, register: Register) -> &Lanes<S> {
        let pool = if register.is_constant() {
            self.constants
        } else {
            &self.slots
        };
        let first = (register.0 & !Register::CONSTANT) as usize;
        let slots = &pool[first..first + S::SLOTS];
        // SAFETY: `S` is u32 or u64, which have no invalid bit patterns, and `SLOTS` slots are as many bytes as 32 of them, aligned to 64.
        unsafe { &*slots.as_ptr().cast() }
    }

    /// The values of a register, for writing; a constant has no place.
    #[inline(always)]
    pub fn get_mut<S: Storage>(&mut self, register: Register) -> &mut Lanes<S> {
        let first = register.0 as usize;
        let slots = &mut self.slots[first..first + S::SLOTS];
        // SAFETY: as in `get`; the slots are borrowed uniquely.
        unsafe { &mut *slots.as_mut_ptr().cast() }
    }

    /// Writes the active lanes of a register.
    #[inline(always)]
    pub fn set<S: Storage>(&mut self, register: Register, active: u32, values: &Lanes<S>) {
        let lanes = self.get_mut::<S>(register);
        if active == ALL {
            *lanes = *values;
        } else {
            for lane in 0..LANES {
                lanes[lane] = if active >> lane & 1 == 1 {
                    values[lane]
                } else {
                    lanes[lane]
                };
            }
        }
    }

    /// The lanes on which a predicate holds.
    #[inline(always)]
    pub fn predicate(&self, predicate: Predicate) -> u32 {
        let mask = self.predicates[predicate.index as usize];
        if predicate.negated { !mask } else { mask }
    }

    /// Writes the active lanes of a predicate.
    #[inline(always)]
    pub fn set_predicate(&mut self, index: u32, active: u32, mask: u32) {
        let place = &mut self.predicates[index as usize];
        *place = *place & !active | mask & active;
    }
}

/// The lanes of a mask, in ascending order.
pub fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        (left != 0).then(|| {
            let lane = left.trailing_zeros() as usize;
            left &= left - 1;
            lane
        })
    })
}
