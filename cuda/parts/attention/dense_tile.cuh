// The query rows of a tile of dense attention, and which steps of keys they see.
//
// A row is one query head of one token. Rows follow each other token by token, whatever the group, and a warp takes the
// next WARP_ROWS of them:
//
//     group 3     token 0: h0 h1 h2   token 1: h0 h1 h2   …        keys of a token     first_key ─────▶ position
//     row                  0  1  2             3  4  5             steps of a warp     those that one of its tokens sees
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/query_tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// A row, as it lies in shared memory.
struct DenseRow {
    int token;        // its index in the tile; −1: there is no such row
    int head;         // of q
    int first, last;  // the keys that it sees
    float factor;     // of its softmax
    uint32_t flip;    // of the signs of its elements of Q

    DEVICE bool exists() const { return token >= 0; }
    DEVICE bool sees(int key) const { return first <= key && key <= last; }
};

// Steps of keys from `first` to `last`; none where it is before.
struct StepRange {
    int first, last;

    DEVICE bool has(int step) const { return first <= step && step <= last; }
};

// A row that does not exist sees all keys, so that no other waits for its mask.
DEVICE DenseRow find_dense_row(const sala_sparse_attention_params& p, const QueryTile& tile, int row) {
    const int token = row / p.group, head = row - token * p.group;
    if (token >= minimum(tile.tokens, p.tile_tokens)) return {-1, 0, 0, INT32_MAX - 1, 0.0f, 0};
    const SignedScale scale = find_scale(p, tile, token, true);
    return {token, tile.head_kv * p.group + head, find_first_key(p, tile, token), tile.position(token), scale.factor, scale.sign_flip()};
}

DEVICE int least_of_warp(int value) {
    UNROLL
    for (int mask = WARP_SIZE / 2; mask > 0; mask /= 2) value = minimum(value, shuffle_xor(value, mask));
    return value;
}

DEVICE int largest_of_warp(int value) { return -least_of_warp(-value); }

// Keys from `first` to `last`; none where it is before.
struct SeenKeys {
    int first, last;

    static DEVICE SeenKeys none() { return {INT32_MAX, -1}; }
    // Those that they lie in.
    DEVICE StepRange steps() const { return {first / AttentionTile::STEP, last < 0 ? -1 : last / AttentionTile::STEP}; }
};

// What the warp's rows see, from the first key to the last; a lane has a row.
DEVICE SeenKeys find_seen_keys(const DenseRow& row) {
    const bool sees = row.exists() && row.first <= row.last;
    return {least_of_warp(sees ? row.first : INT32_MAX), largest_of_warp(sees ? row.last : -1)};
}

// The steps of which all of them see every key.
DEVICE StepRange find_whole_steps(const DenseRow& row) {
    constexpr int STEP = AttentionTile::STEP;
    const int first = largest_of_warp(row.first), last = least_of_warp(row.last);
    return {first / STEP + (first % STEP == 0 ? 0 : 1), last < STEP - 1 ? -1 : (last - (STEP - 1)) / STEP};
}

}  // namespace SALA_VARIANT
}  // namespace sala
