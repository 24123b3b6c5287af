// Query rows of sparse attention: which of them a block and a warp take, and how Q, K, V and O move for them.
//
// A row is one query head of one token, and a warp takes a row group of sixteen rows of one kv head: all
// heads of several tokens where groups are small, sixteen heads of one token where they are large.
#pragma once

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
#include "parts/sigmoid.cuh"
#include "parts/signed_scale.cuh"
#include "parts/status.cuh"

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

// What a block of prefill has of a sequence. The grid is (tiles, kv heads, batch).
DEVICE QueryTile find_block_tile(const sala_sparse_attention_params& p, const SequenceRange& sequence) {
    const int index = last_tiles_first(sequence, block_index_x(), p.tile_tokens);
    return find_query_tile(p, cut_tile(sequence, index, p.tile_tokens), block_index_y());
}

// The same, found again at the end: in between it would take registers.
DEVICE QueryTile find_block_tile_anew(const sala_sparse_attention_params& p) {
    const auto sequence = static_cast<int>(renewed(static_cast<uint32_t>(block_index_z())));
    return find_block_tile(p, find_sequence(p.sequences, sequence));
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

// Before which key a token sees none; at least 0.
DEVICE int find_first_key(const sala_sparse_attention_params& p, const QueryTile& tile, int token) {
    return p.first_key == 0 ? 0 : maximum(load_global_constant(entry_of<const int>(p.first_key, tile.row(token))), 0);
}

// The token of a row of a tile of so many; that of a row which does not exist is any.
DEVICE int find_token(const sala_sparse_attention_params& p, int tokens, int row_group, int side) {
    const int heads = minimum(p.group, AttentionTile::WARP_ROWS);
    const int token = row_group / p.warps_per_token * p.tokens_per_warp + accumulator_row(2 * side) / heads;
    return minimum(token, tokens - 1);
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

    // How many keys of a cell are read: those that a token of the tile has listed, up to `last_position`.
    DEVICE int cell_keys(int cell, int last_position) const {
        const int left = last_position + 1 - first_key(cell);
        return cells >> cell & 1 ? maximum(minimum(left, AttentionTile::CELL_KEYS), 0) : 0;
    }
    DEVICE int first_key(int cell) const { return index * AttentionTile::STEP + cell * AttentionTile::CELL_KEYS; }
};

constexpr int NO_STEP = -1;

// The pages of a step's keys, and of its values, which lie in pages as the keys do. Looked up by whole warps.
struct StepPages {
    int whole;  // where a page has room for a step: the one that the step lies in
    RowPages<WARP_SIZE> cell[AttentionTile::STEP_CELLS];
    uint32_t bad[AttentionTile::STEP_CELLS];  // bit i: the table names no page for the cell's i-th page of keys

    DEVICE bool all_good() const { return bad[0] == 0 && bad[1] == 0; }
    // The page of a step's row; the rows that the lanes of a warp ask for lie in one cell.
    DEVICE int page(const KeyRows& keys, const KeyStep& step, int row) const {
        const RowPages<WARP_SIZE> pages = row < AttentionTile::CELL_KEYS ? cell[0] : cell[1];
        return pages.page(keys, step.index * AttentionTile::STEP + row);
    }
};
static_assert(AttentionTile::STEP_CELLS == 2, "StepPages has two cells");

DEVICE StepPages look_up_step(const KeyRows& keys, const KeyStep& step, int last_position) {
    if (keys.one_page(AttentionTile::STEP)) {
        const int first = step.first_key(0);
        // A block of two steps may end in the first of them: the table need not name a page for the second.
        const bool is_read = step.index != NO_STEP && first <= last_position;
        const RowPages<WARP_SIZE> page = look_up_pages<WARP_SIZE>(keys, first, is_read ? first + 1 : first);
        const int whole = shuffle(page.entry, 0);
        const uint32_t bad = whole == NO_PAGE ? 1 : 0;
        return {whole, {page, page}, {bad, bad}};
    }
    StepPages pages;
    pages.whole = NO_PAGE;
    UNROLL
    for (int cell = 0; cell < AttentionTile::STEP_CELLS; ++cell) {
        const int first = step.first_key(cell);
        const int end = step.index == NO_STEP ? first : first + step.cell_keys(cell, last_position);
        pages.cell[cell] = look_up_pages<WARP_SIZE>(keys, first, end);
        pages.bad[cell] = ballot(pages.cell[cell].entry == NO_PAGE);
    }
    return pages;
}

// Hides the keys of bad pages from every row.
DEVICE void hide_bad_pages(Accumulator<AttentionTile::STEP>& scores, const KeyRows& keys, const StepPages& pages) {
    if (pages.all_good()) return;
    UNROLL
    for (int j = 0; j < AttentionTile::STEP / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int key = accumulator_col(j, e);
            const uint32_t bad = pages.bad[8 * j / AttentionTile::CELL_KEYS];
            // A page of more keys than a cell is the cell's only one.
            if (bad >> ((key & (AttentionTile::CELL_KEYS - 1)) >> keys.page_shift) & 1) scores.values[j][e] = -INFINITE;
        }
    }
}

// What a refused sequence gives, if its rows are rows of q: O = 0 and LSE = −∞. The blocks of a kv head share the
// rows, each from `first_row` on one in `step`, and of O the COLS columns from `column`.
template <int THREADS, int COLS>
DEVICE void store_refused(const sala_sparse_attention_params& p, const SequenceRange& sequence, int head_kv, int first_row, int step,
                          int column) {
    constexpr int VECTORS = COLS / 8;
    for (int64_t row = first_row; row < sequence.queries; row += step) {
        const int64_t token = sequence.first_query + row;
        for (int i = thread_index(); i < p.group * VECTORS; i += THREADS) {
            const int head = head_kv * p.group + i / VECTORS;
            store_global(reinterpret_cast<Words4*>(row_of<uint16_t>(p.out, token, head) + column + i % VECTORS * 8), Words4{});
            if (column + i % VECTORS == 0 && p.lse.address != 0) store_global(row_of<float>(p.lse, token, head), -INFINITE);
        }
    }
}

// Whether a block of prefill has a sequence that is refused. If so it counts that, and writes what such rows hold.
template <int THREADS, int DIM>
DEVICE bool leave_refused(const sala_sparse_attention_params& p, const SequenceRange& sequence) {
    if (sequence.refusal == REFUSED_NOTHING) return false;
    count_refused_sequence(p.status, sequence.refusal);
    store_refused<THREADS, DIM>(p, sequence, block_index_y(), block_index_x(), grid_size_x(), 0);
    return true;
}

template <class T>
DEVICE void store_lse(const sala_sparse_attention_params& p, const QueryTile& tile, const QueryRow& row, const OnlineSoftmax& softmax,
                      int side) {
    if (p.lse.address == 0 || !row.exists || lane_index() % 4 != 0) return;
    store_global(row_of<float>(p.lse, tile.row(row.token), row.head), log_sum_exp<T>(softmax, side));
}

// Two neighbouring elements of O, gated if there is a gate, and rounded once.
template <class T>
DEVICE uint32_t round_gated(Pair pair, const sala_sparse_attention_params& p, const uint16_t* gate) {
    if (p.gate.address != 0) {
        const Pair gates = unpack<T>(load_global_constant(reinterpret_cast<const uint32_t*>(gate)));
        pair = {pair.lo * sigmoid(gates.lo), pair.hi * sigmoid(gates.hi)};
    }
    return pack<T>(pair.lo, pair.hi);
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
        const Pair pair{normalised(out.values[j][2 * side], factor), normalised(out.values[j][2 * side + 1], factor)};
        store_global(reinterpret_cast<uint32_t*>(to + first), round_gated<T>(pair, p, gate + first));
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
