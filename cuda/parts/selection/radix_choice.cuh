// The `wanted` best of scores in memory, for one list that a block fills.
//
// Equal scores are taken from the lowest index on. Three histograms, of 11, 11 and 10 bits of the scores' numbers
// (radix_scores.cuh), find the number of the last score that is taken, and how many of its equals are; the last one is needed
// where the cut's bits are still those of several numbers. The block then writes the scores that are taken in order, 32 of each batch at a time:
//
//     taken before a score = those above the cut + min(equal ones, as many as are taken)
//
// Up to 2048 scores stay in registers from the first histogram on. Of more, what could still be taken after a histogram is put
// together as soon as it fits a batch, and is all that is left then: most long lists read their scores twice.
//
// No bound on `wanted`, and the work does not depend on the scores, but for atomics on one bin, where equal scores serialise, and
// for long lists of scores that are nearly equal, which are read up to four times.
#pragma once

#include "machine/atomic.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/selection/radix_scores.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The sum over the lanes up to the own one.
DEVICE uint32_t add_up(uint32_t value) {
    UNROLL
    for (int step = 1; step < WARP_SIZE; step *= 2) {
        const uint32_t other = shuffle_up(value, step);
        if (lane_index() >= step) value += other;
    }
    return value;
}

// The sum over the block's threads before the own one. The block meets once, and has to again before the next sum.
DEVICE int add_up_before(RadixPlan& plan, int value) {
    const int up_to = static_cast<int>(add_up(static_cast<uint32_t>(value)));
    if (lane_index() == WARP_SIZE - 1) store_shared(shared_address(plan.sums + warp_index()), up_to);
    sync_block();  // the warps' sums are there
    int before = up_to - value;
    UNROLL
    for (int first = 0; first < RADIX_WARPS; first += 4) {
        const auto sums = load_shared<Vector<int, 4>>(shared_address(plan.sums + first));
        UNROLL
        for (int i = 0; i < 4; ++i) before += first + i < warp_index() ? sums[i] : 0;
    }
    return before;
}

// The bin of the `wanted`-th best; clears the bins. Called by whole blocks.
DEVICE RadixBin find_bin(RadixPlan& plan, int wanted) {
    int own[RADIX_BINS];
    int mine = 0;
    UNROLL
    for (int first = 0; first < RADIX_BINS; first += 4) {
        const uint32_t address = shared_address(plan.bins + RADIX_BINS * thread_index() + first);
        const auto four = load_shared<Vector<int, 4>>(address);
        store_shared(address, Vector<int, 4>{{0, 0, 0, 0}});
        UNROLL
        for (int i = 0; i < 4; ++i) {
            own[first + i] = four[i];
            mine += four[i];
        }
    }
    const int before = add_up_before(plan, mine);
    RadixBin found{{RADIX_BINS * thread_index(), before, before + mine, 0}};
    int up_to = before;
    UNROLL
    for (int i = 0; i < RADIX_BINS; ++i) {
        up_to += own[i];
        const bool passed = up_to < wanted;
        found[RADIX_BIN] += passed ? 1 : 0;
        found[RADIX_ABOVE] = passed ? up_to : found[RADIX_ABOVE];
        found[RADIX_UP_TO] = passed ? found[RADIX_UP_TO] : minimum(found[RADIX_UP_TO], up_to);
    }
    if (before < wanted && wanted <= before + mine) store_shared(shared_address(&plan.found), found);
    sync_block();  // the bin is there, and all bins are clear
    return load_shared<RadixBin>(shared_address(&plan.found));
}

// Counts a number, if it agrees with the cut above BITS bits from SHIFT on, by those.
template <int SHIFT, int BITS, bool EXISTS>
DEVICE void count_number(RadixPlan& plan, uint32_t number, RadixCut cut) {
    constexpr bool IS_FIRST = SHIFT + BITS == 32;
    const bool counts = IS_FIRST ? EXISTS || number != RADIX_NONE : number >> (SHIFT + BITS) % 32 == cut.number;
    const uint32_t bin = number >> SHIFT & ((1u << BITS) - 1);
    const uint32_t waste = SALA_SELECT_BINS + static_cast<uint32_t>(lane_index());
    atomic_add_shared(shared_address(plan.bins) + (counts ? bin : waste) * static_cast<uint32_t>(sizeof(uint32_t)), 1);
}

// Those of a thread from number FIRST on.
template <int SHIFT, int BITS, int FIRST, bool EXIST = false>
DEVICE void count_numbers(RadixPlan& plan, const RadixOwn& own, RadixCut cut) {
    UNROLL
    for (int i = FIRST; i < RADIX_OWN; ++i) count_number<SHIFT, BITS, EXIST>(plan, own.number[i], cut);
}

// Those of a batch at most, where most threads may have one number.
template <int SHIFT, int BITS>
DEVICE void count_few(RadixPlan& plan, const RadixScores& from, RadixCut cut) {
    count_number<SHIFT, BITS, false>(plan, from.own.number[0], cut);
    if (from.count > RADIX_THREADS) count_numbers<SHIFT, BITS, 1>(plan, from.own, cut);
}

template <int SHIFT, int BITS, bool FULL>
DEVICE void count_values(RadixPlan& plan, const RadixValues<FULL>& values, RadixCut cut) {
    count_numbers<SHIFT, BITS, 0, FULL>(plan, values.numbers(), cut);
}

// Those of more than a batch.
template <int SHIFT, int BITS>
DEVICE void count_many(RadixPlan& plan, const RadixScores& from, RadixCut cut) {
    walk_batches(from.scores, 0, from.count, [&](int, const auto& values) { count_values<SHIFT, BITS>(plan, values, cut); });
}

// Adds the BITS bits that were counted to the cut's number. Says how many scores of the cut's bits there are.
template <int BITS>
DEVICE int take_bits(RadixCut& cut, RadixPlan& plan) {
    sync_block();  // the histogram is complete
    const RadixBin found = find_bin(plan, cut.equals);
    cut.number = cut.number << BITS | static_cast<uint32_t>(found[RADIX_BIN]);
    cut.equals -= found[RADIX_ABOVE];
    return found[RADIX_UP_TO] - found[RADIX_ABOVE];
}

// The number's first bits, and then BITS more from SHIFT on.
DEVICE int start_cut(RadixCut& cut, RadixPlan& plan, const RadixScores& from) {
    if (from.are_many()) {
        count_many<21, 11>(plan, from, cut);
    } else {
        count_few<21, 11>(plan, from, cut);
    }
    return take_bits<11>(cut, plan);
}

template <int SHIFT, int BITS>
DEVICE int narrow_cut(RadixCut& cut, RadixPlan& plan, const RadixScores& from) {
    if (from.are_many()) {
        count_many<SHIFT, BITS>(plan, from, cut);
    } else {
        count_few<SHIFT, BITS>(plan, from, cut);
    }
    return take_bits<BITS>(cut, plan);
}

// Whether all numbers of the cut's bits are one number, whose last BITS bits it gives: the cut's own, or that of neighbouring blocks,
// which share a row of K1 and so, often, their score. Called once, by whole blocks.
template <int BITS>
DEVICE bool share_bits(uint32_t& bits, RadixPlan& plan, const RadixScores& from, RadixCut cut) {
    constexpr uint32_t MASK = (1u << BITS) - 1;
    UNROLL
    for (int i = 0; i < RADIX_OWN; ++i) {
        const uint32_t number = from.own.number[i];
        if (number >> BITS != cut.number) continue;
        atomic_or_shared(shared_address(plan.seen), number & MASK);
        atomic_or_shared(shared_address(plan.seen + 1), ~number & MASK);
    }
    sync_block();  // the bits are there
    const auto seen = load_shared<Words2>(shared_address(plan.seen));
    bits = seen[0];
    return (seen[0] & seen[1]) == 0;
}

// Names the scores of a word of a mask, the first of which has index `first`, from place `place` on.
DEVICE void store_candidates(RadixPlan& plan, uint32_t mask, int first, int place) {
    NO_UNROLL
    for (; mask != 0; mask &= mask - 1, ++place) {
        store_shared(shared_address(plan.candidates + place), first + find_first_set(mask) - 1);
    }
}

// More candidates than threads are rare.
template <class Number>
DEVICE void load_rest(RadixOwn& own, const Number& number_of) {
    UNROLL
    for (int i = 1; i < RADIX_OWN; ++i) own.number[i] = number_of(i);
}

// Puts together the scores from `least` on, which are `left`, at most a batch. Called by whole blocks.
DEVICE RadixScores keep_candidates(RadixPlan& plan, const float* scores, int count, float least, int left) {
    static_assert(SALA_SELECT_MASKS == 2 * RADIX_THREADS, "a thread has two masks");
    int place = 0;
    NO_UNROLL
    for (int turn = 0; turn < count; turn += RADIX_TURN) {
        const int end = minimum(turn + RADIX_TURN, count);
        walk_batches(scores, turn, end, [&](int batch, const auto& values) {
            UNROLL
            for (int i = 0; i < RADIX_OWN; ++i) {
                const uint32_t mask = ballot(values.exists(i) && values.value[i] >= least);
                const int segment = (batch - turn) / WARP_SIZE + i * RADIX_WARPS + warp_index();
                if (lane_index() == 0) store_shared(shared_address(plan.masks + segment), mask);
            }
        });
        sync_block();  // the masks are there
        const int first = turn + 2 * WARP_SIZE * thread_index();
        Words2 masks{{0, 0}};
        if (first < end) masks = load_shared<Words2>(shared_address(plan.masks + 2 * thread_index()));
        const int mine = count_bits(masks[0]) + count_bits(masks[1]);
        const int before = place + add_up_before(plan, mine);
        store_candidates(plan, masks[0], first, before);
        store_candidates(plan, masks[1], first + WARP_SIZE, before + count_bits(masks[0]));
        if (end < count) {
            if (thread_index() == RADIX_THREADS - 1) store_shared(shared_address(&plan.turn_end), before + mine);
            sync_block();  // where the next turn begins is there, and the masks are read
            place = load_shared<int>(shared_address(&plan.turn_end));
        }
    }
    sync_block();  // the candidates are there
    RadixScores few{scores, left, true, {}};
    const auto number_of = [&](int i) {
        const int own = i * RADIX_THREADS + thread_index();
        const uint32_t number = kept(radix_number(load_global(scores + few.index(plan, minimum(own, left - 1)))));
        return own < left ? number : RADIX_NONE;
    };
    UNROLL
    for (int i = 0; i < RADIX_OWN; ++i) few.own.number[i] = RADIX_NONE;
    few.own.number[0] = number_of(0);
    if (left > RADIX_THREADS) load_rest(few.own, number_of);
    return few;
}

// Finds the cut of scores, of which `wanted` are taken, at least 1 and at most all. Where few scores of many are left to decide on,
// `from` becomes those. Called by whole blocks.
DEVICE RadixCut find_cut(RadixPlan& plan, RadixScores& from, int wanted) {
    UNROLL
    for (int first = 0; first < RADIX_BINS; first += 4) {
        store_shared(shared_address(plan.bins + RADIX_BINS * thread_index() + first), Vector<int, 4>{{0, 0, 0, 0}});
    }
    if (warp_index() == 0) store_shared(shared_address(plan.waste + lane_index()), 0);
    if (thread_index() < 2) store_shared(shared_address(plan.seen + thread_index()), 0);
    sync_block();  // the bins are clear
    RadixCut cut{0, wanted};
    const auto keep_few = [&](int inside, int shift) {
        const int left = wanted - cut.equals + inside;
        if (!from.are_many() || left > RADIX_BATCH) return;
        // Scores are left out, so that the number is that of one which is no NaN.
        const float least = radix_score(((cut.number + 1) << shift) - 1);
        from = keep_candidates(plan, from.scores, from.count, least, left);
    };
    const int inside_first = start_cut(cut, plan, from);
    keep_few(inside_first, 21);
    const int inside_second = narrow_cut<10, 11>(cut, plan, from);
    keep_few(inside_second, 10);
    uint32_t last_bits = 0;
    const bool is_one_number = !from.are_many() && share_bits<10>(last_bits, plan, from, cut);
    if (kept(static_cast<uint32_t>(is_one_number)) != 0) return {cut.number << 10 | last_bits, cut.equals};  // one branch for both
    narrow_cut<0, 10>(cut, plan, from);
    return cut;
}

// Calls visit(place, index) for each score that is taken, in the order of indices. Called by whole blocks.
template <class Visit>
DEVICE void visit_taken(RadixPlan& plan, const RadixScores& from, RadixCut cut, const Visit& visit) {
    static_assert(RADIX_SEGMENTS == 2 * WARP_SIZE, "a lane counts two segments");
    static_assert(RADIX_SEGMENTS * 4 == RADIX_THREADS, "a lane visits a quarter of a segment");
    constexpr uint32_t ONE_EQUAL = 1u << 16;
    int above = 0, equal = 0;  // in the batches before
    RadixOwn own = from.own;
    NO_UNROLL
    for (int batch = 0; batch < from.count; batch += RADIX_BATCH) {
        if (from.are_many()) own = load_last(from.scores, batch, from.count).numbers();
        Words2(&segments)[RADIX_SEGMENTS] = plan.segments[batch / RADIX_BATCH % 2];
        UNROLL
        for (int i = 0; i < RADIX_OWN; ++i) {
            const Words2 words{{ballot(own.number[i] < cut.number), ballot(own.number[i] == cut.number)}};
            if (lane_index() == 0) store_shared(shared_address(segments + i * RADIX_WARPS + warp_index()), words);
        }
        sync_block();  // all segments are there; the other ones are free
        const auto two = load_shared<Words4>(shared_address(segments + 2 * lane_index()));
        const auto count = [](uint32_t better, uint32_t equals) {
            return static_cast<uint32_t>(count_bits(better)) + ONE_EQUAL * static_cast<uint32_t>(count_bits(equals));
        };
        const uint32_t in_first = count(two[0], two[1]);
        const uint32_t in_two = in_first + count(two[2], two[3]);
        const uint32_t up_to = add_up(in_two);
        const int segment = thread_index() / 4;
        const uint32_t before_two = shuffle(up_to - in_two, segment / 2);
        const uint32_t first_of_two = shuffle(in_first, segment / 2);
        const auto words = load_shared<Words2>(shared_address(segments + segment));
        const int quarter = lane_index() % 4 * 8;
        const uint32_t earlier = (1u << quarter) - 1;
        const uint32_t before = before_two + (segment % 2 == 0 ? 0 : first_of_two) + count(words[0] & earlier, words[1] & earlier);
        int above_before = above + static_cast<int>(before % ONE_EQUAL);
        int equal_before = equal + static_cast<int>(before / ONE_EQUAL);
        NO_UNROLL
        for (uint32_t left = (words[0] | words[1]) >> quarter & 0xff; left != 0; left &= left - 1) {
            const int bit = quarter + find_first_set(left) - 1;
            const bool is_equal = (words[1] >> bit & 1) != 0;
            if (!is_equal || equal_before < cut.equals) {
                visit(above_before + minimum(equal_before, cut.equals), from.index(plan, batch + segment * WARP_SIZE + bit));
            }
            above_before += is_equal ? 0 : 1;
            equal_before += is_equal ? 1 : 0;
        }
        const uint32_t all = shuffle(up_to, WARP_SIZE - 1);
        above += static_cast<int>(all % ONE_EQUAL);
        equal += static_cast<int>(all / ONE_EQUAL);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
