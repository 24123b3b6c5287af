// How a softmax takes a scale of either sign: as the factor |scale| · log2 e, which is above zero, and a sign
// for Q. The largest exponent then belongs to the largest score.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct SignedScale {
    float factor;
    bool negated;  // Q is taken as −Q

    // What flips the signs of a pair of elements of Q, by XOR, where Q is negated.
    DEVICE uint32_t sign_flip() const { return negated ? 0x80008000u : 0; }
};

// 0 · −∞ would turn hidden keys into NaN, so |scale| is at least the smallest normal number. A scale of NaN
// stays NaN.
DEVICE SignedScale signed_scale(float scale) {
    const float magnitude = scale < 0.0f ? -scale : scale;
    return {(magnitude < SMALLEST_NORMAL ? SMALLEST_NORMAL : magnitude) * LOG2_E, scale < 0.0f};
}

}  // namespace SALA_VARIANT
}  // namespace sala
