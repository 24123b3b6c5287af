// Block selection by given scores: the forced blocks of every token and the best of its free ones, in ascending order.
//
// Called where scores do not come from select_blocks in the same launch: tensor-parallel ranks that hold different query heads of one group add
// their scores first. Grid: (query tokens / 8, kv heads, batch). A warp takes one token and reads its free scores 32 at a time, once.
//
//     scores   | init |■■■■ 32 ■■■■|■■■■ 32 ■■■■|■■ …            | local |          ■ offered to the token's queue
//
// Shared memory: a queue of queue_capacity × 8 bytes a warp.
// Limit: bytes, 4 a free block.
#include "device/block_list.cuh"
#include "device/machine.cuh"
#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/sequence.cuh"
#include "device/status.cuh"
#include "device/top_k.cuh"

#include "../include/kernel_params.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP_SIZE;

struct TopKPlan {
    uint64_t queues[1];  // queue_capacity for each warp
};

DEVICE void select_by_scores(const sala_select_blocks_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (!sequence.valid && block_index_x() == 0 && block_index_y() == 0 && thread_index() == 0) count_refused(p.status, REFUSED_LENGTHS, 1);
    const int row = block_index_x() * WARPS + warp_index();
    if (row >= sequence.queries) return;
    const int64_t token = sequence.first_query + row;
    const int position = sequence.position(row);
    const int query_block = position < 0 ? -1 : position / p.block_size;
    int* list = list_of(p, token, block_index_y());
    if (!must_choose(p, query_block)) {
        store_all_blocks(p, list, query_block);
        return;
    }

    auto& plan = dynamic_shared<TopKPlan>();
    const uint32_t queue = shared_address(plan.queues) + static_cast<uint32_t>(warp_index() * p.queue_capacity * sizeof(uint64_t));
    TopK best = start_top_k(queue, p.queue_capacity, wanted_blocks(p));
    const float* scores = reinterpret_cast<const float*>(p.scores) + token * p.scores_token_stride + block_index_y() * p.scores_head_stride;
    const int end = best.wanted > 0 ? first_local_block(p, query_block) : 0;
    for (int first = p.init_blocks; first < end; first += WARP_SIZE) {
        const int block = first + lane_index();
        const bool candidate = block < end;
        offer(best, candidate, candidate ? rank_key(load_global_constant(scores + block), block) : 0);
    }
    store_best_blocks(p, list, query_block, best);
}

#define INSTANCE(name) \
    KERNEL(name, sala_select_blocks_params, THREADS, 4) { select_by_scores(p); }
#include "instances/top_k_blocks.h"

}  // namespace SALA_VARIANT
}  // namespace sala
