//! Loops over the lanes of registers, typed.

use crate::registers::{LANES, Register, Registers, Storage};

/// A type that instructions compute with, and what it looks like in a register. An instruction sees as many bits as its type has.
pub trait Lane: Copy {
    /// What registers of this type hold.
    type Storage: Storage;

    /// The value in a register.
    fn read(storage: Self::Storage) -> Self;

    /// What a register gets.
    fn write(self) -> Self::Storage;
}

macro_rules! lanes {
    ($($type:ty: $storage:ty, |$bits:ident| $read:expr, |$value:ident| $write:expr;)*) => {$(
        impl Lane for $type {
            type Storage = $storage;

            #[inline(always)]
            fn read($bits: $storage) -> Self {
                $read
            }

            #[inline(always)]
            fn write(self) -> $storage {
                let $value = self;
                $write
            }
        }
    )*};
}

lanes! {
    u16: u32, |bits| bits as u16, |value| u32::from(value);
    i16: u32, |bits| bits as i16, |value| u32::from(value as u16);
    u32: u32, |bits| bits, |value| value;
    i32: u32, |bits| bits as i32, |value| value as u32;
    f32: u32, |bits| f32::from_bits(bits), |value| value.to_bits();
    u64: u64, |bits| bits, |value| value;
    i64: u64, |bits| bits as i64, |value| value as u64;
}

/// What a computation reads and writes.
#[derive(Debug)]
pub struct Site<'a, 'k> {
    /// The registers.
    pub registers: &'a mut Registers<'k>,
    /// The target.
    pub to: Register,
    /// The sources.
    pub from: [Register; 4],
    /// The lanes that get a result.
    pub active: u32,
}

impl Site<'_, '_> {
    /// A function of one source.
    #[inline(always)]
    pub fn map1<A: Lane, D: Lane>(&mut self, function: impl Fn(A) -> D) {
        let a = self.registers.get::<A::Storage>(self.from[0]);
        let mut result = [D::Storage::default(); LANES];
        for lane in 0..LANES {
            result[lane] = function(A::read(a[lane])).write();
        }
        self.registers.set(self.to, self.active, &result);
    }

    /// A function of two sources.
    #[inline(always)]
    pub fn map2<A: Lane, B: Lane, D: Lane>(&mut self, function: impl Fn(A, B) -> D) {
        let a = self.registers.get::<A::Storage>(self.from[0]);
        let b = self.registers.get::<B::Storage>(self.from[1]);
        let mut result = [D::Storage::default(); LANES];
        for lane in 0..LANES {
            result[lane] = function(A::read(a[lane]), B::read(b[lane])).write();
        }
        self.registers.set(self.to, self.active, &result);
    }

    /// A function of three sources.
    #[inline(always)]
    pub fn map3<A: Lane, B: Lane, C: Lane, D: Lane>(&mut self, function: impl Fn(A, B, C) -> D) {
        let a = self.registers.get::<A::Storage>(self.from[0]);
        let b = self.registers.get::<B::Storage>(self.from[1]);
        let c = self.registers.get::<C::Storage>(self.from[2]);
        let mut result = [D::Storage::default(); LANES];
        for lane in 0..LANES {
            result[lane] = function(A::read(a[lane]), B::read(b[lane]), C::read(c[lane])).write();
        }
        self.registers.set(self.to, self.active, &result);
    }

    /// A function of four sources.
    #[inline(always)]
    pub fn map4<A: Lane, B: Lane, C: Lane, D: Lane, E: Lane>(&mut self, function: impl Fn(A, B, C, D) -> E) {
        let a = self.registers.get::<A::Storage>(self.from[0]);
        let b = self.registers.get::<B::Storage>(self.from[1]);
        let c = self.registers.get::<C::Storage>(self.from[2]);
        let d = self.registers.get::<D::Storage>(self.from[3]);
        let mut result = [E::Storage::default(); LANES];
        for lane in 0..LANES {
            result[lane] = function(A::read(a[lane]), B::read(b[lane]), C::read(c[lane]), D::read(d[lane])).write();
        }
        self.registers.set(self.to, self.active, &result);
    }
}
