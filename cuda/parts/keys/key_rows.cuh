// Where the rows of keys, values and compressed keys lie. This is the only place that knows: kernels ask for
// rows by their index in the sequence, and do no arithmetic on the addresses of rows.
//
//     row t          row (t + first_row) & (rows of a page − 1) of the sequence's page n = (t + first_row) >> page_shift
//     its address    first + table[n] · page_stride + …       an entry that names no page: the row is as if it were not there
//
// A packed sequence and a cache are one page, of number 0, and there is no table to ask. The lanes of a warp, or of
// a part of it, ask together: each looks up one page of the rows that they are about to move, and a shuffle brings
// a row's page to the lanes that move the row.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/keys.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The rows of one sequence and head, of 16-bit elements.
struct KeyRows {
    uint16_t* first;      // row 0 of page 0
    int64_t stride;       // from one row to the next
    const int* table;     // the pages of the sequence; null: it has page 0 alone
    int64_t page_stride;  // from one page to the next
    int pages, page_shift, first_row;

    DEVICE bool paged() const { return table != nullptr; }
    // Whether `count` rows, a power of two, from a multiple of it on, lie in one page.
    DEVICE bool one_page(int count) const { return first_row == 0 && (1u << page_shift) >= static_cast<uint32_t>(count); }
    // Which page of the sequence a row is in, and where it lies in the page that the table names for it.
    DEVICE int page_of(int index) const { return (index + first_row) >> page_shift; }
    DEVICE uint16_t* row_in(int page, int index) const {
        const int in_page = (index + first_row) & static_cast<int>((1u << page_shift) - 1);
        return first + page * page_stride + in_page * stride;
    }
};

// Walks down rows of page 0 by additions. It may start before the first row and end behind the last one, as long as nothing
// is read there.
struct RowWalk {
    uint64_t address;  // of the row
    uint64_t step;     // bytes from one row of the walk to the next

    DEVICE const uint16_t* row() const { return reinterpret_cast<const uint16_t*>(address); }
    DEVICE void go_on() { address += step; }
};

// From row `index` on, `apart` rows from one to the next, each from its element `element` on.
DEVICE RowWalk walk_rows(const KeyRows& rows, int index, int apart, int element) {
    const auto bytes = static_cast<uint64_t>(rows.stride) * sizeof(uint16_t);
    const auto from_first = static_cast<uint64_t>(static_cast<int64_t>(index)) * bytes + static_cast<uint32_t>(element) * sizeof(uint16_t);
    return {reinterpret_cast<uint64_t>(rows.first) + from_first, static_cast<uint32_t>(apart) * bytes};
}

// `tokens_per_row` is 1 for keys and values, and for compressed keys the number of tokens from one window to
// the next: packed rows of a sequence begin at its first token divided by it.
DEVICE KeyRows find_key_rows(const sala_key_rows& tensor, const KeyRange& range, int sequence, int head, int tokens_per_row) {
    auto* first = reinterpret_cast<uint16_t*>(tensor.address) + head * tensor.head_stride;
    if (tensor.page_table != 0) {
        const int* table = entry_of<const int>(tensor.page_table, sequence * tensor.table_stride);
        return {first, tensor.row_stride, table, tensor.store_stride, tensor.pages, tensor.page_shift, tensor.first_row};
    }
    const int64_t cache = tensor.by_sequence ? sequence : maximum(range.cache, 0);
    const int64_t first_row = tensor.store_stride == 0 ? range.first_token / tokens_per_row : 0;
    return {first + cache * tensor.store_stride + first_row * tensor.row_stride, tensor.row_stride, nullptr, 0, 1, SALA_ONE_PAGE, 0};
}

constexpr int NO_PAGE = -1;

// The pages of neighbouring rows: lane l of LANES holds what the table has for page `first` + l.
template <int LANES>
struct RowPages {
    int first;
    int entry;  // NO_PAGE where the table names none

    // The page of a row, on every lane of a warp at once; lanes may ask for different ones. What lanes get for
    // rows that were not looked up means nothing.
    DEVICE int page(const KeyRows& rows, int index) const {
        const int lane = (rows.page_of(index) - first) & (LANES - 1);
        return shuffle(entry, lane_index() / LANES * LANES + lane);
    }
};

// Looks up the pages of rows [begin, end), which are at most LANES, or lie in one page.
// Called by whole warps, of which each LANES lanes have rows of their own.
template <int LANES>
DEVICE RowPages<LANES> look_up_pages(const KeyRows& rows, int begin, int end) {
    const int first = rows.page_of(begin);
    const int mine = first + lane_index() % LANES;
    int entry = 0;
    if (rows.paged() && begin < end && mine <= rows.page_of(end - 1)) {
        entry = load_global_constant(rows.table + mine);
        if (entry < 0 || entry >= rows.pages) entry = NO_PAGE;
    }
    return {first, entry};
}

// Whether the table names a page for each of rows [begin, end). Called by whole warps, of which each LANES lanes
// have rows of their own.
template <int LANES>
DEVICE bool have_pages(const KeyRows& rows, int begin, int end) {
    bool good = true;
    if (rows.paged() && begin < end) {
        for (int page = rows.page_of(begin) + lane_index() % LANES; page <= rows.page_of(end - 1); page += LANES) {
            const int entry = load_global_constant(rows.table + page);
            good = good && 0 <= entry && entry < rows.pages;
        }
    }
    const uint32_t bad = ballot(!good);
    return (bad >> (lane_index() / LANES * LANES) & static_cast<uint32_t>((uint64_t{1} << LANES) - 1)) == 0;
}

}  // namespace SALA_VARIANT
}  // namespace sala
