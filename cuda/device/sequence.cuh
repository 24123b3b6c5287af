// Where one sequence of a ragged batch lies in q and in the keys, checked against what the host knows.
#pragma once

#include "../../include/kernel_params.h"
#include "machine.cuh"
#include "memory.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct SequenceRange {
    int64_t first_query;  // row in q
    int64_t first_key;    // token in packed keys; 0 in a cache, where the batch index selects the sequence
    int queries, keys;
    int switch_len;  // compared with dense_len
    bool valid;      // false: lengths that do not fit the tensors or the hints; the sequence is refused

    // Position of query `row`: queries are the last tokens of the sequence. Negative where there are more queries than keys.
    DEVICE int position(int row) const { return row + keys - queries; }
};

DEVICE SequenceRange find_sequence(const sala_sequences& s, int index) {
    const int* cu_q = reinterpret_cast<const int*>(s.cu_seqlens_q);
    const int* cu_k = reinterpret_cast<const int*>(s.cu_seqlens_k);
    const int64_t begin_q = load_global(cu_q + index);
    const int64_t end_q = load_global(cu_q + index + 1);
    const int64_t begin_k = cu_k != nullptr ? load_global(cu_k + index) : 0;
    const int64_t end_k = cu_k != nullptr ? load_global(cu_k + index + 1) : load_global(reinterpret_cast<const int*>(s.seqlens_k) + index);
    const bool in_bounds =
        0 <= begin_q && begin_q <= end_q && end_q <= s.total_q && 0 <= begin_k && begin_k <= end_k && end_k <= s.capacity_k;
    if (!in_bounds || end_q - begin_q > s.max_seqlen_q || end_k - begin_k > s.max_seqlen_k) return {0, 0, 0, 0, 0, false};
    const int keys = static_cast<int>(end_k - begin_k);
    const int switch_len = s.switch_len != 0 ? load_global(reinterpret_cast<const int*>(s.switch_len) + index) : keys;
    return {begin_q, begin_k, static_cast<int>(end_q - begin_q), keys, switch_len, true};
}

}  // namespace SALA_VARIANT
}  // namespace sala
