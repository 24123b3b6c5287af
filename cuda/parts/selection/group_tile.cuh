// How block selection by products of warpgroups cuts its work: columns of a group, turns of a step's rows, and steps.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warpgroup.cuh"
#include "params/select_blocks.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/token_tile.cuh"
#include "parts/keys/windows.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/score_rows.cuh"
#include "parts/selection/token_columns.cuh"
#include "parts/signed_scale.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct GroupTile {
    static constexpr int GROUPS = SALA_SELECT_GROUPS;
    static constexpr int GROUP_WARPS = 4;
    static constexpr int GROUP_THREADS = GROUP_WARPS * WARP_SIZE;
    static constexpr int COLUMNS = SALA_SELECT_GROUP_COLUMNS;  // of a group
    static constexpr int PRODUCTS = COLUMNS / 8;               // of eight columns
    static constexpr int STEP = SALA_SELECT_GROUP_STEP;
    static constexpr int STAGES = SALA_SELECT_GROUP_STAGES;
    static constexpr int HALF_ROWS = GROUP_WARPS * ScoreTile::TURN_HALF;  // rows of a product of the group
    static constexpr int PIECE = SALA_SELECT_PIECE;
    static constexpr int PIECE_TURNS = PIECE / ScoreTile::TURN;
    static constexpr int STRIPES = 8;  // sums of every eighth piece
    static_assert(STEP == GROUP_WARPS * ScoreTile::TURN, "a turn of each warp");
};

template <int HEADS>
using Heads = Deal<HEADS, GroupTile::COLUMNS>;
using Logits = Accumulator<GroupTile::COLUMNS>;
template <int DIM>
using RowTile = PanelTile<GroupTile::STEP, DIM>;
template <int DIM>
using QueryTile = PanelTile<GroupTile::COLUMNS, DIM>;

// The turn of a step that a lane copies vectors of, as LaneRows has those of a base kernel.
template <int DIM>
struct TurnRows {
    static constexpr int VECTORS = DIM / 8;
    static constexpr int COUNT = ScoreTile::TURN;
    static constexpr int PASS_ROWS = WARP_SIZE / VECTORS;
    static_assert(PASS_ROWS <= ScoreTile::BLOCK_ROWS, "to the row of a pass, that of the first one adds without a carry");

    static constexpr int warp_first = 0;
    int first, vector;
    uint32_t first_target;

    DEVICE TurnRows(RowTile<DIM> tile, int turn) {
        first = lane_index() / VECTORS;
        vector = lane_index() % VECTORS;
        first_target = tile.address(turn * ScoreTile::TURN_HALF + tile_row(first), vector);
    }
    // Half a turn of each warp, then the other halves.
    static DEVICE int tile_row(int row) {
        const int in_turn = score_tile_row(row);
        return in_turn / ScoreTile::TURN_HALF * GroupTile::HALF_ROWS + in_turn % ScoreTile::TURN_HALF;
    }
    DEVICE uint32_t target(int pass) const { return SharedTile<64>::add_rows(first_target, tile_row(pass)); }
};

// The steps of both passes: those of C, then those of K1.
struct GroupSteps {
    int sums, first_score, count;

    DEVICE int scores() const { return count - sums; }
    // The first row of a warp's turn.
    DEVICE static int sum_row(int step, int warp) {
        return (step / GroupTile::PIECE_TURNS * GroupTile::GROUP_WARPS + warp) * GroupTile::PIECE +
               step % GroupTile::PIECE_TURNS * ScoreTile::TURN;
    }
    DEVICE int score_row(int step, int warp) const { return (first_score + step) * GroupTile::STEP + warp * ScoreTile::TURN; }
};

DEVICE GroupSteps find_group_steps(const TokenRows& rows) {
    constexpr int ROUND = GroupTile::GROUP_WARPS * GroupTile::PIECE;  // rows of four pieces
    const int left = rows.sum_rows % ROUND;
    const int sums = rows.sum_rows / ROUND * GroupTile::PIECE_TURNS + minimum(ceil_div(left, ScoreTile::TURN), GroupTile::PIECE_TURNS);
    const int first_score = rows.score_begin / GroupTile::STEP;
    return {sums, first_score, sums + maximum(ceil_div(rows.score_end, GroupTile::STEP) - first_score, 0)};
}

// A group's tokens, as a warp of it sees them. Some of the last ones may not exist.
template <int HEADS, int GROUP>
struct GroupTokens {
    static constexpr int TOKENS = Heads<HEADS>::TOKENS;
    static constexpr int first = GROUP * TOKENS;  // index of the first among the tile's tokens

    int warp;          // of the group
    int position;      // of the first
    uint32_t factors;  // shared address

    // Of the scale of product j's token.
    DEVICE float factor(int j) const {
        return load_shared<float>(factors + static_cast<uint32_t>(Heads<HEADS>::lane_token(j)) * sizeof(float));
    }
    // How many windows of 2^shift tokens from one to the next a token sees.
    DEVICE int visible(int token, int shift) const { return full_windows_by_shift(position + token + 1, shift); }
};

DEVICE SignedScale find_scale(const sala_select_blocks_params& p, const TokenTile& tile, int token) {
    float scale = p.scale;
    if (p.scale_factor != 0 && token < tile.tokens) scale *= load_global_constant(entry_of<const float>(p.scale_factor, tile.row(token)));
    return signed_scale(scale);
}

// Operand B: the group's columns of Q, negated where the scale asks for it. Columns that are no head are zero.
template <int DIM, int HEADS>
DEVICE void store_query(const sala_select_blocks_params& p, const TokenTile& tile, int first, QueryTile<DIM> query) {
    constexpr int VECTORS = DIM / 8;
    NO_UNROLL
    for (int i = thread_index() % GroupTile::GROUP_THREADS; i < GroupTile::COLUMNS * VECTORS; i += GroupTile::GROUP_THREADS) {
        const int column = i / VECTORS;
        const int token = first + column / HEADS;
        const int head = column % HEADS;
        Words4 elements{};
        if (token < tile.tokens && head < p.group) {
            const auto* row = row_of<const uint16_t>(p.q, tile.row(token), static_cast<int64_t>(block_index_y()) * p.group + head);
            elements = load_global_constant(reinterpret_cast<const Words4*>(row) + i % VECTORS);
            const uint32_t flip = find_scale(p, tile, token).sign_flip();
            UNROLL
            for (int e = 0; e < 4; ++e) elements[e] ^= flip;
        }
        store_shared(query.address(column, i % VECTORS), elements);
    }
    publish_shared_writes();
}

// The factors of the group's tokens.
template <int TOKENS>
DEVICE void store_factors(const sala_select_blocks_params& p, const TokenTile& tile, int first, const float (&factors)[TOKENS]) {
    const int i = thread_index() % GroupTile::GROUP_THREADS;
    if (i < TOKENS) store_shared(shared_address(&factors[i]), find_scale(p, tile, first + i).factor);
}

}  // namespace SALA_VARIANT
}  // namespace sala
