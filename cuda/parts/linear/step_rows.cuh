// The rows of q, k or v that a step of the linear scan takes, on their way to shared memory.
#pragma once

#include "machine/async_copy.cuh"
#include "machine/machine.cuh"
#include "machine/tile.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// A thread's share of the copies: the same vector of every ROWS-th row. It walks down the tensor, so that a step costs
// no multiplication.
template <int COLUMNS, int THREADS>
struct StepRows {
    using Tile = SharedTile<COLUMNS>;
    static constexpr int ROWS = THREADS / Tile::VECTORS;
    static constexpr int PASSES = SALA_LINEAR_STEP / ROWS;
    static_assert(ROWS == 4 || ROWS % 8 == 0, "rows eight apart are permuted alike, and rows four apart differ in one bit");

    const sala_rows& tensor;
    const uint16_t* source;
    int row;
    uint32_t target;

    // From a token on, the COLUMNS channels of a head from `channel0` on.
    DEVICE StepRows(const sala_rows& rows, int64_t token, int head, int channel0, uint32_t to) : tensor(rows), target(to) {
        row = thread_index() / Tile::VECTORS;
        source = row_of<const uint16_t>(tensor, token + row, head) + channel0 + thread_index() % Tile::VECTORS * 8;
    }

    // Where the thread's first vector goes in a tile that begins with the first stage.
    static DEVICE uint32_t target_in(Tile first_stage) {
        return kept(first_stage.address(thread_index() / Tile::VECTORS, thread_index() % Tile::VECTORS));
    }

    // Starts the copies of the next step to a stage; rows from `rows` on become zero.
    DEVICE void load(int stage, int rows) {
        UNROLL
        for (int pass = 0; pass < PASSES; ++pass) {
            const uint32_t flip = ROWS == 4 && pass % 2 == 1 ? 64 : 0;
            const uint32_t offset = static_cast<uint32_t>(Tile::bytes(stage * SALA_LINEAR_STEP + pass * ROWS));
            async_copy<16>((target + offset) ^ flip, source, row + pass * ROWS < rows);
            source += tensor.token_stride * ROWS;
        }
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
