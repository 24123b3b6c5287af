// Where one sequence of a ragged batch lies in q and in the keys, checked against what the host knows.
#pragma once

#include "../../include/kernel_params.h"
#include "machine.cuh"
#include "memory.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The keys of one sequence: packed ones cut by `cu_seqlens_k`, or the first `seqlens_k[index]` of a cache.
struct KeyRange {
    int64_t first_key;  // token in packed keys; 0 in a cache, where the batch index selects the sequence
    int keys;
    bool valid;  // false: the range does not fit the tensor, or is longer than `longest`
};

DEVICE KeyRange find_keys(uint64_t cu_seqlens_k, uint64_t seqlens_k, int index, int64_t capacity, int longest) {
    const int* cu = reinterpret_cast<const int*>(cu_seqlens_k);
    const int64_t begin = cu != nullptr ? load_global(cu + index) : 0;
    const int64_t end = load_global(cu != nullptr ? cu + index + 1 : reinterpret_cast<const int*>(seqlens_k) + index);
    if (begin < 0 || begin > end || end > capacity || end - begin > longest) return {0, 0, false};
    return {begin, static_cast<int>(end - begin), true};
}

struct SequenceRange {
    int64_t first_query;  // row in q
    int64_t first_key;    // as KeyRange has it
    int queries, keys;
    int switch_len;  // compared with dense_len
    bool valid;      // false: lengths that do not fit the tensors or the hints; the sequence is refused

    // Position of query `row`: queries are the last tokens of the sequence. Negative where there are more queries than keys.
    DEVICE int position(int row) const { return row + keys - queries; }
};

DEVICE SequenceRange find_sequence(const sala_sequences& s, int index) {
    const int* cu_q = reinterpret_cast<const int*>(s.cu_seqlens_q);
    const int64_t begin = load_global(cu_q + index);
    const int64_t end = load_global(cu_q + index + 1);
    const KeyRange keys = find_keys(s.cu_seqlens_k, s.seqlens_k, index, s.capacity_k, s.max_seqlen_k);
    const bool in_bounds = 0 <= begin && begin <= end && end <= s.total_q && end - begin <= s.max_seqlen_q;
    if (!in_bounds || !keys.valid) return {0, 0, 0, 0, 0, false};
    const int switch_len = s.switch_len != 0 ? load_global(reinterpret_cast<const int*>(s.switch_len) + index) : keys.keys;
    return {begin, keys.first_key, static_cast<int>(end - begin), keys.keys, switch_len, true};
}

}  // namespace SALA_VARIANT
}  // namespace sala
