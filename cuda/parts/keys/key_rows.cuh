// Where the rows of keys, values and compressed keys lie. This is the only place that knows: kernels ask for
// a row by its index in the sequence, and do no arithmetic on the addresses of rows.
#pragma once

#include "machine/machine.cuh"
#include "params/keys.h"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The rows of one sequence and head, of 16-bit elements.
struct KeyRows {
    uint16_t* first;
    int64_t stride;

    DEVICE uint16_t* row(int64_t index) const { return first + index * stride; }

    // The rows from `index` on, for the loops that take a step of neighbouring rows: what depends on the step
    // alone is computed once for all its rows.
    DEVICE KeyRows from(int64_t index) const { return {row(index), stride}; }
};

// `tokens_per_row` is 1 for keys and values, and for compressed keys the number of tokens from one window to
// the next: packed rows of a sequence begin at its first token divided by it.
DEVICE KeyRows find_key_rows(const sala_key_rows& tensor, const KeyRange& range, int sequence, int head, int tokens_per_row) {
    const int64_t first_row = range.first_token / tokens_per_row;
    const int64_t first = sequence * tensor.store_stride + first_row * tensor.row_stride + head * tensor.head_stride;
    return {reinterpret_cast<uint16_t*>(tensor.address) + first, tensor.row_stride};
}

}  // namespace SALA_VARIANT
}  // namespace sala
