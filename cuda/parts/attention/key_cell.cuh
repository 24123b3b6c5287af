// A cell of 32 keys, the smallest block of keys, as one warp takes it.
#pragma once

#include "machine/async_copy.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/key_rows.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct KeyCell {
    static constexpr int KEYS = AttentionTile::CELL_KEYS;

    int first;                  // its first key
    int keys;                   // so many of its keys are visible; the others are not read
    int whole;                  // where a page has room for a cell: the one that it lies in
    RowPages<WARP_SIZE> pages;  // where pages are smaller
    uint32_t bad;               // bit i: the table names no page for the i-th page of its keys
};

// The cell of keys from `first` on, up to `position`; a negative first key: none. Called by whole warps.
DEVICE KeyCell find_cell(const KeyRows& rows, int first, int position) {
    constexpr int KEYS = KeyCell::KEYS;
    const int keys = first < 0 ? 0 : clamp(position + 1 - first, 0, KEYS);
    const bool is_whole = rows.one_page(KEYS);
    // One entry is enough where the cell lies in one page.
    const int looked_up = is_whole ? minimum(keys, 1) : keys;
    const RowPages<WARP_SIZE> pages = look_up_pages<WARP_SIZE>(rows, first, first + looked_up);
    const uint32_t bad = ballot(pages.entry == NO_PAGE);
    if (!is_whole) return {first, keys, NO_PAGE, pages, bad};
    return {first, bad != 0 ? 0 : keys, maximum(shuffle(pages.entry, 0), 0), pages, bad};
}

// Counts the bad pages of a cell; called by one thread.
DEVICE void count_bad_pages(uint64_t status, const KeyCell& cell) { count_refused(status, REFUSED_PAGES, count_bits(cell.bad)); }

// Starts the copy of ROWS rows of a cell, from `first_row` of it on. Called by whole warps. Keys that are not visible are
// not read and become zero, so that what lies there does not reach O as 0 · NaN.
template <int ROWS, int DIM>
DEVICE void load_cell_rows(SharedTile<DIM> tile, const KeyRows& rows, const KeyCell& cell, int first_row) {
    constexpr int VECTORS = SharedTile<DIM>::VECTORS;
    constexpr int AT_ONCE = WARP_SIZE / VECTORS;  // rows that a warp copies at a time
    const int mine = lane_index() / VECTORS, vector = lane_index() % VECTORS;
    if (rows.one_page(KeyCell::KEYS)) {
        const uint16_t* source = rows.row_in(cell.whole, maximum(cell.first, 0)) + (first_row + mine) * rows.stride + vector * 8;
        UNROLL
        for (int i = 0; i < ROWS / AT_ONCE; ++i) {
            const int row = mine + i * AT_ONCE;
            async_copy<16>(tile.address(row, vector), source, first_row + row < cell.keys);
            source += AT_ONCE * rows.stride;
        }
        return;
    }
    NO_UNROLL
    for (int i = 0; i < ROWS / AT_ONCE; ++i) {
        const int row = mine + i * AT_ONCE, key = cell.first + first_row + row;
        const int page = cell.pages.page(rows, key);
        const bool is_read = first_row + row < cell.keys && page != NO_PAGE;
        async_copy<16>(tile.address(row, vector), (is_read ? rows.row_in(page, key) : rows.first) + vector * 8, is_read);
    }
}

// Hides the keys of a cell that are not visible.
DEVICE void hide_keys(Accumulator<KeyCell::KEYS>& scores, const KeyRows& rows, const KeyCell& cell) {
    if (cell.keys == KeyCell::KEYS && cell.bad == 0) return;
    UNROLL
    for (int j = 0; j < KeyCell::KEYS / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int key = accumulator_col(j, e);
            // Pages larger than a cell: all keys of a bad one are hidden already.
            const bool is_bad = cell.bad >> (rows.page_of(cell.first + key) - rows.page_of(cell.first)) & 1;
            if (key >= cell.keys || is_bad) scores.values[j][e] = -INFINITE;
        }
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
