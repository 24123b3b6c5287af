// A ring of steps of keys and values in shared memory that no warp waits at for another.
//
// Entry n of a list passes through stage n mod `stages`, K and V apart from each other. Nobody copies on a schedule: the
// last warp that has read a half of a stage starts the copy of the entry `stages` further on into it. So a warp spends
// nothing on a step that it does not want, and may be `stages` steps ahead of the slowest. There are as many as fit.
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

// Where a step is on its way through the ring.
struct RingPlace {
    int stage;
    uint32_t parity;  // of the phase in which its warps read it
};

template <int DIM>
struct KeyRing {
    static constexpr int STEP = AttentionTile::STEP;
    static constexpr uint32_t HALF_BYTES = STEP * DIM * 2;

    // The barriers of a stage: `begun` of K and of V for each warp, from LANDED on two `landed`, from READ on two `read`.
    static constexpr int LANDED = 2 * ATTENTION_WARPS, READ = LANDED + 2, BARRIERS = READ + 2;
    static_assert(BARRIERS * sizeof(uint64_t) == SALA_ATTENTION_BARRIER_BYTES, "the host gives that much for each stage");

    uint32_t halves;  // shared address of the stages, behind which their barriers lie
    int stages;
    uint32_t inverse;  // ⌈2¹⁶ / stages⌉

    DEVICE KeyRing(uint32_t halves, int stages)
        : halves(halves), stages(stages), inverse(static_cast<uint32_t>(ceil_div(1 << 16, stages))) {}

    static DEVICE uint32_t bytes(int stages) { return static_cast<uint32_t>(stages) * (2 * HALF_BYTES + SALA_ATTENTION_BARRIER_BYTES); }
    static DEVICE uint32_t stage_bytes(int stage) { return static_cast<uint32_t>(stage) * 2 * HALF_BYTES; }
    DEVICE SharedTile<DIM> tile(int stage, StageHalf half) const { return {halves + stage_bytes(stage) + half * HALF_BYTES}; }
    DEVICE uint32_t begun(int stage, StageHalf half, int warp) const { return barrier(stage, ATTENTION_WARPS * half + warp); }
    DEVICE uint32_t landed(int stage, StageHalf half) const { return barrier(stage, LANDED + half); }
    DEVICE uint32_t read(int stage, StageHalf half) const { return barrier(stage, READ + half); }

    // Of an entry below 4096, for which the product gives the round exactly.
    DEVICE RingPlace place(int entry) const {
        const uint32_t round = static_cast<uint32_t>(entry) * inverse >> 16;
        return {entry - static_cast<int>(round) * stages, round & 1};
    }

    // Called by all threads of the block; a barrier belongs after it.
    DEVICE void begin() const {
        for (int i = thread_index(); i < stages * BARRIERS; i += ATTENTION_WARPS * WARP_SIZE) {
            const int number = i % BARRIERS;
            const int arrivals = number < LANDED ? 1 : number < READ ? WARP_SIZE : ATTENTION_WARPS;
            init_mbarrier(barrier(i / BARRIERS, number), arrivals);
        }
    }

  private:
    DEVICE uint32_t barrier(int stage, int number) const {
        return halves + stage_bytes(stages) + static_cast<uint32_t>(stage * SALA_ATTENTION_BARRIER_BYTES + number * 8);
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
    KeyRing<DIM> ring;
    StepList<BYTES>& list;
    OperandPlace<DIM, Operand::NK> first_keys;
    OperandPlace<DIM, Operand::KN> first_values;
    int passed = 0;         // entries of earlier lists, without full turns of two rounds
    uint32_t parities = 0;  // a bit for each half: that of the phase of `begun` that the warp waits for next
    static_assert(2 * SALA_ATTENTION_MAX_STAGES <= 32, "they fit");

    DEVICE RingList(const KeyRing<DIM>& ring, StepList<BYTES>& list)
        : ring(ring), list(list), first_keys(ring.tile(0, KEY)), first_values(ring.tile(0, VALUE)) {}

    DEVICE RingPlace place(int at) const { return ring.place(passed + at); }
    DEVICE OperandPlace<DIM, Operand::NK> keys(RingPlace own) const { return first_keys.moved(KeyRing<DIM>::stage_bytes(own.stage)); }
    DEVICE OperandPlace<DIM, Operand::KN> values(RingPlace own) const { return first_values.moved(KeyRing<DIM>::stage_bytes(own.stage)); }

    // What there is to know of an entry for its copy. Of one past the end of the list, that of the last.
    DEVICE RingEntry look_up(int at) const {
        const int last = static_cast<int>(list.count) - 1;
        const int found = minimum(at, last);
        return {at <= last, StepEntry{list.entries()[found]}, StepMarks{list.marks()[found]}, list.pages()[found]};
    }
    // The entry that comes to the place of entry `at` after it.
    DEVICE RingEntry look_ahead(int at) const { return look_up(at + ring.stages); }

    // The whole warp starts the copy of a half of an entry to its place, which is free.
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

    // The warps share the copies of the first entries, whose places are free.
    DEVICE void fill_first() const {
        const int count = minimum(ring.stages, static_cast<int>(list.count));
        NO_UNROLL
        for (int i = warp_index(); i < 2 * count; i += ATTENTION_WARPS) fill(look_up(i / 2), place(i / 2).stage, i % 2 == 0 ? KEY : VALUE);
    }

    // Waits for a half of an entry that the warp wants; it asks for each of them once.
    DEVICE void wait(RingPlace own, StageHalf half) {
        const int bit = 2 * own.stage + half;
        wait_mbarriers(ring.begun(own.stage, half, warp_index()), parities >> bit & 1, ring.landed(own.stage, half), own.parity);
        parities ^= 1u << bit;
    }

    // The warp has read a half of an entry. Returns what `refill` asks for.
    DEVICE int release(RingPlace own, StageHalf half) const {
        sync_warp();
        return arrive_mbarrier_if(lane_index() == 0, ring.read(own.stage, half));
    }

    // If the warp was the last that wanted the half, it fills the place again, for the entry that it has looked up.
    DEVICE void refill(int lacked, RingPlace own, StageHalf half, const RingEntry& ahead) const {
        if (uniform(static_cast<uint32_t>(lacked)) != 1 || !ahead.exists) return;
        wait_mbarrier(ring.read(own.stage, half), own.parity);  // complete: what the others read happened before
        fill(ahead, own.stage, half);
    }

    // All warps are done with the list.
    DEVICE void pass() { passed = (passed + static_cast<int>(list.count)) % (2 * ring.stages); }
};

}  // namespace SALA_VARIANT
}  // namespace sala
