// O of one step of the linear scan, for the value channels of one warp: what the state gives, and what P gives.
#pragma once

#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/linear/fit.cuh"
#include "parts/linear/scan_state.cuh"
#include "parts/linear/step_decay.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// 32 tokens (rows, in halves of 16), M times 16 value channels.
template <int M>
struct StepOutput {
    Accumulator<16> part[2][M];

    // Multiplies each row by factor(half, side): the lane has rows `side` 0 and 1 of each half.
    template <class Factor>
    DEVICE void scale_tokens(const Factor& factor) {
        UNROLL
        for (int half = 0; half < 2; ++half) {
            UNROLL
            for (int m = 0; m < M; ++m) part[half][m].scale_rows(factor(half, 0), factor(half, 1));
        }
    }
};

// The pieces of P that the warp makes.
template <int PIECES>
struct StepScores {
    Accumulator<16> piece[PIECES];
};

// O = Q S and P = Q Kᵀ, without decay, from the same fragments of Q. The keys of a piece lie `to_keys` bytes behind. In f16, rows of Sᵀ are scaled to fit the operand and
// their products scaled back.
template <class T, int WARPS, int DIM_K, int M, int PIECES>
DEVICE void read_state_and_score(StepOutput<M>& out, StepScores<PIECES>& scores, const ScanState<DIM_K, M>& state,
                                 const FragmentPlace<DIM_K>& queries, const uint32_t (&to_keys)[PIECES]) {
    RowFits<M> fits;
    if constexpr (needs_scaling<T>) fits = fit_state(state);
    UNROLL
    for (int half = 0; half < 2; ++half) {
        UNROLL
        for (int m = 0; m < M; ++m) out.part[half][m].fill(0.0f);
    }
    UNROLL
    for (int index = 0; index < PIECES; ++index) scores.piece[index].fill(0.0f);

    UNROLL
    for (int n = 0; n < DIM_K / 16; ++n) {
        FragmentB<16, 16> operand[M];
        UNROLL
        for (int m = 0; m < M; ++m) {
            Accumulator<16> part = state.part[m][n];
            if constexpr (needs_scaling<T>) part.scale_rows(fits.scale[m][0], fits.scale[m][1]);
            operand[m] = to_fragment_b_trans<T>(part, 0);
        }
        FragmentB<16, 16> key[PIECES];
        UNROLL
        for (int index = 0; index < PIECES; ++index) key[index] = load_fragment_nk(queries.moved(to_keys[index]), 0, n * 16);
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const FragmentA<16> query = load_fragment_a(queries, half * 16, n * 16);
            UNROLL
            for (int m = 0; m < M; ++m) multiply<T>(out.part[half][m], query, operand[m]);
            UNROLL
            for (int index = 0; index < PIECES; ++index) {
                const ScorePiece piece = score_piece<WARPS>(index);
                multiply_if<T>(piece.is_made && piece.row_half == half, scores.piece[index], query, key[index]);
            }
        }
    }
    if constexpr (needs_scaling<T>) {
        UNROLL
        for (int m = 0; m < M; ++m) {
            UNROLL
            for (int n = 0; n < 2; ++n) {
                // Of the channels that are the lane's columns of O; their factors are with the lanes that have them as rows of Sᵀ.
                const float factor[2] = {shuffle(fits.inverse[m][n], lane_index() % 4 * 8),
                                         shuffle(fits.inverse[m][n], lane_index() % 4 * 8 + 4)};
                UNROLL
                for (int half = 0; half < 2; ++half) {
                    UNROLL
                    for (int e = 0; e < 4; ++e) out.part[half][m].values[n][e] *= factor[e % 2];
                }
            }
        }
    }
}

// Multiplies the warp's pieces of P by their decay, and leaves them in shared memory, rounded: lane's row by row at `targets`.
// In f16 each piece's rows are scaled to fit, and `fits` says by how much, by half of the keys and row.
template <class T, int WARPS, int PIECES>
DEVICE void store_scores(StepScores<PIECES>& scores, const ScoreFactors& factors, const uint32_t (&targets)[PIECES], uint32_t stage,
                         PowerOfTwo (&fits)[2][STEP]) {
    UNROLL
    for (int index = 0; index < PIECES; ++index) {
        const ScorePiece piece = score_piece<WARPS>(index);
        Accumulator<16>& p = scores.piece[index];
        if (!piece.is_made) break;
        UNROLL
        for (int n = 0; n < 2; ++n) {
            const Float4 factor = factors.part[piece.index][n][lane_index()];
            UNROLL
            for (int e = 0; e < 4; ++e) p.values[n][e] *= factor[e];
        }
        if constexpr (needs_scaling<T>) {
            UNROLL
            for (int side = 0; side < 2; ++side) {
                const PowerOfTwo fit = scale_rows_to_fit(p, side);
                if (lane_index() % 4 == 0) fits[piece.key_half][piece.row_half * 16 + accumulator_row(2 * side)] = fit;
            }
        }
        store_matrix_x4(targets[index] + stage, to_fragment_a<T>(p).registers[0]);
    }
}

// O += P V. `scores` is the place of P in shared memory.
template <class T, int M>
DEVICE void add_scores(StepOutput<M>& out, const StepValues<M>& values, const FragmentPlace<STEP>& scores,
                       const PowerOfTwo (&fits)[2][STEP]) {
    const auto add = [&](int key_half) {
        UNROLL
        for (int half = key_half; half < 2; ++half) {
            const FragmentA<16> p = load_fragment_a(scores, half * 16, key_half * 16);
            UNROLL
            for (int m = 0; m < M; ++m) multiply<T>(out.part[half][m], p, values.part[key_half][m]);
        }
    };
    if constexpr (needs_scaling<T>) {
        // The first half of the tokens has no piece of the second half of the keys.
        const auto fit = [&](int key_half, int half, int side) { return fits[key_half][half * 16 + accumulator_row(2 * side)]; };
        out.scale_tokens([&](int half, int side) { return fit(0, half, side).scale; });
        add(0);
        out.scale_tokens([&](int half, int side) {
            const float back = fit(0, half, side).inverse;
            return half == 0 ? back : back * fit(1, half, side).scale;
        });
        add(1);
        out.scale_tokens([&](int half, int side) { return half == 0 ? 1.0f : fit(1, half, side).inverse; });
    } else {
        add(0);
        add(1);
    }
}

// Where a lane writes its part of O: four neighbouring channels of rows eight apart, so that a quad fills 32 bytes of a row.
struct OutputRows {
    const sala_rows& tensor;
    uint16_t* to;

    DEVICE OutputRows(const sala_rows& out, int64_t token, int head, int channel0) : tensor(out) {
        const int lane = lane_index();
        to = row_of<uint16_t>(out, token + lane / 4, head) + channel0 + lane % 2 * 8 + lane / 2 % 2 * 4;
    }

    // Writes the next step, of which `rows` are tokens.
    template <class T, int M>
    DEVICE void store(const StepOutput<M>& out, int rows) {
        const bool is_odd = lane_index() % 2 == 1;
        UNROLL
        for (int half = 0; half < 2; ++half) {
            UNROLL
            for (int side = 0; side < 2; ++side) {
                UNROLL
                for (int m = 0; m < M; ++m) {
                    // Of two neighbouring lanes the even one has the first eight channels, the odd one the others.
                    const float(&c)[2][4] = out.part[half][m].values;
                    const uint32_t low = pack<T>(c[0][2 * side], c[0][2 * side + 1]);
                    const uint32_t high = pack<T>(c[1][2 * side], c[1][2 * side + 1]);
                    const uint32_t other = shuffle_xor(is_odd ? low : high, 1);
                    const Words2 four{{is_odd ? other : low, is_odd ? high : other}};
                    if (half * 16 + accumulator_row(2 * side) < rows) store_global(reinterpret_cast<Words2*>(to + m * 16), four);
                }
                to += tensor.token_stride * 8;
            }
        }
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
