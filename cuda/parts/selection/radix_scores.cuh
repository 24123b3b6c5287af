// The scores that radix_choice.cuh chooses among, batch by batch: a score as a 32-bit number, the best the lowest, and the walk
// over scores in memory.
//
//     batch    | warp 0 | … | warp 7 | warp 0 | … | warp 7 | …
//              | 32 scores each      | 32 scores each      |
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/selection/top_k.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int RADIX_WARPS = SALA_SELECT_LIST_WARPS;
constexpr int RADIX_THREADS = RADIX_WARPS * WARP_SIZE;
constexpr int RADIX_BATCH = SALA_SELECT_BATCH;                // scores of a batch
constexpr int RADIX_OWN = RADIX_BATCH / RADIX_THREADS;        // of a thread in a batch, RADIX_THREADS apart
constexpr int RADIX_BINS = SALA_SELECT_BINS / RADIX_THREADS;  // bins of a thread
constexpr int RADIX_SEGMENTS = RADIX_BATCH / WARP_SIZE;
constexpr int RADIX_TURN = SALA_SELECT_MASKS * WARP_SIZE;  // scores that candidates are looked for in at a time

// A bin, how many scores are in better bins, and how many are in those and this one.
using RadixBin = Vector<int, 4>;
enum { RADIX_BIN, RADIX_ABOVE, RADIX_UP_TO };

struct RadixPlan {
    uint32_t bins[SALA_SELECT_BINS];    // the best scores first
    uint32_t waste[WARP_SIZE];          // bins of what does not count, so that no branch is needed
    int candidates[RADIX_BATCH];        // their indices
    uint32_t masks[SALA_SELECT_MASKS];  // of each 32 scores of a turn: which are candidates
    int sums[RADIX_WARPS];
    Words2 segments[2][RADIX_SEGMENTS];  // of each 32 scores of a batch: which are above the cut, and which equal it
    RadixBin found;
    alignas(8) uint32_t seen[2];  // last bits that are set, and that are not, in a number of the cut's bits
    int turn_end;                 // candidates of the turns so far
};

// The last score that is taken: its number, and how many of those equal to it are. On the way there the number's first bits.
struct RadixCut {
    uint32_t number;
    int equals;
};

constexpr uint32_t RADIX_NONE = 0xffffffffu;  // which no score has

// A thread's numbers in a batch; RADIX_NONE past the end.
struct RadixOwn {
    uint32_t number[RADIX_OWN];
};

DEVICE uint32_t radix_number(float score) { return ~order_of(score); }

// The score of a number that is not NaN's.
DEVICE float radix_score(uint32_t number) {
    constexpr uint32_t SIGN = 0x80000000u;
    return bits_float(number & SIGN ? number : ~number ^ SIGN);
}

// Scores among which some are still to be chosen, in the order of their indices.
struct RadixScores {
    const float* scores;
    int count;
    bool are_candidates;  // of the plan, all that is left of more scores; a batch at most
    RadixOwn own;         // of a batch at most

    DEVICE bool are_many() const { return count > RADIX_BATCH; }
    DEVICE int index(const RadixPlan& plan, int place) const {
        return are_candidates ? load_shared<int>(shared_address(plan.candidates + place)) : place;
    }
};

// A thread's scores in a batch, on their way. FULL: the batch is full.
template <bool FULL>
struct RadixValues {
    float value[RADIX_OWN];
    int missing;  // of the batch; 0 of a full one

    DEVICE bool exists(int i) const { return FULL || i * RADIX_THREADS + thread_index() < RADIX_BATCH - missing; }
    DEVICE RadixOwn numbers() const {
        RadixOwn own;
        UNROLL
        for (int i = 0; i < RADIX_OWN; ++i) {
            // Kept: compilers would wait for each score where it is known to exist.
            const uint32_t number = FULL ? radix_number(value[i]) : kept(radix_number(value[i]));
            own.number[i] = exists(i) ? number : RADIX_NONE;
        }
        return own;
    }
};

// `place(i)` says where the thread's score i is. All loads are under way at once: none may depend on whether its score exists.
template <bool FULL, class Place>
DEVICE RadixValues<FULL> load_values(const float* scores, int missing, const Place& place) {
    RadixValues<FULL> own;
    own.missing = missing;
    UNROLL
    for (int i = 0; i < RADIX_OWN; ++i) own.value[i] = load_global(scores + place(i));
    if (!FULL) sync_warp();  // else a compiler moves each load down to where its value is used, and waits there
    return own;
}

DEVICE RadixValues<true> load_full(const float* scores, int batch) {
    return load_values<true>(scores + batch + thread_index(), 0, [](int i) { return i * RADIX_THREADS; });
}

// The same of a batch that may end early; past the end the last score once more.
DEVICE RadixValues<false> load_last(const float* scores, int batch, int count) {
    const int missing = maximum(batch + RADIX_BATCH - count, 0);
    return load_values<false>(scores, missing, [&](int i) { return minimum(batch + i * RADIX_THREADS + thread_index(), count - 1); });
}

// All of `count` scores, at least one.
DEVICE RadixScores all_scores(const float* scores, int count) {
    RadixScores from{scores, count, false, {}};
    if (!from.are_many()) from.own = load_last(scores, 0, count).numbers();
    return from;
}

// Calls take(batch, values) for the batches from `begin` on, two at a time, while the next two are on their way.
template <class Take>
DEVICE void walk_batches(const float* scores, int begin, int count, const Take& take) {
    constexpr int STEP = 2 * RADIX_BATCH;
    if (begin >= count) return;
    const int tail = begin + (count - 1 - begin) / STEP * STEP;  // the last two, which may end early
    const RadixValues<false> last[2] = {load_last(scores, tail, count), load_last(scores, tail + RADIX_BATCH, count)};
    RadixValues<true> first{}, second{};
    if (begin < tail) {
        first = load_full(scores, begin);
        second = load_full(scores, begin + RADIX_BATCH);
    }
    NO_UNROLL
    for (int batch = begin; batch < tail; batch += STEP) {
        const bool goes_on = batch + STEP < tail;
        take(batch, first);
        if (goes_on) first = load_full(scores, batch + STEP);
        take(batch + RADIX_BATCH, second);
        if (goes_on) second = load_full(scores, batch + STEP + RADIX_BATCH);
    }
    take(tail, last[0]);
    take(tail + RADIX_BATCH, last[1]);
}

}  // namespace SALA_VARIANT
}  // namespace sala
