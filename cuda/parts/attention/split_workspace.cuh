// What the two launches of split attention share: which sixteen query rows a block takes, and what the first
// launch leaves for the second.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Sixteen rows: the tile of their tokens, and which of the tile's row groups they are. Grid: (…, kv heads ×
// row groups, batch).
struct RowGroup {
    QueryTile tile;
    int index;
};

DEVICE RowGroup find_row_group(const sala_sparse_attention_split_params& p, const SequenceRange& sequence) {
    const sala_sparse_attention_params& a = p.attention;
    const int index = block_index_y() % p.row_groups;
    const int head_kv = block_index_y() / p.row_groups;
    const TokenTile tokens = cut_tile(sequence, index / a.warps_per_token, a.tokens_per_warp);
    return {find_query_tile(a, tokens, head_kv), index % a.warps_per_token};
}

// A place is one of the steps that a row group takes, in ascending order. This is its part of the workspace.
struct SplitPlace {
    static constexpr int VECTORS = AttentionTile::STEP / 8 * WARP_SIZE;  // four scores each

    Float4* scores;  // [8][32]
    float* maxima;   // [16]
    int* step;

    DEVICE SplitPlace after(int places) const {
        return {scores + places * VECTORS, maxima + places * AttentionTile::WARP_ROWS, step + places};
    }
};

// The first place of the block's row group.
DEVICE SplitPlace first_place(const sala_sparse_attention_split_params& p) {
    const int64_t row_group = static_cast<int64_t>(block_index_z()) * grid_size_y() + block_index_y();
    const int64_t place = row_group * p.places;
    return {entry_of<Float4>(p.scores, place * SplitPlace::VECTORS), entry_of<float>(p.maxima, place * AttentionTile::WARP_ROWS),
            entry_of<int>(p.steps, place)};
}

// A step as the workspace holds it.
DEVICE int pack_step(const KeyStep& step) {
    return step.index == NO_STEP ? NO_STEP : step.index << AttentionTile::STEP_CELLS | static_cast<int>(step.cells);
}

DEVICE KeyStep unpack_step(int packed) {
    if (packed == NO_STEP) return {NO_STEP, 0};
    return {packed >> AttentionTile::STEP_CELLS, static_cast<uint32_t>(packed) & AttentionTile::WHOLE_STEP};
}

// Maxima lie in the order of the rows; four lanes share a row.
DEVICE void store_maxima(const SplitPlace& place, const float (&maxima)[2]) {
    if (lane_index() % 4 != 0) return;
    UNROLL
    for (int side = 0; side < 2; ++side) store_global(place.maxima + accumulator_row(2 * side), maxima[side]);
}

DEVICE void load_maxima(float (&maxima)[2], const SplitPlace& place) {
    UNROLL
    for (int side = 0; side < 2; ++side) maxima[side] = load_global_constant(place.maxima + accumulator_row(2 * side));
}

DEVICE void store_scores(const SplitPlace& place, const Accumulator<AttentionTile::STEP>& scores) {
    UNROLL
    for (int j = 0; j < AttentionTile::STEP / 8; ++j) {
        const float(&v)[4] = scores.values[j];
        store_global(place.scores + j * WARP_SIZE + lane_index(), Float4{{v[0], v[1], v[2], v[3]}});
    }
}

DEVICE void load_scores(Accumulator<AttentionTile::STEP>& scores, const SplitPlace& place) {
    UNROLL
    for (int j = 0; j < AttentionTile::STEP / 8; ++j) {
        const Float4 vector = load_global_constant(place.scores + j * WARP_SIZE + lane_index());
        UNROLL
        for (int e = 0; e < 4; ++e) scores.values[j][e] = vector[e];
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
