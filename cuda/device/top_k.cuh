// The `wanted` best of a stream of scores, for one list that a warp fills.
//
// A score and its index make one 64-bit key: the score's bits, mapped so that unsigned order is the order of numbers, above the inverted
// index. Larger keys are better, no two are equal, and of equal scores the lower index wins; so the result does not depend on the order of
// arrival. Keys at or above a floor enter a queue in shared memory. When a batch would not fit, the queue is cut back to its best `wanted` keys
// and the floor rises to a value that just those reach. Nothing is ever dropped but what is beaten by `wanted` others:
//
//     queue    |■■■■■■■ wanted ■■■■■■■|□□□□ newer □□□□|······|      full:   floor ↑,  |■■■■■■■ wanted ■■■■■■■|················|
//
// The floor is found bit by bit from the highest bit in which keys differ, and the search ends as soon as a prefix splits the queue at
// `wanted`: about ten steps for scores without ties, and never more than 64. With N scores in random order a queue of capacity c is cut about
// wanted / (c − wanted) · ln(N / wanted) times, so that a long sequence costs little more than a short one. Dropped: sorted lists with bitonic
// merges (310 instructions for 32 keys, at every batch that holds a single candidate).
#pragma once

#include "element.cuh"
#include "machine.cuh"
#include "math.cuh"
#include "memory.cuh"
#include "warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Larger for better scores, then for lower indices. −0 equals 0, and NaN counts as −∞.
DEVICE uint64_t rank_key(float score, int index) {
    constexpr uint32_t NEGATIVE_INFINITY = 0xff800000u;
    constexpr uint32_t SIGN = 0x80000000u;
    const uint32_t bits = score == score ? float_bits(score + 0.0f) : NEGATIVE_INFINITY;
    const uint32_t ordered = bits & SIGN ? ~bits : bits | SIGN;
    return static_cast<uint64_t>(ordered) << 32 | ~static_cast<uint32_t>(index);
}

DEVICE int index_of_key(uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); }

// One list. All members are the same in every lane.
struct TopK {
    uint32_t keys;   // shared address of `capacity` keys
    int capacity;    // a multiple of 32, at least `wanted` + 32
    int wanted;      // at least 1
    int count;       // keys in the queue
    uint64_t floor;  // keys below it are not among the best `wanted`

    DEVICE uint32_t address(int i) const { return keys + static_cast<uint32_t>(i) * sizeof(uint64_t); }
};

DEVICE TopK start_top_k(uint32_t keys, int capacity, int wanted) { return {keys, capacity, wanted, 0, 0}; }

DEVICE int count_from(const TopK& list, uint64_t floor) {
    int reached = 0;
    for (int i = lane_index(); i < list.count; i += WARP_SIZE) reached += load_shared<uint64_t>(list.address(i)) >= floor;
    return reduce_add<WARP_SIZE>(reached);
}

// The number of leading bits that all keys share.
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

// The largest floor of the form prefix·2^n that at least `wanted` keys reach, refined until exactly `wanted` do.
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

// Cuts the queue back to its best `wanted` keys, if it has more. Called by whole warps.
DEVICE void keep_best(TopK& list) {
    sync_warp();  // the keys of all lanes are in the queue
    if (list.count <= list.wanted) return;
    list.floor = find_floor(list);
    int kept = 0;
    for (int first = 0; first < list.count; first += WARP_SIZE) {
        const int i = first + lane_index();
        const uint64_t key = i < list.count ? load_shared<uint64_t>(list.address(i)) : 0;
        const bool keep = i < list.count && key >= list.floor;
        const uint32_t keeping = ballot(keep);
        sync_warp();  // every lane has read its key, also those whose place is taken now
        if (keep) store_shared(list.address(kept + count_bits(keeping & ((1u << lane_index()) - 1))), key);
        kept += count_bits(keeping);
    }
    list.count = kept;
}

// Offers the keys of those lanes that have a candidate. Called by whole warps.
DEVICE void offer(TopK& list, bool candidate, uint64_t key) {
    uint32_t entering = ballot(candidate && key >= list.floor);
    if (entering == 0) return;
    if (list.count + count_bits(entering) > list.capacity) {
        keep_best(list);
        entering = ballot(candidate && key >= list.floor);
    }
    if (entering >> lane_index() & 1) store_shared(list.address(list.count + count_bits(entering & ((1u << lane_index()) - 1))), key);
    list.count += count_bits(entering);
}

// Ends the stream and calls visit(place, index) for each of the best, `place` being the number of best with a lower index. Each lane visits
// its share.
template <class Visit>
DEVICE void visit_best(TopK& list, const Visit& visit) {
    keep_best(list);
    sync_warp();  // the cut is complete
    for (int i = lane_index(); i < list.count; i += WARP_SIZE) {
        const int index = index_of_key(load_shared<uint64_t>(list.address(i)));
        int place = 0;
        for (int other = 0; other < list.count; ++other) place += index_of_key(load_shared<uint64_t>(list.address(other))) < index;
        visit(place, index);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
