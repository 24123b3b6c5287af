// Keys of a step that a row does not see: after its token, in cells that the token has not listed, in bad pages.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/step_list.cuh"
#include "parts/keys/key_rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Hides the keys of entry `at` of a list that the warp's rows do not see, those of row group warp_index().
template <int BYTES>
DEVICE void hide_keys(Accumulator<AttentionTile::STEP>& scores, StepList<BYTES>& list, int at, const sala_sparse_attention_params& p) {
    constexpr int STEP = AttentionTile::STEP;
    const KeyStep step = StepEntry{list.entries()[at]}.keys();
    const ListShape& shape = list.shape;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const int token = find_token(p, shape.tokens, warp_index(), side);
        const uint32_t cells = listed_cells(list, at, token);
        const int last = shape.first_position + token - step.index * STEP;
        UNROLL
        for (int j = 0; j < STEP / 8; ++j) {
            UNROLL
            for (int e = 2 * side; e < 2 * side + 2; ++e) {
                const bool listed = cells >> (8 * j / AttentionTile::CELL_KEYS) & 1;
                if (!listed || accumulator_col(j, e) > last) scores.values[j][e] = -INFINITE;
            }
        }
    }
    const KeyRows& keys = shape.rows[0];
    if (keys.paged()) hide_bad_pages(scores, keys, look_up_step(keys, step, shape.last_position));
}

}  // namespace SALA_VARIANT
}  // namespace sala
