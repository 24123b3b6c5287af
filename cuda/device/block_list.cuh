// Which blocks of keys a token always selects, which it chooses among, and how its list is written.
//
// Candidates are the blocks up to the token's own, `query_block`. If the list has room for all, it takes all. Otherwise, in ascending order:
//
//     0 … init − 1  |  the best of the free blocks, init … query_block − local − 1  |  query_block − local … query_block
#pragma once

#include "../../include/kernel_params.h"
#include "machine.cuh"
#include "math.cuh"
#include "memory.cuh"
#include "top_k.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// How many free blocks a list takes; the host has checked that it is not negative.
DEVICE int wanted_blocks(const sala_select_blocks_params& p) { return p.list_len - p.init_blocks - p.local_blocks - 1; }

// Whether a token in block `query_block` (-1: a token without keys) has more candidates than places.
DEVICE bool must_choose(const sala_select_blocks_params& p, int query_block) { return query_block + 1 > p.list_len; }

// The free blocks of such a token are [init_blocks, first_local_block).
DEVICE int first_local_block(const sala_select_blocks_params& p, int query_block) { return query_block - p.local_blocks; }

DEVICE int* list_of(const sala_select_blocks_params& p, int64_t token, int head) {
    return reinterpret_cast<int*>(p.block_indices) + token * p.list_token_stride + head * p.list_head_stride;
}

// Writes the list of a token that takes every block up to its own; with query_block −1, an empty one. A whole warp does it.
DEVICE void store_all_blocks(const sala_select_blocks_params& p, int* list, int query_block) {
    for (int i = lane_index(); i < p.list_len; i += WARP_SIZE) store_global(list + i, i <= query_block ? i : -1);
}

// Writes the list of a token that had to choose. A whole warp does it.
DEVICE void store_best_blocks(const sala_select_blocks_params& p, int* list, int query_block, TopK& best) {
    for (int i = lane_index(); i < p.init_blocks; i += WARP_SIZE) store_global(list + i, i);
    const int wanted = wanted_blocks(p);
    if (wanted > 0) visit_best(best, [&](int place, int block) { store_global(list + p.init_blocks + place, block); });
    int* local = list + p.init_blocks + wanted;
    for (int i = lane_index(); i <= p.local_blocks; i += WARP_SIZE) store_global(local + i, first_local_block(p, query_block) + i);
}

}  // namespace SALA_VARIANT
}  // namespace sala
