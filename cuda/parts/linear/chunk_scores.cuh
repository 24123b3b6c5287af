// P = scale · Q Kᵀ ⊙ D of one chunk of linear attention: which parts of it are made, and D.
//
// P is made in strips of 16 × 32; the two that lie wholly above the diagonal are left out.
#pragma once

#include "machine/machine.cuh"
#include "machine/tile.cuh"
#include "params/linear_attention.h"
#include "parts/linear/decay_table.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct ScoreStrip {
    static constexpr int ROWS = 16;
    static constexpr int COLUMNS = SALA_LINEAR_CHUNK / 2;  // half of the chunk's keys
    static constexpr int COUNT = 6;
    static_assert(SALA_LINEAR_CHUNK == 4 * ROWS, "score_strip counts the strips of a 64 × 64 triangle");

    int row0, half;
};

DEVICE ScoreStrip score_strip(int index) { return index < 2 ? ScoreStrip{index * 16, 0} : ScoreStrip{(index / 2 + 1) * 16, index % 2}; }

// Scales a strip of P by its decay and clears what lies above the diagonal.
DEVICE void apply_decay(Accumulator<ScoreStrip::COLUMNS>& scores, const DecayTable& table, ScoreStrip strip, float scale) {
    UNROLL
    for (int n = 0; n < ScoreStrip::COLUMNS / 8; ++n) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int i = strip.row0 + accumulator_row(e);
            const int j = strip.half * ScoreStrip::COLUMNS + accumulator_col(n, e);
            scores.values[n][e] = i >= j ? scores.values[n][e] * (scale * decay_between(table, i, j)) : 0.0f;
        }
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
