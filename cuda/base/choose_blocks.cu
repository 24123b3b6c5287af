// Block selection by given scores: the forced blocks of every token and the best of its free ones, in
// ascending order.
//
//     list[t] = [ 0 … init − 1 | the best by scores[t][b] among the free blocks b | query_block − local … query_block ]
//
// Called where scores do not come from select_blocks in the same launch: tensor-parallel ranks that hold
// different query heads of one group add their scores first. Grid: (query tokens / 8, kv heads, batch). A
// warp takes one token and reads its free scores once, 32 at a time:
//
//     scores   | init |■■■■ 32 ■■■■|■■■■ 32 ■■■■|■■ …            | local |          ■ offered to the token's queue
//
//     32 scores     | load | rank, compare with the floor | offer, rarely |          warps run on their own: no block barrier
//
// Shared memory: one queue of queue_capacity × 8 bytes per warp.
// Limit: bytes, 4 per free block. A warp's loads are not overlapped, so many warps are needed to come near
// it.
//
// Definition: docs/semantics.md#choose_blocks
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "params/choose_blocks.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/selection/block_list.cuh"
#include "parts/selection/top_k.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_CHOOSE_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;

DEVICE void choose_by_scores(const sala_choose_blocks_params& p) {
    const sala_block_lists& lists = p.lists;
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<WARPS>(lists, p.status, sequence)) return;
    const int row = block_index_x() * WARPS + warp_index();
    if (row >= sequence.queries) return;
    const int64_t token = sequence.first_query + row;
    const int query_block = sequence.dense ? -1 : find_query_block(lists, sequence.position(row));
    int* list = row_of<int>(lists.indices, token, block_index_y());
    if (!must_choose(lists, query_block)) {
        store_all_blocks(lists, list, query_block);
        return;
    }

    const uint32_t queues = dynamic_shared_address(queue_bytes(WARPS, lists.queue_capacity));
    TopK best = start_top_k(queues, warp_index(), lists.queue_capacity, wanted_blocks(lists));
    const float* scores = row_of<const float>(p.scores, token, block_index_y());
    const int end = best.wanted > 0 ? first_local_block(lists, query_block) : 0;
    for (int first = lists.init_blocks; first < end; first += WARP_SIZE) {
        const int block = first + lane_index();
        const bool candidate = block < end;
        offer(best, candidate, candidate ? rank_of(load_global_constant(scores + block), block) : 0);
    }
    store_best_blocks(lists, list, query_block, best);
}

#define INSTANCE(name) \
    KERNEL(name, sala_choose_blocks_params, THREADS, 4) { choose_by_scores(p); }
#include "instances/choose_blocks.h"

}  // namespace SALA_VARIANT
}  // namespace sala
