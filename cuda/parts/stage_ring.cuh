// Rings of stages in shared memory.
//
// StageRing: all warps of a block fill it, each a share of its own, and all read. No warp waits for the slowest at every step: one
// may be a step ahead of another.
//
//     warp 0   | wait filled n | read n | release n | wait free n − 1 | fill n + STAGES − 1 | …
//     warp 1        | wait filled n | read n | release n | …
//
// Who fills stage n + 1 between the wait for stage n and its reading needs none of `free` where there are three: all have filled
// stage n, and were done with stage n − 2 before.
#pragma once

#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/mbarrier.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

template <int STAGES>
struct StageBarriers {
    uint64_t filled[STAGES], free[STAGES];
};

// A step's stage, and the parity of the phases in which that is filled and read. Steps follow each other from 0 on.
template <int STAGES>
struct StageCursor {
    int stage = 0;
    uint32_t parity = 0;

    DEVICE void advance() {
        stage += 1;
        if (stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

template <int STAGES, int WARPS>
struct StageRing {
    using Cursor = StageCursor<STAGES>;

    uint32_t barriers;  // shared address of StageBarriers

    // Called by the whole block, once.
    DEVICE void begin() const {
        if (thread_index() < STAGES) {
            init_mbarrier(filled(thread_index()), WARPS * WARP_SIZE + WARPS);
            init_mbarrier(free(thread_index()), WARPS);
        }
        sync_block();  // the barriers have begun
    }

    // The warp has started the copies of its share, and has written what it does not copy.
    DEVICE void fill(int stage) const {
        arrive_mbarrier_with_copies(filled(stage));
        sync_warp();  // what lanes wrote comes before the arrival of their warp
        if (lane_index() == 0) arrive_mbarrier(filled(stage));
    }

    DEVICE void wait_filled(const Cursor& at) const { wait_mbarrier(filled(at.stage), at.parity); }

    // The warp reads the stage no more.
    DEVICE void release(int stage) const {
        sync_warp();  // what lanes read comes before the arrival of their warp
        if (lane_index() == 0) arrive_mbarrier(free(stage));
    }

    DEVICE void wait_free(const Cursor& at) const { wait_mbarrier(free(at.stage), at.parity); }

  private:
    DEVICE uint32_t filled(int stage) const { return barriers + static_cast<uint32_t>(stage * sizeof(uint64_t)); }
    DEVICE uint32_t free(int stage) const { return filled(STAGES + stage); }
};

}  // namespace SALA_VARIANT
}  // namespace sala
