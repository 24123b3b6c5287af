//! Integers and bits.

use super::lanes::Site;

/// An integer type. Bits (`.b32`) are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PTX's own names")]
pub enum IntegerType {
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
}

impl IntegerType {
    /// The type of a name such as `s32`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "u16" | "b16" => Self::U16,
            "s16" => Self::S16,
            "u32" | "b32" => Self::U32,
            "s32" => Self::S32,
            "u64" | "b64" => Self::U64,
            "s64" => Self::S64,
            _ => return None,
        })
    }

    /// How many bits it has.
    pub fn bits(self) -> u32 {
        match self {
            Self::U16 | Self::S16 => 16,
            Self::U32 | Self::S32 => 32,
            Self::U64 | Self::S64 => 64,
        }
    }
}

/// Operations whose sources and target have one type, but for the count of a shift, which has 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PTX's own names")]
pub enum Integer {
    Move,
    Add,
    Sub,
    MultiplyLow,
    MultiplyHigh,
    MultiplyAddLow,
    MultiplyAddHigh,
    Divide,
    Remainder,
    Min,
    Max,
    Negate,
    Absolute,
    And,
    Or,
    Xor,
    Not,
    ShiftLeft,
    ShiftRight,
}

/// Operations on bits, and those whose target is of another width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PTX's own names")]
pub enum Bits {
    MultiplyWideS16,
    MultiplyWideU16,
    MultiplyWideS32,
    MultiplyWideU32,
    MultiplyAddWideS32,
    MultiplyAddWideU32,
    Count32,
    Count64,
    LeadingZeros32,
    LeadingZeros64,
    Reverse32,
    Reverse64,
    /// The highest bit set, or the highest that differs from the sign; all ones if there is none.
    FindU32,
    FindS32,
    /// The same, as the shift that brings it to the top.
    FindShiftU32,
    FindShiftS32,
    ExtractU32,
    ExtractS32,
    ExtractU64,
    Insert32,
    Insert64,
    Permute,
    /// Any function of three bits, by its table.
    Logic3(u8),
    FunnelLeftWrap,
    FunnelRightWrap,
    FunnelLeftClamp,
    FunnelRightClamp,
}

/// What the six types have in common.
trait Int: Copy {
    fn shift_left(self, by: u32) -> Self;
    fn shift_right(self, by: u32) -> Self;
    fn high_product(self, other: Self) -> Self;
    fn quotient(self, other: Self) -> Self;
    fn remainder(self, other: Self) -> Self;
}

macro_rules! integers {
    ($($type:ty, $wide:ty, |$value:ident| $shifted_out:expr;)*) => {$(
        impl Int for $type {
            #[inline(always)]
            fn shift_left(self, by: u32) -> Self {
                if by < Self::BITS { self << (by & (Self::BITS - 1)) } else { 0 }
            }

            #[inline(always)]
            fn shift_right(self, by: u32) -> Self {
                let $value = self;
                if by < Self::BITS { self >> (by & (Self::BITS - 1)) } else { $shifted_out }
            }

            #[inline(always)]
            fn high_product(self, other: Self) -> Self {
                ((self as $wide * other as $wide) >> Self::BITS) as Self
            }

            // By zero, GPUs give all ones and the dividend.
            #[inline(always)]
            fn quotient(self, other: Self) -> Self {
                if other == 0 { !0 } else { self.wrapping_div(other) }
            }

            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                if other == 0 { self } else { self.wrapping_rem(other) }
            }
        }
    )*};
}

integers! {
    u16, u32, |_value| 0;
    i16, i32, |value| value >> 15;
    u32, u64, |_value| 0;
    i32, i64, |value| value >> 31;
    u64, u128, |_value| 0;
    i64, i128, |value| value >> 63;
}

/// Calls `map` with a closure for the type.
macro_rules! each {
    ($site:ident.$map:ident, $type:ident, |$($argument:ident),*| $result:expr) => {
        match $type {
            IntegerType::U16 => $site.$map(|$($argument: u16),*| -> u16 { $result }),
            IntegerType::S16 => $site.$map(|$($argument: i16),*| -> i16 { $result }),
            IntegerType::U32 => $site.$map(|$($argument: u32),*| -> u32 { $result }),
            IntegerType::S32 => $site.$map(|$($argument: i32),*| -> i32 { $result }),
            IntegerType::U64 => $site.$map(|$($argument: u64),*| -> u64 { $result }),
            IntegerType::S64 => $site.$map(|$($argument: i64),*| -> i64 { $result }),
        }
    };
}

/// The same for shifts, whose count is of 32 bits.
macro_rules! each_shift {
    ($site:ident, $type:ident, |$value:ident, $by:ident| $result:expr) => {
        match $type {
            IntegerType::U16 => $site.map2(|$value: u16, $by: u32| -> u16 { $result }),
            IntegerType::S16 => $site.map2(|$value: i16, $by: u32| -> i16 { $result }),
            IntegerType::U32 => $site.map2(|$value: u32, $by: u32| -> u32 { $result }),
            IntegerType::S32 => $site.map2(|$value: i32, $by: u32| -> i32 { $result }),
            IntegerType::U64 => $site.map2(|$value: u64, $by: u32| -> u64 { $result }),
            IntegerType::S64 => $site.map2(|$value: i64, $by: u32| -> i64 { $result }),
        }
    };
}

#[inline(always)]
pub(super) fn integer(function: Integer, kind: IntegerType, mut site: Site<'_, '_>) {
    match function {
        Integer::Move => each!(site.map1, kind, |a| a),
        Integer::Add => each!(site.map2, kind, |a, b| a.wrapping_add(b)),
        Integer::Sub => each!(site.map2, kind, |a, b| a.wrapping_sub(b)),
        Integer::MultiplyLow => each!(site.map2, kind, |a, b| a.wrapping_mul(b)),
        Integer::MultiplyHigh => each!(site.map2, kind, |a, b| a.high_product(b)),
        Integer::MultiplyAddLow => each!(site.map3, kind, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        Integer::MultiplyAddHigh => each!(site.map3, kind, |a, b, c| a.high_product(b).wrapping_add(c)),
        Integer::Divide => each!(site.map2, kind, |a, b| a.quotient(b)),
        Integer::Remainder => each!(site.map2, kind, |a, b| a.remainder(b)),
        Integer::Min => each!(site.map2, kind, |a, b| a.min(b)),
        Integer::Max => each!(site.map2, kind, |a, b| a.max(b)),
        Integer::Negate => each!(site.map1, kind, |a| (!a).wrapping_add(1)),
        Integer::Absolute => match kind {
            IntegerType::S16 => site.map1(|a: i16| a.wrapping_abs()),
            IntegerType::S32 => site.map1(|a: i32| a.wrapping_abs()),
            IntegerType::S64 => site.map1(|a: i64| a.wrapping_abs()),
            IntegerType::U16 | IntegerType::U32 | IntegerType::U64 => each!(site.map1, kind, |a| a),
        },
        Integer::And => each!(site.map2, kind, |a, b| a & b),
        Integer::Or => each!(site.map2, kind, |a, b| a | b),
        Integer::Xor => each!(site.map2, kind, |a, b| a ^ b),
        Integer::Not => each!(site.map1, kind, |a| !a),
        Integer::ShiftLeft => each_shift!(site, kind, |a, by| a.shift_left(by)),
        Integer::ShiftRight => each_shift!(site, kind, |a, by| a.shift_right(by)),
    }
}

#[inline(always)]
pub(super) fn bits(function: Bits, mut site: Site<'_, '_>) {
    match function {
        Bits::MultiplyWideS16 => site.map2(|a: i16, b: i16| i32::from(a) * i32::from(b)),
        Bits::MultiplyWideU16 => site.map2(|a: u16, b: u16| u32::from(a) * u32::from(b)),
        Bits::MultiplyWideS32 => site.map2(|a: i32, b: i32| i64::from(a) * i64::from(b)),
        Bits::MultiplyWideU32 => site.map2(|a: u32, b: u32| u64::from(a) * u64::from(b)),
        Bits::MultiplyAddWideS32 => site.map3(|a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c)),
        Bits::MultiplyAddWideU32 => site.map3(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c)),
        Bits::Count32 => site.map1(|a: u32| a.count_ones()),
        Bits::Count64 => site.map1(|a: u64| a.count_ones()),
        Bits::LeadingZeros32 => site.map1(|a: u32| a.leading_zeros()),
        Bits::LeadingZeros64 => site.map1(|a: u64| a.leading_zeros()),
        Bits::Reverse32 => site.map1(|a: u32| a.reverse_bits()),
        Bits::Reverse64 => site.map1(|a: u64| a.reverse_bits()),
        Bits::FindU32 => site.map1(|a: u32| 31_u32.wrapping_sub(a.leading_zeros())),
        Bits::FindS32 => site.map1(|a: i32| 31_u32.wrapping_sub(without_sign(a).leading_zeros())),
        Bits::FindShiftU32 => site.map1(|a: u32| if a == 0 { !0 } else { a.leading_zeros() }),
        Bits::FindShiftS32 => site.map1(|a: i32| {
            if without_sign(a) == 0 {
                !0
            } else {
                without_sign(a).leading_zeros()
            }
        }),
        Bits::ExtractU32 => site.map3(|a: u32, at: u32, length: u32| extract(u64::from(a), at, length) as u32),
        Bits::ExtractS32 => site.map3(extract_signed),
        Bits::ExtractU64 => site.map3(extract),
        Bits::Insert32 => site.map4(|from: u32, into: u32, at: u32, length: u32| {
            insert(u64::from(from), u64::from(into), at, length) as u32
        }),
        Bits::Insert64 => site.map4(insert),
        Bits::Permute => site.map3(permute),
        Bits::Logic3(table) => site.map3(|a: u32, b: u32, c: u32| logic3(table, a, b, c)),
        Bits::FunnelLeftWrap => site.map3(|low: u32, high: u32, by: u32| (joined(low, high) << (by & 31) >> 32) as u32),
        Bits::FunnelRightWrap => site.map3(|low: u32, high: u32, by: u32| (joined(low, high) >> (by & 31)) as u32),
        Bits::FunnelLeftClamp => {
            site.map3(|low: u32, high: u32, by: u32| (joined(low, high) << by.min(32) >> 32) as u32)
        }
        Bits::FunnelRightClamp => site.map3(|low: u32, high: u32, by: u32| (joined(low, high) >> by.min(32)) as u32),
    }
}

/// The bits that differ from the sign.
fn without_sign(value: i32) -> u32 {
    (value ^ (value >> 31)) as u32
}

fn joined(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The lowest `length` bits set.
fn low_bits(length: u32) -> u64 {
    u64::MAX.checked_shr(64 - (length & 0xff).min(64)).unwrap_or(0)
}

fn extract(value: u64, at: u32, length: u32) -> u64 {
    value.checked_shr(at & 0xff).unwrap_or(0) & low_bits(length)
}

/// Above the field, and where it reaches past the top, is its sign.
fn extract_signed(value: i32, at: u32, length: u32) -> i32 {
    let (at, length) = ((at & 0xff).min(31), (length & 0xff).min(32));
    if length == 0 {
        return 0;
    }
    let unused = 64 - length;
    ((i64::from(value) >> at) << unused >> unused) as i32
}

fn insert(from: u64, into: u64, at: u32, length: u32) -> u64 {
    let place = |bits: u64| bits.checked_shl(at & 0xff).unwrap_or(0);
    let mask = low_bits(length);
    into & !place(mask) | place(from & mask)
}

/// `prmt` without a mode: four bytes out of eight, each perhaps as its sign.
fn permute(low: u32, high: u32, selectors: u32) -> u32 {
    let bytes = joined(low, high).to_le_bytes();
    let byte = |index: usize| {
        let selector = selectors >> (4 * index) & 0xf;
        let byte = bytes[(selector & 7) as usize];
        if selector & 8 == 0 {
            byte
        } else {
            ((byte as i8) >> 7) as u8
        }
    };
    u32::from_le_bytes(std::array::from_fn(byte))
}

#[inline(always)]
fn logic3(table: u8, a: u32, b: u32, c: u32) -> u32 {
    let term = |index: u8| {
        let on = |bit: u8, value: u32| if index & bit == 0 { !value } else { value };
        if table >> index & 1 == 1 {
            on(4, a) & on(2, b) & on(1, c)
        } else {
            0
        }
    };
    (0..8).fold(0, |bits, index| bits | term(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_extracted_and_inserted() {
        assert_eq!(extract(0xabcd, 4, 8), 0xbc);
        assert_eq!(extract(0xabcd, 70, 8), 0);
        assert_eq!(extract_signed(0xf0, 4, 4), -1);
        assert_eq!(extract_signed(0x70, 4, 4), 7);
        assert_eq!(extract_signed(-8, 2, 32), -2);
        assert_eq!(insert(0xf, 0, 28, 8), 0xf000_0000);
        assert_eq!(insert(0xff, 0x1111_1111, 8, 4), 0x1111_1f11);
        assert_eq!(insert(0xff, 0x1111, 8, 0), 0x1111);
    }

    #[test]
    fn bytes_are_permuted() {
        assert_eq!(permute(0x3322_1100, 0x7766_5544, 0x7531), 0x7755_3311);
        assert_eq!(permute(0x0000_0080, 0, 0x0008), 0x8080_80ff);
    }

    #[test]
    fn functions_of_three_bits_follow_their_table() {
        let (a, b, c) = (0xf0f0_f0f0, 0xcccc_cccc, 0xaaaa_aaaa);
        assert_eq!(logic3(0x80, a, b, c), a & b & c);
        assert_eq!(logic3(0x96, a, b, c), a ^ b ^ c);
        assert_eq!(logic3(0xf8, a, b, c), a | (b & c));
    }

    #[test]
    fn shifts_by_too_much_leave_the_sign_or_nothing() {
        assert_eq!((-5_i32).shift_right(40), -1);
        assert_eq!(5_u32.shift_right(32), 0);
        assert_eq!(1_u64.shift_left(64), 0);
        assert_eq!(1_u64.shift_left(63), 1 << 63);
        assert_eq!((7_u32.quotient(0), 7_u32.remainder(0)), (u32::MAX, 7));
        assert_eq!((-3_i64).high_product(5), -1);
    }
}
