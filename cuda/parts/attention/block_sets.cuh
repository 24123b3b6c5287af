// Which blocks of keys the tokens of a tile attend to, as sets of bits in shared memory: one for each token,
// and their union.
//
// A list means a set, in any order, with repeats and −1. A bit stands for a cell of 32 keys, the smallest
// block. The union is walked in ascending order, in steps of 64 keys, and each row asks its token's set what
// it sees of a step. Sequences longer than the sets are taken one window after the other.
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

// The part of a sequence that the sets describe at one time, in words of SALA_ATTENTION_WORD_KEYS keys.
struct SetWindow {
    int first, words;
};

struct BlockSets {
    static constexpr int WORD_CELLS = 32;
    static constexpr int WORD_STEPS = WORD_CELLS / AttentionTile::STEP_CELLS;
    static_assert(AttentionTile::CELL_KEYS * WORD_CELLS == SALA_ATTENTION_WORD_KEYS, "the host counts words of that many keys");

    uint32_t words[SALA_ATTENTION_SET_WORDS];  // the union, then one set per token, each as many words as the window has

    DEVICE uint32_t* all() { return words; }
    DEVICE uint32_t* of_token(const SetWindow& window, int token) { return words + (token + 1) * window.words; }
};

// The longest window for tiles of `tile_tokens`, in words.
DEVICE int window_capacity(int tile_tokens) { return SALA_ATTENTION_SET_WORDS / (tile_tokens + 1); }

// The threads of a block share the work of these functions; a barrier of the block belongs between them and
// after the last.

template <int THREADS>
DEVICE void clear_sets(BlockSets& sets, const SetWindow& window, int tokens) {
    for (int i = thread_index(); i < (tokens + 1) * window.words; i += THREADS) sets.words[i] = 0;
}

// Adds to the sets what the tokens' lists name in the window. Blocks that lie wholly after a token are left
// out. Returns how many of the entries seen by this thread name no block of the sequence.
template <int THREADS>
DEVICE int insert_lists(BlockSets& sets, const sala_sparse_attention_params& p, const QueryTile& tile, const SetWindow& window) {
    const int last_block = (tile.sequence.keys.count - 1) / p.block_size;
    const int cells = p.block_size / AttentionTile::CELL_KEYS;
    const uint32_t bits = (1u << cells) - 1;
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
        const uint32_t mask = bits << (block * cells % BlockSets::WORD_CELLS);
        atomic_or_shared(shared_address(sets.of_token(window, token) + word), mask);
        atomic_or_shared(shared_address(sets.all() + word), mask);
    }
    return refused;
}

// Walks steps in ascending order: those of a union, or all of them. A warp walks as one, and every warp finds
// the same steps.
struct StepWalk {
    const uint32_t* words;  // the union; null: dense
    SetWindow window;
    int end;  // dense: the step after the last

    int word;            // dense: the next step. Otherwise the word that `bits` came from
    int first_word;      // the first of the 32 words that the warp's lanes hold
    uint32_t lane_word;  // the one that this lane holds
    uint32_t nonempty;   // lanes whose words are still to come
    uint32_t bits;       // what is left of the current word
};

DEVICE StepWalk start_walk(BlockSets& sets, const QueryTile& tile, const SetWindow& window) {
    return {tile.dense ? nullptr : sets.all(), window, tile.steps(), 0, -WARP_SIZE, 0, 0, 0};
}

// The next step, or one of index NO_STEP after the last.
DEVICE KeyStep next_step(StepWalk& walk) {
    if (walk.words == nullptr) return {walk.word < walk.end ? walk.word++ : NO_STEP, AttentionTile::WHOLE_STEP};
    while (walk.bits == 0) {
        while (walk.nonempty == 0) {
            walk.first_word += WARP_SIZE;
            if (walk.first_word >= walk.window.words) return {NO_STEP, 0};
            const int mine = walk.first_word + lane_index();
            walk.lane_word = mine < walk.window.words ? walk.words[mine] : 0;
            walk.nonempty = ballot(walk.lane_word != 0);
        }
        const int lane = find_first_set(walk.nonempty) - 1;
        walk.nonempty &= walk.nonempty - 1;
        walk.word = walk.first_word + lane;
        walk.bits = shuffle(walk.lane_word, lane);
    }
    const int step = (find_first_set(walk.bits) - 1) / AttentionTile::STEP_CELLS;
    const uint32_t cells = walk.bits >> (step * AttentionTile::STEP_CELLS) & AttentionTile::WHOLE_STEP;
    walk.bits &= ~(AttentionTile::WHOLE_STEP << (step * AttentionTile::STEP_CELLS));
    return {(walk.window.first + walk.word) * BlockSets::WORD_STEPS + step, cells};
}

// The lane's two rows against the keys of one step.
struct Visibility {
    uint32_t cells[2];  // bit i: the row listed keys [32 i, 32 i + 32)
    int last[2];        // last key that is not in the row's future
    bool some;          // a row sees a key of the step
    bool whole;         // every row sees all keys of the step; padding rows are ignored
};

DEVICE Visibility find_visibility(BlockSets& sets, const QueryTile& tile, const SetWindow& window, const QueryRow (&row)[2], int step) {
    constexpr int STEP = AttentionTile::STEP;
    Visibility visible;
    visible.some = false;
    visible.whole = true;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        visible.cells[side] = AttentionTile::WHOLE_STEP;
        visible.last[side] = row[side].position - step * STEP;
        if (!row[side].exists) continue;
        if (!tile.dense) {
            const uint32_t word = sets.of_token(window, row[side].token)[step / BlockSets::WORD_STEPS - window.first];
            visible.cells[side] = word >> (step % BlockSets::WORD_STEPS * AttentionTile::STEP_CELLS) & AttentionTile::WHOLE_STEP;
        }
        visible.some |= visible.cells[side] != 0 && visible.last[side] >= 0;
        visible.whole &= visible.cells[side] == AttentionTile::WHOLE_STEP && visible.last[side] >= STEP - 1;
    }
    return visible;
}

// Hides the keys that a row does not see. The warp decides as one whether there is anything to hide, so that
// it stays together for what follows.
DEVICE void hide_keys(Accumulator<AttentionTile::STEP>& scores, const Visibility& visible) {
    if (all(visible.whole)) return;
    UNROLL
    for (int j = 0; j < AttentionTile::STEP / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const bool listed = visible.cells[e / 2] >> (8 * j / AttentionTile::CELL_KEYS) & 1;
            const bool past = accumulator_col(j, e) <= visible.last[e / 2];
            if (!listed || !past) scores.values[j][e] = -INFINITE;
        }
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
