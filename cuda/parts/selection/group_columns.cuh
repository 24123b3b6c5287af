// What a warpgroup has of its columns in shared memory: m and Z, and bounds of the logits that matter.
#pragma once

#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/selection/block_score.cuh"
#include "parts/selection/group_products.cuh"
#include "parts/selection/group_tile.cuh"
#include "parts/selection/score_exchange.cuh"
#include "parts/selection/top_k.cuh"

namespace sala {
inline namespace SALA_VARIANT {

enum { SUMS_0_READY = 1, SUMS_1_READY };  // barriers of a group's threads

// Where a thread has m and Z of its two columns of product j.
DEVICE uint32_t pair_address(const Float4* pairs, int j) {
    return shared_address(pairs) + static_cast<uint32_t>((4 * j + lane_index() % 4) * sizeof(Float4));
}

// Adds m and Z of the warp's piece to the sums of every eighth piece. A product at a time, as there are few registers.
template <int HEADS, int GROUP>
DEVICE void add_piece_to_sums(const Float4 (&sums)[GroupTile::STRIPES][GroupTile::COLUMNS / 2], Normaliser<GroupTile::COLUMNS / 4>& part,
                              const GroupTokens<HEADS, GROUP>& tokens, int piece) {
    UNROLL
    for (int j = 0; j < GroupTile::PRODUCTS; ++j) {
        const float factor = tokens.factor(j);
        float most[2] = {part.maximum[2 * j], part.maximum[2 * j + 1]};
        float sum[2] = {part.sum[2 * j], part.sum[2 * j + 1]};
        merge_lanes(most, sum, [&](int) { return factor; });
        if (lane_index() / 4 == piece % GroupTile::STRIPES) {
            const uint32_t address = pair_address(sums[piece % GroupTile::STRIPES], j);
            Float4 pair = load_shared<Float4>(address);
            UNROLL
            for (int side = 0; side < 2; ++side) add_piece(pair[2 * side], pair[2 * side + 1], most[side], sum[side], factor);
            store_shared(address, pair);
        }
    }
    start_normaliser(part);
}

// Merges the sums of pieces, which the group's warps have. All see the columns afterwards.
template <int HEADS, int GROUP>
DEVICE void finish_columns(const Float4 (&columns)[GroupTile::COLUMNS / 2],
                           const Float4 (&sums)[GroupTile::STRIPES][GroupTile::COLUMNS / 2], const sala_select_blocks_params& p,
                           const GroupTokens<HEADS, GROUP>& tokens) {
    Normaliser<GroupTile::COLUMNS / 4> n;
    sync_barrier(SUMS_0_READY + GROUP, GroupTile::GROUP_THREADS);  // the sums are in shared memory
    UNROLL
    for (int j = 0; j < GroupTile::PRODUCTS; ++j) {
        const Float4 pair = load_shared<Float4>(pair_address(sums[lane_index() / 4], j));
        UNROLL
        for (int side = 0; side < 2; ++side) {
            n.maximum[2 * j + side] = pair[2 * side];
            n.sum[2 * j + side] = pair[2 * side + 1];
        }
    }
    merge_lanes(n.maximum, n.sum, [&](int i) { return tokens.factor(i / 2); });
    UNROLL
    for (int j = 0; j < GroupTile::PRODUCTS; ++j) {
        UNROLL
        for (int side = 0; side < 2; ++side) {
            const int head = Heads<HEADS>::head(0, j, lane_column() + side);
            finish_column(n.maximum[2 * j + side], n.sum[2 * j + side], head < p.group);
        }
        // All warps have the same; each stores a quarter.
        if (j / (GroupTile::PRODUCTS / GroupTile::GROUP_WARPS) == tokens.warp && lane_index() < 4) {
            store_shared(pair_address(columns, j), Float4{{n.maximum[2 * j], n.sum[2 * j], n.maximum[2 * j + 1], n.sum[2 * j + 1]}});
        }
    }
    sync_barrier(SUMS_0_READY + GROUP, GroupTile::GROUP_THREADS);  // the columns are in shared memory
}

// ---- which logits matter

constexpr float NO_NUMBER = __builtin_nanf("");

// A bound of a column's logits: where all of HEADS columns of a token have logits at or below theirs, P is less than `score`, in the
// arithmetic of sum_heads with all its roundings. NaN where there is no such bound. `most` and `sum` as finish_column leaves them.
//
//     2^((x − m) · factor − sum − guard) < score / HEADS     where x ≤ m + (log2 score − log2 HEADS + guard + sum − slack) / factor
//
// Exponents grow with x, rounded as they are, so that the slack is for x at the bound: for what rounds m + …, its difference to m and the
// exponent, a few 2^−24 of m · factor and of the exponent; and an eightieth of P for approximations and the sum.
template <int HEADS>
DEVICE float find_bound(float score, float most, float sum, float factor) {
    static_assert(HEADS == 8 || HEADS == 16 || HEADS == 32, "a power of two");
    constexpr float LOG2_HEADS = HEADS == 8 ? 3.0f : HEADS == 16 ? 4.0f : 5.0f;
    constexpr float ROUNDINGS = 1.0f / (1 << 20);
    const auto size = [](float x) { return x < 0.0f ? -x : x; };
    const float exponent = log2(score) - LOG2_HEADS + SHARE_GUARD_BITS + sum;
    const float slack = 1.0f / 64 + ROUNDINGS * (size(most) * factor + size(exponent) + size(sum));
    if (score > 0.0f && sum == INFINITE) return -LOWEST;  // the column adds nothing
    const float unit = fast_reciprocal(factor);
    const float bound = most + (exponent - slack) * unit;
    if (!(score > 0.0f && unit > 0.0f) || bound != bound) return NO_NUMBER;
    return minimum(bound, -LOWEST);
}

// A lane's bounds before there are any: they let every logit pass.
DEVICE void fill_bounds(float (&bounds)[GroupTile::COLUMNS / 4]) {
    UNROLL
    for (int i = 0; i < GroupTile::COLUMNS / 4; ++i) bounds[i] = NO_NUMBER;
}

DEVICE void load_bounds(float (&bounds)[GroupTile::COLUMNS / 4], const float (&from)[GroupTile::COLUMNS]) {
    UNROLL
    for (int j = 0; j < GroupTile::PRODUCTS; ++j) {
        const auto pair = load_shared<Vector<float, 2>>(shared_address(&from[8 * j]) + static_cast<uint32_t>(lane_index() % 4 * 8));
        bounds[2 * j] = pair[0];
        bounds[2 * j + 1] = pair[1];
    }
}

// Finds the bounds of the 32 columns whose tokens are the warp's own, one in each lane.
template <int HEADS, int GROUP, int TOKENS>
DEVICE void store_bound(const float (&bounds)[GroupTile::COLUMNS], const Float4 (&columns)[GroupTile::COLUMNS / 2],
                        const ListedToken (&lists)[TOKENS], const sala_select_blocks_params& p, const GroupTokens<HEADS, GROUP>& tokens) {
    const int column = tokens.warp * WARP_SIZE + lane_index();
    const int token = column / HEADS;
    const auto pair = load_shared<Vector<float, 2>>(shared_address(&columns[column / 2]) + static_cast<uint32_t>(column % 2 * 8));
    const float factor = load_shared<float>(tokens.factors + static_cast<uint32_t>(token) * sizeof(float));
    const float least = least_score(load_shared<uint64_t>(shared_address(&lists[tokens.first + token].floor)));
    const float bound = p.scores.address == 0 ? find_bound<HEADS>(least, pair[0], pair[1], factor) : NO_NUMBER;
    store_shared(shared_address(&bounds[column]), bound);
}

// Whether any logit of the warp's half turn is above its column's bound, or no number. If none is, no row of it has a score that counts.
DEVICE bool is_above(const GroupLogits& logits, const float (&bounds)[GroupTile::COLUMNS / 4]) {
    bool above = false;
    UNROLL
    for (int j = 0; j < GroupTile::PRODUCTS; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) above |= !(logits.values[j][e] <= bounds[2 * j + e % 2]);
    }
    return any(above);
}

}  // namespace SALA_VARIANT
}  // namespace sala
