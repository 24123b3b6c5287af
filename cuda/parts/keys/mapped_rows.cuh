// Where the rows of keys and values lie for tensor copies: find_key_rows for maps.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "params/keys.h"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Where the rows of one sequence and head lie in the map of the tensor, whose axes are columns, heads, rows and stores, that is
// caches or pages: row t of a sequence in a page is first_row + (t mod the rows of a page), of store `page`.
struct MappedRows {
    int head;
    int first_row;
    int store;  // without pages
};

DEVICE MappedRows find_mapped_rows(const sala_key_rows& tensor, const KeyRange& range, int sequence, int head) {
    if (tensor.page_table != 0) return {head, 0, 0};
    if (tensor.store_stride == 0) return {head, static_cast<int>(range.first_token), 0};
    return {head, 0, tensor.by_sequence ? sequence : maximum(range.cache, 0)};
}

}  // namespace SALA_VARIANT
}  // namespace sala
