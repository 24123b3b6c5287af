// A ring of steps of keys and values in shared memory that no warp waits at for another.
//
// Entry n of a list passes through stage n mod STAGES, K and V apart from each other. Nobody copies on a schedule: the
// last warp that has read a half of a stage starts the copy of the entry STAGES further on into it. So a warp spends
// nothing on a step that it does not want, and may be STAGES steps ahead of the slowest.
//
//     begun, a barrier for each warp     the copy of a half has begun, for a warp that wants it
//     landed                             it is there
//     read                               its warps have read it; those that do not want it have their arrival made for them
//
// A wait tells neighbouring phases apart and no more. Of `begun` a warp waits for every phase, since all are its own; then
// the phase of `landed` is this entry's or the next. Copies are started by one warp, whose lanes all arrive with them: one
// barrier for each warp would take eight such arrivals where the others wait for them.
#pragma once

#include "machine/async_copy.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/mbarrier.cuh"
#include "machine/mbarrier_branchless.cuh"
#include "machine/operand_place.cuh"
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
        uint64_t begun[STAGES][2][ATTENTION_WARPS];
        uint64_t landed[STAGES][2];
        uint64_t read[STAGES][2];
    };

    uint32_t halves, barriers;  // shared addresses

    static DEVICE uint32_t stage_bytes(int stage) { return static_cast<uint32_t>(stage) * 2 * HALF_BYTES; }
    DEVICE SharedTile<DIM> tile(int stage, StageHalf half) const { return {halves + stage_bytes(stage) + half * HALF_BYTES}; }
    DEVICE uint32_t begun(int stage, StageHalf half, int warp) const {
        return barriers + static_cast<uint32_t>(((2 * stage + half) * ATTENTION_WARPS + warp) * 8);
    }
    DEVICE uint32_t landed(int stage, StageHalf half) const { return begun(STAGES, KEY, 2 * stage + half); }
    DEVICE uint32_t read(int stage, StageHalf half) const { return landed(STAGES + stage, half); }

    // Called by all threads of the block; a barrier belongs after it.
    DEVICE void begin() const {
        constexpr int HALVES = 2 * STAGES, BEGUN = HALVES * ATTENTION_WARPS;
        for (int i = thread_index(); i < BEGUN + 2 * HALVES; i += ATTENTION_WARPS * WARP_SIZE) {
            const int arrivals = i < BEGUN ? 1 : i < BEGUN + HALVES ? WARP_SIZE : ATTENTION_WARPS;
            init_mbarrier(barriers + static_cast<uint32_t>(8 * i), arrivals);
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
    constexpr int SOURCES = PERIOD / AT_ONCE;  // a chain of additions for each, so that copies do not wait for one
    const uint16_t* source[SOURCES];
    uint32_t target[SOURCES];
    UNROLL
    for (int i = 0; i < SOURCES; ++i) {
        source[i] =
            i == 0 ? rows.row_in(page, step * AttentionTile::STEP) + row * rows.stride + vector * 8 : source[i - 1] + AT_ONCE * rows.stride;
        target[i] = tile.address(row + i * AT_ONCE, vector);
    }
    UNROLL
    for (int first = 0; first < AttentionTile::STEP; first += PERIOD) {
        UNROLL
        for (int i = 0; i < SOURCES; ++i) {
            async_copy<16>(target[i] + static_cast<uint32_t>(SharedTile<DIM>::bytes(first)), source[i]);
            source[i] += PERIOD * rows.stride;
        }
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

// An entry of a list, as its copy needs it.
struct RingEntry {
    bool exists;
    StepEntry step;
    StepMarks marks;
    int page;
};

// The entries of a list on their way through a ring, as a warp sees them.
template <int DIM, int BYTES>
struct RingList {
    static constexpr int STAGES = KeyRing<DIM>::STAGES;

    KeyRing<DIM> ring;
    StepList<BYTES>& list;
    OperandPlace<DIM, Operand::NK> first_keys;
    OperandPlace<DIM, Operand::KN> first_values;
    int passed = 0;         // entries of earlier lists
    uint32_t parities = 0;  // a bit for each half: that of the phase of `begun` that the warp waits for next

    DEVICE RingList(const KeyRing<DIM>& ring, StepList<BYTES>& list)
        : ring(ring), list(list), first_keys(ring.tile(0, KEY)), first_values(ring.tile(0, VALUE)) {}

    DEVICE RingPlace place(int at) const { return RingPlace::of<DIM>(passed + at); }
    DEVICE OperandPlace<DIM, Operand::NK> keys(int at) const { return first_keys.moved(KeyRing<DIM>::stage_bytes(place(at).stage)); }
    DEVICE OperandPlace<DIM, Operand::KN> values(int at) const { return first_values.moved(KeyRing<DIM>::stage_bytes(place(at).stage)); }

    // What there is to know of an entry for its copy. Of one past the end of the list, that of the last.
    DEVICE RingEntry look_up(int at) const {
        const int last = static_cast<int>(list.count) - 1;
        const int found = minimum(at, last);
        return {at <= last, StepEntry{list.entries()[found]}, StepMarks{list.marks()[found]}, list.pages()[found]};
    }
    DEVICE RingEntry look_ahead(int at) const { return look_up(at + STAGES); }

    // The whole warp starts the copy of a half of an entry to its place, which is free.
    DEVICE void fill(int at, StageHalf half) const { fill(look_up(at), place(at).stage, half); }

    DEVICE void fill(const RingEntry& entry, int stage, StageHalf half) const {
        const KeyRows rows = list.shape.rows[half];
        const uint32_t wants = entry.marks.wants();
        const int lane = lane_index();
        if (entry.step.is_whole()) {
            load_whole_step<DIM>(ring.tile(stage, half), rows, entry.step.step(), entry.page);
        } else {
            load_partial_step<DIM>(ring.tile(stage, half), rows, entry.step.keys(), list.shape.last_position);
        }
        const int others = ATTENTION_WARPS - count_bits(wants);
        if (lane == 0 && others != 0) arrive_mbarrier_for(ring.read(stage, half), others);
        if (lane < ATTENTION_WARPS && (wants >> lane & 1) != 0) arrive_mbarrier(ring.begun(stage, half, lane));
        arrive_mbarrier_with_copies(uniform(ring.landed(stage, half)));
    }

    // Waits for a half of an entry that the warp wants; it asks for each of them once.
    DEVICE void wait(int at, StageHalf half) {
        const RingPlace own = place(at);
        const int bit = 2 * own.stage + half;
        wait_mbarriers(ring.begun(own.stage, half, warp_index()), parities >> bit & 1, ring.landed(own.stage, half), own.parity);
        parities ^= 1u << bit;
    }

    // The warp has read a half of an entry. If it is the last that wanted it, it fills the place again, for the entry STAGES
    // further on, which it has looked up meanwhile.
    DEVICE void release(int at, StageHalf half, const RingEntry& ahead) const {
        const RingPlace own = place(at);
        sync_warp();
        const int lacked = arrive_mbarrier_if(lane_index() == 0, ring.read(own.stage, half));
        if (uniform(static_cast<uint32_t>(lacked)) != 1 || !ahead.exists) return;
        wait_mbarrier(ring.read(own.stage, half), own.parity);  // complete: what the others read happened before
        fill(ahead, own.stage, half);
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
