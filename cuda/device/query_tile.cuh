// Query rows of sparse attention: which of them a block and a warp take, and how Q, K, V and O move for them.
//
// A row is one query head of one token, and a warp takes sixteen of one kv head: all heads of several tokens in small groups, sixteen heads of one
// token in large ones.
#pragma once

#include "../../include/kernel_params.h"
#include "async_copy.cuh"
#include "element.cuh"
#include "machine.cuh"
#include "math.cuh"
#include "memory.cuh"
#include "online_softmax.cuh"
#include "sequence.cuh"
#include "tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int STEP = 64;  // keys that are taken in at once
constexpr int WARP_ROWS = 16;

// Neighbouring query tokens of one sequence, and one of its kv heads.
struct QueryTile {
    SequenceRange sequence;
    int head_kv;
    int first_row;  // of the sequence's queries
    int tokens;     // 0: nothing to do
    bool dense;

    DEVICE int position(int token) const { return sequence.position(first_row + token); }
    DEVICE int last_position() const { return position(tokens - 1); }
    // The row of q, and of all that is shaped as q.
    DEVICE int64_t row(int token) const { return sequence.first_query + first_row + token; }
    // How many steps its last token sees.
    DEVICE int steps() const { return last_position() < 0 ? 0 : last_position() / STEP + 1; }
};

// Tile `index` of a sequence cut into tiles of `tile_tokens`. A negative index, or one past the end, gives a tile without tokens.
DEVICE QueryTile make_tile(const sala_sparse_attention_params& p, const SequenceRange& sequence, int head_kv, int index, int tile_tokens) {
    const int first_row = index * tile_tokens;
    const int left = index < 0 ? 0 : maximum(sequence.queries - first_row, 0);
    const bool dense = p.block_indices == 0 || sequence.switch_len < p.sequences.dense_len;
    return {sequence, head_kv, first_row, minimum(left, tile_tokens), dense};
}

// The query row that accumulator row 8·side + lane / 4 stands for.
struct QueryRow {
    int token;  // of the tile
    int head;   // of q
    int position;
    bool exists;
};

// `group` counts the tile's groups of sixteen rows.
DEVICE QueryRow find_row(const sala_sparse_attention_params& p, const QueryTile& tile, int group, int side) {
    const int heads = minimum(p.group, WARP_ROWS);  // of one token in these sixteen rows
    const int row = accumulator_row(2 * side);
    const int token = group / p.warps_a_token * p.tokens_a_warp + row / heads;
    const int head = group % p.warps_a_token * WARP_ROWS + row % heads;
    const bool exists = row < heads * p.tokens_a_warp && head < p.group && token < tile.tokens;
    return {token, tile.head_kv * p.group + head, tile.position(token), exists};
}

// f·s of a row.
DEVICE float find_scale(const sala_sparse_attention_params& p, const QueryTile& tile, const QueryRow& row) {
    if (p.scale_factor == 0 || !row.exists) return p.scale;
    return p.scale * load_global_constant(reinterpret_cast<const float*>(p.scale_factor) + tile.row(row.token));
}

// The two rows of the lane, and their softmax before the first key.
DEVICE void start_rows(QueryRow (&row)[2], OnlineSoftmax& softmax, const sala_sparse_attention_params& p, const QueryTile& tile,
                       int group) {
    UNROLL
    for (int side = 0; side < 2; ++side) {
        row[side] = find_row(p, tile, group, side);
        start_row(softmax, side, find_scale(p, tile, row[side]));
    }
}

// The sixteen rows of Q, negated where the softmax asks for it.
template <int DIM>
DEVICE FragmentA<DIM> load_query(const sala_sparse_attention_params& p, const QueryTile& tile, const QueryRow (&row)[2]) {
    constexpr uint32_t SIGNS = 0x80008000u;
    FragmentA<DIM> query;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const int64_t offset = tile.row(row[side].token) * p.q_token_stride + row[side].head * p.q_head_stride;
        const auto* source = reinterpret_cast<const uint32_t*>(reinterpret_cast<const uint16_t*>(p.q) + offset) + lane_index() % 4;
        const uint32_t flip = takes_negated_query(find_scale(p, tile, row[side])) ? SIGNS : 0;
        UNROLL
        for (int i = 0; i < DIM / 8; ++i) {
            const uint32_t pair = row[side].exists ? load_global_constant(source + 4 * i) : 0;
            query.registers[i / 2][side + i % 2 * 2] = pair ^ flip;
        }
    }
    return query;
}

// Rows of K or V of one head and sequence.
struct KeyRows {
    const uint16_t* first;
    int64_t stride;
};

DEVICE KeyRows find_keys(const sala_sparse_attention_params& p, const QueryTile& tile, int sequence) {
    const int64_t offset = sequence * p.k_batch_stride + tile.sequence.first_key * p.k_token_stride + tile.head_kv * p.k_head_stride;
    return {reinterpret_cast<const uint16_t*>(p.k) + offset, p.k_token_stride};
}

DEVICE KeyRows find_values(const sala_sparse_attention_params& p, const QueryTile& tile, int sequence) {
    const int64_t offset = sequence * p.v_batch_stride + tile.sequence.first_key * p.v_token_stride + tile.head_kv * p.v_head_stride;
    return {reinterpret_cast<const uint16_t*>(p.v) + offset, p.v_token_stride};
}

// Starts the copy of the COLS elements from `column` of a step's rows; `thread` counts the THREADS that share the work. Keys after
// `last_position`, which no token of the tile sees, are not read and become zero, so that what lies there does not reach O as 0 · NaN.
template <int THREADS, int COLS>
DEVICE void load_rows(SharedTile<COLS> tile, const KeyRows& rows, int column, int step, int last_position, int thread) {
    constexpr int CHUNKS = SharedTile<COLS>::CHUNKS;
    const uint16_t* source = rows.first + static_cast<int64_t>(step) * STEP * rows.stride + column;
    UNROLL
    for (int i = 0; i < STEP * CHUNKS / THREADS; ++i) {
        const int row = thread / CHUNKS + i * (THREADS / CHUNKS);
        const int chunk = thread % CHUNKS;
        const bool valid = step * STEP + row <= last_position;
        async_copy<16>(tile.address(row, chunk), source + (valid ? row * rows.stride : 0) + chunk * 8, valid);
    }
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp2(-LOG2_E * x)); }

DEVICE void store_lse(const sala_sparse_attention_params& p, const QueryTile& tile, const QueryRow& row, const OnlineSoftmax& softmax,
                      int side) {
    if (p.lse == 0 || !row.exists || lane_index() % 4 != 0) return;
    store_global(reinterpret_cast<float*>(p.lse) + tile.row(row.token) * p.lse_token_stride + row.head, log_sum_exp(softmax, side));
}

// Writes the N columns from `column` of one of the lane's two rows of O: normalised, gated, rounded once.
template <class T, int N>
DEVICE void store_row(const sala_sparse_attention_params& p, const QueryTile& tile, const QueryRow& row, const Accumulator<N>& out,
                      int column, const OnlineSoftmax& softmax, int side) {
    if (!row.exists) return;
    const int64_t token = tile.row(row.token);
    const auto* gate = reinterpret_cast<const uint16_t*>(p.gate) + token * p.gate_token_stride + row.head * p.gate_head_stride + column;
    auto* to = reinterpret_cast<uint16_t*>(p.out) + token * p.out_token_stride + row.head * p.out_head_stride + column;
    const float factor = normaliser(softmax, side);
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        const int first = accumulator_col(j, 0);
        Pair pair{out.values[j][2 * side] * factor, out.values[j][2 * side + 1] * factor};
        if (p.gate != 0) {
            const Pair gates = unpack<T>(load_global_constant(reinterpret_cast<const uint32_t*>(gate + first)));
            pair = {pair.lo * sigmoid(gates.lo), pair.hi * sigmoid(gates.hi)};
        }
        store_global(reinterpret_cast<uint32_t*>(to + first), pack<T>(pair.lo, pair.hi));
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
