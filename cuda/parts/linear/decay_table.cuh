// The decay factors of one chunk of linear attention, G being the running sum of the log decay g.
//
// All of them are exponentials of differences that are at most zero, so nothing overflows and what underflows
// is zero.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/linear/log_decay.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// a + b exactly, as a rounded sum and its error.
struct ExactSum {
    float high, low;
};

DEVICE ExactSum add_exactly(ExactSum a, ExactSum b) {
    const float high = a.high + b.high;
    const float part = high - a.high;
    const float error = (a.high - (high - part)) + (b.high - part);
    return {high, error + (a.low + b.low)};
}

// Decay factors of one chunk. G is kept as an unevaluated sum: after a few resets it is large, and the
// differences that matter are small.
struct DecayTable {
    static constexpr int CHUNK = SALA_LINEAR_CHUNK;

    float high[CHUNK], low[CHUNK];  // G_i
    float from_state[CHUNK];        // scale · e^G_i
    float to_state[CHUNK];          // e^(G_last − G_j)
    StateDecay chunk;               // e^G_last
};

DEVICE float exp_of_difference(ExactSum a, ExactSum b) { return exp2(((a.high - b.high) + (a.low - b.low)) * LOG2_E); }

// e^(G_i − G_j), for i ≥ j.
DEVICE float decay_between(const DecayTable& table, int i, int j) {
    return exp_of_difference({table.high[i], table.low[i]}, {table.high[j], table.low[j]});
}

// Running sums of g over the `length` tokens of a chunk, two neighbouring tokens per lane. Tokens past the
// end count as undecayed.
DEVICE void running_sums(ExactSum (&sum)[2], const sala_linear_attention_params& p, int64_t first_token, int length, int head) {
    static_assert(DecayTable::CHUNK == 2 * WARP_SIZE, "a lane takes two tokens");
    const int row = 2 * lane_index();
    if (p.decay != SALA_DECAY_PER_TOKEN) {
        const float g = log_decay_at(p, 0, head);
        for (int i = 0; i < 2; ++i) {
            const float count = static_cast<float>(minimum(row + i + 1, length));
            sum[i].high = count * g;
            sum[i].low = fma(count, g, -sum[i].high);
        }
        return;
    }
    const int64_t token = first_token + row;
    for (int i = 0; i < 2; ++i) sum[i] = {row + i < length ? log_decay_at(p, token + i, head) : 0.0f, 0.0f};
    sum[1] = add_exactly(sum[0], sum[1]);
    ExactSum before = sum[1];  // becomes the sum over this lane and all lanes before it
    for (int distance = 1; distance < 32; distance *= 2) {
        const ExactSum other{shuffle_up(before.high, distance), shuffle_up(before.low, distance)};
        if (lane_index() >= distance) before = add_exactly(other, before);
    }
    before = {shuffle_up(before.high, 1), shuffle_up(before.low, 1)};
    if (lane_index() == 0) before = {0.0f, 0.0f};
    for (int i = 0; i < 2; ++i) sum[i] = add_exactly(before, sum[i]);
}

// Fills the table of one chunk. Called by one warp.
DEVICE void build_decay_table(DecayTable& table, const sala_linear_attention_params& p, int64_t first_token, int length, int head) {
    ExactSum sum[2];
    running_sums(sum, p, first_token, length, head);
    const ExactSum last{shuffle(sum[1].high, 31), shuffle(sum[1].low, 31)};
    for (int i = 0; i < 2; ++i) {
        const int row = 2 * lane_index() + i;
        table.high[row] = sum[i].high;
        table.low[row] = sum[i].low;
        table.from_state[row] = p.scale * exp_of_difference(sum[i], {0.0f, 0.0f});
        table.to_state[row] = exp_of_difference(last, sum[i]);
    }
    if (lane_index() == 0) table.chunk = state_decay(last.high + last.low);
}

}  // namespace SALA_VARIANT
}  // namespace sala
