// The blocks of keys that one token attends to, by place: its list as a sorted set, or all blocks if it is dense.
//
// Selection writes lists in ascending order, and such a list is taken as it is: the block at a place is that entry. A
// list in any other order, with repeats or gaps, is sorted as bits in shared memory whenever places of it are asked for,
// which costs a pass over the list each time: slow for callers that do so, and of the same bits.
//
//     list        7 2 −1 2 4 0   ──▶   bits   1 0 1 0 1 0 0 1   ──▶   block at place 0, 1, 2, 3:   0 2 4 7
#pragma once

#include "machine/atomic.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/drafts.cuh"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The logarithm of the cells of a block of 32, 64 or 128 keys.
DEVICE int cell_shift(int block_size) { return block_size / (2 * AttentionTile::CELL_KEYS); }

// The block of a position; −1 before the first.
DEVICE int block_of(int position, int block_size) {
    constexpr int CELL_SHIFT = 5;
    static_assert(1 << CELL_SHIFT == AttentionTile::CELL_KEYS, "the logarithm is that of a cell");
    return position < 0 ? -1 : position >> (CELL_SHIFT + cell_shift(block_size));
}

struct TokenBlocks {
    const int* list;  // null: dense, the block at a place is the one of that number
    int list_len;
    int own;    // the last block that it may attend to, its own but for trees; −1: none
    int count;  // places
    bool is_ascending;

    DEVICE bool must_sort() const { return list != nullptr && !is_ascending; }
    DEVICE bool is_past(int block) const { return 0 <= block && block <= own; }
};

// What the threads of a block hand each other over a list.
template <int THREADS, int BLOCKS>
struct ListScratch {
    int sums[THREADS / WARP_SIZE][3];
    int blocks[BLOCKS];  // those at the places that were asked for
};

// Sums up numbers of all threads of the block. A barrier of the block lies between two calls.
template <int N, int THREADS, int BLOCKS>
DEVICE void add_up(int (&values)[N], ListScratch<THREADS, BLOCKS>& scratch) {
    static_assert(N <= 3, "the scratch has room for three");
    reduce_add_each<WARP_SIZE>(values);
    UNROLL
    for (int i = 0; i < N; ++i) {
        if (lane_index() == 0) scratch.sums[warp_index()][i] = values[i];
    }
    sync_block();  // the sums of all warps are there
    UNROLL
    for (int i = 0; i < N; ++i) {
        values[i] = 0;
        UNROLL
        for (int warp = 0; warp < THREADS / WARP_SIZE; ++warp) values[i] += scratch.sums[warp][i];
    }
}

// Bits for the blocks of a window of the sequence, in shared memory that is free for them.
struct BlockBits {
    static constexpr int WORD = 32;

    uint32_t* words;
    int capacity;
};

// Sorts the list. Returns how many blocks it names, and leaves those at places [first, first + BLOCKS) in the
// scratch. Called by all threads of the block, at a time when bits and scratch are free; both are free after it, but for
// the blocks.
template <int THREADS, int BLOCKS>
DEVICE int sort_blocks(ListScratch<THREADS, BLOCKS>& scratch, const BlockBits& bits, const TokenBlocks& blocks, int first) {
    constexpr int WORD = BlockBits::WORD;
    const int all_words = blocks.own / WORD + 1;
    int count = 0;
    NO_UNROLL
    for (int start = 0; start < all_words; start += bits.capacity) {
        const int words = minimum(all_words - start, bits.capacity);
        for (int i = thread_index(); i < words; i += THREADS) bits.words[i] = 0;
        sync_block();  // the bits are clear
        NO_UNROLL
        for (int i = thread_index(); i < blocks.list_len; i += THREADS) {
            const int block = load_global(blocks.list + i), word = block / WORD - start;
            if (blocks.is_past(block) && 0 <= word && word < words) atomic_or_shared(shared_address(bits.words + word), 1u << block % WORD);
        }
        sync_block();  // the bits are set
        // A thread counts neighbouring words, and knows the places of their blocks by what lies before them.
        const int share = ceil_div(words, THREADS), begin = minimum(thread_index() * share, words), end = minimum(begin + share, words);
        int mine = 0;
        for (int i = begin; i < end; ++i) mine += count_bits(bits.words[i]);
        int before = mine;
        UNROLL
        for (int distance = 1; distance < WARP_SIZE; distance *= 2) {
            const int other = shuffle_up(before, distance);
            if (lane_index() >= distance) before += other;
        }
        if (lane_index() == WARP_SIZE - 1) scratch.sums[warp_index()][0] = before;
        before -= mine;
        sync_block();  // the sums of all warps are there
        int place = count + before;
        for (int warp = 0; warp < THREADS / WARP_SIZE; ++warp) {
            if (warp < warp_index()) place += scratch.sums[warp][0];
            count += scratch.sums[warp][0];
        }
        for (int i = begin; i < end && place < first + BLOCKS; ++i) {
            for (uint32_t left = bits.words[i]; left != 0; left &= left - 1, ++place) {
                const int block = (start + i) * WORD + find_first_set(left) - 1;
                if (first <= place && place < first + BLOCKS) scratch.blocks[place - first] = block;
            }
        }
        sync_block();  // the bits and sums have been read, the blocks are there
    }
    return count;
}

// The most blocks with keys before `end` that a tile of one token can attend to, whatever its list names.
DEVICE int most_blocks(const sala_sparse_attention_params& p, const QueryTile& tile, int end) {
    const int past = block_of(end - 1, p.block_size) + 1;
    return tile.dense ? past : minimum(past, p.list_len);
}

// Looks through the list of a tile of one token, or at nothing where that is dense. Called by all threads of the block;
// bits and scratch are free after a barrier. `refused` becomes the number of entries that name no block of the sequence.
template <int THREADS, int BLOCKS>
DEVICE TokenBlocks find_token_blocks(ListScratch<THREADS, BLOCKS>& scratch, const BlockBits& bits, const sala_sparse_attention_params& p,
                                     const QueryTile& tile, const Draft& draft, int& refused) {
    const int own = block_of(draft.end - 1, p.block_size);
    refused = 0;
    if (tile.dense || draft.position < 0) return {nullptr, 0, own, own + 1, true};
    TokenBlocks blocks{row_of<const int>(p.block_indices, tile.row(0), tile.head_kv), p.list_len, own, 0, true};
    const int last_block = block_of(tile.sequence.keys.count - 1, p.block_size);
    int found[3] = {0, 0, 0};  // blocks that the token may attend to, those out of order, entries that are no blocks
    NO_UNROLL
    for (int i = thread_index(); i < blocks.list_len; i += THREADS) {
        const int block = load_global(blocks.list + i);
        const int before = i == 0 ? -1 : load_global(blocks.list + i - 1);
        const bool follows = i == 0 || (blocks.is_past(before) && before < block);
        if (blocks.is_past(block)) {
            found[0] += 1;
            found[1] += follows ? 0 : 1;
        }
        if (block < -1 || block > last_block) found[2] += 1;
    }
    add_up(found, scratch);
    blocks.is_ascending = found[1] == 0;
    refused = found[2];
    if (blocks.is_ascending) {
        blocks.count = found[0];
    } else {
        sync_block();  // the scratch is free
        blocks.count = sort_blocks(scratch, bits, blocks, 0);
    }
    return blocks;
}

}  // namespace SALA_VARIANT
}  // namespace sala
