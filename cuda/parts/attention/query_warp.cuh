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

template <class T, int DIM>
DEVICE void take_weights(QueryWarp<DIM>& warp, const Accumulator<AttentionTile::STEP>& weights, const PartChange& change) {
    advance(warp.softmax, warp.out, change);
    warp.weights = to_fragment_a<T>(weights);
}

}  // namespace SALA_VARIANT
}  // namespace sala
