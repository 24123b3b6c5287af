// Where one sequence of a ragged batch lies in q and in the keys, checked against what the host knows, and
// whether it is attended densely.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/keys.h"
#include "params/sequences.h"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The keys of one sequence.
struct KeyRange {
    int64_t first_token;  // index in packed keys; 0 in caches, where the index of the sequence selects the cache
    int count;
    bool valid;  // false: the range does not fit the tensor, or is longer than the caller said; the sequence is refused
};

// Whether the range of sequence `index` fits `total` elements. A list of bounds that does not begin at 0 spoils
// its first sequence.
DEVICE bool bounds_fit(int64_t begin, int64_t end, int64_t total, int index) {
    return 0 <= begin && begin <= end && end <= total && (index != 0 || begin == 0);
}

DEVICE KeyRange find_keys(const sala_keys& keys, int index) {
    const bool packed = keys.cu_seqlens != 0;
    const int64_t begin = packed ? load_global(entry_of<const int>(keys.cu_seqlens, index)) : 0;
    const int64_t end = load_global(packed ? entry_of<const int>(keys.cu_seqlens, index + 1) : entry_of<const int>(keys.seqlens, index));
    if (!bounds_fit(begin, end, keys.capacity, index) || end - begin > keys.max_seqlen) return {0, 0, false};
    return {begin, static_cast<int>(end - begin), true};
}

struct SequenceRange {
    KeyRange keys;
    int64_t first_query;  // row in q
    int queries;
    bool dense;  // attends to all its keys; has no lists
    bool valid;  // false: lengths that do not fit the tensors or what the caller said; the sequence is refused

    // Position of query `row`: queries are the last tokens of the sequence. Negative where there are more
    // queries than keys.
    DEVICE int position(int row) const { return row + keys.count - queries; }
};

DEVICE SequenceRange find_sequence(const sala_sequences& s, int index) {
    const int64_t begin = load_global(entry_of<const int>(s.cu_seqlens_q, index));
    const int64_t end = load_global(entry_of<const int>(s.cu_seqlens_q, index + 1));
    const KeyRange keys = find_keys(s.keys, index);
    const bool in_bounds = bounds_fit(begin, end, s.total_q, index) && end - begin <= s.max_seqlen_q;
    if (!in_bounds || !keys.valid) return {{0, 0, false}, 0, 0, false, false};
    const int switch_len = s.switch_len != 0 ? load_global(entry_of<const int>(s.switch_len, index)) : keys.count;
    return {keys, begin, static_cast<int>(end - begin), maximum(switch_len, 0) < s.dense_len, true};
}

}  // namespace SALA_VARIANT
}  // namespace sala
