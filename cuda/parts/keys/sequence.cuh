// Where one sequence of a ragged batch lies in q and in the keys, checked against what the host knows, and
// whether it is attended densely.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/keys.h"
#include "params/sequences.h"
#include "parts/keys/rows.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int NO_CACHE = -1;  // what cache_index says of padding

// The keys of one sequence.
struct KeyRange {
    int64_t first_token;  // index in packed keys; 0 elsewhere
    int count;
    int cache;        // where each sequence has one; NO_CACHE: it has none, and no keys
    Refusal refusal;  // the range does not fit the tensor, or is longer than the caller said, or there is no such cache
};

DEVICE KeyRange refuse_keys(Refusal refusal) { return {0, 0, 0, refusal}; }

// Whether the range of sequence `index` fits `total` elements. A list of bounds that does not begin at 0 spoils
// its first sequence.
DEVICE bool bounds_fit(int64_t begin, int64_t end, int64_t total, int index) {
    return 0 <= begin && begin <= end && end <= total && (index != 0 || begin == 0);
}

DEVICE KeyRange find_keys(const sala_keys& keys, int index) {
    const bool packed = keys.cu_seqlens != 0;
    const int64_t begin = packed ? load_global(entry_of<const int>(keys.cu_seqlens, index)) : 0;
    const int64_t end = load_global(packed ? entry_of<const int>(keys.cu_seqlens, index + 1) : entry_of<const int>(keys.seqlens, index));
    const int cache = keys.cache_index != 0 ? load_global(entry_of<const int>(keys.cache_index, index)) : index;
    if (!bounds_fit(begin, end, keys.capacity, index) || end - begin > keys.max_seqlen) return refuse_keys(REFUSED_LENGTHS);
    if (cache == NO_CACHE) return {0, 0, NO_CACHE, REFUSED_NOTHING};
    if (keys.cache_index != 0 && (cache < 0 || cache >= keys.caches)) return refuse_keys(REFUSED_SLOTS);
    return {begin, static_cast<int>(end - begin), cache, REFUSED_NOTHING};
}

struct SequenceRange {
    KeyRange keys;
    int64_t first_query;  // row in q
    int queries;          // of a refused sequence too, if its rows are rows of q
    bool dense;           // attends to all its keys; has no lists
    Refusal refusal;      // lengths that do not fit the tensors or what the caller said; there are no keys then

    // Position of query `row`: queries are the last tokens of the sequence. Negative where there are more
    // queries than keys.
    DEVICE int position(int row) const { return row + keys.count - queries; }
};

// All that says of the sequence is asked for at once: each wait is one that a decode step has in full.
DEVICE SequenceRange find_sequence(const sala_sequences& s, int index) {
    const int64_t begin = load_global(entry_of<const int>(s.cu_seqlens_q, index));
    const int64_t end = load_global(entry_of<const int>(s.cu_seqlens_q, index + 1));
    const int given_len = s.switch_len != 0 ? load_global(entry_of<const int>(s.switch_len, index)) : 0;
    const KeyRange found = find_keys(s.keys, index);
    if (!bounds_fit(begin, end, s.total_q, index)) return {refuse_keys(REFUSED_LENGTHS), 0, 0, false, REFUSED_LENGTHS};
    const int queries = static_cast<int>(end - begin);
    const KeyRange keys = queries <= s.max_seqlen_q ? found : refuse_keys(REFUSED_LENGTHS);
    if (keys.refusal != REFUSED_NOTHING) return {keys, begin, queries, false, keys.refusal};
    const int switch_len = s.switch_len != 0 ? given_len : keys.count;
    return {keys, begin, queries, maximum(switch_len, 0) < s.dense_len, REFUSED_NOTHING};
}

}  // namespace SALA_VARIANT
}  // namespace sala
