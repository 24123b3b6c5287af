// What the two launches of split attention share: which sixteen query rows a block is about, and what one leaves for the other.
#pragma once

#include "../../include/kernel_params.h"
#include "block_sets.cuh"
#include "machine.cuh"
#include "math.cuh"
#include "memory.cuh"
#include "query_tile.cuh"
#include "tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

using Float4 = Vector<float, 4>;

// Sixteen rows: the tile of their tokens, and which of the tile's groups they are. Grid: (…, kv heads × groups, batch).
struct RowGroup {
    QueryTile tile;
    int index;
};

DEVICE RowGroup find_group(const sala_sparse_attention_split_params& p, const SequenceRange& sequence) {
    const sala_sparse_attention_params& a = p.attention;
    const int index = block_index_y() % p.groups;
    const int head_kv = block_index_y() / p.groups;
    return {make_tile(a, sequence, head_kv, index / a.warps_a_token, a.tokens_a_warp), index % a.warps_a_token};
}

// The group's part of the workspace, from one place on.
struct Place {
    Float4* scores;  // [8][32]
    float* maxima;   // [16]
    int* step;

    DEVICE Place after(int places) const { return {scores + places * (STEP / 8) * WARP_SIZE, maxima + places * WARP_ROWS, step + places}; }
};

DEVICE Place first_place(const sala_sparse_attention_split_params& p) {
    const int64_t row = static_cast<int64_t>(block_index_z()) * grid_size_y() + block_index_y();
    const int64_t place = row * p.places;
    return {reinterpret_cast<Float4*>(p.scores) + place * (STEP / 8) * WARP_SIZE, reinterpret_cast<float*>(p.maxima) + place * WARP_ROWS,
            reinterpret_cast<int*>(p.steps) + place};
}

// Maxima lie in the order of the rows; four lanes share a row.
DEVICE void store_maxima(const Place& place, const float (&maxima)[2]) {
    if (lane_index() % 4 != 0) return;
    UNROLL
    for (int side = 0; side < 2; ++side) store_global(place.maxima + accumulator_row(2 * side), maxima[side]);
}

DEVICE void load_maxima(float (&maxima)[2], const Place& place) {
    UNROLL
    for (int side = 0; side < 2; ++side) maxima[side] = load_global_constant(place.maxima + accumulator_row(2 * side));
}

DEVICE void store_scores(const Place& place, const Accumulator<STEP>& scores) {
    UNROLL
    for (int j = 0; j < STEP / 8; ++j) {
        const float(&v)[4] = scores.values[j];
        store_global(place.scores + j * WARP_SIZE + lane_index(), Float4{{v[0], v[1], v[2], v[3]}});
    }
}

DEVICE void load_scores(Accumulator<STEP>& scores, const Place& place) {
    UNROLL
    for (int j = 0; j < STEP / 8; ++j) {
        const Float4 piece = load_global_constant(place.scores + j * WARP_SIZE + lane_index());
        UNROLL
        for (int e = 0; e < 4; ++e) scores.values[j][e] = piece[e];
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
