//! Structs that begin with their size, and the numbers in them.

use std::mem::size_of;

use crate::sys::c_api::*;
use crate::{Error, Result};

/// What is there at a pointer.
///
/// # Safety
/// `pointer` is null, or what it points to lives and is not written for as long as `'a`.
pub(super) unsafe fn there<'a, T>(argument: &'static str, pointer: *const T) -> Result<&'a T> {
    if !pointer.is_null() && !pointer.is_aligned() {
        let expected = format!("an address that is a multiple of {}", align_of::<T>());
        return Err(Error::argument(argument, expected, format_args!("{pointer:p}")));
    }
    // SAFETY: aligned, and the caller's promise.
    let there = unsafe { pointer.as_ref() };
    there.ok_or_else(|| Error::argument(argument, "a pointer", "NULL"))
}

/// A place for what a function gives.
///
/// # Safety
/// `pointer` is null, or a place that nobody else uses for as long as `'a`.
pub(super) unsafe fn place<'a, T>(argument: &'static str, pointer: *mut T) -> Result<&'a mut T> {
    // SAFETY: the caller's promise.
    unsafe { there(argument, pointer)? };
    // SAFETY: not null, aligned, and the caller's promise.
    Ok(unsafe { &mut *pointer })
}

/// A struct that begins with its size, `size: usize`.
///
/// # Safety
/// `repr(C)`, of integers, floats and raw pointers, so that all zero is a value, and any bytes are one.
pub(super) unsafe trait Versioned: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size when it was first published: no caller has a shorter one.
    const FIRST: usize;

    /// All fields zero, the size too.
    fn zeroed() -> Self {
        // SAFETY: what implementations promise.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! versioned {
    ($($name:ident: $first:literal,)*) => {$(
        // SAFETY: generated from the header, of integers, floats and raw pointers.
        unsafe impl Versioned for $name {
            const NAME: &'static str = stringify!($name);
            const FIRST: usize = $first;
        }
        const _: () = assert!($first <= size_of::<$name>(), "fields are only ever added");
    )*};
}

// The sizes of version 1.
versioned! {
    sala_key_store: 48,
    sala_compressed_store: 40,
    sala_sparse_layer_config: 88,
    sala_append_keys_args: 80,
    sala_compress_keys_args: 80,
    sala_select_blocks_args: 136,
    sala_choose_blocks_args: 80,
    sala_sparse_attention_args: 144,
    sala_dense_attention_args: 136,
    sala_commit_keys_args: 64,
    sala_score_keys_args: 88,
    sala_choose_tokens_args: 64,
    sala_gather_rows_args: 80,
    sala_compact_keys_args: 56,
    sala_merge_args: 56,
    sala_linear_attention_config: 64,
    sala_linear_prefill_args: 120,
    sala_linear_decode_args: 80,
    sala_linear_verify_args: 80,
    sala_linear_commit_args: 80,
    sala_copy_states_args: 40,
    sala_sum_decay_args: 56,
    sala_merge_states_args: 56,
    sala_linear_correct_args: 72,
    sala_norm_rope_args: 64,
    sala_norm_gate_args: 64,
    sala_sum_squares_args: 24,
}

/// A struct as its caller knows it: fields that an older caller lacks are zero, and those of a newer one have to be.
///
/// # Safety
/// `pointer` is null, or points to as many readable bytes as the number that it begins with says.
pub(super) unsafe fn read<T: Versioned>(argument: &'static str, pointer: *const T) -> Result<T> {
    // SAFETY: the caller's promise; every struct begins with its size.
    let size = *unsafe { there(argument, pointer.cast::<usize>())? };
    if size < T::FIRST || !size.is_multiple_of(align_of::<usize>()) || size > isize::MAX as usize {
        let expected = format!("sizeof({}), {} bytes", T::NAME, size_of::<T>());
        return Err(Error::argument("size", expected, format_args!("{size} in {argument}")));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: `size` readable bytes, the caller's promise.
    let newer = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if newer.iter().any(|&byte| byte != 0) {
        let expected = format!("zeros after the {known} bytes of {} that this library knows", T::NAME);
        return Err(Error::argument(argument, expected, "a field of a newer version"));
    }
    let mut value = T::zeroed();
    // SAFETY: `known` bytes are readable there and writable here, and any bytes are a value of `T`.
    unsafe { std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    Ok(value)
}

/// A number of things.
pub(super) fn count(argument: &'static str, number: i64) -> Result<usize> {
    usize::try_from(number).map_err(|_| Error::argument(argument, "a number from 0 on", number))
}

/// An upper bound; 0 if there is none.
pub(super) fn bound(argument: &'static str, number: i64) -> Result<Option<usize>> {
    Ok(Some(count(argument, number)?).filter(|&bound| bound > 0))
}

/// One of an enumeration's values.
pub(super) fn one_of<T: Copy>(argument: &'static str, number: i32, values: &[(u32, &str, T)]) -> Result<T> {
    let known = values.iter().find(|(value, ..)| i32::try_from(*value) == Ok(number));
    known.map(|(.., value)| *value).ok_or_else(|| {
        let names: Vec<_> = values
            .iter()
            .map(|(value, name, _)| format!("{name} ({value})"))
            .collect();
        Error::argument(argument, names.join(" or "), number)
    })
}

/// A field that has no meaning yet.
pub(super) fn reserved(number: i32) -> Result<()> {
    match number {
        0 => Ok(()),
        _ => Err(Error::argument("reserved", 0, number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct that has grown by a field.
    #[repr(C)]
    #[derive(Clone, Copy, Default, Debug, PartialEq)]
    struct Grown {
        size: usize,
        first: i64,
        added: i64,
    }

    // SAFETY: integers.
    unsafe impl Versioned for Grown {
        const NAME: &'static str = "grown";
        const FIRST: usize = 16;
    }

    fn given(bytes: &[i64]) -> std::result::Result<Grown, String> {
        // SAFETY: each list has the bytes that it says, or is refused before they are read.
        unsafe { read("args", bytes.as_ptr().cast::<Grown>()) }.map_err(|error| error.to_string())
    }

    #[test]
    fn older_and_newer_callers_are_understood() {
        let grown = |size, first, added| Grown { size, first, added };
        assert_eq!(
            given(&[16, 7]),
            Ok(grown(16, 7, 0)),
            "an older caller, whose next bytes are not read"
        );
        assert_eq!(given(&[24, 7, 8]), Ok(grown(24, 7, 8)));
        assert_eq!(
            given(&[32, 7, 8, 0]),
            Ok(grown(32, 7, 8)),
            "a newer caller that uses nothing new"
        );
        let newer =
            "args: expected zeros after the 24 bytes of grown that this library knows, got a field of a newer version";
        assert_eq!(given(&[32, 7, 8, 1]), Err(newer.to_owned()));
    }

    #[test]
    fn sizes_that_no_caller_has_are_refused() {
        for size in [0, 8, 15, 17, -1] {
            let error = given(&[size]).unwrap_err();
            assert!(
                error.starts_with("size: expected sizeof(grown), 24 bytes, got"),
                "{error}"
            );
        }
        let blamed = |address: usize| {
            // SAFETY: null, and an address that is refused before it is read.
            let read = unsafe { read("args", address as *const Grown) };
            read.unwrap_err().to_string()
        };
        assert_eq!(blamed(0), "args: expected a pointer, got NULL");
        assert_eq!(blamed(12), "args: expected an address that is a multiple of 8, got 0xc");
    }
}
