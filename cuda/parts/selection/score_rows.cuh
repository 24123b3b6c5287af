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

// Which of ROWS rows, from row `first_row` on, a lane copies a vector of, and where to: in pass i row first + i. Each warp
// copies as many rows.
template <int WARPS, int ROWS, int DIM>
struct LaneRows {
    static constexpr int VECTORS = SharedTile<DIM>::VECTORS;
    static constexpr int WARP_ROWS = ROWS / WARPS;
    static constexpr int PASS_ROWS = WARP_SIZE / VECTORS;
    static_assert(WARP_ROWS % 8 == 0 && ScoreTile::TURN % WARP_ROWS == 0 && PASS_ROWS <= ScoreTile::BLOCK_ROWS,
                  "to the row of a pass, that of the first one adds without a carry");

    int first, vector;
    uint32_t first_target;
    int before;  // rows before the first that is needed, and how many are
    uint32_t count;

    DEVICE LaneRows(SharedTile<DIM> tile, const NeededRows& needed, int first_row) {
        first = warp_index() * WARP_ROWS + lane_index() / VECTORS;
        vector = lane_index() % VECTORS;
        first_target = tile.address(score_tile_row(first), vector);
        before = needed.begin - (first_row + first);
        count = static_cast<uint32_t>(maximum(needed.end - needed.begin, 0));
    }
    DEVICE uint32_t target(int pass) const { return SharedTile<DIM>::add_rows(first_target, score_tile_row(pass)); }
    DEVICE bool is_needed(int pass) const { return static_cast<uint32_t>(pass - before) < count; }
};

template <int WARPS, int ROWS, int DIM>
DEVICE void load_paged_rows(const LaneRows<WARPS, ROWS, DIM>& lane, const NeededRows& needed, int first_row, uint64_t status) {
    using Lane = LaneRows<WARPS, ROWS, DIM>;
    const KeyRows& rows = needed.rows;
    const int begin = maximum(first_row + warp_index() * Lane::WARP_ROWS, needed.begin);
    const int end = minimum(first_row + (warp_index() + 1) * Lane::WARP_ROWS, needed.end);
    const RowPages<WARP_SIZE> pages = look_up_pages<WARP_SIZE>(rows, begin, end);
    const uint32_t bad = ballot(pages.entry == NO_PAGE);
    if (lane_index() == 0) count_refused(status, REFUSED_PAGES, count_bits(bad));
    NO_UNROLL
    for (int pass = 0; pass < Lane::WARP_ROWS; pass += Lane::PASS_ROWS) {
        const int row = first_row + lane.first + pass;
        const int page = pages.page(rows, row);
        const bool valid = lane.is_needed(pass);
        if (valid && page == NO_PAGE) {
            store_shared(lane.target(pass), Words4{{TWO_NANS, TWO_NANS, TWO_NANS, TWO_NANS}});
        } else {
            async_copy<16>(lane.target(pass), (valid ? rows.row_in(page, row) : rows.first) + lane.vector * 8, valid);
        }
    }
}

// Starts the copy of ROWS rows from row `first_row` on, which may be negative. Rows that are not needed become zero, and those of bad
// pages NaN: scores leave out logits that are NaN, so that such a row is as if it were not there.
template <int WARPS, int ROWS, int DIM>
DEVICE void load_rows(SharedTile<DIM> tile, const NeededRows& needed, int first_row, uint64_t status) {
    using Lane = LaneRows<WARPS, ROWS, DIM>;
    const Lane lane(tile, needed, first_row);
    if (needed.rows.paged()) {
        load_paged_rows(lane, needed, first_row, status);
        return;
    }
    RowWalk walk = walk_rows(needed.rows, first_row + lane.first, Lane::PASS_ROWS, lane.vector * 8);
    UNROLL
    for (int pass = 0; pass < Lane::WARP_ROWS; pass += Lane::PASS_ROWS) {
        async_copy<16>(lane.target(pass), walk.row(), lane.is_needed(pass));
        walk.go_on();
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
