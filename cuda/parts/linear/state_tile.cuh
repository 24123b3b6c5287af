// The part of a state that a block of decode, verify and commit has: all key channels and CHANNELS value channels,
// in registers, dealt to the threads as the layout in memory wants it.
//
//     KV   eight threads cover the 32 value channels of a key channel, and the block 16 key channels per pass
//     VK   dim_k / 4 lanes cover the key channels of a value channel, and the block 4 or 8 value channels per pass
//
// Either way a thread has 16 bytes per pass, DIM_K / 4 numbers in all, and loads them before it needs the first.
#pragma once

#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "params/linear_attention.h"
#include "parts/linear/state_slots.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct StateTile {
    static constexpr int THREADS = SALA_LINEAR_DECODE_THREADS;
    static constexpr int WARPS = THREADS / WARP_SIZE;
    static constexpr int CHANNELS = SALA_LINEAR_DECODE_CHANNELS;
};

// Which numbers a thread has: row(pass) and the four columns from `column` on, where rows are key channels (KV) or
// value channels (VK) of the block.
template <int DIM_K, bool VK>
struct StateShare {
    static constexpr int COLUMNS = VK ? DIM_K : StateTile::CHANNELS;
    static constexpr int ROWS = VK ? StateTile::CHANNELS : DIM_K;
    static constexpr int ROW_THREADS = COLUMNS / 4;
    static constexpr int PASS_ROWS = StateTile::THREADS / ROW_THREADS;
    static constexpr int PASSES = ROWS / PASS_ROWS;

    Float4 values[PASSES];

    static DEVICE int row(int pass) { return thread_index() / ROW_THREADS + pass * PASS_ROWS; }
    static DEVICE int column() { return thread_index() % ROW_THREADS * 4; }

    // Where the thread's numbers of a pass lie in a slot; `channel0` is the block's first value channel.
    static DEVICE float* address(const sala_states& states, int slot, int head, int channel0, int pass) {
        const int64_t first_row = VK ? channel0 : 0;
        const int64_t first_column = VK ? 0 : channel0;
        return state_of(states, slot, head) + (first_row + row(pass)) * states.row_stride + first_column + column();
    }

    // Zeros without a slot.
    DEVICE void load(const sala_states& states, int slot, int head, int channel0) {
        UNROLL
        for (int pass = 0; pass < PASSES; ++pass) {
            values[pass] = Float4{};
            if (slot != NO_SLOT) values[pass] = load_global(reinterpret_cast<const Float4*>(address(states, slot, head, channel0, pass)));
        }
    }

    DEVICE void store(const sala_states& states, int slot, int head, int channel0) const {
        if (slot == NO_SLOT) return;
        UNROLL
        for (int pass = 0; pass < PASSES; ++pass) {
            store_global(reinterpret_cast<Float4*>(address(states, slot, head, channel0, pass)), values[pass]);
        }
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
