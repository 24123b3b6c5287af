// Query rows of sparse attention: which of them a block and a warp take, and how Q, K, V and O move for them.
//
// A row is one query head of one token, and a warp takes a row group of sixteen rows of one kv head: all
// heads of several tokens where groups are small, sixteen heads of one token where they are large.
#pragma once

#include "machine/async_copy.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/online_softmax.cuh"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/token_tile.cuh"
#include "parts/signed_scale.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct AttentionTile {
    static constexpr int STEP = SALA_ATTENTION_STEP;  // keys that are taken in at once
    static constexpr int CELL_KEYS = 32;              // the smallest block of keys
    static constexpr int STEP_CELLS = STEP / CELL_KEYS;
    static constexpr uint32_t WHOLE_STEP = (1u << STEP_CELLS) - 1;
    static constexpr int WARP_ROWS = SALA_ATTENTION_WARP_ROWS;  // query rows of a row group
};

// Query tokens and one of their kv heads.
struct QueryTile : TokenTile {
    int head_kv;
    bool dense;

    // How many steps its last token sees.
    DEVICE int steps() const { return last_position() < 0 ? 0 : last_position() / AttentionTile::STEP + 1; }
};

DEVICE QueryTile find_query_tile(const sala_sparse_attention_params& p, const TokenTile& tokens, int head_kv) {
    return {tokens, head_kv, p.all_dense || tokens.sequence.dense};
}

// The query row that accumulator row 8·side + lane / 4 stands for.
struct QueryRow {
    int token;  // its index in the tile
    int head;   // its head of q
    int position;
    bool exists;
    SignedScale scale;
};

// f·s of a row.
DEVICE SignedScale find_scale(const sala_sparse_attention_params& p, const QueryTile& tile, int token, bool exists) {
    if (p.scale_factor == 0 || !exists || tile.position(token) < 0) return signed_scale(p.scale);
    return signed_scale(p.scale * load_global_constant(entry_of<const float>(p.scale_factor, tile.row(token))));
}

// `row_group` counts those of the tile.
DEVICE QueryRow find_row(const sala_sparse_attention_params& p, const QueryTile& tile, int row_group, int side) {
    constexpr int WARP_ROWS = AttentionTile::WARP_ROWS;
    const int heads = minimum(p.group, WARP_ROWS);  // how many of one token are in these sixteen rows
    const int row = accumulator_row(2 * side);
    int token = row_group / p.warps_per_token * p.tokens_per_warp + row / heads;
    int head = row_group % p.warps_per_token * WARP_ROWS + row % heads;
    const bool exists = row < heads * p.tokens_per_warp && head < p.group && token < tile.tokens;
    if (!exists) token = head = 0;  // offsets are formed of them, and strides may be huge
    return {token, tile.head_kv * p.group + head, tile.position(token), exists, find_scale(p, tile, token, exists)};
}

// The two rows of the lane, and their softmax before the first key.
DEVICE void start_rows(QueryRow (&row)[2], OnlineSoftmax& softmax, const sala_sparse_attention_params& p, const QueryTile& tile,
                       int row_group) {
    UNROLL
    for (int side = 0; side < 2; ++side) {
        row[side] = find_row(p, tile, row_group, side);
        start_row(softmax, side, row[side].scale.factor);
    }
}

// The sixteen rows of Q as operand A, negated where the scale asks for it.
template <int DIM>
DEVICE FragmentA<DIM> load_query_rows(const sala_sparse_attention_params& p, const QueryTile& tile, const QueryRow (&row)[2]) {
    FragmentA<DIM> query;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const auto* elements = row_of<const uint16_t>(p.q, tile.row(row[side].token), row[side].head);
        const auto* source = reinterpret_cast<const uint32_t*>(elements) + lane_index() % 4;
        const uint32_t flip = row[side].scale.sign_flip();
        UNROLL
        for (int i = 0; i < DIM / 8; ++i) {
            const uint32_t pair = row[side].exists ? load_global_constant(source + 4 * i) : 0;
            query.registers[i / 2][side + i % 2 * 2] = pair ^ flip;
        }
    }
    return query;
}

DEVICE KeyRows find_tile_keys(const sala_sparse_attention_params& p, const QueryTile& tile, int sequence) {
    return find_key_rows(p.k, tile.sequence.keys, sequence, tile.head_kv, 1);
}

DEVICE KeyRows find_tile_values(const sala_sparse_attention_params& p, const QueryTile& tile, int sequence) {
    return find_key_rows(p.v, tile.sequence.keys, sequence, tile.head_kv, 1);
}

// A step of keys, and its cells that a token of the tile has listed: bit i stands for keys [32 i, 32 i + 32).
struct KeyStep {
    int index;  // NO_STEP: there is none
    uint32_t cells;
};

constexpr int NO_STEP = -1;

// Starts the copy of the COLS elements from `column` of a step's rows; `thread` counts the THREADS that share
// the work. Keys that no token of the tile sees, after `last_position` and in cells that none has listed, are
// not read and become zero, so that what lies there does not reach O as 0 · NaN.
template <int THREADS, int COLS>
DEVICE void load_key_step(SharedTile<COLS> tile, const KeyRows& rows, int column, const KeyStep& step, int last_position, int thread) {
    constexpr int STEP = AttentionTile::STEP;
    constexpr int VECTORS = SharedTile<COLS>::VECTORS;
    const KeyRows source = rows.from(static_cast<int64_t>(step.index) * STEP);
    UNROLL
    for (int i = 0; i < STEP * VECTORS / THREADS; ++i) {
        const int row = thread / VECTORS + i * (THREADS / VECTORS);
        const int vector = thread % VECTORS;
        const bool listed = step.cells >> (row / AttentionTile::CELL_KEYS) & 1;
        const bool valid = listed && step.index * STEP + row <= last_position;
        async_copy<16>(tile.address(row, vector), source.row(valid ? row : 0) + column + vector * 8, valid);
    }
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp2(-LOG2_E * x)); }

template <class T>
DEVICE void store_lse(const sala_sparse_attention_params& p, const QueryTile& tile, const QueryRow& row, const OnlineSoftmax& softmax,
                      int side) {
    if (p.lse.address == 0 || !row.exists || lane_index() % 4 != 0) return;
    store_global(row_of<float>(p.lse, tile.row(row.token), row.head), log_sum_exp<T>(softmax, side));
}

// Writes the N columns from `column` of one of the lane's two rows of O: normalised, gated, rounded once.
template <class T, int N>
DEVICE void store_row(const sala_sparse_attention_params& p, const QueryTile& tile, const QueryRow& row, const Accumulator<N>& out,
                      int column, const OnlineSoftmax& softmax, int side) {
    if (!row.exists) return;
    const int64_t token = tile.row(row.token);
    const auto* gate = row_of<const uint16_t>(p.gate, token, row.head) + column;
    auto* to = row_of<uint16_t>(p.out, token, row.head) + column;
    const float factor = inverse_sum(softmax, side);
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        const int first = accumulator_col(j, 0);
        Pair pair{out.values[j][2 * side] * factor, out.values[j][2 * side + 1] * factor};
        if (p.gate.address != 0) {
            const Pair gates = unpack<T>(load_global_constant(reinterpret_cast<const uint32_t*>(gate + first)));
            pair = {pair.lo * sigmoid(gates.lo), pair.hi * sigmoid(gates.hi)};
        }
        store_global(reinterpret_cast<uint32_t*>(to + first), pack<T>(pair.lo, pair.hi));
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
