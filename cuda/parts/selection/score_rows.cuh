// The rows of compressed keys that selection reads, and their copy to shared memory.
#pragma once

#include "machine/async_copy.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/windows.cuh"
#include "parts/selection/block_list.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/token_columns.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr uint32_t TWO_NANS = 0x7fff7fffu;  // of bf16, and of f16

// log2 of the tokens from one row of K1 to the next, and from one of C.
DEVICE int score_shift(const sala_select_blocks_params& p) {
    static_assert(ScoreTile::BLOCK_ROWS == 4, "a block of keys has four rows of K1");
    return p.lists.block_shift - 2;
}
DEVICE int sum_shift(const sala_select_blocks_params& p) { return p.exact_lse ? score_shift(p) : p.lists.block_shift; }

// Tokens from one row of C to the next.
DEVICE int sum_stride(const sala_select_blocks_params& p) { return 1 << sum_shift(p); }

// The rows that a token needs, and those of all tokens before it.
struct TokenRows {
    int sum_rows;                // [0, sum_rows) of C make m and Z
    int score_begin, score_end;  // [score_begin, score_end) of K1 are scored
};

// `end`: windows that end before it count.
DEVICE TokenRows find_token_rows(const sala_select_blocks_params& p, int position, int end) {
    constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
    const sala_block_lists& lists = p.lists;
    TokenRows rows{0, 0, 0};
    const int visible = full_windows_by_shift(end, score_shift(p));
    const int query_block = find_query_block(lists, position);
    const bool chooses = must_choose(lists, query_block) && wanted_blocks(lists) > 0;
    if (chooses) {
        rows.score_begin = maximum(lists.init_blocks * BLOCK_ROWS - 1, 0);
        rows.score_end = first_local_block(lists, query_block) * BLOCK_ROWS;
    }
    if (p.scores.address != 0) {
        rows.score_begin = 0;
        // One row more: where the last visible row is some 4b − 1, block b has a score from it alone.
        rows.score_end = maximum(rows.score_end, visible > 0 ? visible + 1 : 0);
    }
    if (rows.score_begin < rows.score_end) rows.sum_rows = full_windows_by_shift(end, sum_shift(p));
    return rows;
}

DEVICE TokenRows find_token_rows(const sala_select_blocks_params& p, int position) { return find_token_rows(p, position, position + 1); }

// Rows [begin, end) of K1 or K2, and how they are stored.
struct NeededRows {
    KeyRows rows;
    int begin, end;
};

// Of the ROWS rows of a tile each warp copies as many, one after the other: which a lane copies a vector of, and where to. In
// pass i that is row first + i.
template <int WARPS, int ROWS, int DIM>
struct LaneRows {
    static constexpr int VECTORS = SharedTile<DIM>::VECTORS;
    static constexpr int COUNT = ROWS / WARPS;  // rows of the warp
    static constexpr int PASS_ROWS = WARP_SIZE / VECTORS;
    static_assert(COUNT % 8 == 0 && ScoreTile::TURN % COUNT == 0 && PASS_ROWS <= ScoreTile::BLOCK_ROWS,
                  "to the row of a pass, that of the first one adds without a carry");

    int warp_first;  // the warp's first row
    int first, vector;
    uint32_t first_target;

    DEVICE explicit LaneRows(SharedTile<DIM> tile) {
        warp_first = warp_index() * COUNT;
        first = warp_first + lane_index() / VECTORS;
        vector = lane_index() % VECTORS;
        first_target = tile.address(score_tile_row(first), vector);
    }
    DEVICE uint32_t target(int pass) const { return SharedTile<DIM>::add_rows(first_target, score_tile_row(pass)); }
};

// Which of the rows of a lane's passes are needed, row 0 of the tile being row `first_row`.
struct NeededPasses {
    int before;  // rows before the first that is needed, and how many are
    uint32_t count;

    DEVICE NeededPasses(const NeededRows& needed, int row)
        : before(needed.begin - row), count(static_cast<uint32_t>(maximum(needed.end - needed.begin, 0))) {}
    DEVICE bool has(int pass) const { return static_cast<uint32_t>(pass - before) < count; }
};

template <class Lane>
DEVICE void load_paged_rows(const Lane& lane, const NeededRows& needed, int first_row, uint64_t status) {
    const KeyRows& rows = needed.rows;
    const NeededPasses passes(needed, first_row + lane.first);
    const int begin = maximum(first_row + lane.warp_first, needed.begin);
    const int end = minimum(first_row + lane.warp_first + Lane::COUNT, needed.end);
    const RowPages<WARP_SIZE> pages = look_up_pages<WARP_SIZE>(rows, begin, end);
    const uint32_t bad = ballot(pages.entry == NO_PAGE);
    if (lane_index() == 0) count_refused(status, REFUSED_PAGES, count_bits(bad));
    NO_UNROLL
    for (int pass = 0; pass < Lane::COUNT; pass += Lane::PASS_ROWS) {
        const int row = first_row + lane.first + pass;
        const int page = pages.page(rows, row);
        const bool valid = passes.has(pass);
        if (valid && page == NO_PAGE) {
            store_shared(lane.target(pass), Words4{{TWO_NANS, TWO_NANS, TWO_NANS, TWO_NANS}});
        } else {
            async_copy<16>(lane.target(pass), (valid ? rows.row_in(page, row) : rows.first) + lane.vector * 8, valid);
        }
    }
}

// Starts the copy of the warp's rows, row 0 of the tile being row `first_row`, which may be negative. Rows that are not needed become zero,
// and those of bad pages NaN: scores leave out logits that are NaN, so that such a row is as if it were not there.
template <class Lane>
DEVICE void load_warp_rows(const Lane& lane, const NeededRows& needed, int first_row, uint64_t status) {
    if (needed.rows.paged()) {
        load_paged_rows(lane, needed, first_row, status);
        return;
    }
    const NeededPasses passes(needed, first_row + lane.first);
    RowWalk walk = walk_rows(needed.rows, first_row + lane.first, Lane::PASS_ROWS, lane.vector * 8);
    UNROLL
    for (int pass = 0; pass < Lane::COUNT; pass += Lane::PASS_ROWS) {
        async_copy<16>(lane.target(pass), walk.row(), passes.has(pass));
        walk.go_on();
    }
}

// The same for ROWS rows, by the warps of a block.
template <int WARPS, int ROWS, int DIM>
DEVICE void load_rows(SharedTile<DIM> tile, const NeededRows& needed, int first_row, uint64_t status) {
    load_warp_rows(LaneRows<WARPS, ROWS, DIM>(tile), needed, first_row, status);
}

}  // namespace SALA_VARIANT
}  // namespace sala
