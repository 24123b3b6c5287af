// The `wanted` best of scores in memory, for one list that a block fills.
//
// The order of scores is that of 32-bit numbers (order_of), and equal scores are taken from the lowest index on. Three
// histograms, of 11, 11 and 10 bits, find the number of the last score that is taken, and how many of its equals are; a
// warp then writes, in order, what its own range of the scores has:
//
//     scores   | warp 0's | warp 1's | …            taken before a score = those above + min(equal ones, as many as are taken)
//
// No bound on `wanted`, and the work does not depend on the scores, but for atomics on one bin: equal scores serialise.
#pragma once

#include "machine/atomic.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/selection/top_k.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int RADIX_AHEAD = 4;  // loads of a thread under way

struct RadixPlan {
    uint32_t bins[SALA_SELECT_BINS];  // the best scores first
    int sums[SALA_SELECT_LIST_WARPS];
    int above[SALA_SELECT_LIST_WARPS], equal[SALA_SELECT_LIST_WARPS];
    int bin, taken;
};

// The last score that is taken: its order, and how many of those equal to it are.
struct RadixCut {
    uint32_t order;
    int equals;
};

// The bin of the `wanted`-th best, and how many are in better bins; clears the bins. Called by whole blocks.
DEVICE void find_bin(RadixPlan& plan, int wanted) {
    constexpr int OWN = SALA_SELECT_BINS / (SALA_SELECT_LIST_WARPS * WARP_SIZE);
    static_assert(OWN == 4, "a thread takes a vector of bins");
    const uint32_t address = shared_address(plan.bins + OWN * thread_index());
    const Vector<int, OWN> own = load_shared<Vector<int, OWN>>(address);
    store_shared(address, Vector<int, OWN>{{0, 0, 0, 0}});
    const int mine = own[0] + own[1] + own[2] + own[3];
    int up_to = mine;
    UNROLL
    for (int step = 1; step < WARP_SIZE; step *= 2) {
        const int other = shuffle_up(up_to, step);
        if (lane_index() >= step) up_to += other;
    }
    if (lane_index() == WARP_SIZE - 1) store_shared(shared_address(plan.sums + warp_index()), up_to);
    sync_block();  // the warps' sums are there
    const int before =
        lane_index() < warp_index() ? load_shared<int>(shared_address(plan.sums + lane_index() % SALA_SELECT_LIST_WARPS)) : 0;
    int above = up_to - mine + reduce_add<WARP_SIZE>(before);
    UNROLL
    for (int i = 0; i < OWN; ++i) {
        if (above < wanted && wanted <= above + own[i]) {
            store_shared(shared_address(&plan.bin), OWN * thread_index() + i);
            store_shared(shared_address(&plan.taken), above);
        }
        above += own[i];
    }
    sync_block();  // the bin is there, and all bins are clear
}

// The orders of scores first, first + STEP, … below `end`; past it, less than any other has.
template <int STEP>
DEVICE void load_orders(uint32_t (&own)[RADIX_AHEAD], const float* scores, int first, int end) {
    float values[RADIX_AHEAD];
    UNROLL
    for (int i = 0; i < RADIX_AHEAD; ++i) values[i] = first + i * STEP < end ? load_global_constant(scores + first + i * STEP) : 0.0f;
    UNROLL
    for (int i = 0; i < RADIX_AHEAD; ++i) own[i] = first + i * STEP < end ? order_of(values[i]) : 0;
}

// Finds the cut of `count` scores, of which `wanted` are taken, at least 1 and at most all. Called by whole blocks.
DEVICE RadixCut find_cut(RadixPlan& plan, const float* scores, int count, int wanted) {
    constexpr int THREADS = SALA_SELECT_LIST_WARPS * WARP_SIZE;
    RadixCut cut{0, wanted};
    for (int i = thread_index(); i < SALA_SELECT_BINS; i += THREADS) store_shared(shared_address(plan.bins + i), 0u);
    sync_block();  // the bins are clear
    NO_UNROLL
    for (int shift = 21;; shift = shift == 21 ? 10 : 0) {
        const uint32_t bins = shift == 0 ? SALA_SELECT_BINS / 2 : SALA_SELECT_BINS;
        const int bits = shift == 0 ? 10 : 11;
        NO_UNROLL
        for (int first = thread_index(); first < count; first += RADIX_AHEAD * THREADS) {
            uint32_t own[RADIX_AHEAD];
            load_orders<THREADS>(own, scores, first, count);
            UNROLL
            for (int i = 0; i < RADIX_AHEAD; ++i) {
                const bool counts = first + i * THREADS < count && (shift == 21 || own[i] >> (shift + bits) == cut.order);
                // What does not count adds 0 to a bin that no other lane of the warp has, which is cheaper than a branch.
                const uint32_t bin = counts ? bins - 1 - (own[i] >> shift & (bins - 1)) : static_cast<uint32_t>(lane_index());
                atomic_add_shared(shared_address(plan.bins + bin), counts ? 1u : 0u);
            }
        }
        sync_block();  // the histogram is complete
        find_bin(plan, cut.equals);
        cut.order = cut.order << bits | (bins - 1 - static_cast<uint32_t>(load_shared<int>(shared_address(&plan.bin))));
        cut.equals -= load_shared<int>(shared_address(&plan.taken));
        if (shift == 0) return cut;
    }
}

// Calls visit(place, i) for each score i that is taken, places being in the order of i. Called by whole blocks.
template <class Visit>
DEVICE void visit_taken(RadixPlan& plan, const float* scores, int count, RadixCut cut, const Visit& visit) {
    constexpr int WARPS = SALA_SELECT_LIST_WARPS;
    const int share = ceil_div(ceil_div(count, WARPS), WARP_SIZE) * WARP_SIZE;
    const int begin = minimum(warp_index() * share, count);
    const int end = minimum(begin + share, count);
    int above = 0, equal = 0;
    NO_UNROLL
    for (int first = begin + lane_index(); first < end; first += RADIX_AHEAD * WARP_SIZE) {
        uint32_t own[RADIX_AHEAD];
        load_orders<WARP_SIZE>(own, scores, first, end);
        UNROLL
        for (int i = 0; i < RADIX_AHEAD; ++i) {
            above += own[i] > cut.order;
            equal += own[i] == cut.order;
        }
    }
    above = reduce_add<WARP_SIZE>(above);
    equal = reduce_add<WARP_SIZE>(equal);
    if (lane_index() == 0) {
        store_shared(shared_address(plan.above + warp_index()), above);
        store_shared(shared_address(plan.equal + warp_index()), equal);
    }
    sync_block();  // the warps' counts are there
    const bool before = lane_index() < warp_index();
    above = reduce_add<WARP_SIZE>(before ? load_shared<int>(shared_address(plan.above + lane_index() % WARPS)) : 0);
    equal = reduce_add<WARP_SIZE>(before ? load_shared<int>(shared_address(plan.equal + lane_index() % WARPS)) : 0);
    const uint32_t earlier = (1u << lane_index()) - 1;
    NO_UNROLL
    for (int batch = begin; batch < end; batch += RADIX_AHEAD * WARP_SIZE) {
        const int first = batch + lane_index();
        uint32_t own[RADIX_AHEAD];
        load_orders<WARP_SIZE>(own, scores, first, end);
        UNROLL
        for (int i = 0; i < RADIX_AHEAD; ++i) {
            const bool is_above = own[i] > cut.order;
            const bool is_equal = own[i] == cut.order;
            const uint32_t better = ballot(is_above);
            const uint32_t equals = ballot(is_equal);
            const int equal_before = equal + count_bits(equals & earlier);
            const int place = above + count_bits(better & earlier) + minimum(equal_before, cut.equals);
            if (is_above || (is_equal && equal_before < cut.equals)) visit(place, first + i * WARP_SIZE);
            above += count_bits(better);
            equal += count_bits(equals);
        }
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
