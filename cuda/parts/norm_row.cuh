// Rows that norms are taken of: eight channels per vector, as 16-bit numbers in registers, so that a row is read once
// for its sum of squares and its normalised values.
#pragma once

#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/norms.h"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Σ x² of a vector, in the order of its channels.
template <class T>
DEVICE float sum_squares_of(const Words4& vector) {
    float sum = 0.0f;
    UNROLL
    for (int i = 0; i < 4; ++i) {
        const Pair pair = unpack<T>(vector[i]);
        sum = fma(pair.lo, pair.lo, sum);
        sum = fma(pair.hi, pair.hi, sum);
    }
    return sum;
}

// 1 / √x to the last place but one: values are rounded to 16 bits after it, and few may fall on the other side.
DEVICE float reciprocal_root(float x) {
    const float rough = exp2(-0.5f * log2(x));
    if (!(0.0f < rough && rough < INFINITE)) return rough;
    return fma(0.5f * rough, fma(-x * rough, rough, 1.0f), rough);
}

// x · inverse, rounded; times the weight, rounded.
template <class T>
DEVICE uint32_t normalise(uint32_t x, float inverse, bool has_weight, uint32_t weight) {
    const Pair pair = unpack<T>(x);
    const uint32_t rounded = pack<T>(pair.lo * inverse, pair.hi * inverse);
    if (!has_weight) return rounded;
    const Pair value = unpack<T>(rounded);
    const Pair factor = unpack<T>(weight);
    return pack<T>(value.lo * factor.lo, value.hi * factor.hi);
}

// A row that a block shares: each thread has a vector per pass.
template <int PASSES>
struct BlockRow {
    static constexpr int THREADS = SALA_NORM_THREADS;

    Words4 values[PASSES];

    static DEVICE int channel(int pass) { return (pass * THREADS + thread_index()) * 8; }

    DEVICE void load(const uint16_t* row, int channels) {
        UNROLL
        for (int pass = 0; pass < PASSES; ++pass) {
            values[pass] = Words4{};
            if (channel(pass) < channels) values[pass] = load_global(reinterpret_cast<const Words4*>(row + channel(pass)));
        }
    }

    // Σ x² of the row, in every thread; `partial` is shared memory for a number per warp.
    template <class T>
    DEVICE float sum_squares(float (&partial)[THREADS / WARP_SIZE]) const {
        float sum = 0.0f;
        UNROLL
        for (int pass = 0; pass < PASSES; ++pass) sum += sum_squares_of<T>(values[pass]);
        sum = reduce_add<WARP_SIZE>(sum);
        if (lane_index() == 0) partial[warp_index()] = sum;
        sync_block();  // every warp's share is in shared memory
        sum = 0.0f;
        UNROLL
        for (int warp = 0; warp < THREADS / WARP_SIZE; ++warp) sum += partial[warp];
        return sum;
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
