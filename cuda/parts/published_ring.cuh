// A ring of stages in shared memory that FILLERS warps fill by asynchronous copies, each a share of its own, and that products of warpgroups read.
//
//     filling warps  | copy n + 1 | wait for the copies of n, publish them, arrive filled n | wait free n − 1 | copy n + 2 | …
//     other warps    | wait filled n | start products of n | wait for them | release n | …
//
// It is the thread that copied which has to publish, after its wait: copies that arrive by themselves would be there, and products
// still not see them.
#pragma once

#include "machine/async_copy.cuh"
#include "machine/machine.cuh"
#include "machine/mbarrier.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "parts/stage_ring.cuh"

namespace sala {
inline namespace SALA_VARIANT {

template <int STAGES, int FILLERS>
struct PublishedRing {
    using Cursor = StageCursor<STAGES>;

    uint32_t barriers;  // shared address of StageBarriers

    // Called by one thread, once, before a barrier of the block. `readers`: warps that read.
    DEVICE void begin(int readers) const {
        UNROLL
        for (int stage = 0; stage < STAGES; ++stage) {
            init_mbarrier(filled(stage), FILLERS);
            init_mbarrier(free(stage), readers);
        }
    }

    // Fills the stages in turn, `count` times, with what the warp copies by start_copies(step, stage). Called by the filling warps.
    template <class StartCopies>
    DEVICE void fill(int count, const StartCopies& start_copies) const {
        Cursor at, freed, copied;
        NO_UNROLL
        for (int step = 0; step < count; ++step) {
            if (step >= STAGES) {
                wait_mbarrier(free(freed.stage), freed.parity);
                freed.advance();
            }
            start_copies(step, at.stage);
            async_copy_commit();
            at.advance();
            if (step > 0) {
                async_copy_wait<1>();
                publish(copied.stage);
                copied.advance();
            }
        }
        async_copy_wait<0>();
        if (count > 0) publish(copied.stage);
    }

    DEVICE void wait_filled(const Cursor& at) const { wait_mbarrier(filled(at.stage), at.parity); }

    // The warp has waited for the products that read the stage.
    DEVICE void release(int stage) const {
        if (lane_index() == 0) arrive_mbarrier(free(stage));
    }

  private:
    DEVICE uint32_t filled(int stage) const { return barriers + static_cast<uint32_t>(stage * sizeof(uint64_t)); }
    DEVICE uint32_t free(int stage) const { return filled(STAGES + stage); }

    DEVICE void publish(int stage) const {
        publish_shared_writes();
        sync_warp();  // all lanes have published
        if (lane_index() == 0) arrive_mbarrier(filled(stage));
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
