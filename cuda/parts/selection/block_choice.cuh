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

// Of the four lanes that hold a row, lane t works for token t of the warp.
struct OwnToken {
    int index;
    bool exists;
    int visible;     // rows of K1 that it sees
    int first, end;  // its free blocks
    float* scores;   // its row of the score output, or null
    float above;     // P of the row before this thread's first, for the lanes that hold a turn's first block
};

template <int HEADS>
DEVICE OwnToken find_own_token(const sala_select_blocks_params& p, const TokenTile& tile, const WarpTokens<HEADS>& tokens) {
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    const sala_block_lists& lists = p.lists;
    OwnToken own{lane_index() % 4, false, 0, 0, 0, nullptr, -INFINITE};
    int position = -1;
    UNROLL
    for (int i = 0; i < TOKENS; ++i) position = own.index == i ? tokens.position[i] : position;
    own.exists = own.index < TOKENS && tokens.first + own.index < tile.tokens;
    own.visible = visible_windows(position, lists.block_size / ScoreTile::BLOCK_ROWS);
    own.first = lists.init_blocks;
    const int query_block = find_query_block(lists, position);
    own.end = must_choose(lists, query_block) && wanted_blocks(lists) > 0 ? first_local_block(lists, query_block) : 0;
    if (p.scores.address != 0 && own.exists) own.scores = row_of<float>(p.scores, tile.row(tokens.first + own.index), block_index_y());
    return own;
}

// Scores below the normal numbers are 0.
DEVICE float flush_score(float score) { return score < SMALLEST_NORMAL ? minimum(score, 0.0f) : score; }

// The score of block row0 / 4 + lane / 4 for the lane's own token.
template <int TOKENS>
DEVICE float pool_rows(OwnToken& own, const float (&sums)[TOKENS][ScoreTile::BLOCK_ROWS], int row0) {
    constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
    float mine[BLOCK_ROWS];
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) {
        mine[i] = sums[0][i];
        UNROLL
        for (int token = 1; token < TOKENS; ++token) mine[i] = own.index == token ? sums[token][i] : mine[i];
        mine[i] = row0 + turn_row(i / 2, i % 2 * 2) < own.visible ? mine[i] : -INFINITE;
    }
    const float last = shuffle(mine[BLOCK_ROWS - 1], (lane_index() + WARP_SIZE - 4) % WARP_SIZE);
    float score = maximum(-INFINITE, lane_index() < 4 ? own.above : last);
    own.above = last;
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) score = maximum(score, mine[i]);
    return flush_score(score);
}

// Stores the score of the lane's own token, if it is asked for, and offers it to the token's queue.
template <int TOKENS>
DEVICE void take_score(TopK (&best)[TOKENS], const sala_select_blocks_params& p, const OwnToken& own, int block, float score) {
    if (own.scores != nullptr && block < p.score_blocks) store_global(own.scores + block, score);
    const uint64_t rank = rank_of(score, block);
    bool candidate = own.index < TOKENS && own.first <= block && block < own.end;
    UNROLL
    for (int token = 0; token < TOKENS; ++token) {
        if (own.index == token) candidate = candidate && rank >= best[token].floor;
    }
    if (!any(candidate)) return;
    UNROLL
    for (int token = 0; token < TOKENS; ++token) offer(best[token], candidate && own.index == token, rank);
}

// Stores the scores of the blocks from `block` on, which have no row that a token sees.
DEVICE void store_missing_scores(const sala_select_blocks_params& p, const OwnToken& own, int block) {
    if (own.scores == nullptr) return;
    for (int i = block + lane_index() / 4; i < p.score_blocks; i += WARP_SIZE / 4) store_global(own.scores + i, -INFINITE);
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

template <int HEADS>
DEVICE void store_lists(const sala_select_blocks_params& p, const TokenTile& tile, const WarpTokens<HEADS>& tokens,
                        TopK (&best)[Deal<HEADS>::TOKENS]) {
    UNROLL
    for (int i = 0; i < Deal<HEADS>::TOKENS; ++i) {
        if (tokens.first + i >= tile.tokens) continue;
        int* list = row_of<int>(p.lists.indices, tile.row(tokens.first + i), block_index_y());
        const int query_block = find_query_block(p.lists, tokens.position[i]);
        if (must_choose(p.lists, query_block)) {
            store_best_blocks(p.lists, list, query_block, best[i]);
        } else {
            store_all_blocks(p.lists, list, query_block);
        }
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
