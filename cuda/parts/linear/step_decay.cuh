// The decay factors of one step of the linear scan, G being the running sum of the log decay g.
//
// All of them are exponentials of differences that are at most zero, so nothing overflows and what underflows
// is zero.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/linear/log_decay.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int STEP = SALA_LINEAR_STEP;

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

DEVICE ExactSum multiply_exactly(float a, float b) {
    const float high = a * b;
    return {high, fma(a, b, -high)};
}

DEVICE float exp_of_difference(ExactSum a, ExactSum b) { return exp2(((a.high - b.high) + (a.low - b.low)) * LOG2_E); }

// G is kept as an unevaluated sum: after a few resets it is large, and the differences that matter are small.
struct DecayTable {
    ExactSum sum[STEP];      // G_i
    float from_state[STEP];  // scale · e^G_i
    float to_state[STEP];    // e^(G_last − G_j)
    StateDecay step;         // e^G_last

    // Of the lane's rows of O, and of its four keys of a fragment of Vᵀ, in halves of 16.
    DEVICE float row_factor(int half, int side) const { return from_state[half * 16 + accumulator_row(2 * side)]; }
    DEVICE float key_factor(int half, int i) const { return to_state[half * 16 + i / 2 * 8 + lane_index() % 4 * 2 + i % 2]; }
};

// Fills the table of a step of `length` tokens, and gives its G_last. Called by one warp, each lane with the log decay
// of its token. Tokens past the end count as undecayed.
DEVICE ExactSum build_decay_table(DecayTable& table, int decay, float g, int length, float scale) {
    static_assert(STEP == WARP_SIZE, "a lane has one token");
    const int lane = lane_index();
    ExactSum sum;
    if (decay == SALA_DECAY_PER_TOKEN) {
        sum = {lane < length ? g : 0.0f, 0.0f};
        for (int distance = 1; distance < WARP_SIZE; distance *= 2) {
            const ExactSum before{shuffle_up(sum.high, distance), shuffle_up(sum.low, distance)};
            if (lane >= distance) sum = add_exactly(before, sum);
        }
    } else {
        sum = multiply_exactly(static_cast<float>(minimum(lane + 1, length)), g);
    }
    const ExactSum last{shuffle(sum.high, WARP_SIZE - 1), shuffle(sum.low, WARP_SIZE - 1)};
    table.sum[lane] = sum;
    table.from_state[lane] = scale * exp_of_difference(sum, {0.0f, 0.0f});
    table.to_state[lane] = exp_of_difference(last, sum);
    if (lane == 0) table.step = state_decay(last.high + last.low);
    return last;
}

// One of the three pieces of 16 x 16 of P that lie on or below the diagonal.
struct ScorePiece {
    int index, row_half, key_half;
    bool is_made;  // the warp makes it
};

// The pieces that a warp makes: every WARPS-th.
template <int WARPS>
DEVICE ScorePiece score_piece(int index) {
    const int piece = warp_index() + index * WARPS;
    return {piece, piece == 0 ? 0 : 1, piece == 2 ? 1 : 0, piece < 3};
}

// scale · e^(G_i − G_j) of a lane's elements of a piece of P, 0 above the diagonal. They are made when G changes, which a
// constant decay does once, and lie in shared memory: each lane reads what it has written itself.
struct ScoreFactors {
    Float4 part[3][2][WARP_SIZE];  // pieces, their columns in halves

    DEVICE void make(const DecayTable& table, ScorePiece piece, float scale) {
        UNROLL
        for (int n = 0; n < 2; ++n) {
            Float4 factors;
            UNROLL
            for (int e = 0; e < 4; ++e) {
                const int i = piece.row_half * 16 + accumulator_row(e);
                const int j = piece.key_half * 16 + accumulator_col(n, e);
                const float factor = scale * exp_of_difference(table.sum[i], table.sum[j]);
                factors[e] = i >= j ? factor : 0.0f;
            }
            part[piece.index][n][lane_index()] = factors;
        }
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
