// Powers of two that bring f32 values into the range of a 16-bit operand and back, without changing a
// mantissa bit.
//
// bf16 has the exponents of f32 and needs none of this. f16 overflows above 65504 and loses bits below 2^-14.
#pragma once

#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct PowerOfTwo {
    float scale, inverse;
};

template <class T>
constexpr bool needs_scaling = false;
template <>
constexpr bool needs_scaling<f16> = true;

// The power of two that moves `largest` (≥ 0) into [2^14, 2^15), a factor of two below the overflow of f16.
// Scaling up stops at 2^24: values that small would push what is added to them in f32 out of range. Zero,
// infinities and NaN stay as they are.
DEVICE PowerOfTwo power_of_two_to_fit(float largest) {
    constexpr int BIAS = 127;
    const int exponent = float_bits(largest) >> 23 & 255;
    if (exponent == 0 || exponent == 255) return {1.0f, 1.0f};
    const int shift = minimum(14 - (exponent - BIAS), 24);
    return {bits_float(static_cast<uint32_t>(BIAS + shift) << 23), bits_float(static_cast<uint32_t>(BIAS - shift) << 23)};
}

// Scales row `accumulator_row(2 * side)` of every quad so that it fits; all four lanes of the quad get the
// same factor.
template <int N>
DEVICE PowerOfTwo scale_rows_to_fit(Accumulator<N>& tile, int side) {
    float largest = 0.0f;
    UNROLL
    for (int n = 0; n < N / 8; ++n) {
        UNROLL
        for (int e = 0; e < 2; ++e) largest = maximum(largest, maximum(tile.values[n][2 * side + e], -tile.values[n][2 * side + e]));
    }
    const PowerOfTwo fit = power_of_two_to_fit(reduce_max<4>(largest));
    UNROLL
    for (int n = 0; n < N / 8; ++n) {
        UNROLL
        for (int e = 0; e < 2; ++e) tile.values[n][2 * side + e] *= fit.scale;
    }
    return fit;
}

}  // namespace SALA_VARIANT
}  // namespace sala
