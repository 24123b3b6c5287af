// Oᵀ of one chunk of linear attention, for the value channels of one warp: what the state gives, and what P
// gives.
#pragma once

#include "machine/machine.cuh"
#include "machine/tile.cuh"
#include "params/linear_attention.h"
#include "parts/linear/chunk_scores.cuh"
#include "parts/linear/fit.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The warp's 16 value channels (rows) of the chunk's 64 tokens (columns), in pieces of 16 × 16.
struct ChunkOutput {
    static constexpr int PIECE = 16;
    static constexpr int PIECES = SALA_LINEAR_CHUNK / PIECE;

    Accumulator<PIECE> piece[PIECES];
};

// Multiplies each token by factor(token).
template <class Factor>
DEVICE void scale_tokens(ChunkOutput& out, const Factor& factor) {
    UNROLL
    for (int b = 0; b < ChunkOutput::PIECES; ++b) {
        UNROLL
        for (int n = 0; n < ChunkOutput::PIECE / 8; ++n) {
            UNROLL
            for (int e = 0; e < 2; ++e) {
                const float f = factor(b * ChunkOutput::PIECE + accumulator_col(n, e));
                out.piece[b].values[n][e] *= f;
                out.piece[b].values[n][e + 2] *= f;
            }
        }
    }
}

template <class T, int DIM_K>
DEVICE void multiply_state(ChunkOutput& out, const Accumulator<DIM_K>& state, SharedTile<DIM_K> query) {
    const FragmentA<DIM_K> operand = to_fragment_a<T>(state);
    UNROLL
    for (int b = 0; b < ChunkOutput::PIECES; ++b) {
        out.piece[b].fill(0.0f);
        multiply_nk<T>(out.piece[b], operand, query, b * ChunkOutput::PIECE, 0);
    }
}

// Oᵀ = Sᵀ Qᵀ, without decay. In f16, rows of Sᵀ are scaled to fit the operand and their products scaled back.
template <class T, int DIM_K>
DEVICE void read_state(ChunkOutput& out, const Accumulator<DIM_K>& state, SharedTile<DIM_K> query) {
    if constexpr (needs_scaling<T>) {
        Accumulator<DIM_K> scaled = state;
        const PowerOfTwo upper = scale_rows_to_fit(scaled, 0);
        const PowerOfTwo lower = scale_rows_to_fit(scaled, 1);
        multiply_state<T>(out, scaled, query);
        UNROLL
        for (int b = 0; b < ChunkOutput::PIECES; ++b) out.piece[b].scale_rows(upper.inverse, lower.inverse);
    } else {
        multiply_state<T>(out, state, query);
    }
}

// Oᵀ += Vᵀ Pᵀ over one half of the keys, without the pieces of P above the diagonal, which are zero or were
// never made.
template <class T>
DEVICE void add_scores(ChunkOutput& out, const FragmentA<SALA_LINEAR_CHUNK>& value, SharedTile<SALA_LINEAR_CHUNK> scores, int half) {
    constexpr int PIECE = ChunkOutput::PIECE;
    constexpr int HALF_PIECES = ScoreStrip::COLUMNS / PIECE;
    UNROLL
    for (int k = half * HALF_PIECES; k < (half + 1) * HALF_PIECES; ++k) {
        FragmentA<PIECE> keys;
        UNROLL
        for (int r = 0; r < 4; ++r) keys.registers[0][r] = value.registers[k][r];
        UNROLL
        for (int b = k; b < ChunkOutput::PIECES; ++b) multiply_nk<T>(out.piece[b], keys, scores, b * PIECE, k * PIECE);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
