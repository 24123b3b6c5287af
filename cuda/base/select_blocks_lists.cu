// Block selection for few query tokens, last of three launches: the list of each token, by the scores of the second.
//
//     list[t] = [ 0 … init − 1 | the best by score among the free blocks b | query_block − local … query_block ]
//
// Grid: (query tokens, kv heads, batch); a block of 8 warps fills one list (parts/selection/radix_choice.cuh). It also
// writes what is not scored: lists and scores of refused sequences, of dense ones, and of blocks past the rows.
//
//     | histogram of 11 bits ■ the scores left ■ 11 bits ■ (10 bits) ■ write          ■ up to three block barriers
//                              └ of more than 2048 ┘
//
// Shared memory: 19.2 KiB. Limit: latency, about nine barriers; of more than 2048 free blocks also two reads of 4 bytes. Fewer
// warps than would hide latency: what each finds out about its sequence costs more than its share of the scores (16 warps: 40 %
// more for 2048 scores).
//
// Definition: docs/semantics.md#select_blocks
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/select_blocks.h"
#include "parts/keys/drafts.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/selection/block_choice.cuh"
#include "parts/selection/block_list.cuh"
#include "parts/selection/score_rows.cuh"
#include "parts/selection/scored_list.cuh"
#include "parts/selection/token_heads.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_SELECT_LIST_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;

// Those of blocks that the second launch has no rows for.
DEVICE void store_scores_past_rows(const sala_select_split_params& split, const SequenceRange& sequence, int64_t row) {
    const sala_rows& scores = split.select.scores;
    const int score_end = sequence.dense ? 0 : find_rows_of_all(split, sequence).score_end;
    const int scored = ceil_div(score_end, SALA_SELECT_PIECE_BLOCKS * ScoreTile::BLOCK_ROWS) * SALA_SELECT_PIECE_BLOCKS;
    float* of_token = row_of<float>(scores, row, block_index_y());
    for (int i = scored + thread_index(); i < split.select.score_blocks; i += THREADS) store_global(of_token + i, -INFINITE);
}

DEVICE void list_best_blocks(const sala_select_split_params& split) {
    const sala_select_blocks_params& p = split.select;
    const sala_block_lists& lists = p.lists;
    int parent;
    const SequenceRange sequence = take_tokens(split, find_drafts(p.sequences, split.trees, sequence_index(split), parent));
    const uint32_t refusal = kept(static_cast<uint32_t>(sequence.refusal));  // one branch for all that is refused
    if (refusal != static_cast<uint32_t>(REFUSED_NOTHING)) {
        if (split.first_token > 0) return;  // an earlier launch has done it
        count_refused_sequence(p.status, sequence.refusal);
        store_empty_lists<WARPS>(lists, sequence);
        store_empty_scores<WARPS>(p, sequence);
        return;
    }
    const int token = block_index_x();
    if (token >= sequence.queries) return;
    const int64_t row = sequence.first_query + token;
    if (p.scores.address != 0) store_scores_past_rows(split, sequence, row);
    int* list = row_of<int>(lists.indices, row, block_index_y());
    const int query_block = sequence.dense ? -1 : find_query_block(lists, find_draft(split.trees, sequence, token, parent).position);
    fill_list(lists, list, query_block, block_scores_of(split, token));
}

#define INSTANCE(name) \
    KERNEL(name, sala_select_split_params, THREADS, 1) { list_best_blocks(p); }
#include "instances/select_blocks_lists.h"

}  // namespace SALA_VARIANT
}  // namespace sala
