// The query rows of a tile of dense attention, and which steps of keys they see.
//
// A row is one query head of one token. Rows follow each other token by token, whatever the group, and a warp takes the
// next WARP_ROWS of them, in TILES operands of sixteen:
//
//     group 3     token 0: h0 h1 h2   token 1: h0 h1 h2   …        keys of a token     first_key ─────▶ position
//     row                  0  1  2             3  4  5             steps of a warp     those that one of its tokens sees
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/key_cell.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int DENSE_WARPS = SALA_DENSE_WARPS;  // that have rows

// A row of a tile.
struct DenseRow {
    int token;    // its index in the tile
    int head;     // of q
    bool exists;  // else the rest is that of another, since offsets are formed of it
};

DEVICE DenseRow find_dense_row(const sala_sparse_attention_params& p, const QueryTile& tile, int row) {
    const int token = row / p.group, head = row - token * p.group;
    if (token >= minimum(tile.tokens, p.tile_tokens)) return {0, tile.head_kv * p.group, false};
    return {token, tile.head_kv * p.group + head, true};
}

// Steps of keys from `first` to `last`; none where it is before.
struct StepRange {
    int first, last;

    DEVICE bool has(int step) const { return first <= step && step <= last; }
};

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

// What a row sees. One that does not exist sees all keys, so that no other waits for its mask.
DEVICE SeenKeys find_row_keys(const sala_sparse_attention_params& p, const QueryTile& tile, const DenseRow& row) {
    if (!row.exists) return {0, INT32_MAX - 1};
    return {find_first_key(p, tile, row.token), tile.position(row.token)};
}

// What the warp's rows see, from the first key to the last; a lane has a row.
DEVICE SeenKeys find_seen_keys(const DenseRow& row, const SeenKeys& keys) {
    const bool sees = row.exists && keys.first <= keys.last;
    return {least_of_warp(sees ? keys.first : INT32_MAX), largest_of_warp(sees ? keys.last : -1)};
}

// The steps of which all of them see every key.
DEVICE StepRange find_whole_steps(const SeenKeys& keys) {
    constexpr int STEP = AttentionTile::STEP;
    const int first = largest_of_warp(keys.first), last = least_of_warp(keys.last);
    return {first / STEP + (first % STEP == 0 ? 0 : 1), last < STEP - 1 ? -1 : (last - (STEP - 1)) / STEP};
}

// What the rows of a tile see, in shared memory, and the steps that each warp's see.
template <int TILES>
struct DenseRows {
    static constexpr int WARP_ROWS = TILES * AttentionTile::WARP_ROWS;
    static_assert(WARP_ROWS <= WARP_SIZE, "a lane has a row");

    SeenKeys rows[DENSE_WARPS * WARP_ROWS];
    SeenKeys seen[DENSE_WARPS];    // by the rows of each
    StepRange whole[DENSE_WARPS];  // of which all rows of each see every key

    // Which of them accumulator row 8·side + lane / 4 of one of the warp's operands stands for.
    static DEVICE int row_of_lane(int side, int operand) {
        return warp_index() * WARP_ROWS + operand * AttentionTile::WARP_ROWS + accumulator_row(2 * side);
    }
};

// Finds what the warp's rows see.
template <int TILES>
DEVICE void store_rows(DenseRows<TILES>& rows, const sala_sparse_attention_params& p, const QueryTile& tile) {
    constexpr int WARP_ROWS = DenseRows<TILES>::WARP_ROWS;
    const int at = warp_index() * WARP_ROWS + lane_index() % WARP_ROWS;  // of sixteen rows, two lanes find the same
    const DenseRow row = find_dense_row(p, tile, at);
    const SeenKeys keys = find_row_keys(p, tile, row);
    const SeenKeys seen = find_seen_keys(row, keys);
    const StepRange whole = find_whole_steps(keys);
    if (lane_index() < WARP_ROWS) rows.rows[at] = keys;
    if (lane_index() != 0) return;
    rows.seen[warp_index()] = seen;
    rows.whole[warp_index()] = whole;
}

// What all warps see together, and a lane's warp alone.
struct TileSteps {
    SeenKeys read;
    StepRange of_warp;
};

template <int TILES>
DEVICE TileSteps find_tile_steps(const DenseRows<TILES>& rows) {
    const SeenKeys seen = rows.seen[lane_index() % DENSE_WARPS];
    return {{least_of_warp(seen.first), largest_of_warp(seen.last)}, seen.steps()};
}

// A step, and which warps see it.
struct SeenStep {
    int index;
    int count;       // of those that the tile sees, before it
    uint32_t warps;  // none: it is behind the last
    int page;        // that the table says it lies in; NO_PAGE where pages are smaller

    DEVICE bool is_there() const { return warps != 0; }
    DEVICE bool has_page(const KeyRows& rows) const { return static_cast<uint32_t>(page) < static_cast<uint32_t>(rows.pages); }
    DEVICE bool is_seen() const { return (warps >> warp_index() & 1) != 0; }
};

// The first step from `index` on that a warp sees, its page not looked up. A lane knows the steps of a warp.
DEVICE SeenStep find_seen_step(const StepRange& seen, int index, int count, int last) {
    constexpr uint32_t ALL = (1u << DENSE_WARPS) - 1;
    SeenStep step{index, count, 0, NO_PAGE};
    NO_UNROLL
    for (; step.index <= last; ++step.index) {
        step.warps = ballot(seen.has(step.index)) & ALL;
        if (step.warps != 0) break;
    }
    return step;
}

// The same, whose page is asked for, by one lane, and known once the step is `settled`.
DEVICE SeenStep find_step(const StepRange& seen, const KeyRows& keys, int index, int count, int last) {
    SeenStep step = find_seen_step(seen, index, count, last);
    if (!step.is_there() || !keys.one_page(AttentionTile::STEP)) return step;
    step.page = 0;
    if (keys.paged() && lane_index() == 0) step.page = load_global_constant(keys.table + keys.page_of(step.index * AttentionTile::STEP));
    return step;
}

DEVICE SeenStep settled(SeenStep step) {
    step.page = shuffle(step.page, 0);
    return step;
}

// The two rows of a lane, as operand A of a warp's sixteen, and their softmax before the first key.
template <int DIM>
DEVICE FragmentA<DIM> load_queries(OnlineSoftmax& softmax, const sala_sparse_attention_params& p, const QueryTile& tile) {
    FragmentA<DIM> query;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const DenseRow row = find_dense_row(p, tile, DenseRows<1>::row_of_lane(side, 0));
        const SignedScale scale = find_scale(p, tile, row.token, row.exists);
        start_row(softmax, side, scale.factor);
        const auto* source =
            reinterpret_cast<const uint32_t*>(row_of<const uint16_t>(p.q, tile.row(row.token), row.head)) + lane_index() % 4;
        UNROLL
        for (int i = 0; i < DIM / 8; ++i) {
            query.registers[i / 2][side + i % 2 * 2] = row.exists ? load_global_constant(source + 4 * i) ^ scale.sign_flip() : 0;
        }
    }
    return query;
}

// The keys of a step that there are, a bit for each, by cells.
struct StepKeys {
    uint32_t visible[AttentionTile::STEP_CELLS];

    static DEVICE StepKeys all() { return {{~0u, ~0u}}; }
    DEVICE bool has(int row) const { return ((row < KeyCell::KEYS ? visible[0] : visible[1]) >> row % KeyCell::KEYS & 1) != 0; }
    DEVICE bool are_all() const {
        static_assert(AttentionTile::STEP_CELLS == 2, "a step has two cells");
        return (visible[0] & visible[1]) == ~0u;
    }
};

// Hides the keys of a step that a row of one of the warp's operands does not see, or that are not there.
template <int TILES>
DEVICE void hide_keys(Accumulator<AttentionTile::STEP>& scores, const DenseRows<TILES>& rows, int step, const StepKeys& keys,
                      int operand = 0) {
    constexpr int COLUMNS = KeyCell::KEYS / 8;  // of the accumulator, by eight
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const SeenKeys& row = rows.rows[rows.row_of_lane(side, operand)];
        UNROLL
        for (int cell = 0; cell < AttentionTile::STEP_CELLS; ++cell) {
            const int first = step * AttentionTile::STEP + cell * KeyCell::KEYS;
            uint32_t visible = keys.visible[cell] & keys_before(first, row.last + 1) & keys_from(first, row.first);
            visible >>= accumulator_col(0, 0);
            UNROLL
            for (int j = 0; j < COLUMNS; ++j) {
                UNROLL
                for (int e = 0; e < 2; ++e) {
                    float& score = scores.values[cell * COLUMNS + j][2 * side + e];
                    score = (visible & 1u << (8 * j + e)) != 0 ? score : -INFINITE;
                }
            }
        }
    }
}

// Whether all rows of the warp see all keys of a step.
template <int TILES>
DEVICE bool is_whole(const DenseRows<TILES>& rows, int step, const StepKeys& keys) {
    return rows.whole[warp_index()].has(step) & keys.are_all();
}

// Writes what the lane's two rows of one of the warp's TILES operands have come to.
template <class T, int TILES, int DIM>
DEVICE void store_dense_rows(const sala_sparse_attention_params& p, const QueryTile& tile, const Accumulator<DIM>& out,
                             OnlineSoftmax& softmax, int operand = 0) {
    finish_softmax(softmax);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const DenseRow row = find_dense_row(p, tile, DenseRows<TILES>::row_of_lane(side, operand));
        const QueryRow stored{row.token, row.head, tile.position(row.token), row.exists, {}};
        store_lse<T>(p, tile, stored, softmax, side);
        store_row<T>(p, tile, stored, out, 0, softmax, side);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
