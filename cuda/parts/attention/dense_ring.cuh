// How the eight warps of a block of dense prefill get the steps of keys that their tile sees.
//
// Steps pass through a ring of three stages, which all warps fill, half of them with K and half with V, and a warp may be nearly a
// step ahead of another. A stage is filled for a turn after the wait for the stage before, which all warps have filled once they were
// done with the turn before that: with three stages its place is free, and no barrier has to say so.
//
//     turn n    | wait: K n, V n | copy K n+1, V n+1, to the stage of turn n − 2 | the warp's own work: K n, V n
#pragma once

#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/dense_tile.cuh"
#include "parts/attention/key_cell.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/key_rows.cuh"
#include "parts/stage_ring.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// A step that the tile sees, as all warps read it.
struct TileStep {
    static constexpr int WHOLE = 8;  // the bit of the first warp all of whose rows see all keys

    int index;
    uint32_t warps;  // which of them see it, and from bit WHOLE on, which see it whole; 0: it is behind the last
    StepKeys keys;   // those that some row sees and that there are

    DEVICE bool is_there() const { return warps != 0; }
    DEVICE bool is_seen() const { return (warps >> warp_index() & 1) != 0; }
    DEVICE bool is_whole() const { return ((warps >> (WHOLE + warp_index()) & 1) != 0) & keys.are_all(); }
    // Whether its keys are all seen. (Where no warp sees all of them, they may be nevertheless.)
    DEVICE bool is_wanted_whole() const { return (warps & warps >> WHOLE) != 0; }
};

// Bytes of the stages.
constexpr size_t dense_stage_bytes(int dim) {
    return static_cast<size_t>(SALA_DENSE_STAGES * 2 * AttentionTile::STEP * dim) * sizeof(uint16_t);
}

// The ring and the rows in shared memory. Its size is a multiple of 512 bytes, whatever lies behind the tiles.
template <int DIM, int TILES>
struct alignas(512) DensePlan {
    static constexpr int STEP = AttentionTile::STEP;
    static constexpr int STAGES = SALA_DENSE_STAGES;
    static constexpr int KNOWN = 4;  // steps
    static_assert(STAGES == 3, "of the turn before, of this turn and of the next");

    struct Stage {
        uint16_t key[STEP * DIM], value[STEP * DIM];
    };

    Stage stages[STAGES];
    DenseRows<TILES> rows;
    SeenKeys read;     // by all warps
    KeyRows store[2];  // of keys and values
    TileStep steps[KNOWN];
    int pages[KNOWN];  // that the table says they lie in; NO_PAGE where pages are smaller
    StageBarriers<STAGES> barriers;

    DEVICE TileStep& step(int turn) { return steps[turn % KNOWN]; }
    DEVICE int& page(int turn) { return pages[turn % KNOWN]; }
    DEVICE bool has_page(int turn, const KeyRows& rows) const {
        return static_cast<uint32_t>(pages[turn % KNOWN]) < static_cast<uint32_t>(rows.pages);
    }
};

// The rows of a step that a thread copies a vector of: every AT_ONCE-th from its own on. Half of the warps copy keys, the others
// values.
template <int DIM>
struct CopyShare {
    static constexpr int WARPS = DENSE_WARPS / 2;
    static constexpr int VECTORS = SharedTile<DIM>::VECTORS;
    static constexpr int AT_ONCE = WARPS * WARP_SIZE / VECTORS;
    static constexpr int OF_CELL = KeyCell::KEYS / AT_ONCE;
    static_assert(AT_ONCE % 8 == 0, "the permutation of a tile is the same for all of them");

    static DEVICE bool is_of_values() { return warp_index() >= WARPS; }
    static DEVICE int row() { return thread_index() / VECTORS % AT_ONCE; }
    static DEVICE int vector() { return thread_index() % VECTORS; }
    static DEVICE uint32_t target(SharedTile<DIM> tile, int i) {
        return tile.address(row(), vector()) + static_cast<uint32_t>(SharedTile<DIM>::bytes(i * AT_ONCE));
    }
};

// Starts the copy of a step that is read whole, and lies in one page.
template <int DIM>
DEVICE void copy_whole_step(SharedTile<DIM> tile, const KeyRows& rows, int step, int page) {
    using Share = CopyShare<DIM>;
    constexpr int STEP = AttentionTile::STEP;
    const uint16_t* source = rows.row_in(page, step * STEP) + Share::row() * rows.stride + Share::vector() * 8;
    UNROLL
    for (int i = 0; i < STEP / Share::AT_ONCE; ++i) {
        async_copy<16>(Share::target(tile, i), source);
        source += Share::AT_ONCE * rows.stride;
    }
}

// The same of one of its cells, whose visible keys alone are read; the others become zero.
template <int DIM>
DEVICE void copy_cell(SharedTile<DIM> tile, const KeyRows& rows, const KeyCell& cell, int number) {
    using Share = CopyShare<DIM>;
    NO_UNROLL
    for (int i = 0; i < Share::OF_CELL; ++i) {
        const int row = Share::row() + i * Share::AT_ONCE, key = cell.first + row;
        const int page = cell.is_whole ? cell.whole : cell.pages.page(rows, key);
        const bool is_read = (cell.visible >> row & 1) != 0;
        async_copy<16>(Share::target(tile, number * Share::OF_CELL + i),
                       (is_read ? rows.row_in(page, key) : rows.first) + Share::vector() * 8, is_read);
    }
}

// The way of steps through the ring, as a warp follows it: a turn takes K and V of its step. What the first warp and thread
// write of a step comes with the stage that is filled then.
template <int DIM, int TILES>
struct DenseRing {
    using Plan = DensePlan<DIM, TILES>;
    using Stage = typename Plan::Stage;
    static constexpr int STEP = Plan::STEP;
    static constexpr int STAGES = Plan::STAGES;

    Plan& plan;
    StageRing<STAGES, DENSE_WARPS> stages;
    OperandPlace<DIM, Operand::NK> first_keys;
    OperandPlace<DIM, Operand::KN> first_values;
    uint64_t status;
    int turn = 0;
    StageCursor<STAGES> at;

    DEVICE DenseRing(Plan& plan, uint64_t status)
        : plan(plan), stages{shared_address(&plan.barriers)}, first_keys(tile(0, false)), first_values(tile(0, true)), status(status) {}

    static DEVICE uint32_t bytes(int stage) { return static_cast<uint32_t>(stage * sizeof(Stage)); }
    DEVICE SharedTile<DIM> tile(int stage, bool of_values) const {
        return {shared_address(plan.stages[0].key) + bytes(stage) + (of_values ? SharedTile<DIM>::bytes(STEP) : 0)};
    }
    DEVICE OperandPlace<DIM, Operand::NK> keys() const { return first_keys.moved(bytes(at.stage)); }
    DEVICE OperandPlace<DIM, Operand::KN> values() const { return first_values.moved(bytes(at.stage)); }
    DEVICE const TileStep& step() const { return plan.step(turn); }

    // The first warp finds the step of a turn, the first from `index` on that the tile sees. Its page is there with the warp's
    // copies, but for that of turn 0, which nothing is copied before.
    DEVICE void find_step(int turn, int index) const {
        constexpr uint32_t ALL = (1u << DENSE_WARPS) - 1;
        const StepRange seen = plan.rows.seen[lane_index() % DENSE_WARPS].steps(), whole = plan.rows.whole[lane_index() % DENSE_WARPS];
        const SeenStep found = find_seen_step(seen, index, turn, plan.read.steps().last);
        const uint32_t see_it_whole = ballot(whole.has(found.index)) & ALL;
        if (lane_index() != 0) return;
        TileStep& step = plan.step(turn);
        step.index = found.index;
        step.warps = found.is_there() ? found.warps | see_it_whole << TileStep::WHOLE : 0;
        const KeyRows rows = plan.store[0];
        int& page = plan.page(turn);
        if (!rows.one_page(STEP)) {
            page = NO_PAGE;
        } else if (rows.paged() && found.is_there()) {
            const int* entry = rows.table + rows.page_of(found.index * STEP);
            if (turn == 0) {
                page = load_global_constant(entry);
            } else {
                async_copy<4>(shared_address(&page), entry);
            }
        } else {
            page = 0;
        }
    }

    // Starts the copy of the warp's share of a step. The first thread says which of its keys there are, and counts the pages that
    // there are not.
    DEVICE void copy(int turn, int stage) const {
        constexpr int CELLS = AttentionTile::STEP_CELLS;
        const bool of_values = CopyShare<DIM>::is_of_values();
        const SharedTile<DIM> target = tile(stage, of_values);
        const KeyRows rows = plan.store[of_values ? 1 : 0];
        TileStep& step = plan.step(turn);
        if (step.is_wanted_whole() & plan.has_page(turn, rows)) {
            copy_whole_step(target, rows, step.index, plan.page(turn));
            if (thread_index() < CELLS) step.keys.visible[thread_index()] = ~0u;
            return;
        }
        NO_UNROLL
        for (int number = 0; number < CELLS; ++number) {
            const int first = step.index * STEP + number * KeyCell::KEYS;
            const KeyCell cell = find_cell(rows, first, keys_before(first, plan.read.last + 1) & keys_from(first, plan.read.first), true);
            copy_cell(target, rows, cell, number);
            if (thread_index() != 0) continue;
            step.keys.visible[number] = cell.visible;
            count_bad_pages(status, cell);
        }
    }

    // Fills a stage for a turn, half of the warps with K of its step and half with V, and finds the next step.
    DEVICE void fill(int turn, int stage) const {
        const TileStep& step = plan.step(turn);
        if (step.is_there()) {
            if (warp_index() == 0) find_step(turn + 1, step.index + 1);
            copy(turn, stage);
        }
        stages.fill(stage);
    }

    // Waits for what the turn takes, and fills the next stage, which no warp reads any more. Whether there is a step.
    DEVICE bool enter() {
        stages.wait_filled(at);
        if (!step().is_there()) return false;
        fill(turn + 1, at.stage == STAGES - 1 ? 0 : at.stage + 1);
        return true;
    }
    // Called by the whole block, before the first turn. What each warp sees is known.
    DEVICE bool begin() {
        stages.begin();
        if (warp_index() == 0) {
            const SeenKeys read = find_tile_steps(plan.rows).read;
            if (lane_index() == 0) plan.read = read;
            sync_warp();  // find_step reads it
            find_step(0, read.steps().first);
        }
        sync_block();  // the first step is known
        if (!step().is_there()) return false;
        fill(0, 0);
        return true;
    }
    DEVICE bool go_on() {
        at.advance();
        ++turn;
        return enter();
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
