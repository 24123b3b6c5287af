// Exchange between the 32 lanes of a warp. Every lane of the warp takes part in every call, on the same line
// of the program; only sync_warp orders the lanes' accesses to memory.
#pragma once
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// T is float, int or uint32_t. A shift that would leave the warp returns the lane's own value.
template <class T>
DEVICE T shuffle(T value, int lane SITE);
template <class T>
DEVICE T shuffle_xor(T value, int mask SITE);
template <class T>
DEVICE T shuffle_up(T value, int delta SITE);
template <class T>
DEVICE T shuffle_down(T value, int delta SITE);

// Bit i is lane i's predicate.
DEVICE uint32_t ballot(bool predicate SITE);
DEVICE bool any(bool predicate SITE);
DEVICE bool all(bool predicate SITE);

// Waits for the warp; what its lanes wrote before is visible to all of them after.
DEVICE void sync_warp(SITE_ALONE);

// Whether this is the lane that acts for the warp: one of them, the same at every call, in a way that shows the compiler that
// it is one.
DEVICE bool elect_lane(SITE_ALONE);

// A value that is the same in all lanes, in a way that shows the compiler that it is: instructions that take one operand for
// the whole warp then need no loop over the lanes.
DEVICE uint32_t uniform(uint32_t value SITE);

// The maximum (sum) over the LANES lanes that differ from this one only in lane bits [STRIDE, STRIDE *
// LANES); both are powers of two. Every lane gets the result. Pairs are combined from the nearest to the
// farthest, so that the sum is the same on every lane and machine. The _each forms reduce every element of an
// array, and cost the host one meeting of the warp.
template <int LANES, int STRIDE = 1, class T>
DEVICE T reduce_max(T value SITE);
template <int LANES, int STRIDE = 1, class T>
DEVICE T reduce_add(T value SITE);
template <int LANES, int STRIDE = 1, class T, int N>
DEVICE void reduce_max_each(T (&values)[N] SITE);
template <int LANES, int STRIDE = 1, class T, int N>
DEVICE void reduce_add_each(T (&values)[N] SITE);

// The sums of reduce_add_each over LANES neighbours, bit for bit, of which each lane gets a share: COUNT of them, from
// element share_index<LANES>() * COUNT on. That takes 3/4 of an exchange per element for 4 lanes, where all sums take 2.
template <int LANES, class T, int N, int COUNT>
DEVICE void reduce_add_scatter(T (&share)[COUNT], const T (&values)[N] SITE);

// Halves are dealt by the lowest bit of the lane, halves of those by the next one.
template <int LANES>
DEVICE int share_index() {
    int index = 0;
    UNROLL
    for (int step = 1; step < LANES; step *= 2) index = 2 * index + (lane_index() / step & 1);
    return index;
}

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/warp.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

constexpr uint32_t ALL_LANES = 0xffffffffu;

template <class T>
DEVICE T shuffle(T value, int lane) {
    return __shfl_sync(ALL_LANES, value, lane);
}
template <class T>
DEVICE T shuffle_xor(T value, int mask) {
    return __shfl_xor_sync(ALL_LANES, value, mask);
}
template <class T>
DEVICE T shuffle_up(T value, int delta) {
    return __shfl_up_sync(ALL_LANES, value, delta);
}
template <class T>
DEVICE T shuffle_down(T value, int delta) {
    return __shfl_down_sync(ALL_LANES, value, delta);
}

DEVICE uint32_t ballot(bool predicate) { return __ballot_sync(ALL_LANES, predicate); }
DEVICE bool any(bool predicate) { return __any_sync(ALL_LANES, predicate); }
DEVICE bool all(bool predicate) { return __all_sync(ALL_LANES, predicate); }
DEVICE void sync_warp() { __syncwarp(); }

DEVICE bool elect_lane() {
#if __CUDA_ARCH__ >= 900
    uint32_t elected;
    asm volatile(
        "{\n\t.reg .pred elected;\n\t"
        "elect.sync _|elected, 0xffffffff;\n\t"
        "selp.u32 %0, 1, 0, elected;\n\t}"
        : "=r"(elected));
    return elected != 0;
#else
    return lane_index() == 0;
#endif
}

DEVICE uint32_t uniform(uint32_t value) { return __reduce_max_sync(ALL_LANES, value); }

DEVICE float larger(float a, float b) { return ::fmaxf(a, b); }
template <class T>
DEVICE T larger(T a, T b) {
    return a > b ? a : b;
}

template <int LANES, int STRIDE, class T>
DEVICE T reduce_max(T value) {
    UNROLL
    for (int step = STRIDE; step < LANES * STRIDE; step *= 2) value = larger(value, shuffle_xor(value, step));
    return value;
}

template <int LANES, int STRIDE, class T>
DEVICE T reduce_add(T value) {
    UNROLL
    for (int step = STRIDE; step < LANES * STRIDE; step *= 2) value += shuffle_xor(value, step);
    return value;
}

template <int LANES, int STRIDE, class T, int N>
DEVICE void reduce_max_each(T (&values)[N]) {
    UNROLL
    for (int i = 0; i < N; ++i) values[i] = reduce_max<LANES, STRIDE>(values[i]);
}

template <int LANES, int STRIDE, class T, int N>
DEVICE void reduce_add_each(T (&values)[N]) {
    UNROLL
    for (int i = 0; i < N; ++i) values[i] = reduce_add<LANES, STRIDE>(values[i]);
}

template <int LANES, class T, int N, int COUNT>
DEVICE void reduce_add_scatter(T (&share)[COUNT], const T (&values)[N]) {
    static_assert(COUNT * LANES == N, "lanes have equal shares");
    T sums[N];
    UNROLL
    for (int i = 0; i < N; ++i) sums[i] = values[i];
    UNROLL
    for (int step = 1; step < LANES; step *= 2) {
        const int half = N / step / 2;
        const bool upper = (lane_index() & step) != 0;
        UNROLL
        for (int i = 0; i < half; ++i) {
            const T sent = upper ? sums[i] : sums[i + half];
            sums[i] = (upper ? sums[i + half] : sums[i]) + shuffle_xor(sent, step);
        }
    }
    UNROLL
    for (int i = 0; i < COUNT; ++i) share[i] = sums[i];
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
