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

// A number as a sum of two floats, of which the first is the sum rounded. Means in one float are off by so much that one
// value in ten thousand would be rounded to 16 bits on the other side, and the roundings after it would make more of it.
struct Twofold {
    float hi, lo;
};

// The same bits whichever comes first.
DEVICE Twofold add(const Twofold& a, const Twofold& b) {
    const float sum = a.hi + b.hi;
    const float from_b = sum - a.hi;
    const float error = (a.hi - (sum - from_b)) + (b.hi - from_b);
    return {sum, (a.lo + b.lo) + error};
}

// Σ x² of a vector, added in the order of its channels. Squares of 16-bit numbers are floats.
template <class T>
DEVICE Twofold add_squares(Twofold sum, const Words4& vector) {
    UNROLL
    for (int i = 0; i < 4; ++i) {
        const Pair pair = unpack<T>(vector[i]);
        sum = add(sum, {pair.lo * pair.lo, 0.0f});
        sum = add(sum, {pair.hi * pair.hi, 0.0f});
    }
    return sum;
}

// The sum over the LANES lanes that differ from this one in the lowest lane bits, as reduce_add.
template <int LANES>
DEVICE Twofold add_lanes(Twofold value) {
    UNROLL
    for (int step = 1; step < LANES; step *= 2) value = add(value, {shuffle_xor(value.hi, step), shuffle_xor(value.lo, step)});
    return value;
}

// 1 / √(sum / count + eps): one step from an approximation of 22 bits.
DEVICE Twofold inverse_root_mean(const Twofold& sum, float count, float eps) {
    const float quotient = sum.hi / count;
    const Twofold mean = add({quotient, (fma(-quotient, count, sum.hi) + sum.lo) / count}, {eps, 0.0f});
    const float rough = reciprocal_sqrt(mean.hi);
    if (!(0.0f < rough && rough < INFINITE)) return {rough, 0.0f};
    const float square = rough * rough;
    const float one = mean.hi * square;
    const float beyond_square = fma(mean.hi, fma(rough, rough, -square), mean.lo * square);
    const float missing = ((1.0f - one) - fma(mean.hi, square, -one)) - beyond_square;
    const float step = 0.5f * rough * missing;
    const float root = rough + step;
    return {root, step - (root - rough)};
}

// The product as one of the two floats beside it, the one whose last bit is odd; or itself, if it is a float. Rounded to
// 16 bits after that, it is as if it were rounded once.
DEVICE float multiply_to_odd(float x, const Twofold& factor) {
    const float first = x * factor.hi;
    const float correction = fma(x, factor.lo, fma(x, factor.hi, -first));
    const float product = first + correction;
    const float rest = correction - (product - first);
    const uint32_t bits = float_bits(product);
    const uint32_t is_beyond = (bits ^ float_bits(rest)) >> 31;
    if (rest < 0.0f || 0.0f < rest) return bits_float((bits - is_beyond) | 1u);
    return product == product ? product : first;  // beyond f32
}

// x · inverse, rounded; times the weight, rounded.
template <class T>
DEVICE uint32_t normalise(uint32_t x, const Twofold& inverse, bool has_weight, uint32_t weight) {
    const Pair pair = unpack<T>(x);
    const uint32_t rounded = pack<T>(multiply_to_odd(pair.lo, inverse), multiply_to_odd(pair.hi, inverse));
    if (!has_weight) return rounded;
    const Pair value = unpack<T>(rounded);
    const Pair factor = unpack<T>(weight);
    return pack<T>(value.lo * factor.lo, value.hi * factor.hi);
}

// A row that a block shares, however many warps it has: each thread has a vector per pass.
template <int PASSES>
struct BlockRow {
    static constexpr int MAX_WARPS = SALA_NORM_THREADS / WARP_SIZE;

    Words4 values[PASSES];

    static DEVICE int channel(int pass) { return (pass * block_threads() + thread_index()) * 8; }

    DEVICE void load(const uint16_t* row, int channels) {
        UNROLL
        for (int pass = 0; pass < PASSES; ++pass) {
            values[pass] = Words4{};
            if (channel(pass) < channels) values[pass] = load_global(reinterpret_cast<const Words4*>(row + channel(pass)));
        }
    }

    // Σ x² of the row, in every thread; `partial` is in shared memory.
    template <class T>
    DEVICE Twofold sum_squares(Twofold (&partial)[MAX_WARPS]) const {
        Twofold sum{0.0f, 0.0f};
        UNROLL
        for (int pass = 0; pass < PASSES; ++pass) sum = add_squares<T>(sum, values[pass]);
        sum = add_lanes<WARP_SIZE>(sum);
        if (lane_index() == 0) partial[warp_index()] = sum;
        sync_block();  // every warp's share is in shared memory
        sum = partial[0];
        for (int warp = 1; warp < block_threads() / WARP_SIZE; ++warp) sum = add(sum, partial[warp]);
        return sum;
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
