// The steps that a tile attends to, as a sorted list in shared memory: the union of its tokens' sets, or all steps where it
// is dense. It says which warps want a step and which must look at its keys one by one, so that a warp walks its own
// steps alone.
//
//     union     0 · 2 3 · 5 6                   an entry:   step, its cells that are read, whether it is whole
//     warp 0    0 · 2 · · · 6   ──▶  wants                  the page that it lies in, where it is whole
//     warp 1    0 · · 3 · 5 6                               wants and masked, a bit for each warp
//                                                           the cells that each token sees, a bit or two for each
//
// A list that does not fit is taken one window after the other, and so is a sequence that is longer than the sets.
#pragma once

#include "machine/atomic.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/block_sets.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/key_rows.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int ATTENTION_WARPS = SALA_ATTENTION_WARPS;

// Of the threads that make a list.
constexpr int LIST_BARRIER = 1;

// What a warp needs to know of a step.
struct StepEntry {
    uint32_t word;

    DEVICE int step() const { return static_cast<int>(word >> 3); }
    DEVICE bool is_whole() const { return (word & 4) != 0; }  // all its keys are read, and lie in one page
    DEVICE KeyStep keys() const { return {step(), word & AttentionTile::WHOLE_STEP}; }
};

DEVICE StepEntry make_entry(int step, uint32_t cells, bool is_whole) {
    return {static_cast<uint32_t>(step) << 3 | (is_whole ? 4u : 0u) | cells};
}

struct StepMarks {
    uint16_t bits;

    DEVICE uint32_t wants() const { return bits & 0xffu; }
    DEVICE uint32_t masked() const { return bits >> 8; }
};
static_assert(ATTENTION_WARPS == 8, "marks have a byte for the warps that want a step, and one for those that mask it");

// How a tile's list is laid out, and what else is asked of the tile while it is walked.
struct ListShape {
    static constexpr int ENTRY_BYTES = 10;  // without the cells

    int capacity;
    int cell_bits;   // of a token: 2 where a block is one cell, 1 where a token sees both cells of a step or none
    int cell_bytes;  // of an entry
    int tokens;
    int first_position, last_position;
    KeyRows rows[2];  // keys and values
};

// Lies in shared memory, shape and all: what is asked for once in a step takes no register.
template <int BYTES>
struct StepList {
    ListShape shape;
    uint32_t count;
    uint32_t words_left;  // of the window's words, those that do not fit
    int totals[ATTENTION_WARPS];
    uint32_t words[BYTES / 4];

    DEVICE uint32_t* entries() { return words; }
    DEVICE int* pages() { return reinterpret_cast<int*>(words) + shape.capacity; }
    DEVICE uint16_t* marks() { return reinterpret_cast<uint16_t*>(words) + 4 * shape.capacity; }
    DEVICE uint8_t* cells() { return reinterpret_cast<uint8_t*>(words) + ListShape::ENTRY_BYTES * shape.capacity; }
};

// The longest window of a tile, in words.
DEVICE int longest_window(const QueryTile& tile, int tile_tokens, int capacity) {
    return tile.dense ? capacity / BlockSets::WORD_STEPS : window_capacity(tile_tokens);
}

// Called by one thread.
template <int BYTES>
DEVICE void begin_list(StepList<BYTES>& list, const sala_sparse_attention_params& p, const QueryTile& tile, int sequence) {
    const int cell_bits = p.block_size == AttentionTile::CELL_KEYS ? 2 : 1;
    const int cell_bytes = tile.dense ? 0 : ceil_div(p.tile_tokens * cell_bits, 8);
    list.shape = {BYTES / (ListShape::ENTRY_BYTES + cell_bytes),
                  cell_bits,
                  cell_bytes,
                  tile.tokens,
                  tile.position(0),
                  tile.last_position(),
                  {find_tile_keys(p, tile, sequence), find_tile_values(p, tile, sequence)}};
}

// Bits for the cells of a step that a token sees, or sees a part of.
DEVICE uint32_t dense_cells(int position, int step) {
    const int cells = (position - step * AttentionTile::STEP) / AttentionTile::CELL_KEYS + 1;
    return position < step * AttentionTile::STEP ? 0 : (1u << minimum(cells, AttentionTile::STEP_CELLS)) - 1;
}

DEVICE int count_steps(uint32_t word) {
    static_assert(AttentionTile::STEP_CELLS == 2, "neighbouring bits are a step");
    return count_bits((word | word >> 1) & 0x55555555u);
}

// Lists the steps of the union, a thread those of neighbouring words. The words from the first on that does not fit are
// left for the next window.
template <int THREADS, int BYTES>
DEVICE void list_union(StepList<BYTES>& list, BlockSets& sets, const SetWindow& window, int capacity) {
    const int share = ceil_div(window.words, THREADS), begin = minimum(thread_index() * share, window.words);
    const int end = minimum(begin + share, window.words);
    int mine = 0;
    NO_UNROLL
    for (int word = begin; word < end; ++word) mine += count_steps(sets.all()[word]);
    int at = mine;
    UNROLL
    for (int distance = 1; distance < WARP_SIZE; distance *= 2) {
        const int other = shuffle_up(at, distance);
        if (lane_index() >= distance) at += other;
    }
    if (lane_index() == WARP_SIZE - 1) list.totals[warp_index()] = at;
    sync_barrier(LIST_BARRIER, THREADS);  // the sums of all warps are there
    at -= mine;
    NO_UNROLL
    for (int warp = 0; warp < warp_index(); ++warp) at += list.totals[warp];
    NO_UNROLL
    for (int word = begin; word < end; ++word) {
        uint32_t left = sets.all()[word];
        if (at + count_steps(left) > capacity) {
            atomic_max_shared(shared_address(&list.words_left), static_cast<uint32_t>(window.words - word));
            break;
        }
        NO_UNROLL
        while (left != 0) {
            const int bit = (find_first_set(left) - 1) / AttentionTile::STEP_CELLS * AttentionTile::STEP_CELLS;
            const int step = (window.first + word) * BlockSets::WORD_STEPS + bit / AttentionTile::STEP_CELLS;
            list.entries()[at++] = make_entry(step, left >> bit & AttentionTile::WHOLE_STEP, false).word;
            left &= ~(AttentionTile::WHOLE_STEP << bit);
        }
        atomic_max_shared(shared_address(&list.count), static_cast<uint32_t>(at));
    }
}

// The page of a step that lies in one; how many of the pages that the step is read from the table does not name is added
// to `bad`.
DEVICE int find_pages(int& bad, const KeyRows& rows, const KeyStep& step, int last_position) {
    int page = 0;
    if (!rows.paged()) return page;
    NO_UNROLL
    for (int cell = 0; cell < AttentionTile::STEP_CELLS; ++cell) {
        const int keys = step.cell_keys(cell, last_position), first = step.first_key(cell);
        if (keys == 0) continue;
        NO_UNROLL
        for (int index = rows.page_of(first); index <= rows.page_of(first + keys - 1); ++index) {
            page = load_global_constant(rows.table + index);
            if (page < 0 || page >= rows.pages) bad += 1;
        }
    }
    return page;
}

// Which warps have rows of a token.
DEVICE uint32_t warps_of(const sala_sparse_attention_params& p, int token) {
    return ((1u << p.warps_per_token) - 1) << (token / p.tokens_per_warp * p.warps_per_token);
}

// Completes an entry. Returns how many pages it asks for that there are not.
template <int BYTES>
DEVICE int complete_entry(StepList<BYTES>& list, int at, BlockSets& sets, const sala_sparse_attention_params& p, const QueryTile& tile,
                          const SetWindow& window) {
    constexpr int STEP = AttentionTile::STEP;
    const ListShape& shape = list.shape;
    const KeyRows& rows = shape.rows[0];
    const KeyStep step = StepEntry{list.entries()[at]}.keys();
    const int word = step.index / BlockSets::WORD_STEPS - window.first,
              shift = step.index % BlockSets::WORD_STEPS * AttentionTile::STEP_CELLS;
    uint32_t wants = 0, masked = 0, bits = 0;
    NO_UNROLL
    for (int token = 0; token < tile.tokens; ++token) {
        const int position = tile.position(token);
        const uint32_t own =
            tile.dense ? dense_cells(position, step.index) : sets.of_token(window, token)[word] >> shift & AttentionTile::WHOLE_STEP;
        const uint32_t warps = warps_of(p, token);
        if (own != 0) wants |= warps;
        if (own != AttentionTile::WHOLE_STEP || position < step.index * STEP + STEP - 1) masked |= warps;
        if (tile.dense) continue;
        const int at_bit = token * shape.cell_bits % 8;
        bits |= (shape.cell_bits == 2 || own == 0 ? own : 1u) << at_bit;
        if (at_bit + shape.cell_bits == 8 || token == tile.tokens - 1) {
            list.cells()[at * shape.cell_bytes + token * shape.cell_bits / 8] = static_cast<uint8_t>(bits);
            bits = 0;
        }
    }
    int bad = 0;
    const int page = find_pages(bad, rows, step, tile.last_position());
    if (bad != 0) masked = wants;
    const bool is_read = step.cells == AttentionTile::WHOLE_STEP && step.index * STEP + STEP - 1 <= tile.last_position();
    list.entries()[at] = make_entry(step.index, step.cells, is_read && bad == 0 && rows.one_page(STEP)).word;
    list.pages()[at] = page;
    list.marks()[at] = static_cast<uint16_t>(wants | (masked & wants) << 8);
    return bad;
}

// Lists the steps of a window; `words_left` of its words do not fit. Called by the first THREADS threads of the block, at a
// time when list and sets are free; a barrier belongs after it. The sets are free then.
template <int THREADS, int BYTES>
DEVICE void list_steps(StepList<BYTES>& list, BlockSets& sets, const sala_sparse_attention_params& p, const QueryTile& tile,
                       const SetWindow& window) {
    const int first = window.first * BlockSets::WORD_STEPS;
    const int dense_steps = minimum(tile.steps() - first, window.words * BlockSets::WORD_STEPS);
    if (thread_index() == 0) {
        list.count = tile.dense ? static_cast<uint32_t>(dense_steps) : 0;
        list.words_left = 0;
    }
    if (tile.dense) {
        for (int i = thread_index(); i < dense_steps; i += THREADS) {
            list.entries()[i] = make_entry(first + i, dense_cells(tile.last_position(), first + i), false).word;
        }
        sync_barrier(LIST_BARRIER, THREADS);  // the list has its steps
    } else {
        clear_sets<THREADS>(sets, window, tile.tokens);
        sync_barrier(LIST_BARRIER, THREADS);  // the sets are empty
        const int refused = insert_lists<THREADS>(sets, p, tile, window);
        if (window.first == 0) count_refused(p.status, REFUSED_BLOCKS, refused);
        sync_barrier(LIST_BARRIER, THREADS);  // the sets are complete
        list_union<THREADS>(list, sets, window, list.shape.capacity);
        sync_barrier(LIST_BARRIER, THREADS);  // the list has its steps
    }
    int bad = 0;
    NO_UNROLL
    for (int at = thread_index(); at < static_cast<int>(list.count); at += THREADS) {
        bad += complete_entry(list, at, sets, p, tile, window);
    }
    count_refused(p.status, REFUSED_PAGES, bad);
}

constexpr int NO_ENTRY = -1;

// A warp's way through the entries of a list that it wants. The same in all its lanes.
struct OwnSteps {
    int group;      // of WARP_SIZE entries: its first
    uint32_t left;  // those of the group that the warp wants and has not come to

    static DEVICE OwnSteps begin() { return {-WARP_SIZE, 0}; }

    template <int BYTES>
    DEVICE int next(StepList<BYTES>& list) {
        NO_UNROLL
        while (left == 0) {
            if (!begin_group(list)) return NO_ENTRY;
        }
        const int at = group + find_first_set(left) - 1;
        left &= left - 1;
        return at;
    }

  private:
    template <int BYTES>
    DEVICE bool begin_group(StepList<BYTES>& list) {
        const int count = static_cast<int>(list.count);
        group += WARP_SIZE;
        if (group >= count) return false;
        const int mine = group + lane_index();
        left = ballot(mine < count && (StepMarks{list.marks()[mine]}.wants() >> warp_index() & 1) != 0);
        return true;
    }
};

// The cells of a step that a token sees, as its list says.
template <int BYTES>
DEVICE uint32_t listed_cells(StepList<BYTES>& list, int at, int token) {
    const ListShape& shape = list.shape;
    if (shape.cell_bytes == 0) return AttentionTile::WHOLE_STEP;
    const int bit = token * shape.cell_bits;
    const uint32_t bits = list.cells()[at * shape.cell_bytes + bit / 8] >> (bit % 8);
    return shape.cell_bits == 2 ? bits & AttentionTile::WHOLE_STEP : (bits & 1) * AttentionTile::WHOLE_STEP;
}

}  // namespace SALA_VARIANT
}  // namespace sala
