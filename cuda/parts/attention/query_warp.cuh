// What a warp of attention has of its sixteen rows, and how it takes in a step of keys: the values of a step are added while the
// weights of the next are made.
//
//     S = Q Kᵀ n+1   | O += P V n     | O ← a·O, P n+1
//                    | weights n+1    |
#pragma once

#include "machine/machine.cuh"
#include "machine/tile.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

template <int DIM>
struct QueryWarp {
    FragmentA<DIM> query;
    Accumulator<DIM> out;
    OnlineSoftmax softmax;
    FragmentA<AttentionTile::STEP> weights;  // of the step whose values come next
};

// What a step's weights do to the sums and to O, which has to be complete up to the step before.
struct StepChange {
    Rescale rescale;
    float sums[2];
};

// Turns scores into weights.
template <class T, int DIM>
DEVICE StepChange weigh(QueryWarp<DIM>& warp, Accumulator<AttentionTile::STEP>& scores) {
    StepChange change;
    float maxima[2];
    find_row_maxima(maxima, scores);
    change.rescale = raise_maxima(warp.softmax, maxima);
    make_weights<T>(change.sums, scores, warp.softmax);
    return change;
}

template <class T, int DIM>
DEVICE void take_weights(QueryWarp<DIM>& warp, const Accumulator<AttentionTile::STEP>& weights, const StepChange& change) {
    advance(warp.softmax, warp.out, change.rescale, change.sums);
    warp.weights = to_fragment_a<T>(weights);
}

}  // namespace SALA_VARIANT
}  // namespace sala
