// How results of attention over disjoint keys become one: of pieces of a token's keys, or of two calls.
//
//     m = max mᵢ      wᵢ = 2^(c (mᵢ − m))      l = Σ wᵢ lᵢ      O = Σ wᵢ Oᵢ        where Oᵢ are relative to mᵢ and not normalised
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// wᵢ. The difference is formed before the product, as in online_softmax.cuh.
DEVICE float merge_weight(float factor, float maximum, float whole) { return exp2(factor * (maximum - whole)); }

// N columns of O.
template <int N>
struct MergedColumns {
    float values[N];

    DEVICE void fill(float value) {
        UNROLL
        for (int i = 0; i < N; ++i) values[i] = value;
    }

    DEVICE void add(float weight, const Vector<float, N>& part) {
        UNROLL
        for (int i = 0; i < N; ++i) values[i] = fma(weight, part[i], values[i]);
    }

    DEVICE Vector<float, N> packed() const {
        Vector<float, N> all;
        UNROLL
        for (int i = 0; i < N; ++i) all[i] = values[i];
        return all;
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
