// The order of the last score that a list takes, found digit by digit where pieces of a row are taken by blocks of their own.
//
// A launch counts the scores of each piece by one digit, and stores the bins of each piece apart: no block waits for another, and none
// adds to what another has written. The next launch adds up the bins of all pieces, each block for itself:
//
//     bins of piece 0   |▁▂▇▃▁|
//     bins of piece 1   |▂▁▅▄▂|          sum ▶ the bin that the last score taken is in, and how many are in better ones
//     …
#pragma once

#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/choose_tokens.h"
#include "params/select_blocks.h"
#include "parts/keys/rows.cuh"
#include "parts/selection/radix_choice.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int TOKEN_BINS = SALA_TOKENS_BINS;
constexpr int TOKEN_DIGIT = 32 / SALA_TOKENS_DIGITS;  // bits

struct DigitPlan {
    uint32_t up_to[SALA_SELECT_LIST_WARPS];
    uint32_t better[SALA_SELECT_LIST_WARPS], equal[SALA_SELECT_LIST_WARPS];
    int bin;
    uint32_t above;
};

// What launches leave for each other of one row.
struct RowDigits {
    uint32_t* bins;    // [2, pieces, bins], the best first
    uint32_t* better;  // [pieces]
    uint32_t* cuts;    // [digits, 2]
    int pieces;

    // The bins that round `round` counts.
    DEVICE uint32_t* bins_of(int round, int piece) const { return bins + static_cast<int64_t>(round % 2 * pieces + piece) * TOKEN_BINS; }
};

DEVICE RowDigits find_row_digits(const sala_choose_tokens_params& p, int sequence, int head) {
    const int64_t row = static_cast<int64_t>(sequence) * grid_size_y() + head;
    return {entry_of<uint32_t>(p.bins, row * 2 * p.pieces * TOKEN_BINS), entry_of<uint32_t>(p.better, row * p.pieces),
            entry_of<uint32_t>(p.cuts, row * 2 * SALA_TOKENS_DIGITS), p.pieces};
}

// The digits of the last score taken that `round` rounds have counted, and how many of the scores that have them are taken; the bin of
// the last one too.
struct KnownDigits {
    uint32_t order;
    int equals;
    int bin;
};

// Adds the digit that the round before has counted, of a row of which `wanted` scores are taken. Called by whole blocks.
DEVICE KnownDigits find_digits(DigitPlan& plan, const RowDigits& row, int round, int wanted) {
    if (round == 0) return {0, wanted, 0};
    KnownDigits known{0, wanted, 0};
    if (round > 1) {
        const uint32_t* cut = row.cuts + 2 * (round - 1);
        known.order = load_global_constant(cut);
        known.equals = static_cast<int>(load_global_constant(cut + 1));
    }
    static_assert(RADIX_THREADS == TOKEN_BINS, "a thread adds up a bin");
    uint32_t mine = 0;
    for (int piece = 0; piece < row.pieces; ++piece) mine += load_global_constant(row.bins_of(round - 1, piece) + thread_index());
    const uint32_t up_to = add_up(mine);
    if (lane_index() == WARP_SIZE - 1) store_shared(shared_address(plan.up_to + warp_index()), up_to);
    sync_block();  // the sums of 32 bins each are there
    uint32_t above = up_to - mine;
    for (int warp = 0; warp < warp_index(); ++warp) above += load_shared<uint32_t>(shared_address(plan.up_to + warp));
    const uint32_t left = static_cast<uint32_t>(known.equals);
    if (above < left && left <= above + mine) {
        store_shared(shared_address(&plan.bin), thread_index());
        store_shared(shared_address(&plan.above), above);
    }
    sync_block();  // the digit is there
    known.bin = load_shared<int>(shared_address(&plan.bin));
    known.order = known.order << TOKEN_DIGIT | static_cast<uint32_t>(TOKEN_BINS - 1 - known.bin);
    known.equals -= static_cast<int>(load_shared<uint32_t>(shared_address(&plan.above)));
    return known;
}

// How many scores of a piece the round before has found above the cut. Called by whole warps.
DEVICE uint32_t count_better(const RowDigits& row, int round, int piece, int bin) {
    uint32_t count = 0;
    for (int i = lane_index(); i < bin; i += WARP_SIZE) count += load_global_constant(row.bins_of(round - 1, piece) + i);
    return reduce_add<WARP_SIZE>(count);
}

}  // namespace SALA_VARIANT
}  // namespace sala
