// Rows of a warp that takes in one step of keys after the other: TILES operands of sixteen rows, which share each load of K and V.
// The weights of sixteen keys are made while the tensor cores add the values of the sixteen before; the other warp of a
// sub-partition multiplies while this one looks for maxima.
//
//     S n = Q Kᵀ | maxima | O ← a·O | O += P V n  ──────────────▶
//                                   | weights of n, 16 by 16 ──▶
#pragma once

#include "machine/machine.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

template <int DIM, int TILES>
struct AttendedRows {
    static constexpr int STEP = AttentionTile::STEP;
    using Scores = Accumulator<STEP>[TILES];

    Accumulator<DIM> out[TILES];
    OnlineSoftmax softmax[TILES];

    // Raises the reference maxima to those of a step where it asks for it, and rescales O.
    DEVICE void raise(Rescale (&rescale)[TILES], const Scores& scores) {
        bool changes = false;
        UNROLL
        for (int tile = 0; tile < TILES; ++tile) {
            float maxima[2];
            find_row_maxima(maxima, scores[tile]);
            rescale[tile] = raise_maxima(softmax[tile], maxima);
            changes |= rescale[tile].changes();
        }
        if (!any(changes)) return;
        UNROLL
        for (int tile = 0; tile < TILES; ++tile) out[tile].scale_rows(rescale[tile].rows[0], rescale[tile].rows[1]);
    }

    // Adds the step's values, by weights that are made of its scores.
    template <class T>
    DEVICE void add(const Rescale (&rescale)[TILES], Scores& scores, const OperandPlace<DIM, Operand::KN>& values) {
        float sums[TILES][2] = {};
        multiply_made<T, STEP>(out, values, [&](FragmentA<16>(&weights)[TILES], int i) {
            UNROLL
            for (int tile = 0; tile < TILES; ++tile) weights[tile] = weigh_columns<T>(sums[tile], scores[tile], i, softmax[tile]);
        });
        UNROLL
        for (int tile = 0; tile < TILES; ++tile) add_sums(softmax[tile], rescale[tile], sums[tile]);
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
