// Which blocks of keys a token always selects, which it chooses among, and how its list is written.
//
// Candidates are the blocks up to the token's own, `query_block`. If the list has room for all, it takes all.
// Otherwise, in ascending order:
//
//     0 … init − 1  |  the best of the free blocks, init … query_block − local − 1  |  query_block − local … query_block
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/block_lists.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/selection/top_k.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The block of keys that a token lies in; −1 for a token without keys, whose position is negative.
DEVICE int find_query_block(const sala_block_lists& lists, int position) { return maximum(position >> lists.block_shift, -1); }

// How many free blocks a list takes; the host has checked that it is not negative.
DEVICE int wanted_blocks(const sala_block_lists& lists) { return lists.list_len - lists.init_blocks - lists.local_blocks - 1; }

// Whether a token in block `query_block` has more candidates than its list has entries.
DEVICE bool must_choose(const sala_block_lists& lists, int query_block) { return query_block + 1 > lists.list_len; }

// The free blocks of such a token are [init_blocks, first_local_block).
DEVICE int first_local_block(const sala_block_lists& lists, int query_block) { return query_block - lists.local_blocks; }

// Writes the list of a token that takes every block up to its own; with query_block −1, an empty one. Called
// by whole warps.
DEVICE void store_all_blocks(const sala_block_lists& lists, int* list, int query_block) {
    for (int i = lane_index(); i < lists.list_len; i += WARP_SIZE) store_global(list + i, i <= query_block ? i : -1);
}

// Writes the lists of a refused sequence, if its rows are rows of q. The blocks of a kv head share the rows.
template <int WARPS>
DEVICE void store_empty_lists(const sala_block_lists& lists, const SequenceRange& sequence) {
    const int64_t step = static_cast<int64_t>(grid_size_x()) * WARPS;
    for (int64_t row = block_index_x() * WARPS + warp_index(); row < sequence.queries; row += step) {
        store_all_blocks(lists, row_of<int>(lists.indices, sequence.first_query + row, block_index_y()), -1);
    }
}

// Whether a block has a sequence that is refused. If so it counts that, and writes what lists of such rows hold.
template <int WARPS>
DEVICE bool leave_refused(const sala_block_lists& lists, uint64_t status, const SequenceRange& sequence) {
    if (sequence.refusal == REFUSED_NOTHING) return false;
    count_refused_sequence(status, sequence.refusal);
    store_empty_lists<WARPS>(lists, sequence);
    return true;
}

// Writes the list of a token that had to choose. Called by whole warps.
DEVICE void store_best_blocks(const sala_block_lists& lists, int* list, int query_block, TopK& best) {
    for (int i = lane_index(); i < lists.init_blocks; i += WARP_SIZE) store_global(list + i, i);
    const int wanted = wanted_blocks(lists);
    if (wanted > 0) visit_best(best, [&](int position, int block) { store_global(list + lists.init_blocks + position, block); });
    int* local = list + lists.init_blocks + wanted;
    const int first = first_local_block(lists, query_block);
    for (int i = lane_index(); i <= lists.local_blocks; i += WARP_SIZE) store_global(local + i, first + i);
}

// Writes the list of a token, which had to choose or takes every block up to its own.
DEVICE void store_list(const sala_block_lists& lists, int* list, int query_block, TopK& best) {
    if (must_choose(lists, query_block)) {
        store_best_blocks(lists, list, query_block, best);
    } else {
        store_all_blocks(lists, list, query_block);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
