// Block selection by given scores where lists take more blocks by score than the queues of choose_blocks.cu have room for.
//
//     list[t] = [ 0 … init − 1 | the best by scores[t][b] among the free blocks b | query_block − local … query_block ]
//
// Grid: (query tokens, kv heads, batch); a block of 8 warps fills one list (parts/selection/radix_choice.cuh), as the last launch of
// a selection for few query tokens does.
//
//     | histogram of 11 bits ■ the scores left ■ 11 bits ■ (10 bits) ■ write          ■ up to three block barriers
//                              └ of more than 2048 ┘
//
// Shared memory: 19.2 KiB. Limit: latency, about nine barriers; of more than 2048 free blocks also two reads of 4 bytes. Lists
// of any length, more slowly than one warp for each where a queue has room.
//
// Definition: docs/semantics.md#choose_blocks
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "params/choose_blocks.h"
#include "params/select_blocks.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/selection/block_list.cuh"
#include "parts/selection/scored_list.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_SELECT_LIST_WARPS;

DEVICE void choose_long_list(const sala_choose_blocks_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<WARPS>(p.lists, p.status, sequence)) return;
    const int token = block_index_x();
    if (token >= sequence.queries) return;
    const int64_t row = sequence.first_query + token;
    const int query_block = sequence.dense ? -1 : find_query_block(p.lists, sequence.position(token));
    const float* scores = row_of<const float>(p.scores, row, block_index_y());
    fill_list(p.lists, row_of<int>(p.lists.indices, row, block_index_y()), query_block, scores);
}

#define INSTANCE(name) \
    KERNEL(name, sala_choose_blocks_params, WARPS* WARP_SIZE, 1) { choose_long_list(p); }
#include "instances/choose_blocks_long.h"

}  // namespace SALA_VARIANT
}  // namespace sala
