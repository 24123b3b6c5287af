// The list of a token by scores in memory, filled by a block of SALA_SELECT_LIST_WARPS warps.
#pragma once

#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "params/block_lists.h"
#include "params/select_blocks.h"
#include "parts/selection/block_list.cuh"
#include "parts/selection/radix_choice.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// `scores` has those of all blocks; those of free ones are read. Called by whole blocks.
DEVICE void fill_list(const sala_block_lists& lists, int* list, int query_block, const float* scores) {
    constexpr int THREADS = SALA_SELECT_LIST_WARPS * WARP_SIZE;
    if (!must_choose(lists, query_block)) {
        if (warp_index() == 0) store_all_blocks(lists, list, query_block);
        return;
    }
    const int wanted = wanted_blocks(lists);
    const int first_local = first_local_block(lists, query_block);
    for (int i = thread_index(); i < lists.init_blocks; i += THREADS) store_global(list + i, i);
    for (int i = thread_index(); i <= lists.local_blocks; i += THREADS)
        store_global(list + lists.init_blocks + wanted + i, first_local + i);
    if (wanted == 0) return;
    auto& plan = dynamic_shared<RadixPlan>();
    const int free_blocks = first_local - lists.init_blocks;
    const float* free_scores = scores + lists.init_blocks;
    const RadixOrders first = load_orders(free_scores, 0, free_blocks);
    const RadixCut cut = find_cut(plan, first, free_scores, free_blocks, wanted);
    visit_taken(plan, first, free_scores, free_blocks, cut,
                [&](int place, int i) { store_global(list + lists.init_blocks + place, lists.init_blocks + i); });
}

}  // namespace SALA_VARIANT
}  // namespace sala
