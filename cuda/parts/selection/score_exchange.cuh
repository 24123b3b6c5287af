// Block scores on their way from the warps that have rows to those that have tokens.
//
// Each warp of a warpgroup has a turn of a step's rows, eight blocks of keys, for all tokens of the group; each fills the lists of
// a quarter of the tokens. Of every block goes through shared memory the largest P of its four rows, and that of the last one, which
// counts for the block below too:
//
//     rows of warp      0        1        2        3
//     token 0       | 0 … 7 | 8 … 15 | 16 … 23 | 24 … 31 |     read by warp 0, lane = block
//     token 1       |                                     |     …
//
// Scores of a step are taken while the next one is multiplied, from one of two buffers. A warp that arrives for a step has read those of
// the step before, so that all have when it writes to their buffer again.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/mbarrier.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/windows.cuh"
#include "parts/selection/block_choice.cuh"
#include "parts/selection/block_list.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/top_k.cuh"

namespace sala {
inline namespace SALA_VARIANT {

using BlockShare = Vector<float, 2>;  // the largest P of a block's rows, and that of the last

// Of one group, with TOKENS tokens.
template <int TOKENS>
struct ScoreExchange {
    static constexpr int WARPS = 4;
    static constexpr int BLOCKS = WARPS * ScoreTile::TURN_BLOCKS;
    static constexpr int BUFFERS = 2;
    static constexpr int STRIDE = SALA_SELECT_SCORE_STRIDE;  // lanes that write four tokens at once meet in no bank
    static_assert(BLOCKS == WARP_SIZE && STRIDE >= BLOCKS, "a lane for each block");

    struct Entries {
        BlockShare entries[BUFFERS][TOKENS][STRIDE];
    };

    uint32_t entries, barriers;  // shared addresses of Entries, and of a barrier for each buffer

    // Called by one thread, once, before a barrier of the block.
    DEVICE void begin() const {
        UNROLL
        for (int i = 0; i < BUFFERS; ++i) init_mbarrier(barrier(i), WARPS);
    }
    DEVICE void store(int step, int token, int block, BlockShare share) const { store_shared(entry(step, token, block), share); }
    // The warp has stored what it has of the step.
    DEVICE void arrive(int step) const {
        sync_warp();
        if (lane_index() == 0) arrive_mbarrier(barrier(step));
    }
    DEVICE void wait(int step) const { wait_mbarrier(barrier(step), static_cast<uint32_t>(step / BUFFERS % 2)); }
    DEVICE BlockShare load(int step, int token, int block) const { return load_shared<BlockShare>(entry(step, token, block)); }

  private:
    DEVICE uint32_t barrier(int step) const { return barriers + static_cast<uint32_t>(step % BUFFERS) * sizeof(uint64_t); }
    DEVICE uint32_t entry(int step, int token, int block) const {
        return entries + static_cast<uint32_t>(((step % BUFFERS * TOKENS + token) * STRIDE + block) * sizeof(BlockShare));
    }
};

// A token whose list a warp fills. It stays in shared memory between steps, where the warp has no registers for it.
struct ListedToken {
    uint64_t floor;  // of its queue, and how many entries that has
    int queued;
    float above;  // P of the last row of the step before

    int64_t row;      // of q; −1: there is no such token
    int query_block;  // −1: it has nothing to choose from
    uint32_t free;    // blocks
};

DEVICE ListedToken find_listed_token(const sala_block_lists& lists, int64_t row, int position) {
    const int query_block = find_query_block(lists, position);
    const bool chooses = must_choose(lists, query_block) && wanted_blocks(lists) > 0;
    const int free = chooses ? first_local_block(lists, query_block) - lists.init_blocks : 0;
    return {0, 0, -INFINITE, row, query_block, static_cast<uint32_t>(free)};
}

// Halves of 16 bytes: the first one changes with every step.
DEVICE ListedToken load_listed_token(uint32_t address) {
    const Words4 state = load_shared<Words4>(address);
    const Words4 token = load_shared<Words4>(address + sizeof(Words4));
    const auto wide = [](uint32_t low, uint32_t high) { return static_cast<uint64_t>(high) << 32 | low; };
    return {wide(state[0], state[1]),   static_cast<int>(state[2]),
            bits_float(state[3]),       static_cast<int64_t>(wide(token[0], token[1])),
            static_cast<int>(token[2]), token[3]};
}

// Called by whole warps, with the same in every lane.
DEVICE void store_listed_token(uint32_t address, const ListedToken& token, bool all) {
    const auto low = [](auto wide) { return static_cast<uint32_t>(wide); };
    const auto high = [](auto wide) { return static_cast<uint32_t>(static_cast<uint64_t>(wide) >> 32); };
    sync_warp();  // every lane has read it
    if (lane_index() == 0) {
        store_shared(address, Words4{{low(token.floor), high(token.floor), low(token.queued), float_bits(token.above)}});
        if (all) store_shared(address + sizeof(Words4), Words4{{low(token.row), high(token.row), low(token.query_block), token.free}});
    }
    sync_warp();  // every lane may read it
}

// Its queue, the one of index `index` from the shared address `queues` on.
DEVICE TopK find_queue(const ListedToken& token, const sala_block_lists& lists, uint32_t queues, int index) {
    TopK best = start_top_k(queues, index, lists.queue_capacity, wanted_blocks(lists));
    best.floor = token.floor;
    best.count = token.queued;
    return best;
}

// Takes the score of the lane's block of a step, `block`.
DEVICE void take_score(TopK& best, ListedToken& token, const sala_select_blocks_params& p, BlockShare share, int block) {
    const float last = shuffle(share[1], (lane_index() + WARP_SIZE - 1) % WARP_SIZE);
    const float score = flush_score(maximum(maximum(-INFINITE, lane_index() == 0 ? token.above : last), share[0]));
    if (p.scores.address != 0 && token.row >= 0 && block < p.score_blocks) {
        store_global(row_of<float>(p.scores, token.row, block_index_y()) + block, score);
    }
    const bool is_free = static_cast<uint32_t>(block - p.lists.init_blocks) < token.free;
    offer(best, is_free, rank_of(score, block));
    token.floor = best.floor;
    token.queued = best.count;
    token.above = shuffle(share[1], WARP_SIZE - 1);
}

// Ends a list. Blocks from `scored` on have no row that the token sees.
DEVICE void finish_list(TopK& best, const ListedToken& token, const sala_select_blocks_params& p, int scored) {
    if (token.row < 0) return;
    if (p.scores.address != 0) {
        float* scores = row_of<float>(p.scores, token.row, block_index_y());
        for (int block = scored + lane_index(); block < p.score_blocks; block += WARP_SIZE) store_global(scores + block, -INFINITE);
    }
    store_list(p.lists, row_of<int>(p.lists.indices, token.row, block_index_y()), token.query_block, best);
}

}  // namespace SALA_VARIANT
}  // namespace sala
