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
    uint32_t visible;           // bit i: key first + i is; the others are not read
    bool is_whole;              // it lies in one page
    int whole;                  // which one, if it does
    RowPages<WARP_SIZE> pages;  // those that it lies in, if it does not
    uint32_t bad;               // a bit for each page that the table does not name
};

// Which keys of a cell from `first` on lie before `end`; a negative first key: none.
DEVICE uint32_t keys_before(int first, int end) {
    constexpr int KEYS = KeyCell::KEYS;
    const int keys = first < 0 ? 0 : clamp(end - first, 0, KEYS);
    return keys == KEYS ? ~0u : (1u << keys) - 1;
}

// Which keys of a cell lie at `first_visible` or after it.
DEVICE uint32_t keys_from(int first, int first_visible) {
    const int hidden = clamp(first_visible - first, 0, KeyCell::KEYS);
    return hidden == KeyCell::KEYS ? 0 : ~0u << hidden;
}

// The cell of the visible keys from `first` on, which is a multiple of its size if the cell is aligned. Called by whole
// warps.
DEVICE KeyCell find_cell(const KeyRows& rows, int first, uint32_t visible, bool is_aligned) {
    constexpr int KEYS = KeyCell::KEYS;
    static_assert(KEYS == WARP_SIZE, "a lane has a key");
    const bool is_whole = is_aligned && rows.one_page(KEYS);
    const int keys = KEYS - count_leading_zeros(visible);
    // One entry is enough where the cell lies in one page.
    const int hidden = is_whole ? 0 : maximum(find_first_set(visible) - 1, 0);
    const RowPages<WARP_SIZE> pages = look_up_pages<WARP_SIZE>(rows, first + hidden, first + (is_whole ? minimum(keys, 1) : keys));
    const uint32_t bad = ballot(pages.entry == NO_PAGE);
    if (is_whole) return {first, bad != 0 ? 0 : visible, true, maximum(shuffle(pages.entry, 0), 0), pages, bad};
    const uint32_t missing = visible & ballot(pages.page(rows, first + lane_index()) == NO_PAGE);
    // Not all pages between the keys of a cell that is not aligned are asked for.
    return {first, visible & ~missing, false, NO_PAGE, pages, is_aligned ? bad : missing};
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
    const auto is_visible = [&](int row) { return (cell.visible >> row & 1) != 0; };
    if (cell.is_whole) {
        const uint16_t* source = rows.row_in(cell.whole, maximum(cell.first, 0)) + (first_row + mine) * rows.stride + vector * 8;
        UNROLL
        for (int i = 0; i < ROWS / AT_ONCE; ++i) {
            const int row = mine + i * AT_ONCE;
            async_copy<16>(tile.address(row, vector), source, is_visible(first_row + row));
            source += AT_ONCE * rows.stride;
        }
        return;
    }
    NO_UNROLL
    for (int i = 0; i < ROWS / AT_ONCE; ++i) {
        const int row = mine + i * AT_ONCE, key = cell.first + first_row + row;
        const int page = cell.pages.page(rows, key);
        const bool is_read = is_visible(first_row + row);
        async_copy<16>(tile.address(row, vector), (is_read ? rows.row_in(page, key) : rows.first) + vector * 8, is_read);
    }
}

// Hides the keys of a cell that are not visible.
DEVICE void hide_keys(Accumulator<KeyCell::KEYS>& scores, const KeyCell& cell) {
    if (cell.visible == ~0u) return;
    UNROLL
    for (int j = 0; j < KeyCell::KEYS / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            if ((cell.visible >> accumulator_col(j, e) & 1) == 0) scores.values[j][e] = -INFINITE;
        }
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
