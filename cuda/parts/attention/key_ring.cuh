// A ring of steps of keys and values in shared memory that no warp waits at for another.
//
// Entry n of a list passes through stage n mod STAGES, K and V apart from each other. Nobody copies on a schedule: the
// last warp that has read a half of a stage starts the copy of the entry STAGES further on into it. So a warp spends
// nothing on a step that it does not want, and may be STAGES steps ahead of the slowest.
//
//     landed, a barrier for each warp     a half has landed for a warp that wants it: it waits for every phase of its own
//     read, one barrier                   its warps have read it; those that do not want it have their arrival made for them
//
// Copies are started by one warp, whose lanes all arrive with them.
#pragma once

#include "machine/async_copy.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/mbarrier.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/step_list.cuh"
#include "parts/keys/key_rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

enum StageHalf { KEY, VALUE };

template <int DIM>
struct KeyRing {
    static constexpr int STEP = AttentionTile::STEP;
    static constexpr uint32_t HALF_BYTES = STEP * DIM * 2;
    static constexpr int STAGES = SALA_ATTENTION_RING_BYTES / static_cast<int>(2 * HALF_BYTES);

    struct Barriers {
        uint64_t landed[STAGES][2][ATTENTION_WARPS];
        uint64_t read[STAGES][2];
    };

    uint32_t halves, barriers;  // shared addresses

    DEVICE SharedTile<DIM> tile(int stage, StageHalf half) const { return {halves + static_cast<uint32_t>(2 * stage + half) * HALF_BYTES}; }
    DEVICE uint32_t landed(int stage, StageHalf half, int warp) const {
        return barriers + static_cast<uint32_t>(((2 * stage + half) * ATTENTION_WARPS + warp) * 8);
    }
    DEVICE uint32_t read(int stage, StageHalf half) const { return landed(STAGES, KEY, 2 * stage + half); }

    // Called by all threads of the block; a barrier belongs after it.
    DEVICE void begin() const {
        constexpr int LANDED = 2 * STAGES * ATTENTION_WARPS;
        for (int i = thread_index(); i < LANDED + 2 * STAGES; i += ATTENTION_WARPS * WARP_SIZE) {
            init_mbarrier(barriers + static_cast<uint32_t>(8 * i), i < LANDED ? WARP_SIZE : ATTENTION_WARPS);
        }
    }
};

// A step on its way through the ring.
struct RingPlace {
    int stage;
    uint32_t parity;  // of the phase in which its warps read it

    template <int DIM>
    static DEVICE RingPlace of(int entry) {
        constexpr int STAGES = KeyRing<DIM>::STAGES;
        return {entry % STAGES, static_cast<uint32_t>(entry / STAGES & 1)};
    }
};

// Starts the copy of a step whose keys are all read and lie in one page, by one warp.
template <int DIM>
DEVICE void load_whole_step(SharedTile<DIM> tile, const KeyRows& rows, int step, int page) {
    constexpr int VECTORS = SharedTile<DIM>::VECTORS;
    constexpr int AT_ONCE = WARP_SIZE / VECTORS;  // rows that a warp copies at a time
    constexpr int PERIOD = 8;                     // of rows, after which a tile's vectors lie at the same places again
    const int row = lane_index() / VECTORS, vector = lane_index() % VECTORS;
    const uint16_t* source = rows.row_in(page, step * AttentionTile::STEP) + row * rows.stride + vector * 8;
    const int64_t stride = AT_ONCE * rows.stride;
    uint32_t target[PERIOD / AT_ONCE];
    UNROLL
    for (int i = 0; i < PERIOD / AT_ONCE; ++i) target[i] = tile.address(row + i * AT_ONCE, vector);
    UNROLL
    for (int i = 0; i < AttentionTile::STEP / AT_ONCE; ++i) {
        async_copy<16>(target[i % (PERIOD / AT_ONCE)] + static_cast<uint32_t>(i * AT_ONCE / PERIOD * PERIOD * SharedTile<DIM>::ROW_BYTES),
                       source);
        source += stride;
    }
}

// The same of any step. Keys that no token of the tile sees, after `last_position`, in cells that none has listed and in bad
// pages, are not read and become zero, so that what lies there does not reach O as 0 · NaN.
template <int DIM>
DEVICE void load_partial_step(SharedTile<DIM> tile, const KeyRows& rows, const KeyStep& step, int last_position) {
    constexpr int VECTORS = SharedTile<DIM>::VECTORS;
    const StepPages pages = look_up_step(rows, step, last_position);
    const bool in_one_page = rows.one_page(AttentionTile::STEP);
    const int vector = lane_index() % VECTORS;
    NO_UNROLL
    for (int row = lane_index() / VECTORS; row < AttentionTile::STEP; row += WARP_SIZE / VECTORS) {
        const int page = in_one_page ? pages.whole : pages.page(rows, step, row);
        const int key = step.first_key(0) + row;
        const bool is_read = (step.cells >> (row / AttentionTile::CELL_KEYS) & 1) != 0 && key <= last_position && page != NO_PAGE;
        async_copy<16>(tile.address(row, vector), (is_read ? rows.row_in(page, key) : rows.first) + vector * 8, is_read);
    }
}

// One warp starts the copy of a half of the list's entry `at` into its place, which is free.
template <int DIM, int BYTES>
DEVICE void fill_half(const KeyRing<DIM>& ring, StepList<BYTES>& list, int at, int stage, StageHalf half) {
    const StepEntry entry{list.entries()[at]};
    const uint32_t wants = StepMarks{list.marks()[at]}.wants();
    const KeyRows rows = list.shape.rows[half];
    if (entry.is_whole()) {
        load_whole_step<DIM>(ring.tile(stage, half), rows, entry.step(), list.pages()[at]);
    } else {
        load_partial_step<DIM>(ring.tile(stage, half), rows, entry.keys(), list.shape.last_position);
    }
    const int others = ATTENTION_WARPS - count_bits(wants);
    if (lane_index() == 0 && others != 0) arrive_mbarrier_for(ring.read(stage, half), others);
    const uint32_t landed = uniform(ring.landed(stage, half, 0)), readers = uniform(wants);
    UNROLL
    for (int warp = 0; warp < ATTENTION_WARPS; ++warp) {
        if (readers >> warp & 1) arrive_mbarrier_with_copies(landed + static_cast<uint32_t>(8 * warp));
    }
}

// The warp has read a half. Whether it is the last of those that wanted it; it may then be filled again.
template <int DIM>
DEVICE bool release_half(const KeyRing<DIM>& ring, const RingPlace& place, StageHalf half) {
    sync_warp();
    const uint32_t lacked = uniform(lane_index() == 0 ? static_cast<uint32_t>(arrive_mbarrier(ring.read(place.stage, half))) : 0);
    if (lacked != 1) return false;
    wait_mbarrier(ring.read(place.stage, half), place.parity);  // complete: what the others read happened before
    return true;
}

}  // namespace SALA_VARIANT
}  // namespace sala
