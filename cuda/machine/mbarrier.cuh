// Barriers in shared memory (mbarrier), of 8 bytes each, whose phases threads complete and wait for apart from one another.
//
// A phase is complete when as many arrivals have come as the barrier was begun with; the next phase begins at once. A wait
// names a phase by its parity: the first phase has 0, the next 1, and so on in turn. It tells two neighbouring phases
// apart and no more, so a thread that waits must wait for every phase, or know by other means that the phase before the
// one that it waits for is complete.
//
// What a thread wrote or read before it arrived happened before what those do who waited for that phase. An arrival with
// copies says nothing of the thread's own accesses: it orders the copies alone.
#pragma once
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Begins a barrier, once, by one thread; others may use it after a barrier of the block. `barrier` is its shared
// address, a multiple of 8.
DEVICE void init_mbarrier(uint32_t barrier, int arrivals SITE);

// Arrives. Returns how many arrivals the phase lacked, this one included: with 1 it is complete.
DEVICE int arrive_mbarrier(uint32_t barrier SITE);

// Arrives in the place of others. The phase must lack more arrivals than that.
DEVICE void arrive_mbarrier_for(uint32_t barrier, int arrivals SITE);

// Arrives as soon as all asynchronous copies that the thread has started are there; does not wait for them.
DEVICE void arrive_mbarrier_with_copies(uint32_t barrier SITE);

// Waits until the phase of that parity is complete.
DEVICE void wait_mbarrier(uint32_t barrier, uint32_t parity SITE);

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/mbarrier.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

DEVICE void init_mbarrier(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

DEVICE int arrive_mbarrier(uint32_t barrier) {
    int lacked;
    asm volatile(
        "{\n\t.reg .b64 state;\n\t"
        "mbarrier.arrive.shared.b64 state, [%1];\n\t"
        "mbarrier.pending_count.b64 %0, state;\n\t}"
        : "=r"(lacked)
        : "r"(barrier)
        : "memory");
    return lacked;
}

DEVICE void arrive_mbarrier_for(uint32_t barrier, int arrivals) {
    asm volatile(
        "{\n\t.reg .b64 state;\n\t"
        "mbarrier.arrive.noComplete.shared.b64 state, [%0], %1;\n\t}" ::"r"(barrier),
        "r"(arrivals)
        : "memory");
}

DEVICE void arrive_mbarrier_with_copies(uint32_t barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

DEVICE bool is_complete(uint32_t barrier, uint32_t parity) {
    uint32_t complete;
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n\t.reg .pred complete;\n\t"
        "mbarrier.try_wait.parity.shared.b64 complete, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, complete;\n\t}"
        : "=r"(complete)
        : "r"(barrier), "r"(parity)
        : "memory");
#else
    asm volatile(
        "{\n\t.reg .pred complete;\n\t"
        "mbarrier.test_wait.parity.shared.b64 complete, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, complete;\n\t}"
        : "=r"(complete)
        : "r"(barrier), "r"(parity)
        : "memory");
#endif
    return complete != 0;
}

DEVICE void wait_mbarrier(uint32_t barrier, uint32_t parity) {
    while (!is_complete(barrier, parity)) {
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
