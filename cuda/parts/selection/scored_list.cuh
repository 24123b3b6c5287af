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
    NO_UNROLL
    for (int i = thread_index(); i < lists.list_len - wanted; i += THREADS) {
        const bool is_init = i < lists.init_blocks;
        store_global(list + (is_init ? i : i + wanted), is_init ? i : first_local + i - lists.init_blocks);
    }
    if (wanted == 0) return;
    auto& plan = dynamic_shared<RadixPlan>();
    // Kept: a compiler would multiply strides again for every batch.
    const auto* kept_scores = reinterpret_cast<const float*>(kept(reinterpret_cast<int64_t>(scores + lists.init_blocks)));
    RadixScores free_scores = all_scores(kept_scores, first_local - lists.init_blocks);
    const RadixCut cut = find_cut(plan, free_scores, wanted);
    visit_taken(plan, free_scores, cut, [&](int place, int i) { store_global(list + lists.init_blocks + place, lists.init_blocks + i); });
}

}  // namespace SALA_VARIANT
}  // namespace sala
