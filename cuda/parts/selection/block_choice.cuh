// From the shares P of rows to block scores, and from scores to the queues of the warp's tokens.
//
//     score[b] = max of P[c], c = 4b − 1 … 4b + 3
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/token_tile.cuh"
#include "parts/keys/windows.cuh"
#include "parts/selection/block_list.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/token_columns.cuh"
#include "parts/selection/top_k.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// What a lane does for a token after the sums over heads, of which it has rows (LaneShare). The lanes that share a token's
// block find its score together, and the first of them takes it.
struct OwnToken {
    int index;
    int row;            // the lane's first row of a turn
    int above_lane;     // the lane with the last row of the block above
    uint32_t visible;   // rows of K1 that the token sees
    uint32_t count;     // its free blocks, from the first that is not forced on
    float* scores;      // its row of the score output, or null
    float above;        // P of the last row of the turn before
    float least_score;  // lower ones are not among the best

    DEVICE bool is_free(const sala_block_lists& lists, int block) const { return static_cast<uint32_t>(block - lists.init_blocks) < count; }
};

// Those that a lane has.
template <int HEADS>
using OwnTokens = OwnToken[LaneShare<Deal<HEADS>>::TOKENS];

template <int HEADS>
DEVICE OwnToken find_own_token(const sala_select_blocks_params& p, const TokenTile& tile, int first_token, int i) {
    constexpr int SAME_TOKEN = LaneShare<Deal<HEADS>>::SAME_TOKEN;
    const sala_block_lists& lists = p.lists;
    const int lane = lane_index();
    OwnToken own{};
    own.index = LaneShare<Deal<HEADS>>::token(i);
    own.row = turn_row(0, 0) + LaneShare<Deal<HEADS>>::row();
    own.above_lane = (lane + WARP_SIZE - 4) % WARP_SIZE | SAME_TOKEN;
    own.above = -INFINITE;
    own.least_score = -INFINITE;
    const int token = first_token + own.index;
    const int position = selecting_position(tile, token);
    own.visible = static_cast<uint32_t>(visible_windows(position, lists.block_size / ScoreTile::BLOCK_ROWS));
    const int query_block = find_query_block(lists, position);
    const bool takes = (lane & SAME_TOKEN) == 0;
    const bool chooses = takes && must_choose(lists, query_block) && wanted_blocks(lists) > 0;
    own.count = chooses ? static_cast<uint32_t>(first_local_block(lists, query_block) - lists.init_blocks) : 0;
    if (p.scores.address != 0 && takes && token < tile.tokens) own.scores = row_of<float>(p.scores, tile.row(token), block_index_y());
    return own;
}

template <int HEADS>
DEVICE void find_own_tokens(OwnTokens<HEADS>& own, const sala_select_blocks_params& p, const TokenTile& tile, int first_token) {
    UNROLL
    for (int i = 0; i < LaneShare<Deal<HEADS>>::TOKENS; ++i) own[i] = find_own_token<HEADS>(p, tile, first_token, i);
}

// Scores below the normal numbers are 0.
DEVICE float flush_score(float score) { return score < SMALLEST_NORMAL ? minimum(score, 0.0f) : score; }

// The score of the lane's block of the turn from row0 on, which may be the one before the first row, for token `i` of the
// lane's.
template <int HEADS>
DEVICE float pool_rows(OwnToken& own, const float (&sums)[2][LaneShare<Deal<HEADS>>::COUNT], int i, int row0) {
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    constexpr int ROWS = LaneShare<Deal<HEADS>>::ROWS;
    float mine[2 * ROWS];
    UNROLL
    for (int r = 0; r < 2 * ROWS; ++r) {
        const int row = row0 + own.row + r / ROWS * 2 + r % ROWS;
        mine[r] = static_cast<uint32_t>(row) < own.visible ? sums[r / ROWS][i * ROWS + r % ROWS] : -INFINITE;
    }
    const float last = shuffle(mine[2 * ROWS - 1], own.above_lane);
    float score = maximum(-INFINITE, lane_index() < 4 ? own.above : last);
    own.above = last;
    UNROLL
    for (int r = 0; r < 2 * ROWS; ++r) score = maximum(score, mine[r]);
    if constexpr (TOKENS < 4) score = reduce_max<4 / TOKENS, TOKENS>(score);
    return flush_score(score);
}

// Offers the score of block `block` to the queue of the lane's token, and stores it if it is asked for.
template <int TOKENS>
DEVICE void offer_score(TopK (&best)[TOKENS], const sala_select_blocks_params& p, OwnToken& own, float score, int block) {
    if (own.scores != nullptr && 0 <= block && block < p.score_blocks) store_global(own.scores + block, score);
    const bool candidate = own.is_free(p.lists, block);
    UNROLL
    for (int token = 0; token < TOKENS; ++token) {
        TopK list = best[token];  // a copy, so that eight of them stay in registers too
        offer(list, candidate && own.index == token, rank_of(score, block));
        if (own.index == token) own.least_score = least_score(list.floor);
        best[token] = list;
    }
}

// Takes the scores of `turns` turns, whose first block is `first_block`. Few enter a queue once a sequence is long.
template <int TOKENS, int COUNT>
DEVICE void take_scores(TopK (&best)[TOKENS], const sala_select_blocks_params& p, OwnToken& own, const float (&scores)[COUNT],
                        int first_block, int turns) {
    constexpr int TURN_BLOCKS = ScoreTile::TURN_BLOCKS;
    const int block = first_block + lane_index() / 4;
    bool wanted = own.scores != nullptr;
    UNROLL
    for (int i = 0; i < COUNT; ++i) {
        wanted |= i < turns && own.is_free(p.lists, block + i * TURN_BLOCKS) && !(scores[i] < own.least_score);
    }
    if (!any(wanted)) return;
    NO_UNROLL
    for (int i = 0; i < turns; ++i) offer_score(best, p, own, i == 0 ? scores[0] : scores[COUNT - 1], block + i * TURN_BLOCKS);
}

// Stores the scores of the blocks from `block` on, which have no row that a token sees.
template <int HEADS>
DEVICE void store_missing_scores(const sala_select_blocks_params& p, const OwnTokens<HEADS>& own, int block) {
    UNROLL
    for (int i = 0; i < LaneShare<Deal<HEADS>>::TOKENS; ++i) {
        if (own[i].scores == nullptr) continue;
        for (int b = block + lane_index() / 4; b < p.score_blocks; b += WARP_SIZE / 4) store_global(own[i].scores + b, -INFINITE);
    }
}

// Writes the scores of a refused sequence, if they are asked for and its rows are rows of q.
template <int WARPS>
DEVICE void store_empty_scores(const sala_select_blocks_params& p, const SequenceRange& sequence) {
    if (p.scores.address == 0) return;
    const int64_t step = static_cast<int64_t>(grid_size_x()) * WARPS;
    for (int64_t row = block_index_x() * WARPS + warp_index(); row < sequence.queries; row += step) {
        float* scores = row_of<float>(p.scores, sequence.first_query + row, block_index_y());
        for (int i = lane_index(); i < p.score_blocks; i += WARP_SIZE) store_global(scores + i, -INFINITE);
    }
}

// Whether a block has a sequence that is refused. If so it counts that, and writes what such rows hold.
template <int WARPS>
DEVICE bool leave_refused(const sala_select_blocks_params& p, const SequenceRange& sequence) {
    if (!leave_refused<WARPS>(p.lists, p.status, sequence)) return false;
    store_empty_scores<WARPS>(p, sequence);
    return true;
}

template <int HEADS>
DEVICE void store_lists(const sala_select_blocks_params& p, const TokenTile& tile, const WarpTokens<HEADS>& tokens,
                        TopK (&best)[Deal<HEADS>::TOKENS]) {
    UNROLL
    for (int i = 0; i < Deal<HEADS>::TOKENS; ++i) {
        if (tokens.first + i >= tile.tokens) continue;
        int* list = row_of<int>(p.lists.indices, tile.row(tokens.first + i), block_index_y());
        store_list(p.lists, list, find_query_block(p.lists, selecting_position(tile, tokens.first + i)), best[i]);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
