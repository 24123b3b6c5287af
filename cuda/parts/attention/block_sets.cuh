// Which blocks of keys the tokens of a tile attend to, as sets of bits in shared memory: one for each token,
// and their union.
//
// A list means a set, in any order, with repeats and −1. A bit stands for a cell of 32 keys, the smallest
// block. Sequences longer than the sets are taken one window after the other.
#pragma once

#include "machine/atomic.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The part of a sequence that the sets describe at one time, in words of BlockSets::WORD_STEPS steps.
struct SetWindow {
    int first, words;
};

struct BlockSets {
    static constexpr int WORD_CELLS = 32;
    static constexpr int WORD_STEPS = WORD_CELLS / AttentionTile::STEP_CELLS;
    static constexpr int WORDS = 8704;

    uint32_t words[WORDS];  // the union, then one set per token, each as many words as the window has

    DEVICE uint32_t* all() { return words; }
    DEVICE uint32_t* of_token(const SetWindow& window, int token) { return words + (token + 1) * window.words; }
};

// The longest window for tiles of `tile_tokens`, in words.
DEVICE int window_capacity(int tile_tokens) { return BlockSets::WORDS / (tile_tokens + 1); }

// The threads of a block share the work of these functions; a barrier of the block belongs between them and
// after the last.

template <int THREADS>
DEVICE void clear_sets(BlockSets& sets, const SetWindow& window, int tokens) {
    for (int i = thread_index(); i < (tokens + 1) * window.words; i += THREADS) sets.words[i] = 0;
}

// Adds to the sets what the tokens' lists name in the window. Cells that lie wholly after a token are left
// out. Returns how many of the entries seen by this thread name no block of the sequence.
template <int THREADS>
DEVICE int insert_lists(BlockSets& sets, const sala_sparse_attention_params& p, const QueryTile& tile, const SetWindow& window) {
    const int last_block = (tile.sequence.keys.count - 1) / p.block_size;
    const int cells = p.block_size / AttentionTile::CELL_KEYS;
    int refused = 0;
    for (int i = thread_index(); i < tile.tokens * p.list_len; i += THREADS) {
        const int token = i / p.list_len;
        const int position = tile.position(token);
        const int block = load_global(row_of<const int>(p.block_indices, tile.row(token), tile.head_kv) + i % p.list_len);
        if (position < 0 || block == -1) continue;
        if (block < 0 || block > last_block) {
            refused += 1;
            continue;
        }
        const int word = block * cells / BlockSets::WORD_CELLS - window.first;
        if (block > position / p.block_size || word < 0 || word >= window.words) continue;
        const int seen = minimum((position - block * p.block_size) / AttentionTile::CELL_KEYS + 1, cells);
        const uint32_t mask = ((1u << seen) - 1) << (block * cells % BlockSets::WORD_CELLS);
        atomic_or_shared(shared_address(sets.of_token(window, token) + word), mask);
        atomic_or_shared(shared_address(sets.all() + word), mask);
    }
    return refused;
}

}  // namespace SALA_VARIANT
}  // namespace sala
