// Softmax along keys that arrive in parts, for the 16 rows whose scores lie in the accumulators of a warp.
//
// A row keeps a reference maximum m and the sum l of its weights; O is kept unnormalised. With c =
// |scale|·log2 e, a part of the keys with scores s gives
//
//     x  = max s               m' = x if c (x − m) > 8, else m
//     P  = 2^(c (s − m'))      a  = 2^(c (m − m'))            l ← a·l + Σ P            O ← a·O + P V
//
// Raising m only when a weight would exceed 2^8 spares most parts the pass over O. Whether a row is raised
// depends on that row alone, so that its bits do not depend on the other rows of the warp. m starts finite,
// so no ∞ − ∞ arises; a score of −∞ is a key that is not visible. The difference s − m is formed before the
// product: with c·s and c·m in the millions, a fused c·s − c·m would be wrong by powers of two.
//
// In f16 weights, and with them l and O, are 2^7 as large: f16 loses bits below 2^-14, which a million keys under
// one of weight 1 would notice, and has those seven bits to spare above 2^8.
#pragma once

#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// How many bits larger than P the weights are.
template <class T>
constexpr float WEIGHT_BITS = 0.0f;
template <>
constexpr float WEIGHT_BITS<f16> = 7.0f;

// The lane's two rows (accumulator_row(0) and accumulator_row(2)) of a softmax in progress.
struct OnlineSoftmax {
    float factor[2];   // c, above zero (see signed_scale.cuh)
    float maximum[2];  // m; the same on the four lanes of a row
    float sum[2];      // this lane's part of l
};

// How a part changes what the earlier parts gave: a, for the lane's two rows.
struct Rescale {
    float rows[2];

    DEVICE bool changes() const { return rows[0] != 1.0f || rows[1] != 1.0f; }
};

DEVICE void start_row(OnlineSoftmax& softmax, int side, float factor) {
    softmax.factor[side] = factor;
    softmax.maximum[side] = LOWEST;
    softmax.sum[side] = 0.0f;
}

// The maxima of the lane's two rows; four lanes share a row.
template <int N>
DEVICE void find_row_maxima(float (&largest)[2], const Accumulator<N>& scores) {
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        UNROLL
        for (int side = 0; side < 2; ++side) {
            // The pair first: so fewer maxima wait for the one before.
            const float pair = maximum(scores.values[j][2 * side], scores.values[j][2 * side + 1]);
            largest[side] = j == 0 ? pair : maximum(largest[side], pair);
        }
    }
    reduce_max_each<4>(largest);
}

// Raises the reference maxima where a part with these row maxima asks for it.
DEVICE Rescale raise_maxima(OnlineSoftmax& softmax, const float (&largest)[2]) {
    constexpr float HEADROOM = 8.0f;
    Rescale rescale;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const float old = softmax.maximum[side];
        const bool raise = softmax.factor[side] * (largest[side] - old) > HEADROOM;
        softmax.maximum[side] = raise ? largest[side] : old;
        rescale.rows[side] = raise ? exp2(softmax.factor[side] * (old - largest[side])) : 1.0f;
    }
    return rescale;
}

// Turns the scores of eight keys into weights, and adds them to the sums over this lane's columns.
template <class T>
DEVICE void weigh_eight(float (&sums)[2], float (&scores)[4], const OnlineSoftmax& softmax) {
    UNROLL
    for (int e = 0; e < 4; ++e) {
        scores[e] = exp2(fma(softmax.factor[e / 2], scores[e] - softmax.maximum[e / 2], WEIGHT_BITS<T>));
        sums[e / 2] += scores[e];
    }
}

// The same for columns [16 i, 16 i + 16), which are rounded. `sums` begin with zeros, and columns come in ascending order.
template <class T, int N>
DEVICE FragmentA<16> weigh_columns(float (&sums)[2], Accumulator<N>& scores, int i, const OnlineSoftmax& softmax) {
    weigh_eight<T>(sums, scores.values[2 * i], softmax);
    weigh_eight<T>(sums, scores.values[2 * i + 1], softmax);
    return to_fragment_a<T, 16>(scores, 2 * i);
}

// Turns scores into weights, and gives their sums over this lane's columns.
template <class T, int N>
DEVICE void make_weights(float (&sums)[2], Accumulator<N>& scores, const OnlineSoftmax& softmax) {
    sums[0] = sums[1] = 0.0f;
    UNROLL
    for (int j = 0; j < N / 8; ++j) weigh_eight<T>(sums, scores.values[j], softmax);
}

// Applies a part's rescaling and weights to the sums.
DEVICE void add_sums(OnlineSoftmax& softmax, const Rescale& rescale, const float (&sums)[2]) {
    UNROLL
    for (int side = 0; side < 2; ++side) softmax.sum[side] = fma(softmax.sum[side], rescale.rows[side], sums[side]);
}

// Applies the rescaling to O. The warp decides as one whether O changes, so that it stays together for the product that follows; a
// factor of 1 changes nothing.
template <int N>
DEVICE void rescale_out(Accumulator<N>& out, const Rescale& rescale) {
    if (any(rescale.changes())) out.scale_rows(rescale.rows[0], rescale.rows[1]);
}

// Both.
template <int N>
DEVICE void advance(OnlineSoftmax& softmax, Accumulator<N>& out, const Rescale& rescale, const float (&sums)[2]) {
    add_sums(softmax, rescale, sums);
    rescale_out(out, rescale);
}

// What a part does to the sums and to O, which has to be complete up to the part before.
struct PartChange {
    Rescale rescale = {{1.0f, 1.0f}};
    float sums[2] = {0.0f, 0.0f};
};

// Turns the scores of a part into weights.
template <class T, int N>
DEVICE PartChange weigh(OnlineSoftmax& softmax, Accumulator<N>& scores) {
    PartChange change;
    float maxima[2];
    find_row_maxima(maxima, scores);
    change.rescale = raise_maxima(softmax, maxima);
    make_weights<T>(change.sums, scores, softmax);
    return change;
}

template <int N>
DEVICE void advance(OnlineSoftmax& softmax, Accumulator<N>& out, const PartChange& change) {
    advance(softmax, out, change.rescale, change.sums);
}

// Completes the sums over the four lanes of each row, after the last part. A factor of NaN makes the row NaN,
// whatever it sees.
DEVICE void finish_softmax(OnlineSoftmax& softmax) {
    reduce_add_each<4>(softmax.sum);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        if (softmax.factor[side] != softmax.factor[side]) softmax.sum[side] = softmax.factor[side];
    }
}

// ln Σ exp of a row of a finished softmax; −∞ where no key was visible.
template <class T>
DEVICE float log_sum_exp(const OnlineSoftmax& softmax, int side) {
    if (softmax.sum[side] == 0.0f) return -INFINITE;
    return LN_2 * fma(softmax.factor[side], softmax.maximum[side], log2(softmax.sum[side]) - WEIGHT_BITS<T>);
}

// What a row of O is multiplied by in the end; 0 where no key was visible.
DEVICE float inverse_sum(const OnlineSoftmax& softmax, int side) { return softmax.sum[side] == 0.0f ? 0.0f : 1.0f / softmax.sum[side]; }

// An element of O times the inverse sum of its row. Where no key was visible, NaN in the values of others' keys stays there.
DEVICE float normalised(float out, float inverse) { return inverse == 0.0f ? 0.0f : out * inverse; }

}  // namespace SALA_VARIANT
}  // namespace sala
