// The `wanted` best of scores in memory, for one list that a block fills.
//
// The order of scores is that of 32-bit numbers (order_of), and equal scores are taken from the lowest index on. Three
// histograms, of 11, 11 and 10 bits, find the number of the last score that is taken, and how many of its equals are; the
// block then writes, in order, what each batch of the scores has. The first batch stays in registers from the first
// histogram on: a list of up to 2048 scores reads them once.
//
//     batch    | warp 0 | … | warp 15 | warp 0 | … | warp 15 | …      taken before a score = those above + min(equal ones, as many as are taken)
//              | 32 scores each       | 32 scores each       |
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

constexpr int RADIX_THREADS = SALA_SELECT_LIST_WARPS * WARP_SIZE;
constexpr int RADIX_OWN = 4;                                  // scores of a thread in a batch, RADIX_THREADS apart
constexpr int RADIX_BATCH = RADIX_OWN * RADIX_THREADS;        // scores of a batch
constexpr int RADIX_BINS = SALA_SELECT_BINS / RADIX_THREADS;  // bins of a thread
constexpr int RADIX_SEGMENTS = RADIX_BATCH / WARP_SIZE;

struct RadixPlan {
    uint32_t bins[SALA_SELECT_BINS];  // the best scores first
    int sums[SALA_SELECT_LIST_WARPS];
    uint32_t taken_of[2][RADIX_SEGMENTS];  // of each 32 scores of a batch: how many are above the cut, and 2^16 for each equal one
    int bin, taken;
};

// The last score that is taken: its order, and how many of those equal to it are.
struct RadixCut {
    uint32_t order;
    int equals;
};

// The thread's orders in a batch; 0, which no score has, past the end.
struct RadixOrders {
    uint32_t order[RADIX_OWN];
};

DEVICE RadixOrders load_orders(const float* scores, int batch, int count) {
    float values[RADIX_OWN];
    UNROLL
    for (int i = 0; i < RADIX_OWN; ++i) {
        const int index = batch + i * RADIX_THREADS + thread_index();
        values[i] = index < count ? load_global_constant(scores + index) : 0.0f;
    }
    RadixOrders own;
    UNROLL
    for (int i = 0; i < RADIX_OWN; ++i) own.order[i] = batch + i * RADIX_THREADS + thread_index() < count ? order_of(values[i]) : 0;
    return own;
}

// The sum over the lanes up to the own one.
DEVICE uint32_t add_up(uint32_t value) {
    UNROLL
    for (int step = 1; step < WARP_SIZE; step *= 2) {
        const uint32_t other = shuffle_up(value, step);
        if (lane_index() >= step) value += other;
    }
    return value;
}

// The bin of the `wanted`-th best, and how many are in better bins; clears the bins. Called by whole blocks.
DEVICE void find_bin(RadixPlan& plan, int wanted) {
    const uint32_t address = shared_address(plan.bins + RADIX_BINS * thread_index());
    const Vector<int, RADIX_BINS> own = load_shared<Vector<int, RADIX_BINS>>(address);
    store_shared(address, Vector<int, RADIX_BINS>{{0, 0, 0, 0}});
    const int mine = own[0] + own[1] + own[2] + own[3];
    const int up_to = static_cast<int>(add_up(static_cast<uint32_t>(mine)));
    if (lane_index() == WARP_SIZE - 1) store_shared(shared_address(plan.sums + warp_index()), up_to);
    sync_block();  // the warps' sums are there
    const int before =
        lane_index() < warp_index() ? load_shared<int>(shared_address(plan.sums + lane_index() % SALA_SELECT_LIST_WARPS)) : 0;
    int above = up_to - mine + reduce_add<WARP_SIZE>(before);
    UNROLL
    for (int i = 0; i < RADIX_BINS; ++i) {
        if (above < wanted && wanted <= above + own[i]) {
            store_shared(shared_address(&plan.bin), RADIX_BINS * thread_index() + i);
            store_shared(shared_address(&plan.taken), above);
        }
        above += own[i];
    }
    sync_block();  // the bin is there, and all bins are clear
}

// Counts the orders of a batch that agree with the cut above BITS bits from SHIFT on, by those.
template <int SHIFT, int BITS>
DEVICE void count_orders(RadixPlan& plan, const RadixOrders& own, RadixCut cut) {
    constexpr bool IS_FIRST = SHIFT + BITS == 32;
    constexpr uint32_t LAST = (1u << BITS) - 1;
    UNROLL
    for (int i = 0; i < RADIX_OWN; ++i) {
        const uint32_t order = own.order[i];
        const bool counts = IS_FIRST ? order != 0 : order >> (SHIFT + BITS) % 32 == cut.order;
        // What does not count adds 0 to a bin that no other lane of the warp has, which is cheaper than a branch.
        const uint32_t bin = counts ? LAST - (order >> SHIFT & LAST) : static_cast<uint32_t>(lane_index());
        atomic_add_shared(shared_address(plan.bins + bin), counts ? 1u : 0u);
    }
}

// Adds BITS bits to the cut's order.
template <int SHIFT, int BITS>
DEVICE void narrow_cut(RadixCut& cut, RadixPlan& plan, const RadixOrders& kept, const float* scores, int count) {
    count_orders<SHIFT, BITS>(plan, kept, cut);
    NO_UNROLL
    for (int batch = RADIX_BATCH; batch < count; batch += RADIX_BATCH) {
        count_orders<SHIFT, BITS>(plan, load_orders(scores, batch, count), cut);
    }
    sync_block();  // the histogram is complete
    find_bin(plan, cut.equals);
    const uint32_t last = (1u << BITS) - 1;
    cut.order = cut.order << BITS | (last - static_cast<uint32_t>(load_shared<int>(shared_address(&plan.bin))));
    cut.equals -= load_shared<int>(shared_address(&plan.taken));
}

// Finds the cut of `count` scores, of which `wanted` are taken, at least 1 and at most all. `kept` is the first batch. Called by
// whole blocks.
DEVICE RadixCut find_cut(RadixPlan& plan, const RadixOrders& kept, const float* scores, int count, int wanted) {
    store_shared(shared_address(plan.bins + RADIX_BINS * thread_index()), Vector<int, RADIX_BINS>{{0, 0, 0, 0}});
    sync_block();  // the bins are clear
    RadixCut cut{0, wanted};
    narrow_cut<21, 11>(cut, plan, kept, scores, count);
    narrow_cut<10, 11>(cut, plan, kept, scores, count);
    narrow_cut<0, 10>(cut, plan, kept, scores, count);
    return cut;
}

// Calls visit(place, i) for each score i that is taken, places being in the order of i. Called by whole blocks.
template <class Visit>
DEVICE void visit_taken(RadixPlan& plan, const RadixOrders& kept, const float* scores, int count, RadixCut cut, const Visit& visit) {
    static_assert(RADIX_SEGMENTS == 2 * WARP_SIZE, "a lane adds up two segments");
    constexpr uint32_t ONE_EQUAL = 1u << 16;
    const uint32_t earlier = (1u << lane_index()) - 1;
    int above = 0, equal = 0;  // in the batches before
    RadixOrders own = kept;
    NO_UNROLL
    for (int batch = 0; batch < count; batch += RADIX_BATCH) {
        if (batch > 0) own = load_orders(scores, batch, count);
        uint32_t better[RADIX_OWN], equals[RADIX_OWN];
        uint32_t(&taken_of)[RADIX_SEGMENTS] = plan.taken_of[batch / RADIX_BATCH % 2];
        UNROLL
        for (int i = 0; i < RADIX_OWN; ++i) {
            better[i] = ballot(own.order[i] > cut.order);
            equals[i] = ballot(own.order[i] == cut.order);
            const uint32_t both = static_cast<uint32_t>(count_bits(better[i])) + ONE_EQUAL * static_cast<uint32_t>(count_bits(equals[i]));
            if (lane_index() == i) store_shared(shared_address(taken_of + i * SALA_SELECT_LIST_WARPS + warp_index()), both);
        }
        sync_block();  // the counts of all segments are there; the other ones are free
        uint32_t before[2], sums[2];
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const uint32_t taken = load_shared<uint32_t>(shared_address(taken_of + half * WARP_SIZE + lane_index()));
            sums[half] = add_up(taken);
            before[half] = sums[half] - taken;
        }
        const uint32_t first_half = shuffle(sums[0], WARP_SIZE - 1);
        before[1] += first_half;
        UNROLL
        for (int i = 0; i < RADIX_OWN; ++i) {
            const int segment = i * SALA_SELECT_LIST_WARPS + warp_index();
            const uint32_t both = shuffle(before[i * SALA_SELECT_LIST_WARPS / WARP_SIZE], segment % WARP_SIZE);
            const int equal_before = equal + static_cast<int>(both / ONE_EQUAL) + count_bits(equals[i] & earlier);
            const int above_before = above + static_cast<int>(both % ONE_EQUAL) + count_bits(better[i] & earlier);
            const bool is_taken = own.order[i] > cut.order || (own.order[i] == cut.order && equal_before < cut.equals);
            if (is_taken) visit(above_before + minimum(equal_before, cut.equals), batch + i * RADIX_THREADS + thread_index());
        }
        const uint32_t all = first_half + shuffle(sums[1], WARP_SIZE - 1);
        above += static_cast<int>(all % ONE_EQUAL);
        equal += static_cast<int>(all / ONE_EQUAL);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
