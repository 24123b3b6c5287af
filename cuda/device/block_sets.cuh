// Which key blocks the tokens of a tile attend to, as sets of bits in shared memory: one for each token, and their union.
//
// A list means a set, in any order, with repeats and −1. A bit stands for 32 keys, the smallest block. The union is walked in ascending order, 64
// keys a step, and each row asks its token's set what it sees of a step. Sequences longer than the sets are taken a window at a time.
#pragma once

#include "../../include/kernel_params.h"
#include "atomic.cuh"
#include "machine.cuh"
#include "math.cuh"
#include "memory.cuh"
#include "online_softmax.cuh"
#include "query_tile.cuh"
#include "tile.cuh"
#include "warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int CELL = 32;        // keys of a bit
constexpr int WORD_CELLS = 32;  // bits of a word
constexpr int STEP_CELLS = STEP / CELL;
constexpr int WORD_STEPS = WORD_CELLS / STEP_CELLS;
constexpr uint32_t WHOLE_STEP = (1u << STEP_CELLS) - 1;
constexpr int SET_WORDS = 8704;
constexpr int NO_STEP = -1;

// The part of a sequence that the sets describe at one time, in words of 1024 keys.
struct Window {
    int first, words;
};

// Words of a window for tiles of `tile_tokens`.
DEVICE int window_capacity(int tile_tokens) { return SET_WORDS / (tile_tokens + 1); }

struct BlockSets {
    uint32_t words[SET_WORDS];  // the union, then one set a token, each of a window's words

    DEVICE uint32_t* all() { return words; }
    DEVICE uint32_t* of_token(const Window& window, int token) { return words + (token + 1) * window.words; }
};

// The functions that the threads of a block share the work of; a barrier of the block belongs between them and after the last.

template <int THREADS>
DEVICE void clear_sets(BlockSets& sets, const Window& window, int tokens) {
    for (int i = thread_index(); i < (tokens + 1) * window.words; i += THREADS) sets.words[i] = 0;
}

// Adds to the sets what the tokens' lists name in the window. Blocks that lie wholly after a token are left out. Returns how many of the entries
// seen by this thread name no block of the sequence.
template <int THREADS>
DEVICE int insert_lists(BlockSets& sets, const sala_sparse_attention_params& p, const QueryTile& tile, const Window& window) {
    const int last_block = (tile.sequence.keys - 1) / p.block_size;
    const int cells = p.block_size / CELL;
    const uint32_t bits = (1u << cells) - 1;
    int refused = 0;
    for (int i = thread_index(); i < tile.tokens * p.list_len; i += THREADS) {
        const int token = i / p.list_len;
        const int position = tile.position(token);
        const int64_t list = tile.row(token) * p.list_token_stride + tile.head_kv * p.list_head_stride;
        const int block = load_global(reinterpret_cast<const int*>(p.block_indices) + list + i % p.list_len);
        if (position < 0 || block == -1) continue;
        if (block < 0 || block > last_block) {
            refused += 1;
            continue;
        }
        const int word = block * cells / WORD_CELLS - window.first;
        if (block > position / p.block_size || word < 0 || word >= window.words) continue;
        const uint32_t mask = bits << (block * cells % WORD_CELLS);
        atomic_or_shared(shared_address(sets.of_token(window, token) + word), mask);
        atomic_or_shared(shared_address(sets.all() + word), mask);
    }
    return refused;
}

// Walks steps in ascending order: those of a union, or all of them. A warp walks as one, and every warp finds the same steps.
struct StepWalk {
    const uint32_t* words;  // the union; null: dense
    Window window;
    int end;  // dense: the step after the last

    int word;            // dense: the next step. Otherwise the word that `bits` came from
    int group;           // first of the 32 words that the warp's lanes hold
    uint32_t lane_word;  // this lane's word of the group
    uint32_t nonempty;   // lanes whose words are still to come
    uint32_t bits;       // what is left of the current word
};

DEVICE StepWalk start_walk(BlockSets& sets, const QueryTile& tile, const Window& window) {
    return {tile.dense ? nullptr : sets.all(), window, tile.steps(), 0, -WARP_SIZE, 0, 0, 0};
}

DEVICE int next_step(StepWalk& walk) {
    if (walk.words == nullptr) return walk.word < walk.end ? walk.word++ : NO_STEP;
    while (walk.bits == 0) {
        while (walk.nonempty == 0) {
            walk.group += WARP_SIZE;
            if (walk.group >= walk.window.words) return NO_STEP;
            const int mine = walk.group + lane_index();
            walk.lane_word = mine < walk.window.words ? walk.words[mine] : 0;
            walk.nonempty = ballot(walk.lane_word != 0);
        }
        const int lane = find_first_set(walk.nonempty) - 1;
        walk.nonempty &= walk.nonempty - 1;
        walk.word = walk.group + lane;
        walk.bits = shuffle(walk.lane_word, lane);
    }
    const int step = (find_first_set(walk.bits) - 1) / STEP_CELLS;
    walk.bits &= ~(WHOLE_STEP << (step * STEP_CELLS));
    return (walk.window.first + walk.word) * WORD_STEPS + step;
}

// The lane's two rows against the keys of one step.
struct Visibility {
    uint32_t cells[2];  // bit i: the row listed keys [32 i, 32 i + 32)
    int last[2];        // last key that is not in the row's future
    bool some, whole;   // whether a row sees any of the step, and whether every row sees all of it; rows that do not exist have no say
};

DEVICE Visibility find_visibility(BlockSets& sets, const QueryTile& tile, const Window& window, const QueryRow (&row)[2], int step) {
    Visibility visible;
    visible.some = false;
    visible.whole = true;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        visible.cells[side] = WHOLE_STEP;
        visible.last[side] = row[side].position - step * STEP;
        if (!row[side].exists) continue;
        if (!tile.dense) {
            const uint32_t word = sets.of_token(window, row[side].token)[step / WORD_STEPS - window.first];
            visible.cells[side] = word >> (step % WORD_STEPS * STEP_CELLS) & WHOLE_STEP;
        }
        visible.some |= visible.cells[side] != 0 && visible.last[side] >= 0;
        visible.whole &= visible.cells[side] == WHOLE_STEP && visible.last[side] >= STEP - 1;
    }
    return visible;
}

// Hides the keys that a row does not see. The warp decides as one whether there is anything to hide, so that it stays together for what follows.
DEVICE void hide_keys(Accumulator<STEP>& scores, const Visibility& visible) {
    if (all(visible.whole)) return;
    UNROLL
    for (int j = 0; j < STEP / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const bool listed = visible.cells[e / 2] >> (8 * j / CELL) & 1;
            const bool past = accumulator_col(j, e) <= visible.last[e / 2];
            if (!listed || !past) scores.values[j][e] = -INFINITE;
        }
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
