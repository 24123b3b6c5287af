//! The machine at hand: loops over lanes that are compiled for it, and its clocks.
//!
//! The crate is built for any x86-64, where a fused multiply-add is a call into the C library. What runs over lanes is therefore compiled a
//! second time for the level v3 (AVX2, FMA, F16C), and taken where the processor has it. Both give the same bits.
//!
//! Only what is inlined is compiled for the level: a function on the way must be `#[inline(always)]`, and a closure must be called at one
//! place only.

use std::ffi::{c_int, c_long};
use std::sync::LazyLock;
use std::time::Duration;

/// Whether the processor has what `for_this_machine!` compiles for.
pub(crate) fn has_v3() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static HAS_V3: LazyLock<bool> = LazyLock::new(|| {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt")
        });
        *HAS_V3
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// A function that calls an `#[inline(always)]` one, compiled for the level v3 where the processor has it.
macro_rules! for_this_machine {
    ($(#[$doc:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? => $inner:ident;) => {
        $(#[$doc])*
        pub fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            if crate::machine::has_v3() {
                #[target_feature(enable = "avx2,bmi1,bmi2,f16c,fma,lzcnt,popcnt")]
                fn with_v3($($argument: $type),*) $(-> $result)? {
                    $inner($($argument),*)
                }
                // SAFETY: the processor has these features.
                return unsafe { with_v3($($argument),*) };
            }
            $inner($($argument),*)
        }
    };
}
pub(crate) use for_this_machine;

/// The processor's time that the calling thread has taken: unlike the time of day it says how fast code is on a busy machine.
pub(crate) fn thread_time() -> Duration {
    #[repr(C)]
    struct Time {
        seconds: c_long,
        nanoseconds: c_long,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: c_int, time: *mut Time) -> c_int;
    }
    /// `CLOCK_THREAD_CPUTIME_ID` on Linux.
    const OF_THREAD: c_int = 3;
    let mut time = Time {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: a place for the time, of the type that 64-bit Linux has.
    unsafe { clock_gettime(OF_THREAD, &mut time) };
    Duration::new(time.seconds as u64, time.nanoseconds as u32)
}
