// A ring of steps of keys and values in shared memory, which a warp fills for two warpgroups that multiply.
//
// Entry n of a list passes through stage n mod STAGES, K and V apart from each other. A group takes its own turns of the list
// (parts/attention/group_turns.cuh), and those of the other cost it nothing:
//
//     landed, for each set of readers     a half is there: group 0 waits for those of {0} and of {0, 1}, group 1 for those of
//                                         {1} and of {0, 1}; so each waits for every phase of what it waits for at all
//     read, one barrier                   both groups have read a half; for one that does not want it the warp that fills
//                                         arrives, before it does
//
// A step whose keys are all read comes by tensor copies, of the whole step or of a page each. Of any other the keys that are not
// read must become zero, so that what lies there does not reach O as 0 · NaN: the warp copies row by row, and waits for it.
#pragma once

#include "machine/async_copy.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/mbarrier.cuh"
#include "machine/tensor_copy.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/group_turns.cuh"
#include "parts/attention/key_ring.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/step_list.cuh"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/mapped_rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

template <int DIM>
struct GroupRing {
    static constexpr int STEP = AttentionTile::STEP;
    using Tile = PanelTile<STEP, DIM>;
    static constexpr int STAGES = SALA_GROUP_ATTENTION_RING_BYTES / static_cast<int>(2 * Tile::BYTES);
    static constexpr int READER_SETS = 3;

    struct Barriers {
        uint64_t landed[STAGES][2][READER_SETS];
        uint64_t read[STAGES][2];
    };

    uint32_t halves, barriers;  // shared addresses

    DEVICE Tile tile(int stage, StageHalf half) const { return {halves + static_cast<uint32_t>(2 * stage + half) * Tile::BYTES}; }
    DEVICE uint32_t landed(int stage, StageHalf half, uint32_t readers) const {
        return barriers + (static_cast<uint32_t>((2 * stage + half) * READER_SETS) + readers - 1) * 8;
    }
    DEVICE uint32_t read(int stage, StageHalf half) const { return landed(STAGES, KEY, 1) + static_cast<uint32_t>(2 * stage + half) * 8; }

    // Called by all threads of the block; a barrier belongs after it.
    DEVICE void begin() const {
        constexpr int LANDED = 2 * STAGES * READER_SETS;
        for (int i = thread_index(); i < LANDED + 2 * STAGES; i += block_threads()) {
            init_mbarrier(barriers + static_cast<uint32_t>(8 * i), i < LANDED ? 1 : ATTENTION_WARPS);
        }
        publish_shared_writes();
    }
};

// The warp that fills the ring. Everything here is called by all of its lanes.
template <int DIM>
struct RingFiller {
    using Ring = GroupRing<DIM>;
    using Tile = typename Ring::Tile;
    static constexpr int STEP = AttentionTile::STEP;
    static constexpr int PANELS = DIM / 64;

    const sala_sparse_attention_group_params& p;
    Ring ring;
    MappedRows mapped[2];  // keys and values

    DEVICE const sala_tensor_map& map(StageHalf half) const { return half == KEY ? p.k_map : p.v_map; }

    // Starts the copies of a box, by one lane.
    DEVICE void copy_box(const Tile& tile, StageHalf half, int tile_row, int row, int store, uint32_t landed) const {
        UNROLL
        for (int panel = 0; panel < PANELS; ++panel) {
            const uint32_t target = tile.panel(panel).base + static_cast<uint32_t>(tile_row * SharedTile<64>::ROW_BYTES);
            start_tensor_copy(target, map(half), {64 * panel, mapped[half].head, row, store}, landed);
        }
    }

    // A step that lies in one page.
    DEVICE void copy_whole(int stage, StageHalf half, const KeyRows& rows, int step, int page, uint32_t landed) const {
        const int in_page = rows.paged() ? step * STEP & static_cast<int>((1u << rows.page_shift) - 1) : step * STEP;
        const auto row = static_cast<int>(uniform(static_cast<uint32_t>(mapped[half].first_row + in_page)));
        const auto store = static_cast<int>(uniform(static_cast<uint32_t>(rows.paged() ? page : mapped[half].store)));
        if (!elect_lane()) return;
        arrive_mbarrier_expecting(landed, Tile::BYTES);
        copy_box(ring.tile(stage, half), half, 0, row, store, landed);
    }

    // A step that lies in pages of fewer keys, a lane for each: page_of(row of the step), which lanes ask for cell by cell.
    template <class PageOf>
    DEVICE void copy_pages(int stage, StageHalf half, const KeyRows& rows, const PageOf& page_of, uint32_t landed) const {
        if (elect_lane()) arrive_mbarrier_expecting(landed, Tile::BYTES);  // bytes may land before they are announced
        UNROLL
        for (int cell = 0; cell < AttentionTile::STEP_CELLS; ++cell) {
            const int in_cell = lane_index() << rows.page_shift;
            const bool mine = in_cell < AttentionTile::CELL_KEYS;
            const int row = cell * AttentionTile::CELL_KEYS + (mine ? in_cell : 0), page = page_of(row);
            if (mine) copy_box(ring.tile(stage, half), half, row, 0, page, landed);
        }
    }

    // Any step, row by row: page_of(row) as above, and is_read(row, page). What is not read becomes zero.
    template <class PageOf, class IsRead>
    DEVICE void copy_rows(int stage, StageHalf half, const KeyRows& rows, int step, const PageOf& page_of, const IsRead& is_read) const {
        constexpr int VECTORS = DIM / 8;
        const Tile tile = ring.tile(stage, half);
        const int vector = lane_index() % VECTORS;
        NO_UNROLL
        for (int row = lane_index() / VECTORS; row < STEP; row += WARP_SIZE / VECTORS) {
            const int page = page_of(row);
            const bool read = is_read(row, page);
            async_copy<16>(tile.address(row, vector), (read ? rows.row_in(page, step * STEP + row) : rows.first) + vector * 8, read);
        }
    }

    // Waits until the n-th entry's place for a half is free. For a group that does not read it, it has been read.
    DEVICE void wait_free(int n, StageHalf half, uint32_t readers) const {
        const int stage = n % Ring::STAGES, round = n / Ring::STAGES;
        if (round > 0) wait_mbarrier(ring.read(stage, half), static_cast<uint32_t>((round - 1) & 1));
        if (readers != ALL_READERS && lane_index() == 0) arrive_mbarrier_for(ring.read(stage, half), GROUP_WARPS);
    }

    // Fills K, then V, as soon as they are free: fill(half, the barrier that counts what lands).
    template <class Fill>
    DEVICE void for_halves(int n, uint32_t readers, Fill fill) const {
        wait_free(n, KEY, readers);
        fill(KEY, ring.landed(n % Ring::STAGES, KEY, readers));
        wait_free(n, VALUE, readers);
        fill(VALUE, ring.landed(n % Ring::STAGES, VALUE, readers));
    }

    // Waits for what was copied row by row, into both halves of a stage, and hands it over.
    DEVICE void hand_over_rows(int stage, uint32_t readers) const {
        async_copy_commit();
        async_copy_wait<0>();
        publish_shared_writes();
        sync_warp();  // what all lanes have published comes before the arrivals
        if (lane_index() == 0) {
            arrive_mbarrier(ring.landed(stage, KEY, readers));
            arrive_mbarrier(ring.landed(stage, VALUE, readers));
        }
    }

    // Fills both halves of a place with the list's entry `at`, the n-th of the ring.
    template <int BYTES>
    DEVICE void fill_stage(StepList<BYTES>& list, int at, int n) const {
        const int stage = n % Ring::STAGES, last_position = list.shape.last_position;
        const StepEntry entry{uniform(list.entries()[at])};
        const uint32_t readers = readers_of(StepMarks{static_cast<uint16_t>(uniform(list.marks()[at]))});
        const KeyStep step = entry.keys();
        const bool is_mapped = p.is_mapped != 0;
        if (is_mapped && entry.is_whole()) {
            const int page = list.pages()[at];
            for_halves(n, readers,
                       [&](StageHalf half, uint32_t landed) { copy_whole(stage, half, list.shape.rows[half], step.index, page, landed); });
            return;
        }
        const StepPages pages = look_up_step(list.shape.rows[KEY], step, last_position);
        const bool all_read = step.cells == AttentionTile::WHOLE_STEP && step.first_key(0) + STEP - 1 <= last_position && pages.all_good();
        if (is_mapped && all_read) {
            for_halves(n, readers, [&](StageHalf half, uint32_t landed) {
                const KeyRows& rows = list.shape.rows[half];
                copy_pages(stage, half, rows, [&](int row) { return pages.page(rows, step, row); }, landed);
            });
            return;
        }
        for_halves(n, readers, [&](StageHalf half, uint32_t) {
            const KeyRows& rows = list.shape.rows[half];
            const bool in_one_page = rows.one_page(STEP);
            copy_rows(
                stage, half, rows, step.index, [&](int row) { return in_one_page ? pages.whole : pages.page(rows, step, row); },
                [&](int row, int page) {
                    const bool listed = (step.cells >> (row / AttentionTile::CELL_KEYS) & 1) != 0;
                    return listed && step.first_key(0) + row <= last_position && page != NO_PAGE;
                });
        });
        hand_over_rows(stage, readers);
    }

    // Passes a list through the ring, `passed` entries of which lie behind.
    template <int BYTES>
    DEVICE void pass(StepList<BYTES>& list, int passed) const {
        const int count = static_cast<int>(list.count);
        NO_UNROLL
        for (int at = 0; at < count; ++at) fill_stage(list, at, passed + at);
    }
};

// Of a tile's keys and values.
template <int DIM>
DEVICE RingFiller<DIM> find_filler(const sala_sparse_attention_group_params& p, const GroupRing<DIM>& ring, const QueryTile& tile) {
    const auto find = [&](const sala_key_rows& tensor) {
        return find_mapped_rows(tensor, tile.sequence.keys, block_index_z(), tile.head_kv);
    };
    return {p, ring, {find(p.attention.k), find(p.attention.v)}};
}

}  // namespace SALA_VARIANT
}  // namespace sala
