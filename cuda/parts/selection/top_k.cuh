// The `wanted` best of a stream of scores, for one list that a warp fills.
//
// A score and its index make one 64-bit rank: the score's bits, mapped so that unsigned order is the order of
// numbers, above the inverted index. Higher ranks are better, no two are equal, and of equal scores the lower
// index wins; so the result does not depend on the order of arrival. Ranks at or above a floor enter a queue
// in shared memory. When a batch would not fit, the queue is cut back to its best `wanted` entries and the
// floor rises to a value that only those reach. So an entry is dropped only if `wanted` others beat it:
//
//     queue    |■■■■■■■ wanted ■■■■■■■|□□□□ newer □□□□|······|      full:   floor ↑,  |■■■■■■■ wanted ■■■■■■■|················|
//
// The floor is found bit by bit from the highest bit in which ranks differ, and the search ends as soon as a
// prefix splits the queue at `wanted`: about ten steps for scores without ties, and never more than 64. With
// N scores in random order a queue of capacity c is cut about wanted / (c − wanted) · ln(N / wanted) times,
// so that a long sequence costs little more than a short one. Dropped: sorted lists with bitonic merges (310
// instructions for 32 entries, at every batch that holds a single candidate).
#pragma once

#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/block_lists.h"

namespace sala {
inline namespace SALA_VARIANT {

// Unsigned numbers in the order of scores. −0 equals 0, and NaN counts as −∞.
DEVICE uint32_t order_of(float score) {
    constexpr uint32_t SIGN = 0x80000000u;
    const uint32_t bits = float_bits(maximum(score, -INFINITE) + 0.0f);
    return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | SIGN);
}

// Larger for better scores, then for lower indices.
DEVICE uint64_t rank_of(float score, int index) { return static_cast<uint64_t>(order_of(score)) << 32 | ~static_cast<uint32_t>(index); }

// The least score of such a rank. Not a number for a rank below those of all scores.
DEVICE float least_score(uint64_t rank) {
    constexpr uint32_t SIGN = 0x80000000u;
    const uint32_t order = static_cast<uint32_t>(rank >> 32);
    return bits_float(order & SIGN ? order ^ SIGN : ~order);
}

DEVICE int index_of(uint64_t rank) { return static_cast<int>(~static_cast<uint32_t>(rank)); }

// Bytes of shared memory for `queues` queues of `capacity` entries.
DEVICE uint32_t queue_bytes(int queues, int capacity) {
    static_assert(sizeof(uint64_t) == SALA_QUEUE_ENTRY, "an entry is a rank");
    return static_cast<uint32_t>(queues * capacity) * SALA_QUEUE_ENTRY;
}

// One list. All members are the same in every lane.
struct TopK {
    uint32_t queue;  // shared address of `capacity` entries
    int capacity;    // a multiple of SALA_QUEUE_BATCH, at least `wanted` + SALA_QUEUE_BATCH
    int wanted;      // at least 1
    int count;       // entries in the queue
    uint64_t floor;  // ranks below it are not among the best `wanted`

    DEVICE uint32_t address(int i) const { return queue + static_cast<uint32_t>(i) * sizeof(uint64_t); }
};

// The list that fills queue `index` of those from the shared address `queues` on.
DEVICE TopK start_top_k(uint32_t queues, int index, int capacity, int wanted) {
    static_assert(SALA_QUEUE_BATCH == WARP_SIZE, "each lane offers at most one entry at a time");
    return {queues + queue_bytes(index, capacity), capacity, wanted, 0, 0};
}

DEVICE int count_from(const TopK& list, uint64_t floor) {
    int reached = 0;
    for (int i = lane_index(); i < list.count; i += WARP_SIZE) reached += load_shared<uint64_t>(list.address(i)) >= floor;
    return reduce_add<WARP_SIZE>(reached);
}

// The number of leading bits that all ranks in the queue share.
DEVICE int count_common_bits(const TopK& list) {
    const uint64_t first = load_shared<uint64_t>(list.address(0));
    uint32_t high = 0, low = 0;
    for (int i = lane_index(); i < list.count; i += WARP_SIZE) {
        const uint64_t difference = load_shared<uint64_t>(list.address(i)) ^ first;
        high |= static_cast<uint32_t>(difference >> 32);
        low |= static_cast<uint32_t>(difference);
    }
    high = reduce_max<WARP_SIZE>(high);  // the largest has the highest bit
    low = reduce_max<WARP_SIZE>(low);
    return high != 0 ? count_leading_zeros(high) : 32 + count_leading_zeros(low);
}

// The largest floor of the form prefix·2^n that at least `wanted` ranks reach, refined until exactly `wanted`
// do.
DEVICE uint64_t find_floor(const TopK& list) {
    const int common = count_common_bits(list);
    uint64_t floor = 0;
    if (common > 0) floor = load_shared<uint64_t>(list.address(0)) >> (64 - common) << (64 - common);
    for (int bit = 63 - common; bit >= 0; --bit) {
        const uint64_t raised = floor | uint64_t{1} << bit;
        const int reached = count_from(list, raised);
        if (reached >= list.wanted) floor = raised;
        if (reached == list.wanted) break;
    }
    return floor;
}

// Cuts the queue back to its best `wanted` entries, if it has more. Called by whole warps.
DEVICE void keep_best(TopK& list) {
    sync_warp();  // the ranks of all lanes are in the queue
    if (list.count <= list.wanted) return;
    list.floor = find_floor(list);
    int kept = 0;
    for (int first = 0; first < list.count; first += WARP_SIZE) {
        const int i = first + lane_index();
        const uint64_t rank = i < list.count ? load_shared<uint64_t>(list.address(i)) : 0;
        const bool keep = i < list.count && rank >= list.floor;
        const uint32_t keeping = ballot(keep);
        sync_warp();  // every lane has read its entry, also where another is written now
        if (keep) store_shared(list.address(kept + count_bits(keeping & ((1u << lane_index()) - 1))), rank);
        kept += count_bits(keeping);
    }
    list.count = kept;
}

// Offers the ranks of those lanes that have a candidate. Called by whole warps.
DEVICE void offer(TopK& list, bool candidate, uint64_t rank) {
    uint32_t entering = ballot(candidate && rank >= list.floor);
    if (entering == 0) return;
    if (list.count + count_bits(entering) > list.capacity) {
        keep_best(list);
        entering = ballot(candidate && rank >= list.floor);
    }
    if (entering >> lane_index() & 1) store_shared(list.address(list.count + count_bits(entering & ((1u << lane_index()) - 1))), rank);
    list.count += count_bits(entering);
}

// Ends the stream and calls visit(position, index) for each of the best, `position` being the number of best
// with a lower index. Each lane visits its share.
template <class Visit>
DEVICE void visit_best(TopK& list, const Visit& visit) {
    keep_best(list);
    sync_warp();  // the cut is complete
    for (int i = lane_index(); i < list.count; i += WARP_SIZE) {
        const int index = index_of(load_shared<uint64_t>(list.address(i)));
        int position = 0;
        for (int other = 0; other < list.count; ++other) position += index_of(load_shared<uint64_t>(list.address(other))) < index;
        visit(position, index);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
